from pathlib import Path

import numpy as np
import pytest
import torch
from golden import fill

from sgmatte.nn import gca
from sgmatte.nn.gca import GCA, GuidedContextualAttention, folded

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(scope="module")
def official():
    """The official checkpoint's keys with filled values."""
    return {key: torch.from_numpy(np.asarray(value)) for key, value in fill.fill(fill.shapes("gca"), "plain").items()}


def test_full_width_answers_as_the_original_does(official):
    network = GCA().eval()
    network.load_state_dict(folded(official))
    golden = np.load(GOLDEN / "gca.npz")
    image, trimap = torch.from_numpy(golden["image"]), torch.from_numpy(golden["trimap"]).long().unsqueeze(1)
    with torch.inference_mode():
        alpha = network(image, trimap)
    np.testing.assert_allclose(alpha.numpy(), golden["alpha"], atol=1e-4)


def test_folding_divides_out_the_spectral_norm(official):
    plain = folded({f"module.{key}": value for key, value in official.items()})  # as nn.DataParallel prefixes them
    assert plain.keys() == GCA(0.1).state_dict().keys()
    weight = plain["encoder.layer1.0.conv1.weight"].flatten(1)
    assert torch.linalg.matrix_norm(weight, 2).item() == pytest.approx(1, abs=0.02)
    assert torch.equal(plain["decoder.conv2.weight"], official["decoder.conv2.weight"])  # never normalised


@pytest.mark.parametrize(("width", "millions"), [(1.0, 25.16), (0.5, 6.30)])
def test_width_scales_every_layer(width, millions):
    assert sum(p.numel() for p in GCA(width).parameters()) / 1e6 == pytest.approx(millions, abs=0.01)


def test_sides_that_are_no_multiples_of_32_are_refused():
    with pytest.raises(ValueError, match="multiples of 32"):
        GCA(0.1)(torch.rand(1, 3, 64, 80), torch.ones(1, 1, 64, 80, dtype=torch.long))


@pytest.fixture
def scene():
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(2, 3, 96, 64, generator=generator)
    return image, torch.randint(0, 3, (2, 1, 96, 64), generator=generator)


def test_blocks_of_queries_change_neither_answer_nor_gradient(scene, monkeypatch):
    torch.manual_seed(0)
    network, (image, trimap) = GCA(0.1).eval(), scene
    for module in network.modules():
        if isinstance(module, GuidedContextualAttention):
            torch.nn.init.ones_(module.W[1].weight)  # starts near zero, where attention would not show
    whole = image.clone().requires_grad_()
    alpha = network(whole, trimap)
    alpha.square().sum().backward()

    monkeypatch.setattr(gca, "SCORES_PER_BLOCK", 2 * 24 * 5)  # 5 of 24 queries at once: the last block is shorter
    blocked = image.clone().requires_grad_()
    again = network(blocked, trimap)
    again.square().sum().backward()
    torch.testing.assert_close(again, alpha)
    torch.testing.assert_close(blocked.grad, whole.grad, atol=1e-5, rtol=1e-4)
    assert whole.grad.abs().max() > 0
    with torch.inference_mode():
        torch.testing.assert_close(network(image, trimap), alpha.detach())


def attention_by_loops(guidance, alpha, unknown):
    """One image: guidance (g, h, w), alpha (c, h, w), unknown (h, w) -> what is pasted before the 1x1 convolution."""
    g, u = guidance[:, ::2, ::2], unknown[::2, ::2]
    rows, columns = u.shape
    pad = lambda x: np.pad(x, [(0, 0)] * (x.ndim - 2) + [(1, 1), (1, 1)], mode="reflect")  # noqa: E731
    gp, ap, up = pad(g), pad(alpha), pad(u)
    places = [(y, x) for y in range(rows) for x in range(columns)]
    share = u.mean()
    result = np.zeros((alpha.shape[0], 2 * rows + 2, 2 * columns + 2))
    for y, x in places:
        query, scores = gp[:, y : y + 3, x : x + 3], []
        for v, w in places:
            key, is_unknown = gp[:, v : v + 3, w : w + 3], up[v : v + 3, w : w + 3].any()
            score = (query * key).sum() / max(np.sqrt((key**2).sum()), 1e-4)
            score *= np.clip(np.sqrt(share / (1 - share) if is_unknown else (1 - share) / share), 0.1, 10)
            scores.append(score - 1e4 * (is_unknown and (y, x) == (v, w)))
        weights = np.exp(np.array(scores) - max(scores))
        for weight, (v, w) in zip(weights / weights.sum(), places, strict=True):
            patch = ap[:, 2 * v : 2 * v + 4, 2 * w : 2 * w + 4]
            result[:, 2 * y : 2 * y + 4, 2 * x : 2 * x + 4] += weight * patch / 4
    return result[:, 1:-1, 1:-1]


def test_attention_is_what_the_loops_say():
    rng = np.random.default_rng(0)
    guidance, alpha = rng.normal(size=(4, 8, 6)), rng.normal(size=(3, 8, 6))
    unknown = (rng.random((8, 6)) < 0.2).astype(float)
    assert unknown[::2, ::2].any()
    module = GuidedContextualAttention(3, 4).eval()
    module.guidance_conv = torch.nn.Identity()
    module.W = torch.nn.Identity()
    inputs = [torch.from_numpy(x).float().reshape(1, -1, 8, 6) for x in (guidance, alpha, unknown)]
    expected = attention_by_loops(guidance, alpha, unknown) + alpha
    np.testing.assert_allclose(module(*inputs)[0].numpy(), expected, atol=1e-5)
