"""What `sgmatte train referee` runs: whom to believe about a trimap, learned on scenes in which the truth is known."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sgmatte.bench.trimap import mean_scores, trimap_scores
from sgmatte.nn.referee import Referee
from sgmatte.train.composites import Foregrounds, Pixels, jittered, training_backgrounds
from sgmatte.train.data import PortraitFolder, Sample
from sgmatte.train.loop import Observe, Recipe, fit
from sgmatte.train.scenes import Scenes
from sgmatte.train.trimap import Answer, chosen_bias, class_losses
from sgmatte.trimaps import Opinions, band_trimap, hearing_all

SIZE = (384, 288)  # height and width of a sample
SMALLEST = 0.75  # sides of the part of a scene that a sample shows, at the least
BAND = 2  # pixels of a sample that are unknown beside soft ones
# DeepLab is surer of people that it was trained on than of others: sometimes it is nearly not heard, or more weakly.
DEAF, WEAK = 0.08, 0.42  # probabilities of that
UNHEARD = 0.05  # probability of each of the others to say nothing
MOST = 3.0  # what the unknown logit is changed by, at the most


@dataclass(frozen=True)
class Hearings:
    """Draws samples: a part of a scene (3, H, W), what is said of it, and the truth, `trimap` and `mask` (H, W)."""

    scenes: Scenes

    def __call__(self, rng: np.random.Generator) -> Sample:
        scene = self.scenes[int(rng.integers(len(self.scenes)))]
        said = scene.opinions
        share, left, top = rng.uniform(SMALLEST, 1), rng.random(), rng.random()
        flipped = rng.random() < 0.5

        def part(x: Tensor, antialias: bool = False) -> Tensor:
            height, width = (round(length * share) for length in x.shape[2:])
            y, x0 = round((x.shape[2] - height) * top), round((x.shape[3] - width) * left)
            window = x[:, :, y : y + height, x0 : x0 + width]
            seen = F.interpolate(window, SIZE, mode="bilinear", align_corners=False, antialias=antialias)
            return seen.flip(3) if flipped else seen

        alpha = part(torch.from_numpy(scene.alpha)[None, None] / 255, antialias=True).clamp(0, 1)
        colours: Pixels = part(said.image)[0].permute(1, 2, 0).numpy()
        logits = part(F.interpolate(said.logits, said.image.shape[2:], mode="bilinear", align_corners=False))
        kind = rng.random()
        logits = logits * (0.2 if kind < DEAF else rng.uniform(0.4, 1) if kind < DEAF + WEAK else 1.0)
        persons = part(said.persons)
        silent = torch.from_numpy(rng.random(persons.shape[1]) < UNHEARD).view(1, -1, 1, 1)
        return {
            "image": torch.from_numpy(jittered(colours, rng, 1).transpose(2, 0, 1).copy()),
            "logits": logits[0].float(),
            "persons": torch.where(silent, 0.5, persons)[0],
            "trimap": band_trimap(soft_only(alpha), BAND)[0, 0],
            "mask": (alpha > 0.5)[0, 0].float(),
        }


def soft_only(alpha: Tensor) -> Tensor:
    """Alpha with 0 and 1 where an eye would call it so."""
    return torch.where(alpha < 0.05, 0.0, torch.where(alpha > 0.95, 1.0, alpha))


def losses(network: nn.Module, batch: Sample) -> Mapping[str, Tensor]:
    return class_losses(network(batch["image"], batch["logits"], batch["persons"]), batch["trimap"], batch["mask"])


def trained_referee(
    portraits: Path,
    backgrounds: Path,
    recipe: Recipe,
    folder: Path,
    *,
    scenes: int = 3600,
    held_out: int = 80,
    widest: float = 0.12,
    cache: Path | None = None,
    device: torch.device | None = None,
    observe: Observe | None = None,
    observe_cache: Callable[[int, int], None] | None = None,
    observe_scenes: Callable[[int, int], None] | None = None,
) -> tuple[Referee, float]:
    """A referee trained on `scenes` scenes, averaged, in eval mode, and the bias of the unknown logit in trimaps by it.

    Every 16th portrait is held out; `held_out` scenes of those are validated on, and choose the bias: the largest whose
    band takes at most `widest` of a picture, on average.

    Raises:
        DataError: a folder lacks images or alphas, or `folder` holds a checkpoint of another recipe.
        WeightError: see `zoo.path`.
    """
    place = device or torch.device("cpu")
    foregrounds = Foregrounds.of(PortraitFolder(portraits), cache or folder / "foregrounds")
    foregrounds.fill_cache(observe_cache)
    behind = training_backgrounds(backgrounds)
    torch.manual_seed(recipe.seed)
    referee = Referee()
    panel = hearing_all(referee).to(place).eval()
    seen = Scenes.of(foregrounds, behind, scenes, panel)
    unseen = Scenes.of(foregrounds, behind, held_out, panel, held_out=True)
    for some in (seen, unseen):
        some.fill_cache(observe_scenes)

    def validate(model: nn.Module) -> Mapping[str, float]:
        return asdict(mean_scores([trimap_scores(*answer) for answer in answers(model, unseen)]))

    trained = fit(referee, Hearings(seen), losses, recipe, folder, device=place, validate=validate, observe=observe)
    assert isinstance(trained, Referee)
    steps = np.arange(-MOST, MOST + 1e-9, 1 / 8)
    return trained, chosen_bias(answers(trained, unseen), widest, [float(step) for step in steps])


def answers(referee: nn.Module, scenes: Scenes) -> Iterator[Answer]:
    """What comes of the opinions by this referee, beside what is true."""
    network = hearing_all(referee).to(next(referee.parameters()).device)
    for k in range(len(scenes)):
        scene = scenes[k]
        said = Opinions(*(x.to(next(referee.parameters()).device) for x in vars(scene.opinions).values()))
        alpha = torch.from_numpy(scene.alpha)[None, None] / 255
        logits = F.interpolate(network.settled(said), alpha.shape[2:], mode="bilinear", align_corners=False).cpu()
        yield logits, alpha, alpha > 0.5
