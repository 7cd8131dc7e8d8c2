"""What a matting model is, and the one that a name means."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from sgmatte.errors import TrimapError, UsageError
from sgmatte.matting.registry import matting_models
from sgmatte.trimaps import BACKGROUND, FOREGROUND


class MattingModel(Protocol):
    """What estimates alpha. Whatever encoding a network wants of its inputs is its own affair."""

    name: str
    differentiable: bool  # whether gradients reach the image

    def __call__(self, image: Tensor, trimap: Tensor) -> Tensor:
        """Alpha (N, 1, H, W) in [0, 1], exactly 0 and 1 where the trimap is certain.

        Args:
            image: (N, 3, H, W) sRGB in [0, 1].
            trimap: (N, 1, H, W) int64, 0 background, 1 unknown, 2 foreground.

        Raises:
            TrimapError: the trimap does not fit the image, or leaves the model nothing to estimate from.
        """
        ...


def matting_model(name: str, device: torch.device | str = "cpu") -> MattingModel:
    """The matting model that `--model NAME` means, frozen; a name that ends in .safetensors is that of a file.

    Raises:
        UsageError: there is no model of this name, or the package that brings it cannot be imported.
        WeightError: its weights are missing or damaged.
    """
    if name.endswith(".safetensors"):
        from sgmatte.matting.networks import trained

        return trained(Path(name), torch.device(device))
    found = matting_models()
    if name not in found:
        raise UsageError(
            f"unknown matting model '{name}'; choose one of {', '.join(found)}, or a weight file (.safetensors)"
        )
    try:
        made = found[name].load()
    except (ImportError, AttributeError) as error:
        raise UsageError(f"matting model '{name}' ({found[name].value}) cannot be imported: {error}") from error
    return made(torch.device(device))


def matted(model: MattingModel, image: Tensor, trimap: Tensor, person: Tensor | None = None) -> Tensor:
    """`model(image, trimap)`. A model with `asks_person` is told too what the trimap network holds likelier in the
    unknown region: `person`, (N, 1, H, W) in [0, 1].
    """
    if person is not None and getattr(model, "asks_person", False):
        told: Tensor = model(image, trimap, person)  # type: ignore[call-arg]
        return told
    return model(image, trimap)


def pasted(alpha: Tensor, trimap: Tensor) -> Tensor:
    """`alpha` with 0 and 1 where the trimap is certain."""
    alpha = torch.where(trimap == BACKGROUND, alpha.new_zeros(()), alpha)
    return torch.where(trimap == FOREGROUND, alpha.new_ones(()), alpha)


def check_sizes(image: Tensor, trimap: Tensor) -> None:
    """Raises TrimapError where the trimap has another size than the image."""
    if trimap.shape != (len(image), 1, *image.shape[2:]):
        height, width = image.shape[2:]
        raise TrimapError(
            f"the trimap is {trimap.shape[-1]}x{trimap.shape[-2]} pixels and the photo {width}x{height}; "
            "make them the same size"
        )
