"""DeepLabv3+: atrous spatial pyramid pooling on deep features, a decoder that sharpens them with shallow ones.

Chen et al., *Encoder-Decoder with Atrous Separable Convolution for Semantic Image Segmentation*, ECCV 2018. Backbone
and head are apart: any module that returns a shallow feature at stride 4 and a deep one at stride 16 will do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sgmatte.nn.efficientnet import DepthwiseConv2d, EfficientNetLite0

CLASSES = 3  # background, unknown, foreground


class Backbone(Protocol):
    """What `DeepLab` needs of a backbone, an `nn.Module`; the two numbers are the channels of a call's two results."""

    low_channels: int
    high_channels: int

    def __call__(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """(N, 3, H, W) in [0, 1] -> features at stride 4 and at stride 16."""


class LiteBackbone(nn.Module):
    """EfficientNet-Lite0 at its own strides; the deep feature is stage5 beside stage7, upsampled to stride 16.

    Dilating the last stages instead costs three times as much and gives the ImageNet weights a grid they have not seen.
    Batch norms keep the ImageNet statistics while training: portrait batches on a CPU are too small, and too alike, to
    estimate better ones.
    """

    def __init__(self) -> None:
        super().__init__()
        self.features = EfficientNetLite0()
        channels = self.features.channels
        self.low_channels = channels["stage2"]
        self.high_channels = channels["stage5"] + channels["stage7"]

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        features = self.features(image, ("stage2", "stage5", "stage7"))
        middle = features["stage5"]  # (N, 112, H/16, W/16)
        deep = F.interpolate(features["stage7"], middle.shape[2:], mode="bilinear", align_corners=False)
        return features["stage2"], torch.cat([middle, deep], dim=1)

    def train(self, mode: bool = True) -> LiteBackbone:
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self


def conv_norm(inputs: int, outputs: int) -> nn.Sequential:
    """Pointwise convolution, batch norm, ReLU."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


def separable(inputs: int, outputs: int, dilation: int = 1) -> nn.Sequential:
    """Depthwise 3x3, then pointwise, each with batch norm and ReLU."""
    depthwise = DepthwiseConv2d(inputs, inputs, 3, padding=dilation, dilation=dilation, groups=inputs, bias=False)
    return nn.Sequential(depthwise, nn.BatchNorm2d(inputs), nn.ReLU(inplace=True), *conv_norm(inputs, outputs))


class PyramidPooling(nn.Module):
    """Atrous spatial pyramid pooling: one pointwise branch, one per dilation, one of the image's mean."""

    def __init__(self, inputs: int, width: int, dilations: Sequence[int]) -> None:
        super().__init__()
        self.branches = nn.ModuleList([conv_norm(inputs, width), *(separable(inputs, width, d) for d in dilations)])
        # no batch norm on the pooled branch: its statistics would be those of `batch` numbers
        self.pooled = nn.Sequential(nn.Conv2d(inputs, width, 1), nn.ReLU(inplace=True))
        self.merge = conv_norm(width * (len(dilations) + 2), width)

    def forward(self, x: Tensor) -> Tensor:
        pooled = self.pooled(x.mean((2, 3), keepdim=True)).expand(-1, -1, *x.shape[2:])
        return self.merge(torch.cat([*(branch(x) for branch in self.branches), pooled], dim=1))


class DeepLab(nn.Module):
    """Logits of three classes at a quarter of the image's size.

    Args:
        backbone: see `Backbone`; `LiteBackbone()` by default.
        width: channels of pyramid and decoder (256 in the paper).
        low_width: channels that the shallow features are reduced to (48 in the paper).
        dilations: of the pyramid, in steps of stride 16 (6, 12, 18 in the paper, for 513 px).
    """

    def __init__(
        self,
        backbone: Backbone | None = None,
        *,
        width: int = 128,
        low_width: int = 32,
        dilations: Sequence[int] = (3, 6, 9),
    ) -> None:
        super().__init__()
        self.backbone = backbone or LiteBackbone()
        self.pyramid = PyramidPooling(self.backbone.high_channels, width, dilations)
        self.low = conv_norm(self.backbone.low_channels, low_width)
        self.decoder = nn.Sequential(separable(width + low_width, width), separable(width, width))
        self.classify = nn.Conv2d(width, CLASSES, 1)

    def forward(self, image: Tensor) -> Tensor:
        """(N, 3, H, W) RGB in [0, 1] -> (N, 3, H/4, W/4) logits."""
        low, high = self.backbone(image)
        high = F.interpolate(self.pyramid(high), low.shape[2:], mode="bilinear", align_corners=False)
        return self.classify(self.decoder(torch.cat([high, self.low(low)], dim=1)))
