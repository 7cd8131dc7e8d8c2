"""Predicted alphas against true ones: files matched by name, every error of the field, and a picture of the worst.

A photo may be `ann.jpg` in one folder, `ann.png` in the next and `ann_alpha.png` in a third.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sgmatte import metrics
from sgmatte.errors import DataError, UsageError
from sgmatte.forms import READ_SUFFIXES
from sgmatte.hostile import MAX_PIXELS
from sgmatte.masks import read_alpha, read_trimap
from sgmatte.photo import read_photo
from sgmatte.preview import contact_sheet
from sgmatte.trimaps import UNKNOWN

OPAQUE = 0.5  # IoU compares the pixels that are at least half opaque


@dataclass(frozen=True)
class Errors:
    """Of one alpha in one region, or means over photos; see `sgmatte.metrics` for definitions and units."""

    sad: float
    mse: float
    mad: float
    gradient: float
    connectivity: float
    iou: float


@dataclass(frozen=True)
class Case:
    """One photo's files."""

    name: str
    prediction: Path
    truth: Path
    trimap: Path | None = None
    photo: Path | None = None


@dataclass(frozen=True)
class Evaluation:
    """Errors over the whole image and, where there is a trimap, in its unknown region."""

    whole: Errors
    unknown: Errors | None = None

    @property
    def severity(self) -> float:
        """What the worst are chosen by: the mean squared difference, in unknown where that is known."""
        return (self.unknown or self.whole).mse

    def row(self) -> dict[str, float]:
        """All errors by column: `sad`, ..., and `sad_unknown`, ... with a trimap."""
        unknown = asdict(self.unknown) if self.unknown else {}
        return asdict(self.whole) | {f"{key}_unknown": value for key, value in unknown.items()}


@dataclass(frozen=True)
class Files:
    """Images by the name that they share with their partners: of a folder, or a single one."""

    place: Path
    by_name: Mapping[str, Path]

    def partner(self, name: str, truth: Path) -> Path:
        """The file that belongs to a truth; a single file is everyone's partner.

        Raises:
            DataError: there is none.
        """
        if self.place.is_file():
            return self.place
        if name not in self.by_name:
            raise DataError(
                f"{truth}: has no partner in {self.place}, where {name}.png or {name}_alpha.png was expected"
            )
        return self.by_name[name]


def files_at(place: Path, ending: str = "") -> Files:
    """The images of a folder, or the one file; `ending` is no part of a name: with "_alpha", ann_alpha.png is ann's.

    Raises:
        DataError: there is nothing, or there are two files for one name.
    """

    def name(path: Path) -> str:
        return path.stem.removesuffix(ending) or path.stem

    if place.is_file():
        return Files(place, {name(place): place})
    if not place.is_dir():
        raise DataError(f"{place}: no such file or folder")
    images = [path for path in sorted(place.iterdir()) if path.suffix.lower() in READ_SUFFIXES and path.name[0] != "."]
    if not images:
        raise DataError(f"{place}: holds no image ({', '.join(READ_SUFFIXES)})")
    found: dict[str, Path] = {}
    for path in images:
        first = found.setdefault(name(path), path)
        if first is path:
            continue
        if len(first.stem) == len(path.stem):
            raise DataError(f"{first} and {path.name} are both for {name(path)}; keep one of them")
        found[name(path)] = max(first, path, key=lambda each: len(each.stem))  # results may lie beside their photos
    return Files(place, found)


@dataclass(frozen=True)
class Material:
    """What is compared with what."""

    predictions: Files
    truths: Files
    trimaps: Files | None = None
    photos: Files | None = None

    def case(self, name: str) -> Case:
        """The files of one of `truths`.

        Raises:
            DataError: one of them is missing.
        """
        truth = self.truths.by_name[name]
        trimap, photo = (files.partner(name, truth) if files else None for files in (self.trimaps, self.photos))
        return Case(name, self.predictions.partner(name, truth), truth, trimap, photo)

    @property
    def without_truth(self) -> list[Path]:
        """Predictions that nothing can be said about."""
        names = self.predictions.by_name
        return [] if self.predictions.place.is_file() else [names[n] for n in names if n not in self.truths.by_name]


