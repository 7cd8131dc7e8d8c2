"""Large photos by a network that looks at the whole of what it is given.

AlphaGAN pools over its input and normalises by it: its layers cannot be cut into tiles as GCA's are. It was trained on
crops around the boundary, and a large photo is matted likewise: in overlapping windows, those that touch the unknown
region, each fading into the next.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from sgmatte.matting.tiles import boxes
from sgmatte.trimaps import UNKNOWN

WINDOW = 768  # pixels a side, without what overlaps; a multiple of every network's stride, as the next
OVERLAP = 128  # pixels by which a window reaches into its neighbours, and over which it fades
LIMIT = 1024 * 1024  # pixels up to which a photo is one window

Alpha = Callable[[Tensor, Tensor], Tensor]
"""Image (N, 3, H, W) and trimap (N, 1, H, W), sides multiples of a stride -> alpha (N, 1, H, W)."""


@torch.no_grad()
def windowed_alpha(network: Alpha, image: Tensor, trimap: Tensor) -> Tensor:
    """`network(image, trimap)` of a photo of at most LIMIT pixels; of a larger one, a mean of what windows give, and 0
    far from the unknown region.
    """
    height, width = image.shape[2:]
    if height * width <= LIMIT:
        return network(image, trimap)
    total, weights = image.new_zeros(len(image), 1, height, width), image.new_zeros(1, 1, height, width)
    for inner in boxes(height, width, WINDOW):
        outer = inner.widened(OVERLAP, height, width)
        if not (outer.of(trimap) == UNKNOWN).any():
            continue
        rows = _fade(outer.top, outer.bottom, height, image.device)
        columns = _fade(outer.left, outer.right, width, image.device)
        weight = (rows[:, None] * columns[None])[None, None]
        outer.of(total).add_(weight * network(outer.of(image), outer.of(trimap)))
        outer.of(weights).add_(weight)
    return total / weights.clamp_min(1e-6)


def _fade(first: int, end: int, length: int, device: torch.device) -> Tensor:
    """What a window weighs along one side: 1, falling towards its ends where they are not the picture's."""
    place = torch.arange(first, end, device=device) + 0.5
    before = (place - first) / (2 * OVERLAP) if first > 0 else torch.ones_like(place)
    after = (end - place) / (2 * OVERLAP) if end < length else torch.ones_like(place)
    return torch.minimum(before, after).clamp(max=1)
