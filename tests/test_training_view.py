"""What is shown of a training: the view on a terminal, and the curves."""

import io
import re

import pytest
from PIL import Image
from rich.console import Console

from sgmatte.cli import training
from sgmatte.train.curves import _columns, write_curves
from sgmatte.train.loop import Table


def shown(monkeypatch, terminal):
    stream = io.StringIO()
    monkeypatch.setattr(training, "errors", Console(file=stream, force_terminal=terminal, width=100))
    with training.watched_training() as watch:
        observe = watch("GCA")
        for step in (10, 20, 30):
            observe(step, 90, {"l1": 1 / step, "seconds_per_step": 2.0})
        observe(30, 90, {"unknown_mse": 0.25})
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stream.getvalue())


def test_a_terminal_sees_progress_figures_and_curves(monkeypatch):
    text = shown(monkeypatch, True)
    for word in ("GCA", "step 30/90", "2 min left", "0.03333", "█▃▁", "unknown_mse", "0.25"):
        assert word in text


def test_elsewhere_each_row_is_a_line(monkeypatch):
    lines = shown(monkeypatch, False).splitlines()
    assert lines[0] == "training: GCA"
    assert lines[1] == "step 10/90  l1 0.1  seconds_per_step 2  3 min left"
    assert len(lines) == 5


@pytest.mark.parametrize(
    ("values", "expected"),
    [([1.0], "▁"), ([1.0, 2.0], "▁█"), ([0.0, 7.0, 3.0], "▁█▄"), ([float("nan"), 1.0, 2.0], " ▁█")],
)
def test_sparkline(values, expected):
    assert training.sparkline(values) == expected


def test_curves_leave_out_what_is_not_finite(tmp_path):
    log, validation = Table(tmp_path / "log.csv", 0), Table(tmp_path / "validation.csv", 0)
    for step in (10, 20):
        log.append(step, {"l1": 1 / step, "gan": float("nan"), "seconds_per_step": 1})
    validation.append(20, {"l1": 0.5})
    assert _columns(tmp_path / "log.csv") == {"l1": [(10, 0.1), (20, 0.05)]}
    first = write_curves(tmp_path).read_bytes()
    assert Image.open(tmp_path / "curves.png").size == (500, 300)
    assert write_curves(tmp_path).read_bytes() == first
