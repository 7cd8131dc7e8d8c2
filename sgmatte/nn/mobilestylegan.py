"""MobileStyleGAN in plain torch, and its weights read from the OpenVINO files of the `random-face` package.

S. Belousov, "MobileStyleGAN: A Lightweight Convolutional Neural Network for High-Fidelity Image Synthesis" (2021):
StyleGAN2's W and mapping network; a synthesis network that grows by inverse Haar wavelets and convolves depthwise, then
pointwise. Demodulation is constant there, so the files hold weights with it folded in.

Row r of W+ (N, L, 512): 0 the first convolution; 1 + 3k, 2 + 3k, 3 + 3k block k's upsampling and two convolutions;
the last the output head. With K blocks the image has 2**(K + 3) pixels a side, L = 3K + 2, and 2K + 1 noise maps.
"""

from __future__ import annotations

import math
from collections.abc import Mapping as Dictionary
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable

from sgmatte.errors import WeightError
from sgmatte.nn.openvino_ir import Graph
from sgmatte.ops import bias_act, haar_synthesis, scale_gradients

Network = TypeVar("Network", bound=nn.Module)

SLOPE = 0.2  # of every leaky ReLU
FAST_FROM = 16  # side of the hidden features from which on `fast` counts; below, nothing is to be gained


@dataclass(frozen=True)
class Config:
    """Channels of W, of the 4x4 constant, and out of each block."""

    latent: int = 512
    constant: int = 512
    blocks: tuple[int, ...] = (512, 512, 512, 512, 256, 128, 64)

    @property
    def size(self) -> int:
        return 2 ** (len(self.blocks) + 3)

    @property
    def layers(self) -> int:
        return 3 * len(self.blocks) + 2

    @property
    def noise_shapes(self) -> list[tuple[int, int, int, int]]:
        sides = [4] + [2 ** (k + 3) for k in range(len(self.blocks)) for _ in range(2)]
        return [(1, 1, side, side) for side in sides]


class Mapping(nn.Module):
    """z (N, 512) ~ N(0, 1) -> w (N, 512): pixel norm, then fully connected layers."""

    def __init__(self, latent: int = 512, depth: int = 8) -> None:
        super().__init__()
        self.latent = latent
        self.layers = nn.ModuleList(nn.Linear(latent, latent) for _ in range(depth))

    def forward(self, z: Tensor) -> Tensor:
        x = z * torch.rsqrt(z.square().mean(dim=1, keepdim=True) + 1e-8)
        for layer in self.layers:
            x = math.sqrt(2) * F.leaky_relu(layer(x), SLOPE)
        return x


