"""Do hostile files get one clear line from every reader, in bounded time and memory?

Readers run in a process of their own; one that dies, hangs or takes too much memory is ended, its input kept, and
another goes on with the next.
"""

from __future__ import annotations

import json
import math
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sgmatte.errors import UsageError
from sgmatte.fuzz.mutations import Files
from sgmatte.fuzz.worker import input_files, stored_corpus, written
from sgmatte.observers import Observe

START_SECONDS = 300.0  # for a process to import torch, on a busy machine
WATCH_SECONDS = 0.1  # between two looks at the memory of a process that has not answered
PATIENCE = 6  # times the limit of processor time that an answer may take by the clock: other processes want to run too
MOST_ERRORS_KB = 4  # of what a dying process has said


@dataclass(frozen=True)
class Limits:
    seconds: float = 10.0  # of processor time, for one input
    memory_mb: float = 2000.0  # resident, in 10^6 bytes, the process itself included


@dataclass(frozen=True)
class Finding:
    """An input that was not answered as it should have been."""

    target: str
    number: int
    kind: str  # "crash", "hang" or "memory"
    why: str
    files: Path | None = None  # where the input was kept


@dataclass
class Tally:
    """What became of a target's inputs."""

    target: str
    inputs: int = 0
    read: int = 0
    refused: int = 0
    seconds: float = 0.0
    slowest: float = 0.0
    peak_mb: float = 0.0
    findings: list[Finding] = field(default_factory=list)


def fuzzed(
    readers: Mapping[str, str],
    corpora: Mapping[str, Sequence[Files]],
    inputs: int,
    *,
    seed: int = 0,
    minutes: float | None = None,
    limits: Limits = Limits(),
    keep: Path | None = None,
    observe: Observe | None = None,
) -> list[Tally]:
    """Run `inputs` inputs, shared evenly by the targets, or fewer where `minutes` are over.

    Args:
        readers: for each target the function that reads a folder with an input, as "module:name".
        corpora: the sound files of each target, which are the first of its inputs.
        keep: where inputs with findings are put, as <target>-<number>/.

    Raises:
        UsageError: no process can be started, or it cannot read even the first sound file's folder.
    """
    ends = time.monotonic() + 60 * minutes if minutes else math.inf
    tallies = []
    with tempfile.TemporaryDirectory(prefix="sgmatte-fuzz-") as folder, ExitStack() as stack:
        scratch = Path(folder)
        for target in readers:
            for number, files in enumerate(corpora[target]):
                written(files, scratch / "corpus" / target / str(number))
        workers = _Workers(readers, scratch, seed, stack)
        for place, target in enumerate(readers):
            share = inputs // len(readers) + (place < inputs % len(readers))
            now = time.monotonic()  # a target must not take the time of those after it
            until = now + (ends - now) / (len(readers) - place)
            tallies.append(_tally(target, workers, share, until, limits, observe))
            if keep:
                _keep(tallies[-1], stored_corpus(scratch / "corpus" / target), seed, keep)
    return tallies


def _tally(target: str, workers: _Workers, inputs: int, until: float, limits: Limits, observe: Observe | None) -> Tally:
    tally, began = Tally(target), time.monotonic()
    for number in range(inputs):
        if time.monotonic() > until:
            break
        _count(tally, number, workers.answer(target, number, limits), limits)
        if observe and (number % 20 == 19 or number == inputs - 1):
            observe(target, number + 1, inputs)
    tally.seconds = round(time.monotonic() - began, 1)
    return tally


def _count(tally: Tally, number: int, answer: Mapping[str, Any], limits: Limits) -> None:
    tally.inputs += 1
    tally.slowest = max(tally.slowest, answer["seconds"])
    tally.peak_mb = max(tally.peak_mb, answer["peak_mb"])
    kind, why = answer["kind"], answer["why"]
    if kind in ("read", "refused") and answer["peak_mb"] > limits.memory_mb:
        kind, why = "memory", f"{answer['peak_mb']:.0f} MB; {kind} {why}"
    if kind in ("read", "refused") and answer["seconds"] > limits.seconds:
        kind, why = "hang", f"{answer['seconds']:.1f} s; {kind} {why}"
    if kind == "read":
        tally.read += 1
    elif kind == "refused":
        tally.refused += 1
    else:
        tally.findings.append(Finding(tally.target, number, kind, why))


