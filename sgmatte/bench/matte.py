"""Matting models on composites whose alpha is known, or on photos that have one: same pictures, same trimaps."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sgmatte import metrics
from sgmatte.errors import DataError
from sgmatte.foreground import composite, foreground_colours
from sgmatte.matting.models import MattingModel, matted
from sgmatte.train.composites import reserved_backgrounds
from sgmatte.train.data import PortraitFolder, read_grey, read_rgb
from sgmatte.trimaps import UNKNOWN, Look, band_trimap

DRAWS = 10_000  # of problems, for an interval
BAND_RADIUS = 12  # pixels: the trimap's certain regions are the alpha's, eroded by a 25x25 ellipse


@dataclass(frozen=True)
class Problem:
    """A picture, its trimap and its alpha; (1, C, H, W) each."""

    name: str
    image: Tensor
    trimap: Tensor
    alpha: Tensor

    def to(self, device: torch.device) -> Problem:
        return Problem(self.name, self.image.to(device), self.trimap.to(device), self.alpha.to(device))


@dataclass(frozen=True)
class Scores:
    """Of one model on one problem, or means over problems."""

    sad: float  # thousands of pixels, whole image
    mse: float  # whole image
    mse_unknown: float  # in the trimap's unknown region
    gradient: float  # whole image, as the next
    connectivity: float
    seconds: float


Sight = Callable[[Tensor], Look]


@dataclass(frozen=True)
class Contestant:
    """A matting model, and where its trimap comes from: of the true alpha, or, with `look`, of the picture."""

    label: str
    model: MattingModel
    look: Sight | None = None


def problems(portraits: PortraitFolder, backgrounds: Path | None, count: int, seed: int) -> Iterator[Problem]:
    """`count` people of `portraits` in random order, each over one of the reserved backgrounds; without `backgrounds`
    the photos as they are. Where more are wanted than there are people, they come again over other backgrounds.

    Raises:
        DataError: there are fewer than `count` portraits and no backgrounds, or no background is reserved.
    """
    photos, alphas = portraits.images, portraits.alphas
    rooms = None if backgrounds is None else reserved_backgrounds(backgrounds)
    if rooms is None and count > len(photos):
        raise DataError(f"{portraits.folder} has {len(photos)} portraits, {count} are wanted")
    if rooms == []:
        raise DataError(f"{backgrounds} has too few photos to keep one for evaluation")
    order = np.random.default_rng(seed).permutation(len(photos))
    for number in range(count):
        again, k = number // len(photos), int(order[number % len(photos)])
        rng = np.random.default_rng((seed, k, again))
        alpha = read_grey(alphas[photos[k].stem]) / np.float32(255)
        photo = read_rgb(photos[k]) / np.float32(255)
        if rooms is None:
            yield _problem(photos[k].stem, _tensor(photo), _tensor(alpha[..., None]))
            continue
        colours = foreground_colours(photo, alpha)
        room = _covering(read_rgb(rooms[int(rng.integers(len(rooms)))]), alpha.shape, rng)
        matte = _tensor(alpha[..., None])
        image = composite(matte, _tensor(colours), _tensor(room))
        image = (image * 255).round() / 255  # as a file would hold it
        yield _problem(photos[k].stem, image, matte)


def _problem(name: str, image: Tensor, alpha: Tensor) -> Problem:
    return Problem(name, image, band_trimap(alpha, BAND_RADIUS), alpha)


def scores(contestant: Contestant, problem: Problem) -> Scores:
    """Errors of one contestant on one problem, and the time of matting alone."""
    trimap, person = problem.trimap, None
    if contestant.look is not None:
        seen = contestant.look(problem.image)
        trimap, person = seen.trimap, seen.person
    started = time.monotonic()
    with torch.inference_mode():
        alpha = matted(contestant.model, problem.image, trimap, person)
    seconds = time.monotonic() - started
    return Scores(
        metrics.sad(alpha, problem.alpha),
        metrics.mse(alpha, problem.alpha),
        metrics.mse(alpha, problem.alpha, problem.trimap == UNKNOWN),
        metrics.gradient_error(alpha, problem.alpha),
        metrics.connectivity_error(alpha, problem.alpha),
        seconds,
    )


def all_scores(
    contestants: Sequence[Contestant],
    portraits: PortraitFolder,
    backgrounds: Path | None,
    count: int,
    seed: int,
    *,
    device: torch.device | None = None,
    observe: Callable[[int, int], None] | None = None,
) -> dict[str, list[Scores]]:
    """Each contestant's scores on the same problems, by label. The models are on `device`."""
    rows: dict[str, list[Scores]] = {contestant.label: [] for contestant in contestants}
    for done, problem in enumerate(problems(portraits, backgrounds, count, seed), start=1):
        here = problem.to(device or torch.device("cpu"))
        for contestant in contestants:
            rows[contestant.label].append(scores(contestant, here))
        if observe:
            observe(done, count)
    return rows


@dataclass(frozen=True)
class Ratio:
    """Of two means over the same problems, and where 95 of 100 such ratios lie if others like those are drawn."""

    ratio: float
    low: float
    high: float


def ratios(rows: Sequence[Scores], others: Sequence[Scores], seed: int = 0) -> dict[str, Ratio]:
    """SAD and MSE of one contestant to those of another on the same problems; the intervals are those of a percentile
    bootstrap over problems (Efron, *Bootstrap methods: another look at the jackknife*, Annals of Statistics 7, 1979).
    """
    drawn = np.random.default_rng(seed).integers(len(rows), size=(DRAWS, len(rows)))
    found = {}
    for error in ("sad", "mse"):
        pair = np.array([[getattr(scores, error) for scores in each] for each in (rows, others)])
        ours, theirs = pair[:, drawn].mean(2)
        low, high = np.percentile(ours / theirs, (2.5, 97.5))
        found[error] = Ratio(float(pair[0].mean() / pair[1].mean()), float(low), float(high))
    return found


def mean_scores(row: Sequence[Scores]) -> Scores:
    """The means of one contestant's scores."""
    columns = zip(*(astuple(scores) for scores in row), strict=True)
    return Scores(*(float(np.mean(column)) for column in columns))


def _covering(photo: np.ndarray, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """A largest window of `photo` with the proportions of `shape` (H, W), scaled to it: float32 in [0, 1]."""
    height, width = shape
    scale = min(photo.shape[0] / height, photo.shape[1] / width)
    window = (width * scale, height * scale)
    left, top = ((extent - side) * rng.random() for extent, side in zip(photo.shape[1::-1], window, strict=True))
    box = (left, top, left + window[0], top + window[1])
    resized = Image.fromarray(photo).resize((width, height), Image.Resampling.LANCZOS, box)
    return np.asarray(resized, np.float32) / np.float32(255)


def _tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(array.astype(np.float32)).permute(2, 0, 1).unsqueeze(0)
