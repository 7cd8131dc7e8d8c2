"""Where a generator is taught: the student with its readouts, what a lesson asks of it, and how well it answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from torch import Tensor, nn

from sgmatte.nn import stylegan2
from sgmatte.nn.perceptual import PerceptualDistance
from sgmatte.train.data import Sample
from sgmatte.train.teacher import Latents, Teacher, as_bytes, as_picture, picture_errors, reduced, student_rows

FEATURES = 4  # resolutions whose hidden features are asked for: 4, 8, 16 and 32
HELD_OUT_SEED = 1_000_000  # apart from every training seed that a person would type
EXAMPLES = 64  # pictures for validation


@dataclass(frozen=True)
class Lesson:
    """A part of the training: the student's first `stages` resolutions (4, 8 ...), all at once.

    Its weights of the losses are those of `Classroom.terms`. Without one for pixels, the latents of each picture are
    new; with it they are those of the album, whose pictures are drawn already.
    """

    name: str
    stages: int
    steps: int
    batch: int
    lr: float
    pixels: float = 0.0
    perceptual: float = 0.0


class Pupil(nn.Module):
    """The student and its readouts: 1x1 convolutions that should find the teacher's features in its own."""

    def __init__(self, student: stylegan2.Generator, wanted: Sequence[int]) -> None:
        super().__init__()
        self.student = student
        pairs = zip(student.channels[:FEATURES], wanted, strict=False)
        self.readouts = nn.ModuleList(nn.Conv2d(own, theirs, 1) for own, theirs in pairs)

    def forward(self, w_plus: Tensor, noise: Sequence[Tensor], stages: int) -> list[tuple[Tensor | None, Tensor]]:
        """What is read out, where there is a readout, and the picture so far (N, 3, r, r), for r = 4, 8 ..."""
        found = []
        for k, (features, picture) in enumerate(islice(self.student.stages(w_plus, noise), stages)):
            read = self.readouts[k](features.float()) if k < len(self.readouts) else None
            found.append((read, picture))
        return found


@dataclass(frozen=True)
class Classroom:
    """What a lesson's losses and its validation need."""

    teacher: Teacher
    latents: Latents
    layers: int
    spreads: list[Tensor]  # (C,) variance of each feature of the teacher
    perceptual: PerceptualDistance | None
    held_out: Sample

    def terms(self, pupil: nn.Module, sample: Sample, lesson: Lesson) -> Mapping[str, Tensor]:
        """Weighted losses: share of the features' variance that is not explained, mean over resolutions; MSE of the
        pictures, sum over them; perceptual distance of the finest."""
        found, features = self.answers(pupil, sample, lesson.stages)
        shares = [
            self.unexplained(k, read, features[k]).mean() for k, (read, _) in enumerate(found) if read is not None
        ]
        terms = {"features": torch.stack(shares).mean()}
        if lesson.pixels:
            target = as_picture(sample["picture"])
            terms["pixels"] = lesson.pixels * picture_errors([picture for _, picture in found], target)
        if self.perceptual and lesson.perceptual:
            distance = self.perceptual.against((target + 1) / 2)
            terms["perceptual"] = lesson.perceptual * distance((found[-1][1] + 1) / 2).mean()
        return terms

    def answers(
        self, pupil: nn.Module, sample: Sample, stages: int
    ) -> tuple[list[tuple[Tensor | None, Tensor]], list[Tensor]]:
        """What the pupil finds, and the teacher's features where they are asked for."""
        noise, change = self.latents.maps(sample["noise"]), sample["change"]
        w = self.teacher.w(sample["z"].flatten(0, 1)).unflatten(0, (-1, 2))
        features = self.teacher.features(w, change, noise, min(stages, FEATURES))
        return pupil(student_rows(self.layers, w, change), noise, stages), features

    def unexplained(self, k: int, read: Tensor, features: Tensor) -> Tensor:
        """Squared error in shares of the variance over all features of resolution k: (N, r, r), 1 for a constant."""
        return (read - features.float()).square().sum(1) / self.spreads[k].sum()


def classroom(teacher: Teacher, student: stylegan2.Generator, perceptual: PerceptualDistance | None) -> Classroom:
    """What `student` is taught in."""
    latents = Latents(student.latent, student.noise_shapes, len(student.channels))
    batch = examples(teacher, latents, HELD_OUT_SEED + 1, 16)
    w = teacher.w(batch["z"].flatten(0, 1)).unflatten(0, (-1, 2))
    features = teacher.features(w, batch["change"], latents.maps(batch["noise"]), FEATURES)
    spreads = [x.float().var((0, 2, 3)) for x in features]
    held_out = examples(teacher, latents, HELD_OUT_SEED, EXAMPLES)
    return Classroom(teacher, latents, student.layers, spreads, perceptual, held_out)


def examples(teacher: Teacher, latents: Latents, seed: int, count: int) -> dict[str, Tensor]:
    """A batch that no training draws, with the teacher's `picture`."""
    rows = [latents(np.random.default_rng((seed, k))) for k in range(count)]
    batch = {key: torch.stack([row[key] for row in rows]) for key in rows[0]}
    parts = ({key: value[k : k + 8] for key, value in batch.items()} for k in range(0, count, 8))
    return batch | {"picture": torch.cat([as_bytes(teacher.drawn(part, latents)) for part in parts])}


def scores(room: Classroom, pupil: nn.Module, lesson: Lesson) -> Mapping[str, float]:
    """On pictures that no lesson shows: share of the features' variance explained at each resolution, and PSNR, dB."""
    values: dict[str, list[float]] = {}
    for k in range(0, len(room.held_out["z"]), 8):
        part = {key: value[k : k + 8].to(room.spreads[0].device) for key, value in room.held_out.items()}
        found, features = room.answers(pupil, part, lesson.stages)
        for number, (read, picture) in enumerate(found):
            if read is not None:
                left = float(room.unexplained(number, read, features[number]).mean())
                values.setdefault(f"explained_{4 * 2**number}", []).append(1 - left)
            wanted = reduced(as_picture(part["picture"]), picture)
            errors = ((picture.clamp(-1, 1) - wanted) / 2).square().mean((1, 2, 3))
            values.setdefault(f"psnr_{picture.shape[-1]}", []).append(float(-10 * errors.log10().mean()))
    return {key: float(np.mean(numbers)) for key, numbers in values.items()}


def likeness(room: Classroom, student: stylegan2.Generator) -> float:
    """Mean PSNR in dB to the teacher's pictures that no lesson shows."""
    errors = []
    for k in range(0, len(room.held_out["z"]), 8):
        part = {key: value[k : k + 8].to(room.spreads[0].device) for key, value in room.held_out.items()}
        w = room.teacher.w(part["z"].flatten(0, 1)).unflatten(0, (-1, 2))
        drawn = student(student_rows(room.layers, w, part["change"]), room.latents.maps(part["noise"]))
        errors.append(((drawn.clamp(-1, 1) - as_picture(part["picture"])) / 2).square().mean((1, 2, 3)))
    return float(-10 * torch.cat(errors).log10().mean())
