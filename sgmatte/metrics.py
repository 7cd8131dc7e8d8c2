"""How far an alpha or a picture is from the truth. Plain definitions, computed in float64.

[1] Rhemann et al., A Perceptually Motivated Online Benchmark for Image Matting, CVPR 2009: SAD, MSE, Gradient and
    Connectivity, in the trimap's unknown region.
[2] Xu et al., Deep Image Matting, CVPR 2017: their evaluation code in MATLAB fixed what [1] leaves open (the filter's
    length and scale, 4-neighbours, ten levels), and the field has reported its numbers since: SAD, Gradient and
    Connectivity in thousands.
[3] Li et al., Privacy-Preserving Portrait Matting, ACM MM 2021: the same over the whole image, and MAD.

Alphas are compared as they are. Code that stretches each one to its own darkest and lightest level first
(`mat2gray`) or subtracts bytes reports something else: a constant error vanishes, a negative one wraps around.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

GRADIENT_SIGMA = 1.4  # pixels [1]
CONNECTIVITY_LEVELS = np.arange(1, 11) / 10  # [2]: step 0.1
CONNECTIVITY_THETA = 0.15  # [1]: a pixel less far above its level counts as connected
TOLERANCE = 1e-6  # an alpha that is a level but for float32's rounding has that level


def sad(alpha: Tensor, truth: Tensor, region: Tensor | None = None) -> float:
    """Sum of absolute differences, in thousands of pixels. 1.0 is 1000 pixels entirely wrong.

    Args:
        alpha, truth: (N, 1, H, W) in [0, 1].
        region: bool, same shape; pixels that count. None: all.
    """
    return float(_difference(alpha, truth, region).abs().sum()) / 1000


def mse(alpha: Tensor, truth: Tensor, region: Tensor | None = None) -> float:
    """Mean squared difference over `region`, in [0, 1]; NaN where the region is empty. Arguments as for `sad`."""
    difference = _difference(alpha, truth, region)
    return float(difference.square().mean()) if difference.numel() else math.nan


def mad(alpha: Tensor, truth: Tensor, region: Tensor | None = None) -> float:
    """Mean absolute difference over `region`, in [0, 1]; NaN where the region is empty. Arguments as for `sad`."""
    difference = _difference(alpha, truth, region)
    return float(difference.abs().mean()) if difference.numel() else math.nan


def gradient_error(alpha: Tensor, truth: Tensor, region: Tensor | None = None) -> float:
    """Sum of squared differences of the gradients' magnitudes, in thousands [1, 2]. Arguments as for `sad`.

    The gradient is that of a Gaussian with sigma 1.4; beyond the border the nearest pixel is repeated.
    """
    _check_shapes(alpha, truth, region)
    return _sum_in(region, (gradient_magnitude(alpha) - gradient_magnitude(truth)).square())


def gradient_magnitude(alpha: Tensor) -> Tensor:
    """Length of the gradient, by a Gaussian's derivatives: float64 (N, 1, H, W) on the CPU.

    The kernels' squares sum to 1 [2], so a straight step from 0 to 1 has 2.66 on either side of it.
    """
    reach = math.ceil(GRADIENT_SIGMA * math.sqrt(-2 * math.log(math.sqrt(2 * math.pi) * GRADIENT_SIGMA * 1e-2)))  # 4
    x = np.arange(-reach, reach + 1)
    smooth = np.exp(-0.5 * (x / GRADIENT_SIGMA) ** 2)
    slope = x * smooth
    smooth, slope = (kernel / np.linalg.norm(kernel) for kernel in (smooth, slope))  # the 2-D kernel's norm is then 1
    values = _array(alpha)
    across, down = (
        ndimage.correlate1d(ndimage.correlate1d(values, slope, axis, mode="nearest"), smooth, other, mode="nearest")
        for axis, other in ((-1, -2), (-2, -1))
    )
    return torch.from_numpy(np.hypot(across, down))


def connectivity_error(alpha: Tensor, truth: Tensor, region: Tensor | None = None) -> float:
    """Sum of differences in how far pixels stand out from the common body, in thousands [1, 2].

    At each level 0.1 ... 1 the body is the largest 4-connected region where both alphas reach the level. A pixel is
    connected up to the last level before it first leaves the body, and stands out by what its alpha exceeds that level,
    if by 0.15 at least. [1] speaks of the region connected to opaque pixels; the numbers of the field are of [2], who
    take each level's largest. Arguments as for `sad`.
    """
    _check_shapes(alpha, truth, region)
    pairs = zip(_array(alpha)[:, 0], _array(truth)[:, 0], strict=True)
    errors = np.stack([_connectivity_difference(*pair) for pair in pairs])[:, None]
    return _sum_in(region, torch.from_numpy(errors))


def _connectivity_difference(alpha: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """(H, W) each, and so is the result: |phi(alpha) - phi(truth)| of [1]."""
    common = np.minimum(alpha, truth) + TOLERANCE
    connected = np.zeros_like(alpha)
    body = np.ones_like(alpha, bool)  # pixels that have not left yet
    for level in CONNECTIVITY_LEVELS:
        body &= _largest_region(common >= level)
        if not body.any():
            break
        connected[body] = level
    out = (each - connected for each in (alpha, truth))
    ours, theirs = (np.where(d + TOLERANCE >= CONNECTIVITY_THETA, d, 0) for d in out)
    return np.abs(ours - theirs)


def _largest_region(mask: np.ndarray) -> np.ndarray:
    """The largest 4-connected region of a bool (H, W); none in an empty one."""
    labels, _ = ndimage.label(mask)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0  # the rest of the image, which may well be larger than any region
    return (labels == sizes.argmax()) & mask


def iou(mask: Tensor, truth: Tensor) -> float:
    """Intersection over union of two bool masks of one shape, in [0, 1]; two empty masks agree: 1."""
    union = int((mask | truth).sum())
    return int((mask & truth).sum()) / union if union else 1.0


def psnr(image: Tensor, truth: Tensor) -> float:
    """Peak signal-to-noise ratio in dB for a peak of 1: -10 log10 of the mean squared difference. Equal images: inf.

    Args:
        image, truth: one shape, in [0, 1].
    """
    error = float(_difference(image, truth, None).square().mean())
    return -10 * math.log10(error) if error else math.inf


def _array(alpha: Tensor) -> np.ndarray:
    return alpha.detach().cpu().to(torch.float64).numpy()


def _sum_in(region: Tensor | None, errors: Tensor) -> float:
    """Sum of errors of pixels, in thousands."""
    return float((errors if region is None else errors[region.cpu()]).sum()) / 1000


def _difference(a: Tensor, b: Tensor, region: Tensor | None) -> Tensor:
    _check_shapes(a, b, region)
    difference = a.detach().to(torch.float64) - b.detach().to(torch.float64)
    return difference if region is None else difference[region]


def _check_shapes(a: Tensor, b: Tensor, region: Tensor | None) -> None:
    if a.shape != b.shape or (region is not None and region.shape != a.shape):
        shapes = [tuple(t.shape) for t in (a, b, region) if t is not None]
        raise ValueError(f"shapes differ: {shapes}")  # broadcasting would silently compare the wrong pixels
