"""The page of results: a text that people write, with tables that its studies fill in.

Where the text says `<!-- study: NAME -->`, what follows up to `<!-- end -->` is made anew from the tables of the folder
NAME in the folder that bears the page's name: results.md and results/NAME/summary.csv.
"""

from __future__ import annotations

import csv
import math
import re
from pathlib import Path

from sgmatte.errors import DataError
from sgmatte.files import write_text

BLOCK = re.compile(r"(<!-- study: ([\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)
SHOWN = ("sad", "mse", "mse_unknown")  # of the errors; summary.csv has all


def filled_page(page: Path) -> str:
    """The text of a page with the tables of its studies as they are now.

    Raises:
        DataError: the page has no place for a study, or a study's tables are missing or others.
    """
    if not page.is_file():
        raise DataError(f"{page}: no such page")
    text = page.read_text(encoding="utf-8")
    if not BLOCK.search(text):
        raise DataError(f"{page}: no place for a study; write <!-- study: NAME --> and <!-- end --> where it should be")
    return BLOCK.sub(lambda found: found[1] + _study(page.with_suffix("") / found[2], page.parent) + found[3], text)


def write_page(page: Path) -> None:
    """`filled_page`, in its place."""
    write_text(page, filled_page(page))


def _study(folder: Path, beside: Path) -> str:
    try:
        lines = [*_fidelity(_rows(folder / "fidelity.csv")), "", *_changes(_rows(folder / "summary.csv"))]
    except (KeyError, ValueError) as error:
        raise DataError(f"{folder}: not the tables of a study ({error})") from error
    picture = folder / "changes.png"
    if picture.is_file():
        lines += ["", f"![Change of SAD of each photo]({picture.relative_to(beside).as_posix()})"]
    return "\n".join(("", *lines, "", ""))


def _rows(table: Path) -> list[dict[str, str]]:
    if not table.is_file():
        raise DataError(f"{table}: no such table; `sgmatte study enhance` writes it")
    with table.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _fidelity(rows: list[dict[str, str]]) -> list[str]:
    known = any(math.isfinite(float(row.get("identity", "nan"))) for row in rows)
    titles = [
        "variant",
        "photos",
        "PSNR, lowest",
        "trimap entropy",
        "enhanced matte kept",
        *known * ["distance of faces"],
    ]
    lines = [f"| {' | '.join(titles)} |", "|" + len(titles) * "---|"]
    for row in rows:
        psnr = f"{float(row['psnr']):.1f} dB, {float(row['lowest_psnr']):.1f}"
        entropy = f"{float(row['entropy_before']):.4f} -> {float(row['entropy_after']):.4f}"
        cells = [row["variant"], row["photos"], psnr, entropy, f"{float(row['enhanced']):.0%}"]
        cells += known * [f"{float(row.get('identity', 'nan')):.3f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _changes(rows: list[dict[str, str]]) -> list[str]:
    lines = ["| variant | model | error | before | after | change | p | worse |", "|---|---|---|---|---|---|---|---|"]
    for row in rows:
        if row["error"] in SHOWN:
            values = f"{float(row['before']):.4g} | {float(row['after']):.4g} | {float(row['change']):+.1%}"
            lines.append(
                f"| {row['variant']} | {row['model']} | {row['error']} | {values} "
                f"| {float(row['p']):.2f} | {float(row['worse']):.0%} |"
            )
    return lines
