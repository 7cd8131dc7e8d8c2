"""Everything the command line prints: results on stdout, progress and errors on stderr."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from sgmatte.files import json_text
from sgmatte.hostile import printable

if TYPE_CHECKING:
    from rich.table import Table

    from sgmatte.device import Device

Observe = Callable[[str, int, int], None]
"""Called as (stage, done, total) while something long is going on."""

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
            Console(highlight=False, markup=False).print(table)

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
        """An observer that draws a bar with the time left for each stage; where stderr is a file, a line for each."""
        from rich.progress import (
            BarColumn,
            Progress,
            TaskProgressColumn,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        columns = (
            TextColumn("{task.description:<24}", markup=False),
            BarColumn(),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=errors, disable=self.quiet) as bars:
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
