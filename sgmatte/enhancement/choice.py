"""Whose matte an enhancement is: the enhanced photo's, or, where that is no surer, the photo's own.

How sure a matte is, is told without a truth: by the entropy of its trimap and by how much of alpha is neither 0 nor 1.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from sgmatte.results import Matte
from sgmatte.settings import Keep


def is_surer(matte: Matte, than: Matte) -> bool:
    """Whether trimap and alpha are both surer, or one of them where the other is the same."""
    ours, theirs = ((m.confidence.entropy or 0.0, m.doubt) for m in (matte, than))
    return ours != theirs and all(a <= b for a, b in zip(ours, theirs, strict=True))


def kept_matte(own: Matte, enhanced: Matte, keep: Keep) -> tuple[Matte, str]:
    """The matte to deliver, and whose it is: "photo", "enhanced", or "both".

    Args:
        own: of the photo.
        enhanced: of the enhanced photo.
        keep: "better" for the enhanced photo's where that `is_surer`; "enhanced" for that in any case; "surer" for the
            one that is farther from 0.5 at each pixel.
    """
    if keep == "surer":
        alpha = torch.where(_decision(enhanced.alpha) > _decision(own.alpha), enhanced.alpha, own.alpha)
        return replace(enhanced, alpha=alpha), "both"
    if keep == "enhanced" or is_surer(enhanced, own):
        return enhanced, "enhanced"
    return own, "photo"


def _decision(alpha: Tensor) -> Tensor:
    return (alpha - 0.5).abs()
