"""The operators of the generators: compiled where they can be, in plain torch otherwise.

`upfirdn2d` and `bias_act` are those of StyleGAN2; MobileStyleGAN grows by `haar_synthesis` in place of the first.

What they compute is written in `sgmatte.ops.reference`, how they are compiled in `sgmatte.ops.build`. Compiled ones
take float32 and bfloat16 on CPUs and CUDA, contiguous or channels_last, and are built on first use; anything else, and
everything with the environment variable SGMATTE_OPS=reference, goes to the reference. All have second derivatives.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from sgmatte.ops import native, reference, registered
from sgmatte.ops.reference import padding, pair

__all__ = ["bias_act", "haar_synthesis", "scale_gradients", "upfirdn2d"]


def upfirdn2d(
    x: Tensor, kernel: Tensor, up: int | Sequence[int] = 1, down: int | Sequence[int] = 1, pad: Sequence[int] = (0, 0)
) -> Tensor:
    """Insert zeros, pad or crop, convolve with a filter (true convolution: it is flipped here), keep every n-th.

    Args:
        x: (N, C, H, W).
        kernel: (kh, kw), or (k,) for the outer product of a filter with itself; the same for all channels.
        up, down: for both axes, or (y, x).
        pad: (before, after) for both axes, or (x0, x1, y0, y1); negative ones crop.

    Returns:
        (N, C, (H up + y0 + y1 - kh) // down + 1, and likewise for W), in the type and memory format of `x`.

    Raises:
        ValueError: shapes or factors that do not fit.
        OperatorError: SGMATTE_OPS=require, and they cannot be built.
    """
    up, down, pad = pair(up), pair(down), padding(pad)
    if x.ndim != 4 or kernel.ndim not in (1, 2):
        raise ValueError(
            f"upfirdn2d wants x (N, C, H, W) and kernel (kh, kw) or (k,), got {x.shape} and {kernel.shape}"
        )
    if min(*up, *down) < 1:
        raise ValueError(f"upfirdn2d wants factors of at least 1, got up {up} and down {down}")
    taps = (kernel.shape[0], kernel.shape[-1])
    if min(native.resampled_size((x.shape[2], x.shape[3]), taps, up, down, pad)) < 1:
        raise ValueError(f"upfirdn2d: nothing is left of {tuple(x.shape)} with pad {pad} and a filter of {taps}")
    if x.dtype not in native.TYPES or kernel.requires_grad or not _compiled(x.device.type):
        return reference.upfirdn2d(x, kernel, up, down, pad)
    square = torch.outer(kernel, kernel) if kernel.ndim == 1 else kernel
    return registered.upfirdn2d(x, square, up, down, pad)


def bias_act(
    x: Tensor,
    bias: Tensor | None = None,
    noise: Tensor | None = None,
    noise_scale: Tensor | None = None,
    scale: Tensor | None = None,
    slope: float = 0.2,
    gain: float = math.sqrt(2),
) -> Tensor:
    """gain * leaky_relu(x * scale + noise_scale * noise + bias, slope), in the shape, type and memory format of `x`.

    Args:
        x: (N, C, H, W); other shapes (N, C, ...) go to the reference.
        bias: (C,).
        noise: (N, 1, H, W), or (1, 1, H, W) for all samples.
        noise_scale: one value, the strength of the noise; 1 where it is left out.
        scale: (N, C), the demodulation. Its gradient is found from the output, so no value may be zero.
        slope, gain: above zero in the compiled operator; others go to the reference.

    Raises:
        ValueError: shapes that do not fit.
        OperatorError: SGMATTE_OPS=require, and they cannot be built.
    """
    n, c, *rest = x.shape
    maps = ((n, 1, *rest), (1, 1, *rest))
    if bias is not None and bias.shape != (c,):
        raise ValueError(f"bias_act wants a bias of ({c},), got {tuple(bias.shape)}")
    if scale is not None and scale.shape != (n, c):
        raise ValueError(f"bias_act wants a scale of ({n}, {c}), got {tuple(scale.shape)}")
    if noise is not None and tuple(noise.shape) not in maps:
        raise ValueError(f"bias_act wants noise of {maps[0]} or {maps[1]}, got {tuple(noise.shape)}")
    if noise_scale is not None and (noise is None or noise_scale.numel() != 1):
        raise ValueError("bias_act wants a noise_scale of one value, and noise beside it")
    plain = x.ndim != 4 or x.dtype not in native.TYPES or slope <= 0 or gain <= 0
    if plain or not _compiled(x.device.type):
        return reference.bias_act(x, bias, noise, noise_scale, scale, slope, gain)
    return registered.bias_act(x, bias, noise, noise_scale, scale, slope, gain)


def haar_synthesis(x: Tensor, scale: Tensor | None = None) -> Tensor:
    """Inverse Haar wavelet of x * scale, in the type and memory format of `x`.

    Args:
        x: (N, 4C, H, W): C averages, then for each of the C its vertical, horizontal and diagonal difference.
        scale: (N, 4C).

    Returns:
        (N, C, 2H, 2W).

    Raises:
        ValueError: shapes that do not fit.
        OperatorError: SGMATTE_OPS=require, and they cannot be built.
    """
    if x.ndim != 4 or x.shape[1] % 4:
        raise ValueError(f"haar_synthesis wants x (N, 4C, H, W), got {tuple(x.shape)}")
    if scale is not None and scale.shape != x.shape[:2]:
        raise ValueError(f"haar_synthesis wants a scale of {tuple(x.shape[:2])}, got {tuple(scale.shape)}")
    if x.dtype not in native.TYPES or not _compiled(x.device.type):
        return reference.haar_synthesis(x, scale)
    return registered.haar_synthesis(x, scale)


def scale_gradients(grad: Tensor, x: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """Of x * scale, with `x` and `grad` (N, C, H, W) and `scale` (N, C): the gradients of x and of the scale.

    One pass where it is compiled: it is the backward pass of `bias_act` without bias, noise, slope and gain, but given
    x in place of its output x * scale, which spares a division by scales that may be zero. No second derivatives.
    """
    if x.dtype not in native.TYPES or not _compiled(x.device.type):
        return grad * scale[:, :, None, None].to(grad.dtype), (grad * x).sum((2, 3), dtype=scale.dtype)
    dx, sums, _ = registered.bias_act_backward(grad, x, None, None, None, scale, 1.0, 1.0, True, False)
    return dx, sums[..., 1].to(scale.dtype)


@torch.compiler.assume_constant_result
def _compiled(device: str) -> bool:
    """Whether there are compiled operators for a device type; asked once, while tracing, by torch.compile."""
    return native.library(device) is not None
