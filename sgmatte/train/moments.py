"""How drawn pictures differ from real ones on average, in the eyes of an ImageNet network.

A critic beside a student on small batches learns single pictures by heart long before the student has changed; means
over many pictures cannot be learned by heart (Santos et al., "Learning Implicit Generative Models by Matching
Perceptual Features", ICCV 2019). They tell what a picture alone does not: that drawn ones have too few strong edges, or
are too much alike.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from sgmatte.nn.efficientnet import EfficientNetLite0

STAGES = ("stage1", "stage2", "stage3", "stage4", "stage5", "stage6")  # strides 2 to 32
DECAY = 0.98  # of the means over drawn pictures: at batch 8 they remember some 400


class Moments(nn.Module):
    """Mean and spread, over pictures, of each channel's mean and deviation within a picture, at each stage.

    All are in units of real pictures, so that those have 0 and 1.
    """

    centre: Tensor  # (C,) over real pictures
    spread: Tensor
    first: Tensor  # (C,) over drawn pictures of late, in the units of real ones
    second: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        for name, value in {"centre": 0.0, "spread": 1.0, "first": 0.0, "second": 1.0}.items():
            self.register_buffer(name, torch.full((channels,), value))

    @torch.no_grad()
    def learn(self, shown: Iterable[Tensor]) -> None:
        """What real pictures look like, from what `shown` makes of all their batches."""
        rows = torch.cat(list(shown))
        self.centre.copy_(rows.mean(0))
        self.spread.copy_(rows.std(0).clamp_min(1e-6))

    def difference(self, rows: Tensor) -> Tensor:
        """How far drawn pictures are from real ones, mean over channels of the squared differences of both moments.

        Its gradient to `rows` (N, C) is that of the means over pictures of late, to which this batch counts as a whole:
        with its own small share in them it would hardly be told anything.
        """
        z = (rows - self.centre) / self.spread
        batch = torch.stack([z.mean(0), z.square().mean(0)])
        with torch.no_grad():
            for late, now in zip((self.first, self.second), batch, strict=True):
                late.lerp_(now, 1 - DECAY)
        off = torch.stack([self.first, self.second - 1])
        slope = 2 * off / off.shape[1]
        product = (slope * batch).sum()
        return off.square().mean(1).sum() + product - product.detach()


def shown(trunk: EfficientNetLite0, picture: Tensor) -> Tensor:
    """Mean and deviation over the places of each channel of each stage: (N, C), of pictures (N, 3, H, W) in [0, 1]."""
    parts = []
    for features in trunk(picture, STAGES).values():
        deviation, mean = torch.std_mean(features.float(), (2, 3), correction=0)
        parts += [mean, deviation]
    return torch.cat(parts, 1)
