"""Pictures to files, in 8 or 16 bits per channel: whole or not at all, and the same bytes for the same pixels."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sgmatte.errors import PhotoError
from sgmatte.files import write_bytes
from sgmatte.forms import COLOURS, Bits, Form, format_of
from sgmatte.metadata import MARK, NO_METADATA, Metadata, tiff_with

PILLOW_OPTIONS: dict[str, dict[str, Any]] = {
    "PNG": {"compress_level": 4},
    "JPEG": {"quality": 95, "subsampling": 0},
    "WEBP": {"lossless": True, "exact": True},  # exact: colours under alpha 0 are kept
}
PNG_HEADER = 33  # bytes of its signature and first chunk


def write_image(
    path: Path | str, image: Tensor | np.ndarray, *, bits: Bits = 8, metadata: Metadata = NO_METADATA
) -> Path:
    """Write an image atomically, in the format of the suffix (.png, .jpg, .webp, .tif, .tiff), and return its path.

    Args:
        image: float (1, C, H, W) in [0, 1], values outside are clamped; or levels, an array uint8 or, with 16 bits,
            uint16 (H, W) or (H, W, C). C is 1 (grey), 3 (RGB) or 4 (RGBA, straight alpha).
        bits: per channel; 16 in PNG and TIFF.
        metadata: for colours.

    Raises:
        UsageError: a suffix that is unknown, or has no 16 bits.
        PhotoError: transparency in a JPEG, a picture too large for its format, or a folder that cannot be written to.
    """
    path = Path(path)
    name = format_of(path, bits)
    levels = _levels_of(image, bits) if isinstance(image, Tensor) else image
    levels = levels[..., 0] if levels.ndim == 3 and levels.shape[2] == 1 else levels
    if name == "JPEG" and levels.ndim == 3 and levels.shape[2] == 4:
        raise PhotoError(f"{path}: JPEG has no transparency; choose .png, .webp or .tif")
    try:
        write_bytes(path, _encoded(name, levels, metadata))
    except OSError as error:
        raise PhotoError(f"{path}: cannot be written ({error.strerror or error})") from error
    except ValueError as error:  # of Pillow's encoders: WebP ends at 16383 pixels, JPEG's EXIF at 64 KB
        raise PhotoError(f"{path}: cannot be written ({error})") from error
    return path


def written(kind: str, file: Path, image: Tensor | np.ndarray, form: Form, metadata: Metadata = NO_METADATA) -> Path:
    """Write a result as it is wished for: alphas and colours in so many bits, metadata with colours alone.

    Raises:
        PhotoError, UsageError: as `write_image`.
    """
    return write_image(file, image, bits=form.bits_of(kind), metadata=metadata if kind in COLOURS else NO_METADATA)


def _encoded(name: str, levels: np.ndarray, metadata: Metadata) -> bytes:
    if name == "TIFF":
        tiff = _tiff(levels)
        return tiff_with(metadata, tiff) if metadata else tiff
    if levels.dtype == np.uint16:
        import imagecodecs

        return _png_with(metadata, bytes(imagecodecs.png_encode(levels, level=PILLOW_OPTIONS["PNG"]["compress_level"])))
    buffer = io.BytesIO()
    carried = {"exif": metadata.exif, "icc_profile": metadata.profile} if metadata else {}
    Image.fromarray(levels).save(buffer, format=name, **PILLOW_OPTIONS[name], **carried)
    return buffer.getvalue()


def _tiff(levels: np.ndarray) -> bytes:
    import tifffile

    buffer = io.BytesIO()
    tifffile.imwrite(
        buffer,
        levels,
        byteorder="<",
        photometric="minisblack" if levels.ndim == 2 else "rgb",
        extrasamples=["unassalpha"] if levels.ndim == 3 and levels.shape[2] == 4 else None,
        compression="adobe_deflate",
        predictor=True,
        metadata=None,  # of tifffile's own kind
        software=False,
    )
    return buffer.getvalue()


def _png_with(metadata: Metadata, png: bytes) -> bytes:
    """A PNG with the chunks that Pillow would write; imagecodecs writes none."""
    if not metadata:
        return png
    chunks = (
        (b"iCCP", b"sRGB\0\0" + zlib.compress(metadata.profile)),
        (b"eXIf", metadata.exif.removeprefix(MARK)),
    )
    middle = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
        if data
    )
    return png[:PNG_HEADER] + middle + png[PNG_HEADER:]


def _levels_of(image: Tensor, bits: Bits) -> np.ndarray:
    """float (1, C, H, W) -> uint8 or uint16 (H, W, C), to the nearest level."""
    if image.ndim != 4 or image.shape[0] != 1 or image.shape[1] not in (1, 3, 4):
        raise ValueError(f"expected one image (1, 1|3|4, H, W), got {tuple(image.shape)}")
    if not bool(torch.isfinite(image).all()):
        raise ValueError("the image holds values that are not finite")
    levels = (image.detach()[0].float().clamp(0, 1) * (2**bits - 1)).round()
    return levels.permute(1, 2, 0).contiguous().cpu().numpy().astype(np.uint8 if bits == 8 else np.uint16)
