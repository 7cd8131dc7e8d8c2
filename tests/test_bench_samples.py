"""Comparing a generator with its teacher."""

import numpy as np
import pytest
import torch
from PIL import Image

from sgmatte.bench.samples import Features, Statistics, frechet_distance, likeness, pictures, portraits
from sgmatte.errors import DataError
from sgmatte.generator import MobileGenerator, StyleGAN2Generator
from sgmatte.nn.mobilestylegan import Config, Head, Mapping, Synthesis
from sgmatte.nn.stylegan2 import Generator


@pytest.fixture(scope="module")
def pair():
    torch.manual_seed(0)
    synthesis = Synthesis(Config(latent=512, constant=8, blocks=(8,))).eval().requires_grad_(False)
    synthesis.head = Head(512, 8).requires_grad_(False)
    teacher = MobileGenerator(Mapping(512, 1).eval().requires_grad_(False), synthesis)
    student = Generator(16, depth=1, channels=(8, 8, 4)).eval().requires_grad_(False)
    return StyleGAN2Generator(student, "student"), teacher


def test_distance_of_known_gaussians():
    a = Statistics(np.zeros(3), np.diag([1.0, 4.0, 9.0]))
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-9)
    b = Statistics(np.array([3.0, 4.0, 0.0]), np.diag([4.0, 4.0, 1.0]))
    assert frechet_distance(a, b) == pytest.approx(25 + 1 + 0 + 4)  # means, and differences of standard deviations
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    turned = [Statistics(turn @ s.mean, turn @ s.covariance @ turn.T) for s in (a, b)]
    assert frechet_distance(*turned) == pytest.approx(30)
    assert frechet_distance(b, a) == pytest.approx(30)


def test_a_student_is_compared_for_the_same_w_and_noise(pair):
    student, teacher = pair
    seen = []
    found = likeness(student, teacher, count=3, seed=5, shown=2, observe=lambda *at: seen.append(at))
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert len(found.wanted) == len(found.drawn) == 2
    assert found.wanted[0].shape == found.drawn[0].shape == (1, 3, 16, 16)
    errors = [float((a - b).square().mean()) for a, b in zip(found.wanted, found.drawn, strict=True)]
    first = likeness(student, teacher, count=2, seed=5)
    assert first.psnr == pytest.approx(-10 * np.log10(errors).mean(), abs=1e-4)
    assert found.lowest <= first.psnr
    assert torch.equal(first.wanted[1], found.wanted[1])


def test_latents_nearer_to_the_mean_make_pictures_more_alike(pair):
    student, teacher = pair
    near, far = (likeness(student, teacher, count=2, seed=5, truncation=t) for t in (0.1, 1.0))
    assert (near.wanted[0] - near.wanted[1]).std() < (far.wanted[0] - far.wanted[1]).std()
    assert torch.equal(far.wanted[0], likeness(student, teacher, count=1, seed=5).wanted[0])


def test_portraits_depend_on_their_seed(pair):
    student, _ = pair
    batches = list(portraits(student, 11, seed=1))
    assert [len(batch) for batch in batches] == [8, 3]
    again = list(portraits(student, 11, seed=1))
    assert all(torch.equal(a, b) for a, b in zip(batches, again, strict=True))
    assert not torch.equal(next(portraits(student, 3, seed=2)), batches[0][:3])


def test_real_pictures_are_read_and_told_from_others(tmp_path):
    random = np.random.default_rng(0)
    for k in range(10):
        Image.fromarray(random.integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(tmp_path / f"{k}.png")
    batches = list(pictures(tmp_path))
    assert [tuple(batch.shape) for batch in batches] == [(8, 3, 64, 64), (2, 3, 64, 64)]
    assert 0 <= float(batches[0].min()) < float(batches[0].max()) <= 1
    features = Features(torch.device("cpu"))
    noise, grey = features.statistics(batches), features.statistics([torch.full((4, 3, 64, 64), k / 4) for k in (1, 2)])
    assert {name: found.mean.shape for name, found in noise.items()} == {"efficientnet": (320,), "selfie": (128,)}
    assert noise["efficientnet"].covariance.shape == (320, 320)
    for name in noise:
        assert frechet_distance(noise[name], grey[name]) > 10 * frechet_distance(noise[name], noise[name])
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match="holds no image"):
        list(pictures(tmp_path / "none"))
