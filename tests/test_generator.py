"""The interface of the generator, and heads fitted to networks small enough for a test."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from sgmatte import zoo
from sgmatte.errors import UsageError, WeightError
from sgmatte.generator import MobileGenerator, load_generator
from sgmatte.generators import HEADS, WEIGHT, chosen_generator
from sgmatte.nn.mobilestylegan import Config, Mapping, ShortHead, Synthesis
from sgmatte.train import head as training
from sgmatte.train.head import Pictures, mixed_w_plus, trained_head, write_pictures
from sgmatte.train.loop import Recipe


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


def test_without_a_cache_the_bundled_generator_draws(monkeypatch, tmp_path):
    monkeypatch.setenv("SGMATTE_HOME", str(tmp_path))
    assert chosen_generator() == ("stylegan2-portrait-256", 256)
    bundled = load_generator()
    assert (bundled.size, bundled.layers, len(bundled.noise_shapes)) == (256, 14, 13)
    strengths = [layer.noise["weight"] for layer in (bundled.network.conv1, *bundled.network.convs)]
    assert all(
        float(strength) > 0.02 for strength in (strengths[6], strengths[9], *strengths[-2:])
    )  # inversion needs them
    w_plus = bundled.mean_w(1000)[:, None].expand(-1, bundled.layers, -1)
    picture = bundled.synthesis(w_plus, bundled.default_noise())
    face, corner = picture[0, :, 110:170, 100:156].mean((1, 2)), picture[0, :, :16].mean((1, 2))
    assert 0.2 < float(picture.mean()) < 0.8
    assert float(face[0] - face[2]) > float(corner[0] - corner[2]) + 0.05  # skin is redder than what is behind it


def test_unknown_sizes_and_missing_weights_say_what_to_do(monkeypatch, tmp_path):
    with pytest.raises(UsageError, match="no generator of size 300; choose one of 256, 512, 1024"):
        load_generator(300)
    monkeypatch.setenv("SGMATTE_HOME", str(tmp_path))
    with pytest.raises(WeightError, match=f"sgmatte weights fetch {WEIGHT}"):
        load_generator(512)


@pytest.mark.parametrize(("size", "channels"), [(256, 256), (512, 128)])
def test_bundled_heads_load(size, channels):
    head = zoo.load_into(ShortHead(512, channels), HEADS[size])
    hidden = torch.randn(1, channels, 8, 8, generator=torch.Generator().manual_seed(0)) / head.scale[:, None, None]
    image = head(hidden, head.centre[None])
    assert image.shape == (1, 3, 16, 16)
    assert 0.1 < image.std() < 10


@pytest.mark.skipif(not zoo.present(WEIGHT), reason=f"needs `sgmatte weights fetch {WEIGHT}`")
def test_small_generator_draws_what_the_whole_one_draws():
    small = load_generator(256, exact=True, name="mobilestylegan")
    large = load_generator(1024, exact=True, name="mobilestylegan")
    w = small.mapping(torch.randn(1, 512, generator=torch.Generator().manual_seed(3)))[:, None]
    with torch.inference_mode():
        image = small.synthesis(w.expand(-1, small.layers, -1), small.default_noise())
        whole = large.synthesis(w.expand(-1, large.layers, -1), large.default_noise())
    error = (image.clamp(0, 1) - F.avg_pool2d(whole, 4).clamp(0, 1)).square().mean()
    assert -10 * error.log10() > 23
    assert large.coarse is not None
    assert large.coarse.size == 256


def test_pictures_are_windows_of_what_the_whole_network_draws(networks, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "SHARD", 3)
    monkeypatch.setattr(training, "WINDOW", 4)
    mapping, synthesis = networks
    files = write_pictures(mapping, synthesis, [16], tmp_path, 5)
    written = [file.stat().st_mtime_ns for file in files]
    assert [f.stat().st_mtime_ns for f in write_pictures(mapping, synthesis, [16], tmp_path, 5)] == written
    pictures = Pictures(files, 16)
    assert len(pictures) == 6
    random = np.random.default_rng((0, 1))
    for k in range(3, 6):
        w_plus = mixed_w_plus(mapping, synthesis.config.layers, random)
        y, x = (int(random.integers(0, 8 - 4 + 1)) for _ in range(2))
        hidden, w, image = pictures[k]
        whole = F.avg_pool2d(synthesis(w_plus), 4)[0, :, 2 * y : 2 * y + 8, 2 * x : 2 * x + 8]
        features = synthesis.features(w_plus, synthesis.noise)[1][0, :, y : y + 4, x : x + 4]
        torch.testing.assert_close(w, w_plus[0, 4])
        torch.testing.assert_close(image, whole, atol=1e-3, rtol=1e-3)
        torch.testing.assert_close(hidden.float(), features, atol=1e-2, rtol=1e-2)


def test_samples_are_crops_whose_picture_fits_their_features(networks, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "SHARD", 2)
    files = write_pictures(*networks, [32], tmp_path, 2)
    pictures = Pictures(files, 32, crop=6)
    sample = pictures(np.random.default_rng(1))
    assert (sample["hidden"].shape, sample["image"].shape) == ((8, 6, 6), (3, 12, 12))
    places = [
        (k, y, x)
        for k in range(2)
        for y in range(11)
        for x in range(11)
        if torch.equal(pictures[k][0][:, y : y + 6, x : x + 6], sample["hidden"])
    ]
    assert len(places) == 1
    k, y, x = places[0]
    torch.testing.assert_close(sample["image"], pictures[k][2][:, 2 * y : 2 * y + 12, 2 * x : 2 * x + 12])


def test_trained_head_beats_the_best_plain_matrix_on_unseen_pictures(networks, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "SHARD", 8)
    monkeypatch.setattr(training, "HELD_OUT", 2)
    files = write_pictures(*networks, [32], tmp_path / "pictures", 64)
    recipe = Recipe(150, 8, 5e-3, warmup=10, ema=0.9, bf16=False, workers=0, validate_every=150)
    rows = []
    head = trained_head(files, 32, recipe, tmp_path / "a", observe=lambda *row: rows.append(row[2]))
    again = trained_head(files, 32, recipe, tmp_path / "b")
    assert all(torch.equal(a, b) for a, b in zip(head.state_dict().values(), again.state_dict().values(), strict=True))

    def flat(pictures):
        windows = [pictures[k] for k in range(len(pictures))]
        hidden = torch.cat([h.float().flatten(1).T for h, _, _ in windows])
        wanted = torch.cat([F.pixel_unshuffle(image, 2).flatten(1).T for _, _, image in windows])
        return torch.cat((hidden, torch.ones(len(hidden), 1)), 1), wanted

    matrix = torch.linalg.lstsq(*flat(Pictures(files[:-2], 32))).solution
    hidden, wanted = flat(Pictures(files[-2:], 32))
    plain = -10 * ((hidden @ matrix - wanted).square().mean() / 4).log10()
    assert rows[-1]["psnr_unseen"] > float(plain) + 1
