"""What photo files claim about themselves, before Pillow follows it.

Pillow believes directories of tags whose entries all lie at one place (a megabyte becomes sixty gigabytes), tiles
larger than the picture, and pictures that are drawn over a thousand times. Here only the claims are added up; whether
the rest of a file is sound is left to its decoder.
"""

from __future__ import annotations

import io
import math
import os
import struct
from pathlib import Path
from typing import IO

from PIL import Image

MOST_SCANS = 60  # of a progressive JPEG; encoders make about ten, and each costs a walk over all blocks
LONGEST_SIDE = 65_535  # pixels, as JPEG has; some decoders reserve whole rows for a single byte
MOST_SEGMENTS = 100_000  # of a JPEG before its picture, bytes of junk between them included
MOST_CHUNKS = 500_000  # of a PNG; 100 megapixels in pieces of 8 KB have a tenth
SLACK = 1 << 20  # bytes that tags may claim beyond the size of what holds them
WEBP_SHARE = 0.8  # of the limit of pixels; a file of 38 bytes can ask for all of it
RUN_LENGTH_PIXELS = 10_000_000  # of a run-length BMP, which Pillow decodes in Python
SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
SHORT = 3
TILE_SIDES, DIRECTORIES = (322, 323), (34665, 34853)  # tags: of tiles; of EXIF and GPS
AVIF_HEAD = 1 << 16  # bytes; properties come first, long before any pixel
HIGH_DEPTH, TWELVE_BITS = 0x40, 0x20  # in the box av1C
CHUNK = 1 << 20


def check_claims(path: Path, max_pixels: int) -> None:
    """Look at the structure of a file, which Pillow follows before it says how large the picture is.

    Raises:
        ValueError: it claims what no photo has; the message says what.
    """
    with path.open("rb") as stream:
        start = stream.read(4)
        if start[:2] == b"\xff\xd8":
            _check_jpeg(stream)
        elif start == b"\x89PNG":
            _check_png(stream)
        elif start == b"GIF8":
            stream.seek(0)
            _check_gif(stream)
        elif start[:2] in (b"II", b"MM"):
            _check_directory(stream, stream.seek(0, os.SEEK_END), max_pixels)


def check_opened(image: Image.Image, max_pixels: int) -> None:
    """Look at what an opened picture holds beside its pixels, which are not decoded yet.

    Raises:
        ValueError: as `check_claims`.
    """
    if max(image.size) > LONGEST_SIDE:
        raise ValueError(f"a side has {max(image.size)} pixels, the limit is {LONGEST_SIDE}")
    if image.format == "WEBP" and image.width * image.height > WEBP_SHARE * max_pixels:
        raise ValueError(
            f"a WebP may have {WEBP_SHARE:.0%} of --max-pixels, for its decoder holds it thrice; save it as PNG"
        )
    if any(tile[0] == "bmp_rle" for tile in getattr(image, "tile", ())) and image.width * image.height > min(
        max_pixels, RUN_LENGTH_PIXELS
    ):
        raise ValueError(f"a run-length BMP of more than {RUN_LENGTH_PIXELS / 1e6:.0f} megapixels; save it as PNG")
    for exif in (image.info.get("exif"), _png_profile(image)):
        if isinstance(exif, bytes) and exif:
            _check_exif(exif)


def avif_bits(path: Path) -> int:
    """Bits per channel of an AVIF's first picture, 8, 10 or 12, by the configuration of its coder (the box av1C)."""
    with path.open("rb") as stream:
        head = stream.read(AVIF_HEAD)
    flags = head[head.find(b"av1C") :][6:7] if b"av1C" in head else b""
    if not flags or not flags[0] & HIGH_DEPTH:
        return 8
    return 12 if flags[0] & TWELVE_BITS else 10


def _png_profile(image: Image.Image) -> bytes:
    """The EXIF that ImageMagick writes into PNGs, as hexadecimal text."""
    text = image.info.get("Raw profile type exif")
    if not isinstance(text, str):
        return b""
    try:
        return bytes.fromhex("".join(text.split("\n")[3:]))
    except ValueError:  # Pillow says so itself
        return b""


def _check_exif(exif: bytes) -> None:
    plain = exif.removeprefix(b"Exif\0\0").removeprefix(b"Exif\0\0")
    if plain[:2] in (b"II", b"MM"):
        _check_directory(io.BytesIO(plain), len(plain), LONGEST_SIDE**2)


