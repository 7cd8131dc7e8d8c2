"""GCA on large photos: the alpha of the whole network, with the memory of a tile.

What sees far in GCA works at an eighth of the photo's size and below, where even a large photo is small. Only its fine
layers need tiles: on the way in all of them, on the way out those that touch the unknown region. With a halo wider than
what the fine layers see, the result is that of the untiled network, seams and all.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sgmatte.nn.gca import GCA, network_input
from sgmatte.trimaps import UNKNOWN

TILE = 1024  # pixels a side
HALO = 128  # pixels around a tile; the fine layers see less than 100 on either way
COARSE = 8


@dataclass(frozen=True)
class Box:
    """Rows `top` to `bottom` - 1 and columns `left` to `right` - 1 of a picture."""

    top: int
    bottom: int
    left: int
    right: int

    def of(self, x: Tensor, stride: int = 1) -> Tensor:
        """That part of x (N, C, H / stride, W / stride), a view."""
        rows, columns = (self.top // stride, self.bottom // stride), (self.left // stride, self.right // stride)
        return x[:, :, rows[0] : rows[1], columns[0] : columns[1]]

    def part(self, pixels: np.ndarray) -> np.ndarray:
        """That part of an array (H, W, ...), a view."""
        return pixels[self.top : self.bottom, self.left : self.right]

    def mask(self, inner: Box) -> np.ndarray:
        """True where `inner` is, of this box's own size."""
        mask = np.zeros((self.bottom - self.top, self.right - self.left), bool)
        inner.within(self).part(mask)[:] = True
        return mask

    def widened(self, halo: int, height: int, width: int) -> Box:
        return Box(
            max(0, self.top - halo),
            min(height, self.bottom + halo),
            max(0, self.left - halo),
            min(width, self.right + halo),
        )

    def within(self, outer: Box) -> Box:
        return Box(self.top - outer.top, self.bottom - outer.top, self.left - outer.left, self.right - outer.left)


def boxes(height: int, width: int, side: int) -> Iterator[Box]:
    """Squares that cover the picture, smaller ones at its right and lower border."""
    for top in range(0, height, side):
        for left in range(0, width, side):
            yield Box(top, min(top + side, height), left, min(left + side, width))


@torch.no_grad()
def tiled_alpha(network: GCA, image: Tensor, trimap: Tensor, tile: int | None = None) -> Tensor:
    """`network(image, trimap)` where the trimap is unknown, and 0 in tiles that are certain; 32 divides `tile`.

    Arguments and errors are those of `GCA.forward`.
    """
    height, width = image.shape[2:]
    tiles = [(inner, inner.widened(HALO, height, width)) for inner in boxes(height, width, tile or TILE)]
    eighths: list[Tensor] = []
    for inner, outer in tiles:
        x, _, quarter = _fine(network, outer, image, trimap)
        parts = network.encoder.coarse(x, quarter)
        if not eighths:
            eighths = [part.new_empty(len(image), part.shape[1], height // COARSE, width // COARSE) for part in parts]
        for whole, part in zip(eighths, parts, strict=True):
            inner.of(whole, COARSE).copy_(inner.within(outer).of(part, COARSE))
    eighth, guidance = eighths
    decoded = network.middle(eighth, guidance, trimap[:, :, ::COARSE, ::COARSE] == UNKNOWN)
    alpha = image.new_zeros(len(image), 1, height, width)
    for inner, outer in tiles:
        if (inner.of(trimap) == UNKNOWN).any():
            x, half, quarter = _fine(network, outer, image, trimap)
            part = network.late(x, half, quarter, outer.of(decoded, COARSE))
            inner.of(alpha).copy_(inner.within(outer).of(part))
    return alpha


def _fine(network: GCA, box: Box, image: Tensor, trimap: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    x = network_input(box.of(image), box.of(trimap)).contiguous(memory_format=torch.channels_last)
    return x, *network.encoder.fine(x)
