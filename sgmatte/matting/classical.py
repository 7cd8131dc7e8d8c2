"""Matting without training, by PyMatting: slow, no gradients."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import redirect_stdout

import numpy as np
import torch
from torch import Tensor

from sgmatte.device import pymatting
from sgmatte.errors import TrimapError
from sgmatte.matting.models import MattingModel, check_sizes, pasted
from sgmatte.trimaps import BACKGROUND, FOREGROUND

Estimate = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Image (H, W, 3) and trimap (H, W) in [0, 1], float64 -> alpha (H, W)."""


class ClassicalMatting:
    """One of PyMatting's estimates, sample by sample."""

    differentiable = False

    def __init__(self, name: str, estimate: Estimate) -> None:
        self.name, self.estimate = name, estimate

    def __call__(self, image: Tensor, trimap: Tensor) -> Tensor:
        check_sizes(image, trimap)
        alphas = []
        for one, regions in zip(image.detach().double().cpu(), trimap[:, 0].cpu(), strict=True):
            if not (regions == BACKGROUND).any() or not (regions == FOREGROUND).any():
                raise TrimapError(
                    f"{self.name} matting needs some certain background and some certain foreground in the trimap; "
                    "correct it and give it with --trimap, or use --model gca"
                )
            with redirect_stdout(sys.stderr):  # where PyMatting's warnings belong: stdout is for results
                alpha = self.estimate(one.permute(1, 2, 0).numpy(), regions.numpy() / 2)
            alphas.append(torch.from_numpy(alpha))
        return pasted(torch.stack(alphas).unsqueeze(1).to(image).clamp(0, 1), trimap)


def closed_form(device: torch.device) -> MattingModel:
    """Closed-form matting (Levin, Lischinski and Weiss, CVPR 2006); no training, slow."""
    return ClassicalMatting("closed-form", pymatting().estimate_alpha_cf)


def knn(device: torch.device) -> MattingModel:
    """KNN matting (Chen, Li and Tang, CVPR 2012); no training, slow."""
    return ClassicalMatting("knn", pymatting().estimate_alpha_knn)
