"""Matting networks on photos of any size."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sgmatte import zoo
from sgmatte.device import fast_in_bf16
from sgmatte.errors import WeightError
from sgmatte.matting.models import MattingModel, check_sizes, pasted
from sgmatte.matting.refinement import refined
from sgmatte.matting.tiles import tiled_alpha
from sgmatte.matting.windows import Alpha, windowed_alpha
from sgmatte.nn import alphagan as alphagan_network
from sgmatte.nn import gca as gca_network
from sgmatte.tensorfile import stored_width

MARGIN = 32  # reflected pixels around the photo, as the authors of GCA test


class NetworkMatting:
    """A network of image and trimap whose sides must be multiples of `stride`; with `refine`, what it answers while no
    gradients are asked for is corrected by the photo's colours. Where the trimap was not given but found, `found` is
    asked in its place: one that knows what such trimaps are like.
    """

    differentiable = True

    @property
    def asks_person(self) -> bool:
        return self.refine or self.found is not None

    def __init__(
        self,
        name: str,
        network: Alpha,
        stride: int,
        refine: bool = False,
        tiled: Callable[[int | None], Alpha] | None = None,
        found: NetworkMatting | None = None,
    ) -> None:
        self.name, self.network, self.stride, self.refine, self._tiled = name, network, stride, refine, tiled
        self.found = found

    def in_tiles(self, side: int) -> NetworkMatting | None:
        """The same model in tiles of so many pixels a side, for less memory; None if it knows no tiles."""
        if self._tiled is None:
            return None
        found = self.found.in_tiles(side) if self.found else None
        return NetworkMatting(self.name, self._tiled(side), self.stride, self.refine, found=found)

    def __call__(self, image: Tensor, trimap: Tensor, person: Tensor | None = None) -> Tensor:
        if person is not None and self.found is not None:
            return self.found(image, trimap, person)
        check_sizes(image, trimap)
        height, width = image.shape[2:]
        padding = (MARGIN, MARGIN + -width % self.stride, MARGIN, MARGIN + -height % self.stride)
        padded = reflected(image, padding)
        regions = reflected(trimap.to(image.dtype), padding).round().long()
        alpha = self.network(padded, regions)[:, :, MARGIN : MARGIN + height, MARGIN : MARGIN + width]
        alpha = pasted(alpha, trimap)
        return refined(alpha, image, trimap, person) if self.refine and not torch.is_grad_enabled() else alpha

    def plain(self) -> NetworkMatting:
        """The same network, its answer as it is."""
        found = self.found.plain() if self.found else None
        return NetworkMatting(f"{self.name}-plain", self.network, self.stride, tiled=self._tiled, found=found)


def gca(device: torch.device) -> MattingModel:
    """GCA (Li and Lu, AAAI 2020) at half width, trained on portraits, refined by the photo's colours; bundled."""
    return _bundled_gca(device)


def gca_plain(device: torch.device) -> MattingModel:
    """The same network, its answer as it is."""
    return _bundled_gca(device).plain()


def gca_dist(device: torch.device) -> MattingModel:
    """GCA with its authors' weights, after `sgmatte weights import gca-dist.pth`."""
    return _gca("gca-dist", "gca.dist", device)


def alphagan(device: torch.device) -> MattingModel:
    """AlphaGAN (Lutz et al., BMVC 2018), small, trained on portraits, refined by the photo's colours; bundled."""
    return _alphagan("alphagan", "alphagan.portrait", device, refine=True)


def alphagan_plain(device: torch.device) -> MattingModel:
    """The same network, its answer as it is."""
    return _alphagan("alphagan", "alphagan.portrait", device).plain()


def alphagan_public(device: torch.device) -> MattingModel:
    """AlphaGAN with the public implementation's weights, after `sgmatte weights import`."""
    return _alphagan("alphagan-public", "alphagan.public", device)


def trained(file: Path, device: torch.device) -> MattingModel:
    """A network of `sgmatte train gca|alphagan`, refined by the photo's colours.

    Raises:
        WeightError: the file holds no weights of such a network.
    """
    state, known = zoo.state(file), "a network that `sgmatte train gca` or `sgmatte train alphagan` wrote"
    width, dilated = stored_width(file, known), zoo.stored_config(file).get("dilated")
    if dilated not in (None, "every", "first"):
        raise WeightError(f"{file}: not {known}")
    network = alphagan_network.AlphaGAN(width, dilated) if dilated else gca_network.GCA(width)
    zoo.check_fit(f"{file} does not fit {type(network).__name__}", state, network.state_dict())
    network.load_state_dict(state)
    return _model(file.stem, _ready(network, device), refine=True)


def _bundled_gca(device: torch.device) -> NetworkMatting:
    model = _gca("gca", "gca.portrait", device, refine=True)
    model.found = _gca("gca", "gca.found", device, refine=True)
    return model


def _gca(name: str, weight: str, device: torch.device, refine: bool = False) -> NetworkMatting:
    return _model(name, _loaded(gca_network.GCA(**zoo.config(weight)), weight, device), refine)


def _alphagan(name: str, weight: str, device: torch.device, refine: bool = False) -> NetworkMatting:
    return _model(name, _loaded(alphagan_network.AlphaGAN(**zoo.config(weight)), weight, device), refine)


def _model(name: str, network: nn.Module, refine: bool) -> NetworkMatting:
    """`network` on photos of any size, in bfloat16 where that is fast."""

    def answer(image: Tensor, trimap: Tensor) -> Tensor:
        return network(image.contiguous(memory_format=torch.channels_last), trimap)

    def tiled(side: int | None) -> Alpha:
        def alpha(image: Tensor, trimap: Tensor) -> Tensor:
            if torch.is_grad_enabled():  # needs the whole network's memory; what wants it works on small pictures
                return answer(image, trimap)
            with torch.autocast(image.device.type, torch.bfloat16, enabled=fast_in_bf16(image.device)):
                if isinstance(network, gca_network.GCA):
                    return tiled_alpha(network, image, trimap, side)
                return windowed_alpha(answer, image, trimap)

        return alpha

    if isinstance(network, gca_network.GCA):
        return NetworkMatting(name, tiled(None), gca_network.STRIDE, refine, tiled)
    return NetworkMatting(name, tiled(None), alphagan_network.STRIDE, refine)


def _loaded(network: nn.Module, weight: str, device: torch.device) -> nn.Module:
    return _ready(zoo.load_into(network, weight), device)


def _ready(network: nn.Module, device: torch.device) -> nn.Module:
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