def _keep(tally: Tally, corpus: list[Files], seed: int, folder: Path) -> None:
    """Put the inputs with findings into `folder`, and note where."""
    for k, found in enumerate(tally.findings):
        place = folder / f"{found.target}-{found.number}"
        written(input_files(corpus, found.target, seed, found.number), place)
        tally.findings[k] = replace(found, files=place)


class _Workers:
    """One process at a time, replaced when it has ended."""

    def __init__(self, readers: Mapping[str, str], scratch: Path, seed: int, stack: ExitStack) -> None:
        self._stack = stack
        named = [f"{target}={place}" for target, place in readers.items()]
        self._arguments = [str(scratch / "corpus"), str(scratch / "input"), str(seed), *named]
        self._home = scratch / "home"  # what is imported, goes there
        self._worker: _Worker | None = None

    def answer(self, target: str, number: int, limits: Limits) -> dict[str, Any]:
        """What became of an input."""
        if self._worker is None or self._worker.ended:
            self._worker = self._stack.enter_context(_Worker(self._arguments, self._home))
        return self._worker.answer(target, number, limits)


class _Worker:
    """A process of sgmatte.fuzz.worker."""

    def __init__(self, arguments: Sequence[str], home: Path) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115, closed on leaving
        self._process = subprocess.Popen(
            [sys.executable, "-m", "sgmatte.fuzz.worker", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={**os.environ, "SGMATTE_HOME": str(home), "PYTHONFAULTHANDLER": "1"},
        )
        self._pending = b""
        self.ended = False

    def __enter__(self) -> _Worker:
        ready = self._line(START_SECONDS, math.inf)
        if not isinstance(ready, dict) or not ready.get("ready"):
            said = self._said()
            self.__exit__()
            raise UsageError(f"the reader cannot be started: {' '.join(said.split()[-40:]) or 'it says nothing'}")
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            if stream:
                stream.close()

    def answer(self, target: str, number: int, limits: Limits) -> dict[str, Any]:
        """What became of an input; afterwards `ended` says whether the process is still of use."""
        assert self._process.stdin
        started = time.monotonic()
        try:
            self._process.stdin.write(f"{target} {number}\n".encode())
            self._process.stdin.flush()
            found = self._line(limits.seconds, limits.memory_mb)
        except BrokenPipeError:
            found = None
        if isinstance(found, dict):
            return found
        self.ended = True
        told = {"seconds": time.monotonic() - started, "peak_mb": 0.0}
        if isinstance(found, float):
            return {**told, "kind": "memory", "why": f"more than {found:.0f} MB, ended", "peak_mb": found}
        if found == "hang":
            return {**told, "kind": "hang", "why": f"no answer after {told['seconds']:.0f} s, ended"}
        code = self._process.wait()
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        return {**told, "kind": "crash", "why": f"the process died ({how}): {self._said()}"}

    def _line(self, seconds: float, memory_mb: float) -> dict[str, Any] | float | str | None:
        """The next line; or the memory that was too much, or "hang", or None from a process that has died."""
        assert self._process.stdout
        handle, ends = self._process.stdout.fileno(), time.monotonic() + PATIENCE * seconds
        busy = _processor_seconds(self._process.pid) + seconds
        while b"\n" not in self._pending:
            if time.monotonic() > ends or _processor_seconds(self._process.pid) > busy:
                return "hang"
            if not select.select([handle], [], [], WATCH_SECONDS)[0]:
                resident = _resident_mb(self._process.pid)
                if resident > memory_mb:
                    return resident
                continue
            chunk = os.read(handle, 1 << 16)
            if not chunk:
                return None
            self._pending += chunk
        line, _, self._pending = self._pending.partition(b"\n")
        found = json.loads(line)
        assert isinstance(found, dict)
        return found

    def _said(self) -> str:
        size = self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(0, size - MOST_ERRORS_KB * 1024))
        return self._errors.read().decode("utf-8", "replace").strip()


def _processor_seconds(pid: int) -> float:
    """Processor time of another process so far; 0 where the system does not tell, or it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _resident_mb(pid: int) -> float:
    """Resident memory of another process, in 10^6 bytes; 0 where the system does not tell, or it has ended."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
