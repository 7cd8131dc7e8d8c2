import math

import numpy as np
import pytest
import torch
from scipy import ndimage

from sgmatte.metrics import connectivity_error, gradient_error, gradient_magnitude, iou, mad, mse, psnr, sad


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


def test_mad_is_a_mean_over_the_region():
    assert mad(ALPHA, TRUTH) == pytest.approx(1.25 / 4)
    assert mad(ALPHA, TRUTH, UNKNOWN) == pytest.approx(0.5)
    assert math.isnan(mad(ALPHA, TRUTH, torch.zeros_like(UNKNOWN)))


# --- gradient


def picture(seed, height=23, width=31):
    """A soft disc with some noise, float32 in [0, 1]."""
    y, x = np.mgrid[0:height, 0:width]
    disc = np.clip(6 - np.hypot(y - height / 2, x - width / 2) / 1.6, 0, 1)
    noise = np.random.default_rng(seed).normal(0, 0.1, disc.shape)
    return torch.from_numpy(np.clip(disc + noise, 0, 1).astype(np.float32))[None, None]


def step(width=30, at=15):
    alpha = torch.zeros(1, 1, 20, width)
    alpha[..., at:] = 1
    return alpha


def test_the_gradient_of_a_step_as_computed_by_hand():
    """Along x: the sum of t exp(-t^2 / 2s^2) over one side, by its norm; along y: the Gaussian's sum, by its norm."""
    t = range(-4, 5)
    bell = {x: math.exp(-x * x / (2 * 1.4**2)) for x in t}
    slope = sum(x * bell[x] for x in t if x > 0) / math.sqrt(sum((x * bell[x]) ** 2 for x in t))
    smooth = sum(bell.values()) / math.sqrt(sum(b * b for b in bell.values()))
    found = gradient_magnitude(step())
    assert found[0, 0, :, 14:16] == pytest.approx(np.full((20, 2), slope * smooth))
    assert slope * smooth == pytest.approx(2.662, abs=1e-3)
    assert float(found[..., :11].abs().max()) < 1e-12  # the filter reaches four pixels
    assert float(found[..., 11].min()) > 0


def test_the_gradient_is_the_convolution_with_the_two_dimensional_kernel():
    y, x = np.mgrid[-4:5, -4:5]
    kernel = -x * np.exp(-(x * x + y * y) / (2 * 1.4**2))
    kernel /= np.sqrt((kernel**2).sum())
    values = picture(0)[0, 0].double().numpy()
    across, down = (ndimage.convolve(values, k, mode="nearest") for k in (kernel, kernel.T))
    assert gradient_magnitude(picture(0))[0, 0].numpy() == pytest.approx(np.hypot(across, down))


def test_gradient_error_is_a_sum_of_squares_in_thousands():
    flat, edge = torch.zeros_like(step()), step()
    squares = gradient_magnitude(edge).square()
    assert gradient_error(edge, flat) == pytest.approx(float(squares.sum()) / 1000)
    region = torch.zeros_like(edge, dtype=torch.bool)
    region[..., :15] = True
    assert gradient_error(edge, flat, region) == pytest.approx(float(squares.sum()) / 2000)
    # a constant is no gradient, but half the contrast is: nothing is stretched to [0, 1] first
    assert gradient_error(flat + 0.4, flat) == pytest.approx(0, abs=1e-20)
    assert gradient_error(edge / 2, flat) == pytest.approx(gradient_error(edge, flat) / 4)
    assert gradient_error(edge / 2, edge) > 0


# --- connectivity


def test_connectivity_of_an_island_as_computed_by_hand():
    """The island is off the body at every level, so it stands out by its whole alpha, 0.8; the truth has none."""
    truth = row(1.0, 1.0, 1.0, 0.0, 0.0, 0.0)
    alpha = row(1.0, 1.0, 1.0, 0.0, 0.8, 0.0)
    assert connectivity_error(alpha, truth) == pytest.approx(0.8 / 1000)
    assert connectivity_error(alpha, truth, alpha < 0.5) == 0
    assert connectivity_error(row(1.0, 1.0, 1.0, 0.0, 0.14, 0.0), truth) == 0  # below theta
    assert connectivity_error(row(1.0, 1.0, 1.0, 0.0, 0.15, 0.0), truth) == pytest.approx(0.15 / 1000)


def test_connectivity_of_a_pixel_that_both_have_in_part():
    """Both reach 0.5 together with the body: the alpha stands out by 0.4, the truth by 0.05, which does not count."""
    assert connectivity_error(row(1.0, 1.0, 0.9), row(1.0, 1.0, 0.55)) == pytest.approx(0.4 / 1000)


def test_pixels_that_touch_at_a_corner_are_not_connected():
    truth = torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 0.7]]).view(1, 1, 3, 3)
    alpha = truth.clone()
    alpha[..., 2, 2] = 0.3
    assert connectivity_error(alpha, truth) == pytest.approx(0.4 / 1000)
    joined = torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 1.0, 0.7]]).view(1, 1, 3, 3)
    lower = joined.clone()
    lower[..., 2, 2] = 0.3
    assert connectivity_error(lower, joined) == pytest.approx(0.4 / 1000)  # the truth stands out, the alpha does not
    lower[..., 2, 2] = 0.6
    assert connectivity_error(lower, joined) == 0


def test_the_body_is_a_region_and_never_the_rest_of_the_image():
    """A small body in a large empty image, and a region in the body's shadow that grows when the larger one ends."""
    truth = torch.zeros(1, 1, 20, 20)
    truth[..., :3, :3] = 1
    alpha = truth.clone()
    alpha[..., 10, 10] = 0.5
    assert connectivity_error(alpha, truth) == pytest.approx(0.5 / 1000)


