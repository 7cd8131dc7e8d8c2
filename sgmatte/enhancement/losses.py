"""The losses of the enhancement, one function each.

Xu, Zhou, He: *Self-supervised Matting-specific Portrait Enhancement and Generation* (SMPEG), IEEE TIP 2022. Two let the
networks decide more easily (entropy, adversarial), two keep the portrait what it is (pixels, perceptual). The others
are candidates for the first two's place.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from sgmatte.trimaps import UNKNOWN, entropies, entropy


def trimap_entropy(logits: Tensor) -> Tensor:
    """E, the matting-specific loss: how undecided the trimap is, in nats; a mean over pixels, at most ln 3 (SMPEG).

    Args:
        logits: (N, 3, H, W) of the trimap network.
    """
    return entropy(logits)


def pixel_distance(image: Tensor, reference: Tensor) -> Tensor:
    """Mean squared error of N3HW pictures in [0, 1], on the scale of [-1, 1] that the weight belongs to (SMPEG)."""
    return 4 * F.mse_loss(image, reference)


def perceptual(distances: Tensor) -> Tensor:
    """Mean of the perceptual distances (N,), which in the paper are LPIPS (SMPEG; Zhang et al., CVPR 2018)."""
    return distances.mean()


def adversarial(logits: Tensor) -> Tensor:
    """A = softplus(-D(C)), the non-saturating loss of a composite C before a frozen critic D (SMPEG).

    Args:
        logits: (N, 1, h, w), one for each patch. The mean is taken of the losses, not of the logits, so that a place
            that looks wrong is not outvoted by faultless ones, and faultless ones are left in peace.
    """
    return F.softplus(-logits).mean()


def boundary_entropy(logits: Tensor) -> Tensor:
    """`trimap_entropy`, its mean over the unknown pixels alone; 0 where there are none."""
    unknown = (logits.argmax(1, keepdim=True) == UNKNOWN).float()
    return (entropies(logits) * unknown).sum() / unknown.sum().clamp(min=1)


def consensus(logits: Tensor, opinion: Tensor) -> Tensor:
    """Cross-entropy, in nats, of a trimap to the classes' probabilities that several looks at the photo agreed on.

    Args:
        logits: (N, 3, H, W) of the trimap network in one look.
        opinion: (N, 3, H, W) probabilities.
    """
    return -(opinion * F.log_softmax(logits, 1)).sum(1).mean()


def doubt(alpha: Tensor) -> Tensor:
    """How undecided an alpha (N, 1, H, W) is: mean of 4 a (1 - a), in [0, 1]."""
    return (4 * alpha * (1 - alpha)).mean()


def inconsistency(alpha: Tensor, again: Tensor) -> Tensor:
    """Mean squared difference of two alphas of one picture, seen in two ways."""
    return F.mse_loss(alpha, again)
