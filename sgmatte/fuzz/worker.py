"""A process that reads hostile files and may die of it.

`python -m sgmatte.fuzz.worker CORPUS SCRATCH SEED TARGET=MODULE:NAME ...`: targets and numbers of inputs come in on
stdin, a line for each input; of each, one line of JSON goes out. Whoever started it watches its memory, and the time
between lines.
"""

from __future__ import annotations

import importlib
import json
import random
import re
import shutil
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from sgmatte.device import peak_memory_mb
from sgmatte.errors import SgmatteError
from sgmatte.fuzz.mutations import Files, mutated

STATUS = Path("/proc/self/status")
CLEAR = Path("/proc/self/clear_refs")


def input_files(corpus: list[Files], target: str, seed: int, number: int) -> dict[str, bytes]:
    """Input `number` of a target: the corpus itself first, as it is, then damaged."""
    if number < len(corpus):
        return dict(corpus[number])
    rng = random.Random(f"{seed}/{target}/{number}")
    return mutated(rng.choice(corpus), corpus, rng)


def stored_corpus(folder: Path) -> list[Files]:
    """The sound files of a target, in folders with a number each."""
    return [
        {file.name: file.read_bytes() for file in sorted(each.iterdir())}
        for each in sorted(folder.iterdir(), key=lambda path: int(path.name))
    ]


def written(files: Files, folder: Path) -> None:
    """Put `files` into `folder`, and nothing else."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)


def outcome(read: Callable[[Path], None], folder: Path) -> tuple[str, str]:
    """("read" | "refused" | "crash", why): a SgmatteError on one line is what a hostile file is to meet."""
    try:
        read(folder)
    except SgmatteError as error:
        message = str(error)
        if not message or "\n" in message or len(message) > 2000:
            return "crash", f"its message is no single line: {message[:200]!r}"
        return "refused", message
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        return "crash", "".join(traceback.format_exception(error)[-6:])
    return "read", ""


class Peak:
    """Largest resident memory of this process, in 10^6 bytes: where the system allows, since the last `reset`."""

    def reset(self) -> None:
        with suppress(OSError):  # not Linux: the largest so far counts, for this input and all after it
            CLEAR.write_text("5")

    def megabytes(self) -> float:
        try:
            found = re.search(r"VmHWM:\s+(\d+) kB", STATUS.read_text())
        except OSError:
            found = None
        return int(found[1]) * 1024 / 1e6 if found else peak_memory_mb() or 0.0


def main() -> None:
    corpus_folder, scratch, seed, *named = sys.argv[1:]
    readers = {}
    for target, _, place in (each.partition("=") for each in named):
        module, _, name = place.partition(":")
        readers[target] = getattr(importlib.import_module(module), name)
    corpora = {target: stored_corpus(Path(corpus_folder) / target) for target in readers}
    peak, folder = Peak(), Path(scratch)
    reports = open(1, "w", buffering=1, closefd=False)  # noqa: SIM115, lives as long as the process
    sys.stdout = sys.stderr  # what readers print is no report
    print(json.dumps({"ready": True}), file=reports)
    for line in sys.stdin:
        target, number = line.split()
        written(input_files(corpora[target], target, int(seed), int(number)), folder)
        peak.reset()
        started = time.process_time()
        kind, why = outcome(readers[target], folder)
        seconds = time.process_time() - started
        told = {"kind": kind, "why": why, "seconds": seconds, "peak_mb": peak.megabytes()}
        print(json.dumps(told), file=reports)


if __name__ == "__main__":
    main()
