"""Trimaps and alphas of photos that memory is too small for: in smaller tiles first, then at a half and at a quarter of
their size. Where that was needed, a note says so."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from sgmatte.matting.models import MattingModel, matted, pasted
from sgmatte.memory import first_that_fits
from sgmatte.trimaps import Look, TrimapNetwork

TILES = (512, 256)  # pixels a side; sgmatte.matting.tiles.TILE comes before
PARTS = {2: "half", 4: "a quarter of"}


def frugal_trimap(network: TrimapNetwork, image: Tensor) -> tuple[Look, str | None]:
    """`network.look`, and a note where it had to do with less memory.

    Raises:
        RuntimeError, MemoryError: there is not even enough for a quarter of the size.
    """

    def smaller(part: int) -> Look:
        look = network.look(_shrunk(image, part))
        person, certain = (_stretched(x, image) for x in (look.person, look.certain))
        return Look(_nearest(look.trimap, image), person, certain, look.confidence)

    def ways() -> Iterator[tuple[str, Callable[[], Look]]]:
        yield "", partial(network.look, image)
        for part in PARTS:
            yield _at_part(part), partial(smaller, part)

    look, way = first_that_fits(ways())
    return look, _note("the trimap", way)


@torch.no_grad()
def frugal_alpha(
    model: MattingModel, image: Tensor, trimap: Tensor, person: Tensor | None = None
) -> tuple[Tensor, str | None]:
    """`matted(model, image, trimap, person)`, and a note where it had to do with less memory; raises likewise."""
    alpha, way = first_that_fits(_ways(model, image, trimap, person))
    return alpha, _note("the alpha", way)


def _ways(
    model: MattingModel, image: Tensor, trimap: Tensor, person: Tensor | None
) -> Iterator[tuple[str, Callable[[], Tensor]]]:
    def smaller(part: int) -> Tensor:
        small = _shrunk(image, part)
        alpha = matted(model, small, _nearest(trimap, small), None if person is None else _stretched(person, small))
        return pasted(_stretched(alpha, image), trimap)

    yield "", partial(matted, model, image, trimap, person)
    in_tiles: Callable[[int], MattingModel | None] = getattr(model, "in_tiles", lambda side: None)
    for side in TILES:
        tiled = in_tiles(side)
        if tiled is not None:
            yield f"in tiles of {side} pixels", partial(matted, tiled, image, trimap, person)
    for part in PARTS:
        yield _at_part(part), partial(smaller, part)


def _at_part(part: int) -> str:
    return f"at {PARTS[part]} its size"


def _note(what: str, way: str | None) -> str | None:
    return f"memory is too small for it: {what} was made {way}" if way else None


def _shrunk(image: Tensor, part: int) -> Tensor:
    size = (max(1, image.shape[2] // part), max(1, image.shape[3] // part))
    return F.interpolate(image, size, mode="bilinear", align_corners=False, antialias=True)


def _stretched(image: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(image, (like.shape[2], like.shape[3]), mode="bilinear", align_corners=False)


def _nearest(trimap: Tensor, like: Tensor) -> Tensor:
    """Classes at another image's size."""
    size = (like.shape[2], like.shape[3])
    return F.interpolate(trimap.to(torch.uint8), size, mode="nearest-exact").to(trimap.dtype)
