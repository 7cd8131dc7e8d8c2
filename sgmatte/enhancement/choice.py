"""Whose matte an enhancement's is: what both versions of the photo tell, or, where the enhanced one is no surer, the
photo's own.

How sure a matte is, is told without a truth: by the entropy of its trimap and by how much of alpha is neither 0 nor 1.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from sgmatte.results import Matte
from sgmatte.settings import Keep
from sgmatte.trimaps import BACKGROUND, FOREGROUND, UNKNOWN, Look, everywhere, likeliest

REACH = 0.01  # of the longest side: how far around a pixel all must be settled for it to be


def joint_look(own: Look, moved: Look) -> Look:
    """What a photo's own trimap and that of its enhanced version tell together, of one photo (N = 1).

    On which side a pixel is, both say, the surer one louder: probabilities of the classes are averaged. The unknown
    region is the photo's own, less what is clearly inside one side: to please the trimap network, the enhancement
    narrows the band along the boundary too, and hair would be cut. The confidence is the enhanced version's.
    """
    certain = (own.certain + moved.certain) / 2
    foreground = (own.certain * own.person + moved.certain * moved.person) / 2
    classes = likeliest(torch.cat([certain - foreground, 1 - certain, foreground], 1))
    reach = round(REACH * max(classes.shape[2:]))
    trimap = own.trimap.clone()
    for side in (BACKGROUND, FOREGROUND):
        trimap[(trimap == UNKNOWN) & everywhere(classes == side, reach)] = side
    return Look(trimap, foreground / certain.clamp_min(1e-9), certain, moved.confidence)


def is_surer(matte: Matte, than: Matte) -> bool:
    """Whether trimap and alpha are both surer, or one of them where the other is the same."""
    ours, theirs = ((m.confidence.entropy or 0.0, m.doubt) for m in (matte, than))
    return ours != theirs and all(a <= b for a, b in zip(ours, theirs, strict=True))


def kept_matte(own: Matte, enhanced: Matte, keep: Keep) -> tuple[Matte, str]:
    """The matte to deliver, and whose it is: "photo", "enhanced", or "both".

    Args:
        own: of the photo.
        enhanced: by `joint_look` with "better", else of the enhanced photo alone.
        keep: "better" or "moved" for `enhanced` where that `is_surer`; "enhanced" for that in any case; "surer" for the
            one that is farther from 0.5 at each pixel.
    """
    if keep == "surer":
        alpha = torch.where(_decision(enhanced.alpha) > _decision(own.alpha), enhanced.alpha, own.alpha)
        return replace(enhanced, alpha=alpha), "both"
    if keep == "enhanced":
        return enhanced, "enhanced"
    if is_surer(enhanced, own):
        return enhanced, "both" if keep == "better" else "enhanced"
    return own, "photo"


def _decision(alpha: Tensor) -> Tensor:
    return (alpha - 0.5).abs()
