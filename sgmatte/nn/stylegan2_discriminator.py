"""StyleGAN2's discriminator, under the key names of rosinality's checkpoints.

Karras et al., "Analyzing and Improving the Image Quality of StyleGAN" (CVPR 2020): residual blocks (figure 7c) and the
minibatch standard deviation of Karras et al., "Progressive Growing of GANs" (ICLR 2018), section 3.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sgmatte.nn.stylegan2 import FAST_FROM, GAIN, SLOPE, EqualLinear, Filter, checked_channels
from sgmatte.ops import bias_act

GROUP = 4  # samples whose standard deviation is taken together
RGB = 3  # channels of a picture


class EqualConv(nn.Module):
    """Convolution with an equalised learning rate and without bias."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, padding: int = 0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel))
        self.scale = 1 / math.sqrt(inputs * kernel**2)
        self.stride, self.padding = stride, padding

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, (self.weight * self.scale).to(x.dtype), stride=self.stride, padding=self.padding)


class BiasAct(nn.Module):
    """Bias and leaky ReLU."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        return bias_act(x, self.bias, slope=SLOPE, gain=GAIN)


class ResidualBlock(nn.Module):
    """(N, inputs, H, W) -> (N, outputs, H / 2, W / 2)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(EqualConv(inputs, inputs, 3, padding=1), BiasAct(inputs))
        self.conv2 = nn.Sequential(Filter(pad=(2, 2)), EqualConv(inputs, outputs, 3, stride=2), BiasAct(outputs))
        # A strided 1x1 convolution reads every other pixel, so that the filter need not make the rest.
        self.skip = nn.Sequential(Filter(pad=(1, 1), down=2), EqualConv(inputs, outputs, 1))

    def forward(self, x: Tensor) -> Tensor:
        return (self.conv2(self.conv1(x)) + self.skip(x)) / math.sqrt(2)


def with_deviation(x: Tensor) -> Tensor:
    """`x` (N, C, H, W) with one channel more: how much the samples of a group differ, on average over C, H and W.

    Groups have four samples, or as many as divide the batch. Sample i is in group i modulo their number.
    """
    n, c, h, w = x.shape
    group = next(size for size in range(min(GROUP, n), 0, -1) if n % size == 0)
    grouped = x.view(group, n // group, c, h, w)
    deviation = (grouped.var(0, correction=0) + 1e-8).sqrt().mean((1, 2, 3))  # (N / group,)
    return torch.cat((x, deviation.repeat(group)[:, None, None, None].expand(n, 1, h, w)), dim=1)


class Discriminator(nn.Module):
    """Pictures (N, 3, size, size) in [-1, 1] -> logits (N, 1), positive for real ones.

    With `fast`, large hidden features are bfloat16. `channels` (from 4 px up) overrules the multiplier's table.

    Raises:
        UsageError: a size that is no power of two, or channels that do not fit it.
    """

    def __init__(self, size: int, channel_multiplier: int = 2, channels: Sequence[int] | None = None) -> None:
        super().__init__()
        self.size = size
        self.channels = checked_channels(size, channel_multiplier, channels)
        self.fast = False
        last, *_, first = self.channels
        blocks = (ResidualBlock(inputs, outputs) for inputs, outputs in pairwise(reversed(self.channels)))
        self.convs = nn.Sequential(nn.Sequential(EqualConv(3, first, 1), BiasAct(first)), *blocks)
        self.final_conv = nn.Sequential(EqualConv(last + 1, last, 3, padding=1), BiasAct(last))
        self.final_linear = nn.Sequential(EqualLinear(last * 16, last, activate=True), EqualLinear(last, 1))

    @property
    def config(self) -> dict[str, Any]:
        """What the constructor needs to make this network again, as JSON can hold it."""
        return {"size": self.size, "channels": list(self.channels)}

    def forward(self, image: Tensor) -> Tensor:
        x = image.contiguous(memory_format=torch.channels_last)
        for block in self.convs:
            # From three channels in bfloat16, oneDNN divides by zero in the second derivative of some batches.
            fast = self.fast and x.shape[-1] >= FAST_FROM and x.shape[1] > RGB
            x = block(x.bfloat16() if fast else x.float())
        return self.final_linear(self.final_conv(with_deviation(x.float())).flatten(1))
