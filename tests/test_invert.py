"""Inversion of pictures that a small random generator drew itself, so that they can be found again."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from sgmatte.errors import UsageError
from sgmatte.generator import MobileGenerator
from sgmatte.inversion import Schedule, Stage, inverted, pixel_distance
from sgmatte.nn.mobilestylegan import Config, Head, Mapping, Synthesis
from sgmatte.nn.perceptual import PerceptualDistance

SHORT = Schedule(
    w_plus=Stage(25, 0.2), noise=Stage(25, 0.05, 0.05), fine=Stage(15, 0.02, 0.05), drift=0, noise_drift=0, enough=0
)


@pytest.fixture(scope="module")
def pair():
    """Generators of 16 and 32 pixels with one trunk."""
    torch.manual_seed(0)
    mapping = Mapping(12, 2).eval().requires_grad_(False)
    full = Synthesis(Config(latent=12, constant=16, blocks=(16, 8))).eval().requires_grad_(False)
    short = full.shortened(16)
    short.head = Head(12, 16)  # one without hidden layers: its contrast is one factor
    short.requires_grad_(False)
    for module in (*full.modules(), *short.head.modules()):  # random networks hardly listen to w: make them
        for name in ("up", "modulation"):
            if hasattr(module, name):
                getattr(module, name).bias.add_(1)
    coarse = MobileGenerator(mapping, short)
    generators = coarse, MobileGenerator(mapping, full, coarse)
    for generator in generators:
        generator.networks[1].head.weight.mul_(0.15 / (drawn(generator) - 0.5).std())
    return generators


def drawn(generator, seed=1):
    """A picture of a latent with a row of its own in each layer, and noise of its own."""
    random = torch.Generator().manual_seed(seed)
    w_plus = generator.mapping(torch.randn(generator.layers, 12, generator=random))[None]
    noise = [m + 0.1 * torch.randn(m.shape, generator=random) for m in generator.default_noise()]
    with torch.no_grad():
        return generator.synthesis(w_plus, noise).clamp(0, 1)


class Pooled(PerceptualDistance):
    name = "pooled"

    def features(self, image):
        return [F.avg_pool2d(image, 4)]

    def total(self, squared):
        return squared[0].sum(dim=1).mean(dim=(1, 2))


def test_both_stages_come_closer(pair):
    coarse, _ = pair
    crop = drawn(coarse)
    with torch.no_grad():
        start = coarse.synthesis(coarse.mean_w()[:, None].expand(-1, coarse.layers, -1), coarse.default_noise())
    found = inverted(coarse, crop, Pooled(), schedule=SHORT)
    before = -10 * math.log10((start.clamp(0, 1) - crop).square().mean())
    assert found.psnr_after_w > before + 1.5
    assert found.psnr > found.psnr_after_w + 2
    assert found.w_plus.shape == (1, coarse.layers, 12)
    assert [tuple(m.shape) for m in found.noise] == coarse.noise_shapes
    with torch.no_grad():
        assert torch.equal(coarse.synthesis(found.w_plus, found.noise), found.image)
    assert found.losses[0].keys() == {"pixels", "drift", "perceptual", "psnr"}
    assert found.losses[-1].keys() == {"pixels", "drift", "perceptual", "noise drift", "psnr"}


def test_same_crop_same_bytes(pair):
    coarse, _ = pair
    crop = drawn(coarse)
    one, two = (inverted(coarse, crop, schedule=SHORT) for _ in range(2))
    assert torch.equal(one.w_plus, two.w_plus)
    assert all(torch.equal(a, b) for a, b in zip(one.noise, two.noise, strict=True))
    assert one.losses == two.losses


def test_large_pictures_start_from_a_small_inversion(pair):
    _, full = pair
    seen = []
    found = inverted(full, drawn(full), schedule=SHORT, observe=lambda *row: seen.append(row))
    assert found.image.shape == (1, 3, 32, 32)
    assert found.w_plus.shape == (1, full.layers, 12)
    assert [tuple(m.shape) for m in found.noise] == full.noise_shapes
    assert [(done, steps) for done, steps, _ in seen] == [(k, 65) for k in range(1, 66)]
    assert found.psnr > seen[50][2]["psnr"] + 1  # step 51 is the first at full size


def test_noise_drift_holds_the_maps_back(pair):
    coarse, _ = pair
    crop = drawn(coarse)

    def moved(weight):
        schedule = Schedule(w_plus=Stage(5, 0.2), noise=Stage(25, 0.0, 0.05), noise_drift=weight)
        noise = inverted(coarse, crop, schedule=schedule).noise
        return sum(float((a - b).square().mean()) for a, b in zip(noise, coarse.default_noise(), strict=True))

    assert moved(1.0) < 0.5 * moved(0.0)


def test_stops_at_the_target(pair):
    coarse, _ = pair
    schedule = Schedule(w_plus=Stage(25, 0.2), noise=Stage(25, 0.05, 0.05), target=1.0, enough=0)
    assert len(inverted(coarse, drawn(coarse), schedule=schedule).losses) == 2  # one look in each stage


def test_a_hard_crop_is_given_more_steps(pair):
    coarse, _ = pair
    crop = drawn(coarse)
    short = replace(SHORT, noise=Stage(5, 0.05, 0.05), again=Stage(20, 0.05, 0.05), target=99)
    seen = []
    plain = inverted(coarse, crop, schedule=short)
    longer = inverted(coarse, crop, schedule=replace(short, enough=90), observe=lambda *row: seen.append(row[:2]))
    assert (len(plain.losses), len(longer.losses)) == (30, 50)
    assert longer.losses[:30] == plain.losses
    assert longer.psnr > plain.psnr + 0.5
    assert (seen[29], seen[30], seen[-1]) == ((30, 30), (31, 50), (50, 50))
    assert inverted(coarse, crop, schedule=replace(short, enough=plain.psnr - 1)).losses == plain.losses


def test_the_crop_must_fit(pair):
    with pytest.raises(UsageError, match="draws 16 px"):
        inverted(pair[0], torch.zeros(1, 3, 32, 32))
    with pytest.raises(UsageError, match="fewer than 0"):
        Schedule(fine=Stage(-1, 0.1))


def test_pixel_distance_sums_the_scales():
    image, crop = torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 8, 8)
    assert float(pixel_distance(image + 0.1, crop)) == pytest.approx(4 * 0.01)  # the same at each of four scales
    image[:, :, ::2] = 0.2  # stripes, whose coarse means differ by half as much
    assert float(pixel_distance(image, crop)) == pytest.approx(0.02 + 3 * 0.01)
