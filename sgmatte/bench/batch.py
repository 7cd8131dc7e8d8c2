"""What batches promise: nothing is lost under `kill -9`, jobs share the cores, Ray gives the same bytes."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from sgmatte.batch.manifest import FAILURES, MANIFEST, lines
from sgmatte.bench.batch_photos import Made
from sgmatte.errors import SgmatteError

Observe = Callable[[int, int], None]
"""Called as (done, total)."""

PATIENCE = 900  # seconds
KINDS = {"trimap": "trimap", "matte": "alpha"}


@dataclass(frozen=True)
class Killed:
    """What a batch that was killed again and again has come to."""

    kills: int
    seconds: float
    good: int
    broken: int
    complete: int  # good photos with a result of their size, and one line in the manifest
    reported: int  # broken ones with one line in the manifest and one in failures.jsonl
    interrupted: int  # photos that were being worked on when a run was killed
    leftovers: tuple[str, ...]  # files in the output folder that are no results
    exit_code: int  # of the last run, which went through

    @property
    def is_flawless(self) -> bool:
        whole = (self.complete, self.reported) == (self.good, self.broken)
        return whole and not self.leftovers and self.exit_code == (1 if self.broken else 0)


def killed_batch(
    made: Made, out: Path, command: str, kills: int, seed: int = 0, jobs: int = 1, observe: Observe = lambda *_: None
) -> Killed:
    """Run `sgmatte COMMAND` on photos, kill it at random moments, run it again each time, and look at what is there.

    Kills are spread over the whole work; every fifth comes while a run is still starting. A run that is through before
    it can be killed is the last.
    """
    rng = random.Random(seed)
    count = len(made.good) + len(made.broken)
    targets = sorted(rng.randrange(count) for _ in range(kills))
    started = time.monotonic()
    done_kills = 0
    for k, target in enumerate(targets):
        process = _started(made, out, command, jobs)
        if k % 5 == 4:
            time.sleep(rng.uniform(0, 4))
        else:
            _wait_for(target, out, process)
            time.sleep(rng.uniform(0, 0.4))
        if any(line["state"] == "ended" for line in lines(out / MANIFEST)):
            break
        done_kills += process.poll() is None
        process.kill()
        process.wait()
        observe(settled(out), count)
    else:
        process = _started(made, out, command, jobs)
    while process.poll() is None:
        time.sleep(0.5)
        observe(settled(out), count)
    return _judged(made, out, command, done_kills, time.monotonic() - started, process.returncode)


def _started(made: Made, out: Path, command: str, jobs: int) -> subprocess.Popen[bytes]:
    arguments = [command, str(made.folder), "--recursive", "-o", str(out), "--jobs", str(jobs), "--quiet"]
    return subprocess.Popen(
        [sys.executable, "-m", "sgmatte", *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def settled(out: Path) -> int:
    """Photos that the manifest is through with."""
    return sum(line["state"] in ("done", "failed") for line in lines(out / MANIFEST))


def _wait_for(target: int, out: Path, process: subprocess.Popen[bytes]) -> None:
    """Until the manifest is through with so many photos, or the batch has ended."""
    end = time.monotonic() + PATIENCE
    while settled(out) < target and process.poll() is None:
        if time.monotonic() > end:
            process.kill()
            raise SgmatteError(f"the batch has not moved for {PATIENCE} s")
        time.sleep(0.1)


def _judged(made: Made, out: Path, command: str, kills: int, seconds: float, exit_code: int) -> Killed:
    kind = KINDS[command]
    told: Counter[tuple[str, str]] = Counter((line["photo"], line["state"]) for line in _photo_lines(out))
    listed = Counter(json.loads(line)["photo"] for line in _text(out / FAILURES).splitlines())
    results = {photo: _result(made, out, photo, kind) for photo in made.good}
    complete = sum(
        told[str(photo), "done"] == 1 and not told[str(photo), "failed"] and _is_whole(photo, result)
        for photo, result in results.items()
    )
    reported = sum(
        told[str(photo), "failed"] == 1 and listed[str(photo)] == 1 and not told[str(photo), "done"]
        for photo in made.broken
    )
    expected = {*results.values(), out / MANIFEST, out / FAILURES}
    leftovers = tuple(str(f) for f in sorted(out.rglob("*")) if f.is_file() and f not in expected)
    twice = sum(count > 1 for (_, state), count in told.items() if state == "started")
    return Killed(kills, seconds, len(made.good), len(made.broken), complete, reported, twice, leftovers, exit_code)


def _photo_lines(out: Path) -> list[dict[str, str]]:
    return [line for line in lines(out / MANIFEST) if "photo" in line]


def _text(file: Path) -> str:
    return file.read_text(encoding="utf-8") if file.exists() else ""


def _result(made: Made, out: Path, photo: Path, kind: str) -> Path:
    return out / photo.relative_to(made.folder).parent / f"{photo.stem}_{kind}.png"


def _is_whole(photo: Path, result: Path) -> bool:
    try:
        with Image.open(photo) as given, Image.open(result) as made:
            made.load()
            return given.size == made.size
    except OSError:
        return False


@dataclass(frozen=True)
class Cost:
    """Of one whole batch, start-up included."""

    seconds: float
    memory_mb: float | None  # the largest sum over its processes, pages that they share counted once; Linux tells it


def batch_cost(photos: Sequence[Path], out: Path, command: str, jobs: int, threads: int, engine: str = "local") -> Cost:
    """Time and memory of `sgmatte COMMAND` on photos, in `jobs` processes; with one, in `threads` threads.

    Raises:
        SgmatteError: it failed.
    """
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "passive"}
    arguments = [command, *map(str, photos), "-o", f"{out}/", "--jobs", str(jobs), "--engine", engine, "--quiet"]
    started = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "sgmatte", *arguments], stdout=subprocess.DEVNULL, env=environment
    )
    most = 0.0
    while process.poll() is None:
        most = max(most, sum(_shared_out(number) for number in _family(process.pid)))
        time.sleep(0.1)
    if process.returncode:
        raise SgmatteError(f"`sgmatte {' '.join(arguments[:1])}` failed with exit code {process.returncode}")
    return Cost(time.monotonic() - started, most or None)


def same_bytes(one: Path, other: Path) -> bool:
    """Whether two output folders hold the same pictures."""
    names = [{file.relative_to(folder) for file in folder.rglob("*.png")} for folder in (one, other)]
    return names[0] == names[1] and all((one / name).read_bytes() == (other / name).read_bytes() for name in names[0])


def _family(process: int) -> list[int]:
    """A process and all that it has started, by what /proc says."""
    children: dict[int, list[int]] = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = status.read_text()
        except OSError:
            continue
        parent = int(text.rpartition(")")[2].split()[1])
        children.setdefault(parent, []).append(int(status.parent.name))
    found, left = [], [process]
    while left:
        found.append(left.pop())
        left += children.get(found[-1], [])
    return found


def _shared_out(process: int) -> float:
    """Memory of a process in 10^6 bytes, each page divided by the number of processes that share it."""
    try:
        text = Path(f"/proc/{process}/smaps_rollup").read_text()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) * 1024 / 1e6 for line in text.splitlines() if line.startswith("Pss:")), 0.0)
