"""A small StyleGAN2 taught by MobileStyleGAN, whose W it shares: `sgmatte train generator`.

Pixels alone teach too slowly: most of what a generator must learn lies in its hidden features. The teacher's are there
for every resolution, so the student's own are asked for them at each, by way of a linear readout (Romero et al.,
*FitNets*, ICLR 2015), from the coarsest on: a lesson goes as far as one resolution, and the next begins with what it
left. Each lesson trains all stages up to its own, on what the stages before really give.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sgmatte.device import fast_in_bf16
from sgmatte.generator import MobileGenerator
from sgmatte.nn import stylegan2
from sgmatte.nn.perceptual import PerceptualDistance
from sgmatte.train.data import Sample
from sgmatte.train.loop import Observe, Recipe, fit

CHANNELS = (256, 256, 256, 256, 192, 128, 64)  # at 4, 8 ... 256 pixels: 17 MB in half precision
MIXED = 0.5  # share of pictures whose finer resolutions come from a second w, so that W+ is learned as well as W
NOISE = 0.1  # strength of the noise maps to begin with
HELD_OUT_SEED = 1_000_000  # apart from every training seed that a person would type
EXAMPLES = 64  # pictures for validation


@dataclass(frozen=True)
class Lesson:
    """A part of the training: the student's first `stages` resolutions (4, 8 ...), all at once.

    Its weights of the losses are those of `Classroom.terms`; without one for pixels, the teacher draws no picture.
    """

    name: str
    stages: int
    steps: int
    batch: int
    lr: float
    pixels: float = 0.0
    perceptual: float = 0.0


LESSONS = (
    Lesson("32", stages=4, steps=3000, batch=16, lr=4e-3),
    Lesson("128", stages=6, steps=2000, batch=8, lr=3e-3, pixels=10),
    Lesson("256", stages=7, steps=4000, batch=8, lr=3e-3, pixels=10, perceptual=1),
)


class Teacher:
    """MobileStyleGAN's trunk and short head: features at every resolution but the finest, and the picture.

    Noise maps are drawn anew for each picture, at the strength of the maps that came with the weights: were they
    constant, the student could ignore its own.
    """

    def __init__(self, generator: MobileGenerator) -> None:
        self.mapping, self.synthesis = generator.networks
        self.strengths = [float(noise.std()) for noise in self.synthesis.noise]
        self.channels = [self.synthesis.config.constant, *self.synthesis.config.blocks]

    @torch.no_grad()
    def w(self, z: Tensor) -> Tensor:
        return self.mapping(z)

    @torch.no_grad()
    def features(self, w: Tensor, change: Tensor, noise: Sequence[Tensor], stages: int) -> list[Tensor]:
        """Features [(N, C, r, r)] of the first `stages` resolutions, as far as it has them; w as in `picture`."""
        trunk = self.synthesis
        if stages < len(self.channels):
            trunk = trunk.shortened(2 ** (stages + 2))
        scaled = [strength * noise_map for strength, noise_map in zip(self.strengths, noise, strict=False)]
        return trunk.features(self._rows(w, change), scaled)

    @torch.no_grad()
    def picture(self, features: Sequence[Tensor], w: Tensor, change: Tensor) -> Tensor:
        """(N, 3, S, S) from all features and w (N, 2, latent), whose second row counts from resolution `change` on."""
        return self.synthesis.head(features[-1], self._rows(w, change)[:, -1])

    def _rows(self, w: Tensor, change: Tensor) -> Tensor:
        rows = torch.arange(self.synthesis.config.layers, device=w.device)
        resolution = (rows + 2) // 3  # row 0 draws 4x4; 1, 2, 3 draw 8x8 ...
        return torch.where((resolution < change[:, None])[..., None], w[:, :1], w[:, 1:])


def student_rows(layers: int, w: Tensor, change: Tensor) -> Tensor:
    """W+ (N, layers, 512) of a StyleGAN2 from w (N, 2, 512): the second from resolution `change` (N,) on.

    The row that an RGB shares with the next resolution's first convolution goes with the latter.
    """
    resolution = (torch.arange(layers, device=w.device) + 1) // 2  # row 0 draws 4x4; 1 and 2 draw 8x8 ...
    return torch.where((resolution < change[:, None])[..., None], w[:, :1], w[:, 1:])


class Pupil(nn.Module):
    """The student and its readouts: 1x1 convolutions that should find the teacher's features in its own."""

    def __init__(self, student: stylegan2.Generator, wanted: Sequence[int]) -> None:
        super().__init__()
        self.student = student
        pairs = zip(student.channels, wanted, strict=False)
        self.readouts = nn.ModuleList(nn.Conv2d(own, theirs, 1) for own, theirs in pairs)

    def forward(self, w_plus: Tensor, noise: Sequence[Tensor], stages: int) -> list[tuple[Tensor | None, Tensor]]:
        """What is read out, where there is a readout, and the picture so far (N, 3, r, r), for r = 4, 8 ..."""
        found = []
        for k, (features, picture) in enumerate(islice(self.student.stages(w_plus, noise), stages)):
            read = self.readouts[k](features.float()) if k < len(self.readouts) else None
            found.append((read, picture))
        return found


