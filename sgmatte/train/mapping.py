"""The mapping network of a generator that shares its teacher's W."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from sgmatte.train.data import Sample
from sgmatte.train.loop import Observe, Recipe, fit
from sgmatte.train.teacher import Teacher

TOGETHER = 0.25  # mean share that layers leave unexplained, below which they learn together too


def taught_mapping(
    network: nn.Sequential,
    teacher: Teacher,
    run: Path,
    steps: int,
    seed: int,
    device: torch.device | None,
    observe: Observe | None,
) -> nn.Module:
    """The mapping network, taught to give the teacher's w for the same z.

    Each layer learns from what the teacher's own layer makes of the same input, and once that goes well, all together
    from w: end to end from the start, eight layers learn next to nothing. Losses are shares of the variance, 1 for a
    constant.
    """
    latent = teacher.mapping.latent

    def draw(random: np.random.Generator) -> Sample:
        return {"z": torch.from_numpy(random.standard_normal((64, latent), dtype=np.float32))}

    def losses(mapping: nn.Module, sample: Sample) -> Mapping[str, Tensor]:
        assert isinstance(mapping, nn.Sequential)
        norm, *layers = mapping
        z = sample["z"].flatten(0, -2)
        wanted = teacher.mapping_layers(z)
        pairs = zip(layers, [norm(z), *wanted], wanted, strict=False)
        shares = torch.stack([_share(layer(before), after) for layer, before, after in pairs])
        with torch.set_grad_enabled(float(shares.detach().mean()) < TOGETHER):
            unexplained = _share(mapping(z), wanted[-1])
        return {"layers": shares.mean(), "unexplained": unexplained}

    # The stored weights are a hundred times what they count as: so is the rate, and their gradients are about 1e-8.
    recipe = Recipe(
        steps,
        batch=8,
        lr=2.0,
        warmup=min(50, steps // 10),
        betas=(0.9, 0.99),
        eps=1e-14,
        bf16=False,
        seed=seed,
        workers=0,
        checkpoint_every=500,
    )
    return fit(network, draw, losses, recipe, run, device=device, observe=observe)


def _share(found: Tensor, wanted: Tensor) -> Tensor:
    """Of the variance of `wanted` (N, C) around its mean, what `found` leaves unexplained."""
    return (found - wanted).square().sum(1).mean() / wanted.var(0).sum()
