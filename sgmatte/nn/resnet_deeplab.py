"""DeepLabv3+ on a ResNet-101, key for key the network that SMPEG predicts its trimaps with.

Chen et al., *Encoder-Decoder with Atrous Separable Convolution for Semantic Image Segmentation*, ECCV 2018; the common
PyTorch implementation has plain convolutions where the paper's are separable. Output stride 16, 59 M weights. The
compact network that sgmatte trains itself is in nn/deeplab.py.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sgmatte.nn.deeplab import CLASSES
from sgmatte.nn.resnet import AtrousConv, stage

DILATIONS = (1, 6, 12, 18)  # of the pyramid
MULTI_GRID = (2, 4, 8)  # dilations of the last stage: 2, for the stride it gave up, times (1, 2, 4)


class ResNet101(nn.Module):
    """(N, 3, H, W) in [-1, 1] -> features (N, 256, H/4, W/4) and (N, 2048, H/16, W/16)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False), nn.BatchNorm2d(64)
        self.layer1 = stage(64, 64, nn.BatchNorm2d, (1,) * 3)
        self.layer2 = stage(256, 128, nn.BatchNorm2d, (1,) * 4, stride=2)
        self.layer3 = stage(512, 256, nn.BatchNorm2d, (1,) * 23, stride=2)
        self.layer4 = stage(1024, 512, nn.BatchNorm2d, MULTI_GRID)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(image))), 3, stride=2, padding=1)
        low = self.layer1(x)
        return low, self.layer4(self.layer3(self.layer2(low)))


class Pyramid(nn.Module):
    """Atrous spatial pyramid pooling: four dilations and the mean of the image, merged."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        branches = (AtrousConv(inputs, outputs, dilation, nn.BatchNorm2d) for dilation in DILATIONS)
        self.aspp1, self.aspp2, self.aspp3, self.aspp4 = branches
        pooled = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.global_avg_pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), pooled, nn.BatchNorm2d(outputs), nn.ReLU())
        self.conv1, self.bn1 = nn.Conv2d(5 * outputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs)
        self.dropout = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        pooled = self.global_avg_pool(x).expand(-1, -1, *x.shape[2:])
        branches = torch.cat((self.aspp1(x), self.aspp2(x), self.aspp3(x), self.aspp4(x), pooled), 1)
        return self.dropout(F.relu(self.bn1(self.conv1(branches))))


class Decoder(nn.Module):
    """The pyramid's answer at stride 16 and the shallow features at stride 4 -> logits at stride 4."""

    def __init__(self, width: int, low: int, low_width: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(low, low_width, 1, bias=False), nn.BatchNorm2d(low_width)
        self.last_conv = nn.Sequential(
            *(nn.Conv2d(width + low_width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()),
            nn.Dropout(0.5),
            *(nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()),
            nn.Dropout(0.1),
            nn.Conv2d(width, CLASSES, 1),
        )

    def forward(self, x: Tensor, low: Tensor) -> Tensor:
        low = F.relu(self.bn1(self.conv1(low)))
        return self.last_conv(torch.cat((_resized(x, low.shape[2:]), low), 1))


class ResNetDeepLab(nn.Module):
    """Logits of background, unknown, foreground at the image's own size."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = ResNet101()
        self.aspp = Pyramid(2048, 256)
        self.decoder = Decoder(256, low=256, low_width=48)

    def forward(self, image: Tensor) -> Tensor:
        """(N, 3, H, W) RGB in [0, 1] -> (N, 3, H, W) logits."""
        low, deep = self.backbone(2 * image - 1)
        return _resized(self.decoder(self.aspp(deep), low), image.shape[2:])


def _resized(x: Tensor, size: torch.Size) -> Tensor:
    return F.interpolate(x, size, mode="bilinear", align_corners=True)
