"""A training as it is watched: a view that changes in place on a terminal, a line per logged row elsewhere."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sgmatte.cli.messages import errors, redraws

if TYPE_CHECKING:
    from rich.console import RenderableType

Observe = Callable[[int, int, Mapping[str, float]], None]
"""Called as (step, steps, row) for each row that `train.loop.fit` writes to its tables; see there."""

BARS = "▁▂▃▄▅▆▇█"
WIDTH = 40  # rows that a curve shows, on a terminal that is wide enough
NAMES = 36  # columns beside the curves


@contextmanager
def watched_training() -> Iterator[Callable[[str], Observe]]:
    """A function that gives the observer of a training by its name."""
    if not redraws(errors):
        yield _lines
        return
    from rich.live import Live

    with Live(console=errors, refresh_per_second=2) as live:

        def view(name: str) -> Observe:
            drawn = _View(name)

            def observe(step: int, steps: int, row: Mapping[str, float]) -> None:
                drawn.take(step, steps, row)
                live.update(drawn.table())

            return observe

        yield view


def _lines(name: str) -> Observe:
    errors.print(f"training: {name}", markup=False)
    return _line


def _line(step: int, steps: int, row: Mapping[str, float]) -> None:
    seconds = row.get("seconds_per_step")
    left = f"  {(steps - step) * seconds / 60:.0f} min left" if seconds else ""
    values = "  ".join(f"{key} {value:.4g}" for key, value in row.items())
    errors.print(f"step {step}/{steps}  {values}{left}", markup=False, soft_wrap=True)


class _View:
    """Progress, and for each value its newest figure and its curve."""

    def __init__(self, name: str) -> None:
        self.name, self.step, self.steps, self.seconds = name, 0, 1, 0.0
        self.curves: dict[str, list[float]] = {}

    def take(self, step: int, steps: int, row: Mapping[str, float]) -> None:
        self.step, self.steps = step, steps
        self.seconds = row.get("seconds_per_step", self.seconds)
        for key, value in row.items():
            self.curves.setdefault(key, []).append(value)

    def table(self) -> RenderableType:
        from rich.progress_bar import ProgressBar
        from rich.table import Table

        table = Table(title=self.name, title_justify="left", box=None, show_header=False)
        room = max(4, min(WIDTH, errors.width - NAMES))
        minutes = (self.steps - self.step) * self.seconds / 60
        table.add_row(
            f"step {self.step}/{self.steps}", f"{minutes:.0f} min left", ProgressBar(self.steps, self.step, room)
        )
        for key, values in self.curves.items():
            table.add_row(key, f"{values[-1]:.4g}", sparkline(values[-room:]))
        return table


def sparkline(values: list[float]) -> str:
    """The last values as bars between their lowest and highest."""
    shown = values[-WIDTH:]
    finite = [value for value in shown if math.isfinite(value)] or [0.0]
    step = (max(finite) - min(finite)) / (len(BARS) - 1) or 1
    return "".join(BARS[round((value - min(finite)) / step)] if math.isfinite(value) else " " for value in shown)


def counted(what: str) -> Callable[[int, int], None]:
    """An observer that prints a line now and then: cutting out a thousand portraits takes minutes."""

    def line(done: int, total: int) -> None:
        if done % 200 == 0 or done == total:
            errors.print(f"{what} {done}/{total}", markup=False)

    return line
