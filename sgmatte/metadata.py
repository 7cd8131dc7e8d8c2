"""What a photo's file says beside its pixels, carried over to pictures made of it: EXIF, and what its colours mean.

Pixels are upright and in sRGB once they are read, so the orientation becomes 1 and the profile is that of sRGB: the
photo's own would misname them, and a way back to it could not bring back what lay outside sRGB. Thumbnails stay behind,
since they show the old picture, and makers' notes, whose contents are found by places in the old file. GPS is kept.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import ExifTags, Image, TiffImagePlugin, TiffTags

from sgmatte.forms import Form
from sgmatte.hostile import MAX_PIXELS
from sgmatte.readers import opened_image, srgb_profile

Base, IFD = ExifTags.Base, ExifTags.IFD
DESCRIPTION = (  # of the picture and those who made it; the other tags of a TIFF's first directory say how it is stored
    *(Base.ImageDescription, Base.Make, Base.Model, Base.Software, Base.DateTime, Base.Artist, Base.HostComputer),
    *(Base.Copyright, Base.Rating, Base.RatingPercent, Base.XResolution, Base.YResolution, Base.ResolutionUnit),
    *(Base.XPTitle, Base.XPComment, Base.XPAuthor, Base.XPKeywords, Base.XPSubject),
)
LEFT_BEHIND = (IFD.MakerNote, IFD.Interop)
DIRECTORIES = (IFD.Exif, IFD.GPSInfo)
STRIPS, PROFILE = 273, 34675  # tags of TIFF
OF_BYTES = {(IFD.GPSInfo, 0), (IFD.GPSInfo, 5)}  # version, and whether the altitude is below the sea; else undefined
SIGNED = (Base.ShutterSpeedValue, Base.BrightnessValue, Base.ExposureBiasValue)
MARK = b"Exif\0\0"  # of EXIF where it is no file
HEADER, FIRST = b"II\x2a\0", 8  # of a TIFF, and where its directory stands


@dataclass(frozen=True)
class Metadata:
    """EXIF with its mark and an ICC profile, both empty where nothing is carried over."""

    exif: bytes = b""
    profile: bytes = b""
    notes: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.profile)


NO_METADATA = Metadata()


def carried_metadata(path: Path | str, max_pixels: int = MAX_PIXELS) -> Metadata:
    """What pictures made of the photo at `path` carry of its metadata. EXIF that is damaged is noted and left behind.

    Raises:
        PhotoError: as `read_photo`.
    """
    with opened_image(Path(path), max_pixels) as image:
        try:
            return Metadata(MARK + _upright_exif(image), srgb_profile())
        except Exception as error:  # Pillow raises whatever the damaged bytes lead it to
            return Metadata(b"", srgb_profile(), (f"its EXIF is damaged and left behind ({error})",))


def metadata_for(form: Form, path: Path, max_pixels: int = MAX_PIXELS) -> Metadata:
    """`carried_metadata`, if the form asks for it."""
    return carried_metadata(path, max_pixels) if form.keep_metadata else NO_METADATA


def _upright_exif(image: Image.Image) -> bytes:
    """What is carried of an image's EXIF, as a TIFF without pixels."""
    photo = image.getexif()
    kept = {int(tag): photo[tag] for tag in DESCRIPTION if tag in photo} | {int(Base.Orientation): 1}
    shot = {tag: value for tag, value in photo.get_ifd(IFD.Exif).items() if tag not in LEFT_BEHIND}
    if shot:
        width, height = image.size
        if photo.get(Base.Orientation, 1) >= 5 and image.format != "TIFF":  # of a TIFF, Pillow tells the upright size
            width, height = height, width
        shot |= {Base.ColorSpace: 1, Base.ExifImageWidth: width, Base.ExifImageHeight: height}
    return _tiff(_directory(kept), {IFD.Exif: shot, IFD.GPSInfo: dict(photo.get_ifd(IFD.GPSInfo))})


def _directory(values: Mapping[int, Any], group: int | None = None) -> TiffImagePlugin.ImageFileDirectory_v2:
    """A directory of TIFF. Pillow guesses types from values, and of these not all; it reads text as Latin-1."""
    directory = TiffImagePlugin.ImageFileDirectory_v2(HEADER + bytes(4), group=group)
    for tag, value in values.items():
        if isinstance(value, str):
            directory.tagtype[tag] = TiffTags.ASCII
            directory[tag] = value.encode("latin-1", "replace")
            continue
        if isinstance(value, bytes) and group is not None:
            directory.tagtype[tag] = TiffTags.BYTE if (group, tag) in OF_BYTES else TiffTags.UNDEFINED
        elif group == IFD.Exif and tag in SIGNED:
            directory.tagtype[tag] = TiffTags.SIGNED_RATIONAL
        directory[tag] = value
    return directory


def _tiff(
    directory: TiffImagePlugin.ImageFileDirectory_v2, parts: Mapping[int, Mapping[int, Any]], pixels: bytes = b""
) -> bytes:
    """A TIFF of a directory, whose strips count from its end, then of pixels, then of further directories by tag."""
    parts = {tag: values for tag, values in parts.items() if values}
    for tag in parts:
        directory[tag] = 0
    place = FIRST + len(directory.tobytes(FIRST)) + len(pixels)
    end = bytes(place % 2)
    for tag, values in parts.items():
        directory[tag] = place + len(end)
        end += _directory(values, tag).tobytes(place + len(end))
        end += bytes(len(end) % 2)
    return HEADER + struct.pack("<I", FIRST) + directory.tobytes(FIRST) + pixels + end


def tiff_with(metadata: Metadata, tiff: bytes) -> bytes:
    """A TIFF that tifffile has written, with metadata: Pillow writes the directory anew, before the same pixels."""
    exif = Image.Exif()
    exif.load(metadata.exif)
    with Image.open(io.BytesIO(tiff), formats=["TIFF"]) as image:
        directory: TiffImagePlugin.ImageFileDirectory_v2 = image.tag_v2  # type: ignore[attr-defined]
    dict(directory)  # Pillow writes what has been looked at
    described = _directory({tag: exif[tag] for tag in (*DESCRIPTION, Base.Orientation) if tag in exif})
    for tag, value in described.items():
        directory.tagtype[tag] = described.tagtype[tag]
        directory[tag] = value
    directory[PROFILE] = metadata.profile
    offsets = directory[STRIPS]
    directory[STRIPS] = tuple(offset - min(offsets) for offset in offsets)
    return _tiff(directory, {tag: exif.get_ifd(tag) for tag in DIRECTORIES}, tiff[min(offsets) :])
