"""AlphaGAN: Lutz, Amplianitis and Smolic, *AlphaGAN: Generative adversarial networks for natural image matting*,
BMVC 2018, arXiv 1807.10088.

The authors published no code, and the paper leaves open how the skips enter the decoder. Layers and key names are those
of the one public implementation, which has group norm where a small batch would spoil batch norm. It dilates only the
first block of the stages that keep their resolution; the paper dilates every block (section 3.1), and so does
`AlphaGAN` unless told otherwise.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sgmatte.nn.gca import MEAN, STD
from sgmatte.nn.resnet import EXPANSION, AtrousConv, stage

STRIDE = 8  # image sides must be multiples of this
GROUPS = 32  # of group norm, or as many as divide the channels of a compact network
CHANNEL_STEP = 8  # the channels of a compact network are multiples of this

Dilated = Literal["every", "first"]


class AlphaGAN(nn.Module):
    """The generator: alpha from a photo and its trimap.

    Args:
        width: scales every layer; 1.0 is the published network.
        dilated: which blocks of stages 3 and 4 are dilated, by 2 and 4: "every" one as in the paper, or the "first" of
            each as in the public implementation, whose weights need it so.
    """

    def __init__(self, width: float = 1.0, dilated: Dilated = "every") -> None:
        super().__init__()
        self.config: dict[str, Any] = {"width": width, "dilated": dilated}
        self.encoder = Encoder(width, dilated)
        self.decoder = Decoder(width)
        _initialise(self)

    def forward(self, image: Tensor, trimap: Tensor) -> Tensor:
        """Alpha (N, 1, H, W) in [0, 1], known regions not pasted.

        Args:
            image: (N, 3, H, W) in [0, 1]; H and W multiples of 8.
            trimap: (N, 1, H, W) int64, 0 background, 1 unknown, 2 foreground.

        Raises:
            ValueError: H or W is no multiple of 8.
        """
        if image.shape[2] % STRIDE or image.shape[3] % STRIDE:
            raise ValueError(f"image sides must be multiples of {STRIDE}, not {tuple(image.shape[2:])}")
        x = network_input(image, trimap)
        return self.decoder(*self.encoder(x), x[:, :3])


def network_input(image: Tensor, trimap: Tensor) -> Tensor:
    """Both networks' input (N, 4, H, W): the image in [0, 1] normalised as for ImageNet, the classes 0, 1, 2 halved."""
    normalised = (image - image.new_tensor(MEAN).view(1, 3, 1, 1)) / image.new_tensor(STD).view(1, 3, 1, 1)
    return torch.cat((normalised, trimap.to(image.dtype) / 2), 1)


class Encoder(nn.Module):
    """Input (N, 4, H, W) -> what the decoder needs.

    Deep features at stride 8, those of stage 1 at stride 4, of the stem at stride 2, and where the stem's maxima were.
    """

    def __init__(self, width: float, dilated: Dilated) -> None:
        super().__init__()
        self.resnet50 = ResNet50(width, dilated)
        self.aspp = Pyramid(EXPANSION * _channels(512, width), _channels(256, width))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        deep, quarter, half, maxima = self.resnet50(x)
        return self.aspp(deep), quarter, half, maxima


class ResNet50(nn.Module):
    """ResNet-50 whose stages 3 and 4 stay at stride 8."""

    def __init__(self, width: float, dilated: Dilated) -> None:
        super().__init__()
        c1, c2, c3, c4 = (_channels(c, width) for c in (64, 128, 256, 512))
        later = {"every": (2, 4), "first": (1, 1)}[dilated]
        self.conv_1, self.bn1 = nn.Conv2d(4, c1, 7, stride=2, padding=3, bias=False), _norm(c1)
        self.layer1 = stage(c1, c1, _norm, (1,) * 3)
        self.layer2 = stage(EXPANSION * c1, c2, _norm, (1,) * 4, stride=2)
        self.layer3 = stage(EXPANSION * c2, c3, _norm, (2, *(later[0],) * 5))
        self.layer4 = stage(EXPANSION * c3, c4, _norm, (4, *(later[1],) * 2))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        half = F.relu(self.bn1(self.conv_1(x)))
        pooled, maxima = F.max_pool2d(half, 3, stride=2, padding=1, return_indices=True)
        quarter = self.layer1(pooled)
        return self.layer4(self.layer3(self.layer2(quarter))), quarter, half, maxima


