"""Photos on the command line, one or many: which they are, where their results go, and how a batch of them is shown."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING

import typer

from sgmatte.batch.attempts import Work
from sgmatte.batch.engines import Engine, Here, Task
from sgmatte.batch.inputs import Input, found_inputs, listed
from sgmatte.batch.names import Job, Place, check_results, output_place
from sgmatte.batch.run import Plan, Todo, books_of, known_of, run, todo
from sgmatte.cli.messages import Screen
from sgmatte.cli.watching import BatchView
from sgmatte.errors import PhotoError, UsageError
from sgmatte.forms import Form
from sgmatte.observers import Observe
from sgmatte.report.places import check_report, files_folder

if TYPE_CHECKING:
    from sgmatte.batch.manifest import Manifest
    from sgmatte.batch.tasks import AnyTask
    from sgmatte.device import Device

STDIN = "stdin"  # what a photo from there is called
LARGEST_STDIN = 2 << 30  # bytes
LARGEST_LIST = 256 << 20  # bytes of --files-from: millions of photos


@dataclass(frozen=True)
class Asked:
    """What the command line says of photos and of where their results go."""

    sources: Sequence[str]
    recursive: bool = False
    files_from: str | None = None
    out: str | None = None
    out_dir: Path | None = None
    name: str | None = None
    keep: bool | None = None  # True with --skip-existing, False with --overwrite
    dry_run: bool = False
    jobs: int = 1
    engine: str = "local"
    json: bool = False
    report: Path | None = None


@dataclass(frozen=True)
class Selection:
    """The photos of a command.

    Attributes:
        keep: whether results that are there are left alone.
        several: whether the photos are a batch, with books.
        to_stdout: the kind of result that goes there, of a photo from stdin.
    """

    jobs: Sequence[Job]
    asked: Asked
    keep: bool = False
    several: bool = False
    to_stdout: str | None = None


@contextmanager
def selected(asked: Asked, kinds: Sequence[str], form: Form, *, piped: str) -> Iterator[Selection]:
    """The photos that were asked for, with the files that each will give.

    Args:
        kinds: of results, the one first that `-o FILE` names.
        piped: the kind that goes to stdout for a photo from stdin.

    Raises:
        UsageError: nothing was asked for, or results that would overwrite photos or one another, or that cannot be
            written as their names say.
    """
    if asked.report is not None:
        check_report(asked.report)
    if "-" in asked.sources:
        with _piped(asked, kinds, form, piped) as selection:
            yield selection
        return
    sources, from_list = list(asked.sources), []
    if asked.files_from is not None:
        from_list = listed(_list_of(asked.files_from))
    folder = asked.out_dir or (Path(asked.out) if asked.out else None)
    skipped = [folder] if folder is not None and folder.is_dir() else []
    if asked.report is not None:
        skipped.append(files_folder(asked.report))
    inputs = found_inputs(
        sources, from_list, recursive=asked.recursive, skipped=skipped, outputs=_known_results(sources)
    )
    several = len(inputs) > 1 or asked.files_from is not None or not all(entry.named for entry in inputs)
    place = output_place(asked.out, asked.out_dir, asked.name, several)
    jobs = [place.job(entry, kinds, form.suffixes(kinds)) for entry in inputs]
    check_results(jobs)
    for job in jobs:
        form.check(job.files)
    if asked.report is not None and asked.report.resolve() in {job.photo.resolve() for job in jobs}:
        raise UsageError(f"{asked.report}: the report would overwrite a photo; choose another name")
    by_search = asked.files_from is not None or any(not entry.named for entry in inputs)
    yield Selection(jobs, asked, asked.keep if asked.keep is not None else by_search, several)


@contextmanager
def _piped(asked: Asked, kinds: Sequence[str], form: Form, piped: str) -> Iterator[Selection]:
    """A photo from stdin; its result goes to stdout unless `-o` or `--out-dir` name a place."""
    if list(asked.sources) != ["-"] or asked.files_from is not None:
        raise UsageError("- stands alone: one photo from stdin")
    if asked.report is not None:
        raise UsageError("--report shows files, and a photo from stdin is none")
    to_stdout = asked.out is None and asked.out_dir is None
    if to_stdout and asked.json:
        raise UsageError("--json and the result would both go to stdout; name the result with -o")
    if to_stdout and sys.stdout.isatty() and not asked.dry_run:
        raise UsageError("the result would be written to the terminal; redirect it into a file, or name one with -o")
    with tempfile.TemporaryDirectory(prefix="sgmatte-") as folder:
        photo = Path(folder) / STDIN
        if not asked.dry_run:
            with photo.open("wb") as file:
                shutil.copyfileobj(_Limited(sys.stdin.buffer), file)
        place = Place(Path(folder) / "out") if to_stdout else output_place(asked.out, asked.out_dir, asked.name, False)
        job = replace(place.job(Input(photo, photo.parent, named=True), kinds, form.suffixes(kinds)), seen=True)
        form.check(job.files)
        if to_stdout:
            job = replace(job, files={piped: job.files[piped]})
        yield Selection([job], asked, to_stdout=piped if to_stdout else None)


def device_for(selection: Selection, choice: str) -> Device:
    """The device for `--device`. Where others will compute, this process is not made to import torch for it.

    Raises:
        UsageError: see `chosen_device`.
    """
    if selection.asked.engine == "local" and _workers(selection.asked, len(selection.jobs)) == 1:
        from sgmatte.device import chosen_device

        return chosen_device(choice)
    from sgmatte.batch.processes import workers_device

    return workers_device(choice)


def run_batch(selection: Selection, name: str, task: AnyTask, screen: Screen) -> None:
    """Work on photos; one that cannot be worked on costs a line on stderr and the exit code.

    Raises:
        typer.Exit: at the end, where a photo failed (1) or the user interrupted (130).
    """
    from sgmatte.batch.tasks import options_of

    asked = selection.asked
    plan = Plan(name, selection.jobs, options_of(task), selection.keep, selection.several)
    books = books_of(plan)
    work = todo(plan, books)
    piped = "-" in asked.sources
    view = BatchView(screen, task.device, work, plain=selection.to_stdout is None, piped=piped)
    if asked.dry_run:
        view.dry_run()
        return
    with view.shown() as observe:
        summary = run(plan, work, books, _engine(task, asked, len(work.jobs), observe), view)
    view.summary(summary, books)
    if asked.report is not None and not (summary.interrupted or summary.stopped):
        _write_report(asked.report, plan, books, view, task.settings.max_pixels)
    if selection.to_stdout and not summary.exit_code:
        sys.stdout.buffer.write(selection.jobs[0].files[selection.to_stdout].read_bytes())
        sys.stdout.buffer.flush()
    if summary.exit_code:
        raise typer.Exit(summary.exit_code)


def _write_report(path: Path, plan: Plan, books: Mapping[Path, Manifest], view: BatchView, max_pixels: int) -> None:
    """The page of all photos of a batch, those of earlier runs too.

    Raises:
        SgmatteError: it cannot be written.
    """
    from sgmatte.report.page import write_report
    from sgmatte.report.records import record_of

    records = [record_of(job, view.records.get(job) or known_of(plan, books, job)) for job in plan.jobs]
    with view.screen.progress() as observe:
        title = f"sgmatte {plan.name}"
        write_report(path, records, title, max_pixels, lambda done, total: observe("report", done, total))
    view.screen.line(str(path))


def each_photo(jobs: Sequence[Job], work: Work, screen: Screen, device: Device) -> None:
    """`run_batch` in this process and without books, for commands whose photos are named one by one."""

    @dataclass(frozen=True)
    class Given:
        def worker(self) -> Work:
            return work

    plan = Plan("", jobs, books=False)
    todo_now = Todo(list(jobs), {}, {}, [])
    view = BatchView(screen, device, todo_now)
    with view.shown() as observe:
        summary = run(plan, todo_now, {}, Here(Given(), observe), view)
    view.summary(summary, {})
    if summary.exit_code:
        raise typer.Exit(summary.exit_code)


def named_jobs(
    photos: Collection[Path], out_dir: Path | None, files: Callable[[Path], Mapping[str, Path]]
) -> list[Job]:
    """Jobs of photos that are named one by one, checked.

    Raises:
        UsageError: see `check_results`.
    """
    jobs = [Job(photo, files(photo), out_dir or photo.parent, photo.exists()) for photo in photos]
    check_results(jobs)
    return jobs


def check_out(photos: Collection[Path], out: Path | None, out_dir: Path | None) -> None:
    """Raises UsageError where `--out` cannot name all results."""
    if out is not None and (len(photos) > 1 or out_dir is not None):
        raise UsageError("--out names a single result; for several use --out-dir, and not both")


def _engine(task: Task, asked: Asked, photos: int, observe: Observe) -> Engine:
    if asked.engine == "ray":
        from sgmatte.batch.remote import Ray

        return Ray(task, asked.jobs)
    workers = _workers(asked, photos)
    if workers == 1:
        return Here(task, observe)
    from sgmatte.batch.processes import Processes

    return Processes(task, workers)


def _workers(asked: Asked, photos: int) -> int:
    return max(1, min(asked.jobs, photos))


def _list_of(source: str) -> bytes:
    try:
        with nullcontext(sys.stdin.buffer) if source == "-" else Path(source).open("rb") as stream:  # it may be a pipe
            found: bytes = stream.read(LARGEST_LIST + 1)
    except (OSError, ValueError) as error:
        raise UsageError(f"--files-from {source}: {getattr(error, 'strerror', None) or error}") from error
    if len(found) > LARGEST_LIST:
        raise UsageError(f"--files-from {source}: has more than {LARGEST_LIST >> 20} MB, which is no list of photos")
    return found


class _Limited:
    """A stream that has an end: a photo from stdin must not fill the disk before its size is known."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream, self._left = stream, LARGEST_STDIN

    def read(self, size: int = -1, /) -> bytes:
        found = self._stream.read(size)
        self._left -= len(found)
        if self._left < 0:
            raise PhotoError(f"stdin: more than {LARGEST_STDIN >> 30} GB, which no photo has")
        return found


def _known_results(sources: Sequence[str]) -> set[Path]:
    """What batches are known to have written into the folders that are searched."""
    from sgmatte.batch.manifest import Manifest

    return {file for source in sources if Path(source).is_dir() for file in Manifest(Path(source)).results()}
