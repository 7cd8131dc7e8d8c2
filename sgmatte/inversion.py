"""Inversion: the latents and noise maps whose picture is a given face crop (Abdal, Qin, Wonka: Image2StyleGAN++, CVPR
2020: first W+, then noise).

The published way takes 8000 passes through the generator. Here W+ starts where an encoder guesses it, or at the mean
latent, and moves along the principal axes of W, each at its own width, under a loss at several scales that settles pose
and colours first; then W+ and noise maps move together. Large pictures are inverted small first: the trunk of the
generator is the same, so its rows and maps carry over.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from sgmatte.errors import UsageError
from sgmatte.generator import Generator
from sgmatte.metrics import psnr
from sgmatte.nn.perceptual import PerceptualDistance

Observe = Callable[[int, int, Mapping[str, float]], None]
"""Called with (steps done, steps at most, losses of the step)."""

SCALES = (1, 2, 4, 8)  # box averages at which pictures are compared


@dataclass(frozen=True)
class Stage:
    """One optimisation with Adam; rates fall to zero along a cosine."""

    steps: int
    rate: float  # of W+, in standard deviations of W along each axis
    noise_rate: float = 0.0  # of the noise maps; 0 leaves them alone


@dataclass(frozen=True)
class Schedule:
    """How the latents move, and what the losses weigh."""

    w_plus: Stage = Stage(60, 0.3)
    noise: Stage = Stage(105, 0.1, 0.8)
    again: Stage = Stage(45, 0.1, 0.8)  # from there on, where the noise stage has ended below `enough`
    fine: Stage = Stage(25, 0.02, 0.03)  # at full size, where the first two ran on a smaller generator
    perceptual: float = 0.02
    drift: float = 1e-5  # on the mean square of W+ along the axes: keeps it near the latents that the mapping makes
    noise_drift: float = 3e-4  # on the mean squared change of the noise maps, which would else draw the picture
    target: float = 36.0  # dB at which there is nothing left to gain
    enough: float = 30.0  # dB that a hard crop is given more steps for

    def __post_init__(self) -> None:
        if min(stage.steps for stage in (self.w_plus, self.noise, self.again, self.fine)) < 0:
            raise UsageError("an inversion cannot have fewer than 0 steps")


@dataclass(frozen=True)
class Inversion:
    """Where the crop was found.

    Attributes:
        w_plus, noise: latents (1, L, 512) and maps [(1, 1, r, r)].
        image: the generator's picture there, (1, 3, S, S), unclamped.
        psnr_after_w: PSNR to the crop, in dB, of the picture after the W+ stage.
        psnr: of `image`.
        losses: of every step, weighted: `pixels`, `perceptual`, `drift`, `noise drift`; and the `psnr`.
        seconds: wall time.
    """

    w_plus: Tensor
    noise: list[Tensor]
    image: Tensor
    psnr_after_w: float
    psnr: float
    losses: list[dict[str, float]]
    seconds: float


def inverted(
    generator: Generator,
    crop: Tensor,
    perceptual: PerceptualDistance | None = None,
    *,
    start: Tensor | None = None,
    schedule: Schedule | None = None,
    observe: Observe | None = None,
) -> Inversion:
    """The latents of a crop (1, 3, S, S) in [0, 1], S the generator's size. Nothing random is drawn.

    `start` is a guess at w, (1, latent); without one it is the mean. Without `perceptual`, pixels alone decide.

    Raises:
        UsageError: the crop is not of the generator's size.
    """
    schedule = schedule or Schedule()
    if tuple(crop.shape) != (1, 3, generator.size, generator.size):
        raise UsageError(f"the generator draws {generator.size} px; the crop is {tuple(crop.shape)}")
    started = time.monotonic()
    first = generator.coarse or generator
    axes = Axes.of(generator)
    stages = [schedule.w_plus, schedule.noise] + ([schedule.fine] if generator.coarse else [])
    progress = _Progress(sum(stage.steps for stage in stages), observe)
    small = F.avg_pool2d(crop, generator.size // first.size)
    search = _Search(first, small, perceptual, schedule, axes, progress)
    w_plus = (axes.mean if start is None else start[:, None]).repeat(1, first.layers, 1)
    noise = first.default_noise()
    w_plus, noise = search.run(schedule.w_plus, w_plus, noise)
    after_w = search.psnr(w_plus, noise)
    w_plus, noise = search.run(schedule.noise, w_plus, noise)
    if search.psnr(w_plus, noise) < schedule.enough:
        progress.steps += schedule.again.steps
        w_plus, noise = search.run(schedule.again, w_plus, noise)
    if generator.coarse:
        w_plus, noise = _carried_over(generator, w_plus, noise)
        search = _Search(generator, crop, perceptual, schedule, axes, progress)
        w_plus, noise = search.run(schedule.fine, w_plus, noise)
    with torch.no_grad():
        image = generator.synthesis(w_plus, noise)
    seconds = time.monotonic() - started
    return Inversion(w_plus, noise, image, after_w, psnr(image.clamp(0, 1), crop), progress.rows, seconds)


@torch.no_grad()
def inversion_at(generator: Generator, w_plus: Tensor, noise: Sequence[Tensor], crop: Tensor) -> Inversion:
    """An inversion made before, on the crop's device: nothing is optimised."""
    w_plus, maps = w_plus.to(crop.device), [m.to(crop.device) for m in noise]
    image = generator.synthesis(w_plus, maps)
    reached = psnr(image.clamp(0, 1), crop)
    return Inversion(w_plus, maps, image, reached, reached, [], 0.0)