class Pyramid(nn.Module):
    """Atrous spatial pyramid pooling: four dilations and the mean of the image, merged."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.aspp_1 = AtrousConv(inputs, outputs, 1, _norm)
        self.aspp_6 = AtrousConv(inputs, outputs, 6, _norm)
        self.aspp_12 = AtrousConv(inputs, outputs, 12, _norm)
        self.aspp_18 = AtrousConv(inputs, outputs, 18, _norm)
        self.image_pooling = nn.Sequential(nn.AdaptiveAvgPool2d(1), *_conv(inputs, outputs, 1))
        self.conv1 = nn.Sequential(*_conv(5 * outputs, outputs, 1))

    def forward(self, x: Tensor) -> Tensor:
        pooled = self.image_pooling(x).expand(-1, -1, *x.shape[2:])
        return self.conv1(torch.cat((self.aspp_1(x), self.aspp_6(x), self.aspp_12(x), self.aspp_18(x), pooled), 1))


class Decoder(nn.Module):
    """From stride 8 to 1: bilinear, back to where the stem's maxima were, then a transposed convolution.

    Each of the three meets a skip: stage 1, the stem, the photo itself.
    """

    def __init__(self, width: float) -> None:
        super().__init__()
        c32, c64, c128, c256 = (_channels(c, width) for c in (32, 64, 128, 256))
        self.skip_3 = nn.Sequential(*_conv(EXPANSION * c64, c64, 1))
        self.deconv1_x = nn.Sequential(*_conv(c256 + c64, c256), *_conv(c256, c128), *_conv(c128, c64))
        self.skip_2 = nn.Sequential(*_conv(c64, c32, 1))
        doubling = nn.ConvTranspose2d(c64, c64, 3, stride=2, padding=1, output_padding=1, bias=False)
        self.deconv2_x = nn.Sequential(*_conv(c64 + c32, c64), doubling, _norm(c64), nn.ReLU(), *_conv(c64, c32))
        self.deconv3_x = nn.Sequential(*_conv(c32 + 3, c32), *_conv(c32, c32))
        self.deconv4_x = nn.Sequential(nn.Conv2d(c32, 1, 3, padding=1, bias=False))

    def forward(self, deep: Tensor, quarter: Tensor, half: Tensor, maxima: Tensor, photo: Tensor) -> Tensor:
        x = F.interpolate(deep, scale_factor=2, mode="bilinear", align_corners=True)
        x = self.deconv1_x(torch.cat((x, self.skip_3(quarter)), 1))
        x = F.max_unpool2d(x, maxima, (2, 2), output_size=half.shape[2:])
        x = self.deconv2_x(torch.cat((x, self.skip_2(half)), 1))
        x = self.deconv3_x(torch.cat((x, photo), 1))
        return torch.sigmoid(self.deconv4_x(x).float())


class PatchDiscriminator(nn.Module):
    """How real each 70x70 patch of a composite looks beside its trimap.

    The PatchGAN of Isola et al., *Image-to-Image Translation with Conditional Adversarial Networks*, CVPR 2017.
    """

    def __init__(self, width: float = 1.0) -> None:
        super().__init__()
        self.config: dict[str, Any] = {"width": width}
        c1, c2, c3, c4 = (_channels(c, width) for c in (64, 128, 256, 512))
        self.model = nn.Sequential(
            *(nn.Conv2d(4, c1, 4, stride=2, padding=1), nn.LeakyReLU(0.2)),
            *(nn.Conv2d(c1, c2, 4, stride=2, padding=1, bias=False), nn.BatchNorm2d(c2), nn.LeakyReLU(0.2)),
            *(nn.Conv2d(c2, c3, 4, stride=2, padding=1, bias=False), nn.BatchNorm2d(c3), nn.LeakyReLU(0.2)),
            *(nn.Conv2d(c3, c4, 4, padding=1, bias=False), nn.BatchNorm2d(c4), nn.LeakyReLU(0.2)),
            nn.Conv2d(c4, 1, 4, padding=1),
        )

    def forward(self, image: Tensor, trimap: Tensor) -> Tensor:
        """Logits (N, 1, H/8 - 2, W/8 - 2), positive for real.

        Args:
            image: composites, (N, 3, H, W) in [0, 1].
            trimap: (N, 1, H, W) int64, 0 background, 1 unknown, 2 foreground.
        """
        return self.model(network_input(image, trimap))


def _channels(official: int, width: float) -> int:
    return max(1, round(official * width / CHANNEL_STEP)) * CHANNEL_STEP


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(math.gcd(GROUPS, channels), channels)


def _conv(inputs: int, outputs: int, kernel: int = 3) -> tuple[nn.Module, ...]:
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False), _norm(outputs), nn.ReLU()


def _initialise(network: nn.Module) -> None:
    """He initialisation; residual branches start at zero, so the network begins shallow."""
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif name.endswith("bn3") and isinstance(module, nn.GroupNorm):
            nn.init.zeros_(module.weight)
