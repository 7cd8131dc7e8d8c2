"""The operators in plain torch: what the compiled ones are judged by, and what runs without them.

Sources: Karras et al., "Analyzing and Improving the Image Quality of StyleGAN", CVPR 2020, section 2 and appendix B;
the name and the order of steps of `upfirdn2d` are those of the MATLAB function `upfirdn`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

Pair = tuple[int, int]
Padding = tuple[int, int, int, int]
"""(left, right, top, bottom), negative ones crop."""


def pair(value: int | Sequence[int]) -> Pair:
    """One factor for both axes, or (y, x)."""
    y, x = (value, value) if isinstance(value, int) else value
    return int(y), int(x)


def padding(value: Sequence[int]) -> Padding:
    """(before, after) for both axes, or (x0, x1, y0, y1)."""
    x0, x1, y0, y1 = (*value, *value) if len(value) == 2 else value
    return int(x0), int(x1), int(y0), int(y1)


def upfirdn2d(
    x: Tensor, kernel: Tensor, up: int | Sequence[int] = 1, down: int | Sequence[int] = 1, pad: Sequence[int] = (0, 0)
) -> Tensor:
    """Insert zeros, pad or crop, convolve with a filter (true convolution: it is flipped here), keep every n-th.

    `x` is (N, C, H, W); `kernel` is (kh, kw), or (k,) for the outer product of a filter with itself; the same for all
    channels. Returns (N, C, (H up + y0 + y1 - kh) // down + 1, and likewise for W).
    """
    (up_y, up_x), (down_y, down_x) = pair(up), pair(down)
    n, c, h, w = x.shape
    x = x.reshape(n * c, 1, h, 1, w, 1)
    x = F.pad(x, (0, up_x - 1, 0, 0, 0, up_y - 1)).reshape(n * c, 1, h * up_y, w * up_x)
    x = F.pad(x, padding(pad))
    flipped = kernel.to(x.dtype).flip(list(range(kernel.ndim)))
    if kernel.ndim == 1:
        x = F.conv2d(x, flipped[None, None, :, None], stride=(down_y, 1))
        x = F.conv2d(x, flipped[None, None, None, :], stride=(1, down_x))
    else:
        x = F.conv2d(x, flipped[None, None], stride=(down_y, down_x))
    return x.reshape(n, c, *x.shape[2:])


def bias_act(
    x: Tensor,
    bias: Tensor | None = None,
    noise: Tensor | None = None,
    noise_scale: Tensor | None = None,
    scale: Tensor | None = None,
    slope: float = 0.2,
    gain: float = math.sqrt(2),
) -> Tensor:
    """gain * leaky_relu(x * scale + noise_scale * noise + bias, slope), in `x`'s shape and type.

    `x` (N, C, ...), `scale` (N, C), `bias` (C,), `noise` (N or 1, 1, ...) in `x`'s spatial shape, `noise_scale` one
    value (1 where there is none). Types narrower than float32 are computed in float32.
    """
    extra = (1,) * (x.ndim - 2)
    out = x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
    if scale is not None:
        out = out * scale.to(out.dtype).reshape(*scale.shape, *extra)
    if noise is not None:
        strength = 1.0 if noise_scale is None else noise_scale.to(out.dtype).reshape((1,) * x.ndim)
        out = out + strength * noise.to(out.dtype)
    if bias is not None:
        out = out + bias.to(out.dtype).reshape(1, -1, *extra)
    out = F.leaky_relu(out, slope)
    return (out if gain == 1 else out * gain).to(x.dtype)


def haar_synthesis(x: Tensor, scale: Tensor | None = None) -> Tensor:
    """Inverse Haar wavelet of x * scale: `x` (N, 4C, H, W), `scale` (N, 4C) -> (N, C, 2H, 2W).

    Channels: C averages, then for each of the C its three details (vertical, horizontal, diagonal difference).
    """
    n, c, h, w = x.shape[0], x.shape[1] // 4, x.shape[2], x.shape[3]
    if scale is not None:
        x = x * scale[:, :, None, None].to(x.dtype)
    x = x.permute(0, 2, 3, 1)  # (N, H, W, 4C), a view of a channels_last tensor
    average = x[..., :c]
    vertical, horizontal, diagonal = x[..., c:].unflatten(3, (c, 3)).unbind(4)
    top, bottom = average + vertical, average - vertical  # each pixel row's mean, doubled
    slope_top, slope_bottom = horizontal + diagonal, horizontal - diagonal
    rows = (
        torch.stack((top + slope_top, top - slope_top), dim=3),  # (N, H, W, 2, C): the two pixels of a row
        torch.stack((bottom + slope_bottom, bottom - slope_bottom), dim=3),
    )
    out = torch.stack(rows, dim=2)  # (N, H, 2, W, 2, C)
    return out.mul_(0.5).reshape(n, 2 * h, 2 * w, c).permute(0, 3, 1, 2)


def haar_analysis(x: Tensor) -> Tensor:
    """The wavelet that `haar_synthesis` inverts: (N, C, 2H, 2W) -> (N, 4C, H, W)."""
    pixels = x.unflatten(3, (-1, 2)).unflatten(2, (-1, 2))  # (N, C, H, 2, W, 2)
    top, bottom = pixels.unbind(3)
    (average, horizontal), (vertical, diagonal) = (
        (rows[..., 0] + rows[..., 1], rows[..., 0] - rows[..., 1]) for rows in (top + bottom, top - bottom)
    )
    details = torch.stack((vertical, horizontal, diagonal), dim=2).flatten(1, 2)
    return torch.cat((average, details), dim=1) * 0.5