class Latents:
    """Draws z (2, 512), the resolution at which the second takes over, and noise maps in one row of numbers."""

    def __init__(self, latent: int, shapes: Sequence[tuple[int, ...]], resolutions: int) -> None:
        self.latent, self.resolutions = latent, resolutions
        self.counts = [shape[2] * shape[3] for shape in shapes]

    def __call__(self, random: np.random.Generator) -> Sample:
        change = int(random.integers(1, self.resolutions)) if random.random() < MIXED else self.resolutions
        return {
            "z": torch.from_numpy(random.standard_normal((2, self.latent), dtype=np.float32)),
            "change": torch.tensor(change),
            "noise": torch.from_numpy(random.standard_normal(sum(self.counts), dtype=np.float32)),
        }

    def maps(self, noise: Tensor) -> list[Tensor]:
        """Noise maps [(N, 1, r, r)] of a batch."""
        sides = [round(count**0.5) for count in self.counts]
        return [part.view(-1, 1, side, side) for part, side in zip(noise.split(self.counts, 1), sides, strict=True)]


@dataclass(frozen=True)
class Classroom:
    """What a lesson's losses and its validation need."""

    teacher: Teacher
    latents: Latents
    layers: int
    spreads: list[Tensor]  # (C,) variance of each feature of the teacher
    perceptual: PerceptualDistance | None

    def terms(self, pupil: nn.Module, sample: Sample, lesson: Lesson) -> Mapping[str, Tensor]:
        """Weighted losses: share of the features' variance that is not explained, mean over resolutions; MSE of the
        pictures, sum over them; perceptual distance of the finest."""
        found, features, target = self.answers(pupil, sample, lesson.stages, bool(lesson.pixels))
        reads = [read for read, _ in found if read is not None]
        unexplained = [
            self.unexplained(k, read, wanted) for k, (read, wanted) in enumerate(zip(reads, features, strict=True))
        ]
        terms = {"features": torch.stack([share.mean() for share in unexplained]).mean()}
        if target is not None:
            errors = [F.mse_loss(picture, reduced(target, picture)) / 4 for _, picture in found]  # of [0, 1]
            terms["pixels"] = lesson.pixels * torch.stack(errors).sum()
            if self.perceptual and lesson.perceptual:
                distance = self.perceptual.against(((target + 1) / 2).clamp(0, 1))
                terms["perceptual"] = lesson.perceptual * distance((found[-1][1] + 1) / 2).mean()
        return terms

    def answers(
        self, pupil: nn.Module, sample: Sample, stages: int, drawn: bool
    ) -> tuple[list[tuple[Tensor | None, Tensor]], list[Tensor], Tensor | None]:
        """What the pupil finds, and the teacher's features and, if wanted, its picture."""
        noise, change = self.latents.maps(sample["noise"]), sample["change"]
        w = self.teacher.w(sample["z"].flatten(0, 1)).unflatten(0, (-1, 2))
        features = self.teacher.features(w, change, noise, len(self.teacher.channels) if drawn else stages)
        target = self.teacher.picture(features, w, change) if drawn else None
        return pupil(student_rows(self.layers, w, change), noise, stages), features[:stages], target

    def unexplained(self, k: int, read: Tensor, features: Tensor) -> Tensor:
        """Squared error in shares of the variance over all features of resolution k: (N, r, r), 1 for a constant."""
        return (read - features.float()).square().sum(1) / self.spreads[k].sum()


