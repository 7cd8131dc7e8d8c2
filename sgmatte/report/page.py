"""The page: one HTML file that holds its own style, scripts and data, and shows pictures that lie beside it."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Callable, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any
from urllib.parse import quote

from sgmatte import __version__
from sgmatte.errors import SgmatteError
from sgmatte.files import write_text
from sgmatte.hostile import MAX_PIXELS
from sgmatte.report.places import check_report, files_folder
from sgmatte.report.previews import pictures
from sgmatte.report.records import Record

SCRIPTS = ("compare.js", "filters.js", "viewer.js", "cards.js", "page.js")
# Nothing is loaded but pictures that are files, or that the page's reader picks as a background; only the style and the
# script that were written here run, whatever a file name holds.
POLICY = (
    "default-src 'none'; img-src 'self' file: blob: data:; style-src 'sha256-{style}'; script-src 'sha256-{script}'; "
    "base-uri 'none'; form-action 'none'"
)


def write_report(
    path: Path,
    records: Sequence[Record],
    title: str = "sgmatte",
    max_pixels: int = MAX_PIXELS,
    observe: Callable[[int, int], None] = lambda done, total: None,
) -> Path:
    """Write the page of a run, and <stem>_files/ with small pictures beside it; returns the page's path.

    Pictures that are still right are kept from an earlier report.

    Raises:
        UsageError: another suffix than .html.
        SgmatteError: the page or a preview cannot be written.
    """
    check_report(path)
    folder = files_folder(path)
    entries = []
    for done, record in enumerate(records):
        observe(done, len(records))
        entries.append(_entry(record, folder, path.parent, max_pixels))
    observe(len(records), len(records))
    try:
        write_text(path, page(title, entries))
    except OSError as error:
        raise SgmatteError(f"{path}: the report cannot be written ({error.strerror})") from error
    return path


def page(title: str, entries: Sequence[dict[str, Any]]) -> str:
    """The whole page as text. `entries` are data: markup in them is shown, not obeyed."""
    style = _part("page.css")
    script = "\n".join(map(_part, SCRIPTS))
    policy = POLICY.format(style=_digest(style), script=_digest(script))
    return Template(_part("page.html")).substitute(
        policy=policy,
        version=__version__,
        title=escape(title),
        style=style,
        script=script,
        data=_json({"title": title, "photos": list(entries)}),
    )


def _entry(record: Record, folder: Path, base: Path, max_pixels: int) -> dict[str, Any]:
    """A record as the page's scripts read it."""
    made, failures = pictures(record, folder, max_pixels)
    error = record.error
    if error is not None:
        error = error.removeprefix(f"{record.photo}: ")  # the page says which photo it is
    sure, linked = record.confidence, {"photo": record.photo, **record.files}
    return {
        "name": record.photo.name,
        "place": str(record.photo),
        "error": error,
        "pixels": made["photo"].pixels if "photo" in made else None,
        "pictures": {
            kind: {"small": _url(one.small, base), "full": _url(one.full, base) if one.full else None}
            for kind, one in made.items()
        },
        "links": {kind: _url(file, base) for kind, file in linked.items() if file.is_file()},
        "shares": [sure.background, sure.unknown, sure.foreground] if sure else None,
        "entropy": sure.entropy if sure else None,
        "change": record.entropy,
        "notes": [*record.notes, *failures],
        "seconds": record.seconds,
    }


def _url(path: Path, base: Path) -> str:
    """The relative URL of a file, seen from the page; another drive has none, and gets an absolute one."""
    path = Path(os.path.abspath(path))  # symbolic links are kept: browsers shorten `..` by the names alone
    if path.drive != Path(os.path.abspath(base)).drive:
        return path.as_uri()
    return quote(os.fsencode(os.path.relpath(path, base).replace(os.sep, "/")))


def _part(name: str) -> str:
    return files("sgmatte.report").joinpath(name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    """What a content security policy knows an inline text by."""
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _json(value: Any) -> str:
    """JSON that may stand in an HTML element: no character of it can end the element or begin a comment."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
