"""How well the critic tells good composites from damaged ones, on people and backgrounds it was not trained on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from sgmatte.nn.critic import Critic
from sgmatte.train.composites import Foregrounds, reserved_backgrounds
from sgmatte.train.critic import VerdictSampler, validation
from sgmatte.train.data import PortraitFolder


def critic_scores(
    critic: Critic, portraits: PortraitFolder, backgrounds: Path, cache: Path, *, count: int = 400, size: int = 192
) -> Mapping[str, float]:
    """Accuracies on `count` pairs of `portraits` over the reserved photos; see `train.critic.validation` for the names.

    Cut-out foregrounds are kept in the folder `cache`.

    Raises:
        DataError: a folder lacks images or alphas.
    """
    sampler = VerdictSampler(Foregrounds.of(portraits, cache), reserved_backgrounds(backgrounds), size, untouched=0)
    with torch.inference_mode():
        return validation(sampler, next(critic.parameters()).device, count)(critic)
