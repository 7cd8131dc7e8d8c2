"""EfficientNet-Lite0: a small ImageNet backbone without squeeze-and-excitation, for features at several strides.

Tan and Le, *EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks*, ICML 2019; the Lite variant
replaces swish by ReLU6, drops squeeze-and-excitation and leaves stem and head unscaled.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Stage:
    """Inverted residual blocks of one width; only the first has the stride."""

    blocks: int
    kernel: int
    stride: int
    expansion: int
    channels: int


STAGES = (
    Stage(blocks=1, kernel=3, stride=1, expansion=1, channels=16),
    Stage(blocks=2, kernel=3, stride=2, expansion=6, channels=24),
    Stage(blocks=2, kernel=5, stride=2, expansion=6, channels=40),
    Stage(blocks=3, kernel=3, stride=2, expansion=6, channels=80),
    Stage(blocks=3, kernel=5, stride=1, expansion=6, channels=112),
    Stage(blocks=4, kernel=5, stride=2, expansion=6, channels=192),
    Stage(blocks=1, kernel=3, stride=1, expansion=6, channels=320),
)
STEM_CHANNELS = 32


class SamePad(nn.Module):
    """Zero padding as in TensorFlow, where the weights come from: output = ceil(input / stride), the odd pixel last."""

    def __init__(self, kernel: int, stride: int, dilation: int) -> None:
        super().__init__()
        self.reach, self.stride = (kernel - 1) * dilation, stride

    def forward(self, x: Tensor) -> Tensor:
        pads = [max(0, (-(-size // self.stride) - 1) * self.stride + self.reach + 1 - size) for size in x.shape[:1:-1]]
        return F.pad(x, [side for pad in pads for side in (pad // 2, pad - pad // 2)])


class DepthwiseConv2d(nn.Conv2d):
    """In float32 on a CPU where gradients are wanted: oneDNN's bfloat16 ones take far longer."""

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        wanted = torch.is_grad_enabled() and (input.requires_grad or weight.requires_grad)
        if input.device.type != "cpu" or not wanted:
            return super()._conv_forward(input, weight, bias)
        with torch.autocast("cpu", enabled=False):
            return super()._conv_forward(input.float(), weight.float(), bias)


class ConvNorm(nn.Module):
    """Convolution, batch norm and, unless `linear`, ReLU6.

    With fixed statistics the norm is folded into the kernel at each call: a fifth of the time saved, forward and
    backward, while its scale and shift stay trainable.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int = 1,
        *,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
        linear: bool = False,
    ) -> None:
        super().__init__()
        # stride 1 pads evenly, and a convolution that pads itself is faster
        self.pad = SamePad(kernel, stride, dilation) if stride > 1 else nn.Identity()
        padding = 0 if stride > 1 else (kernel - 1) // 2 * dilation
        kind = DepthwiseConv2d if groups > 1 else nn.Conv2d
        self.conv = kind(inputs, outputs, kernel, stride, padding, dilation, groups, bias=False)
        self.norm = nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.01)
        self.activation = nn.Identity() if linear else nn.ReLU6(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        conv, norm, x = self.conv, self.norm, self.pad(x)
        if norm.training:
            return self.activation(norm(conv(x)))
        assert norm.running_mean is not None  # for mypy: BatchNorm2d tracks by default
        assert norm.running_var is not None
        scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
        kernel, shift = conv.weight * scale[:, None, None, None], norm.bias - norm.running_mean * scale
        return self.activation(conv._conv_forward(x, kernel, shift))


class InvertedResidual(nn.Module):
    """Pointwise expansion, depthwise convolution, linear pointwise projection; a shortcut where the shape allows it."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, dilation: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        self.expand = ConvNorm(inputs, hidden) if expansion > 1 else nn.Identity()
        self.depthwise = ConvNorm(hidden, hidden, kernel, stride=stride, dilation=dilation, groups=hidden)
        self.project = ConvNorm(hidden, outputs, linear=True)
        self.shortcut = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        out = self.project(self.depthwise(self.expand(x)))
        return x + out if self.shortcut else out


class EfficientNetLite0(nn.Module):
    """Features of an RGB image.

    Stage names, with channels and stride at `output_stride` 32: stem (32, 2), stage1 (16, 2), stage2 (24, 4),
    stage3 (40, 8), stage4 (80, 16), stage5 (112, 16), stage6 (192, 32), stage7 (320, 32). With `output_stride` 16 or 8
    the later strides become dilations (Chen et al., *Rethinking Atrous Convolution*, 2017).
    """

    def __init__(self, output_stride: int = 32) -> None:
        super().__init__()
        if output_stride not in (8, 16, 32):
            raise ValueError(f"output_stride must be 8, 16 or 32, got {output_stride}")
        self.stem = ConvNorm(3, STEM_CHANNELS, 3, stride=2)
        self.channels = {"stem": STEM_CHANNELS}
        self.ends: dict[str, int] = {}  # stage name -> number of blocks up to its end
        blocks: list[InvertedResidual] = []
        inputs, stride, dilation = STEM_CHANNELS, 2, 1
        for number, stage in enumerate(STAGES, start=1):
            step = stage.stride
            before = dilation
            if stride * step > output_stride:
                dilation, step = dilation * step, 1
            stride *= step
            for index in range(stage.blocks):
                first = index == 0
                blocks.append(
                    InvertedResidual(
                        inputs,
                        stage.channels,
                        stage.kernel,
                        step if first else 1,
                        before if first else dilation,  # the first block still sees the undilated grid
                        stage.expansion,
                    )
                )
                inputs = stage.channels
            self.channels[f"stage{number}"] = stage.channels
            self.ends[f"stage{number}"] = len(blocks)
        self.blocks = nn.ModuleList(blocks)

    def forward(self, image: Tensor, stages: Sequence[str] = ("stage7",)) -> dict[str, Tensor]:
        """Features by stage name; nothing past the last named stage is computed.

        Args:
            image: (N, 3, H, W) RGB in [0, 1]; gradients flow back to it.
            stages: names from the class docstring.

        Raises:
            ValueError: a stage has no such name.
        """
        unknown = [name for name in stages if name not in self.channels]
        if unknown:
            raise ValueError(f"no stage '{unknown[0]}'; stages are {', '.join(self.channels)}")
        x = self.stem((image * 255 - 127) / 128)  # (N, 32, H/2, W/2)
        features = {"stem": x}
        wanted = {name: self.ends[name] for name in stages if name != "stem"}
        bounds = [0, *(end for end in self.ends.values() if end <= max(wanted.values(), default=0))]
        for (start, end), name in zip(pairwise(bounds), self.ends, strict=False):
            for block in self.blocks[start:end]:
                x = block(x)
            features[name] = x
        return {name: features[name] for name in stages}


def from_official(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """State of `EfficientNetLite0` from the published checkpoint's, without its classifier and head convolution."""
    names = {"_bn0": "expand.norm", "_bn1": "depthwise.norm", "_bn2": "project.norm"} | {
        f"_{part}_conv": f"{part}.conv" for part in ("expand", "depthwise", "project")
    }
    renamed: dict[str, Tensor] = {}
    for key, value in state.items():
        if key.startswith("_conv_stem."):
            renamed[key.replace("_conv_stem", "stem.conv")] = value
        elif key.startswith("_bn0."):
            renamed[key.replace("_bn0", "stem.norm")] = value
        elif match := re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", key):
            number, part, field = match.groups()
            renamed[f"blocks.{number}.{names[part]}.{field}"] = value
    return renamed
