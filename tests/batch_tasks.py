"""A task for batches that computes nothing: what becomes of a photo stands in the photo."""

from __future__ import annotations

import errno
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sgmatte.batch.attempts import Work
from sgmatte.batch.names import Job
from sgmatte.errors import PhotoError, WeightError
from sgmatte.files import write_text
from sgmatte.generation.run import Draw
from sgmatte.observers import Observe


@dataclass(frozen=True)
class Copies:
    """Writes each photo's text, and how many threads a worker has, to its files; some texts are orders."""

    word: str = "copied"

    def worker(self) -> Work:
        def work(job: Job, observe: Observe) -> dict[str, Any]:
            text = job.photo.read_text()
            obey(text, job.photo)
            for file in job.files.values():
                write_text(file, f"{self.word} {text} {os.environ.get('OMP_NUM_THREADS')}")
            return {"files": {kind: str(file) for kind, file in job.files.items()}, "size": [1, 2], "notes": []}

        return work


def obey(text: str, photo: Path) -> None:
    if text == "broken":
        raise PhotoError(f"{photo}: broken")
    if text == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if text == "die once" and not photo.with_suffix(".died").exists():
        photo.with_suffix(".died").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if text == "no weights":
        raise WeightError("the weights are missing")
    if text == "bug":
        raise ZeroDivisionError("oh")
    if text == "memory":
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")
    if text == "slow":
        time.sleep(60)
    if text.startswith("E"):
        number = getattr(errno, text)
        try:
            raise OSError(number, os.strerror(number), str(photo))
        except OSError as error:
            raise PhotoError(f"{photo}: {error.strerror}") from error


@dataclass(frozen=True)
class Coins:
    """Portraits without a network: `good` ones are files of their number, the others are refused."""

    good: tuple[int, ...]
    weights: str = "a"

    def worker(self) -> Work:
        def work(job: Job, observe: Observe) -> dict[str, Any]:
            assert isinstance(job, Draw)
            time.sleep(0.02 * (job.index % 3))  # the first to begin is not the first to end
            found = {"scores": {"luck": job.index}, "core_seconds": 0.5, "weights": {"file": self.weights}}
            if job.index not in self.good:
                return {"state": "refused", "reasons": ["tails"], "files": {}} | found
            for file in job.files.values():
                write_text(file, str(job.index))
            return {"state": "done", "reasons": [], "files": {k: str(f) for k, f in job.files.items()}} | found

        return work
