import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from sgmatte import zoo
from sgmatte.errors import WeightError
from sgmatte.generator import WEIGHT, load_networks
from sgmatte.nn.mobilestylegan import (
    STENCILS,
    Config,
    Head,
    Mapping,
    Synthesis,
    _Pointwise,
    context,
    haar_synthesis,
    mapping_from,
    synthesis_from,
)
from sgmatte.nn.openvino_ir import read_graph

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


@pytest.mark.parametrize("leak", [0.2, 1.0])
def test_pointwise_is_a_styled_convolution_in_value_and_gradient(leak):
    torch.manual_seed(1)
    x, style = torch.randn(2, 3, 2, 4, dtype=torch.float64), torch.randn(2, 3, dtype=torch.float64)
    weight, noise = torch.randn(5, 3, dtype=torch.float64), torch.randn(1, 1, 2, 4, dtype=torch.float64)
    bias = torch.randn(5, dtype=torch.float64)
    expected = F.conv2d(x * style[:, :, None, None], weight[:, :, None, None], bias) + noise
    torch.testing.assert_close(_Pointwise.apply(x, style, weight, noise, bias, leak), F.leaky_relu(expected, leak))
    inputs = [t.requires_grad_() for t in (x, style, weight, noise, bias)]
    assert torch.autograd.gradcheck(lambda *t: _Pointwise.apply(*t, leak), inputs)


def test_haar_synthesis_is_the_graphs_wavelet():
    x = torch.randn(2, 12, 3, 5)
    torch.testing.assert_close(haar_synthesis(x), wavelet_filters(x))


def test_wide_head_is_a_modulated_3x3_convolution():
    torch.manual_seed(2)
    head = Head(6, 5, wide=True)
    x, w = torch.randn(2, 5, 4, 4), torch.randn(2, 6)
    kernel = torch.einsum("okc,kyx->ocyx", head.weight.view(12, 4, 5), STENCILS[:, 0])
    modulated = F.pad(x * head.modulation(w)[:, :, None, None], (1, 1, 1, 1), mode="replicate")
    expected = haar_synthesis(F.conv2d(modulated, kernel, head.bias))
    torch.testing.assert_close(head(x, w), expected, atol=1e-5, rtol=1e-5)


def test_context_of_a_ramp():
    ramp = torch.arange(5.0).expand(1, 1, 4, 5)
    here, rightwards, downwards, around = context(ramp)[0, :, 1].tolist()
    assert here == [0, 1, 2, 3, 4]
    assert rightwards == [3, 6, 6, 6, 3]  # three rows, two columns apart; the border is repeated
    assert downwards == [0, 0, 0, 0, 0]
    assert around == [3, 9, 18, 27, 33]
    assert torch.equal(context(ramp, 2, (1, 0)), context(ramp)[:, :, 1::2, ::2])


@pytest.mark.parametrize(("blocks", "size", "layers", "maps"), [(5, 256, 17, 11), (6, 512, 20, 13), (7, 1024, 23, 15)])
def test_rows_and_maps_of_each_size(blocks, size, layers, maps):
    config = Config(blocks=(4,) * blocks)
    assert (config.size, config.layers, len(config.noise_shapes)) == (size, layers, maps)
    assert config.noise_shapes[-1] == (1, 1, size // 2, size // 2)


def test_shortened_network_shares_the_trunk(tiny):
    short = tiny.shortened(16)
    w_plus = torch.randn(1, TINY.layers, TINY.latent)
    whole = tiny.features(w_plus, tiny.noise)
    part = short.features(w_plus[:, : short.config.layers], short.noise)
    assert short.config.size == 16
    assert torch.equal(part[-1], whole[1])
    assert short.blocks[0].conv1.pointwise is tiny.blocks[0].conv1.pointwise


def test_ir_round_trip(tiny, tmp_path):
    read = synthesis_from(read_graph(*written_synthesis(tiny, tmp_path)))
    assert read.config == TINY
    for key, value in tiny.state_dict().items():
        torch.testing.assert_close(read.state_dict()[key], value, msg=key)


def test_mapping_from_ir_is_pixel_norm_and_leaky_layers(tmp_path):
    torch.manual_seed(3)
    network = Mapping(6, 3)
    read = mapping_from(read_graph(*written_mapping(network, tmp_path)))
    z = torch.randn(4, 6)
    x = z / (z.square().mean(1, keepdim=True) + 1e-8).sqrt()
    for layer in network.layers:
        x = F.leaky_relu(x @ layer.weight.T + layer.bias, 0.2) * math.sqrt(2)
    torch.testing.assert_close(read(z), x)


def test_another_network_is_told_apart(tiny, tmp_path):
    graph = read_graph(*written_mapping(Mapping(6, 2), tmp_path))
    with pytest.raises(WeightError, match=r"network\.xml: no layer named 'm\.input\.input'"):
        synthesis_from(graph)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("<?xml", "<!DOCTYPE net [<!ENTITY a 'aaaa'>]><?xml", "document type"),
        ('offset="0"', 'offset="4000000000"', "ends at byte"),
        ('offset="0"', 'offset="-4"', "not a natural number"),
        ('shape="6, 6"', 'shape="6, 7"', "do not agree"),
        ('shape="6, 6"', f'shape="{", ".join("1" * 40)}"', "do not agree"),
        ('size="144"', 'size="1e9"', "not a natural number"),
        ('element_type="f32"', 'element_type="u1"', "has type u1"),
        ('from-layer="0"', 'from-layer="999"', "edges from nowhere"),
        ("</net>", "", "not readable as XML"),
    ],
)
def test_hostile_graphs_are_refused(tmp_path, old, new, message):
    xml, binary = written_mapping(Mapping(6, 1), tmp_path)
    text = xml.read_text()
    assert old in text
    xml.write_text(text.replace(old, new, 1))
    with pytest.raises(WeightError, match=message):
        read_graph(xml, binary)


def test_truncated_constants_and_missing_files_are_refused(tmp_path):
    xml, binary = written_mapping(Mapping(6, 1), tmp_path)
    binary.write_bytes(binary.read_bytes()[:-1])
    with pytest.raises(WeightError, match="ends at byte"):
        read_graph(xml, binary)
    binary.unlink()
    with pytest.raises(WeightError, match=r"network\.bin: cannot be read"):
        read_graph(xml, binary)


@pytest.mark.skipif(not zoo.present(WEIGHT), reason=f"needs `sgmatte weights fetch {WEIGHT}`")
def test_published_network_draws_what_its_original_drew():
    mapping, synthesis = load_networks()
    golden = np.load(GOLDEN / "mobilestylegan.npz")
    with torch.inference_mode():
        w = mapping(torch.from_numpy(golden["z"]))
        image = synthesis(w[:1, None].expand(-1, synthesis.config.layers, -1))
    np.testing.assert_allclose(w, golden["w"], atol=1e-4)
    np.testing.assert_allclose(image[:, :, 500:532, 500:532], golden["crop"][:1], atol=1e-3)
    np.testing.assert_allclose(F.avg_pool2d(image, 4), golden["image_mean4"][:1], atol=1e-3)
