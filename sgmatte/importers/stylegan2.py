"""Recogniser of StyleGAN2 in rosinality's layout."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from sgmatte.errors import WeightError
from sgmatte.importers.parts import Part, checked_part, plain_state
from sgmatte.nn import stylegan2
from sgmatte.nn.stylegan2_discriminator import Discriminator

LARGEST = 1024  # pixels a side of a StyleGAN2; a file that claims more is none
MULTIPLIERS = (1, 2, 4)


def stylegan2_parts(content: Mapping[str, Any]) -> list[Part]:
    """Generator and discriminator of a checkpoint in rosinality's layout, or of a bare state dict.

    `g`, the generator as trained, draws worse than `g_ema`, its average over the training, and is taken only where
    that is missing; `latent_avg` is left aside, for the mapping network gives the mean of W.
    """
    if "input.input" in content:
        content = {"g_ema": content}
    elif "final_linear.1.weight" in content:
        content = {"d": content}
    parts: list[Part] = []
    for key, kind in (("g_ema", _generator_part), ("g", _generator_part), ("d", _discriminator_part)):
        if key in content:
            part = kind(key, plain_state(key, content[key]))
            known = any(other.weight == part.weight for other in parts)
            parts.append(replace(part, weight=None) if known else part)
    if parts and "latent_avg" in content:
        mean = content["latent_avg"]
        if not isinstance(mean, Tensor) or mean.numel() != 512:
            raise WeightError("latent_avg is not a mean of W with 512 values")
        parts.append(Part("latent_avg", "mean of W"))
    return parts


def _generator_part(key: str, state: Mapping[str, Tensor]) -> Part:
    convolutions = sum(name.startswith("convs.") and name.endswith(".conv.weight") for name in state)
    size = _size(key, convolutions // 2)
    weight = state.get(f"convs.{convolutions - 1}.conv.weight")
    multiplier = _multiplier(key, size, weight, axis=1)
    with torch.device("meta"):
        network = stylegan2.Generator(size, multiplier)
    return _checked(key, "generator", f"stylegan2-ffhq.{size}", network, multiplier, state)


def _discriminator_part(key: str, state: Mapping[str, Tensor]) -> Part:
    size = _size(key, sum(name.startswith("convs.") and name.endswith(".conv1.0.weight") for name in state))
    multiplier = _multiplier(key, size, state.get("convs.0.0.weight"), axis=0)
    with torch.device("meta"):
        network = Discriminator(size, multiplier)
    return _checked(key, "discriminator", f"stylegan2-ffhq-discriminator.{size}", network, multiplier, state)


def _checked(
    key: str,
    kind: str,
    weight: str,
    network: stylegan2.Generator | Discriminator,
    multiplier: int,
    state: Mapping[str, Tensor],
) -> Part:
    what = f"StyleGAN2 {kind} of {network.size} px, channel multiplier {multiplier}"
    return checked_part(key, what, weight, network, network.config, state)


def _size(key: str, doublings: int) -> int:
    """Pixels a side after 4x4 has been doubled."""
    if not 1 <= doublings <= (LARGEST // 4).bit_length() - 1:
        raise WeightError(
            f"{key} has layers for {doublings} doublings of the 4x4 picture; a StyleGAN2 has one to eight"
        )
    return 4 * 2**doublings


def _multiplier(key: str, size: int, weight: Tensor | None, axis: int) -> int:
    """The channel multiplier with which the largest features have as many channels as `weight` has along `axis`."""
    channels = weight.shape[axis] if weight is not None and weight.ndim > axis else 0
    fitting = [m for m in MULTIPLIERS if stylegan2.channel_table(size, m)[-1] == channels]
    if not fitting:
        raise WeightError(f"{key} has {channels} channels at {size} px, which no channel multiplier gives")
    return fitting[-1] if 2 not in fitting else 2  # up to 32 px all of them give 512
