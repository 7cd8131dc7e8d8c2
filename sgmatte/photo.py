"""Files to tensors and back: photos as people have them, results that are written whole or not at all.

Images are float32 (1, C, H, W), RGB in sRGB encoding, in [0, 1]. Files of alphas and trimaps are read in masks.py.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sgmatte.errors import PhotoError
from sgmatte.files import write_bytes
from sgmatte.files import write_json as write_json
from sgmatte.files import write_text as write_text
from sgmatte.readers import MAX_PIXELS as MAX_PIXELS
from sgmatte.readers import Raster, decoded, raster_of

WRITE_OPTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    ".png": ("PNG", {"compress_level": 4}),
    ".jpg": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".jpeg": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".webp": ("WEBP", {"lossless": True, "exact": True}),  # exact: colours under alpha 0 are kept
    ".tif": ("TIFF", {"compression": "tiff_adobe_deflate"}),
    ".tiff": ("TIFF", {"compression": "tiff_adobe_deflate"}),
}


@dataclass(frozen=True)
class Photo:
    """A photo as the networks see it; `notes` says what of the file was left behind, in words for the user."""

    path: Path  # of a picture that came from no file, a name for what is made of it
    image: Tensor  # (1, 3, H, W) float32 sRGB in [0, 1], upright
    notes: tuple[str, ...] = ()

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the upright photo."""
        return self.image.shape[-2], self.image.shape[-1]


def read_photo(path: Path | str, max_pixels: int = MAX_PIXELS) -> Photo:
    """Read a JPEG, PNG, WebP, TIFF, GIF, BMP, HEIC or AVIF: upright, from its ICC profile to sRGB.

    Grey, palette and CMYK become RGB; transparent parts are shown on white, as viewers do; of an animation the first
    frame counts. Grey and RGB keep 16 bits per channel in PNG and TIFF.

    Raises:
        PhotoError: no such file, not an image, truncated, or more than `max_pixels` by its header; nothing is decoded
            before that is known.
    """
    path = Path(path)
    return _photo(path, decoded(path, max_pixels))


def decoded_photo(image: Image.Image, path: Path) -> Photo:
    """`read_photo` of an image that Pillow has opened; `path` names it."""
    return _photo(path, raster_of(image, path))


def _photo(path: Path, raster: Raster) -> Photo:
    notes = list(raster.notes)
    pixels = rgb_pixels(raster)
    if raster.alpha is not None and np.any(raster.alpha < raster.white):
        notes.append("its transparent parts are shown on white")
        share = torch.from_numpy(raster.alpha).float()[None] / raster.white
        pixels = pixels * share + (1 - share)
    return Photo(path, pixels[None].contiguous(), tuple(notes))


def rgb_pixels(raster: Raster) -> Tensor:
    """(3, H, W) float32 in [0, 1] of a file's colours, without their alpha."""
    levels = torch.from_numpy(raster.colours).permute(2, 0, 1).float() / raster.white
    return levels.expand(3, -1, -1)


def write_image(path: Path | str, image: Tensor | np.ndarray) -> Path:
    """Write an 8-bit image atomically, in the format of the suffix (.png, .jpg, .webp, .tif), and return its path.

    Args:
        image: float (1, C, H, W) in [0, 1], values outside are clamped; or a uint8 array (H, W) or (H, W, C).
            C is 1 (grey), 3 (RGB) or 4 (RGBA, straight alpha).

    Raises:
        PhotoError: unknown suffix, transparency in a JPEG, or a folder that cannot be written to.
    """
    path = Path(path)
    if path.suffix.lower() not in WRITE_OPTIONS:
        raise PhotoError(f"{path}: unknown image suffix '{path.suffix}'; use one of {', '.join(WRITE_OPTIONS)}")
    name, options = WRITE_OPTIONS[path.suffix.lower()]
    pixels = _bytes_of(image) if isinstance(image, Tensor) else image
    picture = Image.fromarray(pixels[..., 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels)
    if name == "JPEG" and picture.mode == "RGBA":
        raise PhotoError(f"{path}: JPEG has no transparency; choose .png, .webp or .tif")
    buffer = io.BytesIO()
    picture.save(buffer, format=name, **options)
    try:
        write_bytes(path, buffer.getvalue())
    except OSError as error:
        raise PhotoError(f"{path}: cannot be written ({error.strerror})") from error
    return path


def _bytes_of(image: Tensor) -> np.ndarray:
    """float (1, C, H, W) -> uint8 (H, W, C), to the nearest level."""
    if image.ndim != 4 or image.shape[0] != 1 or image.shape[1] not in (1, 3, 4):
        raise ValueError(f"expected one image (1, 1|3|4, H, W), got {tuple(image.shape)}")
    if not bool(torch.isfinite(image).all()):
        raise ValueError("the image holds values that are not finite")
    levels = (image.detach()[0].float().clamp(0, 1) * 255).round().to(torch.uint8)
    return levels.permute(1, 2, 0).contiguous().cpu().numpy()
