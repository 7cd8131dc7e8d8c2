"""The four losses against their formulas, written out a pixel at a time."""

from __future__ import annotations

import math

import pytest
import torch

from sgmatte.enhancement.losses import adversarial, perceptual, pixel_distance, trimap_entropy
from sgmatte.settings import LossWeights


def test_entropy_is_shannons_mean_over_pixels() -> None:
    logits = 3 * torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    expected = 0.0
    for n in range(2):
        for row in range(4):
            for column in range(5):
                powers = [math.exp(x) for x in logits[n, :, row, column].tolist()]
                shares = [x / sum(powers) for x in powers]
                expected -= sum(p * math.log(p) for p in shares) / (2 * 4 * 5)
    assert trimap_entropy(logits).item() == pytest.approx(expected, rel=1e-5)


def test_entropy_is_0_when_certain_and_ln_3_when_clueless() -> None:
    certain = torch.tensor([60.0, 0.0, -60.0]).view(1, 3, 1, 1).expand(1, 3, 2, 2)
    assert trimap_entropy(certain).item() == pytest.approx(0, abs=1e-12)
    assert trimap_entropy(torch.zeros(1, 3, 2, 2)).item() == pytest.approx(math.log(3))


def test_entropy_has_a_finite_gradient_that_makes_the_trimap_decisive() -> None:
    logits = torch.tensor([5.0, 4.0, -90.0]).view(1, 3, 1, 1).requires_grad_()
    trimap_entropy(logits).backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()
    assert logits.grad[0, 0] < 0 < logits.grad[0, 1]  # descent widens the lead of the first class


def test_pixel_distance_is_the_mean_square_on_the_range_from_minus_1_to_1() -> None:
    image, reference = torch.rand(2, 1, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    pairs = zip(image.flatten().tolist(), reference.flatten().tolist(), strict=True)
    expected = sum(((2 * a - 1) - (2 * b - 1)) ** 2 for a, b in pairs) / (3 * 4 * 4)
    assert pixel_distance(image, reference).item() == pytest.approx(expected, rel=1e-5)


def test_perceptual_is_the_mean_over_pictures() -> None:
    assert perceptual(torch.tensor([0.1, 0.3])).item() == pytest.approx(0.2)


def test_adversarial_is_softplus_of_minus_the_logit_and_leaves_faultless_patches_in_peace() -> None:
    logits = torch.tensor([[8.0, -2.0], [0.0, 20.0]]).view(1, 1, 2, 2).requires_grad_()
    loss = adversarial(logits)
    expected = sum(math.log1p(math.exp(-x)) for x in (8.0, -2.0, 0.0, 20.0)) / 4
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    loss.backward()
    assert logits.grad is not None
    pull = -logits.grad.flatten()
    assert pull[1] > pull[2] > 100 * pull[0] > 0


def test_default_weights_are_the_papers_but_for_two() -> None:
    weights = LossWeights()
    assert (weights.entropy, weights.pixels) == (1, 10)
    assert weights.adversarial == 0  # 1 in the paper; enhancing lowers the error more without: docs/results.md
    assert weights.perceptual == 1  # 100 in the paper
