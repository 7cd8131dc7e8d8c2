import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from sgmatte import zoo
from sgmatte.generator import load_networks
from sgmatte.generators import WEIGHT
from sgmatte.nn.mobilestylegan import Config, ShortHead, Synthesis, _Pointwise
from sgmatte.ops import haar_synthesis

GOLDEN = Path(__file__).parent / "golden"
TINY = Config(latent=6, constant=8, blocks=(8, 4))


class IRWriter:
    """Writes IR pairs as OpenVINO's exporter does, as far as the reader looks."""

    def __init__(self):
        self.layers, self.edges, self.binary = [], [], b""

    def const(self, name, array, element_type="f32"):
        data = np.asarray(array, {"f32": "<f4", "i64": "<i8"}[element_type])
        shape = ", ".join(map(str, data.shape))
        attributes = f'element_type="{element_type}" shape="{shape}" offset="{len(self.binary)}" size="{data.nbytes}"'
        self.binary += data.tobytes()
        return self.op("Const", name, attributes=attributes)

    def op(self, kind, name, *inputs, attributes=""):
        number = len(self.layers)
        self.layers.append(f'<layer id="{number}" type="{kind}" name="{name}"><data {attributes}/></layer>')
        self.edges += [
            f'<edge from-layer="{source}" from-port="0" to-layer="{number}" to-port="{port}"/>'
            for port, source in enumerate(inputs)
        ]
        return number

    def save(self, folder):
        xml, binary = folder / "network.xml", folder / "network.bin"
        layers, edges = "".join(self.layers), "".join(self.edges)
        xml.write_text(f'<?xml version="1.0"?><net><layers>{layers}</layers><edges>{edges}</edges></net>')
        binary.write_bytes(self.binary)
        return xml, binary


def written_mapping(network, folder):
    ir = IRWriter()
    x = ir.op("Parameter", "var")
    for k, layer in enumerate(network.layers):
        product = ir.op("MatMul", f"MatMul_{k}", x, ir.const(f"w{k}", layer.weight.detach()))
        shape = ir.op("ShapeOf", f"Shape_{k}", product)
        bias = ir.op("Reshape", f"Reshape_{k}", ir.const(f"b{k}", layer.bias.detach()), shape)
        x = ir.op("PReLU", f"LeakyRelu_{k}", ir.op("Add", f"Add_{k}", product, bias), ir.const(f"s{k}", [0.2]))
    return ir.save(folder)


def written_synthesis(network, folder):
    """`network` as an IR pair, with styles that are divided by a constant which follows them in the graph."""
    ir = IRWriter()
    w = ir.op("Parameter", "style")

    def style(name, linear, scale):
        product = ir.op("MatMul", f"{name}/Gemm", w, ir.const(f"{name}.weight", linear.weight.detach() / (scale or 1)))
        total = ir.op(
            "Add", f"{name}/Add", product, ir.const(f"{name}.bias", linear.bias.detach()[None] / (scale or 1))
        )
        shaped = ir.op("Reshape", f"{name}/Reshape", total, ir.op("ShapeOf", f"{name}/Shape", total))
        return (
            shaped
            if scale is None
            else ir.op("Multiply", f"{name}/Mul", shaped, ir.const("", np.full((1,) * 4, scale)))
        )

    def convolved(name, x, weight, noise, bias):
        x = ir.op("Convolution", f"{name}/Conv", x, ir.const(f"{name}/folded", weight))
        x = ir.op("Add", f"{name}/noisy", x, ir.const(f"{name}/noise", noise))
        x = ir.op("Add", f"{name}/biased", x, ir.const(f"{name}.bias", bias.detach()[None, :, None, None]))
        return ir.op("PReLU", f"{name}/LeakyRelu", x, ir.const("", [0.2]))

    first = network.first
    modulation = style("m.conv1.conv.modulation", first.modulation, 0.125)
    x = ir.op("Multiply", "Mul", modulation, ir.const("m.input.input", first.constant.detach()))
    x = convolved("m.conv1", x, first.weight.detach(), network.noise[0], first.bias)
    for k, block in enumerate(network.blocks):
        x = ir.op("Multiply", f"up{k}", style(f"m.layers.{k}.up.modulation", block.up, None), x)
        for number, conv in ((1, block.conv1), (2, block.conv2)):
            name = f"m.layers.{k}.conv{number}"
            x = ir.op("Multiply", f"{name}/x", style(f"{name}.conv.modulation", conv.modulation, 0.05), x)
            depthwise = ir.const(f"{name}.conv.weight_dw", conv.depthwise.detach()[:, None])
            x = ir.op("GroupConvolution", f"{name}/dw", x, depthwise)
            weight = conv.pointwise.detach()[:, :, None, None]
            x = convolved(name, x, weight, network.noise[2 * k + number], conv.bias)
    name = f"m.layers.{len(network.blocks) - 1}.to_img"
    x = ir.op("Multiply", f"{name}/x", style(f"{name}.conv.modulation", network.head.modulation, 0.25), x)
    ir.const(f"{name}.conv.weight", network.head.weight.detach()[:, :, None, None])
    ir.const(f"{name}.bias", network.head.bias.detach()[None, :, None, None])
    return ir.save(folder)


