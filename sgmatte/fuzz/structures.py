"""Files taken apart into the pieces of their format, and put together again with sums and lengths that are right.

Damage to bytes alone is mostly caught by a checksum, and shows little of what a reader does behind it.
"""

from __future__ import annotations

import io
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

Part = tuple[bytes, bytes]
"""A piece's kind and its content."""


@dataclass(frozen=True)
class Pieces:
    parts: list[Part]
    put_together: Callable[[Sequence[Part]], bytes]


def taken_apart(data: bytes) -> Pieces | None:
    """The pieces of a file of a format known here, as far as it is sound; None of another."""
    try:
        for begins, split in FORMATS:
            if begins(data):
                return split(data)
    except (struct.error, ValueError, IndexError, zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError):
        pass
    except (zlib.error, EOFError, KeyError):
        pass
    return None


def _png(data: bytes) -> Pieces:
    parts, at = [], 8
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        parts.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length

    def joined(parts: Sequence[Part]) -> bytes:
        return data[:8] + b"".join(
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
            for kind, content in parts
        )

    return Pieces(parts, joined)


def _jpeg(data: bytes) -> Pieces:
    """The segments before the first scan, and all that follows as one of kind b""."""
    parts, at = [], 2
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != 0xDA:
        (length,) = struct.unpack_from(">H", data, at + 2)
        parts.append((data[at : at + 2], data[at + 4 : at + 2 + length]))
        at += 2 + length
    parts.append((b"", data[at:]))

    def joined(parts: Sequence[Part]) -> bytes:
        return data[:2] + b"".join(
            kind + (struct.pack(">H", min(65535, len(content) + 2)) if kind else b"") + content
            for kind, content in parts
        )

    return Pieces(parts, joined)


def _riff(data: bytes) -> Pieces:
    parts, at = [], 12
    while at + 8 <= len(data):
        (length,) = struct.unpack_from("<I", data, at + 4)
        parts.append((data[at : at + 4], data[at + 8 : at + 8 + length]))
        at += 8 + length + length % 2

    def joined(parts: Sequence[Part]) -> bytes:
        body = b"".join(kind + struct.pack("<I", len(c)) + c + bytes(len(c) % 2) for kind, c in parts)
        return b"RIFF" + struct.pack("<I", len(body) + 4) + data[8:12] + body

    return Pieces(parts, joined)


def _boxes(data: bytes) -> Pieces:
    """ISO boxes: HEIC and AVIF."""
    parts, at = [], 0
    while at + 8 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        if length < 8:
            break
        parts.append((data[at + 4 : at + 8], data[at + 8 : at + length]))
        at += length
    if not parts:
        raise ValueError("no boxes")
    return Pieces(parts, lambda parts: b"".join(struct.pack(">I", len(c) + 8) + kind + c for kind, c in parts))


def _zip(data: bytes) -> Pieces:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = archive.infolist()[:200]
        parts = [(entry.filename.encode(), archive.read(entry)) for entry in entries if entry.file_size < 1 << 22]
        compression = entries[0].compress_type if entries else zipfile.ZIP_STORED

    def joined(parts: Sequence[Part]) -> bytes:
        stream = io.BytesIO()
        with warnings.catch_warnings(), zipfile.ZipFile(stream, "w", compression) as archive:
            warnings.simplefilter("ignore")  # of names that occur twice
            for name, content in parts:
                archive.writestr(name.decode("utf-8", "replace") or "x", content)
        return stream.getvalue()

    return Pieces(parts, joined)


def _tiff(data: bytes) -> Pieces:
    """The entries of the first directory, each of them content; then what lies before and behind it, as one piece."""
    order = "<" if data[:2] == b"II" else ">"
    (first,) = struct.unpack_from(order + "L", data, 4)
    (count,) = struct.unpack_from(order + "H", data, first)
    end = first + 2 + 12 * count
    parts = [(b"", data[at : at + 12]) for at in range(first + 2, end, 12)]

    def joined(parts: Sequence[Part]) -> bytes:
        entries = [content for _, content in parts]
        room = b"".join(entries)[: 12 * count].ljust(12 * count, b"\0")  # offsets point behind it
        return data[: first + 2] + room + data[end:]

    return Pieces(parts, joined)


def _safetensors(data: bytes) -> Pieces:
    length = int.from_bytes(data[:8], "little")
    parts = [(b"header", data[8 : 8 + length]), (b"data", data[8 + length :])]

    def joined(parts: Sequence[Part]) -> bytes:
        header = b"".join(content for kind, content in parts if kind == b"header")
        rest = b"".join(content for kind, content in parts if kind != b"header")
        return struct.pack("<Q", len(header)) + header + rest

    return Pieces(parts, joined)


FORMATS: tuple[tuple[Callable[[bytes], bool], Callable[[bytes], Pieces]], ...] = (
    (lambda d: d[:4] == b"\x89PNG", _png),
    (lambda d: d[:2] == b"\xff\xd8", _jpeg),
    (lambda d: d[:4] == b"RIFF", _riff),
    (lambda d: d[:4] == b"PK\3\4", _zip),
    (lambda d: d[:4] in (b"II*\0", b"MM\0*"), _tiff),
    (lambda d: d[4:8] == b"ftyp", _boxes),
    (lambda d: d[8:9] == b"{" and int.from_bytes(d[:8], "little") <= len(d), _safetensors),
)
