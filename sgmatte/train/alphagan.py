"""Training of AlphaGAN on composites: `sgmatte train alphagan`.

Lutz et al. (BMVC 2018, arXiv 1807.10088), section 3.3: the alpha and the composite should be right, and the composite
should look real to a discriminator that sees it beside the trimap.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from sgmatte.foreground import composite
from sgmatte.nn.alphagan import AlphaGAN, PatchDiscriminator
from sgmatte.train.composites import CompositeSampler, Foregrounds, training_backgrounds, with_extra
from sgmatte.train.data import PortraitFolder, Sample
from sgmatte.train.loop import Observe, Recipe, begin_at, fit
from sgmatte.train.progress import alpha_errors, alpha_sheet
from sgmatte.train.team import Team

SMOOTH = 1e-6  # the paper's square root of 1e-12: the absolute difference, but with a gradient at zero


@dataclass(frozen=True)
class Weights:
    """What the three losses weigh: those of the public implementation; the paper weighs all the same."""

    alpha: float = 0.5
    composition: float = 0.5
    gan: float = 0.001


class Match(nn.Module):
    """Generator and discriminator, which one optimiser trains: each loss reaches only the one that it is for."""

    def __init__(self, generator: AlphaGAN, discriminator: PatchDiscriminator | None) -> None:
        super().__init__()
        self.generator, self.discriminator = generator, discriminator

    def forward(self, image: Tensor, trimap: Tensor) -> Tensor:
        """Alpha, as the generator's."""
        return self.generator(image, trimap)


def losses(match: nn.Module, sample: Sample, weights: Weights) -> Mapping[str, Tensor]:
    """Weighted losses of the generator, and the unweighted one of the discriminator.

    Alpha and composition count in the unknown region. What is certain is pasted before compositing: nobody would ask
    the network there. The GAN loss of the generator is the non-saturating one.
    """
    assert isinstance(match, Match)
    image, trimap, alpha = sample["image"], sample["trimap"], sample["alpha"]
    foreground, background = sample["foreground"], sample["background"]
    unknown = (trimap == 1).float()
    area = unknown.sum().clamp(min=1)
    answer = match(image, trimap)
    predicted = torch.where(trimap == 1, answer, alpha)
    drawn, real = (composite(matte, foreground, background) for matte in (predicted, alpha))
    found = {
        "alpha": weights.alpha * (_distance(predicted, alpha) * unknown).sum() / area,
        "composition": weights.composition * (_distance(drawn, real).mean(1, keepdim=True) * unknown).sum() / area,
    }
    if match.discriminator:
        judge = match.discriminator
        held = {name: value.detach() for name, value in judge.named_parameters()}
        verdict = functional_call(judge, held, (drawn, trimap))
        found["gan"] = weights.gan * F.softplus(-verdict.float()).mean()
        of_real, of_drawn = judge(real, trimap).float(), judge(drawn.detach(), trimap).float()
        found["discriminator"] = (F.softplus(-of_real).mean() + F.softplus(of_drawn).mean()) / 2
    return found


def _distance(x: Tensor, y: Tensor) -> Tensor:
    return ((x - y).square() + SMOOTH**2).sqrt()


def trained_alphagan(
    portraits: Path,
    backgrounds: Path,
    recipe: Recipe,
    folder: Path,
    *,
    weights: Weights = Weights(),
    width: float = 0.5,
    size: int = 192,
    zoom: float = 1.9,
    band: float = 40,
    cache: Path | None = None,
    start: Path | None = None,
    extra: Path | None = None,
    extra_weight: float = 0.3,
    validation: int = 64,
    compiled: bool = False,
    device: torch.device | None = None,
    team: Team = Team(),  # noqa: B008
    observe: Observe | None = None,
    observe_cache: Callable[[int, int], None] | None = None,
) -> tuple[AlphaGAN, PatchDiscriminator | None]:
    """Generator and discriminator trained on people of `portraits` over the unreserved photos of `backgrounds`, both
    averaged, in eval mode; no discriminator where the GAN loss weighs nothing.

    The other arguments are those of `trained_gca`; with the folder of an earlier run as `start`, both networks go on;
    with a weight file, the generator does, and meets a new discriminator. `compiled`: torch.compile fuses the norms of
    the generator with what stands around them, which takes two minutes and a C++ compiler at first.

    Raises:
        UsageError: `extra_weight` does not lie between 0 and 1.
        DataError: a folder lacks images or alphas, or `folder` holds a checkpoint of another recipe.
    """
    foregrounds = Foregrounds.of(PortraitFolder(portraits), cache or folder / "foregrounds")
    others = Foregrounds.extra(extra, foregrounds.cache) if extra else None
    if team.leads:
        foregrounds.fill_cache(observe_cache)
        if others:
            others.fill_cache(observe_cache)
    team.wait()
    sampler = CompositeSampler(foregrounds, training_backgrounds(backgrounds), size, zoom, band, layers=True)
    torch.manual_seed(recipe.seed)
    match = Match(AlphaGAN(width), PatchDiscriminator(width) if weights.gan else None)
    if start:
        begin_at(match if start.is_dir() else match.generator, start)
    if compiled:
        match.generator.compile()  # in place: weights keep their names
    place = device or torch.device("cpu")
    averaged = fit(
        match,
        with_extra(sampler, others, extra_weight),
        lambda network, sample: losses(network, sample, weights),
        recipe,
        folder,
        device=place,
        team=team,
        validate=alpha_errors(sampler, validation, place),
        sheet=alpha_sheet(sampler, place),
        observe=observe,
    )
    assert isinstance(averaged, Match)
    return averaged.generator, averaged.discriminator
