"""MediaPipe's selfie segmentation: who is in front, at 256 px.

Its model card (Google, *MediaPipe Selfie Segmentation*, 2021) describes a small MobileNetV3 (Howard et al., *Searching
for MobileNetV3*, ICCV 2019) whose decoder gates each shortcut by what the whole picture is like. It saw far more people
than the portraits that this project may train on, so it is right where those are no help, and the other way round.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sgmatte.nn.efficientnet import SamePad

SIDE = 256  # of the square that any picture is squeezed into


class Convolution(nn.Module):
    """Padded as in TensorFlow, with a bias; `groups` equal to the channels make it depthwise."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.pad = SamePad(kernel, stride, 1)
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.conv(self.pad(x))
        return found


class Gate(nn.Module):
    """What each channel is worth, (N, C, 1, 1) in (0, 1), from all their means over the picture."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.squeeze, self.excite = nn.Conv2d(channels, squeezed, 1), nn.Conv2d(squeezed, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.excite(F.relu(self.squeeze(x.mean((2, 3), keepdim=True)))))


class Block(nn.Module):
    """Inverted residual of MobileNetV3; the shortcut is there where shapes allow it."""

    def __init__(
        self, inputs: int, hidden: int, outputs: int, kernel: int, stride: int, squeezed: int, swish: bool
    ) -> None:
        super().__init__()
        self.expand = Convolution(inputs, hidden)
        self.depthwise = Convolution(hidden, hidden, kernel, stride, groups=hidden)
        self.gate = Gate(hidden, squeezed) if squeezed else None
        self.project = Convolution(hidden, outputs)
        self.activation = nn.Hardswish() if swish else nn.ReLU()
        self.shortcut = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        out = self.activation(self.depthwise(self.activation(self.expand(x))))
        if self.gate is not None:
            out = out * self.gate(out)
        out = self.project(out)
        return x + out if self.shortcut else out


class Rise(nn.Module):
    """Twice the size, and what the encoder knew at that size, as far as it matters in this picture."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.narrow = Convolution(inputs, outputs)
        self.gate = Gate(outputs, outputs)
        self.mix = Convolution(outputs, outputs)
        self.depthwise = Convolution(outputs, outputs, 3, groups=outputs)

    def forward(self, x: Tensor, shortcut: Tensor) -> Tensor:
        x = self.narrow(F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False))
        x = F.relu(self.mix(shortcut * self.gate(shortcut + x) + x))
        return x + F.relu(self.depthwise(x))


class SelfieSegmentation(nn.Module):
    """Logits of being a person, of pictures at `SIDE`."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = Convolution(3, 16, 3, 2)
        self.to_64 = Block(16, 16, 16, 3, 2, 8, swish=False)
        self.to_32 = nn.Sequential(
            Block(16, 72, 24, 3, 2, 0, swish=False),
            Block(24, 88, 24, 3, 1, 0, swish=False),
        )
        self.to_16 = nn.Sequential(
            Block(24, 96, 32, 5, 2, 24, swish=True),
            *(Block(32, hidden, 32, 5, 1, hidden // 4, swish=True) for hidden in (128, 128, 96, 96)),
        )
        self.deepest, self.context = Convolution(32, 128), Convolution(32, 128)
        self.rise = nn.ModuleList([Rise(128, 24), Rise(24, 16), Rise(16, 16)])
        self.verdict = nn.ConvTranspose2d(16, 1, 2, 2)

    def forward(self, image: Tensor) -> Tensor:
        """(N, 3, 256, 256) RGB in [0, 1] -> (N, 1, 256, 256)."""
        *shortcuts, x = self.seen(image)
        for rise, shortcut in zip(self.rise, reversed(shortcuts), strict=True):
            x = rise(x, shortcut)
        found: Tensor = self.verdict(x)
        return found

    def person(self, image: Tensor) -> Tensor:
        """(N, 3, H, W) RGB in [0, 1] -> the probability of a person (N, 1, 256, 256), the picture and its mirror image
        looked at.
        """
        small = F.interpolate(image, (SIDE, SIDE), mode="bilinear", align_corners=False, antialias=True)
        plain, mirrored = self(torch.cat([small, small.flip(3)])).chunk(2)
        return ((plain + mirrored.flip(3)) / 2).sigmoid()

    def seen(self, image: Tensor) -> list[Tensor]:
        """Features at strides 2, 4, 8 and 16, the last (N, 128, H/16, W/16), of a picture of any size."""
        at_2 = F.hardswish(self.stem(image))
        at_4 = self.to_64(at_2)
        at_8 = self.to_32(at_4)
        x = self.to_16(at_8)
        deepest = F.relu(self.deepest(x)) * torch.sigmoid(self.context(x.mean((2, 3), keepdim=True)))
        return [at_2, at_4, at_8, deepest]


def from_graph(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """State of `SelfieSegmentation` from the published graph's convolutions, numbered in the order in which they run:
    that in which they are declared here.
    """
    modules = SelfieSegmentation().named_modules()
    names = [name for name, module in modules if isinstance(module, nn.Conv2d | nn.ConvTranspose2d)]
    return {f"{name}.{part}": state[f"{k}.{part}"] for k, name in enumerate(names) for part in ("weight", "bias")}
