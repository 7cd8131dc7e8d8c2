"""Whole composites, as photos are, with what the networks say of them from which a trimap comes.

Asking those takes longer than a step of training does, so a scene is made once and kept on disk.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageFilter

from sgmatte.train.composites import Foregrounds, Pixels, degraded, jittered
from sgmatte.train.data import HELD_OUT, Sample, Sampler, read_rgb
from sgmatte.trimaps import UNKNOWN, Opinions, TrimapNetwork, likeliest

SEED = 99  # the same scenes for every training: they are kept
UNTOUCHED = 0.12  # probability of the photo itself
WHOLE = 0.4  # probability of the whole photo; else a window of it
SMALLEST = 0.7  # sides of that window, at the least, in those of the photo


@dataclass(frozen=True)
class Scene:
    """A picture (H, W, 3) and its alpha (H, W), uint8, and what is said of it."""

    image: np.ndarray
    alpha: np.ndarray
    opinions: Opinions


@dataclass(frozen=True)
class WholePictures:
    """Draws pictures (H, W, 3) and their alphas (H, W), uint8: one of `people`, numbers in `foregrounds`, before a part
    of one of `backgrounds`; a share `untouched` where they were photographed.
    """

    foregrounds: Foregrounds
    people: list[int]
    backgrounds: list[Path]
    untouched: float = UNTOUCHED

    @classmethod
    def of(
        cls, foregrounds: Foregrounds, backgrounds: list[Path], held_out: bool = False, untouched: float = UNTOUCHED
    ) -> WholePictures:
        """Those of all but every 16th person; with `held_out`, of these."""
        people = [k for k in range(len(foregrounds)) if (k % HELD_OUT == 0) is held_out]
        return cls(foregrounds, people, backgrounds, untouched)

    def __call__(self, rng: np.random.Generator, person: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """One of a person: of number `person` in `people`, or of anybody."""
        number = self.people[int(rng.integers(len(self.people))) if person is None else person]
        whole = self.foregrounds[number]
        shrink = 1.0 if rng.random() < WHOLE else rng.uniform(SMALLEST, 1)
        height, width = (round(length * shrink) for length in whole.shape[:2])
        top, left = (int(rng.integers(a - b + 1)) for a, b in zip(whole.shape[:2], (height, width), strict=True))
        window = np.s_[top : top + height, left : left + width]
        alpha = np.asarray(whole[window][..., 3])
        if rng.random() < self.untouched:
            image = jittered(_unit(read_rgb(self.foregrounds.images[number])[window]), rng, 0.5)
        else:
            opacity = _unit(alpha)[..., None]
            colours = jittered(_unit(whole[window][..., :3]), rng, 1)
            image = opacity * colours + (1 - opacity) * jittered(self._behind((height, width), rng), rng, 1)
        image = np.round(np.clip(degraded(image.astype(np.float32), rng), 0, 1) * 255).astype(np.uint8)
        if rng.random() < 0.5:
            image, alpha = image[:, ::-1], alpha[:, ::-1]
        return np.ascontiguousarray(image), np.ascontiguousarray(alpha)

    def _behind(self, size: tuple[int, int], rng: np.random.Generator) -> Pixels:
        """A part of a background with the proportions of `size`, at that size; sometimes out of focus."""
        photo = Image.fromarray(read_rgb(self.backgrounds[int(rng.integers(len(self.backgrounds)))]))
        height, width = size
        scale = min(photo.width / width, photo.height / height) * rng.uniform(0.5, 1)
        left, top = (photo.width - width * scale) * rng.random(), (photo.height - height * scale) * rng.random()
        box = (left, top, left + width * scale, top + height * scale)
        photo = photo.resize((width, height), Image.Resampling.LANCZOS, box)
        if rng.random() < 0.5:
            photo = photo.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        if rng.random() < 0.4:
            photo = photo.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.5, 8))))
        return _unit(np.asarray(photo))


@dataclass(frozen=True)
class Scenes:
    """`count` of `pictures`; the first ones show everybody once."""

    pictures: WholePictures
    count: int
    network: TrimapNetwork
    kept: Path  # the folder of their files

    @classmethod
    def of(
        cls,
        foregrounds: Foregrounds,
        backgrounds: list[Path],
        count: int,
        network: TrimapNetwork,
        held_out: bool = False,
    ) -> Scenes:
        """`count` scenes of all but every 16th person; with `held_out`, of these. They are kept beside the foregrounds,
        for these networks.
        """
        folder = f"{'held-out' if held_out else 'scenes'}-{_digest(network)}"
        return cls(WholePictures.of(foregrounds, backgrounds, held_out), count, network, foregrounds.cache / folder)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, k: int) -> Scene:
        path = self.kept / f"{k}.npz"
        if not path.exists():
            person = k if k < len(self.pictures.people) else None
            self._keep(path, *self.pictures(np.random.default_rng((SEED, k)), person))
        with np.load(path) as kept:
            image, alpha = kept["image"], kept["alpha"]
            logits, persons = (torch.from_numpy(kept[name].astype(np.float32)) for name in ("logits", "persons"))
        return Scene(image, alpha, Opinions(self.network.working(_batch(image)), logits, persons))

    def fill_cache(self, observe: Callable[[int, int], None] | None = None) -> None:
        for k in range(self.count):
            self[k]
            if observe:
                observe(k + 1, self.count)

    def _keep(self, path: Path, image: np.ndarray, alpha: np.ndarray) -> None:
        place = next(self.network.parameters()).device
        said = self.network.opinions(_batch(image).to(place))
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}.part")
        with partial.open("wb") as file:
            logits, persons = (x.half().cpu().numpy() for x in (said.logits, said.persons))
            np.savez(file, image=image, alpha=alpha, logits=logits, persons=persons)
        os.replace(partial, path)


def _digest(network: TrimapNetwork) -> str:
    """Of the networks whose opinions are kept; the referee's are not."""
    digest = hashlib.sha256()
    for asked in (network.network, *(network.panel.others if network.panel else ())):
        for name, value in sorted(asked.state_dict().items()):
            digest.update(name.encode() + value.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:12]


