"""How well does a small generator draw what the whole one draws, averaged down?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from sgmatte.generator import load_generator
from sgmatte.metrics import psnr


@dataclass(frozen=True)
class HeadScores:
    """PSNR in dB over unseen latents, of pictures clamped to [0, 1]; and the first pairs, to look at."""

    size: int
    latents: int
    psnr: float
    lowest: float
    wanted: list[Tensor]  # (1, 3, size, size): the full picture, averaged
    drawn: list[Tensor]


@torch.no_grad()
def head_scores(
    size: int,
    count: int = 100,
    seed: int = 1000,
    shown: int = 8,
    device: torch.device | None = None,
    observe: Callable[[int, int], None] | None = None,
) -> HeadScores:
    """Compare on `count` latents drawn from a seed that no training uses.

    Raises:
        WeightError: the generator's weights are missing.
    """
    full, small = (load_generator(side, device or "cpu", exact=True, name="mobilestylegan") for side in (1024, size))
    random = torch.Generator().manual_seed(seed)
    values, wanted, drawn = [], [], []
    for number in range(count):
        w = full.mapping(torch.randn(1, 512, generator=random).to(device or "cpu"))[:, None]
        picture = full.synthesis(w.expand(-1, full.layers, -1), full.default_noise())
        target = F.avg_pool2d(picture, full.size // size).clamp(0, 1)
        image = small.synthesis(w.expand(-1, small.layers, -1), small.default_noise()).clamp(0, 1)
        values.append(psnr(image, target))
        if number < shown:
            wanted.append(target.cpu())
            drawn.append(image.cpu())
        if observe:
            observe(number + 1, count)
    return HeadScores(size, count, sum(values) / count, min(values), wanted, drawn)
