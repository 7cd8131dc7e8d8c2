"""The last lesson of a generator: what errors alone leave blurred, a critic makes it draw.

The student keeps to its teacher's pictures, and a critic that learns beside it tells its pictures from real ones. A
discriminator that begins with nothing learns too slowly on small batches to lead; one that sees through the frozen
features of an ImageNet network has less to learn (Sauer et al., "Projected GANs Converge Faster", NeurIPS 2021). It is
certain after a few hundred batches, for it knows single pictures by then; what pictures are like on average (`moments`)
goes on telling.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from sgmatte.nn import stylegan2
from sgmatte.nn.critic import Critic, untrained_critic
from sgmatte.nn.perceptual import PerceptualDistance
from sgmatte.train.data import Sample, batches, image_files, read_rgb
from sgmatte.train.loop import Observe, Recipe, fit
from sgmatte.train.moments import STAGES as MEASURED
from sgmatte.train.moments import Moments, shown
from sgmatte.train.teacher import Album, Teacher, as_picture, picture_errors, student_rows

SCALED_ON = 16  # batches of real pictures that say how large the critic's features are
MEASURED_ON = 200  # batches of them whose moments the student's should have


@dataclass(frozen=True)
class Duel:
    """Steps, batch and rate of both, and what the losses weigh; the pixels' and the perceptual one as in `Lesson`.

    The adversarial loss weighs what gives its gradient, at the picture, `adversarial` times the length of that of the
    other two: how steep a young critic is nobody knows beforehand (Esser et al., "Taming Transformers for
    High-Resolution Image Synthesis", CVPR 2021, eq. 7).
    """

    steps: int = 1200
    alone: int = 100  # steps at first in which the critic alone learns; from one that knows nothing comes noise
    batch: int = 8
    lr: float = 2e-3
    pixels: float = 10.0
    perceptual: float = 2.0
    adversarial: float = 2.0
    moments: float = 0.3  # of what the pictures lack on average, see `Moments`


class Pair(nn.Module):
    """Student and critic, which one optimiser trains: each loss reaches only the one that it is for."""

    def __init__(self, student: stylegan2.Generator, critic: Critic) -> None:
        super().__init__()
        self.student, self.critic = student, critic
        self.moments = Moments(2 * sum(critic.trunk.channels[stage] for stage in MEASURED))

    def train(self, mode: bool = True) -> Pair:
        super().train(mode)
        # Scales of a batch's own would make pictures of weak features, blurred ones, look like strong ones.
        self.critic.head.scale.eval()
        return self

    def verdict(self, picture: Tensor) -> Tensor:
        """The critic's logits of pictures in [-1, 1]."""
        with torch.autocast(picture.device.type, torch.bfloat16, enabled=self.student.fast):
            return self.critic((picture + 1) / 2).float()

    def shown(self, picture: Tensor) -> Tensor:
        """What `moments` takes: (N, C) of pictures in [-1, 1]."""
        with torch.autocast(picture.device.type, torch.bfloat16, enabled=self.student.fast):
            return shown(self.critic.trunk, (picture + 1) / 2)

    def held(self, picture: Tensor) -> Tensor:
        """The same, of a critic that learns nothing from it."""
        head = self.critic.head
        state = {name: value.detach() for name, value in head.named_parameters()}
        with torch.autocast(picture.device.type, torch.bfloat16, enabled=self.student.fast):
            return functional_call(head, state, (self.critic.seen((picture + 1) / 2),)).float()


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
    """Weighted losses of both."""
    rows = _rows(pair.student, teacher, sample)
    pictures = [picture for _, picture in pair.student.stages(rows, album.latents.maps(sample["noise"]))]
    target, real = as_picture(sample["picture"]), as_picture(sample["real"])
    *coarse, drawn = pictures
    seen = drawn.detach().requires_grad_()
    unlike = duel.pixels * picture_errors([seen], target)
    if perceptual:
        unlike = unlike + duel.perceptual * perceptual.against((target + 1) / 2)((seen + 1) / 2).mean()
    untrue = F.softplus(-pair.held(seen)).mean()
    unusual = duel.moments * pair.moments.difference(pair.shown(seen))
    to_like, to_true, to_usual = (torch.autograd.grad(loss, seen)[0] for loss in (unlike, untrue, unusual))
    weight = duel.adversarial * to_like.norm() / to_true.norm().clamp_min(1e-12)
    found = {
        "coarse": duel.pixels * picture_errors(coarse, target),
        "unlike": _with_slope(unlike, drawn, to_like),
        "untrue": _with_slope(untrue, drawn, weight * to_true),
        "unusual": _with_slope(unusual, drawn, to_usual),
    }
    return found | told(pair.verdict, drawn.detach(), real)


def told(verdict: Callable[[Tensor], Tensor], drawn: Tensor, real: Tensor) -> dict[str, Tensor]:
    """Losses of one that tells pictures drawn from real ones."""
    return {"told drawn": F.softplus(verdict(drawn)).mean(), "told real": F.softplus(-verdict(real)).mean()}


def _with_slope(value: Tensor, x: Tensor, slope: Tensor) -> Tensor:
    """A scalar of the given value whose gradient at `x` is `slope`."""
    product = (x * slope).sum()
    return value.detach() + product - product.detach()


def _rows(student: stylegan2.Generator, teacher: Teacher, sample: Sample) -> Tensor:
    w = teacher.w(sample["z"].flatten(0, 1)).unflatten(0, (-1, 2))
    return student_rows(student.layers, w, sample["change"])


@torch.no_grad()
def drawn_by(student: stylegan2.Generator, teacher: Teacher, album: Album, sample: Sample) -> Tensor:
    """Pictures (N, 3, S, S) of a batch of `album`."""
    return student(_rows(student, teacher, sample), album.latents.maps(sample["noise"]))


def sharpened(
    student: stylegan2.Generator,
    teacher: Teacher,
    album: Album,
    run: Path,
    duel: Duel,
    *,
    faces: Path | None = None,
    seed: int = 0,
    perceptual: PerceptualDistance | None = None,
    device: torch.device | None = None,
    validate: Callable[[stylegan2.Generator], Mapping[str, float]] | None = None,
    observe: Observe | None = None,
) -> stylegan2.Generator:
    """The student after the duel, averaged, in eval mode. The critic first learns for a while against a student that
    stays as it is, in `run`/alone, and is not kept.

    Raises:
        DataError: `run` holds a checkpoint of another recipe, or `faces` no picture.
        WeightError: the weights of the critic's trunk are missing or damaged.
    """
    torch.manual_seed(seed)
    opponents = Opponents(album, faces)
    pair = Pair(student, untrained_critic().to(device or torch.device("cpu")))
    _learn_scales(pair.critic, opponents, seed, duel.batch)
    pair.moments.learn(_shown_by_real_ones(pair, opponents, seed, duel.batch))

    def verdicts(both: nn.Module, sample: Sample) -> Mapping[str, Tensor]:
        assert isinstance(both, Pair)
        return told(both.verdict, drawn_by(both.student, teacher, album, sample), as_picture(sample["real"]))

    def losses(both: nn.Module, sample: Sample) -> Mapping[str, Tensor]:
        assert isinstance(both, Pair)
        return terms(both, sample, duel, teacher, album, perceptual)

    def score(both: nn.Module) -> Mapping[str, float]:
        assert isinstance(both, Pair)
        return validate(both.student) if validate else {}

    if duel.alone:
        alone = fit(
            pair,
            opponents,
            verdicts,
            recipe_of(duel.alone, duel.batch, duel.lr, seed),
            run / "alone",
            device=device,
            observe=observe,
        )
        assert isinstance(alone, Pair)
        pair.critic.load_state_dict(alone.critic.state_dict())
    averaged = fit(
        pair,
        opponents,
        losses,
        recipe_of(duel.steps, duel.batch, duel.lr, seed),
        run,
        device=device,
        validate=score if validate else None,
        observe=observe,
    )
    assert isinstance(averaged, Pair)
    return averaged.student


def recipe_of(steps: int, batch: int, lr: float, seed: int) -> Recipe:
    """How both sides of a duel are trained, and the discriminator after it."""
    return Recipe(
        steps,
        batch,
        lr,
        warmup=min(100, steps // 10),
        betas=(0.0, 0.99),
        ema=0.995,
        bf16=False,
        seed=seed,
        workers=0,
        log_every=25,
        checkpoint_every=50,
        validate_every=200,
    )


@torch.no_grad()
def _learn_scales(critic: Critic, opponents: Opponents, seed: int, batch: int) -> None:
    """Let the head's batch norms see what real pictures look like to the trunk."""
    device = next(critic.parameters()).device
    for scale in critic.head.scale:
        assert isinstance(scale, nn.BatchNorm2d)
        scale.momentum = None  # the plain mean
    critic.head.scale.train()
    for sample in islice(batches(opponents, seed, batch, 0, SCALED_ON, workers=0), SCALED_ON):
        critic((as_picture(sample["real"]).to(device) + 1) / 2)
    critic.head.scale.eval()


@torch.no_grad()
def _shown_by_real_ones(pair: Pair, opponents: Opponents, seed: int, batch: int) -> Iterator[Tensor]:
    device = next(pair.parameters()).device
    for sample in islice(batches(opponents, seed, batch, 0, MEASURED_ON, workers=0), MEASURED_ON):
        yield pair.shown(as_picture(sample["real"]).to(device))
