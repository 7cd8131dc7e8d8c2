"""StyleGAN2's generator, under the key names of rosinality's checkpoints, in which the official weights are passed on.

Karras et al., "Analyzing and Improving the Image Quality of StyleGAN" (CVPR 2020), with skip connections in the
generator (figure 7b). A modulated convolution is computed as in its section 2.2, but on activations in place of
weights: scale the input channels by the style, convolve with the weights that all samples share, scale the output
channels by the demodulation. The result is the same, and going back, a style's gradient is a sum over features in
place of a convolution that gives one as large as the weights.

Row r of W+ (N, L, 512): 0 the first convolution, 1 its RGB; of the k-th doubling (from 0) 1 + 2k and 2 + 2k the
convolutions, 3 + 2k the RGB, which it shares with the next. A picture of 2**s pixels a side has L = 2s - 2 rows and
2s - 3 noise maps: one at 4x4, then two at each resolution.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sgmatte.errors import UsageError
from sgmatte.ops import bias_act, upfirdn2d

SLOPE, GAIN = 0.2, math.sqrt(2)  # of every leaky ReLU, which keeps the variance
FAST_FROM = 8  # side of the hidden features from which on `fast` counts; below, nothing is to be gained


def channel_table(size: int, multiplier: int = 2, width: float = 1) -> tuple[int, ...]:
    """Channels at 4, 8 ... `size` pixels a side: config-f has multiplier 2, config-e 1; `width` scales them all.

    Raises:
        UsageError: `size` is no power of two from 8 up.
    """
    if size < 8 or size & (size - 1):
        raise UsageError(f"StyleGAN2 draws pictures of 8, 16, 32 ... pixels a side, not {size}")
    sides = [2**k for k in range(2, size.bit_length())]
    return tuple(round(width * (512 if side <= 32 else 16384 * multiplier // side)) for side in sides)


def checked_channels(size: int, multiplier: int, channels: Sequence[int] | None) -> tuple[int, ...]:
    """`channels` as given, or the table.

    Raises:
        UsageError: they are not as many as `size` has resolutions.
    """
    table = channel_table(size, multiplier)
    if channels is not None and len(channels) != len(table):
        raise UsageError(f"{size} px have {len(table)} resolutions, but channels are given for {len(channels)}")
    return table if channels is None else tuple(channels)


class Filter(nn.Module):
    """The FIR filter [1, 3, 3, 1] along both axes, with a sum of `gain`, while the size changes by `up` / `down`."""

    def __init__(self, pad: tuple[int, int], up: int = 1, down: int = 1, gain: float = 1) -> None:
        super().__init__()
        taps = torch.tensor([1.0, 3.0, 3.0, 1.0])
        self.register_buffer("kernel", torch.outer(taps, taps) * (gain / 64))
        self.pad, self.up, self.down = pad, up, down

    def forward(self, x: Tensor) -> Tensor:
        return upfirdn2d(x, self.get_buffer("kernel"), up=self.up, down=self.down, pad=self.pad)


class EqualLinear(nn.Module):
    """Fully connected layer with an equalised learning rate: parameters are kept divided by what scales them here."""

    def __init__(self, inputs: int, outputs: int, bias: float = 0, rate: float = 1, activate: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / rate)
        self.bias = nn.Parameter(torch.full((outputs,), float(bias)))
        self.rate, self.scale, self.activate = rate, rate / math.sqrt(inputs), activate

    def forward(self, x: Tensor) -> Tensor:
        x = F.linear(x, self.weight * self.scale, self.bias * self.rate)
        return F.leaky_relu(x, SLOPE) * GAIN if self.activate else x


class PixelNorm(nn.Module):
    """Each sample divided by its root mean square over channels."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.square().mean(dim=1, keepdim=True) + 1e-8)


