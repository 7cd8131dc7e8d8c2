"""Matting networks on photos of any size."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sgmatte import zoo
from sgmatte.device import fast_in_bf16
from sgmatte.matting.models import MattingModel, check_sizes, pasted
from sgmatte.matting.tiles import tiled_alpha
from sgmatte.nn import alphagan as alphagan_network
from sgmatte.nn import gca as gca_network

Network = TypeVar("Network", bound=nn.Module)

MARGIN = 32  # reflected pixels around the photo, as the authors of GCA test

Alpha = Callable[[Tensor, Tensor], Tensor]
"""Image (N, 3, H, W) and trimap (N, 1, H, W), sides multiples of a stride -> alpha (N, 1, H, W)."""


class NetworkMatting:
    """A network of image and trimap whose sides must be multiples of `stride`."""

    differentiable = True

    def __init__(self, name: str, network: Alpha, stride: int) -> None:
        self.name, self.network, self.stride = name, network, stride

    def __call__(self, image: Tensor, trimap: Tensor) -> Tensor:
        check_sizes(image, trimap)
        height, width = image.shape[2:]
        padding = (MARGIN, MARGIN + -width % self.stride, MARGIN, MARGIN + -height % self.stride)
        padded = reflected(image, padding)
        regions = reflected(trimap.to(image.dtype), padding).round().long()
        alpha = self.network(padded, regions)[:, :, MARGIN : MARGIN + height, MARGIN : MARGIN + width]
        return pasted(alpha, trimap)


def gca(device: torch.device) -> MattingModel:
    """GCA (Li and Lu, AAAI 2020) at half width, trained on portraits; bundled."""
    return _gca("gca", "gca.portrait", device)


def gca_dist(device: torch.device) -> MattingModel:
    """GCA with its authors' weights, after `sgmatte weights import gca-dist.pth`."""
    return _gca("gca-dist", "gca.dist", device)


def alphagan_public(device: torch.device) -> MattingModel:
    """AlphaGAN (Lutz et al., BMVC 2018) with the public implementation's weights, after `sgmatte weights import`."""
    network = _loaded(alphagan_network.AlphaGAN, "alphagan.public", device)

    def alpha(image: Tensor, trimap: Tensor) -> Tensor:
        return network(image.contiguous(memory_format=torch.channels_last), trimap)

    return NetworkMatting("alphagan-public", alpha, alphagan_network.STRIDE)


def _gca(name: str, weight: str, device: torch.device) -> MattingModel:
    network = _loaded(gca_network.GCA, weight, device)

    def alpha(image: Tensor, trimap: Tensor) -> Tensor:
        if torch.is_grad_enabled():  # needs the whole network's memory; what wants it works on small pictures
            return network(image.contiguous(memory_format=torch.channels_last), trimap)
        with torch.autocast(image.device.type, torch.bfloat16, enabled=fast_in_bf16(image.device)):
            return tiled_alpha(network, image, trimap)

    return NetworkMatting(name, alpha, gca_network.STRIDE)


def _loaded(kind: type[Network], weight: str, device: torch.device) -> Network:
    network = zoo.load_into(kind(**zoo.config(weight)), weight)
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network.to(device).eval().requires_grad_(False)


def reflected(x: Tensor, padding: tuple[int, int, int, int]) -> Tensor:
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