def reduced(target: Tensor, picture: Tensor) -> Tensor:
    """`target` averaged down to the size of `picture`."""
    return F.avg_pool2d(target, target.shape[-1] // picture.shape[-1])


def classroom(teacher: Teacher, student: stylegan2.Generator, perceptual: PerceptualDistance | None) -> Classroom:
    """What `student` is taught in."""
    latents = Latents(student.latent, student.noise_shapes, len(student.channels))
    batch = examples(latents, HELD_OUT_SEED + 1, 16)
    w = teacher.w(batch["z"].flatten(0, 1)).unflatten(0, (-1, 2))
    features = teacher.features(w, batch["change"], latents.maps(batch["noise"]), len(teacher.channels))
    spreads = [x.float().var((0, 2, 3)) for x in features]
    return Classroom(teacher, latents, student.layers, spreads, perceptual)


def examples(latents: Latents, seed: int, count: int) -> dict[str, Tensor]:
    """A batch that no training draws."""
    rows = [latents(np.random.default_rng((seed, k))) for k in range(count)]
    return {key: torch.stack([row[key] for row in rows]) for key in rows[0]}


def trained_generator(
    teacher: Teacher,
    run: Path,
    *,
    size: int = 256,
    channels: Sequence[int] = CHANNELS,
    lessons: Sequence[Lesson] = LESSONS,
    mapping_steps: int = 4000,
    effort: float = 1.0,
    seed: int = 0,
    perceptual: PerceptualDistance | None = None,
    device: torch.device | None = None,
    observe: Callable[[str], Observe] | None = None,
) -> stylegan2.Generator:
    """A StyleGAN2 that draws what the teacher draws, for the same w; averaged, in eval mode.

    Each lesson has a folder of its own in `run`, and a training that was broken off goes on in the lesson where it was.
    `effort` multiplies the steps of all. `observe` gives the observer of a lesson by its name.

    Raises:
        DataError: a folder holds a checkpoint of another recipe.
    """
    torch.manual_seed(seed)
    mapping = teacher.mapping
    student = stylegan2.Generator(size, latent=mapping.latent, depth=len(mapping.layers), channels=channels)
    for strength in (
        module.noise["weight"] for module in student.modules() if isinstance(module, stylegan2.StyledConv)
    ):
        nn.init.constant_(strength, NOISE)
    student.fast = fast_in_bf16(device or torch.device("cpu"))
    steps = max(1, round(effort * mapping_steps))
    observe_mapping = observe("mapping") if observe else None
    taught = taught_mapping(student.style, teacher, run / "mapping", steps, seed, device, observe_mapping)
    student.style.load_state_dict(taught.state_dict())
    student.style.requires_grad_(False)
    room = classroom(teacher, student, perceptual)
    pupil = Pupil(student, teacher.channels)
    for lesson in lessons:
        watch = observe(lesson.name) if observe else None
        pupil = _after(lesson, pupil, room, run / lesson.name, effort, seed, device, watch)
    return pupil.student.eval().requires_grad_(False)


def _after(
    lesson: Lesson,
    pupil: Pupil,
    room: Classroom,
    run: Path,
    effort: float,
    seed: int,
    device: torch.device | None,
    observe: Observe | None,
) -> Pupil:
    """The pupil after a lesson, averaged, ready for the next."""
    steps = max(1, round(effort * lesson.steps))
    recipe = Recipe(
        steps,
        lesson.batch,
        lesson.lr,
        betas=(0.9, 0.99),
        warmup=min(100, steps // 10),
        bf16=False,
        seed=seed,
        workers=0,
        log_every=25,
        checkpoint_every=100,
        validate_every=500,
    )

    def losses(network: nn.Module, sample: Sample) -> Mapping[str, Tensor]:
        return room.terms(network, sample, lesson)

    def validate(network: nn.Module) -> Mapping[str, float]:
        return scores(room, network, lesson)

    averaged = fit(pupil, room.latents, losses, recipe, run, device=device, validate=validate, observe=observe)
    assert isinstance(averaged, Pupil)
    averaged.student.style.requires_grad_(False)
    return averaged


def scores(room: Classroom, pupil: nn.Module, lesson: Lesson) -> Mapping[str, float]:
    """On pictures that no lesson shows: share of the features' variance explained at each resolution, and PSNR, dB."""
    batch = examples(room.latents, HELD_OUT_SEED, EXAMPLES)
    values: dict[str, list[float]] = {}
    for k in range(0, EXAMPLES, 8):
        part = {key: value[k : k + 8].to(room.spreads[0].device) for key, value in batch.items()}
        found, features, target = room.answers(pupil, part, lesson.stages, bool(lesson.pixels))
        for number, (read, _) in enumerate(found):
            if read is not None:
                left = float(room.unexplained(number, read, features[number]).mean())
                values.setdefault(f"explained_{4 * 2**number}", []).append(1 - left)
        if target is not None:
            picture = found[-1][1].clamp(-1, 1)
            errors = ((picture - reduced(target, picture).clamp(-1, 1)) / 2).square().mean((1, 2, 3))
            values.setdefault("psnr", []).append(float(-10 * errors.log10().mean()))
    return {key: float(np.mean(numbers)) for key, numbers in values.items()}


def taught_mapping(
    network: nn.Sequential,
    teacher: Teacher,
    run: Path,
    steps: int,
    seed: int,
    device: torch.device | None,
    observe: Observe | None,
) -> nn.Module:
    """The mapping network, taught to give the teacher's w for the same z; its loss is the share not explained."""
    latent = teacher.mapping.latent
    variance = teacher.w(torch.randn(10_000, latent, generator=torch.Generator().manual_seed(seed))).var(0).sum()

    def draw(random: np.random.Generator) -> Sample:
        return {"z": torch.from_numpy(random.standard_normal((64, latent), dtype=np.float32))}

    def unexplained(mapping: nn.Module, sample: Sample) -> Mapping[str, Tensor]:
        z = sample["z"].flatten(0, -2)
        return {"unexplained": (mapping(z) - teacher.w(z)).square().sum(1).mean() / variance}

    # The stored weights are a hundred times what they count as, so the rate is as well.
    recipe = Recipe(steps, 16, 0.2, betas=(0.9, 0.99), bf16=False, seed=seed, workers=0, checkpoint_every=500)
    return fit(network, draw, unexplained, recipe, run, device=device, observe=observe)