def _check_jpeg(stream: IO[bytes]) -> None:
    """Walk over the segments up to the first scan, then count scans."""
    stream.seek(2)
    exif, junk, segments = bytearray(), 0, 0
    while (mark := stream.read(1)) and mark + (kind := stream.read(1)) != b"\xff\xda":
        if mark != b"\xff" or kind in b"\0\xff":
            stream.seek(-1, os.SEEK_CUR)
            junk += 1
        elif kind != b"\x01" and not b"\xd0" <= kind <= b"\xd9":
            segments += 1
            content = stream.read(max(0, int.from_bytes(stream.read(2), "big") - 2))
            if kind == b"\xe1" and content[:6] == b"Exif\0\0":
                exif += content[6:] if exif else content
        if junk + segments > MOST_SEGMENTS or not kind:
            raise ValueError("there is no picture behind its header")
    _check_exif(bytes(exif))
    scans, before = 1, b""
    while scans <= MOST_SCANS and (chunk := stream.read(CHUNK)):
        scans += (before + chunk).count(b"\xff\xda")
        before = chunk[-1:]
    if scans > MOST_SCANS:
        raise ValueError(f"its JPEG has more than {MOST_SCANS} scans")


def _check_png(stream: IO[bytes]) -> None:
    """Count the chunks."""
    stream.seek(8)
    for _ in range(MOST_CHUNKS):
        head = stream.read(8)
        if len(head) < 8 or head[4:] == b"IEND":
            return
        stream.seek(int.from_bytes(head[:4], "big") + 4, os.SEEK_CUR)
    raise ValueError(f"its PNG has more than {MOST_CHUNKS} chunks")


def _check_gif(stream: IO[bytes]) -> None:
    """Add up what lies before the first picture and between it and the second, which Pillow looks for."""
    head = stream.read(13).ljust(13, b"\0")
    _skip_colours(stream, head[10])
    pictures, beside = 0, 0
    while pictures < 2 and (kind := stream.read(1)) not in (b"", b";"):
        if kind == b"!":
            stream.read(1)
            beside += _skip_blocks(stream)
        elif kind == b",":
            pictures += 1
            _skip_colours(stream, stream.read(9).ljust(9, b"\0")[8])
            stream.read(1)
            _skip_blocks(stream)
        else:
            beside += 1
        if beside > SLACK:
            raise ValueError(f"its GIF has more than {SLACK / 1e6:.0f} MB beside its picture")


def _skip_colours(stream: IO[bytes], flags: int) -> None:
    if flags & 128:
        stream.seek(3 << (flags & 7) + 1, os.SEEK_CUR)


def _skip_blocks(stream: IO[bytes]) -> int:
    """Skip the blocks up to an empty one; returns their number and bytes together."""
    passed = 1
    while length := stream.read(1):
        if length == b"\0":
            break
        stream.seek(length[0], os.SEEK_CUR)
        passed += 1 + length[0]
    return passed


def _check_directory(stream: IO[bytes], size: int, max_pixels: int) -> None:
    """Add up what the tags claim, of a TIFF or of EXIF: those of the first directory and of those that it points to."""
    stream.seek(0)
    head = stream.read(16).ljust(16, b"\0")
    order, big = "<" if head[:2] == b"II" else ">", 43 in head[2:4]
    (first,) = struct.unpack_from(order + ("Q" if big else "L"), head, 8 if big else 4)
    claimed, numbers = _directory(stream, first, size, order, big)
    claimed += sum(_directory(stream, numbers[tag], size, order, big)[0] for tag in DIRECTORIES if tag in numbers)
    if claimed > size + SLACK:
        raise ValueError(f"its tags claim {claimed / 1e6:.0f} MB of a file of {size / 1e6:.1f} MB")
    tile = math.prod(max(1, numbers.get(tag, 1)) for tag in TILE_SIDES)
    if tile > 2 * max_pixels:
        raise ValueError(f"its tiles have {tile / 1e6:.0f} megapixels each")


def _directory(stream: IO[bytes], place: int, size: int, order: str, big: bool) -> tuple[int, dict[int, int]]:
    """The bytes that the tags of a directory claim, as far as the file has them, and the numbers that lie in it."""
    if place >= size:
        return 0, {}
    stream.seek(place)
    count = int.from_bytes(stream.read(8 if big else 2), "little" if order == "<" else "big")
    shape, inline = struct.Struct(order + ("HHQQ" if big else "HHLL")), 8 if big else 4
    entries = stream.read(min(count, size // shape.size) * shape.size)
    claimed, numbers = 0, {}
    for tag, kind, number, value in shape.iter_unpack(entries[: len(entries) // shape.size * shape.size]):
        length = number * SIZES.get(kind, 0)
        if length > inline:
            claimed += min(length, max(0, size - value))
        # A short number lies in the first bytes of its entry.
        numbers[tag] = value if kind != SHORT else value & 0xFFFF if order == "<" else value >> 8 * (inline - 2)
    return claimed, numbers