@pytest.fixture
def tiny():
    torch.manual_seed(0)
    network = Synthesis(TINY).eval()
    for noise in network.noise:
        noise.normal_()
    for parameter in network.parameters():
        parameter.detach().add_(0.1 * torch.randn_like(parameter))
    return network.requires_grad_(False)


def wavelet_filters(x):
    """The inverse Haar wavelet as the exported graph writes it: transposed convolutions along one axis at a time."""
    low, high = torch.tensor([1.0, 1.0]) / math.sqrt(2), torch.tensor([1.0, -1.0]) / math.sqrt(2)
    c = x.shape[1] // 4
    average, details = x[:, :c], x[:, c:].unflatten(1, (c, 3))

    def up(x, taps, axis):
        shape, stride = ((2, 1), (2, 1)) if axis == 2 else ((1, 2), (1, 2))
        return F.conv_transpose2d(x, taps.view(1, 1, *shape).repeat(c, 1, 1, 1), stride=stride, groups=c)

    left = up(average, low, 2) + up(details[:, :, 0], high, 2)
    right = up(details[:, :, 1], low, 2) + up(details[:, :, 2], high, 2)
    return up(left, low, 3) + up(right, high, 3)


def drawn_slowly(network, w_plus, noise):
    """The generator as the exported graph computes it: styles multiply pixels, every step is a pass of its own."""

    def scaled(x, linear, row):
        return x * linear(w_plus[:, row])[:, :, None, None]

    first = network.first
    x = F.conv2d(scaled(first.constant, first.modulation, 0), first.weight, padding=1) + noise[0]
    x = F.leaky_relu(x + first.bias[:, None, None], 0.2)
    for k, block in enumerate(network.blocks):
        x = wavelet_filters(scaled(x, block.up, 1 + 3 * k))
        for number, conv in ((1, block.conv1), (2, block.conv2)):
            x = scaled(x, conv.modulation, 1 + 3 * k + number)
            x = F.conv2d(x, conv.depthwise, padding=1, groups=x.shape[1])
            x = F.conv2d(x, conv.pointwise[:, :, None, None]) + noise[2 * k + number]
            x = F.leaky_relu(x + conv.bias[:, None, None], 0.2)
    x = F.conv2d(scaled(x, network.head.modulation, -1), network.head.weight[:, :, None, None], network.head.bias)
    return wavelet_filters(x)


