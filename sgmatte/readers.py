"""Image files to arrays, whatever wrote them: the header is checked before anything is decoded.

What comes out is upright and has the file's 8 or 16 bits per channel. photo.py makes photos of it, masks.py alphas.
"""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, UnidentifiedImageError, features

from sgmatte.containers import avif_bits, check_claims, check_opened
from sgmatte.deep import DeepProfileError, deep_in_srgb, deep_pixels
from sgmatte.errors import PhotoError
from sgmatte.hostile import MAX_PIXELS, file_size, printable

LARGEST_METADATA = 64 << 20  # bytes
LARGEST_PROFILE = 8 << 20  # bytes of a colour profile; those of printers have two or three million
# Pillow reads more, but some of its other readers start programs (EPS) or are seldom attacked by anyone's tests.
READ_FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP")
HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"}
AVIF_BRANDS = {b"avif", b"avis"}
ORIENTATION = 0x0112  # the EXIF tag
DATE = slice(24, 36)  # of an ICC profile, when it was made: LittleCMS says now
HDR_CURVES = {16, 18}  # PQ and HLG, among the transfer characteristics of HEIC


@dataclass(frozen=True)
class Raster:
    """The pixels of a file, upright; `notes` says what of it was left behind, in words for the user."""

    colours: np.ndarray  # uint8 or uint16: (H, W, 1) grey or (H, W, 3) RGB
    alpha: np.ndarray | None  # of the same type: (H, W), straight; None where the file has no transparency
    notes: tuple[str, ...] = ()

    @property
    def white(self) -> int:
        """The highest level: 255 or 65535."""
        return int(np.iinfo(self.colours.dtype).max)


def decoded(path: Path, max_pixels: int = MAX_PIXELS, *, managed: bool = True) -> Raster:
    """The first picture in a JPEG, PNG, WebP, TIFF, GIF, BMP, HEIC or AVIF file, upright by its EXIF orientation.

    PNG and TIFF keep 16 bits per channel where they are grey or RGB, with or without alpha; HEIC its 10 or 12. AVIF is
    read in 8, and a note says where it had more.

    Args:
        managed: bring colours from the file's ICC profile to sRGB. Alphas and trimaps are no colours: leave them.

    Raises:
        PhotoError: no such file, not an image, truncated, more than `max_pixels` by its header, or pixels that no
            white is agreed for (32 bits, floats).
    """
    with opened_image(path, max_pixels) as image:
        return raster_of(image, path, deep_pixels(image, path), managed=managed)


def raster_of(
    image: Image.Image, path: Path, deep: tuple[np.ndarray, np.ndarray | None] | None = None, *, managed: bool = True
) -> Raster:
    """`decoded` of an image that Pillow has opened; `path` names it, `deep` is what `deep_pixels` has read of it."""
    notes = []
    if image.format != "MPO" and getattr(image, "is_animated", False):  # counting frames would walk over them all
        notes.append("only the first of its frames is used")
    profile = image.info.get("icc_profile") if managed else None
    if profile and len(profile) > LARGEST_PROFILE:
        notes.append(f"its colour profile has {len(profile) / 1e6:.0f} MB and is ignored")
        profile = None
    if profile == srgb_profile():
        profile = None  # of pictures written here, which come back level by level
    if (image.info.get("nclx_profile") or {}).get("transfer_characteristics") in HDR_CURVES:
        notes.append("its tones are HDR's and are read as if they were not; export it without HDR")
    if deep is not None:
        colours, alpha = deep
    else:
        bits = stored_bits(image)
        image.load()
        opaque, alpha = _without_alpha(image)
        if profile and not opaque.mode.startswith("I"):
            try:
                opaque = _in_srgb(opaque, profile)
            except (ImageCms.PyCMSError, OSError, ValueError) as error:
                notes.append(f"its colour profile cannot be used and is ignored ({error})")
        colours = _levels(opaque, path)
        if bits > 8 and colours.dtype == np.uint8:
            notes.append(f"{bits} bits per channel are read as 8")
    if profile and colours.dtype == np.uint16:
        try:
            colours = deep_in_srgb(colours, profile)
        except DeepProfileError as error:
            notes.append(f"its colour profile cannot be used and is ignored ({error})")
    turn = image.getexif().get(ORIENTATION, 1)
    return Raster(_upright(colours, turn), None if alpha is None else _upright(alpha, turn), tuple(notes))


@contextmanager
def opened_image(path: Path, max_pixels: int) -> Iterator[Image.Image]:
    """The image behind `path`, its header checked; whatever goes wrong inside while it is decoded is a PhotoError."""
    if file_size(path, largest_file(max_pixels), PhotoError) == 0:
        raise PhotoError(f"{path}: the file is empty")
    before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None  # our own limit, below, comes before any decoding
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of damaged metadata, which does not matter while the pixels read
            check_claims(path, max_pixels)
            with Image.open(path, formats=_formats(path)) as image:
                check_size(image, path, max_pixels)
                check_opened(image, max_pixels)
                if image.format == "AVIF":
                    image.info["bit_depth"] = avif_bits(path)  # which Pillow does not tell
                yield image
    except PhotoError:
        raise
    except UnidentifiedImageError as error:
        raise PhotoError(f"{path}: not an image that can be read ({', '.join(READ_FORMATS)}, HEIC, AVIF)") from error
    except MemoryError as error:  # Pillow's too, of a size that is no photo's
        raise PhotoError(f"{path}: there is not enough memory to read it, or the image is damaged") from error
    except PermissionError as error:
        raise PhotoError(f"{path}: no permission to read it") from error
    except Exception as error:  # decoders raise whatever the damaged bytes lead them to
        raise PhotoError(f"{path}: the image is truncated or damaged ({printable(str(error))})") from error
    finally:
        Image.MAX_IMAGE_PIXELS = before


