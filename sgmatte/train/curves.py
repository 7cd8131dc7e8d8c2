"""The curves of a training as a picture: `curves.png` beside the tables that it is drawn from."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path

from sgmatte.files import write_bytes

IGNORED = {"step", "seconds_per_step"}


def write_curves(folder: Path) -> Path:
    """Draw every column of `folder`'s log.csv and validation.csv over the steps; columns of one name share a panel."""
    from matplotlib.figure import Figure  # takes a second to import; no window is opened

    panels: dict[str, dict[str, list[tuple[int, float]]]] = {}
    for table in ("log", "validation"):
        for name, points in _columns(folder / f"{table}.csv").items():
            panels.setdefault(name, {})[table] = points
    columns = min(3, max(1, len(panels)))
    rows = math.ceil(len(panels) / columns) or 1
    figure = Figure(figsize=(5 * columns, 3 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).flat
    for axis, (name, curves) in zip(axes, panels.items(), strict=False):
        for table, points in curves.items():
            axis.plot(*zip(*points, strict=True), label=table, marker="o" if table == "validation" else None, ms=3)
        values = [value for points in curves.values() for _, value in points]
        if min(values) > 0:
            axis.set_yscale("log")
        axis.set_title(name)
        axis.set_xlabel("step")
        if len(curves) > 1:
            axis.legend()
    for axis in list(axes)[len(panels) :]:
        axis.remove()
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=100, metadata={"Software": None})
    path = folder / "curves.png"
    write_bytes(path, picture.getvalue())
    return path


def _columns(table: Path) -> dict[str, list[tuple[int, float]]]:
    """(step, value) of each column, what is not finite left out."""
    if not table.exists():
        return {}
    found: dict[str, list[tuple[int, float]]] = {}
    with table.open(newline="") as file:
        for row in csv.DictReader(file):
            for name, value in row.items():
                if name not in IGNORED and math.isfinite(float(value)):
                    found.setdefault(name, []).append((int(row["step"]), float(value)))
    return found
