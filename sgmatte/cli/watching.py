"""How a batch looks while it runs: bars on a terminal, a line a photo elsewhere, JSON lines for scripts."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sgmatte import __version__
from sgmatte.batch.manifest import Manifest, Record
from sgmatte.batch.names import Job
from sgmatte.batch.run import Summary, Todo
from sgmatte.cli.messages import Screen, error_line, errors, is_narrow, redraws
from sgmatte.observers import Observe

if TYPE_CHECKING:
    from sgmatte.device import Device


class BatchView:
    """Watches a batch: results on stdout, all else on stderr.

    Args:
        plain: list results on stdout; not where a picture goes there.
        piped: the photo came from stdin, and is called so.
    """

    def __init__(self, screen: Screen, device: Device, todo: Todo, *, plain: bool = True, piped: bool = False) -> None:
        self.screen, self.device, self.todo, self.plain, self.piped = screen, device, todo, plain, piped
        self.records: dict[Job, Record] = {}  # of the photos that have ended
        self._started = time.monotonic()
        self._advance: Any = None

    def dry_run(self) -> None:
        for job in self.todo.jobs:
            self.screen.line(f"{job.photo} -> {', '.join(map(str, job.files.values()))}")
            self._json(job, {"state": "todo", "files": {kind: str(file) for kind, file in job.files.items()}})
        self._tell_skipped()
        self.screen.note(f"dry run: {len(self.todo.jobs)} to do, {len(self.todo.skipped)} skipped, nothing was written")

    @contextmanager
    def shown(self) -> Iterator[Observe]:
        """Show how it goes meanwhile; what it gives is told of the stages of a photo."""
        self.screen.device(self.device)
        self._tell_skipped()
        for record in self.todo.failed.values():
            error_line(record["error"])
        self._started = time.monotonic()
        if len(self.todo.jobs) <= 1:
            with self.screen.progress() as observe:
                yield observe
        elif redraws() and not self.screen.quiet:
            with self._bars() as observe:
                yield observe
        else:
            yield lambda stage, done, total: None

    def began(self, job: Job) -> None:
        """Nothing: what is being worked on shows when it has ended."""

    def ended(self, job: Job, record: Record) -> None:
        self.records[job] = record
        name = "stdin" if self.piped else str(job.photo)
        if self._advance:
            self._advance()
        elif len(self.todo.jobs) > 1:
            self.screen.note(f"{len(self.records)}/{len(self.todo.jobs)} {job.photo}{self._pace()}")
        if record["state"] == "failed":
            error_line(record["error"].replace(str(job.photo), name))
            if "traceback" in record:
                errors.print(record["traceback"], markup=False, soft_wrap=True)
        for note in record.get("notes", ()):
            self.screen.note(f"{name}: {note}")
        if self.plain:
            for file in record.get("files", {}).values():
                self.screen.line(file)
        self._json(job, record)

    def summary(self, summary: Summary, books: Mapping[Path, Manifest]) -> None:
        """How it went, in a line where there was more than one photo; why it stopped, where it did."""
        if summary.stopped:
            error_line(summary.stopped)
        left = len(self.todo.jobs) - len(self.records)
        if summary.interrupted:
            on = "; the same command goes on where it was" if books else ""
            error_line(f"interrupted: {summary.done} done, {left} left{on}")
        elif len(self.todo.jobs) + len(self.todo.skipped) > 1:
            told = f"{summary.done} done, {len(summary.failed)} failed, {summary.skipped} skipped"
            told += f", {left} left" if left else ""
            seconds = timedelta(seconds=round(time.monotonic() - self._started))
            lists = [str(manifest.failures) for manifest in books.values() if manifest.failures.exists()]
            self.screen.note(f"{told} in {seconds}{'; failures: ' + ', '.join(lists) if lists else ''}")

    def _json(self, job: Job, record: Mapping[str, Any]) -> None:
        shown = {key: value for key, value in record.items() if key not in ("photo", "traceback", "input", "at")}
        device = {"name": self.device.name, "reason": self.device.reason}
        self.screen.result({"version": __version__, "device": device, "photo": str(job.photo), **shown})

    def _tell_skipped(self) -> None:
        for remark in self.todo.remarks:
            self.screen.note(remark)
        for reason, count in Counter(self.todo.skipped.values()).items():
            self.screen.note(f"skipped {count}: {reason}")
        for job, reason in self.todo.skipped.items():
            if job in self.todo.failed:
                self._json(job, {"state": "failed", "error": self.todo.failed[job]["error"]})
            else:
                files = {kind: str(file) for kind, file in job.files.items()}
                self._json(job, {"state": "skipped", "reason": reason, "files": files})

    def _pace(self) -> str:
        """Photos a second and the time left, once there is something to tell them by."""
        seconds = time.monotonic() - self._started
        left = (len(self.todo.jobs) - len(self.records)) * seconds / len(self.records)
        return f" ({len(self.records) / seconds:.2f} photos/s, {timedelta(seconds=round(left))} left)"

    @contextmanager
    def _bars(self) -> Iterator[Observe]:
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            ProgressColumn,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        narrow = is_narrow()
        columns: list[ProgressColumn] = [
            TextColumn("{task.description:<12.12}" if narrow else "{task.description:<24.24}", markup=False),
            BarColumn(bar_width=None if narrow else 40),
            MofNCompleteColumn(),
        ]
        if not narrow:
            columns += [
                TextColumn("{task.fields[pace]}"),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(elapsed_when_finished=False),
            ]
        # Where stdout is a terminal too, what is printed there must not run into the bars; a file gets it as it is.
        with Progress(*columns, console=errors, expand=narrow, redirect_stdout=sys.stdout.isatty()) as bars:
            photos = bars.add_task("photos", total=len(self.todo.jobs), pace="")
            stage = bars.add_task("", total=None, pace="", visible=False)

            def advance() -> None:
                pace = len(self.records) / (time.monotonic() - self._started)
                bars.update(photos, completed=len(self.records), pace=f"{pace:.2f} photos/s")

            def observe(name: str, done: int, total: int) -> None:
                bars.update(stage, description=name, completed=done, total=total, visible=True)

            self._advance = advance
            yield observe
        self._advance = None