def material(predictions: Path, truths: Path, trimaps: Path | None = None, photos: Path | None = None) -> Material:
    """Files or folders to be compared.

    Raises:
        DataError: see `files_at`.
        UsageError: some are files and some folders.
    """
    found = Material(
        files_at(predictions, "_alpha"),
        files_at(truths, "_alpha"),
        files_at(trimaps, "_trimap") if trimaps else None,
        files_at(photos) if photos else None,
    )
    places = [place for place in (predictions, truths, trimaps, photos) if place]
    if len({place.is_dir() for place in places}) > 1:
        raise UsageError(f"{', '.join(map(str, places))}: give either a file each or a folder each")
    return found


def evaluation(case: Case, max_pixels: int = MAX_PIXELS) -> Evaluation:
    """All errors of one prediction.

    Raises:
        PhotoError, TrimapError: a file that cannot be read, or a trimap of another size or without unknown pixels.
        DataError: prediction and truth differ in size.
    """
    alpha, truth = _alphas(case, max_pixels)
    if case.trimap is None:
        return Evaluation(_errors(alpha, truth, None))
    height, width = truth.shape[2:]
    unknown = read_trimap(case.trimap, (height, width), complete=False) == UNKNOWN
    return Evaluation(_errors(alpha, truth, None), _errors(alpha, truth, unknown))


def _alphas(case: Case, max_pixels: int) -> tuple[Tensor, Tensor]:
    alpha, truth = read_alpha(case.prediction, max_pixels), read_alpha(case.truth, max_pixels)
    if alpha.shape != truth.shape:
        (h, w), (height, width) = alpha.shape[2:], truth.shape[2:]
        raise DataError(f"{case.prediction} is {w}x{h}, its truth {case.truth} {width}x{height} (width x height)")
    return alpha, truth


def _errors(alpha: Tensor, truth: Tensor, region: Tensor | None) -> Errors:
    ours, theirs = (a[region] if region is not None else a for a in (alpha, truth))
    return Errors(
        metrics.sad(alpha, truth, region),
        metrics.mse(alpha, truth, region),
        metrics.mad(alpha, truth, region),
        metrics.gradient_error(alpha, truth, region),
        metrics.connectivity_error(alpha, truth, region),
        metrics.iou(ours >= OPAQUE, theirs >= OPAQUE),
    )


def mean_evaluation(evaluations: Sequence[Evaluation]) -> Evaluation:
    """Means over photos, every photo counting the same. All of them have a trimap, or none has."""
    unknown = [each.unknown for each in evaluations if each.unknown]
    return Evaluation(_mean([each.whole for each in evaluations]), _mean(unknown) if unknown else None)


def _mean(rows: Sequence[Errors]) -> Errors:
    return Errors(*(float(np.mean([getattr(row, field.name) for row in rows])) for field in fields(Errors)))


def worst_picture(
    evaluated: Mapping[Case, Evaluation], count: int = 6, panel: int = 320, max_pixels: int = MAX_PIXELS
) -> np.ndarray:
    """The worst cases, a row each: photo where there is one, truth, prediction, error. uint8 (H, W, 3).

    In the error, red is too opaque, blue too transparent, white no error.
    """
    images: list[Tensor] = []
    labels: list[str] = []
    worst = sorted(evaluated, key=lambda case: evaluated[case].severity, reverse=True)[:count]
    for case in worst:
        alpha, truth = _alphas(case, max_pixels)
        errors = evaluated[case].unknown or evaluated[case].whole
        if case.photo:
            images.append(read_photo(case.photo, max_pixels).image)
            labels.append(case.name)
        images += [truth, alpha, error_colours(alpha, truth)]
        labels += ["truth" if case.photo else f"{case.name}: truth", "prediction"]
        labels.append(f"SAD {errors.sad:.2f}, MSE {errors.mse:.4f}" + (" unknown" if evaluated[case].unknown else ""))
    return contact_sheet(images, labels, columns=len(images) // len(worst), panel=panel)


def error_colours(alpha: Tensor, truth: Tensor) -> Tensor:
    """(1, 1, H, W) alphas -> (1, 3, H, W): white where equal, red where too opaque, blue where too transparent."""
    opaque, transparent = (alpha - truth).clamp(min=0), (truth - alpha).clamp(min=0)
    return 1 - torch.cat([transparent, opaque + transparent, opaque], dim=1)
