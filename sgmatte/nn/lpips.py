"""LPIPS on VGG16: the learned perceptual distance of Zhang et al., for users who have its weights.

*The Unreasonable Effectiveness of Deep Features as a Perceptual Metric*, CVPR 2018, equation 1; version 0.1.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

WIDTHS = (64, 128, 256, 512, 512)  # channels of relu1_2, relu2_2, relu3_3, relu4_3, relu5_3
DEPTHS = (2, 2, 3, 3, 3)  # convolutions of each block

# ImageNet's mean and standard deviation, written for images in [-1, 1] and rounded as in LPIPS 0.1.
SHIFT = (-0.030, -0.088, -0.188)
SCALE = (0.458, 0.448, 0.450)


class _ChannelWeights(nn.Module):
    """w_l of equation 1; the dropout is only there because it numbers the published key, `lin0.model.1.weight`."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.model = nn.Sequential(nn.Dropout(), nn.Conv2d(channels, 1, 1, bias=False))

    def forward(self, squared: Tensor) -> Tensor:
        return self.model(squared)


class VGGFeatures(nn.Module):
    """VGG16 up to relu5_3, with the linear layers of LPIPS.

    Keys: `features.0.weight` ... `features.28.bias` of torchvision's vgg16 and `lin0.model.1.weight` ...
    `lin4.model.1.weight` of the lpips package, so that the two published files together fill it without renaming.

    Args:
        divide: divides every width; 1 is the published network.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, divide: int = 1) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        self.taps: list[int] = []
        channels = 3
        for width, depth in zip(WIDTHS, DEPTHS, strict=True):
            if layers:
                layers.append(nn.MaxPool2d(2))
            for _ in range(depth):
                layers += [nn.Conv2d(channels, width // divide, 3, padding=1), nn.ReLU()]
                channels = width // divide
            self.taps.append(len(layers) - 1)
        self.features = nn.Sequential(*layers)
        for level, width in enumerate(WIDTHS):
            setattr(self, f"lin{level}", _ChannelWeights(width // divide))
        self.register_buffer("shift", torch.tensor(SHIFT).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("scale", torch.tensor(SCALE).view(1, 3, 1, 1), persistent=False)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Five activations of an N3HW image in [0, 1], finest first."""
        x = (image * 2 - 1 - self.shift) / self.scale
        taken = []
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index in self.taps:
                taken.append(x)
        return taken

    def weighted(self, level: int, squared: Tensor) -> Tensor:
        """Squared differences of unit-normalised features (NCHW) -> their weighted sum over channels (N1HW)."""
        layer: nn.Module = getattr(self, f"lin{level}")
        return layer(squared)