class _Pointwise(torch.autograd.Function):
    """weight (style * x): a 1x1 convolution of x (N, C, H, W), style (N, C) being one factor a channel.

    Going forward the style is folded into the small weight matrix. Going back it is not: the gradient of a folded
    matrix is as much work as the convolution itself, that of a factor a channel is next to none.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, style: Tensor, weight: Tensor) -> Tensor:
        n, c, h, w = x.shape
        styled = (weight * style[:, None]).to(x.dtype)
        out = x.permute(0, 2, 3, 1).reshape(n, h * w, c) @ styled.mT
        ctx.save_for_backward(x, style, weight)
        return out.view(n, h, w, -1).permute(0, 3, 1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, style, weight = ctx.saved_tensors  # type: ignore[attr-defined]
        n, c, h, w = grad.shape
        g = grad.permute(0, 2, 3, 1).reshape(n, h * w, c)  # one matrix a sample, whatever the memory format
        to_styled = (g @ weight.to(g.dtype)).view(n, h, w, -1).permute(0, 3, 1, 2)  # gradient of style * x
        grad_x, grad_style = scale_gradients(to_styled, x, style)
        grad_weight = None
        if ctx.needs_input_grad[2]:  # type: ignore[attr-defined]
            styled = (x * style[:, :, None, None].to(x.dtype)).permute(0, 2, 3, 1).reshape(n, h * w, -1)
            grad_weight = (g.mT @ styled).sum(0, dtype=weight.dtype)
        return grad_x, grad_style, grad_weight


class FirstConvolution(nn.Module):
    """Modulated dense 3x3 convolution of the learned constant."""

    def __init__(self, latent: int, channels: int) -> None:
        super().__init__()
        self.modulation = nn.Linear(latent, channels)
        self.constant = nn.Parameter(torch.randn(1, channels, 4, 4))
        self.weight = nn.Parameter(torch.randn(channels, channels, 3, 3) / math.sqrt(9 * channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, w: Tensor, noise: Tensor) -> Tensor:
        x = self.constant * self.modulation(w)[:, :, None, None]  # channels_last would have the weight copied
        return bias_act(F.conv2d(x, self.weight, padding=1), self.bias, noise, slope=SLOPE, gain=1)


class Convolution(nn.Module):
    """Modulated depthwise 3x3, then pointwise convolution, noise, bias, leaky ReLU.

    Modulating a depthwise convolution's input or its output is the same; the output meets a matrix next, which can take
    the style in.
    """

    def __init__(self, latent: int, inputs: int, outputs: int) -> None:
        super().__init__()
        self.modulation = nn.Linear(latent, inputs)
        self.depthwise = nn.Parameter(torch.randn(inputs, 1, 3, 3) / 3)
        self.pointwise = nn.Parameter(torch.randn(outputs, inputs) / math.sqrt(inputs))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor, w: Tensor, noise: Tensor) -> Tensor:
        x = F.conv2d(x, self.depthwise.to(x.dtype), padding=1, groups=x.shape[1])
        x = _Pointwise.apply(x, self.modulation(w), self.pointwise)
        return bias_act(x, self.bias, noise, slope=SLOPE, gain=1)


class Block(nn.Module):
    """Modulate, double the size by an inverse wavelet (a quarter of the channels remains), convolve twice."""

    def __init__(self, latent: int, inputs: int, outputs: int) -> None:
        super().__init__()
        self.up = nn.Linear(latent, inputs)
        self.conv1 = Convolution(latent, inputs // 4, outputs)
        self.conv2 = Convolution(latent, outputs, outputs)

    def forward(self, x: Tensor, w: Sequence[Tensor], noise: Sequence[Tensor]) -> Tensor:
        x = haar_synthesis(x, self.up(w[0]))
        return self.conv2(self.conv1(x, w[1], noise[0]), w[2], noise[1])


class Head(nn.Module):
    """Hidden features (N, C, r, r) -> image (N, 3, 2r, 2r) in about [-1, 1], by way of its 12 wavelet coefficients: a
    modulated 1x1 convolution."""

    def __init__(self, latent: int, channels: int) -> None:
        super().__init__()
        self.modulation = nn.Linear(latent, channels)
        self.weight = nn.Parameter(torch.randn(12, channels) / math.sqrt(channels))
        self.bias = nn.Parameter(torch.zeros(12))

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        y = _Pointwise.apply(x, self.modulation(w), self.weight)
        return haar_synthesis(y.float() + self.bias[:, None, None])


class ShortHead(nn.Module):
    """What `Head` is to the whole network, for a trunk that stops early: its input and output are those of `Head`.

    A hidden layer that sees a pixel's neighbours stands for the blocks that are not there; a linear path runs beside
    it. Every convolution is modulated, by w around its mean (`centre`), and features enter with a mean square of 1
    (`scale`), without which Adam would hardly move some of them.
    """

    centre: Tensor
    scale: Tensor

    def __init__(self, latent: int, channels: int, hidden: int = 64) -> None:
        super().__init__()
        self.register_buffer("centre", torch.zeros(latent))
        self.register_buffer("scale", torch.ones(channels))
        self.modulations = nn.ModuleList(_style(latent, count) for count in (channels, hidden, hidden))
        self.first = nn.Parameter(torch.randn(hidden + 12, channels) / math.sqrt(channels))
        self.first_bias = nn.Parameter(torch.zeros(hidden + 12))
        self.second = nn.Parameter(torch.randn(hidden, hidden, 3, 3) / math.sqrt(9 * hidden))
        self.second_bias = nn.Parameter(torch.zeros(hidden))
        self.last = nn.Parameter(torch.randn(12, hidden) / math.sqrt(hidden))

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        first, second, last = (modulation(w - self.centre) for modulation in self.modulations)
        y = _Pointwise.apply(x, first * self.scale, self.first)
        hidden, linear = y.split((y.shape[1] - 12, 12), dim=1)
        # Plain operations here: `bias_act` would first have to copy the slice `hidden`.
        hidden_bias, linear_bias = self.first_bias[:, None, None].split((hidden.shape[1], 12))
        hidden = F.leaky_relu(hidden + hidden_bias.to(y.dtype), SLOPE) * second[:, :, None, None].to(y.dtype)
        hidden = F.conv2d(hidden, self.second.to(y.dtype), self.second_bias.to(y.dtype), padding=1)
        hidden = F.leaky_relu(hidden, SLOPE)
        detail = _Pointwise.apply(hidden, last, self.last)
        return haar_synthesis(detail.float() + linear.float() + linear_bias)


def _style(latent: int, channels: int) -> nn.Linear:
    """w -> a factor for each channel, at first about 1."""
    linear = nn.Linear(latent, channels)
    nn.init.normal_(linear.weight, std=0.01)
    nn.init.ones_(linear.bias)
    return linear


class Synthesis(nn.Module):
    """W+ (N, L, 512) and noise maps -> image (N, 3, S, S) in about [-1, 1].

    With `fast`, large hidden features are bfloat16: twice as fast on CPUs that have it, and good to more than 50 dB.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.fast = False
        self.first = FirstConvolution(config.latent, config.constant)
        widths = (config.constant, *config.blocks)
        self.blocks = nn.ModuleList(Block(config.latent, inputs, outputs) for inputs, outputs in pairwise(widths))
        self.head: Head | ShortHead = Head(config.latent, widths[-1])
        for k, shape in enumerate(config.noise_shapes):
            self.register_buffer(f"noise_{k}", torch.zeros(shape))

    @property
    def noise(self) -> list[Tensor]:
        """The noise maps that came with the weights, [(1, 1, r, r)]."""
        return [getattr(self, f"noise_{k}") for k in range(len(self.config.noise_shapes))]

    def features(self, w_plus: Tensor, noise: Sequence[Tensor]) -> list[Tensor]:
        """Hidden features after the first convolution and after each block, (N, C, r, r) from r = 4 on."""
        x = self.first(w_plus[:, 0], noise[0])
        found = [x]
        for k, block in enumerate(self.blocks):
            if self.fast and x.shape[-1] >= FAST_FROM:
                x = x.bfloat16()
            x = block(x, w_plus[:, 1 + 3 * k : 4 + 3 * k].unbind(1), noise[1 + 2 * k : 3 + 2 * k])
            found.append(x)
        return found

    def shortened(self, size: int) -> Synthesis:
        """The trunk for images of `size` x `size`, sharing this network's weights, with a head still to be filled."""
        count = size.bit_length() - 4
        with torch.device("meta"):  # its own weights would only be thrown away
            short = Synthesis(replace(self.config, blocks=self.config.blocks[:count]))
        short.first, short.blocks = self.first, self.blocks[:count]
        short.fast = self.fast
        short.head = ShortHead(self.config.latent, self.config.blocks[count - 1])
        for k in range(len(short.noise)):
            short.register_buffer(f"noise_{k}", self.noise[k])
        return short.eval()

    def forward(self, w_plus: Tensor, noise: Sequence[Tensor] | None = None) -> Tensor:
        x = self.features(w_plus, self.noise if noise is None else noise)[-1]
        return self.head(x, w_plus[:, -1])


