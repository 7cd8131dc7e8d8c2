"""Small pictures for the page: quick to show by the hundred, and in formats that every browser knows.

A preview carries the modification time of what it shows, so that a report written again makes only those that changed.
"""

from __future__ import annotations

import hashlib
import io
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from sgmatte.deep import deep_pixels
from sgmatte.errors import PhotoError, SgmatteError
from sgmatte.files import write_bytes
from sgmatte.readers import opened_image, raster_of
from sgmatte.report.records import KINDS, Record

SMALL, LARGE = 640, 2048  # longest side in pixels: in the grid, and in place of files that a browser cannot show
SHOWN_BY_BROWSERS = ("JPEG", "MPO", "PNG", "WEBP", "BMP", "AVIF")
LARGEST = 40_000_000  # pixels of a file that a browser is asked to decode

Encoder = tuple[str, dict[str, object]]
OPAQUE: Encoder = "JPEG", {"quality": 86}
CLEAR: Encoder = "WEBP", {"quality": 82, "method": 0}  # with more effort a fifth fewer bytes, in three times the time
FLAT: Encoder = "PNG", {}
ENCODERS = {"photo": OPAQUE, "enhanced": OPAQUE, "alpha": OPAQUE, "cutout": CLEAR, "trimap": FLAT}
SUFFIXES = {"JPEG": ".jpg", "WEBP": ".webp", "PNG": ".png"}


@dataclass(frozen=True)
class Picture:
    """A picture of the page."""

    small: Path
    pixels: tuple[int, int]  # (width, height) of the upright file
    full: Path | None  # the file itself, or a large preview where no browser shows it; None: there is no other


def pictures(record: Record, folder: Path, max_pixels: int) -> tuple[dict[str, Picture], list[str]]:
    """Pictures of a record by kind, "photo" first, their previews in `folder`; and what could not be shown, in words.

    A photo that failed is shown where it can be read; a cut-out that was not written is made of photo and alpha.

    Raises:
        SgmatteError: a preview cannot be written.
    """
    made: dict[str, Picture] = {}
    failures = []
    sources = {"photo": record.photo, **{kind: record.files[kind] for kind in KINDS if kind in record.files}}
    for kind, source in sources.items():
        try:
            made[kind] = _picture(kind, source, folder, max_pixels)
        except (PhotoError, OSError) as error:  # noqa: PERF203, one picture of the photo is missing, the others are there
            if record.error is None:  # else that is why, and it is told already
                failures.append(f"no preview of the {kind}: {error}")
    if "alpha" in made and "photo" in made and "cutout" not in sources:
        made["cutout"] = _cutout(made.get("enhanced", made["photo"]), made["alpha"], record.files["alpha"], folder)
    return made, failures


def _picture(kind: str, source: Path, folder: Path, max_pixels: int) -> Picture:
    """Raises PhotoError: see `opened_image`."""
    small = _place(kind, source, folder)
    with opened_image(source, max_pixels) as image:  # reads the header alone
        still = image.format == "MPO" or not getattr(
            image, "is_animated", False
        )  # further pictures of an MPO are not shown
        width, height = image.size
        shown = image.format in SHOWN_BY_BROWSERS and still and width * height <= LARGEST
    large = None if shown else _place(kind, source, folder, "_large")
    stamp = source.stat().st_mtime_ns
    for target, side in ((small, SMALL), (large, LARGE)):
        if target is not None and not _current(target, stamp):
            with opened_image(source, max_pixels) as image:
                _write(target, _reduced(image, side, kind, source), ENCODERS[kind], stamp)
    with Image.open(small) as image:
        lying = image.width > image.height  # the small one is upright, whatever the header of the file says
    pixels = (width, height) if lying == (width > height) else (height, width)
    return Picture(small, pixels, source if shown else large)


def _cutout(image: Picture, alpha: Picture, source: Path, folder: Path) -> Picture:
    """A small cut-out of two previews: colours without the old background are estimated at the size that is shown."""
    small = _place("cutout", source, folder)
    stamp = max(picture.small.stat().st_mtime_ns for picture in (image, alpha))
    if not _current(small, stamp):
        from sgmatte.foreground import foreground_colours

        with Image.open(image.small) as colours, Image.open(alpha.small) as opened:
            mask = opened.convert("L").resize(colours.size)
            pixels = foreground_colours(np.asarray(colours.convert("RGB")) / 255, np.asarray(mask) / 255)
            cutout = Image.fromarray((pixels * 255).round().astype(np.uint8))
            cutout.putalpha(mask)
        _write(small, cutout, CLEAR, stamp)
    return Picture(small, image.pixels, None)


def _place(kind: str, source: Path, folder: Path, word: str = "") -> Path:
    """Where a preview lies: under a name that neither the file's own name nor the order of the photos can spoil."""
    source, folder = Path(os.path.abspath(source)), Path(os.path.abspath(folder))
    place = os.path.relpath(source, folder) if source.drive == folder.drive else str(source)
    digest = hashlib.sha256(os.fsencode(place.replace(os.sep, "/"))).hexdigest()[:16]
    return folder / f"{digest}_{kind}{word}{SUFFIXES[ENCODERS[kind][0]]}"


def _current(preview: Path, stamp: int) -> bool:
    return preview.is_file() and preview.stat().st_mtime_ns == stamp


def _write(path: Path, image: Image.Image, encoder: Encoder, stamp: int) -> None:
    name, options = encoder
    buffer = io.BytesIO()
    image.save(buffer, format=name, **options)
    try:
        write_bytes(path, buffer.getvalue())
        os.utime(path, ns=(stamp, stamp))
    except OSError as error:
        raise SgmatteError(f"{path}: cannot be written ({error.strerror})") from error


def _reduced(image: Image.Image, side: int, kind: str, source: Path) -> Image.Image:
    """Upright, 8 bits, sRGB, its longest side at most `side` pixels; transparent parts are white, but in a cut-out."""
    image.draft("RGB", (side, side))  # a JPEG is decoded no larger than needed; other formats take no notice
    mask = kind in ("alpha", "trimap")
    raster = raster_of(image, source, deep_pixels(image, source), managed=not mask)
    colours = _pillow(raster.colours)
    if raster.alpha is not None:
        alpha = _pillow(raster.alpha)
        if mask and alpha.getextrema() != (255, 255):
            colours = alpha
        else:
            colours = colours.convert("RGB")
            colours.putalpha(alpha)
    resample = Image.Resampling.NEAREST if kind == "trimap" else Image.Resampling.LANCZOS
    colours.thumbnail((side, side), resample, reducing_gap=3.0)
    if mask or kind == "cutout":
        return colours.convert("L" if mask else "RGBA")
    if colours.mode == "RGBA":
        return Image.alpha_composite(Image.new("RGBA", colours.size, "white"), colours).convert("RGB")
    return colours.convert("RGB")


def _pillow(levels: np.ndarray) -> Image.Image:
    """A grey or RGB image of 8 bits, of uint8 or uint16 (H, W) or (H, W, 1 | 3)."""
    levels = levels[..., 0] if levels.ndim == 3 and levels.shape[2] == 1 else levels
    if levels.dtype == np.uint16:
        levels = ((levels.astype(np.uint32) + 128) // 257).astype(np.uint8)
    return Image.fromarray(levels)
