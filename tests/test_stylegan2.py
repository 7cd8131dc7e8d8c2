"""StyleGAN2 against what the original implementation answered with the same weights."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from golden.fill import fill, shapes

from sgmatte.errors import UsageError
from sgmatte.nn.stylegan2 import Generator, channel_table
from sgmatte.nn.stylegan2_discriminator import Discriminator, with_deviation
from sgmatte.ops import native

GOLDEN = np.load(Path(__file__).parent / "golden" / "stylegan2.npz")


def filled(network, family):
    """`network` with the weights that the golden outputs were computed with; its FIR filters are its own."""
    wanted = shapes(family)
    assert {key: tuple(value.shape) for key, value in network.state_dict().items()} == wanted
    values = {key: torch.from_numpy(value) for key, value in fill(wanted, "equalized").items()}
    assert {key for key in wanted if key not in values} == {key for key in wanted if key.endswith(".kernel")}
    network.load_state_dict(network.state_dict() | values)
    return network.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def generator():
    return filled(Generator(64), "stylegan2_g_64")


@pytest.fixture(scope="module")
def discriminator():
    return filled(Discriminator(64), "stylegan2_d_64")


@pytest.fixture(params=["reference", "compiled"])
def operators(request, monkeypatch):
    """Both kinds of operators in turn; compiled ones where this machine has the compiler."""
    if request.param == "compiled" and native.state("cpu").library is None:
        pytest.skip(native.state("cpu").reason)
    monkeypatch.setenv("SGMATTE_OPS", "require" if request.param == "compiled" else "reference")


def close(found, name):
    wanted = torch.from_numpy(GOLDEN[name])
    assert found.shape == wanted.shape
    assert float((found - wanted).abs().max()) < 1e-4 * float(wanted.std())


def test_mapping(generator):
    close(generator.mapping(torch.from_numpy(GOLDEN["z"])), "w")


@pytest.mark.usefixtures("operators")
def test_picture_with_given_noise(generator):
    w_plus = torch.from_numpy(GOLDEN["w"])[:, None].expand(-1, generator.layers, -1)
    close(generator(w_plus, [torch.from_numpy(GOLDEN[f"noise_{k}"]) for k in range(9)]), "image")


@pytest.mark.usefixtures("operators")
def test_picture_from_w_plus_and_stored_noise(generator):
    close(generator(torch.from_numpy(GOLDEN["w_plus"])), "image_w_plus")


@pytest.mark.usefixtures("operators")
def test_logits(discriminator):
    close(discriminator(torch.from_numpy(GOLDEN["image"]).clamp(-1, 1)), "d_logits")


def test_config_f_at_1024():
    with torch.device("meta"):
        generator, discriminator = Generator(1024), Discriminator(1024)
    state = generator.state_dict()
    assert (len(state), sum(key.startswith("noises.") for key in state), generator.layers) == (171, 17, 18)
    assert len(discriminator.state_dict()) == 64
    assert generator.channels == (512, 512, 512, 512, 512, 256, 128, 64, 32)
    assert state["convs.15.conv.weight"].shape == (1, 32, 32, 3, 3)
    assert state["noises.noise_16"].shape == (1, 1, 1024, 1024)
    assert discriminator.state_dict()["final_conv.0.weight"].shape == (512, 513, 3, 3)
    assert sum(p.numel() for p in generator.parameters()) == 30_370_060
    assert sum(p.numel() for p in discriminator.parameters()) == 29_012_513


def small():
    """A generator that listens to its noise."""
    torch.manual_seed(0)
    network = Generator(64, latent=16, depth=2, channels=(16, 16, 8, 8, 8))
    for name, value in network.named_parameters():
        if name.endswith(("noise.weight", "bias")):
            value.data.add_(0.2 * torch.randn_like(value))
    return network.eval()


def drawn_with_modulated_weights(network, w_plus, noise):
    """The usual formulation: a weight tensor a sample, in one grouped convolution (paper, section 2.2)."""

    def convolved(conv, x, w, demodulate=True):
        n, (_, outputs, inputs, k, _) = len(x), conv.weight.shape
        weight = conv.scale * conv.weight * conv.modulation(w)[:, None, :, None, None]
        if demodulate:
            weight = weight * torch.rsqrt(weight.square().sum((2, 3, 4), keepdim=True) + 1e-8)
        x = x.reshape(1, n * inputs, *x.shape[2:])
        if not conv.up:
            x = F.conv2d(x, weight.reshape(n * outputs, inputs, k, k), padding=k // 2, groups=n)
            return x.reshape(n, outputs, *x.shape[2:])
        weight = weight.transpose(1, 2).reshape(n * inputs, outputs, k, k)
        x = F.conv_transpose2d(x, weight, stride=2, groups=n)
        x = F.conv2d(F.pad(x, (1, 1, 1, 1)).transpose(0, 1), conv.blur.kernel[None, None])
        return x.reshape(n, outputs, *x.shape[2:])

    def styled(layer, x, w, noise):
        x = convolved(layer.conv, x, w) + layer.noise["weight"] * noise + layer.activate["bias"][:, None, None]
        return math.sqrt(2) * F.leaky_relu(x, 0.2)

    def doubled(rgb):
        spread = torch.zeros(*rgb.shape[:2], 2 * rgb.shape[2], 2 * rgb.shape[3])
        spread[:, :, ::2, ::2] = rgb
        kernel = network.to_rgbs[0].upsample.kernel.expand(3, 1, 4, 4)
        return F.conv2d(F.pad(spread, (2, 1, 2, 1)), kernel, groups=3)

    x = network.input["input"].repeat(len(w_plus), 1, 1, 1)
    x = styled(network.conv1, x, w_plus[:, 0], noise[0])
    rgb = convolved(network.to_rgb1.conv, x, w_plus[:, 1], False) + network.to_rgb1.bias
    for k, to_rgb in enumerate(network.to_rgbs):
        for i in (2 * k, 2 * k + 1):
            x = styled(network.convs[i], x, w_plus[:, 1 + i], noise[1 + i])
        rgb = doubled(rgb) + convolved(to_rgb.conv, x, w_plus[:, 3 + 2 * k], False) + to_rgb.bias
    return rgb


@pytest.mark.usefixtures("operators")
def test_activations_modulated_in_place_of_weights_change_nothing():
    network = small()
    w_plus = torch.randn(2, network.layers, 16, requires_grad=True)
    noise = [torch.randn(shape, requires_grad=True) for shape in network.noise_shapes]
    weight = torch.randn(2, 3, 64, 64)
    mine, theirs = network(w_plus, noise), drawn_with_modulated_weights(network, w_plus, noise)
    torch.testing.assert_close(mine, theirs, atol=1e-4, rtol=1e-4)
    gradients = [torch.autograd.grad((x * weight).sum(), [w_plus, *noise]) for x in (mine, theirs)]
    torch.testing.assert_close(*gradients, atol=2e-3, rtol=1e-3)


@pytest.mark.usefixtures("operators")
def test_path_lengths_have_a_gradient():
    """Path length regularisation differentiates the gradient to W+ by the weights."""
    network = small()
    w_plus = torch.randn(1, network.layers, 16, requires_grad=True)
    (slope,) = torch.autograd.grad((network(w_plus) * torch.randn(1, 3, 64, 64)).sum(), w_plus, create_graph=True)
    (second,) = torch.autograd.grad(slope.square().sum(), network.convs[0].conv.weight)
    assert second.isfinite().all()
    assert second.abs().max() > 0


@pytest.mark.usefixtures("operators")
def test_fast_features_stay_close():
    network, judge = small(), Discriminator(64, channels=(16, 16, 8, 8, 8))
    network.requires_grad_(False)
    judge.requires_grad_(False)
    w_plus = torch.randn(2, network.layers, 16)
    exact = network(w_plus)
    logits = judge(exact)
    network.fast = judge.fast = True
    assert [x.dtype for x, _ in network.stages(w_plus)] == [torch.float32] * 2 + [torch.bfloat16] * 3
    fast = network(w_plus)
    assert fast.dtype == judge(exact).dtype == torch.float32
    assert 0 < float((fast - exact).square().mean().sqrt()) < 0.02 * float(exact.std())
    assert 0 < float((judge(exact) - logits).abs().max()) < 0.05 * float(logits.abs().max())


def test_features_stay_channels_last():
    network = small()
    with torch.no_grad():
        x, _ = next(network.stages(torch.randn(2, network.layers, 16)))
    assert x.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("network", [small(), Discriminator(32, channels=(8, 8, 8, 4))], ids=["generator", "critic"])
def test_config_makes_the_network_again(network):
    config = json.loads(json.dumps(network.config))
    again = type(network)(**config).state_dict()
    assert {key: value.shape for key, value in again.items()} == {
        key: value.shape for key, value in network.state_dict().items()
    }


def test_channels_and_sizes():
    assert channel_table(256, 1) == (512, 512, 512, 512, 256, 128, 64)
    assert channel_table(256, width=0.25) == (128, 128, 128, 128, 128, 64, 32)
    for size in (4, 48, 0):
        with pytest.raises(UsageError, match=f"8, 16, 32 ... pixels a side, not {size}"):
            channel_table(size)
    with pytest.raises(UsageError, match="64 px have 5 resolutions, but channels are given for 2"):
        Generator(64, channels=(8, 8))


@pytest.mark.parametrize(("batch", "group"), [(1, 1), (2, 2), (3, 3), (6, 3), (8, 4)])
def test_deviation_is_that_of_every_nth_sample(batch, group):
    x = torch.randn(batch, 5, 4, 4, generator=torch.Generator().manual_seed(batch))
    found = with_deviation(x)
    assert torch.equal(found[:, :5], x)
    count = batch // group
    for k in range(batch):
        members = x[k % count :: count]
        assert len(members) == group
        wanted = np.sqrt(members.numpy().var(0) + 1e-8).mean()
        torch.testing.assert_close(found[k, 5], torch.full((4, 4), float(wanted)))