def test_synthesis_follows_the_exported_graph_and_its_gradient(tiny):
    w_plus = torch.randn(2, TINY.layers, TINY.latent, requires_grad=True)
    noise = [torch.randn(shape, requires_grad=True) for shape in TINY.noise_shapes]
    weight = torch.randn(2, 3, TINY.size, TINY.size)
    fast, slow = tiny(w_plus, noise), drawn_slowly(tiny, w_plus, noise)
    torch.testing.assert_close(fast, slow, atol=1e-5, rtol=1e-5)
    mine = torch.autograd.grad((fast * weight).sum(), [w_plus, *noise])
    theirs = torch.autograd.grad((slow * weight).sum(), [w_plus, *noise])
    torch.testing.assert_close(mine, theirs, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_pointwise_is_a_styled_convolution_in_value_and_gradient(dtype):
    torch.manual_seed(1)
    x = torch.randn(2, 3, 2, 4, dtype=dtype).contiguous(memory_format=torch.channels_last)
    wide = torch.promote_types(dtype, torch.float32)  # of weights and styles
    inputs = [t.requires_grad_() for t in (x, torch.randn(2, 3, dtype=wide), torch.randn(5, 3, dtype=wide))]
    found, (_, style, weight) = _Pointwise.apply(*inputs), inputs
    expected = F.conv2d(x * style[:, :, None, None], weight[:, :, None, None])
    tolerance = {"atol": 0.05, "rtol": 0.05} if dtype == torch.bfloat16 else {}
    torch.testing.assert_close(found.to(wide), expected, **tolerance)
    towards = torch.randn_like(expected)
    mine, theirs = (torch.autograd.grad(y, inputs, towards.to(y.dtype)) for y in (found, expected))
    torch.testing.assert_close(mine, theirs, **tolerance)


def test_pointwise_with_a_style_of_zero_has_its_gradient():
    x, style, weight = torch.randn(1, 3, 4, 4), torch.zeros(1, 3, requires_grad=True), torch.randn(2, 3)
    (found,) = torch.autograd.grad(_Pointwise.apply(x, style, weight).sum(), style)
    torch.testing.assert_close(found, x.sum((2, 3)) * weight.sum(0))


def test_without_compiled_operators_the_picture_is_the_same(tiny, monkeypatch):
    w_plus = torch.randn(1, TINY.layers, TINY.latent, requires_grad=True)
    results = []
    for mode in ("auto", "reference"):
        monkeypatch.setenv("SGMATTE_OPS", mode)
        picture = tiny(w_plus)
        results.append((picture.detach(), *torch.autograd.grad(picture.square().sum(), w_plus)))
    torch.testing.assert_close(*results, atol=1e-4, rtol=1e-4)


def test_haar_synthesis_is_the_graphs_wavelet():
    x, scale = torch.randn(2, 12, 3, 5), torch.randn(2, 12)
    torch.testing.assert_close(haar_synthesis(x), wavelet_filters(x))
    torch.testing.assert_close(haar_synthesis(x, scale), wavelet_filters(x * scale[:, :, None, None]))


def test_short_head_is_three_modulated_convolutions_beside_a_linear_one():
    torch.manual_seed(2)
    head = ShortHead(6, 5, hidden=4).requires_grad_(False)
    head.centre.normal_()
    head.scale.uniform_(0.5, 2)
    head.first_bias.normal_()
    head.second_bias.normal_()
    x, w = torch.randn(2, 5, 7, 6), torch.randn(2, 6)
    first, second, last = (style(w - head.centre)[:, :, None, None] for style in head.modulations)
    features = x * head.scale[:, None, None] * first
    linear = F.conv2d(features, head.first[4:, :, None, None], head.first_bias[4:])
    hidden = F.leaky_relu(F.conv2d(features, head.first[:4, :, None, None], head.first_bias[:4]), 0.2)
    hidden = F.leaky_relu(F.conv2d(hidden * second, head.second, head.second_bias, padding=1), 0.2)
    expected = haar_synthesis(linear + F.conv2d(hidden * last, head.last[:, :, None, None]))
    torch.testing.assert_close(head(x, w), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.skipif(not zoo.present(WEIGHT), reason=f"run `sgmatte weights fetch {WEIGHT}` first")
def test_the_whole_network_draws_what_the_original_draws():
    golden = np.load(GOLDEN / "mobilestylegan.npz")
    mapping, synthesis = load_networks()
    w = mapping(torch.from_numpy(golden["z"]))
    np.testing.assert_allclose(w, golden["w"], atol=1e-4)
    image = synthesis(w[:1, None].expand(-1, synthesis.config.layers, -1))
    np.testing.assert_allclose(F.avg_pool2d(image, 4), golden["image_mean4"][:1], atol=3e-3)  # stored as fp16
    np.testing.assert_allclose(image[:, :, 500:532, 500:532], golden["crop"][:1], atol=1e-3)
