"""The compiled operators as `torch.library` operators: shapes for torch.compile, and derivatives of any order.

The gradient of `upfirdn2d` is `upfirdn2d`. That of `bias_act` is one more fused pass; where it is to be differentiated
in turn (R1, path length), it is the same formula in plain torch operations. So it is with `haar_synthesis`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from sgmatte.ops import native, reference
from sgmatte.ops.reference import padding, pair


@torch.library.custom_op("sgmatte::upfirdn2d", mutates_args=(), device_types=native.DEVICES)
def upfirdn2d(x: Tensor, kernel: Tensor, up: Sequence[int], down: Sequence[int], pad: Sequence[int]) -> Tensor:
    compiled = native.library(x.device.type)
    if compiled is None:
        return reference.upfirdn2d(x, kernel, up, down, pad)
    return compiled.upfirdn2d(x, kernel, pair(up), pair(down), padding(pad))


@upfirdn2d.register_fake
def _(x: Tensor, kernel: Tensor, up: Sequence[int], down: Sequence[int], pad: Sequence[int]) -> Tensor:
    shape = (x.shape[2], x.shape[3]), (kernel.shape[0], kernel.shape[1])
    size = native.resampled_size(*shape, pair(up), pair(down), padding(pad))
    return native.empty((*x.shape[:2], *size), x)


def _keep_upfirdn2d(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, kernel, *ctx.how = inputs
    ctx.size = x.shape[2:]
    ctx.save_for_backward(kernel)


def _upfirdn2d_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    (kernel,) = ctx.saved_tensors
    up, down, (x0, _, y0, _) = ctx.how
    (kh, kw), (h, w), (out_h, out_w) = kernel.shape, ctx.size, grad.shape[2:]
    pad = [
        kw - 1 - x0,
        w * up[1] - out_w * down[1] + x0 - up[1] + 1,
        kh - 1 - y0,
        h * up[0] - out_h * down[0] + y0 - up[0] + 1,
    ]
    return torch.ops.sgmatte.upfirdn2d(grad, kernel.flip(0, 1), down, up, pad), None, None, None, None


upfirdn2d.register_autograd(_upfirdn2d_backward, setup_context=_keep_upfirdn2d)


@torch.library.custom_op("sgmatte::bias_act", mutates_args=(), device_types=native.DEVICES)
def bias_act(
    x: Tensor,
    bias: Tensor | None,
    noise: Tensor | None,
    noise_scale: Tensor | None,
    scale: Tensor | None,
    slope: float,
    gain: float,
) -> Tensor:
    compiled = native.library(x.device.type)
    act = reference.bias_act if compiled is None else compiled.bias_act
    return act(x, bias, noise, noise_scale, scale, slope, gain)


@bias_act.register_fake
def _(
    x: Tensor,
    bias: Tensor | None,
    noise: Tensor | None,
    noise_scale: Tensor | None,
    scale: Tensor | None,
    slope: float,
    gain: float,
) -> Tensor:
    return native.empty(x.shape, x)


@torch.library.custom_op("sgmatte::bias_act_backward", mutates_args=(), device_types=native.DEVICES)
def bias_act_backward(
    grad: Tensor,
    y: Tensor,
    bias: Tensor | None,
    noise: Tensor | None,
    noise_scale: Tensor | None,
    scale: Tensor | None,
    slope: float,
    gain: float,
    channels: bool,
    pixels: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    compiled = native.library(y.device.type)
    if compiled is not None:
        return compiled.bias_act_backward(grad, y, bias, noise, noise_scale, scale, slope, gain, channels, pixels)
    dx, p, product = _plain_sums(grad, y, bias, noise, noise_scale, scale, slope, gain)
    sums = torch.stack((p.sum((2, 3)), product.sum((2, 3))), 2) if channels else p.new_empty(0)
    return dx, sums, p.sum(1, keepdim=True) if pixels else p.new_empty(0)


@bias_act_backward.register_fake
def _(
    grad: Tensor,
    y: Tensor,
    bias: Tensor | None,
    noise: Tensor | None,
    noise_scale: Tensor | None,
    scale: Tensor | None,
    slope: float,
    gain: float,
    channels: bool,
    pixels: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    n, c, h, w = y.shape
    return (
        native.empty(y.shape, y),
        y.new_empty((n, c, 2) if channels else (0,), dtype=torch.float32),
        y.new_empty((n, 1, h, w) if pixels else (0,), dtype=torch.float32),
    )


def _plain_sums(
    grad: Tensor,
    y: Tensor,
    bias: Tensor | None,
    noise: Tensor | None,
    noise_scale: Tensor | None,
    scale: Tensor | None,
    slope: float,
    gain: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradient of x; `p`, the gradient before slope and gain; `p` x `scale`, with x found from the output."""
    steep = torch.where(y > 0, gain, gain * slope).detach()
    p = grad.float() * steep
    scaled = y.float() / steep
    if noise is not None:
        scaled = scaled - (noise if noise_scale is None else noise * noise_scale.view(1, 1, 1, 1))
    if bias is not None:
        scaled = scaled - bias.view(1, -1, 1, 1)
    dx = p if scale is None else p * scale[:, :, None, None]
    return dx.to(y.dtype), p, p * scaled


