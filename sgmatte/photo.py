"""Photos as people have them, as the tensors that networks see.

Images are float32 (1, C, H, W), RGB in sRGB encoding, in [0, 1]. Files of alphas and trimaps are read in masks.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sgmatte.files import write_json as write_json
from sgmatte.files import write_text as write_text
from sgmatte.hostile import MAX_PIXELS
from sgmatte.readers import Raster, decoded

BAND = 256  # rows that are worked on at once where whole photos would need much memory


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
    frame counts. Grey and RGB keep 16 bits per channel in PNG and TIFF, 10 or 12 in HEIC.

    Raises:
        PhotoError: no such file, not an image, truncated, or more than `max_pixels` by its header; nothing is decoded
            before that is known.
    """
    path = Path(path)
    return photo_of_raster(path, decoded(path, max_pixels))


def photo_of_raster(path: Path, raster: Raster) -> Photo:
    """`read_photo` of what a file, or another source that `path` names, holds."""
    notes = list(raster.notes)
    pixels = rgb_pixels(raster)
    if raster.alpha is not None and np.any(raster.alpha < raster.white):
        notes.append("its transparent parts are shown on white")
        for rows in (slice(top, top + BAND) for top in range(0, len(raster.alpha), BAND)):  # a photo may be large
            share = torch.from_numpy(raster.alpha[rows]).float() / raster.white
            pixels[:, rows] = pixels[:, rows] * share + (1 - share)
    return Photo(path, pixels[None].contiguous(), tuple(notes))


def rgb_pixels(raster: Raster) -> Tensor:
    """(3, H, W) float32 in [0, 1] of a file's colours, without their alpha."""
    height, width, channels = raster.colours.shape
    pixels = torch.empty(3, height, width)
    for k in range(3):  # plane by plane, in place: at the limit of pixels all of them have 1.2 GB
        pixels[k] = torch.from_numpy(raster.colours[..., min(k, channels - 1)])
    return pixels.div_(raster.white)
