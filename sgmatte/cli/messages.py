"""Everything the command line prints: results on stdout, progress and errors on stderr."""

from __future__ import annotations

import sys
import textwrap
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from sgmatte.files import json_text
from sgmatte.hostile import printable
from sgmatte.observers import Observe

if TYPE_CHECKING:
    from rich.table import Table

    from sgmatte.device import Device

ROOMY = 80  # columns that bars with times, and help in boxes, need
KEPT = "\xa0"  # a space where no line ends
LONGEST = 4000  # characters of a line; what names and messages of others can bring in has an end

errors = Console(stderr=True, highlight=False)
configs: list[Path] = []  # files that give the running command defaults


def error_line(message: str) -> None:
    """One line on stderr; the message is data, so no markup is read from it, and no control sequence is passed on."""
    errors.print(f"error: {printable(' '.join(message.split()), LONGEST)}", style="red", markup=False, soft_wrap=True)


@dataclass(frozen=True)
class Screen:
    """What a command shows: `--quiet` leaves errors (and JSON, where asked for), `--json` puts one object on stdout."""

    quiet: bool = False
    json: bool = False

    def note(self, message: str) -> None:
        """Something worth knowing, on stderr."""
        if not self.quiet:
            errors.print(printable(message, LONGEST), style="dim", markup=False, soft_wrap=True)

    def line(self, message: str) -> None:
        """A result for people, on stdout."""
        if not self.quiet and not self.json:
            print(printable(message, LONGEST) if sys.stdout.isatty() else message)

    def table(self, table: Table) -> None:
        """`line`, for several of them in columns; names in it are data, wherever they hold brackets."""
        if not self.quiet and not self.json:
            from rich.measure import Measurement

            console = Console(highlight=False, markup=False)
            wanted = Measurement.get(console, console.options.update(max_width=LONGEST), table).maximum
            if not console.is_terminal:
                console.width = max(console.width, wanted)  # a file has no edge to cut it at
            if wanted > console.width:
                print(_records(table, console.width))
            else:
                console.print(table)

    def result(self, value: Mapping[str, Any]) -> None:
        """A result for scripts: one line of JSON on stdout with `--json`, else nothing."""
        if self.json:
            print(json_text(value))

    def device(self, device: Device) -> None:
        self.note(f"device: {device.name} ({device.reason})")
        for file in configs:
            self.note(f"defaults: {file}")

    @contextmanager
    def progress(self) -> Iterator[Observe]:
        """An observer that draws a bar for each stage, or where lines cannot be redrawn, writes one at its end."""
        if self.quiet:
            yield lambda stage, done, total: None
            return
        with _bars() if redraws() else _lines() as observe:
            yield observe


def redraws(console: Console = errors) -> bool:
    """Whether lines can be drawn again: the console is a terminal, and none that calls itself dumb."""
    return console.is_terminal and not console.is_dumb_terminal


def is_narrow() -> bool:
    """Whether stderr's terminal has no room for times beside bars."""
    return errors.width < ROOMY


@contextmanager
def _bars() -> Iterator[Observe]:
    from rich.progress import (
        BarColumn,
        Progress,
        ProgressColumn,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns: list[ProgressColumn] = [
        TextColumn("{task.description:<14.14}" if is_narrow() else "{task.description:<24}", markup=False),
        BarColumn(bar_width=None if is_narrow() else 40),
        TaskProgressColumn(),
    ]
    if not is_narrow():
        columns += [TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn()]
    with Progress(*columns, console=errors, expand=is_narrow()) as bars:
        tasks: dict[str, Any] = {}

        def observe(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                for task in tasks.values():  # a stage that never reported its end has ended when the next begins
                    bars.update(task, completed=bars.tasks[task].total)
                tasks[stage] = bars.add_task(stage, total=total)
            bars.update(tasks[stage], completed=done, total=total)

        yield observe
        for task in tasks.values():
            bars.update(task, completed=bars.tasks[task].total)


@contextmanager
def _lines() -> Iterator[Observe]:
    began: dict[str, float] = {}
    ended: set[str] = set()

    def end(stage: str) -> None:
        if stage not in ended:
            ended.add(stage)
            seconds = timedelta(seconds=round(time.monotonic() - began[stage]))
            errors.print(f"{printable(stage, LONGEST)}: done in {seconds}", style="dim", markup=False, soft_wrap=True)

    def observe(stage: str, done: int, total: int) -> None:
        if stage not in began:
            for other in began:
                end(other)
            began[stage] = time.monotonic()
        if done >= total:
            end(stage)

    yield observe
    for stage in began:
        end(stage)


def _records(table: Table, width: int) -> str:
    """A table as a paragraph for each of its rows, for terminals that are too narrow for it."""
    heads = [str(column.header) for column in table.columns]
    texts = []
    for row in zip(*(column.cells for column in table.columns), strict=True):
        pairs = [f"{head}{KEPT}{printable(str(cell))}" for head, cell in zip(heads, row, strict=True) if cell]
        texts.append("  ".join(pair.strip(KEPT) for pair in pairs))
    lines = [textwrap.fill(text, width, subsequent_indent="  ", break_on_hyphens=False) for text in texts]
    return "\n".join(lines).replace(KEPT, " ")
