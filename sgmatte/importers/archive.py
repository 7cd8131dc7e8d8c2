"""Checkpoints in the file that a user has downloaded: one by itself, or the three of SMPEG's zip."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sgmatte.checkpoint import checkpoint, unpickled
from sgmatte.errors import WeightError

MEMBERS = ("ckpt/stylegan2-ffhq-config-f.pt", "ckpt/gca-dist-all-data.pth", "ckpt/deeplab_model_best.pth.tar")
LARGEST = 2**30  # bytes of a member once unpacked; the largest is said to have 474 MB


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
    known = [member for member in MEMBERS if member in names]
    if not known:
        raise WeightError(
            f"{file}: a zip with none of {', '.join(MEMBERS)}; it holds {', '.join(map(repr, names[:4]))}"
        )
    for member in known:
        yield member, unpickled(io.BytesIO(_member(file, member)), f"{file}: {member}")


def _names(file: Path) -> list[str]:
    """The members that a zip lists; none if it is no zip, or cannot be read."""
    try:
        with zipfile.ZipFile(file) as archive:
            return archive.namelist()
    except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile):
        return []


def _member(file: Path, name: str) -> bytes:
    try:
        with zipfile.ZipFile(file) as archive:
            if archive.getinfo(name).file_size > LARGEST:  # nothing beyond what it claims is unpacked
                raise WeightError(
                    f"{file}: {name} claims more than {LARGEST >> 20} MB, which no checkpoint of SMPEG has"
                )
            return archive.read(name)
    except (OSError, EOFError, ValueError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise WeightError(f"{file}: {name} cannot be read ({error}); download the zip again") from error
