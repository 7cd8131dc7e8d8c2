"""Portraits as training views: whole, in part, as head crops, in other places, as another camera would show them."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageFilter

from sgmatte.device import pymatting
from sgmatte.errors import DataError
from sgmatte.train.data import PortraitFolder, Sample, read_grey, read_rgb
from sgmatte.train.loop import Observe
from sgmatte.trimaps import band_trimap

CACHED_SIDE = 512  # longest side that decoded photos are kept at: 1,280 portraits take 1.3 GB

MOVED = 0.4  # share of views whose person stands before another background

Size = tuple[int, int]
"""Height and width."""


@dataclass(frozen=True)
class Portrait:
    """A decoded portrait: colours (RGB), alpha (L) and classes (L: trimap class + 128 where the mask is set)."""

    image: Image.Image
    alpha: Image.Image
    classes: Image.Image
    head: tuple[float, float, float]  # x of the head's middle, y of its top, side of a crop around it, in pixels


def portraits(folder: Path, band: float, observe: Observe | None = None) -> list[Portrait]:
    """Every portrait of `folder`, decoded once; for `band` see `portrait`.

    Raises:
        DataError: see `PortraitFolder`; also where a mask is missing.
    """
    files = PortraitFolder(folder)
    images, alphas, masks = files.images, files.alphas, files.masks
    decoded = []
    for number, path in enumerate(images, start=1):
        if path.stem not in masks:
            raise DataError(f"{folder / 'mask'}: no mask for {path.stem}")
        decoded.append(portrait(read_rgb(path), read_grey(alphas[path.stem]), read_grey(masks[path.stem]), band))
        if observe and number % 200 == 0:
            observe(number, len(images), {"decoded": number})
    return decoded


def portrait(image: np.ndarray, alpha: np.ndarray, mask: np.ndarray, band: float) -> Portrait:
    """A `Portrait` from uint8 arrays (H, W, 3), (H, W), (H, W).

    `band` is how far the unknown band reaches past soft alpha, as a share of the photo's longest side.
    """
    height, width = alpha.shape
    scale = CACHED_SIDE / max(height, width)
    size = round(width * scale), round(height * scale)
    images = [Image.fromarray(array).resize(size, Image.Resampling.BOX) for array in (image, alpha, mask)]
    inside = np.asarray(images[2]) > 127
    trimap = band_trimap(torch.tensor(np.asarray(images[1]))[None, None] / 255, band * CACHED_SIDE)[0, 0].numpy()
    classes = Image.fromarray((trimap + 128 * inside).astype(np.uint8))
    return Portrait(images[0], images[1], classes, _head(inside))


def _head(mask: np.ndarray) -> tuple[float, float, float]:
    """Where the head must be in a head-and-shoulders portrait: at the top of the mask, half as wide as the frame."""
    rows = np.flatnonzero(mask.sum(1) > 0.05 * mask.shape[1])
    top, side = (float(rows[0]) if len(rows) else 0.0), 0.6 * mask.shape[1]
    columns = np.flatnonzero(mask[int(top) : int(top + 0.5 * side)].any(0))
    return (float(columns.mean()) if len(columns) else mask.shape[1] / 2), top, side


class Views:
    """Draws training samples: image (3, H, W) in [0, 1], trimap (H, W) int64 and mask (H, W) float.

    Some people move onto `backgrounds`, where there are any. `size` is the height and width of a view.
    """

    def __init__(self, people: Sequence[Portrait], backgrounds: Sequence[Image.Image], size: Size) -> None:
        self.people, self.backgrounds, self.size = people, backgrounds, size

    def __call__(self, rng: np.random.Generator) -> Sample:
        person = self.people[int(rng.integers(len(self.people)))]
        moved = bool(self.backgrounds) and rng.random() < MOVED
        grid = _placed(person, self.size, rng) if moved else _viewed(person, self.size, rng)
        image = np.asarray(_sampled(person.image, grid, self.size, Image.Resampling.BILINEAR))
        classes = np.asarray(_sampled(person.classes, grid, self.size, Image.Resampling.NEAREST))
        if moved:
            alpha = np.asarray(_sampled(person.alpha, grid, self.size, Image.Resampling.BILINEAR))
            image = _on_background(image, alpha, self.backgrounds[int(rng.integers(len(self.backgrounds)))], rng)
        image = photographed(image, rng)
        return {
            "image": torch.from_numpy(image).permute(2, 0, 1),
            "trimap": torch.from_numpy((classes & 3).astype(np.int64)),
            "mask": torch.from_numpy((classes >= 128).astype(np.float32)),
        }


def _grid(
    centre: tuple[float, float], zoom: float, view: Size, rng: np.random.Generator, anchor: float = 0.5
) -> np.ndarray:
    """Affine map (2, 3) from view to photo pixels: rotated, flipped, `zoom` photo pixels per view pixel.

    `centre` in the photo comes to lie in the middle of the view's row at height `anchor`.
    """
    turn = np.deg2rad(rng.normal(0, 5)) if rng.random() < 0.5 else 0.0
    stretch = np.exp(rng.normal(0, 0.04))
    flip = -1 if rng.random() < 0.5 else 1
    matrix = zoom * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    matrix = matrix @ np.diag([flip * stretch, 1 / stretch])
    middle = np.array([view[1] / 2, view[0] * anchor])
    return np.column_stack([matrix, np.array(centre) - matrix @ middle])


def _viewed(person: Portrait, view: Size, rng: np.random.Generator) -> np.ndarray:
    """The whole photo, a part of it, or the head filling the frame."""
    width, height = person.image.size
    whole = max(width / view[1], height / view[0])
    kind = rng.random()
    if kind < 0.55:
        zoom = whole * rng.uniform(0.75, 1.02)
        centre = _within(width, zoom * view[1], rng), _within(height, zoom * view[0], rng)
    elif kind < 0.8:
        zoom = whole * rng.uniform(0.35, 0.75)
        centre = _within(width, zoom * view[1], rng), _within(height, zoom * view[0], rng)
    else:
        x, top, side = person.head
        side *= rng.uniform(0.8, 1.5)
        zoom = side / view[1]
        centre = x + rng.normal(0, 0.06) * side, top + rng.uniform(0.4, 0.65) * side
    return _grid(centre, zoom, view, rng)


def _within(length: float, window: float, rng: np.random.Generator) -> float:
    """Middle of a window that stays inside `length`, where it fits."""
    return length / 2 if window >= length else rng.uniform(window / 2, length - window / 2)


def _placed(person: Portrait, view: Size, rng: np.random.Generator) -> np.ndarray:
    """The person smaller or larger, anywhere sideways, still cut off by the lower edge as in the photo."""
    width, height = person.image.size
    zoom = max(width / view[1], height / view[0]) * np.exp(rng.uniform(np.log(0.6), np.log(2.2)))
    sideways = rng.uniform(-0.3, 0.3) * zoom * view[1]
    return _grid((width / 2 + sideways, height * rng.uniform(0.93, 0.99)), zoom, view, rng, anchor=1.0)


def _sampled(image: Image.Image, grid: np.ndarray, view: Size, resample: Image.Resampling) -> Image.Image:
    coarse = np.hypot(grid[0, 0], grid[1, 0])
    if coarse >= 1.6 and resample is Image.Resampling.BILINEAR:  # averaged first, or the view would alias
        factor = round(coarse)
        image, grid = image.reduce(factor), grid / factor
    return image.transform(view[::-1], Image.Transform.AFFINE, tuple(grid.ravel()), resample)


def _on_background(
    image: np.ndarray, alpha: np.ndarray, background: Image.Image, rng: np.random.Generator
) -> np.ndarray:
    """Composite of the person, in foreground colours, over a random part of `background`; uint8 (H, W, 3)."""
    height, width = alpha.shape
    opacity = alpha[..., None].astype(np.float32) / 255
    foreground = pymatting().estimate_foreground_ml(image.astype(np.float64) / 255, opacity[..., 0].astype(np.float64))
    share = rng.uniform(0.5, 1.0) * min(background.width / width, background.height / height)
    left = rng.uniform(0, background.width - share * width)
    top = rng.uniform(0, background.height - share * height)
    box = left, top, left + share * width, top + share * height
    behind = background.resize((width, height), Image.Resampling.BILINEAR, box=box)
    if rng.random() < 0.4:  # shallow depth of field
        behind = behind.filter(ImageFilter.GaussianBlur(rng.uniform(1, 6)))
    composite = opacity * np.clip(foreground, 0, 1) + (1 - opacity) * np.asarray(behind, np.float32) / 255
    return (composite * 255).astype(np.uint8)


def photographed(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """What other cameras and files make of a picture: blur, JPEG, exposure, colour, grey, noise.

    Args:
        image: uint8 (H, W, 3).

    Returns:
        float32 (H, W, 3) in [0, 1].
    """
    picture = Image.fromarray(image)
    if rng.random() < 0.15:
        picture = picture.filter(ImageFilter.GaussianBlur(rng.uniform(0.4, 2.0)))
    if rng.random() < 0.3:
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=int(rng.integers(25, 90)))
        picture = Image.open(file)
    values = np.asarray(picture, np.float32) / 255
    values = values ** np.float32(np.exp(rng.normal(0, 0.25)))  # gamma
    values = values * (1 + rng.normal(0, 0.06, 3)).astype(np.float32)  # white balance
    values = (values - values.mean()) * np.float32(np.exp(rng.normal(0, 0.2))) + values.mean()  # contrast
    values = values + np.float32(rng.normal(0, 0.06))  # brightness
    grey = values.mean(2, keepdims=True)
    saturation = 0.0 if rng.random() < 0.1 else np.exp(rng.normal(0, 0.3))
    values = grey + np.float32(saturation) * (values - grey)
    if rng.random() < 0.2:
        values = values + rng.normal(0, rng.uniform(0.005, 0.05), values.shape).astype(np.float32)
    return np.clip(values, 0, 1).astype(np.float32)
