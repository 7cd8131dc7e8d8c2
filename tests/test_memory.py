"""Photos that memory is too small for are worked on with less of it."""

from __future__ import annotations

import pytest
import torch
from conftest import disc_alpha
from torch import Tensor

from sgmatte.frugal import frugal_alpha, frugal_trimap
from sgmatte.matting.models import pasted
from sgmatte.matting.networks import NetworkMatting
from sgmatte.memory import first_that_fits, is_out_of_memory
from sgmatte.trimaps import Look, band_trimap, confidence

CPU = (
    "[enforce fail at alloc_cpu.cpp:118] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate 9"
)


def short(error: BaseException = RuntimeError(CPU)):  # noqa: B008
    raise error


def test_shortage_is_told_from_other_errors() -> None:
    windows = RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes.")
    errors = RuntimeError(CPU), windows, MemoryError(), torch.OutOfMemoryError("CUDA out of memory.")
    assert all(map(is_out_of_memory, errors))
    assert not any(map(is_out_of_memory, (RuntimeError("shapes do not match"), ValueError(CPU))))


def test_torch_says_what_it_is_known_by() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)


def test_ways_are_tried_in_turn_and_other_errors_are_not_hidden() -> None:
    assert first_that_fits([("a", lambda: 1), ("b", short)]) == (1, None)
    assert first_that_fits([("a", short), ("b", lambda: short(MemoryError())), ("c", lambda: 3)]) == (3, "c")
    with pytest.raises(RuntimeError, match="can't allocate"):
        first_that_fits([("a", lambda: short(MemoryError())), ("b", short)])
    with pytest.raises(RuntimeError, match="a bug"):
        first_that_fits([("a", lambda: short(RuntimeError("a bug"))), ("b", lambda: 1)])


@pytest.fixture
def disc() -> tuple[Tensor, Tensor]:
    """An image that shows its own alpha, and the trimap."""
    alpha = torch.from_numpy(disc_alpha(90, 70, 25, softness=8))[None, None]
    return alpha.expand(1, 3, 90, 70), band_trimap(alpha, 4)


class Bounded:
    """Answers with what the image shows, up to a number of pixels."""

    name, differentiable = "bounded", True

    def __init__(self, pixels: int) -> None:
        self.pixels = pixels

    def __call__(self, image: Tensor, trimap: Tensor) -> Tensor:
        if image.shape[2] * image.shape[3] > self.pixels:
            short()
        assert trimap.shape[2:] == image.shape[2:]
        return pasted(image[:, :1], trimap)

    def look(self, image: Tensor) -> Look:
        trimap = (self(image, torch.ones_like(image[:, :1]).long()) * 2.99).long()
        return Look(trimap, image[:, :1], image[:, :1], confidence(trimap, 0.5))


@pytest.mark.parametrize(
    ("pixels", "way"), [(6300, None), (1600, "at half its size"), (400, "at a quarter of its size")]
)
def test_what_does_not_fit_is_made_smaller_and_says_so(disc, pixels: int, way: str | None) -> None:
    image, trimap = disc
    alpha, note = frugal_alpha(Bounded(pixels), image, trimap)
    assert alpha.shape == (1, 1, 90, 70)
    assert (alpha - image[:, :1]).abs().max() < (0.2 if way else 1e-6)
    assert (alpha[trimap == 2] == 1).all()
    assert note == (way and f"memory is too small for it: the alpha was made {way}")
    look, note = frugal_trimap(Bounded(pixels), image)  # type: ignore[arg-type]
    assert (look.trimap.shape, look.trimap.dtype, look.confidence.entropy) == ((1, 1, 90, 70), torch.int64, 0.5)
    assert ((image[:, :1] * 2.99).long() != look.trimap).float().mean() < (0.1 if way else 1e-6)
    assert (look.person - image[:, :1]).abs().max() < (0.2 if way else 1e-6)
    assert note == (way and f"memory is too small for it: the trimap was made {way}")


def test_what_does_not_fit_at_all_is_an_error(disc) -> None:
    with pytest.raises(RuntimeError, match="can't allocate"):
        frugal_alpha(Bounded(10), *disc)


def test_models_with_tiles_try_smaller_ones_before_they_lose_detail(disc) -> None:
    asked: list[int | None] = []

    def tiled(side: int | None):
        def alpha(image: Tensor, trimap: Tensor) -> Tensor:
            asked.append(side)
            return short() if side != 256 else image[:, :1]

        return alpha

    model = NetworkMatting("tiles", tiled(None), 8, tiled=tiled)
    alpha, note = frugal_alpha(model, *disc)
    assert asked == [None, 512, 256]
    assert note == "memory is too small for it: the alpha was made in tiles of 256 pixels"
    assert torch.equal(alpha, pasted(disc[0][:, :1], disc[1]))
    assert NetworkMatting("none", tiled(None), 8).in_tiles(512) is None
