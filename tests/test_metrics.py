import math

import pytest
import torch

from sgmatte.metrics import iou, mse, psnr, sad


def row(*values):
    return torch.tensor(values).view(1, 1, 1, -1)


ALPHA, TRUTH = row(0.0, 0.5, 1.0, 0.25), row(0.0, 1.0, 0.5, 0.0)
UNKNOWN = row(False, True, True, False)


def test_sad_is_in_thousands_of_pixels():
    assert sad(ALPHA, TRUTH) == pytest.approx(1.25 / 1000)
    assert sad(ALPHA, TRUTH, UNKNOWN) == pytest.approx(1.0 / 1000)


def test_mse_is_a_mean_over_the_region():
    assert mse(ALPHA, TRUTH) == pytest.approx((0.25 + 0.25 + 0.0625) / 4)
    assert mse(ALPHA, TRUTH, UNKNOWN) == pytest.approx(0.25)
    assert math.isnan(mse(ALPHA, TRUTH, torch.zeros_like(UNKNOWN)))


def test_sums_do_not_lose_small_differences_in_float32():
    truth = torch.full((1, 1, 3000, 3000), 0.1)
    assert sad(truth + 1e-3, truth) == pytest.approx(9.0, rel=1e-4)  # a float32 sum is off by a part in a hundred


def test_iou_of_masks():
    assert iou(row(True, True, False, False), row(True, False, True, False)) == pytest.approx(1 / 3)
    assert iou(row(False, False), row(False, False)) == 1


def test_psnr_in_decibels():
    assert psnr(ALPHA, ALPHA) == math.inf
    assert psnr(row(0.0, 0.0), row(0.1, 0.1)) == pytest.approx(20, abs=1e-4)


@pytest.mark.parametrize("measure", [sad, mse, psnr])
def test_shapes_must_be_equal(measure):
    with pytest.raises(ValueError, match="shapes differ"):
        measure(torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 4, 1))
