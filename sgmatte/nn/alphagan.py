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
GROUPS = 32  # of group norm at width 1
CHANNEL_STEP = 8  # the channels of a compact network are multiples of this

Dilated = Literal["every", "first"]


class Layers:
    """Layers of a network of some width.

    Group norm has fewer groups in a narrow network, not smaller ones: the image pooling normalises single numbers, of
    which a group of two would keep no more than which is larger.
    """

    def __init__(self, width: float) -> None:
        self.width = width
        self.groups = 2 ** math.floor(math.log2(max(1, GROUPS * width)))

    def channels(self, official: int) -> int:
        return max(1, round(official * self.width / CHANNEL_STEP)) * CHANNEL_STEP

    def norm(self, channels: int) -> nn.GroupNorm:
        return nn.GroupNorm(math.gcd(self.groups, channels), channels)

    def conv(self, inputs: int, outputs: int, kernel: int = 3) -> tuple[nn.Module, ...]:
        """Convolution, group norm, ReLU."""
        convolution = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
        return convolution, self.norm(outputs), nn.ReLU()


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
        self.encoder = Encoder(Layers(width), dilated)
        self.decoder = Decoder(Layers(width))
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

    def __init__(self, layers: Layers, dilated: Dilated) -> None:
        super().__init__()
        self.resnet50 = ResNet50(layers, dilated)
        self.aspp = Pyramid(layers)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        deep, quarter, half, maxima = self.resnet50(x)
        return self.aspp(deep), quarter, half, maxima


class ResNet50(nn.Module):
    """ResNet-50 whose stages 3 and 4 stay at stride 8."""

    def __init__(self, layers: Layers, dilated: Dilated) -> None:
        super().__init__()
        norm = layers.norm
        c1, c2, c3, c4 = (layers.channels(c) for c in (64, 128, 256, 512))
        later = {"every": (2, 4), "first": (1, 1)}[dilated]
        self.conv_1, self.bn1 = nn.Conv2d(4, c1, 7, stride=2, padding=3, bias=False), norm(c1)
        self.layer1 = stage(c1, c1, norm, (1,) * 3)
        self.layer2 = stage(EXPANSION * c1, c2, norm, (1,) * 4, stride=2)
        self.layer3 = stage(EXPANSION * c2, c3, norm, (2, *(later[0],) * 5))
        self.layer4 = stage(EXPANSION * c3, c4, norm, (4, *(later[1],) * 2))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        half = F.relu(self.bn1(self.conv_1(x)))
        pooled, maxima = F.max_pool2d(half, 3, stride=2, padding=1, return_indices=True)
        quarter = self.layer1(pooled)
        return self.layer4(self.layer3(self.layer2(quarter))), quarter, half, maxima


class Pyramid(nn.Module):
    """Atrous spatial pyramid pooling: four dilations and the mean of the image, merged."""

    def __init__(self, layers: Layers) -> None:
        super().__init__()
        inputs, outputs, norm = EXPANSION * layers.channels(512), layers.channels(256), layers.norm
        self.aspp_1 = AtrousConv(inputs, outputs, 1, norm)
        self.aspp_6 = AtrousConv(inputs, outputs, 6, norm)
        self.aspp_12 = AtrousConv(inputs, outputs, 12, norm)
        self.aspp_18 = AtrousConv(inputs, outputs, 18, norm)
        self.image_pooling = nn.Sequential(nn.AdaptiveAvgPool2d(1), *layers.conv(inputs, outputs, 1))
        self.conv1 = nn.Sequential(*layers.conv(5 * outputs, outputs, 1))

    def forward(self, x: Tensor) -> Tensor:
        pooled = self.image_pooling(x).expand(-1, -1, *x.shape[2:])
        return self.conv1(torch.cat((self.aspp_1(x), self.aspp_6(x), self.aspp_12(x), self.aspp_18(x), pooled), 1))


class Decoder(nn.Module):
    """From stride 8 to 1: bilinear, back to where the stem's maxima were, then a transposed convolution.

    Each of the three meets a skip: stage 1, the stem, the photo itself.
    """

    def __init__(self, layers: Layers) -> None:
        super().__init__()
        conv, norm = layers.conv, layers.norm
        c32, c64, c128, c256 = (layers.channels(c) for c in (32, 64, 128, 256))
        self.skip_3 = nn.Sequential(*conv(EXPANSION * c64, c64, 1))
        self.deconv1_x = nn.Sequential(*conv(c256 + c64, c256), *conv(c256, c128), *conv(c128, c64))
        self.skip_2 = nn.Sequential(*conv(c64, c32, 1))
        doubling = nn.ConvTranspose2d(c64, c64, 3, stride=2, padding=1, output_padding=1, bias=False)
        self.deconv2_x = nn.Sequential(*conv(c64 + c32, c64), doubling, norm(c64), nn.ReLU(), *conv(c64, c32))
        self.deconv3_x = nn.Sequential(*conv(c32 + 3, c32), *conv(c32, c32))
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
        c1, c2, c3, c4 = (Layers(width).channels(c) for c in (64, 128, 256, 512))
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


def _initialise(network: AlphaGAN) -> None:
    """He initialisation; residual branches start at zero, so the network begins shallow, and alpha starts near 1/2."""
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif name.endswith("bn3") and isinstance(module, nn.GroupNorm):
            nn.init.zeros_(module.weight)
    nn.init.normal_(network.decoder.deconv4_x.get_parameter("0.weight"), std=0.01)