def largest_file(max_pixels: int) -> int:
    """Bytes that a photo's file may have: its pixels with four 16-bit channels, uncompressed, and room for metadata."""
    return 8 * max_pixels + LARGEST_METADATA


def check_size(image: Image.Image, path: Path, max_pixels: int) -> None:
    """Raises PhotoError where an image, by its header, has no pixels or more than `max_pixels`."""
    width, height = image.size
    if width * height > max_pixels:
        raise PhotoError(
            f"{path}: {width}x{height} is {width * height / 1e6:.0f} megapixels, the limit is "
            f"{max_pixels / 1e6:.0f}; make it smaller or raise --max-pixels"
        )
    if width == 0 or height == 0:
        raise PhotoError(f"{path}: the image is {width}x{height} pixels, there is nothing in it")


def _formats(path: Path) -> tuple[str, ...]:
    """The formats that a file may have: of HEIC and AVIF, the one that it says, which may need a package.

    Raises:
        PhotoError: that package is missing; the message names it.
    """
    with path.open("rb") as stream:
        head = stream.read(64)
    if head[4:8] != b"ftyp":
        return READ_FORMATS
    brands = {head[start : start + 4] for start in range(8, min(len(head), int.from_bytes(head[:4], "big")), 4)}
    if brands & AVIF_BRANDS:
        if "avif" not in features.get_supported():
            try:
                import pillow_avif  # noqa: F401, registers itself
            except ImportError:
                raise PhotoError(
                    f"{path}: this Pillow was built without AVIF; `pip install --upgrade Pillow` (11.3 has it), or "
                    "`pip install pillow-avif-plugin`"
                ) from None
        return ("AVIF",)
    if brands & HEIC_BRANDS:
        try:
            import pillow_heif
        except ImportError:
            raise PhotoError(f"{path}: HEIC photos need the package pillow-heif; `pip install pillow-heif`") from None
        pillow_heif.register_heif_opener(thumbnails=False)
        return ("HEIF",)
    return READ_FORMATS


def optional_readers() -> dict[str, str | None]:
    """What reads the formats that not every installation can read, with its version; None where nothing does."""
    avif = f"Pillow {version('Pillow')}" if "avif" in features.get_supported() else _package("pillow-avif-plugin")
    return {"HEIC": _package("pillow-heif"), "AVIF": avif}


def _package(name: str) -> str | None:
    try:
        return f"{name} {version(name)}"
    except PackageNotFoundError:
        return None


def stored_bits(image: Image.Image) -> int:
    """Bits per channel in the file, as far as Pillow tells before it decodes: 8, unless it says more."""
    if any(";16" in str(tile[3]) for tile in getattr(image, "tile", ())):
        return 16
    return max(8, int(image.info.get("bit_depth", 8)))  # of HEIC and AVIF


def _without_alpha(image: Image.Image) -> tuple[Image.Image, np.ndarray | None]:
    """Colours in a mode that has no alpha, and the alpha as uint8 (H, W) where the image has one."""
    if image.mode.startswith("I"):
        return image, None
    if image.mode == "1":
        return image.convert("L"), None
    if image.has_transparency_data:
        straight = image if image.mode == "RGBA" else image.convert("RGBA")  # a copy may have 400 MB
        return straight.convert("RGB"), np.array(straight.getchannel("A"))
    return (image.convert("RGB") if image.mode in ("P", "PA") else image), None


def _in_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    converted = ImageCms.profileToProfile(
        image,
        ImageCms.ImageCmsProfile(io.BytesIO(profile)),
        ImageCms.createProfile("sRGB"),
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
        outputMode="RGB",
        flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )
    assert converted is not None  # only inPlace=True returns None
    return converted


@cache
def srgb_profile() -> bytes:
    """sRGB as an ICC profile, the same bytes at any time."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    profile[DATE] = struct.pack(">6H", 2000, 1, 1, 0, 0, 0)
    return bytes(profile)


def _levels(image: Image.Image, path: Path) -> np.ndarray:
    """uint8 or uint16 (H, W, 1 | 3) of an image without alpha."""
    if image.mode.startswith("I"):
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 65535:
            raise PhotoError(f"{path}: 32-bit pixels have no agreed white; save it with 8 or 16 bits per channel")
        return values.astype(np.uint16)[..., None]
    if image.mode == "F":
        raise PhotoError(f"{path}: floating-point pixels have no agreed white; save it with 8 or 16 bits per channel")
    return (
        np.array(image)[..., None]
        if image.mode == "L"
        else np.array(image if image.mode == "RGB" else image.convert("RGB"))
    )


def _upright(array: np.ndarray, orientation: int) -> np.ndarray:
    """(H, W, ...) as it is to be seen, of one stored in one of EXIF's eight orientations; another number is none."""
    if orientation in (5, 6, 7, 8):
        array = array.swapaxes(0, 1)
    rows = slice(None, None, -1 if orientation in (3, 4, 7, 8) else 1)
    columns = slice(None, None, -1 if orientation in (2, 3, 6, 7) else 1)
    return np.ascontiguousarray(array[rows, columns])
