"""What recognisers find in checkpoints, and the checks that they share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sgmatte import zoo
from sgmatte.errors import WeightError
from sgmatte.hostile import printable


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


def plain_state(key: str, state: Any) -> dict[str, Tensor]:
    """`state` in full precision, once it has been seen to hold nothing but dense tensors with their values.

    They are floating, except the counts of batches that batch norms keep.

    Raises:
        WeightError: it holds anything else.
    """
    if not isinstance(state, Mapping) or not state:
        raise WeightError(f"{key} is no state dict")
    for name, value in state.items():
        dense = isinstance(value, Tensor) and value.layout == torch.strided and value.device.type == "cpu"
        shown = printable(str(name))
        if not isinstance(name, str) or not dense:
            raise WeightError(f"{key}: {shown} is no dense tensor of floating numbers")
        if not value.is_floating_point() and not (name.endswith("num_batches_tracked") and value.dtype == torch.int64):
            raise WeightError(f"{key}: {shown} is no dense tensor of floating numbers")
    return zoo.float_state(state, key)


def checked_part(
    key: str, what: str, weight: str, network: nn.Module, config: Mapping[str, Any], state: Mapping[str, Tensor]
) -> Part:
    """The part that `state` is, once it has been seen to fit `network` (which may be on the meta device).

    Raises:
        WeightError: keys or shapes differ, or a value is not finite.
    """
    zoo.check_fit(f"{key} is no {what}", state, network.state_dict())
    broken = [name for name, value in state.items() if not value.isfinite().all()]
    if broken:
        raise WeightError(f"{key}: {broken[0]} holds values that are not finite")
    return Part(key, what, weight, state, config)
