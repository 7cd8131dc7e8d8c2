"""Sixteen bits per channel, for which Pillow has no colour mode: imagecodecs, tifffile and pillow-heif read them.

Pillow has opened the file before and knows its size; nothing is decoded here that would come out larger.
"""

from __future__ import annotations

import io
import logging
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sgmatte.errors import PhotoError

if TYPE_CHECKING:
    from PIL.Image import Image

WHITE = 65535
# TIFF's tags, and what of them is read here; the rest is left to Pillow. Few decompressors meet hostile files that way.
WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, SAMPLE_FORMAT = 256, 257, 258, 259, 262, 339
CODINGS = {1, 5, 8, 32773, 32946}  # none, LZW, deflate, PackBits, deflate's old number
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB = 0, 1, 2
PREMULTIPLIED, STRAIGHT = 1, 2  # of TIFF's extra samples


class DeepProfileError(ValueError):
    """An ICC profile that is damaged, or of another kind than the pixels."""


def deep_pixels(image: Image, path: Path) -> tuple[np.ndarray, np.ndarray | None] | None:
    """Colours uint16 (H, W, 1 | 3) and alpha (H, W) or None as stored, of an image that Pillow has opened at `path`.

    None where the file has 8 bits, or a kind of 16 that only Pillow reads.

    Raises:
        PhotoError: two readers of the file do not agree about its size.
    """
    if image.format == "PNG" and any(";16" in str(tile[3]) for tile in image.tile):  # type: ignore[attr-defined]
        image.load()  # damage is found by the reader that everyone uses; EXIF after the pixels is known then
        return _png(path, image.size)
    if image.format == "TIFF":
        tags = image.tag_v2  # type: ignore[attr-defined]
        if (
            set(tags.get(BITS, ())) == {16}
            and set(tags.get(SAMPLE_FORMAT, (1,))) == {1}
            and tags.get(COMPRESSION, 1) in CODINGS
            and tags.get(PHOTOMETRIC) in (WHITE_IS_ZERO, BLACK_IS_ZERO, RGB)
        ):
            return _tiff(path, (tags[WIDTH], tags[HEIGHT]))  # image.size is upright
    if image.format == "HEIF" and image.info.get("bit_depth", 8) > 8:
        return _heic(path, image.size, image.info["bit_depth"])
    return None


def _png(path: Path, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray | None]:
    import imagecodecs

    content = path.read_bytes()
    header = int.from_bytes(content[16:20], "big"), int.from_bytes(content[20:24], "big")  # libpng's, the first chunk
    if header != size:
        raise PhotoError(f"{path}: the image is damaged, its readers do not agree about its size")
    pixels = np.atleast_3d(imagecodecs.png_decode(content))
    if pixels.shape[2] in (2, 4):
        return pixels[..., :-1], pixels[..., -1]
    return pixels, None


def _tiff(path: Path, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray | None]:
    import tifffile

    logging.getLogger("tifffile").addHandler(logging.NullHandler())  # what it has to say is checked or raised
    with tifffile.TiffFile(io.BytesIO(path.read_bytes())) as file:
        page = file.pages.first
        colours = 3 if page.photometric == RGB else 1
        extra = tuple(page.extrasamples)
        shape = (page.imagelength, page.imagewidth, page.samplesperpixel)
        if shape[:2] != size[::-1] or page.imagedepth != 1 or not colours <= shape[2] <= 8:
            raise PhotoError(f"{path}: the image is damaged, its readers do not agree about its size")
        if len(page.dataoffsets) != np.prod(page.chunked) or not all(page.databytecounts):
            raise PhotoError(f"{path}: the image is truncated or damaged: parts of it are missing")  # tifffile: black
        pixels = page.asarray(maxworkers=1)
        pixels = np.moveaxis(pixels, 0, 2) if page.axes.startswith("S") else pixels.reshape(shape)
    if page.photometric == WHITE_IS_ZERO:
        pixels = WHITE - pixels
    stored = pixels[..., :colours]
    if shape[2] == colours or (extra and extra[0] not in (PREMULTIPLIED, STRAIGHT)):
        return stored, None
    alpha = pixels[..., colours]
    return _straight(stored, alpha) if extra and extra[0] == PREMULTIPLIED else stored, alpha


def _heic(path: Path, size: tuple[int, int], bits: int) -> tuple[np.ndarray, np.ndarray | None]:
    """10 or 12 bits, spread over 16."""
    import pillow_heif

    picture = pillow_heif.open_heif(path, convert_hdr_to_8bit=False)
    stored = np.atleast_3d(np.asarray(picture))
    if stored.dtype != np.uint16 or stored.shape[:2] != size[::-1]:
        raise PhotoError(f"{path}: the image is damaged, its readers do not agree about its size")
    levels = stored >> (16 - bits)  # pillow-heif fills with zeros
    pixels = np.rint(levels * np.float32(WHITE / (2**bits - 1))).astype(np.uint16)
    if pixels.shape[2] in (1, 3):
        return pixels, None
    colours, alpha = pixels[..., :-1], pixels[..., -1]
    return (_straight(colours, alpha) if "a" in picture.mode else colours), alpha  # RGBa is Pillow's premultiplied


def _straight(colours: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Colours that were multiplied with their alpha, as they were before."""
    share = np.maximum(alpha, 1)[..., None].astype(np.float32) / WHITE
    return np.minimum(np.rint(colours / share), WHITE).astype(np.uint16)


def deep_in_srgb(colours: np.ndarray, profile: bytes) -> np.ndarray:
    """uint16 (H, W, 1 | 3) of an ICC profile -> (H, W, 3) in sRGB: LittleCMS's conversion in 16 bits, black to black.

    Raises:
        DeepProfileError: the profile is damaged or does not fit.
    """
    import imagecodecs

    kind = "gray" if colours.shape[2] == 1 else "rgb"
    try:
        return imagecodecs.cms_transform(
            np.ascontiguousarray(colours[..., 0] if kind == "gray" else colours),
            profile,
            imagecodecs.cms_profile("srgb"),
            colorspace=kind,
            outcolorspace="rgb",
            intent=imagecodecs.CMS.INTENT.RELATIVE_COLORIMETRIC,
            # Without NOOPTIMIZE it interpolates between few nodes, and is off by more than a level of 8 bits.
            flags=imagecodecs.CMS.FLAGS.BLACKPOINTCOMPENSATION | imagecodecs.CMS.FLAGS.NOOPTIMIZE,
        )
    except (imagecodecs.CmsError, ValueError) as error:
        raise DeepProfileError(str(error)) from error