def _batch(image: np.ndarray) -> torch.Tensor:
    """uint8 (H, W, 3) -> (1, 3, H, W) in [0, 1]."""
    return torch.from_numpy(image).permute(2, 0, 1)[None] / 255


def _unit(array: np.ndarray) -> Pixels:
    return array.astype(np.float32) / np.float32(255)


BIASES = (-1.0, 1.5)  # of the unknown logit: a band is not always as wide as the network would have it
ASIDE = 1 / 3  # of a crop's side: how far its middle may lie from the unknown pixel that it is chosen for


@dataclass(frozen=True)
class FoundTrimaps:
    """Samples as those of `sampler`, `size` pixels a side, but a share of them are parts of scenes, with the trimaps
    that the network finds there: wide where it does not know, wrong in places, and never parallel to the boundary.
    """

    sampler: Sampler
    scenes: Scenes
    share: float
    size: int
    zoom: float  # parts of scenes cover 1 to so many times `size`

    def __call__(self, rng: np.random.Generator) -> Sample:
        if rng.random() >= self.share:
            return self.sampler(rng)
        scene = self.scenes[int(rng.integers(len(self.scenes)))]
        height, width = scene.alpha.shape
        trimap = self._trimap(scene, rng)
        side = min(round(self.size * self.zoom ** rng.random()), height, width)
        unknown = np.flatnonzero(trimap == UNKNOWN)
        middle = int(unknown[rng.integers(len(unknown))]) if len(unknown) else trimap.size // 2
        y, x = np.array(divmod(middle, width)) + rng.integers(-int(side * ASIDE), int(side * ASIDE) + 1, 2)
        top, left = (int(np.clip(a - side // 2, 0, b - side)) for a, b in ((y, height), (x, width)))
        window = np.s_[top : top + side, left : left + side]
        flip = -1 if rng.random() < 0.5 else 1

        def part(array: np.ndarray, resample: Image.Resampling) -> torch.Tensor:
            seen = np.asarray(Image.fromarray(array[window]).resize((self.size, self.size), resample))
            return torch.from_numpy(np.atleast_3d(seen[:, ::flip]).transpose(2, 0, 1).copy())

        return {
            "image": part(scene.image, Image.Resampling.LANCZOS).float() / 255,
            "trimap": part(trimap, Image.Resampling.NEAREST).long(),
            "alpha": part(scene.alpha, Image.Resampling.LANCZOS).float() / 255,
        }

    def _trimap(self, scene: Scene, rng: np.random.Generator) -> np.ndarray:
        """Classes (H, W), uint8."""
        logits = self.scenes.network.settled(scene.opinions)
        logits[:, UNKNOWN] += float(rng.uniform(*BIASES))
        whole = F.interpolate(logits, scene.alpha.shape, mode="bilinear", align_corners=False)
        return likeliest(whole)[0, 0].numpy().astype(np.uint8)
