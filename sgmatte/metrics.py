"""How far an alpha or a picture is from the truth. Plain definitions, computed in float64.

Rhemann et al., A Perceptually Motivated Online Benchmark for Image Matting, CVPR 2009, made SAD and MSE over the
unknown region the convention of the field; portrait papers (Li et al., P3M, ACM MM 2021) report both over the whole
image.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


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


def _difference(a: Tensor, b: Tensor, region: Tensor | None) -> Tensor:
    if a.shape != b.shape or (region is not None and region.shape != a.shape):
        shapes = [tuple(t.shape) for t in (a, b, region) if t is not None]
        raise ValueError(f"shapes differ: {shapes}")  # broadcasting would silently compare the wrong pixels
    difference = a.detach().to(torch.float64) - b.detach().to(torch.float64)
    return difference if region is None else difference[region]
