"""A study as pictures: the change of the error of every photo, and the photos where it changed most.

Each photo's strip is drawn when it is worked on, so that sheets can be put together without doing it again.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from torch import Tensor

from sgmatte.files import write_bytes
from sgmatte.preview import contact_sheet

if TYPE_CHECKING:
    from sgmatte.study.enhancing import Row

PANEL = 220  # pixels
SHOWN = 4  # of the best, and as many of the worst


def write_plot(folder: Path, rows: Sequence[Row]) -> Path:
    """`changes.png`: for each variant and model, how much the SAD of each photo changed, in %, as points and median."""
    from matplotlib.figure import Figure

    groups: dict[str, list[float]] = {}
    for row in rows:
        if row.sad_before:
            change = 100 * (row.sad_after / row.sad_before - 1)
            groups.setdefault(f"{row.variant}, {row.model}", []).append(change)
    figure = Figure(figsize=(8, 1 + 0.3 * len(groups)), layout="constrained")
    axis = figure.subplots()
    for number, values in enumerate(groups.values()):
        axis.plot(values, [number] * len(values), "|", color="tab:blue", alpha=0.6, markersize=8)
        axis.plot(np.median(values), number, "o", color="tab:red", markersize=4)
    axis.axvline(0, color="grey", linewidth=0.8)
    axis.set_xscale("symlog", linthresh=1)
    axis.set_yticks(range(len(groups)), list(groups))
    axis.invert_yaxis()
    axis.set_xlabel("change of SAD, % (red: median)")
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=100, metadata={"Software": None})
    path = folder / "changes.png"
    write_bytes(path, picture.getvalue())
    return path


def extremes(rows: Sequence[Row], variant: str, model: str) -> list[Row]:
    """The photos whose SAD fell most, and those whose SAD grew most, in this order; each once."""
    ranked = sorted(
        (row for row in rows if (row.variant, row.model) == (variant, model)),
        key=lambda row: row.sad_after - row.sad_before,
    )
    return ranked if len(ranked) <= 2 * SHOWN else ranked[:SHOWN] + ranked[-SHOWN:]


def strip_file(folder: Path, photo: str, variant: str, model: str) -> Path:
    return folder / "strips" / f"{photo}-{variant}-{model}.png"


def write_strip(file: Path, photo: Tensor, truth: Tensor, before: Tensor, after: Tensor) -> None:
    """A photo (1, 3, H, W) beside its alphas (1, 1, H, W): the true one, its own and that of its enhancement."""
    panels = {file.stem: photo, "truth": truth, "before": before, "after": after}
    _write_png(file, contact_sheet(list(panels.values()), list(panels), len(panels), PANEL))


def write_sheet(folder: Path, rows: Sequence[Row]) -> Path:
    """`extremes.png`: the strips of these rows, under each other. A strip that is gone is left out."""
    files = [strip_file(folder, row.photo, row.variant, row.model) for row in rows]
    strips = [np.asarray(Image.open(file)) for file in files if file.exists()]
    path = folder / "extremes.png"
    if strips:
        width = max(strip.shape[1] for strip in strips)
        padded = [np.pad(s, ((0, 0), (0, width - s.shape[1]), (0, 0)), constant_values=255) for s in strips]
        _write_png(path, np.concatenate(padded))
    return path


def _write_png(file: Path, pixels: np.ndarray) -> None:
    picture = io.BytesIO()
    Image.fromarray(pixels).save(picture, "PNG")
    write_bytes(file, picture.getvalue())
