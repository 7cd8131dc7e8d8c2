"""What a cut-out is put in front of: a photo, a colour, or its own surroundings out of focus."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import ImageColor
from scipy import ndimage
from torch import Tensor

from sgmatte.errors import PhotoError, UsageError
from sgmatte.foreground import composite
from sgmatte.hostile import MAX_PIXELS
from sgmatte.photo import Photo, read_photo

BLUR = "blur"
LEAST = 1e-4  # of the surroundings' weight; under it a pixel is deep inside the person, who hides it


def in_front(
    cutout: Tensor, background: Tensor | str, photo: Photo | None = None, blur: float = 2, *, name: str = "cut-out"
) -> Tensor:
    """A cut-out (1, 4, H, W), straight alpha, in front of something: (1, 3, H, W) in [0, 1].

    Args:
        background: a photo (1, 3, h, w), of which the largest middle part of the cut-out's shape is taken; a colour; or
            `blur` for the cut-out's own surroundings out of focus.
        photo: what the cut-out was taken from; `blur` needs it.
        blur: strength of `blur`, in percent of the longest side.
        name: of the cut-out, in errors.

    Raises:
        UsageError: no colour, or `photo` without `blur`, or `blur` without `photo`.
        PhotoError: `photo` has another size than the cut-out.
    """
    colours, alpha = cutout.split((3, 1), 1)
    height, width = size = (alpha.shape[2], alpha.shape[3])
    check_background(background, photo is not None)
    if isinstance(background, Tensor):
        behind = covering(background, size)
    elif photo is None:
        behind = colour(background)
    elif photo.size != size:
        theirs = f"{photo.size[1]}x{photo.size[0]}"
        raise PhotoError(f"{name}: is {width}x{height} pixels, its --photo {photo.path} {theirs}")
    else:
        behind = out_of_focus(photo.image, colours, alpha, blur / 100 * max(size))
    return composite(alpha, colours, behind)


def background_of(word: str, max_pixels: int = MAX_PIXELS) -> Tensor | str:
    """What `--background` means: the photo (1, 3, h, w) of this name if there is such a file, else the word itself.

    Raises:
        PhotoError: a file that is no photo.
    """
    return read_photo(word, max_pixels).image if word != BLUR and Path(word).exists() else word


def check_background(background: Tensor | str, has_photo: bool) -> None:
    """Raises UsageError as `in_front` does, before any cut-out is read."""
    if (isinstance(background, str) and background == BLUR) != has_photo:
        raise UsageError("--background blur needs the original photo, as --photo, and nothing else does")
    if isinstance(background, str) and background != BLUR:
        colour(background)


def colour(name: str) -> Tensor:
    """A colour as CSS spells it (`white`, `#1e90ff`, `rgb(30, 144, 255)`), (1, 3, 1, 1) in [0, 1].

    Raises:
        UsageError: it is none.
    """
    try:
        levels = ImageColor.getrgb(name)[:3]
    except ValueError as error:
        raise UsageError(f"'{name}' is neither a file nor a colour (such as white or #1e90ff) nor blur") from error
    return torch.tensor(levels, dtype=torch.float32).view(1, 3, 1, 1) / 255


def covering(photo: Tensor, size: tuple[int, int]) -> Tensor:
    """The largest middle part of `photo` (1, 3, h, w) with the shape of `size` (H, W), resized to it."""
    height, width = photo.shape[-2:]
    scale = max(size[0] / height, size[1] / width)
    rows, columns = (min(extent, round(wanted / scale)) for extent, wanted in zip((height, width), size, strict=True))
    top, left = (height - rows) // 2, (width - columns) // 2
    part = photo[..., top : top + rows, left : left + columns]
    return F.interpolate(part, size, mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)


def out_of_focus(photo: Tensor, foreground: Tensor, alpha: Tensor, sigma: float) -> Tensor:
    """The surroundings of a person, blurred by a Gaussian of `sigma` pixels that nothing of the person enters.

    A plain blur of the photo would leave a halo of skin and clothes around the cut-out. Here the person's share is
    taken away first, and each pixel weighs as much as it belongs to the background (Knutsson and Westin, Normalized and
    differential convolution, CVPR 1993).

    Args:
        photo, foreground: (1, 3, H, W) in [0, 1]; the second its colours without the background, as in a cut-out.
        alpha: (1, 1, H, W) in [0, 1].
    """
    blurred, share = (
        torch.from_numpy(ndimage.gaussian_filter(x[0].numpy().astype(np.float32), (0, sigma, sigma)))[None]
        for x in ((photo - alpha * foreground).clamp_min(0), 1 - alpha)
    )
    return (blurred / share.clamp_min(LEAST)).clamp(0, 1)
