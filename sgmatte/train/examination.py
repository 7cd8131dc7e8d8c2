"""The StyleGAN2 discriminator's lesson, against the finished student.

Beside a student that learns it would be at chance: it is taught afterwards (Karras et al., "Analyzing and Improving the
Image Quality of StyleGAN", CVPR 2020: logistic loss, lazy R1).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sgmatte.nn import stylegan2
from sgmatte.nn.stylegan2_discriminator import Discriminator
from sgmatte.train.adversarial import Opponents, drawn_by, recipe_of
from sgmatte.train.data import Sample
from sgmatte.train.loop import Observe, fit
from sgmatte.train.teacher import Album, Teacher, as_picture

LAZY = 16  # R1 is taken in one step of so many, and weighs as much more


@dataclass(frozen=True)
class Examination:
    """How the discriminator is taught."""

    steps: int = 400
    batch: int = 8
    lr: float = 2e-3
    r1: float = 1.0  # half of the paper's gamma


def taught_discriminator(
    student: stylegan2.Generator,
    teacher: Teacher,
    album: Album,
    run: Path,
    examination: Examination,
    *,
    channels: Sequence[int],
    start: Mapping[str, Tensor] | None = None,
    faces: Path | None = None,
    seed: int = 0,
    device: torch.device | None = None,
    observe: Observe | None = None,
) -> Discriminator:
    """A StyleGAN2 discriminator that tells the student's pictures from real ones: averaged, in eval mode, frozen.

    `start` is its state from an earlier training.

    Raises:
        DataError: `run` holds a checkpoint of another recipe, or `faces` no picture.
    """
    torch.manual_seed(seed)
    discriminator = Discriminator(student.size, channels=channels)
    discriminator.fast = student.fast
    if start:
        discriminator.load_state_dict(start)

    def losses(network: nn.Module, sample: Sample) -> Mapping[str, Tensor]:
        drawn, real = drawn_by(student, teacher, album, sample), as_picture(sample["real"])
        return told_smoothly(network, drawn, real, examination.r1)

    recipe = recipe_of(examination.steps, examination.batch, examination.lr, seed)
    averaged = fit(discriminator, Opponents(album, faces), losses, recipe, run, device=device, observe=observe)
    assert isinstance(averaged, Discriminator)
    return averaged.requires_grad_(False)


def told_smoothly(discriminator: nn.Module, drawn: Tensor, real: Tensor, r1: float) -> dict[str, Tensor]:
    """The same, and now and then R1. Whether it is taken is drawn from torch's generator, which `fit` seeds."""
    lazy = bool(torch.rand(()) < 1 / LAZY)
    logits = discriminator(real.requires_grad_(lazy))
    penalty = logits.new_zeros(())
    if lazy:
        (slope,) = torch.autograd.grad(logits.sum(), real, create_graph=True)
        penalty = LAZY * r1 * slope.square().sum((1, 2, 3)).mean()
    return {
        "told drawn": F.softplus(discriminator(drawn)).mean(),
        "told real": F.softplus(-logits).mean(),
        "r1": penalty,
    }