def mapping_from(graph: Graph) -> Mapping:
    """The mapping network of an IR graph.

    Raises:
        WeightError: the graph is of another network.
    """
    state: dict[str, Tensor] = {}
    products = list(graph.of_kind("MatMul"))
    for k, product in enumerate(products):
        bias = graph.input(graph.user(product, "Add"), "Reshape")
        state[f"layers.{k}.weight"] = graph.value(graph.input(product, "Const"))
        state[f"layers.{k}.bias"] = graph.value(graph.layers[bias.inputs[0]])
    if not state:
        raise WeightError(f"{graph.path}: holds no matrix product, so it is no mapping network")
    return _filled(Mapping(state["layers.0.weight"].shape[1], len(products)), state, graph)


def synthesis_from(graph: Graph) -> Synthesis:
    """The synthesis network of an IR graph, with the noise maps that it holds.

    Raises:
        WeightError: the graph is of another network.
    """
    constant = graph.constant("m.input.input")
    state = {"first.constant": constant}
    state |= _modulation(graph, "m.conv1.conv.modulation", "first.modulation")
    state["first.weight"], state["first.bias"], state["noise_0"] = _convolution(graph, "m.conv1")
    blocks: list[int] = []
    while f"m.layers.{len(blocks)}.conv1.bias" in graph:
        k = len(blocks)
        state |= _modulation(graph, f"m.layers.{k}.up.modulation", f"blocks.{k}.up")
        for number in (1, 2):
            theirs, ours = f"m.layers.{k}.conv{number}", f"blocks.{k}.conv{number}"
            state |= _modulation(graph, f"{theirs}.conv.modulation", f"{ours}.modulation")
            state[f"{ours}.depthwise"] = graph.constant(f"{theirs}.conv.weight_dw").squeeze(1)
            weight, state[f"{ours}.bias"], state[f"noise_{2 * k + number}"] = _convolution(graph, theirs)
            state[f"{ours}.pointwise"] = weight.flatten(1)
        blocks.append(len(state[f"blocks.{k}.conv2.bias"]))
    head = f"m.layers.{len(blocks) - 1}.to_img"
    state |= _modulation(graph, f"{head}.conv.modulation", "head.modulation")
    state["head.weight"] = graph.constant(f"{head}.conv.weight").flatten(1)
    state["head.bias"] = graph.constant(f"{head}.bias").flatten()
    config = Config(state["first.modulation.weight"].shape[1], constant.shape[1], tuple(blocks))
    return _filled(Synthesis(config), state, graph)


