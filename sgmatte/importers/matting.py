"""Recognisers of networks that predict alpha, and of the one that predicts SMPEG's trimaps."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from sgmatte.errors import WeightError
from sgmatte.importers.parts import Part, checked_part, plain_state
from sgmatte.nn.alphagan import AlphaGAN
from sgmatte.nn.gca import GCA, folded
from sgmatte.nn.resnet_deeplab import ResNetDeepLab

KEY = "state_dict"  # under which all three are saved, unless a file is nothing else
GCA_SETTINGS: dict[str, Any] = {"width": 1.0}
ALPHAGAN_SETTINGS: dict[str, Any] = {"width": 1.0, "dilated": "first"}


def gca_parts(content: Mapping[str, Any]) -> list[Part]:
    """GCA as its authors save it (gca-dist.pth, gca-dist-all-data.pth), its spectral norm divided out."""
    state = _state(content, "encoder.guidance_head.")
    if state is None:
        return []
    _check_spectral_norm(state)
    return [_part("GCA", "gca.dist", GCA, GCA_SETTINGS, folded(state))]


def deeplab_parts(content: Mapping[str, Any]) -> list[Part]:
    """The trimap network of SMPEG (deeplab_model_best.pth.tar); its optimizer and its score are left unread."""
    state = _state(content, "aspp.aspp1.")
    return (
        [] if state is None else [_part("DeepLab on ResNet-101", "deeplab-resnet101.smpeg", ResNetDeepLab, {}, state)]
    )


def alphagan_parts(content: Mapping[str, Any]) -> list[Part]:
    """The generator of the public implementation of AlphaGAN, a bare state dict."""
    state = _state(content, "encoder.resnet50.")
    return [] if state is None else [_part("AlphaGAN", "alphagan.public", AlphaGAN, ALPHAGAN_SETTINGS, state)]


def _state(content: Mapping[str, Any], prefix: str) -> dict[str, Tensor] | None:
    """The state dict in `content` without the `module.` of nn.DataParallel; None if it has no key with this prefix."""
    state = content.get(KEY, content)
    names = (
        [name.removeprefix("module.") for name in state if isinstance(name, str)] if isinstance(state, Mapping) else []
    )
    if not any(name.startswith(prefix) for name in names):
        return None
    return {name.removeprefix("module."): value for name, value in plain_state(KEY, state).items()}


def _part(
    what: str, weight: str, kind: Callable[..., nn.Module], settings: Mapping[str, Any], state: Mapping[str, Tensor]
) -> Part:
    with torch.device("meta"):
        network = kind(**settings)
    return checked_part(KEY, what, weight, network, settings, state)


def _check_spectral_norm(state: Mapping[str, Tensor]) -> None:
    """Whether each normalised weight (rows x columns once flattened) has its two vectors.

    Raises:
        WeightError: one lacks them, or they have other lengths.
    """
    for name in (name for name in state if name.endswith(".weight_bar")):
        weight, stem = state[name], name.removesuffix("bar")
        found = [tuple(state[stem + vector].shape) if stem + vector in state else None for vector in "uv"]
        if weight.ndim < 2 or found != [(weight.shape[0],), (math.prod(weight.shape[1:]),)]:
            raise WeightError(f"{KEY}: {name} has no spectral norm that fits it ({stem}u, {stem}v)")
