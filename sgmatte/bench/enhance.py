"""How well an inversion draws the face crop, and what the enhancement changes of the photo (PSNR), of the trimap
(entropy) and of the matte, against a known alpha."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from sgmatte import metrics
from sgmatte.errors import DataError
from sgmatte.face import Placement, Quad
from sgmatte.train.data import PortraitFolder, read_grey

if TYPE_CHECKING:
    from sgmatte.pipeline import Networks


@dataclass(frozen=True)
class EnhancementScores:
    """Of one photo, or means over photos; `before` is the photo itself, `after` the enhanced one."""

    inverted_w_plus: float  # PSNR of the inversion to the crop, dB, after its W+ stage
    inverted: float  # and after the noise maps
    inversion_seconds: float
    psnr: float  # dB, whole photo
    psnr_quad: float  # dB, inside the generator's square
    entropy_before: float  # nats
    entropy_after: float
    sad_before: float  # thousands of pixels, whole image, with the predicted trimap
    sad_after: float
    mse_before: float
    mse_after: float
    seconds: float


def portrait_sample(portraits: PortraitFolder, count: int, seed: int) -> list[Path]:
    """`count` photos of a folder, drawn without repetition.

    Raises:
        DataError: there are fewer.
    """
    photos = portraits.images
    if count > len(photos):
        raise DataError(f"{portraits.folder / 'image'}: {count} portraits wanted, {len(photos)} there")
    return [photos[k] for k in np.random.default_rng(seed).permutation(len(photos))[:count]]


def enhancement_scores(
    networks: Networks,
    portraits: PortraitFolder,
    count: int,
    seed: int = 0,
    observe: Callable[[int, int], None] | None = None,
) -> Iterator[tuple[str, EnhancementScores]]:
    """Stem and scores of `count` portraits, each as `sgmatte enhance` would treat it.

    Raises:
        DataError: there are fewer.
    """
    from sgmatte.pipeline import enhance_photo, matte_photo

    alphas = portraits.alphas
    for done, path in enumerate(portrait_sample(portraits, count, seed)):
        truth = torch.from_numpy(read_grey(alphas[path.stem]) / np.float32(255))[None, None]
        before = matte_photo(path, networks)
        started = time.monotonic()
        after = enhance_photo(path, networks)
        seconds = time.monotonic() - started
        photo = before.photo.image
        entropies = after.report["trimap_entropy"]
        yield (
            path.stem,
            EnhancementScores(
                inverted_w_plus=after.report["psnr"]["inversion_after_w_plus"],
                inverted=after.report["psnr"]["inversion"],
                inversion_seconds=after.report["seconds"]["inversion"],
                psnr=metrics.psnr(after.image, photo),
                psnr_quad=_psnr_inside(after.image, photo, after.report["quad"]),
                entropy_before=entropies["before"],
                entropy_after=entropies["after"],
                sad_before=metrics.sad(before.alpha, truth),
                sad_after=metrics.sad(after.matte.alpha, truth),
                mse_before=metrics.mse(before.alpha, truth),
                mse_after=metrics.mse(after.matte.alpha, truth),
                seconds=seconds,
            ),
        )
        if observe:
            observe(done + 1, count)


def mean_scores(scores: Sequence[EnhancementScores]) -> EnhancementScores:
    """The mean of each score; of PSNR, over the photos that changed at all."""
    means = {}
    for field in fields(EnhancementScores):
        values = [getattr(row, field.name) for row in scores]
        finite = [value for value in values if math.isfinite(value)]
        means[field.name] = sum(finite) / len(finite) if finite else math.inf
    return EnhancementScores(**means)


def _psnr_inside(image: Tensor, photo: Tensor, corners: Sequence[tuple[float, float]]) -> float:
    """PSNR over the pixels whose centres lie in the quad with these corners."""
    (x, y), right, _, down = corners
    quad = Quad((x, y), (right[0] - x, right[1] - y), (down[0] - x, down[1] - y))
    place = Placement(quad, (photo.shape[-2], photo.shape[-1]), 8, feather=0)
    inside = (place.mask > 0.5).expand(1, 3, -1, -1)
    return metrics.psnr(*(x[..., place.rows, place.columns][inside] for x in (image, photo)))
