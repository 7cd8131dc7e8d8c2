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

from PIL import Image

from sgmatte.errors import SgmatteError


@dataclass(frozen=True)
class Cost:
    """Of one command from start to exit, in a process of its own."""

    command: str
    seconds: float
    peak_mb: float  # resident memory, in 10^6 bytes


def cost(label: str, arguments: Sequence[str]) -> Cost:
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
    return Cost(label, seconds, usage.ru_maxrss * unit / 1e6)


def costs(photo: Path, sizes: Sequence[int], many: Sequence[Path] = (), megapixels: float | None = None) -> list[Cost]:
    """Costs of `matte` and, at each generator size, of `enhance` for one photo; of `matte` for `many` of them at once,
    and for the photo enlarged to `megapixels`."""
    found = [cost("matte", ["matte", str(photo)])]
    found += [cost(f"enhance --size {size}", ["enhance", "--size", str(size), str(photo)]) for size in sizes]
    if many:
        found.append(cost(f"matte, {len(many)} photos", ["matte", *map(str, many)]))
    if megapixels:
        with tempfile.TemporaryDirectory() as folder:
            large = enlarged(photo, megapixels, Path(folder))
            found.append(cost(f"matte, {megapixels:g} megapixels", ["matte", str(large)]))
    return found


def enlarged(photo: Path, megapixels: float, folder: Path) -> Path:
    """A JPEG in `folder` of so many megapixels that shows `photo`."""
    with Image.open(photo) as image:
        scale = (megapixels * 1e6 / (image.width * image.height)) ** 0.5
        size = (round(image.width * scale), round(image.height * scale))
        path = folder / f"{photo.stem}.jpg"
        image.convert("RGB").resize(size, Image.Resampling.BICUBIC).save(path, quality=92)
    return path
