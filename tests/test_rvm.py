"""Robust Video Matting, against what onnxruntime makes of the published graph, and as a peer in benchmarks."""

import numpy as np
import pytest
import torch
from skimage.data import astronaut
from torch import nn

from sgmatte.bench import peers
from sgmatte.bench.peers import chosen_peer
from sgmatte.nn.rvm import RVM, from_graph, rvm_model, shrunk
from sgmatte.trimaps import band_trimap

# By onnxruntime 1.32, downsample_ratio = min(1, side / 500): means over 100 px, and every fourth alpha below a hand.
GOLDEN = {
    (384, 4): (
        [[0.00000, 0.59041, 0.41063, 0.00000],
         [0.06726, 0.80909, 0.33992, 0.00000],
         [0.70522, 1.00000, 0.81177, 0.03109],
         [1.00000, 1.00000, 0.89262, 0.10662],
         [0.99981, 0.99976, 0.43695, 0.00000]],
        [[0.17848, 0.05659, 0.09142, 0.02143, 0.00305],
         [0.43793, 0.05988, 0.07805, 0.03247, 0.01078],
         [0.30280, 0.06226, 0.10137, 0.02702, 0.01043],
         [0.15156, 0.09225, 0.12039, 0.00265, 0.00000],
         [0.34981, 0.09776, 0.00000, 0.00000, 0.00000]],
    ),
    (512, 1): (
        [[0.00000, 0.59116, 0.40999, 0.00000],
         [0.07003, 0.81698, 0.33778, 0.00000],
         [0.70387, 1.00000, 0.81156, 0.03106],
         [1.00000, 1.00000, 0.69978, 0.10609],
         [0.99954, 0.99858, 0.54375, 0.13883]],
        [[0.79998, 0.65048, 0.64817, 0.60205, 0.40656],
         [0.63679, 0.69721, 0.70368, 0.66501, 0.40233],
         [0.66443, 0.63889, 0.58617, 0.57297, 0.39164],
         [0.80606, 0.63794, 0.48788, 0.56104, 0.36033],
         [0.44921, 0.51563, 0.28469, 0.60076, 0.44888]],
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def portrait():
    """500x451: neither side is a multiple of 16."""
    return torch.from_numpy(astronaut()[:500, 40:491].copy()).permute(2, 0, 1)[None] / 255


@pytest.fixture(scope="module")
def untrained():
    torch.manual_seed(0)
    network = RVM(side=96).eval().requires_grad_(False)
    nn.init.constant_(network.project.bias, 0.5)
    nn.init.normal_(network.project.weight)
    return network


@pytest.mark.parametrize("size", [(64, 80), (37, 91), (96, 96), (150, 121), (200, 33), (1, 1), (17, 2)])
def test_any_size_has_an_alpha(untrained, size):
    image = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))
    alpha = untrained(image)
    assert alpha.shape == (2, 1, *size)
    assert alpha.min() >= 0
    assert alpha.max() <= 1
    torch.testing.assert_close(untrained(image[1:]), alpha[1:], atol=1e-5, rtol=0)


def test_alpha_may_leave_its_bounds_where_that_is_wanted(untrained, portrait):
    free = untrained(portrait, bounded=False)
    assert free.min() < 0
    assert torch.equal(free.clamp(0, 1), untrained(portrait))


def test_another_look_is_another_answer(untrained, portrait):
    untrained.looks = 1
    once = untrained(portrait)
    untrained.looks = 4
    assert 1e-4 < (untrained(portrait) - once).abs().max() < 1


def test_alpha_in_bfloat16_is_about_the_same(untrained, portrait):
    with torch.autocast("cpu", torch.bfloat16):
        alpha = untrained(portrait)
    assert alpha.dtype == torch.float32
    assert (alpha - untrained(portrait)).abs().mean() < 0.02


def test_gradients_reach_the_picture(untrained):
    image = torch.rand(1, 3, 40, 120, requires_grad=True)
    untrained(image).sum().backward()
    assert image.grad.abs().sum() > 0


@pytest.mark.parametrize("length", [385, 411, 500, 777, 800, 1023, 4000, 5999])
def test_the_longest_side_is_what_was_asked_for(length):
    small = shrunk(torch.rand(1, 1, 400, length), 384) if length >= 400 else shrunk(torch.rand(1, 1, length, 2), 384)
    assert max(small.shape) == 384
    image = torch.rand(1, 3, 5, 7)
    assert shrunk(image, 7) is image


def test_convolutions_of_a_graph_have_the_order_of_the_network(untrained):
    own = untrained.state_dict()
    convolutions = list(dict.fromkeys(key.rpartition(".")[0] for key in own))
    parts = ((*key.rpartition(".")[::2], value) for key, value in own.items())
    found = from_graph({f"{convolutions.index(name)}.{part}": value for name, part, value in parts})
    assert list(found) == list(own)
    assert all(torch.equal(found[name], value) for name, value in own.items())


@pytest.mark.parametrize(("side", "looks"), GOLDEN)
def test_alpha_is_that_of_the_published_graph(portrait, side, looks):
    network = rvm_model(torch.device("cpu"))
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())
    network.side, network.looks = side, looks
    alpha = network(portrait)[0, 0].numpy()
    means, patch = (np.array(each) for each in GOLDEN[side, looks])
    # 1e-4 both, were the weights in single precision
    assert np.abs(alpha[:500, :400].reshape(5, 100, 4, 100).mean((1, 3)) - means).max() < 5e-3
    assert np.abs(alpha[460:480:4, 240:260:4] - patch).max() < 0.015


def test_as_a_peer(portrait):
    trimap = torch.ones(1, 1, *portrait.shape[2:], dtype=torch.long)
    plain, chained = (chosen_peer(name)(portrait, trimap) for name in ("rvm-plain", "rvm"))
    assert plain.shape == chained.shape == trimap.shape
    sure = band_trimap(torch.where(plain > 0.9, 1.0, torch.where(plain < 0.1, 0.0, plain)), 10)
    assert (chained[sure == 0] == 0).all()
    assert (chained[sure == 2] == 1).all()
    assert not torch.equal(plain, chained)


def test_a_peer_that_sees_nobody_is_not_chained(monkeypatch):
    monkeypatch.setattr(peers, "_rvm_alpha", lambda: lambda image: torch.full_like(image[:, :1], 0.02))
    alpha = chosen_peer("rvm")(torch.rand(1, 3, 40, 40), torch.ones(1, 1, 40, 40, dtype=torch.long))
    assert torch.equal(alpha, torch.full_like(alpha, 0.02))