class ModulatedConv(nn.Module):
    """What a modulated convolution learns: weight (1, outputs, inputs, k, k) and the style's linear layer."""

    def __init__(self, latent: int, inputs: int, outputs: int, kernel: int, up: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(1, outputs, inputs, kernel, kernel))
        self.modulation = EqualLinear(latent, inputs, bias=1)
        self.scale = 1 / math.sqrt(inputs * kernel**2)
        if up:
            self.blur = Filter(pad=(1, 1), gain=4)
        self.up = up

    def style(self, w: Tensor) -> Tensor:
        """Factors (N, inputs), with the weight's equalised learning rate in them."""
        return self.modulation(w) * self.scale

    def demodulation(self, style: Tensor) -> Tensor:
        """Factors (N, outputs) that give each output channel unit variance, were the inputs white."""
        return torch.rsqrt(style.square() @ self.weight[0].square().sum((2, 3)).T + 1e-8)

    def forward(self, x: Tensor) -> Tensor:
        """The convolution alone, of an input that is scaled already."""
        weight = self.weight[0].to(x.dtype)
        if self.up:
            return self.blur(F.conv_transpose2d(x, weight.transpose(0, 1), stride=2))  # H -> 2H + 1 -> 2H
        return F.conv2d(x, weight, padding=weight.shape[-1] // 2)


class StyledConv(nn.Module):
    """Modulated 3x3 convolution, noise, bias, leaky ReLU; the last three with the demodulation in one operator."""

    def __init__(self, latent: int, inputs: int, outputs: int, up: bool = False) -> None:
        super().__init__()
        self.conv = ModulatedConv(latent, inputs, outputs, 3, up)
        self.noise = nn.ParameterDict({"weight": torch.zeros(1)})
        self.activate = nn.ParameterDict({"bias": torch.zeros(outputs)})

    def forward(self, x: Tensor, w: Tensor, noise: Tensor) -> Tensor:
        style = self.conv.style(w)
        x = self.conv(x * style[:, :, None, None].to(x.dtype))
        demodulation = self.conv.demodulation(style)
        return bias_act(x, self.activate["bias"], noise, self.noise["weight"], demodulation, SLOPE, GAIN)


class ToRGB(nn.Module):
    """Modulated 1x1 convolution without demodulation, added to the picture of half the size."""

    def __init__(self, latent: int, inputs: int, up: bool = True) -> None:
        super().__init__()
        self.conv = ModulatedConv(latent, inputs, 3, 1)
        self.bias = nn.Parameter(torch.zeros(1, 3, 1, 1))
        if up:
            self.upsample = Filter(pad=(2, 1), up=2, gain=4)

    def forward(self, x: Tensor, w: Tensor, skip: Tensor | None = None) -> Tensor:
        # Three rows of weights are small enough to be modulated themselves, which spares a pass over the features.
        weight = self.conv.weight[..., 0, 0] * self.conv.style(w)[:, None]  # (N, 3, C)
        rgb = (weight.to(x.dtype) @ x.flatten(2)).unflatten(2, x.shape[2:]).float() + self.bias
        return rgb if skip is None else rgb + self.upsample(skip)


class Generator(nn.Module):
    """W+ (N, L, latent) and noise maps -> picture (N, 3, size, size) in about [-1, 1]; `mapping` makes w from z.

    With `fast`, large hidden features are bfloat16. `channels` (from 4 px up) overrules the multiplier's table.

    Raises:
        UsageError: a size that is no power of two, or channels that do not fit it.
    """

    def __init__(
        self,
        size: int,
        channel_multiplier: int = 2,
        latent: int = 512,
        depth: int = 8,
        channels: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        self.size, self.latent, self.depth = size, latent, depth
        self.channels = checked_channels(size, channel_multiplier, channels)
        self.fast = False
        first, *rest = self.channels
        layers = [EqualLinear(latent, latent, rate=0.01, activate=True) for _ in range(depth)]
        self.style = nn.Sequential(PixelNorm(), *layers)
        self.input = nn.ParameterDict({"input": torch.randn(1, first, 4, 4)})
        self.conv1 = StyledConv(latent, first, first)
        self.to_rgb1 = ToRGB(latent, first, up=False)
        self.convs, self.to_rgbs, self.noises = nn.ModuleList(), nn.ModuleList(), nn.Module()
        for inputs, outputs in zip(self.channels, rest, strict=False):
            self.convs.append(StyledConv(latent, inputs, outputs, up=True))
            self.convs.append(StyledConv(latent, outputs, outputs))
            self.to_rgbs.append(ToRGB(latent, outputs))
        for k, shape in enumerate(self.noise_shapes):
            self.noises.register_buffer(f"noise_{k}", torch.randn(shape))

    @property
    def config(self) -> dict[str, Any]:
        """What the constructor needs to make this network again, as JSON can hold it."""
        return {"size": self.size, "channels": list(self.channels), "latent": self.latent, "depth": self.depth}

    @property
    def layers(self) -> int:
        return 2 * len(self.channels)

    @property
    def noise_shapes(self) -> list[tuple[int, int, int, int]]:
        sides = [4] + [4 * 2**k for k in range(1, len(self.channels)) for _ in range(2)]
        return [(1, 1, side, side) for side in sides]

    @property
    def noise(self) -> list[Tensor]:
        """The noise maps that came with the weights, [(1, 1, r, r)]."""
        return list(self.noises.buffers())

    def mapping(self, z: Tensor) -> Tensor:
        """z (N, latent) ~ N(0, 1) -> w (N, latent)."""
        return self.style(z)

    def stages(self, w_plus: Tensor, noise: Sequence[Tensor] | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """Hidden features (N, C, r, r) and the picture so far (N, 3, r, r), for r = 4, 8 ... size."""
        noise, w = self.noise if noise is None else noise, w_plus.unbind(1)
        x = self.input["input"].expand(len(w_plus), -1, -1, -1).contiguous(memory_format=torch.channels_last)
        x = self.conv1(x, w[0], noise[0])
        rgb = self.to_rgb1(x, w[1])
        yield x, rgb
        for k, to_rgb in enumerate(self.to_rgbs):
            if self.fast and x.shape[-1] >= FAST_FROM:
                x = x.bfloat16()
            x = self.convs[2 * k](x, w[1 + 2 * k], noise[1 + 2 * k])
            x = self.convs[2 * k + 1](x, w[2 + 2 * k], noise[2 + 2 * k])
            rgb = to_rgb(x, w[3 + 2 * k], rgb)
            yield x, rgb

    def forward(self, w_plus: Tensor, noise: Sequence[Tensor] | None = None) -> Tensor:
        *_, (_, rgb) = self.stages(w_plus, noise)
        return rgb
