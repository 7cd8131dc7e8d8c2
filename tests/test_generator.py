"""The interface of the generator, and heads fitted to networks small enough for a test."""

import pytest
import torch
import torch.nn.functional as F

from sgmatte import zoo
from sgmatte.errors import UsageError, WeightError
from sgmatte.generator import HEADS, WEIGHT, MobileGenerator, load_generator
from sgmatte.nn.mobilestylegan import Config, Head, Mapping, Synthesis, context, haar_synthesis
from sgmatte.train import head as training
from sgmatte.train.head import Moments, haar_analysis, mixed_w_plus, trained_head, write_moments


@pytest.fixture
def networks():
    torch.manual_seed(0)
    mapping = Mapping(12, 2).eval().requires_grad_(False)
    synthesis = Synthesis(Config(latent=12, constant=16, blocks=(16, 8, 8))).eval().requires_grad_(False)
    for module in synthesis.modules():  # random networks hardly listen to w: make them
        for name in ("up", "modulation"):
            if hasattr(module, name):
                getattr(module, name).bias.add_(1)
                getattr(module, name).weight.mul_(2)
    return mapping, synthesis


def test_pictures_are_half_as_far_and_around_a_half(networks):
    generator = MobileGenerator(*networks)
    w_plus = generator.mapping(torch.randn(2, 12))[:, None].expand(-1, generator.layers, -1)
    image = generator.synthesis(w_plus, generator.default_noise())
    assert (generator.size, generator.layers, image.shape) == (64, 11, (2, 3, 64, 64))
    torch.testing.assert_close(image, (networks[1](w_plus) + 1) / 2)


def test_default_noise_is_a_copy(networks):
    generator = MobileGenerator(*networks)
    generator.default_noise()[0].fill_(7)
    assert generator.default_noise()[0].abs().max() == 0
    assert [tuple(m.shape) for m in generator.default_noise()] == generator.noise_shapes


def test_mean_w_depends_on_its_seed_alone(networks):
    generator = MobileGenerator(*networks)
    assert torch.equal(generator.mean_w(100), generator.mean_w(100))
    assert not torch.equal(generator.mean_w(100), generator.mean_w(100, seed=1))
    torch.testing.assert_close(generator.mean_w(4000), generator.mean_w(4000, seed=1), atol=0.05, rtol=0)


def test_fast_features_stay_close(networks):
    _, synthesis = networks
    w_plus = torch.randn(1, 11, 12)
    exact = synthesis(w_plus)
    synthesis.fast = True
    fast = synthesis(w_plus)
    assert fast.dtype == torch.float32
    assert 0 < float((fast - exact).square().mean().sqrt()) < 0.02 * float(exact.std())


def test_unknown_sizes_and_missing_weights_say_what_to_do(monkeypatch, tmp_path):
    with pytest.raises(UsageError, match="no generator of size 300; choose one of 256, 512, 1024"):
        load_generator(300)
    monkeypatch.setenv("SGMATTE_HOME", str(tmp_path))
    with pytest.raises(WeightError, match=f"sgmatte weights fetch {WEIGHT}"):
        load_generator()


@pytest.mark.parametrize(("size", "channels"), [(256, 256), (512, 128)])
def test_bundled_heads_load(size, channels):
    head = zoo.load_into(Head(512, channels, wide=True), HEADS[size])
    image = head(torch.zeros(1, channels, 4, 4), torch.zeros(1, 512))
    torch.testing.assert_close(image, haar_synthesis(head.bias.view(1, 12, 1, 1).expand(-1, -1, 4, 4)))


@pytest.mark.skipif(not zoo.present(WEIGHT), reason=f"needs `sgmatte weights fetch {WEIGHT}`")
def test_small_generator_draws_what_the_whole_one_draws():
    small = load_generator(256, exact=True)
    large = load_generator(1024, exact=True)
    w = small.mapping(torch.randn(1, 512, generator=torch.Generator().manual_seed(3)))[:, None]
    with torch.inference_mode():
        image = small.synthesis(w.expand(-1, small.layers, -1), small.default_noise())
        whole = large.synthesis(w.expand(-1, large.layers, -1), large.default_noise())
    error = (image.clamp(0, 1) - F.avg_pool2d(whole, 4).clamp(0, 1)).square().mean()
    assert -10 * error.log10() > 23
    assert large.coarse is not None
    assert large.coarse.size == 256


def test_haar_analysis_inverts_the_synthesis():
    image = torch.randn(2, 3, 8, 6)
    torch.testing.assert_close(haar_synthesis(haar_analysis(image)), image)


def test_moments_give_the_error_of_a_head(networks, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "SHARD", 3)
    mapping, synthesis = networks
    moments = Moments(write_moments(mapping, synthesis, [16], tmp_path, 3), 16)
    head = Head(12, 16, wide=True)
    style = torch.cat((head.modulation(moments.w).repeat_interleave(4, 1), torch.ones(3, 1)), 1)
    kernel = torch.cat((head.weight.view(12, 4, 16).transpose(1, 2).flatten(1), head.bias[:, None]), 1)
    errors = moments.errors(kernel * moments.scale, style, torch.arange(3))

    import numpy as np

    random = np.random.default_rng((0, 0))
    for k in range(3):
        w_plus = mixed_w_plus(mapping, synthesis.config.layers, random)
        random.integers(0, 1, 2)  # where the lattice of pixels starts; here it has them all
        features = synthesis.features(w_plus, synthesis.noise)[1]
        wanted = F.avg_pool2d(synthesis(w_plus), 4)
        drawn = head(features, w_plus[:, 4])
        torch.testing.assert_close(errors[k], ((drawn - wanted) / 2).square().mean(), atol=1e-4, rtol=1e-3)


def test_fitted_head_draws_unseen_pictures_better_than_any_one_matrix(networks, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "SHARD", 20)
    mapping, synthesis = networks
    files = write_moments(mapping, synthesis, [32], tmp_path, 80)
    written = [file.stat().st_mtime_ns for file in files]
    assert [f.stat().st_mtime_ns for f in write_moments(mapping, synthesis, [32], tmp_path, 80)] == written
    rows = []
    head = trained_head(files, 32, rounds=3, observe=lambda *row: rows.append(row))
    assert [row[:2] for row in rows] == [(1, 3), (2, 3), (3, 3)]
    unseen = Moments(files[-1:], 32)
    seen = Moments(files[:-1], 32)
    plain = seen.best_kernel(torch.ones(60, len(seen.scale)), torch.ones(60)) / seen.scale * unseen.scale
    every = torch.arange(20)
    without = unseen.errors(plain, torch.ones(20, len(seen.scale)), every).log10().mean()
    assert rows[-1][2]["psnr_unseen"] > -10 * float(without)
    again = trained_head(files, 32, rounds=3)
    assert all(torch.equal(a, b) for a, b in zip(head.state_dict().values(), again.state_dict().values(), strict=True))


def test_context_is_what_the_wide_head_sees():
    head, x = Head(3, 5, wide=True), torch.randn(1, 5, 6, 6)
    seen = context(x * head.modulation(torch.ones(1, 3))[:, :, None, None])
    kernel = head.weight.view(12, 4, 5).transpose(1, 2).reshape(12, 20, 1, 1)
    expected = haar_synthesis(F.conv2d(seen, kernel, head.bias))
    torch.testing.assert_close(head(x, torch.ones(1, 3)), expected, atol=1e-5, rtol=1e-5)
