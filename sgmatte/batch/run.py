"""The batch itself: what is to be done, and the books that are kept while it is."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

from sgmatte import __version__
from sgmatte.batch.engines import Engine
from sgmatte.batch.manifest import History, Manifest, Record, are_there, is_unchanged, now, settings_hash
from sgmatte.batch.names import Job
from sgmatte.errors import SgmatteError
from sgmatte.files import clean_partials


@dataclass(frozen=True)
class Plan:
    """What a batch is.

    Attributes:
        name: of the task, "matte" say; books of several tasks may lie in one folder.
        options: what results depend on, in words and numbers.
        keep: leave results alone that are there already.
        books: whether a manifest is kept.
    """

    name: str
    jobs: Sequence[Job]
    options: Mapping[str, Any] = field(default_factory=dict)
    keep: bool = False
    books: bool = True

    @property
    def settings(self) -> str:
        return settings_hash(self.name, self.options, __version__)


@dataclass(frozen=True)
class Todo:
    """A plan, compared with what is on the disk.

    Attributes:
        jobs: those to be worked on.
        skipped: why the others are not.
        failed: of those, the failures that this run goes on from.
        remarks: lines for the user.
    """

    jobs: list[Job]
    skipped: dict[Job, str]
    failed: dict[Job, Record]
    remarks: list[str]


@dataclass
class Summary:
    """How a batch went."""

    done: int = 0
    skipped: int = 0
    failed: list[Record] = field(default_factory=list)
    interrupted: bool = False
    stopped: str | None = None  # why it could not go on

    @property
    def exit_code(self) -> int:
        return 130 if self.interrupted else 1 if self.failed or self.stopped else 0


class Watcher(Protocol):
    """Whom a batch tells how it goes."""

    def began(self, job: Job) -> None: ...

    def ended(self, job: Job, record: Record) -> None: ...


def books_of(plan: Plan) -> dict[Path, Manifest]:
    """The manifest of each output folder.

    Raises:
        UsageError: a file of that name was not written by sgmatte.
    """
    return {root: Manifest(root) for root in dict.fromkeys(job.root for job in plan.jobs)} if plan.books else {}


def todo(plan: Plan, books: Mapping[Path, Manifest]) -> Todo:
    """What of a plan is still to be done; nothing is written.

    Done is a photo whose results are there, if the user keeps results, or if the last run of the same settings was cut
    short and was through with it.
    """
    found = Todo([], {}, {}, [])
    others = changed = 0
    for job in plan.jobs:
        history = books[job.root].history(plan.name) if job.root in books else History()
        line = known_of(plan, books, job)
        reason = _reason_to_skip(plan, job, history, line)
        if reason is None:
            found.jobs.append(job)
            changed += line is not None and line["state"] == "done" and are_there(job)
            continue
        found.skipped[job] = reason
        if line and line["state"] == "failed":
            found.failed[job] = line
        others += bool(line and line["state"] == "done" and line.get("settings") != plan.settings)
    if plan.keep and changed:
        found.remarks.append(f"{_photos(changed)} changed since: worked on again")
    if others:
        found.remarks.append(
            f"{_photos(others)} with results of other settings{_differences(plan, books)}: "
            "kept; --overwrite does them again"
        )
    return found


def known_of(plan: Plan, books: Mapping[Path, Manifest], job: Job) -> Record | None:
    """The last line that the books have of a photo."""
    return books[job.root].history(plan.name).latest.get(_key(job)) if job.root in books else None


def run(plan: Plan, work: Todo, books: Mapping[Path, Manifest], engine: Engine, watcher: Watcher) -> Summary:
    """Work on all that is to be done.

    Raises:
        SgmatteError: nothing could be worked on, or another batch is at work in the folder.
    """
    summary = Summary(skipped=len(work.skipped) - len(work.failed), failed=list(work.failed.values()))
    with ExitStack() as stack, termination_as_interrupt():
        folders = {file.parent for job in plan.jobs for file in job.files.values()} | set(books)
        for manifest in books.values():
            open_books(manifest, stack)
        clean_partials(folders)
        for manifest in books.values():
            manifest.add(_run_line(plan))
            manifest.rewrite_failures({(plan.name, _key(job)) for job in work.jobs})
        try:
            if work.jobs:
                _work_through(plan, work.jobs, books, engine, watcher, summary)
        except KeyboardInterrupt:
            summary.interrupted = True
            clean_partials(folders)  # of workers that were stopped while they wrote
        except OSError as error:  # photos' own are in their records
            summary.stopped = f"{error.filename or 'the manifest'}: cannot be written ({error.strerror})"
        if not (summary.interrupted or summary.stopped):
            for manifest in books.values():
                manifest.add({"state": "ended", "task": plan.name, "at": now()} | _counts(summary))
    return summary


def _work_through(
    plan: Plan, jobs: list[Job], books: Mapping[Path, Manifest], engine: Engine, watcher: Watcher, summary: Summary
) -> None:
    def begun() -> Iterator[Job]:
        for job in jobs:
            if job.root in books:
                books[job.root].add(
                    {"state": "started", "task": plan.name, "photo": _key(job), "settings": plan.settings}
                )
            watcher.began(job)
            yield job

    with closing(engine.records(begun())) as records:
        for job, record in records:
            if record.get("full"):
                summary.stopped = record["error"]
                return
            if job.root in books:
                line = _photo_line(plan, job, record)
                books[job.root].add(line)
                if record["state"] == "failed":
                    books[job.root].add_failure(line)
            if record["state"] == "failed":
                summary.failed.append(record)
            else:
                summary.done += 1
            watcher.ended(job, record)


def _reason_to_skip(plan: Plan, job: Job, history: History, line: Record | None) -> str | None:
    """Why a photo is not worked on; None if it is."""
    if line is None:
        return "its results are there" if plan.keep and are_there(job) else None
    resumed = history.unfinished == plan.settings and history.overwrite is not plan.keep
    settled = resumed and line["photo"] in history.settled and is_unchanged(job.photo, line.get("input"))
    if line["state"] == "failed":
        return "it failed before" if settled and not line.get("passing") else None
    if line["state"] != "done" or not are_there(job):
        return None  # it was being worked on as a run was cut short
    if settled:
        return "done before the run was cut short"
    return "its results are there" if plan.keep and is_unchanged(job.photo, line.get("input")) else None


def _differences(plan: Plan, books: Mapping[Path, Manifest]) -> str:
    """Which options differ from those of the last run, in words."""
    for manifest in books.values():
        before = manifest.history(plan.name).options
        texts = [
            f"{name} {before.get(name)}, now {plan.options.get(name)}"
            for name in plan.options
            if name in before and str(before[name]) != str(plan.options[name])
        ]
        if texts:
            return f" ({'; '.join(texts[:3])})"
    return ""


def _run_line(plan: Plan) -> Record:
    return {
        "state": "run",
        "task": plan.name,
        "version": __version__,
        "settings": plan.settings,
        "options": dict(plan.options),
        "overwrite": not plan.keep,
        "photos": len(plan.jobs),
        "at": now(),
    }


def _photo_line(plan: Plan, job: Job, record: Record) -> Record:
    """A record as the manifest keeps it: without what lies in files, and with paths that move with the folder."""
    kept = {key: value for key, value in record.items() if key not in ("report", "exit_code")}
    if "files" in kept:
        kept["files"] = {kind: _relative(Path(file), job.root) for kind, file in kept["files"].items()}
    known = {"state": record["state"], "task": plan.name, "settings": plan.settings}
    return known | kept | {"photo": _key(job)}


def _key(job: Job) -> str:
    """What a photo is called in the books, from wherever the command is run."""
    return os.path.abspath(job.photo)


def _relative(file: Path, root: Path) -> str:
    return file.relative_to(root).as_posix() if file.is_relative_to(root) else str(file)


def _counts(summary: Summary) -> Record:
    return {"done": summary.done, "failed": len(summary.failed), "skipped": summary.skipped}


def _photos(count: int) -> str:
    return f"{count} photo{'s' * (count != 1)}"


def open_books(manifest: Manifest, stack: ExitStack) -> None:
    """Hold an output folder, as long as the stack lasts, and let lines be added to its books.

    Raises:
        SgmatteError: nothing can be written there, or another batch is at work in it.
    """
    try:
        stack.enter_context(manifest.opened())
    except OSError as error:
        raise SgmatteError(
            f"{manifest.root}: nothing can be written there ({error.strerror}); choose another folder with -o"
        ) from error


@contextmanager
def termination_as_interrupt() -> Iterator[None]:
    """SIGTERM, as systems and containers send it, ends a batch as cleanly as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