@dataclass(frozen=True)
class Axes:
    """Principal axes of W: the columns of `basis` (512, 512), each as long as the standard deviation along it."""

    mean: Tensor  # (1, 1, 512)
    basis: Tensor

    @staticmethod
    def of(generator: Generator, count: int = 10_000, seed: int = 0) -> Axes:
        """Those of `count` mapped latents."""
        mean = generator.mean_w(count, seed)
        z = torch.randn(count, mean.shape[1], generator=torch.Generator().manual_seed(seed)).to(mean.device)
        with torch.no_grad():
            centred = generator.mapping(z) - mean
        variances, directions = torch.linalg.eigh(centred.T @ centred / count)
        least = 1e-5 * variances[-1]  # directions that W does not have must stay reachable from W+, if slowly
        return Axes(mean[:, None], directions * variances.clamp_min(least).sqrt())

    def coordinates(self, w_plus: Tensor) -> Tensor:
        """W+ (1, L, 512) in standard deviations along the axes."""
        return (w_plus - self.mean) @ (self.basis / self.basis.square().sum(0))

    def w_plus(self, coordinates: Tensor) -> Tensor:
        """The inverse of `coordinates`."""
        return self.mean + coordinates @ self.basis.T


def _carried_over(generator: Generator, w_plus: Tensor, noise: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """Latents of the coarse generator for the full one: the coarse head's row serves all rows that follow."""
    rest = w_plus[:, -1:].expand(-1, generator.layers - w_plus.shape[1], -1)
    return torch.cat((w_plus, rest), dim=1), [*noise, *generator.default_noise()[len(noise) :]]


@dataclass
class _Progress:
    """Losses so far, and who is told."""

    steps: int
    observe: Observe | None
    rows: list[dict[str, float]] = field(default_factory=list)

    def add(self, row: dict[str, float]) -> None:
        self.rows.append(row)
        if self.observe:
            self.observe(len(self.rows), self.steps, row)


@dataclass(frozen=True)
class _Search:
    """The latents of one crop in one generator."""

    generator: Generator
    crop: Tensor
    perceptual: PerceptualDistance | None
    schedule: Schedule
    axes: Axes
    progress: _Progress

    def run(self, stage: Stage, w_plus: Tensor, noise: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Latents and maps after a stage."""
        start = [m.detach() for m in self.generator.default_noise()]
        along = self.axes.coordinates(w_plus).detach().clone().requires_grad_()
        maps = [m.detach().clone().requires_grad_(stage.noise_rate > 0) for m in noise]
        groups = [{"params": [along], "rate": stage.rate}]
        if stage.noise_rate:
            groups.append({"params": maps, "rate": stage.noise_rate})
        optimizer = torch.optim.Adam(groups, betas=(0.9, 0.99))
        to_crop = self.perceptual.against(self.crop) if self.perceptual else None
        for step in range(stage.steps):
            image = self.generator.synthesis(self.axes.w_plus(along), maps)
            terms = {
                "pixels": pixel_distance(image, self.crop),
                "drift": self.schedule.drift * along.square().mean(),
            }
            if to_crop:
                terms["perceptual"] = self.schedule.perceptual * to_crop(image).mean()
            if stage.noise_rate:
                changes = [(m - before).square().mean() for m, before in zip(maps, start, strict=True)]
                terms["noise drift"] = self.schedule.noise_drift * torch.stack(changes).mean()
            reached = psnr(image.detach().clamp(0, 1), self.crop)
            self.progress.add({name: value.item() for name, value in terms.items()} | {"psnr": reached})
            if reached >= self.schedule.target:
                break
            for group in optimizer.param_groups:
                warm = min(1.0, (step + 1) / 5)
                group["lr"] = group["rate"] * warm * 0.5 * (1 + math.cos(math.pi * step / stage.steps))
            optimizer.zero_grad()
            torch.stack(list(terms.values())).sum().backward()
            optimizer.step()
        return self.axes.w_plus(along.detach()), [m.detach() for m in maps]

    @torch.no_grad()
    def psnr(self, w_plus: Tensor, noise: Sequence[Tensor]) -> float:
        return psnr(self.generator.synthesis(w_plus, noise).clamp(0, 1), self.crop)


def pixel_distance(image: Tensor, crop: Tensor) -> Tensor:
    """Mean squared difference, summed over `SCALES`: the coarse ones lead where the fine ones are far off."""
    difference = image - crop
    return torch.stack([F.avg_pool2d(difference, scale).square().mean() for scale in SCALES]).sum()
