"""What is known of a batch on the disk: manifest.jsonl and failures.jsonl in the output folder.

Every line of a manifest is a JSON object with "state":

    run       a run begins: "task", "settings" (a hash), "options" (in words), "version", "overwrite"
    started   a photo is about to be worked on: "photo", "task", "settings"
    done      its results are on the disk: "photo", "task", "settings", "input" (bytes, mtime_ns, sha256), "files" (by
              kind, relative to the manifest), "size" (height, width), "confidence" (of the trimap, see
              sgmatte.trimaps.Confidence), "notes", "seconds"
    failed    it gave none: "photo", "task", "settings", "input", "error"; "passing" if not the photo is to blame
    ended     the run came to its end: "done", "failed", "skipped"; without it, the run was cut short

Lines are only ever added, each flushed to the disk before the next photo begins. A last line that a crash cut off is
removed when the next run begins, and until then ignored.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sgmatte.batch.names import Job
from sgmatte.errors import SgmatteError, UsageError
from sgmatte.files import write_text
from sgmatte.hostile import content as content_of

MANIFEST, FAILURES = "manifest.jsonl", "failures.jsonl"
ADDING = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
LARGEST = 512 << 20  # bytes of a manifest: a million photos, done twice
TEXTS, TABLES = ("state", "task", "photo", "settings", "error"), ("options", "files", "input")

Record = dict[str, Any]


@dataclass
class History:
    """What the lines of a manifest amount to, for one task.

    Attributes:
        latest: the last line of each photo.
        options: those of the last run.
        unfinished: settings hash of a last run that was cut short, else None.
        settled: photos that this run, and those before it that it went on from, are through with.
    """

    latest: dict[str, Record] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    unfinished: str | None = None
    overwrite: bool = False
    settled: set[str] = field(default_factory=set)

    def add(self, line: Record) -> None:
        state = line["state"]
        if state == "run":
            if self.unfinished != line.get("settings") or bool(line.get("overwrite")) != self.overwrite:
                self.settled.clear()
            self.unfinished, self.overwrite = line.get("settings"), bool(line.get("overwrite"))
            self.options = line.get("options") or {}
        elif state == "ended":
            self.unfinished = None
            self.settled.clear()
        elif "photo" in line:
            self.latest[line["photo"]] = line
            if state in ("done", "failed"):
                self.settled.add(line["photo"])


class Manifest:
    """The manifest of an output folder, and the list of failures beside it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.path, self.failures = root / MANIFEST, root / FAILURES
        self._stream: int | None = None
        self.histories: dict[str, History] = {}
        for book in (self.path, self.failures):
            if book.is_symlink():  # it would be added to, cut and removed wherever it is
                raise UsageError(f"{book}: is a link; books are kept in the folder itself, so remove it")
        for line in lines(self.path):
            self._remember(line)

    def history(self, task: str) -> History:
        return self.histories.setdefault(task, History())

    def results(self) -> set[Path]:
        """Every file that was ever written by a batch into this folder."""
        return {
            self.root / file
            for history in self.histories.values()
            for line in history.latest.values()
            for file in (line.get("files") or {}).values()
        }

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Hold the folder against other batches, and let lines be added.

        Raises:
            UsageError: another batch is at work in this folder.
            OSError: nothing can be written there.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        with _held(self.root):
            _cut_to_whole_lines(self.path)
            self._stream = os.open(self.path, ADDING, 0o666)
            try:
                yield
            finally:
                os.close(self._stream)
                self._stream = None

    def add(self, line: Record) -> None:
        """Append a line; it is on the disk when this returns."""
        assert self._stream is not None
        _append(self._stream, line)
        self._remember(line)

    def add_failure(self, line: Record) -> None:
        """Append a line to failures.jsonl."""
        stream = os.open(self.failures, ADDING, 0o666)
        try:
            _append(stream, failure_line(line))
        finally:
            os.close(stream)

    def rewrite_failures(self, retried: set[tuple[str, str]]) -> None:
        """Let failures.jsonl hold what the manifest says has failed and is not, as (task, photo), tried again now."""
        failed = [
            failure_line(line)
            for task, history in self.histories.items()
            for photo, line in history.latest.items()
            if line["state"] == "failed" and (task, photo) not in retried
        ]
        if failed:
            write_text(self.failures, "".join(json.dumps(line) + "\n" for line in failed))
        elif self.failures.exists():
            self.failures.unlink()

    def _remember(self, line: Record) -> None:
        self.history(line.get("task", "")).add(line)


def failure_line(line: Record) -> Record:
    return {key: line[key] for key in ("photo", "task", "error", "input", "traceback", "at") if key in line}


