"""Official checkpoints, turned into weights of the zoo: `sgmatte weights import FILE`.

A recogniser looks at what a file holds and returns the parts that it knows, each checked against its architecture; one
that does not know the file returns none. To support another kind of checkpoint, add one to RECOGNISERS.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sgmatte import zoo
from sgmatte.errors import WeightError
from sgmatte.files import write_json
from sgmatte.manifest import IMPORTED
from sgmatte.nn import stylegan2
from sgmatte.nn.stylegan2_discriminator import Discriminator

LARGEST = 1024  # pixels a side of a StyleGAN2; a file that claims more is none
MULTIPLIERS = (1, 2, 4)


@dataclass(frozen=True)
class Part:
    """A part of a checkpoint.

    Attributes:
        key: where it was, such as "g_ema".
        what: what it is, in words.
        weight: the name in the zoo of what it becomes; None for a part that is checked and then left aside.
        state, config: tensors by key, and what makes their network.
        path: where it was written, once it was.
    """

    key: str
    what: str
    weight: str | None = None
    state: Mapping[str, Tensor] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    path: Path | None = None


def imported(file: Path) -> list[Part]:
    """Convert a checkpoint to safetensors in the cache, all of its parts or, where one does not fit, none.

    Raises:
        WeightError: the file is none that is known, holds other shapes than its architecture has, needs code to be
            unpickled, or is of a size that the zoo has no entry for.
    """
    content = zoo.checkpoint(file)
    try:
        parts = _parts(content)
        return [
            replace(part, path=_kept(part.weight, part.state, part.config)) if part.weight else part for part in parts
        ]
    except WeightError as error:
        raise WeightError(f"{file}: {error}") from error


def _parts(content: Any) -> list[Part]:
    for recogniser in RECOGNISERS:
        parts = recogniser(content) if isinstance(content, Mapping) else []
        if parts:
            homeless = [part for part in parts if part.weight and part.weight not in zoo.records()]
            if homeless:
                raise WeightError(f"{homeless[0].key} is a {homeless[0].what}, which sgmatte has no use for")
            return parts
    held = ", ".join(map(str, list(content)[:4])) if isinstance(content, Mapping) else type(content).__name__
    raise WeightError(f"not a checkpoint that sgmatte knows (StyleGAN2: g_ema, g, d, latent_avg); it holds {held}")


def _kept(name: str, state: Mapping[str, Tensor], config: Mapping[str, Any]) -> Path:
    """Where a weight now lies in the cache, in full precision, its size and sha256 noted for every later use."""
    entry = zoo.record(name)
    folder = entry.folders[0]
    file = zoo.save_weights(folder / f"{entry.stem}.safetensors", state, config, fp16=False)
    write_json(folder / IMPORTED, {"name": file.name, "bytes": file.bytes, "sha256": file.sha256})
    return zoo.path(name)


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
            part = kind(key, _plain(key, content[key]))
            known = any(other.weight == part.weight for other in parts)
            parts.append(replace(part, weight=None) if known else part)
    if parts and "latent_avg" in content:
        mean = content["latent_avg"]
        if not isinstance(mean, Tensor) or mean.numel() != 512:
            raise WeightError("latent_avg is not a mean of W with 512 values")
        parts.append(Part("latent_avg", "mean of W"))
    return parts


RECOGNISERS: tuple[Callable[[Mapping[str, Any]], list[Part]], ...] = (stylegan2_parts,)


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
    zoo.check_fit(f"{key} is no {what}", state, network.state_dict())
    broken = [name for name, value in state.items() if not value.isfinite().all()]
    if broken:
        raise WeightError(f"{key}: {broken[0]} holds values that are not finite")
    return Part(key, what, weight, {name: value.float() for name, value in state.items()}, network.config)


def _plain(key: str, state: Any) -> Mapping[str, Tensor]:
    """`state`, once it has been seen to hold nothing but dense floating tensors with their values."""
    if not isinstance(state, Mapping) or not state:
        raise WeightError(f"{key} is no state dict")
    for name, value in state.items():
        dense = isinstance(value, Tensor) and value.layout == torch.strided and value.device.type == "cpu"
        if not isinstance(name, str) or not dense or not value.is_floating_point():
            raise WeightError(f"{key}: {name} is no dense tensor of floating numbers")
    return state


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
