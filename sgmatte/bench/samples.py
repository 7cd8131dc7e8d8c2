"""Is a generator's picture of a latent that of its teacher, and are its portraits as lifelike?

Lifelike is measured as usual, by the Frechet distance between features of real pictures and of drawn ones (Heusel et
al., "GANs Trained by a Two Time-Scale Update Rule", NeurIPS 2017, eq. 6), but on EfficientNet-Lite0, which is at hand,
in place of Inception: figures compare with one another, not with published ones. A student that was trained by what
that network sees does well in its eyes; so a second one, which took no part in any training, is asked too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sgmatte import zoo
from sgmatte.generator import Generator, MobileGenerator, StyleGAN2Generator
from sgmatte.metrics import psnr
from sgmatte.nn.efficientnet import EfficientNetLite0
from sgmatte.nn.selfie import SelfieSegmentation
from sgmatte.train.data import image_files, read_rgb
from sgmatte.train.teacher import Latents, Teacher

STAGE = "stage7"  # the last features, (320, H / 32, W / 32)
BATCH = 8

Observe = Callable[[int, int], None]


@dataclass(frozen=True)
class Likeness:
    """PSNR in dB to the teacher's pictures for the same w and noise maps, both clamped to [0, 1]; the first pairs."""

    latents: int
    psnr: float
    lowest: float
    wanted: list[Tensor] = field(repr=False)  # (1, 3, S, S)
    drawn: list[Tensor] = field(repr=False)


@torch.no_grad()
def likeness(
    student: StyleGAN2Generator,
    teacher: MobileGenerator,
    count: int = 500,
    seed: int = 1000,
    shown: int = 36,
    observe: Observe | None = None,
    truncation: float = 1.0,
) -> Likeness:
    """Compare on `count` latents drawn from a seed that no training uses, `truncation` of the way from the mean w."""
    source, latents = Teacher(teacher), Latents(512, student.noise_shapes, len(student.network.channels))
    mean = teacher.mean_w()
    values, wanted, drawn = [], [], []
    for number in range(count):
        sample = {key: value[None] for key, value in latents(np.random.default_rng((seed, number))).items()}
        w = torch.lerp(mean, source.w(sample["z"][:, 0].to(mean)), truncation)
        change, maps = sample["change"].to(mean.device), latents.maps(sample["noise"].to(mean))
        target = ((source.drawn_at(w[:, None].expand(-1, 2, -1), change, maps) + 1) / 2).clamp(0, 1)
        picture = student.synthesis(w[:, None].expand(-1, student.layers, -1), maps).clamp(0, 1)
        values.append(psnr(picture, target))
        if number < shown:
            wanted.append(target.cpu())
            drawn.append(picture.cpu())
        if observe:
            observe(number + 1, count)
    return Likeness(count, sum(values) / count, min(values), wanted, drawn)


@dataclass(frozen=True)
class Statistics:
    """Mean (C,) and covariance (C, C) of features, in float64."""

    mean: np.ndarray
    covariance: np.ndarray

    @staticmethod
    def of(features: np.ndarray) -> Statistics:
        """Of features (N, C)."""
        return Statistics(features.mean(0), np.cov(features, rowvar=False))


def frechet_distance(a: Statistics, b: Statistics) -> float:
    """Squared Wasserstein-2 distance of the two Gaussians."""
    # tr (A B)^1/2 from the eigenvalues of A B, which are those of a positive semidefinite matrix but for rounding
    eigenvalues = np.linalg.eigvals(a.covariance @ b.covariance).real.clip(0)
    traces = np.trace(a.covariance) + np.trace(b.covariance) - 2 * np.sqrt(eigenvalues).sum()
    return float(np.square(a.mean - b.mean).sum() + traces)


class Features:
    """What networks make of pictures, averaged over each: by `views`, a name for each network, (N, C, h, w)."""

    def __init__(self, device: torch.device) -> None:
        trained_by = zoo.load_into(EfficientNetLite0(), "efficientnet-lite0.imagenet").to(device)
        apart = zoo.load_into(SelfieSegmentation(), "selfie.mediapipe").to(device)
        self.views: dict[str, Callable[[Tensor], Tensor]] = {
            "efficientnet": lambda picture: trained_by(picture, (STAGE,))[STAGE],
            "selfie": lambda picture: apart.seen(picture)[-1],
        }
        self.device = device

    @torch.no_grad()
    def statistics(self, batches: Iterable[Tensor]) -> dict[str, Statistics]:
        """Of pictures, in batches (N, 3, H, W) in [0, 1], by the names of the networks."""
        found: dict[str, list[Tensor]] = {name: [] for name in self.views}
        for batch in batches:
            for name, view in self.views.items():
                found[name].append(view(batch.to(self.device)).mean((2, 3)).cpu())
        return {name: Statistics.of(torch.cat(rows).double().numpy()) for name, rows in found.items()}


@torch.no_grad()
def portraits(
    generator: Generator, count: int, seed: int, observe: Observe | None = None, truncation: float = 1.0
) -> Iterator[Tensor]:
    """`count` portraits of random z, `truncation` of the way from the mean w, in batches (N, 3, S, S) in [0, 1]."""
    random, mean = torch.Generator().manual_seed(seed), generator.mean_w()
    for first in range(0, count, BATCH):
        w = generator.mapping(torch.randn(min(BATCH, count - first), 512, generator=random).to(mean))
        w_plus = torch.lerp(mean, w, truncation)[:, None].expand(-1, generator.layers, -1)
        yield generator.synthesis(w_plus, generator.default_noise()).clamp(0, 1)
        if observe:
            observe(min(first + BATCH, count), count)


def pictures(folder: Path) -> Iterator[Tensor]:
    """The pictures of a folder, all of one size, in batches (N, 3, H, W) in [0, 1].

    Raises:
        DataError: there are none.
    """
    files = image_files(folder)
    for first in range(0, len(files), BATCH):
        batch = np.stack([read_rgb(file) for file in files[first : first + BATCH]])
        yield torch.from_numpy(batch).permute(0, 3, 1, 2) / 255
