"""A small StyleGAN2 taught by MobileStyleGAN, whose W it shares: `sgmatte train generator`.

Pixels alone teach too slowly: most of what a generator must learn lies in its coarse hidden features. The teacher's
are there, so the student's own are asked for them, by way of a linear readout (Romero et al., *FitNets*, ICLR 2015),
beside the picture at every resolution. Lessons go from coarse to fine: each goes as far as one resolution, trains all
stages up to it, and the next begins with what it left.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from sgmatte.device import fast_in_bf16
from sgmatte.nn import stylegan2
from sgmatte.nn.perceptual import PerceptualDistance
from sgmatte.nn.stylegan2_discriminator import Discriminator
from sgmatte.train.adversarial import Duel, sharpened
from sgmatte.train.classroom import Classroom, Lesson, Pupil, classroom, likeness, scores
from sgmatte.train.data import Sample
from sgmatte.train.examination import Examination, taught_discriminator
from sgmatte.train.loop import Observe, Recipe, fit
from sgmatte.train.mapping import taught_mapping
from sgmatte.train.teacher import Album, Latents, Teacher

CHANNELS = (384, 384, 384, 256, 128, 64, 32)  # at 4, 8 ... 256 px; from 64 on, each costs as much as the one before
CRITICS = (256, 256, 256, 256, 128, 64, 32)  # channels of the discriminator, likewise
NOISE = 0.03  # strength of the noise maps, at least; it is not learned, for errors would shrink it to zero
STYLE = 0.1  # spread of the styles to begin with, in that of StyleGAN2's own: the teacher's W is no white noise
PICTURES = 8192  # in the album
MAPPING_STEPS = 1500


State = Mapping[str, Tensor]


LESSONS = (
    Lesson("16", stages=3, steps=2500, batch=16, lr=2e-2),
    Lesson("64", stages=5, steps=700, batch=8, lr=1e-2, pixels=10),
    Lesson("64-again", stages=5, steps=1300, batch=8, lr=1e-2, pixels=10),
    Lesson("256", stages=7, steps=700, batch=8, lr=6e-3, pixels=10, perceptual=1),
)


def trained_generator(
    teacher: Teacher,
    run: Path,
    *,
    size: int = 256,
    channels: Sequence[int] = CHANNELS,
    critics: Sequence[int] = CRITICS,
    lessons: Sequence[Lesson] = LESSONS,
    duel: Duel | None = Duel(),  # noqa: B008, it is frozen
    examination: Examination | None = Examination(),  # noqa: B008
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
    """A StyleGAN2 that draws what the teacher draws, for the same w, and a discriminator that tells its pictures from
    real ones, if there was an examination; both averaged, in eval mode.

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
        student = sharpened(
            student,
            teacher,
            album,
            run / "duel",
            replace(duel, steps=steps(duel.steps), alone=steps(duel.alone)),
            faces=faces,
            seed=seed,
            perceptual=perceptual,
            device=device,
            validate=lambda network: {"psnr": likeness(room, network)},
            observe=watched("duel"),
        )
    if examination:
        discriminator = taught_discriminator(
            student,
            teacher,
            album,
            run / "discriminator",
            replace(examination, steps=steps(examination.steps)),
            channels=critics,
            start=start[1] if start else None,
            faces=faces,
            seed=seed,
            device=device,
            observe=watched("discriminator"),
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
