"""What a cut-out is put in front of: a photo, a colour, or its own surroundings out of focus."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from PIL import ImageColor
from scipy import ndimage
from torch import Tensor

from sgmatte.errors import UsageError

LEAST = 1e-4  # of the surroundings' weight; under it a pixel is deep inside the person, who hides it


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
