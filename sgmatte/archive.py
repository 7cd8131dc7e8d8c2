"""Zips that others made (wheels, SMPEG's checkpoints, torch's own files), read without believing what they say.

Members are asked for by names of our own, and unpacked into memory up to a size of our own: no name of an archive
reaches the disk, and a bomb is cut off.
"""

from __future__ import annotations

import os
import struct
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from sgmatte.errors import WeightError
from sgmatte.hostile import printable

LARGEST_DIRECTORY = 4 << 20  # bytes; 30 000 members, of which each becomes an object of Python
BEGINNING, END, END_64 = b"PK\3\4", b"PK\5\6", b"PK\6\6"
TAIL = 22 + (1 << 16)  # bytes in which the end record lies, the longest comment behind it


@contextmanager
def opened_zip(stream: IO[bytes], name: str) -> Iterator[zipfile.ZipFile]:
    """The zip in `stream`, its directory of a size that can be read; whatever goes wrong inside is a WeightError.

    Raises:
        WeightError: `name` is no zip, is damaged, or has a directory of more than LARGEST_DIRECTORY bytes.
    """
    try:
        if _directory_bytes(stream) > LARGEST_DIRECTORY:
            raise WeightError(f"{name}: a zip that claims more members than any checkpoint has")
        with zipfile.ZipFile(stream) as archive:
            yield archive
    except WeightError:
        raise
    except Exception as error:  # zipfile and its decompressors raise whatever the damaged bytes lead them to
        raise WeightError(
            f"{name}: cannot be read as the zip it should be ({printable(str(error)) or type(error).__name__})"
        ) from error


def member(archive: zipfile.ZipFile, name: str, most: int) -> bytes:
    """The content of a member, whatever size the directory claims; of a longer one, `most` + 1 bytes.

    Raises:
        KeyError, zipfile.BadZipFile and others, which `opened_zip` turns into a WeightError.
    """
    with archive.open(name) as stream:
        return stream.read(most + 1)


def is_zip(stream: IO[bytes]) -> bool:
    """Whether `stream` begins as zips do, which is what torch goes by; afterwards it is at its beginning."""
    stream.seek(0)
    found = stream.read(4) == BEGINNING
    stream.seek(0)
    return found


def _directory_bytes(stream: IO[bytes]) -> int:
    """The size of the directory by the end record, or by that of zip64 before it; 0 where there is neither."""
    size = stream.seek(0, os.SEEK_END)
    stream.seek(max(0, size - TAIL - 76))  # 76: of zip64, the end record and its locator
    tail = stream.read()
    stream.seek(0)
    claims = []
    for mark, at, kind in ((END, 12, "<I"), (END_64, 40, "<Q")):
        place = tail.rfind(mark)
        if place >= 0 and place + at + struct.calcsize(kind) <= len(tail):
            claims.append(struct.unpack_from(kind, tail, place + at)[0])
    if len(claims) == 2 and claims[0] == 0xFFFFFFFF:
        claims = claims[1:]  # zip64's own number counts
    return max(claims, default=0)