def test_nothing_in_common_leaves_every_pixel_on_its_own():
    assert connectivity_error(row(1.0, 0.0), row(0.0, 1.0)) == pytest.approx(2 / 1000)
    assert connectivity_error(row(0.0, 0.0), row(0.0, 0.0)) == 0


def test_levels_are_exact_in_every_precision():
    """0.3 is no sum of binary fractions; a pixel at a level has reached it, in float32 as in float64."""
    for tenths in range(1, 11):
        for kind in (torch.float32, torch.float64):
            level = torch.tensor([1.0, tenths / 10], dtype=kind).view(1, 1, 1, 2)
            other = torch.tensor([1.0, min(tenths / 10 + 0.1, 1)], dtype=kind).view(1, 1, 1, 2)
            assert connectivity_error(level, other) == 0


def largest_by_flooding(mask):
    """The largest 4-connected set of (y, x) in nested lists of bools, the first of equals."""
    left = {(y, x) for y, line in enumerate(mask) for x, inside in enumerate(line) if inside}
    best = set()
    for start in sorted(left):
        if start not in left:
            continue
        region, border = {start}, [start]
        left.discard(start)
        while border:
            y, x = border.pop()
            for near in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
                if near in left:
                    left.discard(near)
                    region.add(near)
                    border.append(near)
        if len(region) > len(best):
            best = region
    return best


@pytest.mark.parametrize("seed", range(4))
def test_connectivity_is_that_of_plain_loops(seed):
    rng = np.random.default_rng(seed)
    truth, alpha = rng.integers(0, 256, (2, 12, 15)) / 255  # hardly connected, so that every level matters
    truth[2:9, 3:11], alpha[3:10, 2:11] = 1, 1
    level = {(y, x): 1.0 for y in range(12) for x in range(15)}
    inside = set(level)
    for tenths in range(1, 11):
        both = [
            [min(a, t) >= tenths / 10 for a, t in zip(*lines, strict=True)] for lines in zip(alpha, truth, strict=True)
        ]
        body = largest_by_flooding(both)
        for left in inside - body:
            level[left] = (tenths - 1) / 10
        inside &= body

    def phi(value, base):
        return 1 - (value - base if value - base >= 0.15 else 0)

    wanted = sum(abs(phi(alpha[at], base) - phi(truth[at], base)) for at, base in level.items())
    found = connectivity_error(*(torch.from_numpy(each)[None, None] for each in (alpha, truth)))
    assert found == pytest.approx(wanted / 1000)
    assert 0 < found < sad(*(torch.from_numpy(each)[None, None] for each in (alpha, truth))) * 1.5


# --- all of them


ERRORS = [sad, mad, mse, gradient_error, connectivity_error]


@pytest.mark.parametrize("measure", ERRORS)
def test_properties_of_an_error(measure):
    truth, alpha = picture(0), picture(1)
    region = picture(2) > 0.5
    assert measure(truth, truth) == 0
    assert measure(alpha, truth) > 0
    assert measure(alpha, truth) == pytest.approx(measure(truth, alpha))
    for turned in (lambda a: a.flip(3), lambda a: a.transpose(2, 3)):
        assert measure(turned(alpha), turned(truth)) == pytest.approx(measure(alpha, truth))
    everywhere = torch.ones_like(region)
    assert measure(alpha, truth, everywhere) == pytest.approx(measure(alpha, truth))
    if measure not in (mad, mse):
        inside, outside = measure(alpha, truth, region), measure(alpha, truth, ~region)
        assert inside + outside == pytest.approx(measure(alpha, truth))


@pytest.mark.parametrize("measure", ERRORS)
def test_a_larger_error_is_a_larger_number(measure):
    truth = picture(0)
    damage = torch.zeros_like(truth)
    damage[..., 12:15, 20:31] = 1  # a bar that sticks out of the disc, opaquer and opaquer
    found = [measure((truth * (1 - damage) + share * damage), truth * (1 - damage)) for share in (0.2, 0.4, 0.8)]
    assert found == sorted(found)
    assert 0 < found[0] < found[1] < found[2]


@pytest.mark.parametrize("measure", ERRORS)
def test_a_batch_adds_up(measure):
    alphas, truths = torch.cat([picture(1), picture(2)]), torch.cat([picture(0), picture(0)])
    each = [measure(a[None], t[None]) for a, t in zip(alphas, truths, strict=True)]
    total = np.mean(each) if measure in (mad, mse) else sum(each)
    assert measure(alphas, truths) == pytest.approx(total)


def test_sums_count_pixels_and_means_do_not():
    """The same picture twice side by side: twice the sum, the same mean."""
    alpha, truth = picture(1), picture(0)
    both = [torch.cat([each, each], 3) for each in (alpha, truth)]
    assert sad(*both) == pytest.approx(2 * sad(alpha, truth))
    assert mad(*both) == pytest.approx(mad(alpha, truth))
    assert mse(*both) == pytest.approx(mse(alpha, truth))


def test_errors_below_zero_count_like_errors_above():
    """Bytes wrap around: 10 - 20 is 246."""
    low, high = (torch.full((1, 1, 4, 4), level / 255) for level in (10, 20))
    for one, other in ((low, high), (high, low)):
        assert sad(one, other) == pytest.approx(16 * 10 / 255 / 1000, rel=1e-5)
        assert mse(one, other) == pytest.approx((10 / 255) ** 2, rel=1e-5)


@pytest.mark.parametrize("measure", [*ERRORS, psnr])
def test_shapes_must_be_equal(measure):
    with pytest.raises(ValueError, match="shapes differ"):
        measure(torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 4, 1))
