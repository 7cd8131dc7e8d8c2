"""StyleGAN2's generator against its usual formulation: time, peak memory and the share of time in convolutions.

The usual formulation, as in the public implementations: the weights are modulated, for each sample its own, so that a
batch needs a grouped convolution; the FIR filter is a convolution of the padded features; noise, bias, leaky ReLU and
gain are passes of their own. What is measured is a step of an inversion: forward, and back to W+ and noise maps.
"""

from __future__ import annotations

import math
import multiprocessing
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from sgmatte.bench.ops import by_turns
from sgmatte.device import peak_memory_mb
from sgmatte.nn.stylegan2 import GAIN, SLOPE, Generator, ModulatedConv, StyledConv, ToRGB
from sgmatte.ops import reference

Variant = Literal["usual", "ours", "ours in bfloat16"]
VARIANTS: tuple[Variant, ...] = get_args(Variant)


class Usual(nn.Module):
    """The usual formulation of a generator, on the very same parameters."""

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, w_plus: Tensor, noise: Sequence[Tensor]) -> Tensor:
        g, w = self.generator, w_plus.unbind(1)
        x = self.styled(g.conv1, g.input["input"].repeat(len(w_plus), 1, 1, 1), w[0], noise[0])
        rgb = self.to_rgb(g.to_rgb1, x, w[1])
        for k, layer in enumerate(g.to_rgbs):
            for i in (1, 2):
                x = self.styled(g.convs[2 * k + i - 1], x, w[2 * k + i], noise[2 * k + i])  # type: ignore[arg-type]
            rgb = self.to_rgb(layer, x, w[2 * k + 3], rgb)  # type: ignore[arg-type]
        return rgb

    def styled(self, layer: StyledConv, x: Tensor, w: Tensor, noise: Tensor) -> Tensor:
        x = self.convolved(layer.conv, x, w, demodulate=True)
        x = x + layer.noise["weight"] * noise
        return F.leaky_relu(x + layer.activate["bias"][:, None, None], SLOPE) * GAIN

    def to_rgb(self, layer: ToRGB, x: Tensor, w: Tensor, skip: Tensor | None = None) -> Tensor:
        rgb = self.convolved(layer.conv, x, w, demodulate=False) + layer.bias
        if skip is None:
            return rgb
        return rgb + reference.upfirdn2d(skip, layer.upsample.get_buffer("kernel"), up=2, pad=layer.upsample.pad)

    def convolved(self, conv: ModulatedConv, x: Tensor, w: Tensor, demodulate: bool) -> Tensor:
        n, c, h, width = x.shape
        weight = conv.scale * conv.weight * conv.modulation(w)[:, None, :, None, None]  # (N, out, in, k, k)
        if demodulate:
            weight = weight * torch.rsqrt(weight.square().sum((2, 3, 4), keepdim=True) + 1e-8)
        x = x.reshape(1, n * c, h, width)
        if conv.up:
            x = F.conv_transpose2d(x, weight.transpose(1, 2).flatten(0, 1), stride=2, groups=n)
            x = x.unflatten(1, (n, -1)).squeeze(0)
            return reference.upfirdn2d(x, conv.blur.get_buffer("kernel"), pad=conv.blur.pad)
        x = F.conv2d(x, weight.flatten(0, 1), padding=weight.shape[-1] // 2, groups=n)
        return x.unflatten(1, (n, -1)).squeeze(0)


class Step:
    """Forward and backward to W+ and noise maps, of a generator with random weights."""

    def __init__(self, size: int, multiplier: int, variant: Variant, batch: int = 1) -> None:
        torch.manual_seed(0)
        generator = Generator(size, multiplier).requires_grad_(False)
        for name, parameter in generator.named_parameters():
            if name.endswith("noise.weight"):
                parameter.fill_(0.1)  # as in trained ones; noise without strength would have no gradient
        generator.fast = variant == "ours in bfloat16"
        self.network = Usual(generator) if variant == "usual" else generator
        w = generator.mapping(torch.randn(batch, generator.latent))
        self.w_plus = w[:, None].repeat(1, generator.layers, 1).requires_grad_()
        self.noise = [torch.randn(shape, requires_grad=True) for shape in generator.noise_shapes]

    def __call__(self) -> list[Tensor]:
        """The picture and the gradients."""
        image = self.network(self.w_plus, self.noise)
        return [image.detach(), *torch.autograd.grad(image.square().mean(), [self.w_plus, *self.noise])]


@dataclass(frozen=True)
class Result:
    """Of one variant. `error`: of picture or gradient of W+, the root mean square distance from the usual one's.

    (Relative to its own root mean square. Gradients of single noise values are no measure: wherever an activation is
    about zero, rounding decides its slope.)
    """

    variant: str
    seconds: float
    speedup: float
    peak_mb: float  # of a step, above what the process held before it
    in_convolutions: float
    error: float


def results(size: int, multiplier: int = 2, tries: int = 3) -> list[Result]:
    """All variants, timed by turns in this process; peak memory is measured in one of its own for each."""
    peaks = [_peak_in_own_process(size, multiplier, variant) for variant in VARIANTS]
    steps = [Step(size, multiplier, variant) for variant in VARIANTS]
    seconds = by_turns(steps, tries)
    expected = steps[0]()
    return [
        Result(variant, s, seconds[0] / s, peak, share_in_convolutions(step), _distance(step(), expected))
        for variant, s, peak, step in zip(VARIANTS, seconds, peaks, steps, strict=True)
    ]


def _distance(found: list[Tensor], expected: list[Tensor]) -> float:
    return max(((a - b).norm() / b.norm()).item() for a, b in zip(found[:2], expected[:2], strict=True))


class _Convolutions(TorchDispatchMode):
    """Adds up the seconds of every convolution that runs inside."""

    seconds = 0.0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        started = time.perf_counter()
        out = func(*args, **(kwargs or {}))
        if "convolution" in func.name():
            self.seconds += time.perf_counter() - started
        return out


def share_in_convolutions(step: Step) -> float:
    """Share of a step's time that is spent in convolutions, those of the FIR filter and all gradients included."""
    started = time.perf_counter()
    with _Convolutions() as convolutions:
        step()
    return convolutions.seconds / (time.perf_counter() - started)


def _peak_in_own_process(size: int, multiplier: int, variant: Variant) -> float:
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(_peak, (size, multiplier, variant, torch.get_num_threads()))


def _peak(size: int, multiplier: int, variant: Variant, threads: int) -> float:
    """Megabytes (10^6) that a step adds to the largest memory of a process that has taken none yet; nan on Windows."""
    torch.set_num_threads(threads)
    Step(8, 1, variant)()  # loads what is loaded once
    step = Step(size, multiplier, variant)
    before = peak_memory_mb()
    step()
    after = peak_memory_mb()
    return math.nan if before is None or after is None else float(after - before)
