"""What `sgmatte train person` runs: Robust Video Matting is adapted to still portraits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from sgmatte.nn.person import LOOKS, SIDE, Adapter
from sgmatte.nn.rvm import rvm_model
from sgmatte.train.composites import Foregrounds, training_backgrounds
from sgmatte.train.data import PortraitFolder, Sample, batches
from sgmatte.train.gca import laplacian_norm
from sgmatte.train.loop import Observe, Recipe, fit
from sgmatte.train.progress import VALIDATION_SEED
from sgmatte.train.scenes import WholePictures
from sgmatte.train.team import Team

SIZE = (SIDE, SIDE * 3 // 4)  # height and width of a sample
UNTOUCHED = 0.3  # share of photos as they were taken: no composite has the light of a real one
SMALLEST = 0.75  # sides of the part of a picture that a sample shows, at the least


@dataclass(frozen=True)
class Stills:
    """Draws samples: `image` (3, H, W) and `alpha` (1, H, W), both in [0, 1]."""

    pictures: WholePictures

    def __call__(self, rng: np.random.Generator) -> Sample:
        image, alpha = (torch.from_numpy(array) for array in self.pictures(rng))
        share, left, top = rng.uniform(SMALLEST, 1), rng.random(), rng.random()
        height, width = (round(length * share) for length in alpha.shape)
        y, x = round((alpha.shape[0] - height) * top), round((alpha.shape[1] - width) * left)
        window = np.s_[y : y + height, x : x + width]

        def shrunk(planes: Tensor) -> Tensor:
            seen = F.interpolate(planes[None] / 255, SIZE, mode="bilinear", align_corners=False, antialias=True)
            return seen[0].clamp(0, 1)

        return {"image": shrunk(image[window].permute(2, 0, 1)), "alpha": shrunk(alpha[window][None])}


def losses(alpha: Tensor, truth: Tensor) -> Mapping[str, Tensor]:
    """L1 of an alpha that may leave [0, 1] and of its Laplacian pyramid, as in the paper of RVM (section 4.2)."""
    # What is clamped still has a gradient where it is wrong: else nothing would bring back a false 0.
    error = alpha + (alpha.clamp(0, 1) - alpha).detach() - truth
    return {"l1": error.abs().mean(), "laplacian": 0.2 * laplacian_norm(error) / error.numel()}


def trained_person(
    portraits: Path,
    backgrounds: Path,
    recipe: Recipe,
    folder: Path,
    *,
    cache: Path | None = None,
    validation: int = 64,
    device: torch.device | None = None,
    team: Team = Team(),  # noqa: B008, it is frozen
    observe: Observe | None = None,
    observe_cache: Callable[[int, int], None] | None = None,
) -> Adapter:
    """The adapter trained on people of `portraits` over the unreserved photos of `backgrounds`: averaged, in eval mode.

    RVM stays as it is. Every 16th portrait is held out; `validation` pictures of those follow the progress. Cut-out
    foregrounds are kept in `cache` (default: inside `folder`).

    Raises:
        DataError: a folder lacks images or alphas, or `folder` holds a checkpoint of another recipe.
        WeightError: see `zoo.path`.
    """
    foregrounds = Foregrounds.of(PortraitFolder(portraits), cache or folder / "foregrounds")
    if team.leads:
        foregrounds.fill_cache(observe_cache)
    team.wait()
    behind, place = training_backgrounds(backgrounds), device or torch.device("cpu")
    seen, unseen = (Stills(WholePictures.of(foregrounds, behind, held_out, UNTOUCHED)) for held_out in (False, True))
    rvm = rvm_model(place).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    rvm.side, rvm.looks = SIDE, LOOKS
    values = rvm.state_dict()

    def alpha(adapter: nn.Module, image: Tensor) -> Tensor:
        assert isinstance(adapter, Adapter)
        found: Tensor = functional_call(rvm, adapter.adapted(values), (image,), {"bounded": False})
        return found

    torch.manual_seed(recipe.seed)
    averaged = fit(
        Adapter(),
        seen,
        lambda adapter, sample: losses(alpha(adapter, sample["image"]), sample["alpha"]),
        recipe,
        folder,
        device=place,
        team=team,
        validate=lambda adapter: errors(lambda image: alpha(adapter, image).clamp(0, 1), unseen, validation, place),
        observe=observe,
    )
    assert isinstance(averaged, Adapter)
    return averaged


def errors(
    network: Callable[[Tensor], Tensor], stills: Stills, count: int, device: torch.device
) -> Mapping[str, float]:
    """Mean absolute and squared error of alpha, and the share of pixels that are taken for what they are not at all, in
    `count` samples, at least 4.
    """
    absolute, squared, wrong, chunks = 0.0, 0.0, 0.0, max(1, count // 4)
    for batch in batches(stills, VALIDATION_SEED, 4, 0, chunks):
        error = network(batch["image"].to(device)).cpu() - batch["alpha"]
        absolute += float(error.abs().mean())
        squared += float(error.square().mean())
        wrong += float((error.abs() > 0.5).float().mean())
    return {"mad": absolute / chunks, "mse": squared / chunks, "wrong": wrong / chunks}
