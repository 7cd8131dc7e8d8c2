"""Alphas, trimaps and cut-outs as files: what painters, programs and sgmatte itself make of them.

Alphas are float32 (1, 1, H, W) in [0, 1]; trimaps int64 (1, 1, H, W): 0 background, 1 unknown, 2 foreground.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sgmatte.errors import PhotoError, TrimapError
from sgmatte.hostile import MAX_PIXELS
from sgmatte.photo import rgb_pixels
from sgmatte.readers import Raster, decoded
from sgmatte.trimaps import band_trimap
from sgmatte.writers import write_image

TRIMAP_LEVELS = (0, 128, 255)
BLACK, WHITE = 24, 231  # how far a level may be off and still mean black or white


def read_cutout(path: Path | str, max_pixels: int = MAX_PIXELS) -> Tensor:
    """Read a cut-out, RGBA (1, 4, H, W) float32 in [0, 1], straight alpha.

    Raises:
        PhotoError: as `read_photo`, or it has no transparency.
    """
    return cutout_of_raster(Path(path), decoded(Path(path), max_pixels))


def cutout_of_raster(path: Path, raster: Raster) -> Tensor:
    """`read_cutout` of what a file, or another source that `path` names, holds."""
    if raster.alpha is None:
        raise PhotoError(f"{path}: has no transparency; a cut-out is what `sgmatte matte --cutout` writes")
    alpha = torch.from_numpy(raster.alpha).float()[None] / raster.white
    return torch.cat((rgb_pixels(raster), alpha))[None]


def read_alpha(path: Path | str, max_pixels: int = MAX_PIXELS) -> Tensor:
    """Read an alpha, (1, 1, H, W) float32 in [0, 1]: the transparency of a file that has some, else its grey levels.

    Raises:
        PhotoError: as `read_photo`.
    """
    levels = levels_of_raster(decoded(Path(path), max_pixels, managed=False))
    return torch.from_numpy(levels / np.float32(255))[None, None]


def read_trimap(
    path: Path | str, size: tuple[int, int], width: float | None = None, *, complete: bool = True
) -> Tensor:
    """Read a trimap file of a photo of (height, width) `size` as classes (1, 1, H, W): 0 bg, 1 unknown, 2 fg.

    Black is background, mid-grey unknown, white foreground, with room for JPEG noise and anti-aliased edges, in any
    mode that a photo may have. In a file with transparency, what is transparent is background; its colours count as
    well if they are several greys.

    Args:
        width: the file is a mask or an alpha: all within so many pixels of what is neither black nor white, or of an
            edge between the two, becomes unknown.
        complete: refuse a trimap without background or without foreground; matting needs both.

    Raises:
        PhotoError: no image.
        TrimapError: another size than the photo's, no unknown pixels, or no background or foreground, or an alpha or a
            mask in a trimap's place.
    """
    path = Path(path)
    levels = levels_of_raster(decoded(path, MAX_PIXELS, managed=False), drawn=True)
    return classes_of_levels(levels, size, width, name=str(path), complete=complete)


def classes_of_levels(
    levels: np.ndarray, size: tuple[int, int], width: float | None = None, *, name: str, complete: bool = True
) -> Tensor:
    """`read_trimap` of grey levels, float32 (H, W) in [0, 255]; `name` says in errors what they are.

    Raises:
        TrimapError: as `read_trimap`.
    """
    if levels.shape != tuple(size):
        raise TrimapError(
            f"{name}: the trimap is {levels.shape[1]}x{levels.shape[0]}, its photo {size[1]}x{size[0]} (width x "
            "height); save it again in the photo's size"
        )
    classes = np.digitize(levels, (85, 170)) if width is None else _band(levels, width)  # GCA's reader's thresholds
    _check_classes(name, classes, levels, width, complete)
    between = levels[(levels > BLACK) & (levels < WHITE)]
    if width is None and between.size and np.mean(np.abs(between - np.median(between)) <= BLACK) < 0.5:
        raise TrimapError(
            f"{name}: looks like an alpha or a mask; a trimap has three levels. --trimap-width makes one of it, "
            "`sgmatte trimap` one of the photo"
        )
    return torch.from_numpy(classes.astype(np.int64))[None, None]


def levels_of_raster(raster: Raster, drawn: bool = False) -> np.ndarray:
    """Levels, float32 (H, W) in [0, 255]: grey ones, or in a file with transparent pixels those of its alpha.

    With `drawn`, several greys on transparency are a drawing: the darker of grey and alpha counts.
    """
    scale = np.float32(raster.white / 255)
    colours = raster.colours
    weights = (1,) if colours.shape[2] == 1 else (0.299, 0.587, 0.114)  # of brightness, as Pillow has them
    grey = (colours @ np.array(weights)).astype(np.float32) / scale
    if raster.alpha is None or raster.alpha.min() == raster.white:
        return grey
    shown = colours[raster.alpha > 0]
    drawn = drawn and shown.size > 0 and np.ptp(shown) > 0 and bool(np.all(shown == shown[:, :1]))
    alpha = raster.alpha / scale
    return np.minimum(grey, alpha) if drawn else alpha


def _band(levels: np.ndarray, width: float) -> np.ndarray:
    cleaned = np.where(levels <= BLACK, 0, np.where(levels >= WHITE, 255, levels)) / np.float32(255)
    return band_trimap(torch.from_numpy(cleaned.astype(np.float32))[None, None], width)[0, 0].numpy()


def _check_classes(name: str, classes: np.ndarray, levels: np.ndarray, width: float | None, complete: bool) -> None:
    """Raises TrimapError where a class is missing, with what to do about it."""
    for index, region in ((0, "background (black)"), (2, "foreground (white)"), (1, "unknown (grey)")):
        if np.any(classes == index) or not (complete or index == 1):
            continue
        if index == 1:
            advice = "paint the boundary grey; --trimap-width PIXELS does it for a plain mask"
        elif width is not None and np.any(levels <= BLACK if index == 0 else levels >= WHITE):
            advice = f"a --trimap-width of {width:g} is too much for it"
        else:
            advice = f"its levels go from {levels.min():.0f} to {levels.max():.0f} of 255"
        raise TrimapError(f"{name}: the trimap has no {region} pixels, so nothing can be estimated from it: {advice}")


def write_trimap(path: Path | str, trimap: Tensor) -> Path:
    """Write classes (1, 1, H, W) as levels 0, 128 and 255; raises like `write_image`."""
    levels = np.array(TRIMAP_LEVELS, dtype=np.uint8)
    return write_image(path, levels[trimap[0, 0].cpu().numpy()])
