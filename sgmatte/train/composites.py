"""Composites with known alpha: cut-out portraits on other backgrounds, with random trimaps.

The alphas of a portrait folder may be estimates; those of a composite are exact, because the composite is made from
them.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageFilter
from scipy import ndimage
from torch import Tensor

from sgmatte.errors import DataError, UsageError
from sgmatte.foreground import foreground_colours
from sgmatte.train.data import PortraitFolder, Sample, image_files, read_grey, read_rgb

SOFT = (0.05, 0.95)  # alpha between these is soft; trimaps keep it unknown
RESERVED_EVERY = 5  # backgrounds 4, 9, 14, ... by name are for evaluation and never trained on

Pixels = np.ndarray  # float32 (H, W, 3) or (H, W) in [0, 1]


def training_backgrounds(folder: Path) -> list[Path]:
    """The backgrounds that `sgmatte train` may use: all but every fifth by name."""
    return [path for k, path in enumerate(image_files(folder)) if k % RESERVED_EVERY != RESERVED_EVERY - 1]


def reserved_backgrounds(folder: Path) -> list[Path]:
    """Every fifth background by name, kept for evaluation."""
    return image_files(folder)[RESERVED_EVERY - 1 :: RESERVED_EVERY]


@dataclass(frozen=True)
class Foregrounds:
    """Portraits as uint8 (H, W, 4) arrays of foreground colours and alpha, kept on disk once computed.

    The colours are estimated, but for portraits of which `colours` has a file.
    """

    images: list[Path]
    alphas: list[Path]
    cache: Path
    colours: Mapping[str, Path] = field(default_factory=dict)  # by stem

    @classmethod
    def of(cls, portraits: PortraitFolder, cache: Path) -> Foregrounds:
        images, alphas = portraits.images, portraits.alphas
        return cls(images, [alphas[path.stem] for path in images], cache, portraits.foregrounds)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, k: int) -> np.ndarray:
        """Foreground k, memory-mapped: reading a crop touches only its rows."""
        path = self.cache / f"{self.images[k].stem}.npy"
        if not path.exists():
            found = self._computed(k)
            self.cache.mkdir(parents=True, exist_ok=True)
            partial = path.with_suffix(f".{os.getpid()}.part")
            with partial.open("wb") as file:
                np.save(file, found)
            os.replace(partial, path)
        return np.load(path, mmap_mode="r")

    def _computed(self, k: int) -> np.ndarray:
        """Raises DataError where files of a portrait differ in size."""
        alpha, stem = read_grey(self.alphas[k]), self.images[k].stem
        colours = read_rgb(self.colours[stem] if stem in self.colours else self.images[k])
        if colours.shape[:2] != alpha.shape:
            raise DataError(f"{self.alphas[k]}: has another size than its colours; images and alphas belong together")
        if stem not in self.colours:
            estimated = foreground_colours(colours / np.float32(255), alpha / np.float32(255))
            colours = np.round(estimated * 255).astype(np.uint8)
        return np.dstack((colours, alpha))

    @classmethod
    def extra(cls, folder: Path, cache: Path) -> Foregrounds:
        """Those of a folder beside the one that is trained on. Folders of `sgmatte generate` have the same names in
        them, so each has its own inside `cache`.

        Raises:
            DataError: it lacks images or alphas.
        """
        digest = hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:12]
        return cls.of(PortraitFolder(folder), cache / f"extra-{digest}")

    def fill_cache(self, observe: Callable[[int, int], None] | None = None) -> None:
        for k in range(len(self)):
            self[k]
            if observe:
                observe(k + 1, len(self))


@dataclass(frozen=True)
class CompositeSampler:
    """Draws one training sample per random generator: image (3, S, S), trimap (1, S, S) int64, alpha (1, S, S).

    Crops of 1 to `zoom` times `size` are centred on a soft pixel and scaled to `size`, so the network meets hair at
    several scales. Some samples are the untouched photo with its own alpha: no composite has the light of a real one.

    With `layers`, samples also have the foreground and background (3, S, S) that alpha makes a composite of: for an
    untouched photo its own colours, and a background that it was not taken before, for nobody knows its own.

    With `extra`, a share of the samples shows people of those instead, in each of these ways: their alphas are as exact
    over their own pictures as those of `foregrounds` are. Without, nothing else is drawn from the generator.
    """

    foregrounds: Foregrounds
    backgrounds: list[Path]
    size: int = 256
    zoom: float = 1.9
    band: float = 40  # widest trimap band on either side of the boundary, in pixels of the photo
    untouched: float = 0.15  # probability of the photo itself
    pairs: float = 0.15  # probability of two people over each other
    layers: bool = False
    extra: Foregrounds | None = None
    extra_share: float = 0.3  # probability of a person of `extra`

    def __call__(self, rng: np.random.Generator) -> Sample:
        extra = self.extra if self.extra and rng.random() < self.extra_share else None
        people = extra or self.foregrounds
        k = int(rng.integers(len(people)))
        whole = people[k]
        side = round(self.size * self.zoom ** rng.random())
        if extra:  # generated portraits are small, and a band is as wide as the crop that there is says
            side = min(side, *whole.shape[:2])
        background = None
        if rng.random() < self.untouched:
            rgba = np.dstack((read_rgb(people.images[k]), whole[..., 3]))
            image, alpha = self._crop(rgba, side, rng)
            colours = image = jittered(image, rng, 0.5)
        else:
            colours, alpha = self._crop(whole, side, rng)
            colours = jittered(colours, rng, 1)
            if rng.random() < self.pairs:
                other = people[int(rng.integers(len(people)))]
                behind, alpha_behind = self._crop(other, side, rng)
                colours, alpha = over(colours, alpha, jittered(behind, rng, 1), alpha_behind)
            background = jittered(self._background(rng), rng, 1)
            image = alpha[..., None] * colours + (1 - alpha[..., None]) * background
        image = degraded(image, rng)
        trimap = random_trimap(alpha, rng, self.size / side, self.band)
        sample = {
            "image": _planes(image),
            "trimap": torch.from_numpy(trimap[None]),
            "alpha": torch.from_numpy(alpha[None]),
        }
        if self.layers:
            background = jittered(self._background(rng), rng, 1) if background is None else background
            sample |= {"foreground": _planes(colours), "background": _planes(background)}
        return sample

    def _crop(self, rgba: np.ndarray, side: int, rng: np.random.Generator) -> tuple[Pixels, Pixels]:
        """Square window around a soft pixel, perhaps turned and flipped, scaled to `size`: colours and alpha."""
        height, width = rgba.shape[:2]
        angle = float(rng.uniform(-12, 12)) if rng.random() < 0.4 else 0.0
        window = min(round(side * 1.2) if angle else side, height, width)  # room for the corners of the turned square
        y, x = _soft_pixel(rgba[..., 3], rng)
        top = int(np.clip(y - window // 2, 0, height - window))
        left = int(np.clip(x - window // 2, 0, width - window))
        patch = np.asarray(rgba[top : top + window, left : left + window])
        if rng.random() < 0.5:
            patch = patch[:, ::-1]
        margin = (window - min(side, window)) / 2
        box = (margin, margin, window - margin, window - margin)
        # Colours and alpha apart: Pillow's RGBA filters would drop the colours under alpha 0.
        colours, alpha = Image.fromarray(patch[..., :3].copy()), Image.fromarray(patch[..., 3].copy())
        if angle:
            colours = colours.rotate(angle, Image.Resampling.BICUBIC)
            alpha = alpha.rotate(angle, Image.Resampling.BICUBIC)
        return (
            _unit(colours.resize((self.size, self.size), Image.Resampling.LANCZOS, box)),
            _unit(alpha.resize((self.size, self.size), Image.Resampling.LANCZOS, box)),
        )

    def _background(self, rng: np.random.Generator) -> Pixels:
        """A crop of a background photo, of another portrait, or a plain colour; sometimes out of focus."""
        kind = rng.random()
        if kind < 0.1:
            ends = rng.random((2, 1, 1, 3)).astype(np.float32)
            ramp = np.linspace(0, float(rng.random()), self.size, dtype=np.float32)[:, None, None]
            return np.broadcast_to(ends[0] + (ends[1] - ends[0]) * ramp, (self.size, self.size, 3)).copy()
        paths = self.backgrounds if kind < 0.75 else self.foregrounds.images
        photo = Image.fromarray(read_rgb(paths[int(rng.integers(len(paths)))]))
        window = round(min(photo.size) * rng.uniform(0.35, 1))
        left, top = (int(rng.integers(extent - window + 1)) for extent in photo.size)
        box = (left, top, left + window, top + window)
        photo = photo.resize((self.size, self.size), Image.Resampling.LANCZOS, box)
        if rng.random() < 0.5:
            photo = photo.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        if rng.random() < 0.4:
            photo = photo.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.5, 8))))
        return _unit(photo)


def with_extra(sampler: CompositeSampler, extra: Foregrounds | None, share: float) -> CompositeSampler:
    """`sampler`, a share of whose samples shows people of `extra`.

    Raises:
        UsageError: a share that does not lie between 0 and 1.
    """
    if not 0 <= share <= 1:
        raise UsageError(f"--extra-weight lies between 0 and 1, not at {share:g}")
    return replace(sampler, extra=extra, extra_share=share)


def over(front: Pixels, alpha: Pixels, back: Pixels, alpha_back: Pixels) -> tuple[Pixels, Pixels]:
    """Two foregrounds as one: colours and alpha of `front` over `back` (Porter and Duff 1984)."""
    weight = ((1 - alpha) * alpha_back)[..., None]
    united = alpha + weight[..., 0]
    colours = (alpha[..., None] * front + weight * back) / np.maximum(united, 1e-4)[..., None]
    return np.where(united[..., None] > 1e-4, colours, front), np.minimum(united, 1)


def random_trimap(alpha: Pixels, rng: np.random.Generator, scale: float = 1.0, widest: float = 40) -> np.ndarray:
    """Classes 0, 1, 2 (int64), the soft band widened by 5 to `widest` pixels, times `scale`, on either side.

    Half of the bands vary in width along the boundary, as drawn or predicted trimaps do; half count every alpha between
    0 and 1 as soft, as `trimaps.band_trimap` does, the others only what an eye would call so.
    """
    low, high = SOFT if rng.random() < 0.5 else (1.5 / 255, 253.5 / 255)
    inside, outside = (np.exp(rng.uniform(np.log(5), np.log(widest), 2)) * scale).astype(np.float32)
    bumps = np.ones_like(alpha)
    if rng.random() < 0.5:
        coarse = Image.fromarray(rng.uniform(0.3, 1.7, (6, 6)).astype(np.float32))
        bumps = np.asarray(coarse.resize(alpha.shape[::-1], Image.Resampling.BICUBIC))
    trimap = np.ones(alpha.shape, np.int64)
    trimap[_depth(alpha > high) > inside * bumps] = 2
    trimap[_depth(alpha < low) > outside * bumps] = 0
    return trimap


def jittered(image: Pixels, rng: np.random.Generator, strength: float) -> Pixels:
    """Random gamma, exposure, contrast, saturation and colour cast."""
    gamma, gain, contrast, saturation = np.exp(rng.normal(0, 0.15 * strength, 4)).astype(np.float32)
    cast = np.exp(rng.normal(0, 0.04 * strength, 3)).astype(np.float32)
    image = np.clip(image, 1e-4, 1) ** gamma * (gain * cast)
    mean = image.mean(dtype=np.float32)
    image = mean + (image - mean) * contrast
    grey = image.mean(2, keepdims=True)
    return np.clip(grey + (image - grey) * saturation, 0, 1)


def degraded(image: Pixels, rng: np.random.Generator) -> Pixels:
    """Random softness, sensor noise and JPEG, each on some samples, in the order in which a camera applies them."""
    if rng.random() < 0.2:
        blurred = Image.fromarray(np.round(image * 255).astype(np.uint8))
        image = _unit(blurred.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.3, 1.2)))))
    if rng.random() < 0.4:
        image = np.clip(image + rng.normal(0, rng.uniform(0.002, 0.03), image.shape), 0, 1)
    if rng.random() < 0.4:
        file = io.BytesIO()
        Image.fromarray(np.round(image * 255).astype(np.uint8)).save(file, "JPEG", quality=int(rng.integers(50, 98)))
        image = _unit(Image.open(file))
    return image


def _soft_pixel(alpha: np.ndarray, rng: np.random.Generator) -> tuple[int, int]:
    """A random pixel of the soft band; the middle of the picture where there is none."""
    low, high = (round(255 * value) for value in SOFT)
    soft = np.flatnonzero((alpha > low) & (alpha < high))
    if not len(soft):
        return alpha.shape[0] // 2, alpha.shape[1] // 2
    y, x = divmod(int(soft[rng.integers(len(soft))]), alpha.shape[1])
    return y, x


def _depth(region: np.ndarray) -> np.ndarray:
    """Distance of each pixel of `region` to the nearest pixel outside it; everywhere infinite if nothing is outside."""
    if region.all():
        return np.full(region.shape, np.inf)
    return ndimage.distance_transform_edt(region)


def _unit(image: Image.Image) -> Pixels:
    return np.asarray(image, np.float32) / np.float32(255)


def _planes(pixels: Pixels) -> Tensor:
    """(H, W, 3) as (3, H, W)."""
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1), np.float32))
