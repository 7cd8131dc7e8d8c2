"""Checkpoints in the file that a user has downloaded: one by itself, or the three of SMPEG's zip."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sgmatte.archive import is_zip, member, opened_zip
from sgmatte.checkpoint import checkpoint, unpickled
from sgmatte.errors import WeightError
from sgmatte.hostile import file_size, printable

MEMBERS = ("ckpt/stylegan2-ffhq-config-f.pt", "ckpt/gca-dist-all-data.pth", "ckpt/deeplab_model_best.pth.tar")
LARGEST = 2**30  # bytes of a member once unpacked; the largest is said to have 474 MB
LARGEST_FILE = 4 << 30  # bytes of the zip


def checkpoints(file: Path) -> Iterator[tuple[str, Any]]:
    """What each checkpoint in `file` holds, and the member of the zip that it is; "" for one that is the file itself.

    A zip's members are asked for by the names in MEMBERS and unpacked one at a time into memory, whatever else the zip
    lists: no name of its own reaches the disk.

    Raises:
        WeightError: the file cannot be read or is damaged, a member is larger than LARGEST or no plain checkpoint, or
            it is a zip without any of the members.
    """
    names = _names(file)
    if any(name.rpartition("/")[2] == "data.pkl" for name in names) or not names:  # torch's own files are zips too
        yield "", checkpoint(file)
        return
    known = [name for name in MEMBERS if name in names]
    if not known:
        held = ", ".join(repr(printable(name)) for name in names[:4])
        raise WeightError(f"{file}: a zip with none of {', '.join(MEMBERS)}; it holds {held}")
    for name in known:
        yield name, unpickled(io.BytesIO(_member(file, name)), f"{file}: {name}")


def _names(file: Path) -> list[str]:
    """The members that a zip lists; none if it is no zip."""
    file_size(file, LARGEST_FILE, WeightError)
    try:
        with file.open("rb") as stream:
            if not is_zip(stream):
                return []
            with opened_zip(stream, str(file)) as archive:
                return archive.namelist()
    except OSError as error:
        raise WeightError(f"{file}: {error.strerror}") from error


def _member(file: Path, name: str) -> bytes:
    try:
        with file.open("rb") as stream, opened_zip(stream, f"{file}: {name}") as archive:
            if archive.getinfo(name).file_size > LARGEST:
                raise WeightError(
                    f"{file}: {name} claims more than {LARGEST >> 20} MB, which no checkpoint of SMPEG has"
                )
            return member(archive, name, LARGEST)
    except WeightError as error:
        raise WeightError(f"{error}; download the zip again") from error
