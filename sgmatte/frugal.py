"""Trimaps and alphas of photos that memory is too small for: in smaller tiles first, then at a half and at a quarter of
their size. Where that was needed, a note says so."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from sgmatte.matting.models import MattingModel, pasted
from sgmatte.memory import first_that_fits
from sgmatte.trimaps import Confidence, TrimapNetwork

TILES = (512, 256)  # pixels a side; sgmatte.matting.tiles.TILE comes before
PARTS = {2: "half", 4: "a quarter of"}


def frugal_trimap(network: TrimapNetwork, image: Tensor) -> tuple[Tensor, Confidence, str | None]:
    """`network.judged`, and a note where it had to do with less memory.

    Raises:
        RuntimeError, MemoryError: there is not even enough for a quarter of the size.
    """

    def smaller(part: int) -> tuple[Tensor, Confidence]:
        trimap, sure = network.judged(_shrunk(image, part))
        return _nearest(trimap, image), sure

    def ways() -> Iterator[tuple[str, Callable[[], tuple[Tensor, Confidence]]]]:
        yield "", partial(network.judged, image)
        for part in PARTS:
            yield _at_part(part), partial(smaller, part)

    (trimap, sure), way = first_that_fits(ways())
    return trimap, sure, _note("the trimap", way)


@torch.no_grad()
def frugal_alpha(model: MattingModel, image: Tensor, trimap: Tensor) -> tuple[Tensor, str | None]:
    """`model(image, trimap)`, and a note where it had to do with less memory; raises likewise."""
    alpha, way = first_that_fits(_ways(model, image, trimap))
    return alpha, _note("the alpha", way)


def _ways(model: MattingModel, image: Tensor, trimap: Tensor) -> Iterator[tuple[str, Callable[[], Tensor]]]:
    def smaller(part: int) -> Tensor:
        small = _shrunk(image, part)
        alpha = model(small, _nearest(trimap, small))
        size = (image.shape[2], image.shape[3])
        return pasted(F.interpolate(alpha, size, mode="bilinear", align_corners=False), trimap)

    yield "", partial(model, image, trimap)
    in_tiles: Callable[[int], MattingModel | None] = getattr(model, "in_tiles", lambda side: None)
    for side in TILES:
        tiled = in_tiles(side)
        if tiled is not None:
            yield f"in tiles of {side} pixels", partial(tiled, image, trimap)
    for part in PARTS:
        yield _at_part(part), partial(smaller, part)


def _at_part(part: int) -> str:
    return f"at {PARTS[part]} its size"


def _note(what: str, way: str | None) -> str | None:
    return f"memory is too small for it: {what} was made {way}" if way else None


def _shrunk(image: Tensor, part: int) -> Tensor:
    size = (max(1, image.shape[2] // part), max(1, image.shape[3] // part))
    return F.interpolate(image, size, mode="bilinear", align_corners=False, antialias=True)


def _nearest(trimap: Tensor, like: Tensor) -> Tensor:
    """Classes at another image's size."""
    size = (like.shape[2], like.shape[3])
    return F.interpolate(trimap.to(torch.uint8), size, mode="nearest-exact").to(trimap.dtype)
