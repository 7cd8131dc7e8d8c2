"""New backgrounds for the adversarial term: the user's own photos, or made up."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from sgmatte.train.data import image_files, read_rgb


def background(size: tuple[int, int], seed: int, folder: Path | None = None) -> Tensor:
    """A background (1, 3, H, W) in [0, 1] of `size` = (H, W): a photo of `folder` chosen by `seed`, or a made-up one.

    Raises:
        DataError: `folder` does not exist or holds no image.
    """
    rng = np.random.default_rng(seed)
    if folder is None:
        pixels = synthetic_background(size, rng)
    else:
        files = image_files(folder)
        photo = Image.fromarray(read_rgb(files[int(rng.integers(len(files)))]))
        fitted = ImageOps.fit(photo, size[::-1], Image.Resampling.LANCZOS)
        pixels = np.asarray(fitted, np.float32) / np.float32(255)
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))[None]


def synthetic_background(size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Something like a room out of focus, float32 (H, W, 3) in [0, 1]: smooth noise between two random colours.

    The noise is a sum of octaves; where it stops decides how sharp the background looks.
    """
    octaves = int(rng.integers(1, 6))
    brightness = np.add.reduce([_smooth_noise(size, 2**level + 1, 1, rng) * 0.6**level for level in range(octaves)])
    spread = float(np.ptp(brightness)) or 1.0
    mix = (brightness - brightness.min()) / spread  # (H, W, 1)
    first, second = rng.random((2, 3)).astype(np.float32)
    tint = 0.1 * _smooth_noise(size, 3, 3, rng)
    grain = 0.004 * rng.standard_normal((*size, 3), np.float32)  # no photograph is without it
    return np.clip(first + (second - first) * mix + tint + grain, 0, 1)


def _smooth_noise(size: tuple[int, int], cells: int, channels: int, rng: np.random.Generator) -> np.ndarray:
    """Normal noise on a coarse grid of `cells` x `cells`, enlarged bicubically to (H, W, channels)."""
    grid = rng.standard_normal((channels, cells, cells), np.float32)
    planes = [Image.fromarray(plane).resize(size[::-1], Image.Resampling.BICUBIC) for plane in grid]
    return np.stack([np.asarray(plane) for plane in planes], axis=2)
