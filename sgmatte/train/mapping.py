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

    Each layer learns from what the teacher's own layer makes of the same input, and all together from w: end to end
    alone, eight layers learn next to nothing in the same time. Losses are shares of the variance, 1 for a constant.
    """
    latent = teacher.mapping.latent

    def draw(random: np.random.Generator) -> Sample:
        return {"z": torch.from_numpy(random.standard_normal((64, latent), dtype=np.float32))}

    def unexplained(mapping: nn.Module, sample: Sample) -> Mapping[str, Tensor]:
        assert isinstance(mapping, nn.Sequential)
        norm, *layers = mapping
        wanted = teacher.mapping_layers(sample["z"].flatten(0, -2))
        x = norm(sample["z"].flatten(0, -2))
        pairs = zip(layers, [x, *wanted], wanted, strict=False)
        shares = [_share(layer(before), after) for layer, before, after in pairs]
        for layer in layers:
            x = layer(x)
        return {"layers": torch.stack(shares).mean(), "unexplained": _share(x, wanted[-1])}

    # The stored weights are a hundred times what they count as, so the rate is as well.
    recipe = Recipe(
        steps,
        batch=16,
        lr=2.0,
        warmup=min(50, steps // 10),
        betas=(0.9, 0.99),
        bf16=False,
        seed=seed,
        workers=0,
        checkpoint_every=500,
    )
    return fit(network, draw, unexplained, recipe, run, device=device, observe=observe)


def _share(found: Tensor, wanted: Tensor) -> Tensor:
    """Of the variance of `wanted` (N, C) around its mean, what `found` leaves unexplained."""
    return (found - wanted).square().sum(1).mean() / wanted.var(0).sum()
