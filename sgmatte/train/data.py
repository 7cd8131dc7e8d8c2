"""Folders of training data, and samples that depend on nothing but the seed and their number."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from sgmatte.errors import DataError
from sgmatte.hostile import MAX_PIXELS
from sgmatte.readers import opened_image
from sgmatte.train.team import Team

HELD_OUT = 16  # every 16th portrait is kept from trimap network and referee, for validation and their decision rules
IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff"}

Sample = Mapping[str, torch.Tensor]
Sampler = Callable[[np.random.Generator], Sample]


def image_files(folder: Path) -> list[Path]:
    """The images directly inside `folder`, sorted by name.

    Raises:
        DataError: the folder does not exist or holds no image.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
    if not files:
        raise DataError(f"{folder}: holds no image ({', '.join(sorted(IMAGE_SUFFIXES))})")
    return files


def read_rgb(path: Path) -> np.ndarray:
    """Training image as uint8 (H, W, 3), without turning it by its EXIF.

    Raises:
        PhotoError: as `read_photo`.
    """
    with opened_image(path, MAX_PIXELS) as image:
        return np.asarray(image.convert("RGB"))


def read_grey(path: Path) -> np.ndarray:
    """Mask or alpha as uint8 (H, W), 255 = foreground; raises like `read_rgb`."""
    with opened_image(path, MAX_PIXELS) as image:
        return np.asarray(image.convert("L"))


@dataclass(frozen=True)
class PortraitFolder:
    """A folder with image/, alpha/ and optionally mask/ and foreground/, whose files share their stems.

    `mask` is the safer target for who is foreground, `alpha` for where the boundary runs; `foreground` are the person's
    colours without the background.
    """

    folder: Path

    def __post_init__(self) -> None:
        self._check_complete("alpha", self.alphas)
        if (self.folder / "foreground").is_dir():
            self._check_complete("foreground", self.foregrounds)

    def _check_complete(self, kind: str, files: Mapping[str, Path]) -> None:
        missing = [p.stem for p in self.images if p.stem not in files]
        if missing:
            raise DataError(f"{self.folder / kind}: no {kind} for {missing[0]} and {len(missing) - 1} more images")

    @property
    def images(self) -> list[Path]:
        return image_files(self.folder / "image")

    @property
    def alphas(self) -> dict[str, Path]:
        return {path.stem: path for path in image_files(self.folder / "alpha")}

    @property
    def foregrounds(self) -> dict[str, Path]:
        """None where the folder has no foreground/."""
        folder = self.folder / "foreground"
        return {path.stem: path for path in image_files(folder)} if folder.is_dir() else {}

    @property
    def masks(self) -> dict[str, Path]:
        return {path.stem: path for path in image_files(self.folder / "mask")}


class NumberedSamples(Dataset[Sample]):
    """Sample k is drawn with a generator seeded by (seed, k), so a resumed training sees what an unbroken one would.

    Batches number `first` to `last` - 1 have `batch` samples for each member of a team; these are one member's.
    """

    def __init__(self, sampler: Sampler, seed: int, batch: int, first: int, last: int, team: Team) -> None:
        self.sampler, self.seed, self.batch, self.first, self.last, self.team = sampler, seed, batch, first, last, team

    def __len__(self) -> int:
        return (self.last - self.first) * self.batch

    def __getitem__(self, index: int) -> Sample:
        step, place = divmod(index, self.batch)
        number = ((self.first + step) * self.team.size + self.team.rank) * self.batch + place
        return self.sampler(np.random.default_rng((self.seed, number)))


def batches(
    sampler: Sampler,
    seed: int,
    batch: int,
    first_step: int,
    steps: int,
    *,
    workers: int = 0,
    team: Team = Team(),  # noqa: B008, it is frozen
) -> DataLoader[Sample]:
    """Batches number `first_step` to `steps` - 1, in order: of each the share of a member of the team."""
    samples = NumberedSamples(sampler, seed, batch, first_step, steps, team)
    return DataLoader(samples, batch_size=batch, shuffle=False, num_workers=workers, persistent_workers=False)
