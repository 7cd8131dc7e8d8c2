"""What a matting model is, and which there are: sgmatte's own and those of other packages."""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from sgmatte.errors import TrimapError, UsageError
from sgmatte.trimaps import BACKGROUND, FOREGROUND

GROUP = "sgmatte.matting_models"
"""Entry points by which a package adds models: functions of a torch device that return one, frozen. The first line of
their docstring is what `--model list` shows."""

OWN = {
    "gca": "networks:gca",
    "gca-plain": "networks:gca_plain",
    "alphagan": "networks:alphagan",
    "alphagan-plain": "networks:alphagan_plain",
    "gca-dist": "networks:gca_dist",
    "alphagan-public": "networks:alphagan_public",
    "closed-form": "classical:closed_form",
    "knn": "classical:knn",
}


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


def matting_models() -> dict[str, EntryPoint]:
    """All models by name; nobody replaces sgmatte's own."""
    own = [EntryPoint(name, f"{__package__}.{place}", GROUP) for name, place in OWN.items()]
    others = [entry for entry in sorted(entry_points(group=GROUP)) if entry.name not in OWN]
    return {entry.name: entry for entry in (*own, *others)}


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


def description(entry: EntryPoint) -> str:
    """The first line that a model's maker says about it."""
    try:
        lines = (entry.load().__doc__ or "").strip().splitlines()
    except (ImportError, AttributeError) as error:
        return f"cannot be imported: {error}"
    return lines[0] if lines else ""


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