def lines(path: Path) -> Iterator[Record]:
    """The lines of a manifest; none of a file that is missing, and none that was cut off by a crash.

    Raises:
        UsageError: the file is something else.
    """
    try:
        content = content_of(path, LARGEST, UsageError) if path.exists() else b""
    except (OSError, UsageError) as error:
        why = str(error) if isinstance(error, UsageError) else f"{path}: cannot be read ({error.strerror})"
        raise UsageError(f"{why}; choose another folder with -o") from error
    for number, line in enumerate(content.splitlines()):
        try:
            found = json.loads(line)
            known = isinstance(found, dict) and "state" in found and _is_sound(found)
        except (ValueError, RecursionError):
            known = False
        if known:
            yield found
        elif number == 0 and content.count(b"\n"):
            raise UsageError(f"{path}: not written by sgmatte, which keeps its own books under this name; move it away")


def _is_sound(line: Record) -> bool:
    """Whether the fields of a line have their types, and its files lie in the folder: it may come from anyone."""
    if not all(isinstance(line.get(key, ""), str) for key in TEXTS):
        return False
    if not all(isinstance(line.get(key) or {}, dict) for key in TABLES):
        return False
    if line["state"] == "failed" and "error" not in line:
        return False
    files = (line.get("files") or {}).values()
    return all(isinstance(file, str) and "\0" not in file and _is_inside(Path(file)) for file in files)


def _is_inside(file: Path) -> bool:
    return not file.is_absolute() and ".." not in file.parts


def settings_hash(task: str, options: Mapping[str, Any], version: str) -> str:
    """What results depend on besides the photo, as 16 hex digits."""
    text = json.dumps([task, version, options], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def input_of(photo: Path) -> Record:
    """Size, time and sha256 of a photo's file.

    Raises:
        OSError: it cannot be read.
    """
    with photo.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256") if hasattr(hashlib, "file_digest") else _digest(stream)
        status = os.fstat(stream.fileno())
    return {"bytes": status.st_size, "mtime_ns": status.st_mtime_ns, "sha256": digest.hexdigest()}


def is_unchanged(photo: Path, known: Mapping[str, Any] | None) -> bool:
    """Whether a photo is the one that `input_of` described; its content is read only where size or time differ."""
    try:
        status = photo.stat()
        if not known:
            return False
        if (status.st_size, status.st_mtime_ns) == (known.get("bytes"), known.get("mtime_ns")):
            return True
        return status.st_size == known.get("bytes") and input_of(photo)["sha256"] == known.get("sha256")
    except OSError:
        return known is None


def are_there(job: Job) -> bool:
    """Whether a photo has all its results. Their content is not compared: people correct trimaps by hand."""
    try:
        return all(file.stat().st_size for file in job.files.values())
    except OSError:
        return False


def now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")


def _digest(stream: Any) -> Any:
    digest = hashlib.sha256()
    while chunk := stream.read(1 << 20):
        digest.update(chunk)
    return digest


def _append(stream: int, line: Record) -> None:
    """One write, so that lines of several processes never mix; a part of a line is never left in the file."""
    content = json.dumps(line, default=str).encode() + b"\n"
    before = os.fstat(stream).st_size
    try:
        written = os.write(stream, content)
        if written < len(content):
            os.write(stream, content[written:])
        os.fsync(stream)
    except OSError:
        os.ftruncate(stream, before)
        raise


def _cut_to_whole_lines(path: Path) -> None:
    """Remove a last line that a crash cut off."""
    if not path.exists():
        return
    with path.open("r+b") as stream:
        content = stream.read()
        if content and not content.endswith(b"\n"):
            stream.truncate(content.rfind(b"\n") + 1)


@contextmanager
def _held(root: Path) -> Iterator[None]:
    """The lock lies in the per-user cache, where it litters no output folder, and the system lifts it when we die."""
    from filelock import FileLock, Timeout

    from sgmatte.manifest import home

    locks = home() / "locks"
    try:
        locks.mkdir(parents=True, exist_ok=True)
        lock = FileLock(locks / f"{hashlib.sha256(os.fsencode(root.resolve())).hexdigest()[:24]}.lock")
        lock.acquire(timeout=0)
    except Timeout:
        raise UsageError(f"{root}: another batch is at work in this folder; wait for it, or choose another") from None
    except OSError as error:
        raise SgmatteError(
            f"{locks}: cannot be written ({error.strerror}); set SGMATTE_HOME to a folder that can"
        ) from error
    try:
        yield
    finally:
        lock.release()
