"""Foreground colours, composites and cut-outs: what an alpha matte is for."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from sgmatte.device import pymatting


def estimated_foreground(image: Tensor, alpha: Tensor) -> Tensor:
    """Foreground colours F of I = alpha F + (1 - alpha) B, (N, 3, H, W) in [0, 1].

    PyMatting's multi-level estimation (Germer et al., Fast Multi-Level Foreground Estimation, ICPR 2020). Defined at
    every pixel, also where alpha is 0. Not differentiable; computed on the CPU, returned on the device of `image`.

    Args:
        image: (N, 3, H, W) in [0, 1].
        alpha: (N, 1, H, W) in [0, 1].
    """
    estimates = [
        torch.from_numpy(foreground_colours(one.permute(1, 2, 0).cpu().numpy(), matte[0].cpu().numpy()))
        for one, matte in zip(image.detach().float(), alpha.detach().float(), strict=True)
    ]
    return torch.stack(estimates).permute(0, 3, 1, 2).to(image)


def foreground_colours(image: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """`estimated_foreground` for one array: image (H, W, 3) and alpha (H, W) in [0, 1] give float32 (H, W, 3)."""
    return np.clip(pymatting().estimate_foreground_ml(image.astype(np.float32), alpha.astype(np.float32)), 0, 1)


def composite(alpha: Tensor, foreground: Tensor, background: Tensor) -> Tensor:
    """alpha F + (1 - alpha) B (Porter and Duff 1984, `over`); shapes broadcast, values stay in [0, 1]."""
    return alpha * foreground + (1 - alpha) * background


def cutout(image: Tensor, alpha: Tensor) -> Tensor:
    """RGBA (N, 4, H, W) in [0, 1], not premultiplied: estimated foreground colours, so no halo of the old background.

    Args:
        image: (N, 3, H, W) in [0, 1].
        alpha: (N, 1, H, W) in [0, 1].
    """
    return torch.cat((estimated_foreground(image, alpha), alpha.to(image)), 1)
