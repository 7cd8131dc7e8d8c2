"""What AlphaGAN and the official DeepLab are made of, under the key names of their checkpoints.

Bottleneck stages of residual networks: He et al., *Deep Residual Learning for Image Recognition*, CVPR 2016, figure 5.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch.nn.functional as F
from torch import Tensor, nn

EXPANSION = 4  # a block's outputs over its inner channels

Norm = Callable[[int], nn.Module]
"""Makes the normalisation of that many channels."""


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 convolutions beside a shortcut: (N, inputs, H, W) -> (N, 4 * inner, H / stride, W / stride)."""

    def __init__(self, inputs: int, inner: int, norm: Norm, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        outputs = EXPANSION * inner
        self.conv1, self.bn1 = nn.Conv2d(inputs, inner, 1, bias=False), norm(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride=stride, padding=dilation, dilation=dilation, bias=False)
        self.bn2 = norm(inner)
        self.conv3, self.bn3 = nn.Conv2d(inner, outputs, 1, bias=False), norm(outputs)
        self.downsample: nn.Module = nn.Identity()
        if stride > 1 or inputs != outputs:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), norm(outputs))

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        out = F.relu(self.bn2(self.conv2(out)))
        return F.relu(self.bn3(self.conv3(out)) + self.downsample(x))


def stage(inputs: int, inner: int, norm: Norm, dilations: Sequence[int], stride: int = 1) -> nn.Sequential:
    """One block for each dilation; the first has the stride."""
    first, *rest = dilations
    blocks = (Bottleneck(EXPANSION * inner, inner, norm, dilation=dilation) for dilation in rest)
    return nn.Sequential(Bottleneck(inputs, inner, norm, stride, first), *blocks)


class AtrousConv(nn.Module):
    """A branch of a spatial pyramid: dilated 3x3 convolution, normalisation, ReLU; 1x1 for dilation 1."""

    def __init__(self, inputs: int, outputs: int, dilation: int, norm: Norm) -> None:
        super().__init__()
        kernel, padding = (1, 0) if dilation == 1 else (3, dilation)
        self.atrous_conv = nn.Conv2d(inputs, outputs, kernel, padding=padding, dilation=dilation, bias=False)
        self.bn = norm(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.atrous_conv(x)))
