"""Training of the critic on good composites against bad ones: `sgmatte train critic`.

Good and bad come in pairs that share the person, the crop, the new background, the camera's noise and the JPEG, and
differ only by what was done to the alpha or to the foreground colours. So there is nothing else to learn from.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from scipy import ndimage
from torch import Tensor, nn

from sgmatte.enhancement.backgrounds import synthetic_background
from sgmatte.nn.critic import Critic, untrained_critic
from sgmatte.train.composites import (
    CompositeSampler,
    Foregrounds,
    Pixels,
    degraded,
    jittered,
    reserved_backgrounds,
    training_backgrounds,
)
from sgmatte.train.data import PortraitFolder, Sample, batches, read_rgb
from sgmatte.train.loop import Observe, Recipe, Validate, fit
from sgmatte.train.progress import VALIDATION_SEED

VISIBLE = 0.01  # mean difference of the two composites under a patch, from which on the patch counts as damaged


def eroded(alpha: Pixels, rng: np.random.Generator) -> Pixels:
    return _like_edge(ndimage.grey_erosion(alpha, footprint=_disc(rng)), rng)


def dilated(alpha: Pixels, rng: np.random.Generator) -> Pixels:
    return _like_edge(ndimage.grey_dilation(alpha, footprint=_disc(rng)), rng)


def blurred(alpha: Pixels, rng: np.random.Generator) -> Pixels:
    return ndimage.gaussian_filter(alpha, rng.uniform(2, 8))


def thresholded(alpha: Pixels, rng: np.random.Generator) -> Pixels:
    return (alpha > rng.uniform(0.15, 0.85)).astype(np.float32)


def shifted(alpha: Pixels, rng: np.random.Generator) -> Pixels:
    angle, length = rng.uniform(0, 2 * np.pi), rng.uniform(2.5, 10)
    return ndimage.shift(alpha, (length * np.sin(angle), length * np.cos(angle)), order=1, mode="nearest")


def holed(alpha: Pixels, rng: np.random.Generator) -> Pixels:
    return alpha * (1 - rng.uniform(0.3, 1) * _blobs(alpha.shape, rng))


def with_islands(alpha: Pixels, rng: np.random.Generator) -> Pixels:
    return np.maximum(alpha, rng.uniform(0.3, 1) * _blobs(alpha.shape, rng))


def flat_band(alpha: Pixels, rng: np.random.Generator) -> Pixels:
    """The soft band, widened, replaced by a constant: what a network without an idea of the hair answers."""
    reach = int(rng.integers(1, 8))
    soft = ndimage.binary_dilation((alpha > 0.05) & (alpha < 0.95), iterations=reach).astype(np.float32)
    return alpha + ndimage.gaussian_filter(soft, 1) * (np.float32(rng.uniform(0.2, 0.8)) - alpha)


def veiled(alpha: Pixels, rng: np.random.Generator) -> Pixels:
    """Neither quite opaque nor quite transparent anywhere."""
    return rng.uniform(0, 0.25) + alpha * rng.uniform(0.6, 0.85)


def unchanged(alpha: Pixels, rng: np.random.Generator) -> Pixels:
    return alpha


ALPHA_DAMAGES = (eroded, dilated, blurred, thresholded, shifted, holed, with_islands, flat_band, veiled)
DAMAGES = (*(damage.__name__ for damage in ALPHA_DAMAGES), "old_background")


@dataclass(frozen=True)
class VerdictSampler(CompositeSampler):
    """Draws pairs: good (3, S, S), bad (3, S, S), what the damage changes (3, S, S) and its number in `DAMAGES`.

    Some good ones are the photo itself, whose bad twin is then a damaged cut-out of the same crop on a new background.
    """

    untouched: float = 0.2
    made_up: float = 0.35  # probability of a background from `synthetic_background`, which is what most users will have

    def __call__(self, rng: np.random.Generator) -> Sample:
        k = int(rng.integers(len(self.foregrounds)))
        whole = self.foregrounds[k]
        side = round(self.size * 1.9 ** rng.random())
        crop_seed, jitter_seed, camera_seed = (int(seed) for seed in rng.integers(2**32, size=3))
        colours, alpha = self._crop(whole, side, np.random.default_rng(crop_seed))
        photo, _ = self._crop(
            np.dstack((read_rgb(self.foregrounds.images[k]), whole[..., 3])), side, np.random.default_rng(crop_seed)
        )
        colours, photo = (jittered(x, np.random.default_rng(jitter_seed), 1) for x in (colours, photo))
        behind = self._behind(rng)
        damage = int(rng.integers(len(DAMAGES)))
        bad_alpha, bad_colours = damaged(DAMAGES[damage], alpha, colours, photo, rng)
        good, bad = _over(alpha, colours, behind), _over(bad_alpha, bad_colours, behind)
        difference = np.abs(good - bad)
        if rng.random() < self.untouched:
            good = photo
        # the same noise and the same JPEG for both
        good, bad = (degraded(x, np.random.default_rng(camera_seed)) for x in (good, bad))
        planes = {"good": good, "bad": bad, "difference": difference}
        return {
            "damage": torch.tensor(damage),
            **{k: torch.from_numpy(np.ascontiguousarray(x.transpose(2, 0, 1), np.float32)) for k, x in planes.items()},
        }

    def _behind(self, rng: np.random.Generator) -> Pixels:
        if rng.random() < self.made_up:
            return synthetic_background((self.size, self.size), rng)
        return jittered(self._background(rng), rng, 1)


def damaged(
    name: str, alpha: Pixels, colours: Pixels, photo: Pixels, rng: np.random.Generator
) -> tuple[Pixels, Pixels]:
    """Alpha and foreground colours after the damage `name` of `DAMAGES`.

    A third of the damaged alphas also take the photo's own colours, so that old background shows in them; with
    "old_background" that is all there is, on a slightly widened alpha, where it shows most.
    """
    if name == "old_background":
        widened = ndimage.grey_dilation(alpha, footprint=_disc(rng, 4))
        return (widened if rng.random() < 0.7 else alpha), photo
    damage = next(damage for damage in ALPHA_DAMAGES if damage.__name__ == name)
    bad = np.clip(damage(alpha, rng), 0, 1).astype(np.float32)
    return bad, photo if rng.random() < 1 / 3 else colours


def _over(alpha: Pixels, colours: Pixels, behind: Pixels) -> Pixels:
    return alpha[..., None] * colours + (1 - alpha[..., None]) * behind


def _disc(rng: np.random.Generator, largest: float = 8) -> np.ndarray:
    radius = rng.uniform(1.5, largest)
    reach = int(radius)
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    return y**2 + x**2 <= radius**2


def _like_edge(alpha: Pixels, rng: np.random.Generator) -> Pixels:
    """The blocky edge of a morphological filter, softened, so that it is told by its place and not by its steps."""
    return ndimage.gaussian_filter(alpha, rng.uniform(0.5, 1.5))


def _blobs(shape: tuple[int, ...], rng: np.random.Generator) -> Pixels:
    """Soft spots, most of the picture 0, their insides 1."""
    cells = int(rng.integers(4, 14))
    coarse = Image.fromarray(rng.standard_normal((cells, cells)).astype(np.float32))
    noise = np.asarray(coarse.resize((shape[1], shape[0]), Image.Resampling.BICUBIC))
    level = np.quantile(noise, rng.uniform(0.85, 0.97))
    return np.clip((noise - level) * rng.uniform(2, 20), 0, 1)


def losses(critic: nn.Module, sample: Sample) -> Mapping[str, Tensor]:
    """Binary cross-entropy patch by patch: bad where the damage is, good everywhere else.

    The damaged patches of the bad picture and the same places of the good one weigh one each, and the places that are
    equal in both, which must not sway the verdict, half.
    """
    logits = critic(torch.cat([sample["good"], sample["bad"]])).float()
    of_good, of_bad = logits.chunk(2)
    hurt = damage_map(sample["difference"], of_good.shape[-1])
    whole = 1 - hurt
    return {
        "good": (F.softplus(-of_good) * hurt).sum() / hurt.sum().clamp(min=1),
        "bad": (F.softplus(of_bad) * hurt).sum() / hurt.sum().clamp(min=1),
        "equal": 0.25 * (F.softplus(-logits) * torch.cat([whole, whole])).sum() / whole.sum().clamp(min=1),
    }


def damage_map(difference: Tensor, cells: int) -> Tensor:
    """(N, 1, cells, cells): 1 where the damage is visible on the mean of 3 x 3 cells, else 0."""
    mean = F.adaptive_avg_pool2d(difference.mean(dim=1, keepdim=True), cells)
    return (F.avg_pool2d(mean, 3, stride=1, padding=1) > VISIBLE).float()


def trained_critic(
    portraits: Path,
    backgrounds: Path,
    recipe: Recipe,
    folder: Path,
    *,
    unseen: Path | None = None,
    size: int = 192,
    cache: Path | None = None,
    device: torch.device | None = None,
    observe: Observe | None = None,
    observe_cache: Callable[[int, int], None] | None = None,
) -> Critic:
    """A critic trained on `portraits` over the unreserved photos of `backgrounds`, in eval mode.

    Validated on the portraits of `unseen` over the reserved photos. Cut-out foregrounds are kept in `cache` (default:
    inside `folder`).

    Raises:
        DataError: a folder lacks images or alphas, or `folder` holds a checkpoint of another recipe.
        WeightError: the critic's trunk is missing or damaged.
    """
    cache = cache or folder / "foregrounds"
    foregrounds = Foregrounds.of(PortraitFolder(portraits), cache)
    foregrounds.fill_cache(observe_cache)
    sampler = VerdictSampler(foregrounds, training_backgrounds(backgrounds), size)
    validate = None
    if unseen is not None:
        others = Foregrounds.of(PortraitFolder(unseen), cache)
        pairs = VerdictSampler(others, reserved_backgrounds(backgrounds), size, untouched=0)
        validate = validation(pairs, device or torch.device("cpu"))
    torch.manual_seed(recipe.seed)
    critic = untrained_critic()
    averaged = fit(critic, sampler, losses, recipe, folder, device=device, validate=validate, observe=observe)
    assert isinstance(averaged, Critic)
    return averaged


def validation(sampler: VerdictSampler, device: torch.device, count: int = 400) -> Validate:
    """How well good and bad are told apart on `count` pairs.

    - patches: share of right verdicts where the damage is, on the bad pictures and the same places of the good ones;
    - pairs: share of pairs whose bad picture has the higher adversarial loss; pairs_<damage>: of one damage alone;
    - auc: the same for a good and a bad picture of different people.
    """

    def validate(critic: nn.Module) -> Mapping[str, float]:
        right = places = 0.0
        faults: dict[str, list[Tensor]] = {"good": [], "bad": []}
        damages = []
        for batch in batches(sampler, VALIDATION_SEED, 8, 0, count // 8):
            good, bad = (critic(batch[key].to(device)).cpu() for key in ("good", "bad"))
            hurt = damage_map(batch["difference"], good.shape[-1])
            right += float((hurt * ((good > 0).float() + (bad < 0).float())).sum())
            places += 2 * float(hurt.sum())
            faults["good"].append(F.softplus(-good).mean(dim=(1, 2, 3)))
            faults["bad"].append(F.softplus(-bad).mean(dim=(1, 2, 3)))
            damages.append(batch["damage"])
        of_good, of_bad, damage = torch.cat(faults["good"]), torch.cat(faults["bad"]), torch.cat(damages)
        told = (of_bad > of_good).float()
        return {
            "patches": right / places,
            "pairs": float(told.mean()),
            "auc": float((of_bad[:, None] > of_good[None]).float().mean()),
            **{f"pairs_{name}": float(told[damage == k].mean()) for k, name in enumerate(DAMAGES)},
        }

    return validate
