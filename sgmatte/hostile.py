"""Files that others made, before anything reads them: how large they are, and that they are files at all.

Every reader of sgmatte begins here. What a file then claims about itself is checked by the reader of its kind:
photo.py with containers.py, archive.py (zip), checkpoint.py (torch), tensorfile.py (safetensors), nn/openvino_ir.py,
manifest.py.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from sgmatte.errors import SgmatteError

MAX_PIXELS = 100_000_000  # of a photo, unless the user says otherwise


def file_size(path: Path, most: int, error: type[SgmatteError]) -> int:
    """Bytes of a regular file, known before any of them is read.

    Raises:
        error: there is no such file, it is a folder, a pipe or a device (whose reading might never end), or it has more
            than `most` bytes.
    """
    try:
        status = os.stat(path)
    except (OSError, ValueError) as problem:  # ValueError: a name with a NUL in it
        why = (
            "no such file" if isinstance(problem, FileNotFoundError) else getattr(problem, "strerror", None) or problem
        )
        raise error(f"{path}: {why}") from problem
    if not stat.S_ISREG(status.st_mode):
        raise error(f"{path}: {'is a folder' if stat.S_ISDIR(status.st_mode) else 'is no regular file'}")
    if status.st_size > most:
        raise error(f"{path}: has {status.st_size / 1e6:.0f} MB, more than any of its kind ({most / 1e6:.0f} MB)")
    return status.st_size


def content(path: Path, most: int, error: type[SgmatteError]) -> bytes:
    """All bytes of a regular file of at most `most`; raises like `file_size`, and `error` where it cannot be read."""
    file_size(path, most, error)
    try:
        with path.open("rb") as stream:
            found = stream.read(most + 1)  # it may have grown since
    except OSError as problem:
        raise error(f"{path}: cannot be read ({problem.strerror})") from problem
    if len(found) > most:
        raise error(f"{path}: grows while it is read")
    return found


def printable(text: str, most: int = 200) -> str:
    """`text` out of a file, fit for a terminal: escape sequences and line breaks shown as what they are, and cut."""
    shown = "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text[: most + 1])
    return shown if len(text) <= most and len(shown) <= 4 * most else f"{shown[:most]}..."
