"""Training of GCA on composites: `sgmatte train gca`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sgmatte.nn.gca import GCA
from sgmatte.train.composites import CompositeSampler, Foregrounds, training_backgrounds, with_extra
from sgmatte.train.data import PortraitFolder, Sample, Sampler
from sgmatte.train.loop import Observe, Recipe, begin_at, fit
from sgmatte.train.progress import alpha_errors, alpha_sheet
from sgmatte.train.scenes import FoundTrimaps, Scenes
from sgmatte.trimaps import trimap_model


def trained_gca(
    portraits: Path,
    backgrounds: Path,
    recipe: Recipe,
    folder: Path,
    *,
    width: float = 0.5,
    size: int = 192,
    zoom: float = 1.9,
    band: float = 40,
    cache: Path | None = None,
    start: Path | None = None,
    extra: Path | None = None,
    extra_weight: float = 0.3,
    scenes: int = 0,
    scene_share: float = 0.6,
    validation: int = 64,
    device: torch.device | None = None,
    observe: Observe | None = None,
    observe_cache: Callable[[int, int], None] | None = None,
    observe_scenes: Callable[[int, int], None] | None = None,
) -> GCA:
    """GCA trained on people of `portraits` over the unreserved photos of `backgrounds`: averaged, in eval mode.

    Plain convolutions: batch normalisation after each bounds what spectral normalisation would. Cut-out foregrounds are
    kept in `cache` (default: inside `folder`); `validation` composites follow the progress. With `start`, the folder of
    an earlier run or a weight file, training goes on from there with a recipe of its own; see `begin_at`.

    `extra` is a folder of more people, such as `sgmatte generate` makes, whom a share `extra_weight` of the samples
    shows; the validation knows nothing of them, so trainings with and without compare. With `scenes`, a number of whole
    composites, a share `scene_share` of the samples are parts of those, with the trimaps that the bundled network finds
    in them; the validation does without these too.

    Raises:
        UsageError: `extra_weight` does not lie between 0 and 1.
        DataError: a folder lacks images or alphas, or `folder` holds a checkpoint of another recipe.
        WeightError: `start` does not fit.
    """
    foregrounds = Foregrounds.of(PortraitFolder(portraits), cache or folder / "foregrounds")
    foregrounds.fill_cache(observe_cache)
    others = Foregrounds.extra(extra, foregrounds.cache) if extra else None
    if others:
        others.fill_cache(observe_cache)
    behind, place = training_backgrounds(backgrounds), device or torch.device("cpu")
    sampler = CompositeSampler(foregrounds, behind, size, zoom, band)
    samples: Sampler = with_extra(sampler, others, extra_weight)
    if scenes:
        whole = Scenes.of(foregrounds, behind, scenes, trimap_model())  # on the CPU, where samples are prepared
        whole.fill_cache(observe_scenes)
        samples = FoundTrimaps(samples, whole, scene_share, size, zoom)
    torch.manual_seed(recipe.seed)
    network = GCA(width)
    if start:
        begin_at(network, start)
    averaged = fit(
        network,
        samples,
        losses,
        recipe,
        folder,
        device=place,
        validate=alpha_errors(sampler, validation, place),
        sheet=alpha_sheet(sampler, place),
        observe=observe,
    )
    assert isinstance(averaged, GCA)
    return averaged


def losses(network: nn.Module, sample: Sample) -> Mapping[str, Tensor]:
    """L1 on the unknown region (the paper's only loss) and half the L1 of its Laplacian pyramid, which sharpens."""
    alpha, unknown = sample["alpha"], (sample["trimap"] == 1).float()
    predicted = network(sample["image"], sample["trimap"])
    error = (predicted - alpha) * unknown
    area = unknown.sum().clamp(min=1)
    return {"l1": error.abs().sum() / area, "laplacian": 0.5 * laplacian_norm(error) / area}


def laplacian_norm(x: Tensor, levels: int = 4) -> Tensor:
    """Sum of |Laplacian pyramid of x|, level s weighted by 4^s so that each counts per full-size pixel.

    The pyramid is linear, so the norm of a difference is the distance of two pyramids.
    """
    total = x.new_zeros(())
    for level in range(levels):
        smaller = F.avg_pool2d(x, 2)
        detail = x - F.interpolate(smaller, scale_factor=2, mode="bilinear", align_corners=False)
        total = total + 4**level * detail.abs().sum()
        x = smaller
    return total
