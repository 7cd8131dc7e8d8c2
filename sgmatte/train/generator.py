"""A small StyleGAN2 taught by MobileStyleGAN, whose W it shares: `sgmatte train generator`.

Pixels alone teach too slowly: most of what a generator must learn lies in its coarse hidden features. The teacher's
are there, so the student's own are asked for them, by way of a linear readout (Romero et al., *FitNets*, ICLR 2015),
beside the picture at every resolution. Lessons go from coarse to fine: each goes as far as one resolution, trains all
stages up to it, and the next begins with what it left.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from sgmatte.device import fast_in_bf16
from sgmatte.nn import stylegan2
from sgmatte.nn.perceptual import PerceptualDistance
from sgmatte.nn.stylegan2_discriminator import Discriminator
from sgmatte.train.adversarial import Duel, sharpened
from sgmatte.train.data import Sample
from sgmatte.train.loop import Observe, Recipe, fit
from sgmatte.train.mapping import taught_mapping
from sgmatte.train.teacher import Album, Latents, Teacher, as_bytes, as_picture, picture_errors, reduced, student_rows

CHANNELS = (384, 384, 384, 256, 128, 64, 32)  # at 4, 8 ... 256 px; from 64 on, each costs as much as the one before
CRITICS = (256, 256, 256, 256, 128, 64, 32)  # channels of the discriminator, likewise
NOISE = 0.03  # strength of the noise maps, at least; it is not learned, for errors would shrink it to zero
STYLE = 0.1  # spread of the styles to begin with, in that of StyleGAN2's own: the teacher's W is no white noise
PICTURES = 8192  # in the album
FEATURES = 4  # resolutions whose hidden features are asked for: 4, 8, 16 and 32
MAPPING_STEPS = 1500
HELD_OUT_SEED = 1_000_000  # apart from every training seed that a person would type
EXAMPLES = 64  # pictures for validation


State = Mapping[str, Tensor]


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


LESSONS = (
    Lesson("16", stages=3, steps=2500, batch=16, lr=2e-2),
    Lesson("64", stages=5, steps=700, batch=8, lr=1e-2, pixels=10),
    Lesson("64-again", stages=5, steps=1300, batch=8, lr=1e-2, pixels=10),
    Lesson("256", stages=7, steps=700, batch=8, lr=6e-3, pixels=10, perceptual=1),
)


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


def trained_generator(
    teacher: Teacher,
    run: Path,
    *,
    size: int = 256,
    channels: Sequence[int] = CHANNELS,
    critics: Sequence[int] = CRITICS,
    lessons: Sequence[Lesson] = LESSONS,
    duel: Duel | None = Duel(),  # noqa: B008, it is frozen
    faces: Path | None = None,
    start: tuple[State, State | None] | None = None,
    mapping_steps: int = MAPPING_STEPS,
    pictures: int = PICTURES,
    effort: float = 1.0,
    seed: int = 0,
    perceptual: PerceptualDistance | None = None,
    device: torch.device | None = None,
    observe: Callable[[str], Observe] | None = None,
    observe_pictures: Callable[[int, int], None] | None = None,
) -> tuple[stylegan2.Generator, Discriminator | None]:
    """A StyleGAN2 that draws what the teacher draws, for the same w, and the discriminator that sharpened it, if there
    was a duel; both averaged, in eval mode.

    Each lesson has a folder of its own in `run`, and a training that was broken off goes on in the lesson where it was.
    `effort` multiplies the steps of all, `channels` are the student's and `critics` the discriminator's, `faces` is a
    folder of real ones. `start` are the states of student and, if there is one, discriminator from an earlier training,
    to go on from. Without `mapping_steps` the mapping network stays as it was. `observe` gives the observer of a lesson
    by its name.

    Raises:
        DataError: a folder holds a checkpoint of another recipe, or there are no faces where they should be.
    """
    student, mapping = _beginner(teacher, size, channels, seed)
    if start:
        student.load_state_dict(start[0])
        _give_noise(student)
        mapping.load_state_dict(student.style.state_dict())
    student.fast = fast_in_bf16(device or torch.device("cpu"))
    room = classroom(teacher, student, perceptual)
    album = Album(teacher, room.latents, run / "pictures", pictures, seed)
    album.draw(observe_pictures)

    def watched(name: str) -> Observe | None:
        return observe(name) if observe else None

    def steps(count: int) -> int:
        return max(1, round(effort * count))

    pupil = Pupil(student, teacher.channels)
    for lesson in lessons:
        lesson = replace(lesson, steps=steps(lesson.steps))
        pupil = _after(lesson, pupil, room, album, run / lesson.name, seed, device, watched(lesson.name))
    student, discriminator = pupil.student, None
    if duel:
        student, discriminator = sharpened(
            student,
            teacher,
            album,
            run / "duel",
            replace(duel, steps=steps(duel.steps), alone=steps(duel.alone)),
            channels=critics,
            start=start[1] if start else None,
            faces=faces,
            seed=seed,
            perceptual=perceptual,
            device=device,
            validate=lambda network: {"psnr": likeness(room, network)},
            observe=watched("duel"),
        )
    if mapping_steps:
        count = steps(mapping_steps)
        taught = taught_mapping(mapping, teacher, run / "mapping", count, seed, device, watched("mapping"))
        mapping.load_state_dict(taught.state_dict())
    student.style.load_state_dict(mapping.state_dict())
    return student.eval().requires_grad_(False), discriminator


def _beginner(
    teacher: Teacher, size: int, channels: Sequence[int], seed: int
) -> tuple[stylegan2.Generator, nn.Sequential]:
    """A student that has learned nothing yet, and its mapping network, which learns apart from the rest."""
    torch.manual_seed(seed)
    mapping = teacher.mapping
    student = stylegan2.Generator(size, latent=mapping.latent, depth=len(mapping.layers), channels=channels)
    for module in student.modules():
        if isinstance(module, stylegan2.ModulatedConv):
            nn.init.normal_(module.modulation.weight, std=STYLE)
    _give_noise(student)
    separate = copy.deepcopy(student.style)
    student.style.requires_grad_(False)
    return student, separate


def _give_noise(student: stylegan2.Generator) -> None:
    """Strengths of at least NOISE, which no lesson changes: inversion draws with the maps what W+ cannot."""
    for layer in student.modules():
        if isinstance(layer, stylegan2.StyledConv):
            strength = layer.noise["weight"].requires_grad_(False)
            strength.copy_(strength.abs().clamp_min(NOISE))


def _after(
    lesson: Lesson,
    pupil: Pupil,
    room: Classroom,
    album: Album,
    run: Path,
    seed: int,
    device: torch.device | None,
    observe: Observe | None,
) -> Pupil:
    """The pupil after a lesson, averaged, ready for the next."""
    recipe = Recipe(
        lesson.steps,
        lesson.batch,
        lesson.lr,
        betas=(0.9, 0.99),
        warmup=min(100, lesson.steps // 10),
        bf16=False,
        seed=seed,
        workers=0,
        log_every=25,
        checkpoint_every=100,
        validate_every=200,
    )

    def losses(network: nn.Module, sample: Sample) -> Mapping[str, Tensor]:
        return room.terms(network, sample, lesson)

    def validate(network: nn.Module) -> Mapping[str, float]:
        return scores(room, network, lesson)

    shapes = pupil.student.noise_shapes[: 2 * lesson.stages - 1]
    source = album if lesson.pixels else Latents(pupil.student.latent, shapes, len(pupil.student.channels))
    averaged = fit(pupil, source, losses, recipe, run, device=device, validate=validate, observe=observe)
    assert isinstance(averaged, Pupil)
    averaged.student.style.requires_grad_(False)
    return averaged


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
