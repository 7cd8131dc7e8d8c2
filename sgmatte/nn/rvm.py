"""Robust Video Matting: the alpha of a person without a trimap.

Lin, Yang, Saleemi and Sengupta, *Robust High-Resolution Video Matting with Temporal Guidance*, WACV 2022, in the
variant on MobileNetV3-Large (Howard et al., *Searching for MobileNetV3*, ICCV 2019), written anew after the paper and
the graph that its authors published. The network works on a small copy of the picture, and a guided filter (Wu et al.,
*Fast End-to-End Trainable Guided Filter*, CVPR 2018) brings what it found to full size. It remembers what it has seen:
made for films, it is shown a still picture several times, as if nothing moved.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sgmatte import zoo

WEIGHT = "rvm.mobilenetv3"
SIDE = 384  # longest side that the network sees
LOOKS = 4
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet


@dataclass(frozen=True)
class Stage:
    """An inverted residual of MobileNetV3; `squeezed` channels in its gate, 0 for none."""

    kernel: int
    hidden: int
    outputs: int
    squeezed: int
    swish: bool
    stride: int = 1
    dilation: int = 1


STAGES = (
    Stage(3, 16, 16, 0, swish=False),
    Stage(3, 64, 24, 0, swish=False, stride=2),
    Stage(3, 72, 24, 0, swish=False),
    Stage(5, 72, 40, 24, swish=False, stride=2),
    Stage(5, 120, 40, 32, swish=False),
    Stage(5, 120, 40, 32, swish=False),
    Stage(3, 240, 80, 0, swish=True, stride=2),
    Stage(3, 200, 80, 0, swish=True),
    Stage(3, 184, 80, 0, swish=True),
    Stage(3, 184, 80, 0, swish=True),
    Stage(3, 480, 112, 120, swish=True),
    Stage(3, 672, 112, 168, swish=True),
    Stage(5, 672, 160, 168, swish=True, dilation=2),  # dilated in place of another stride
    Stage(5, 960, 160, 240, swish=True, dilation=2),
    Stage(5, 960, 160, 240, swish=True, dilation=2),
)
SHORTCUTS = (0, 2, 5)  # stages after which features go to the decoder: 16, 24 and 40 channels at strides 2, 4 and 8
DEEPEST = 128  # channels at stride 16
DECODED = (80, 40, 32)  # channels at strides 8, 4 and 2, half of which are remembered
LAST = 16  # channels at the size of the network's picture


class Gate(nn.Module):
    """Weighs the channels of (N, C, H, W) by all their means over the picture."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.squeeze, self.excite = nn.Conv2d(channels, squeezed, 1), nn.Conv2d(squeezed, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * F.hardsigmoid(self.excite(F.relu(self.squeeze(x.mean((2, 3), keepdim=True)))))


class Block(nn.Module):
    """What a `Stage` describes; the shortcut is there where shapes allow it. Batch norms are in the biases."""

    def __init__(self, inputs: int, stage: Stage) -> None:
        super().__init__()
        hidden, activation = stage.hidden, nn.Hardswish() if stage.swish else nn.ReLU()
        reach = stage.kernel // 2 * stage.dilation
        depthwise = nn.Conv2d(hidden, hidden, stage.kernel, stage.stride, reach, stage.dilation, groups=hidden)
        expand = [nn.Conv2d(inputs, hidden, 1), activation] if hidden != inputs else []
        gate = [Gate(hidden, stage.squeezed)] if stage.squeezed else []
        self.layers = nn.Sequential(*expand, depthwise, activation, *gate, nn.Conv2d(hidden, stage.outputs, 1))
        self.shortcut = stage.stride == 1 and inputs == stage.outputs

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layers(x)
        return x + out if self.shortcut else out