def _keep_bias_act(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, *parameters, ctx.slope, ctx.gain = inputs
    ctx.save_for_backward(output, *parameters)


def _bias_act_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    y, bias, noise, noise_scale, scale = ctx.saved_tensors
    arguments = (grad, y, bias, noise, noise_scale, scale, ctx.slope, ctx.gain)
    _, to_bias, to_noise, to_strength, to_scale, _, _ = ctx.needs_input_grad
    if torch.is_grad_enabled():  # create_graph: these gradients will be differentiated
        dx, p, product = _plain_sums(*arguments)
        sums, pixels = torch.stack((p.sum((2, 3)), product.sum((2, 3))), 2), p.sum(1, keepdim=True)
    else:
        channels, pixels = to_bias or to_scale, to_noise or to_strength
        dx, sums, pixels = torch.ops.sgmatte.bias_act_backward(*arguments, channels, pixels)
    noise_gradient = None
    if to_noise:
        strong = pixels if noise_scale is None else pixels * noise_scale.view(1, 1, 1, 1)
        noise_gradient = strong.sum_to_size(noise.shape).to(noise.dtype)
    return (
        dx,
        sums[..., 0].sum(0).to(bias.dtype) if to_bias else None,
        noise_gradient,
        (pixels * noise).sum().view(noise_scale.shape).to(noise_scale.dtype) if to_strength else None,
        (sums[..., 1] / scale).to(scale.dtype) if to_scale else None,
        None,
        None,
    )


bias_act.register_autograd(_bias_act_backward, setup_context=_keep_bias_act)


@torch.library.custom_op("sgmatte::haar_synthesis", mutates_args=(), device_types=native.DEVICES)
def haar_synthesis(x: Tensor, scale: Tensor | None) -> Tensor:
    compiled = native.library(x.device.type)
    return (reference if compiled is None else compiled).haar_synthesis(x, scale)


@haar_synthesis.register_fake
def _(x: Tensor, scale: Tensor | None) -> Tensor:
    n, c, h, w = x.shape
    return native.empty((n, c // 4, 2 * h, 2 * w), x)


@torch.library.custom_op("sgmatte::haar_synthesis_backward", mutates_args=(), device_types=native.DEVICES)
def haar_synthesis_backward(grad: Tensor, x: Tensor, scale: Tensor | None) -> tuple[Tensor, Tensor]:
    compiled = native.library(x.device.type)
    return (_plain_haar if compiled is None else compiled.haar_synthesis_backward)(grad, x, scale)


@haar_synthesis_backward.register_fake
def _(grad: Tensor, x: Tensor, scale: Tensor | None) -> tuple[Tensor, Tensor]:
    return native.empty(x.shape, x), x.new_empty(x.shape[:2], dtype=torch.float32)


def _plain_haar(grad: Tensor, x: Tensor, scale: Tensor | None) -> tuple[Tensor, Tensor]:
    """Gradients of x and of the scale."""
    coefficients = reference.haar_analysis(grad.float())
    dx = coefficients if scale is None else coefficients * scale[:, :, None, None]
    return dx.to(x.dtype), (coefficients * x).sum((2, 3))


def _keep_haar_synthesis(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _haar_synthesis_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    x, scale = ctx.saved_tensors
    differentiable = torch.is_grad_enabled()  # create_graph: these gradients will be differentiated
    gradients = _plain_haar if differentiable else torch.ops.sgmatte.haar_synthesis_backward
    dx, sums = gradients(grad, x, scale)
    return dx, sums.to(scale.dtype) if ctx.needs_input_grad[1] else None


haar_synthesis.register_autograd(_haar_synthesis_backward, setup_context=_keep_haar_synthesis)
