"""A folder of generated portraits: draws one after another until enough of them are kept.

    image/S-K.png  alpha/S-K.png  foreground/S-K.png  trimap/S-K.png   portrait K of seed S
    manifest.jsonl   "run" and "ended" lines as `sgmatte.batch.manifest` has them, one "weights" line, and for each draw
                     a line "done" or "refused": "photo" (its name), "seed", "index", "reasons", "scores", "generator",
                     "settings" and "weights" (hashes of options and weights), "files", "seconds", "core_seconds"
    sheet.jpg        the first of them on a colour

Draws enter the books in the order of their numbers, whoever ends first, and the first that are good are the ones kept:
a folder is the same whether its run was cut short or not, and however many worked on it.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from sgmatte import __version__
from sgmatte.batch.engines import Engine
from sgmatte.batch.manifest import Manifest, Record, now, settings_hash
from sgmatte.batch.names import Job
from sgmatte.batch.run import open_books, termination_as_interrupt
from sgmatte.errors import SgmatteError, UsageError
from sgmatte.files import clean_partials

TASK = "generate"
KINDS = ("alpha", "foreground", "trimap", "image")  # in the order in which they are written
LEAST_DRAWS = 100  # before the share of refusals is held against the settings


@dataclass(frozen=True, eq=False)
class Draw(Job):
    """A job whose photo is yet to be drawn: `photo` is what it will be."""

    index: int = 0


@dataclass(frozen=True)
class Order:
    """What is wanted.

    Attributes:
        count: portraits that are kept.
        options: what portraits depend on, in words and numbers; "drawing.seed" and "generator" are among it.
        max_refused: share of the draws that may be refused.

    Raises:
        UsageError: the share does not lie between 0 and 1.
    """

    folder: Path
    count: int
    options: Mapping[str, Any]
    max_refused: float = 0.9

    def __post_init__(self) -> None:
        if not 0 <= self.max_refused <= 1:
            raise UsageError(f"--max-refused lies between 0 and 1, not at {self.max_refused:g}")

    @property
    def settings(self) -> str:
        return settings_hash(TASK, self.options, __version__)

    def draw(self, index: int) -> Draw:
        name = f"{self.options['drawing.seed']}-{index:06}.png"
        files = {kind: self.folder / kind / name for kind in KINDS}
        return Draw(files["image"], files, self.folder, seen=False, index=index)


@dataclass
class Progress:
    """How far a folder is, and what this run did for it."""

    kept: int = 0
    refused: Counter[str] = field(default_factory=Counter)  # by the first reason
    draws: int = 0  # of this run, as the rest
    kept_now: int = 0
    core_seconds: float = 0.0
    interrupted: bool = False

    @property
    def drawn(self) -> int:
        return self.kept + self.refused.total()

    def add(self, line: Record) -> None:
        """Count a line of the books."""
        if line["state"] == "done":
            self.kept += 1
        else:
            self.refused[line["reasons"][0]] += 1

    def told(self) -> str:
        """In words: what was kept and why the rest was not."""
        why = ", ".join(f"{reason} {count}" for reason, count in self.refused.most_common())
        return f"{self.kept} accepted of {self.drawn} drawn{f'; refused: {why}' if why else ''}"


class Watcher(Protocol):
    """Whom a run tells how it goes."""

    def drawn(self, line: Record, progress: Progress) -> None: ...


def progress_of(order: Order, manifest: Manifest) -> tuple[Progress, str | None]:
    """What the books of a folder say, and the hash of the weights that its portraits came from, if there are any.

    Raises:
        UsageError: they are of other settings, or not whole.
    """
    history, progress, weights = manifest.history(TASK), Progress(), None
    others = {line.get("settings") for line in history.latest.values()} - {order.settings}
    if others:
        changed = [
            f"{name} {history.options.get(name)}, now {value}"
            for name, value in order.options.items()
            if str(history.options.get(name)) != str(value)
        ]
        what = "; ".join(changed[:3]) or "another version of sgmatte"
        raise UsageError(
            f"{order.folder}: holds portraits of other settings ({what}); choose those, or another folder with -o"
        )
    for index, (name, line) in enumerate(history.latest.items()):
        if name != order.draw(index).photo.name or not _is_whole(line):
            raise UsageError(
                f"{manifest.path}: its lines are not those of portraits 0, 1, 2, ...; choose another folder"
            )
        progress.add(line)
        weights = line["weights"]
    return progress, weights


def run(order: Order, engine: Engine, watcher: Watcher) -> Progress:
    """Draw until `order.count` portraits of the folder are kept.

    Raises:
        UsageError: as `progress_of`; or another batch is at work in the folder.
        SgmatteError: nothing can be written, too many draws are refused, weights have changed, or memory is too small.
        RuntimeError: a portrait met with a fault of sgmatte.
    """
    manifest = Manifest(order.folder)
    progress, weights = progress_of(order, manifest)
    with ExitStack() as stack, termination_as_interrupt():
        open_books(manifest, stack)
        folders = [order.folder, *(order.folder / kind for kind in KINDS)]
        clean_partials(folders)
        _remove_from(order, progress.drawn)
        if progress.kept >= order.count:
            return progress
        manifest.add(
            {"state": "run", "task": TASK, "version": __version__, "settings": order.settings, "at": now()}
            | {"options": dict(order.options), "count": order.count}
        )
        try:
            _draw(order, engine, watcher, manifest, progress, weights)
        except KeyboardInterrupt:
            progress.interrupted = True
            clean_partials(folders)
            return progress
        except OSError as error:
            raise SgmatteError(f"{error.filename or manifest.path}: cannot be written ({error.strerror})") from error
        manifest.add({"state": "ended", "task": TASK, "at": now(), "kept": progress.kept, "drawn": progress.drawn})
    return progress


def _draw(
    order: Order, engine: Engine, watcher: Watcher, manifest: Manifest, progress: Progress, weights: str | None
) -> None:
    first = progress.drawn
    ahead: dict[int, Record] = {}  # drawn, while one of a lower number is not yet

    def good() -> int:
        return progress.kept + sum(record["state"] == "done" for record in ahead.values())

    def draws() -> Iterator[Job]:
        index = first
        while good() < order.count:
            yield order.draw(index)
            index += 1

    with closing(engine.records(draws())) as records:
        for job, record in records:
            assert isinstance(job, Draw)
            if record["state"] == "failed":
                if "traceback" in record:
                    raise RuntimeError(f"{record['error']}\n{record['traceback']}")
                on = "" if record.get("full") else "; the same command goes on where it was"
                raise SgmatteError(record["error"] + on)
            ahead[job.index] = record
            while progress.drawn in ahead and progress.kept < order.count:
                found = ahead.pop(progress.drawn)
                digest = _checked_weights(order, manifest, found.pop("weights"), weights)
                line = _line(order, progress.drawn, found, digest)
                weights = digest
                manifest.add(line)
                progress.add(line)
                progress.draws += 1
                progress.kept_now += line["state"] == "done"
                progress.core_seconds += line["core_seconds"]
                watcher.drawn(line, progress)
            _check_share(order, progress)
    _remove_from(order, progress.drawn)  # good ones that were drawn ahead of the last that was needed


def _line(order: Order, index: int, record: Record, weights: str) -> Record:
    """The line of a draw: paths are relative to the folder, so that it may be moved."""
    kept = {key: value for key, value in record.items() if key not in ("photo", "input", "state", "files")}
    draw = order.draw(index)
    return {
        "state": record["state"],
        "task": TASK,
        "photo": draw.photo.name,
        "seed": order.options["drawing.seed"],
        "index": index,
        "generator": order.options["generator"],
        "settings": order.settings,
        "weights": weights,
        "files": {kind: f"{kind}/{draw.photo.name}" for kind in record["files"]},
    } | kept


def _checked_weights(order: Order, manifest: Manifest, used: Mapping[str, Any], known: str | None) -> str:
    """Hash of the weights that a portrait came from, which are noted once.

    Raises:
        SgmatteError: others than before.
    """
    digest = settings_hash(TASK, used, "weights")
    if known is None:
        manifest.add({"state": "weights", "task": TASK, "hash": digest, "weights": used})
    elif digest != known:
        raise SgmatteError(
            f"{order.folder}: holds portraits of other weights than those installed now; choose another folder with -o"
        )
    return digest


def _check_share(order: Order, progress: Progress) -> None:
    """Raises SgmatteError where so few portraits are good that it would go on for ever."""
    if progress.drawn >= LEAST_DRAWS and progress.refused.total() > order.max_refused * progress.drawn:
        raise SgmatteError(
            f"{order.folder}: {progress.told()}; that is more than --max-refused {order.max_refused:g} allows: lower "
            "--truncation, or loosen the limits for these reasons"
        )


def _remove_from(order: Order, first: int) -> None:
    """Remove pictures of draws that are not in the books: of workers that were stopped, and of those ahead of need."""
    for kind in KINDS:
        for file in (order.folder / kind).glob(f"{order.options['drawing.seed']}-*.png"):
            number = file.stem.partition("-")[2]
            if number.isdecimal() and int(number) >= first and file.name == order.draw(int(number)).photo.name:
                file.unlink(missing_ok=True)


def _is_whole(line: Record) -> bool:
    reasons = line.get("reasons")
    told = isinstance(reasons, list) and all(isinstance(reason, str) for reason in reasons)
    sound = line["state"] == "done" or (line["state"] == "refused" and bool(reasons))
    return told and sound and isinstance(line.get("weights"), str)


def kept_files(folder: Path, manifest: Manifest, count: int) -> list[dict[str, Path]]:
    """Files by kind of the first portraits that were kept and are still there."""
    lines = [line for line in manifest.history(TASK).latest.values() if line["state"] == "done"]
    found = ({kind: folder / kind / line["photo"] for kind in KINDS} for line in lines)
    return list(islice((files for files in found if all(map(os.path.isfile, files.values()))), count))
