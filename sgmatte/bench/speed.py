"""What a user waits for and what the machine must hold: wall time and peak memory of whole commands."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sgmatte.errors import SgmatteError


@dataclass(frozen=True)
class Cost:
    """Of one command from start to exit, in a process of its own."""

    command: str
    seconds: float
    peak_mb: float  # resident memory, in 10^6 bytes


def cost(arguments: Sequence[str]) -> Cost:
    """Run `sgmatte ARGUMENTS` with its output in a temporary folder and measure it.

    Raises:
        SgmatteError: the command failed; the message is its own.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "sgmatte", *arguments, "--out-dir", folder, "--quiet"]
        started = time.monotonic()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        assert process.stderr is not None
        told = process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)  # unlike RUSAGE_CHILDREN, the peak of this child alone
        seconds = time.monotonic() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SgmatteError(f"`sgmatte {' '.join(arguments)}` failed: {told.strip() or process.returncode}")
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss is in bytes on macOS, in KiB elsewhere
    return Cost(" ".join(arguments[:-1]), seconds, usage.ru_maxrss * unit / 1e6)


def costs(photo: Path, sizes: Sequence[int]) -> list[Cost]:
    """Costs of `matte` and of `enhance` at each generator size, for one photo."""
    commands = [["matte"], *(["enhance", "--size", str(size)] for size in sizes)]
    return [cost([*command, str(photo)]) for command in commands]
