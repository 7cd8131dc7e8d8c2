"""Alpha of a photo and its trimap: the matting models that sgmatte knows, behind one call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from sgmatte import zoo
from sgmatte.errors import TrimapError, UsageError
from sgmatte.nn.gca import GCA, STRIDE
from sgmatte.trimap import BACKGROUND, FOREGROUND

MARGIN = 32  # reflected pixels around the photo, as the authors of GCA test


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


class GCAMatting:
    """Guided contextual attention (nn/gca.py) on a photo of any size."""

    name = "gca"
    differentiable = True

    def __init__(self, network: GCA) -> None:
        self.network = network

    def __call__(self, image: Tensor, trimap: Tensor) -> Tensor:
        _check(image, trimap)
        height, width = image.shape[2:]
        padding = (MARGIN, MARGIN + -width % STRIDE, MARGIN, MARGIN + -height % STRIDE)
        padded = _reflected(image, padding).contiguous(memory_format=torch.channels_last)
        regions = _reflected(trimap.to(image.dtype), padding).round().long()
        alpha = self.network(padded, regions)[:, :, MARGIN : MARGIN + height, MARGIN : MARGIN + width]
        return pasted(alpha, trimap)


class ClosedFormMatting:
    """PyMatting's closed-form matting (Levin, Lischinski, Weiss, CVPR 2006): slow, no training, no gradients."""

    name = "closed-form"
    differentiable = False

    def __call__(self, image: Tensor, trimap: Tensor) -> Tensor:
        _check(image, trimap)
        from pymatting import estimate_alpha_cf  # compiles on import: only for those who need it

        alphas = []
        for one, regions in zip(image.detach().double().cpu(), trimap[:, 0].cpu(), strict=True):
            if not (regions == BACKGROUND).any() or not (regions == FOREGROUND).any():
                raise TrimapError(
                    "closed-form matting needs some certain background and some certain foreground in the trimap; "
                    "correct it and give it with --trimap, or use --model gca"
                )
            alphas.append(torch.from_numpy(estimate_alpha_cf(one.permute(1, 2, 0).numpy(), regions.numpy() / 2)))
        return pasted(torch.stack(alphas).unsqueeze(1).to(image).clamp(0, 1), trimap)


def pasted(alpha: Tensor, trimap: Tensor) -> Tensor:
    """`alpha` with 0 and 1 where the trimap is certain."""
    alpha = torch.where(trimap == BACKGROUND, alpha.new_zeros(()), alpha)
    return torch.where(trimap == FOREGROUND, alpha.new_ones(()), alpha)


def _gca(device: torch.device) -> MattingModel:
    network = GCA(zoo.config("gca.portrait")["width"])
    network = zoo.load_into(network, "gca.portrait").to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return GCAMatting(network.to(device).eval().requires_grad_(False))


def _closed_form(device: torch.device) -> MattingModel:
    return ClosedFormMatting()


MODELS: dict[str, Callable[[torch.device], MattingModel]] = {"gca": _gca, "closed-form": _closed_form}


def matting_model(name: str, device: torch.device | str = "cpu") -> MattingModel:
    """The matting model that `--model NAME` means, frozen.

    Raises:
        UsageError: there is no model of this name.
        WeightError: its weights are missing or damaged.
    """
    if name not in MODELS:
        raise UsageError(f"unknown matting model '{name}'; choose one of {', '.join(MODELS)}")
    return MODELS[name](torch.device(device))


def _check(image: Tensor, trimap: Tensor) -> None:
    if trimap.shape != (len(image), 1, *image.shape[2:]):
        height, width = image.shape[2:]
        raise TrimapError(
            f"the trimap is {trimap.shape[-1]}x{trimap.shape[-2]} pixels and the photo {width}x{height}; "
            "make them the same size"
        )


def _reflected(x: Tensor, padding: tuple[int, int, int, int]) -> Tensor:
    """`x` mirrored at its borders, as often as a small photo needs (F.pad reflects at most once)."""
    left, right, top, bottom = padding
    height, width = x.shape[2:]
    if max(left, right) < width and max(top, bottom) < height:
        return F.pad(x, padding, mode="reflect")
    rows = _mirrored(-top, height + bottom, height, x.device)
    columns = _mirrored(-left, width + right, width, x.device)
    return x[:, :, rows][:, :, :, columns]


def _mirrored(first: int, end: int, length: int, device: torch.device) -> Tensor:
    """Indices first..end-1 folded into 0..length-1 without repeating the border pixel."""
    period = max(1, 2 * (length - 1))
    index = torch.arange(first, end, device=device) % period
    return torch.minimum(index, period - index) if length > 1 else index