class Encoder(nn.Module):
    """MobileNetV3-Large and the context of LR-ASPP."""

    mean: Tensor
    deviation: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, 2, 1)
        widths = (16, *(stage.outputs for stage in STAGES))
        self.blocks = nn.ModuleList([Block(width, stage) for width, stage in zip(widths, STAGES, strict=False)])
        self.widen = nn.Conv2d(widths[-1], 960, 1)
        self.deepest, self.context = nn.Conv2d(960, DEEPEST, 1), nn.Conv2d(960, DEEPEST, 1, bias=False)
        self.register_buffer("mean", torch.tensor(MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor(DEVIATION).view(3, 1, 1), persistent=False)

    def forward(self, image: Tensor) -> list[Tensor]:
        """(N, 3, H, W) in [0, 1] -> features at strides 2, 4, 8 and 16."""
        x = F.hardswish(self.stem((image - self.mean) / self.deviation))
        found = []
        for k, block in enumerate(self.blocks):
            x = block(x)
            if k in SHORTCUTS:
                found.append(x)
        x = F.hardswish(self.widen(x))
        return [*found, F.relu(self.deepest(x)) * torch.sigmoid(self.context(x.mean((2, 3), keepdim=True)))]


class Memory(nn.Module):
    """ConvGRU over the second half of the channels; the first half passes by."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gates = nn.Conv2d(2 * channels, 2 * channels, 3, padding=1)
        self.candidate = nn.Conv2d(2 * channels, channels, 3, padding=1)

    def forward(self, x: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
        """(N, 2C, H, W) and the state (N, C, H, W), None before the first look -> the same, and the state after it."""
        passing, x = x.chunk(2, 1)
        state = torch.zeros_like(x) if state is None else state
        reset, update = torch.sigmoid(self.gates(torch.cat((x, state), 1))).chunk(2, 1)
        candidate = torch.tanh(self.candidate(torch.cat((x, reset * state), 1)))
        state = (1 - update) * state + update * candidate
        return torch.cat((passing, state), 1), state


class Rise(nn.Module):
    """Twice the size, and what the encoder and the picture say at that size; remembered where that is wanted."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.mix = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.memory = Memory(outputs // 2)

    def forward(self, x: Tensor, beside: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
        x = F.relu(self.mix(torch.cat((risen(x, beside), beside), 1)))
        found: tuple[Tensor, Tensor] = self.memory(x, state)
        return found


def risen(x: Tensor, beside: Tensor) -> Tensor:
    """`x` at twice its size, cut to that of `beside`, whose sides may be odd."""
    x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
    return x[..., : beside.shape[2], : beside.shape[3]]


class Decoder(nn.Module):
    """From features at strides 2 to 16 to `LAST` channels at the picture's size."""

    def __init__(self) -> None:
        super().__init__()
        self.memory = Memory(DEEPEST // 2)
        shortcuts = [STAGES[k].outputs for k in reversed(SHORTCUTS)]
        widths = pairwise((DEEPEST, *DECODED))
        self.rise = nn.ModuleList(
            [Rise(below + beside + 3, width) for (below, width), beside in zip(widths, shortcuts, strict=True)]
        )
        self.last = nn.Sequential(
            nn.Conv2d(DECODED[-1] + 3, LAST, 3, padding=1), nn.ReLU(), nn.Conv2d(LAST, LAST, 3, padding=1), nn.ReLU()
        )

    def forward(self, image: Tensor, features: list[Tensor], looks: int) -> Tensor:
        """The picture (N, 3, H, W) and its features -> (N, `LAST`, H, W) after `looks` looks.

        What the encoder found is the same at every look, and only the last one is decoded to the end.
        """
        *shortcuts, deepest = features
        beside, small = [], image
        for shortcut in shortcuts:
            small = F.avg_pool2d(small, 2, ceil_mode=True, count_include_pad=False)
            beside.append(torch.cat((shortcut, small.to(shortcut.dtype)), 1))
        states: list[Tensor | None] = [None] * (1 + len(self.rise))
        for _ in range(looks):
            x, states[0] = self.memory(deepest, states[0])
            for k, rise in enumerate(self.rise):
                x, states[k + 1] = rise(x, beside[-1 - k], states[k + 1])
        found: Tensor = self.last(torch.cat((risen(x, image), image), 1))
        return found


class GuidedFilter(nn.Module):
    """Foreground and alpha as they are at a small size, as a linear function of the picture at its own size."""

    def __init__(self) -> None:
        super().__init__()
        self.box = nn.Conv2d(4, 4, 3, padding=1, groups=4, bias=False)  # learned, so no plain mean
        self.slope = nn.Sequential(
            nn.Conv2d(8 + LAST, LAST, 1), nn.ReLU(), nn.Conv2d(LAST, LAST, 1), nn.ReLU(), nn.Conv2d(LAST, 4, 1)
        )

    def forward(self, image: Tensor, small: Tensor, found: Tensor, hidden: Tensor) -> Tensor:
        """The picture, its small copy, what was found of that (N, 4, h, w), and from what (N, `LAST`, h, w).

        Returns:
            (N, 4, H, W), which may leave [0, 1].
        """
        image, small = with_grey(image), with_grey(small)
        mean, mean_found = self.box(small), self.box(found)
        covariance = self.box(small * found) - mean * mean_found
        variance = self.box(small * small) - mean * mean
        slope = self.slope(torch.cat((covariance, variance, hidden), 1))
        offset = mean_found - slope * mean
        slope, offset = (
            F.interpolate(each, image.shape[2:], mode="bilinear", align_corners=False) for each in (slope, offset)
        )
        return slope * image + offset


def with_grey(image: Tensor) -> Tensor:
    return torch.cat((image, image.mean(1, keepdim=True)), 1)


class RVM(nn.Module):
    """Alpha of the people in a still picture.

    Args:
        side: longest side, in pixels, of what the network sees; a smaller picture is seen as it is.
        looks: how often it is shown the picture.
    """

    def __init__(self, side: int = SIDE, looks: int = LOOKS) -> None:
        super().__init__()
        self.side, self.looks = side, looks
        self.encoder = Encoder()
        self.decoder = Decoder()
        self.project = nn.Conv2d(LAST, 4, 1)  # the foreground's difference to the picture, and alpha
        self.refine = GuidedFilter()

    def forward(self, image: Tensor, bounded: bool = True) -> Tensor:
        """(N, 3, H, W) RGB in [0, 1] -> (N, 1, H, W) in [0, 1], or in its neighbourhood unless `bounded`; float32."""
        image = image.float()
        small = shrunk(image, self.side)
        hidden = self.decoder(small, self.encoder(small), self.looks)
        # The published graph filters a picture that was not shrunk too, where its authors' code leaves that out.
        # Variances are small differences of large numbers, which bfloat16 does not have.
        with torch.autocast(image.device.type, enabled=False):
            found = self.project(hidden.float())
            alpha: Tensor = self.refine(image, small, found, hidden.float())[:, 3:]
        return alpha.clamp(0, 1) if bounded else alpha


def shrunk(image: Tensor, side: int) -> Tensor:
    """`image` with `side` as its longest side, not antialiased, as the published graph does it; never larger."""
    ratio = side / max(image.shape[2:])
    if ratio >= 1:
        return image
    # Sides are rounded down, and `side` itself must survive that.
    return F.interpolate(image, scale_factor=ratio * (1 + 1e-9), mode="bilinear", align_corners=False)


def from_graph(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """State of `RVM` from the published graph's convolutions, numbered in the order in which they first run: that in
    which they are declared here.
    """
    names = [name for name, module in RVM().named_modules() if isinstance(module, nn.Conv2d)]
    found = {}
    for key, value in state.items():
        number, part = key.split(".")  # part: some of them have no bias
        found[f"{names[int(number)]}.{part}"] = value
    return found


def rvm_model(device: torch.device) -> RVM:
    """The network with its authors' weights, `rvm.mobilenetv3`, frozen and in eval mode.

    Raises:
        WeightError: see `zoo.path`.
    """
    return zoo.load_into(RVM(), WEIGHT).requires_grad_(False).to(device)