def _modulation(graph: Graph, theirs: str, ours: str) -> Dictionary[str, Tensor]:
    """Weight and bias of a style, multiplied by the constant (equalised learning rate) that follows it, if any."""
    style = graph.user(graph.user(graph.named(f"{theirs}.bias"), "Add"), "Reshape")
    product = graph.user(style, "Multiply")
    factors = [layer.value for layer in map(graph.layers.__getitem__, product.inputs) if layer.value is not None]
    scale = float(factors[0]) if factors and factors[0].numel() == 1 else 1.0
    return {
        f"{ours}.weight": graph.constant(f"{theirs}.weight") * scale,
        f"{ours}.bias": graph.constant(f"{theirs}.bias").flatten() * scale,
    }


def _convolution(graph: Graph, name: str) -> tuple[Tensor, Tensor, Tensor]:
    """Weight, bias and noise map; only the bias kept its name, the others are found by walking up from it."""
    bias = graph.named(f"{name}.bias")
    noisy = graph.input(graph.user(bias, "Add"), "Add")
    weight = graph.input(graph.input(noisy, "Convolution"), "Const")
    return graph.value(weight), graph.value(bias).flatten(), graph.value(graph.input(noisy, "Const"))


def _filled(network: Network, state: Dictionary[str, Tensor], graph: Graph) -> Network:
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise WeightError(f"{graph.path}: {error}") from error
    return network.eval().requires_grad_(False)
