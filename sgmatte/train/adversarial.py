"""The last lesson of a generator: what errors alone leave blurred, a discriminator makes it draw.

The student keeps to its teacher's pictures, and a discriminator that grows up beside it tells its pictures from real
ones (Karras et al., "Analyzing and Improving the Image Quality of StyleGAN", CVPR 2020: non-saturating loss, lazy R1).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from sgmatte.nn import stylegan2
from sgmatte.nn.perceptual import PerceptualDistance
from sgmatte.nn.stylegan2_discriminator import Discriminator
from sgmatte.train.data import Sample, image_files, read_rgb
from sgmatte.train.loop import Observe, Recipe, fit
from sgmatte.train.teacher import Album, Teacher, as_picture, picture_errors, student_rows

LAZY = 16  # R1 is taken in one step of so many, and weighs as much more


@dataclass(frozen=True)
class Duel:
    """Steps, batch and rate of both, and what the losses weigh; the pixels' and the perceptual one as in `Lesson`.

    The adversarial loss weighs what gives its gradient, at the picture, `adversarial` times the length of that of the
    other two: how steep a young discriminator is nobody knows beforehand (Esser et al., "Taming Transformers for
    High-Resolution Image Synthesis", CVPR 2021, eq. 7).
    """

    steps: int = 1200
    alone: int = 300  # steps at first in which the discriminator alone learns; from one that knows nothing comes noise
    batch: int = 8
    lr: float = 2e-3
    pixels: float = 10.0
    perceptual: float = 2.0
    adversarial: float = 0.5
    r1: float = 1.0  # half of the paper's gamma


class Pair(nn.Module):
    """Student and discriminator, which one optimiser trains: each loss reaches only the one that it is for."""

    def __init__(self, student: stylegan2.Generator, discriminator: Discriminator) -> None:
        super().__init__()
        self.student, self.discriminator = student, discriminator

    def held(self, picture: Tensor) -> Tensor:
        """Logits of a discriminator that learns nothing from it."""
        state = {name: value.detach() for name, value in self.discriminator.named_parameters()}
        return functional_call(self.discriminator, state, (picture,))


class Opponents:
    """Samples of an album, and a `real` picture (3, S, S), uint8, beside each: a face, mirrored or not, or, one time in
    two and where there are no faces, another picture of the album. Faces alone are too few not to be learned by heart.
    """

    def __init__(self, album: Album, faces: Path | None) -> None:
        self.album, self.folder = album, faces

    def __call__(self, random: np.random.Generator) -> Sample:
        sample = self.album(random)
        if self.folder is None or random.random() < 0.5:
            return {**sample, "real": self.album.picture(int(random.integers(self.album.count)))}
        face = read_rgb(self._faces[int(random.integers(len(self._faces)))])
        face = face[:, ::-1] if random.random() < 0.5 else face
        return {**sample, "real": torch.from_numpy(face.transpose(2, 0, 1).copy())}

    @cached_property
    def _faces(self) -> list[Path]:
        assert self.folder
        return image_files(self.folder)


def terms(
    pair: Pair, sample: Sample, duel: Duel, teacher: Teacher, album: Album, perceptual: PerceptualDistance | None
) -> Mapping[str, Tensor]:
    """Weighted losses of both. Whether R1 is taken is drawn from torch's generator, which `fit` seeds for each step."""
    w = teacher.w(sample["z"].flatten(0, 1)).unflatten(0, (-1, 2))
    rows = student_rows(pair.student.layers, w, sample["change"])
    pictures = [picture for _, picture in pair.student.stages(rows, album.latents.maps(sample["noise"]))]
    target, real = as_picture(sample["picture"]), as_picture(sample["real"])
    *coarse, drawn = pictures
    seen = drawn.detach().requires_grad_()
    unlike = duel.pixels * picture_errors([seen], target)
    if perceptual:
        unlike = unlike + duel.perceptual * perceptual.against((target + 1) / 2)((seen + 1) / 2).mean()
    untrue = F.softplus(-pair.held(seen)).mean()
    (to_like,), (to_true,) = torch.autograd.grad(unlike, seen), torch.autograd.grad(untrue, seen)
    weight = duel.adversarial * to_like.norm() / to_true.norm().clamp_min(1e-12)
    found = {
        "coarse": duel.pixels * picture_errors(coarse, target),
        "unlike": _with_slope(unlike, drawn, to_like),
        "untrue": _with_slope(untrue, drawn, weight * to_true),
    }
    return found | told(pair.discriminator, drawn.detach(), real, duel)


def told(discriminator: nn.Module, drawn: Tensor, real: Tensor, duel: Duel) -> dict[str, Tensor]:
    """The discriminator's own losses: pictures drawn, real ones, and now and then R1."""
    found = {"told drawn": F.softplus(discriminator(drawn)).mean()}
    lazy = bool(torch.rand(()) < 1 / LAZY)
    logits = discriminator(real.requires_grad_(lazy))
    found["told real"] = F.softplus(-logits).mean()
    found["r1"] = logits.new_zeros(())
    if lazy:
        (slope,) = torch.autograd.grad(logits.sum(), real, create_graph=True)
        found["r1"] = LAZY * duel.r1 * slope.square().sum((1, 2, 3)).mean()
    return found


def _with_slope(value: Tensor, x: Tensor, slope: Tensor) -> Tensor:
    """A scalar of the given value whose gradient at `x` is `slope`."""
    product = (x * slope).sum()
    return value.detach() + product - product.detach()


def sharpened(
    student: stylegan2.Generator,
    teacher: Teacher,
    album: Album,
    run: Path,
    duel: Duel,
    *,
    channels: Sequence[int],
    start: Mapping[str, Tensor] | None = None,
    faces: Path | None = None,
    seed: int = 0,
    perceptual: PerceptualDistance | None = None,
    device: torch.device | None = None,
    validate: Callable[[stylegan2.Generator], Mapping[str, float]] | None = None,
    observe: Observe | None = None,
) -> tuple[stylegan2.Generator, Discriminator]:
    """Student and discriminator after the lesson, both averaged, in eval mode. `channels` are the discriminator's, and
    `start` is its state from an earlier training; without one, it first learns for a while against a student that stays
    as it is, in `run`/alone.

    Raises:
        DataError: `run` holds a checkpoint of another recipe, or `faces` no picture.
    """
    torch.manual_seed(seed)
    discriminator = Discriminator(student.size, channels=channels)
    discriminator.fast = student.fast
    opponents = Opponents(album, faces)
    recipe = Recipe(
        duel.steps,
        duel.batch,
        duel.lr,
        warmup=min(100, duel.steps // 10),
        betas=(0.0, 0.99),
        ema=0.995,
        bf16=False,
        seed=seed,
        workers=0,
        log_every=25,
        checkpoint_every=50,
        validate_every=200,
    )
    if start:
        discriminator.load_state_dict(start)
    elif duel.alone:
        alone = replace(recipe, steps=duel.alone, warmup=duel.alone // 10)

        def verdicts(network: nn.Module, sample: Sample) -> Mapping[str, Tensor]:
            with torch.no_grad():
                w = teacher.w(sample["z"].flatten(0, 1)).unflatten(0, (-1, 2))
                rows = student_rows(student.layers, w, sample["change"])
                drawn = student(rows, album.latents.maps(sample["noise"]))
            return told(network, drawn, as_picture(sample["real"]), duel)

        averaged = fit(discriminator, opponents, verdicts, alone, run / "alone", device=device, observe=observe)
        discriminator.load_state_dict(averaged.state_dict())

    def losses(pair: nn.Module, sample: Sample) -> Mapping[str, Tensor]:
        assert isinstance(pair, Pair)
        return terms(pair, sample, duel, teacher, album, perceptual)

    def score(pair: nn.Module) -> Mapping[str, float]:
        assert isinstance(pair, Pair)
        return validate(pair.student) if validate else {}

    pair = Pair(student, discriminator)
    averaged = fit(
        pair,
        opponents,
        losses,
        recipe,
        run,
        device=device,
        validate=score if validate else None,
        observe=observe,
    )
    assert isinstance(averaged, Pair)
    return averaged.student, averaged.discriminator.requires_grad_(False)
