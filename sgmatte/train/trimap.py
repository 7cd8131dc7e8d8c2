"""What `sgmatte train trimap` runs: DeepLab on views of portraits, and the choice of the unknown band's width."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from sgmatte import zoo
from sgmatte.bench.trimap import mean_scores, trimap_scores
from sgmatte.nn.deeplab import DeepLab, LiteBackbone
from sgmatte.nn.efficientnet import EfficientNetLite0
from sgmatte.train.data import HELD_OUT, Sample, image_files, read_rgb
from sgmatte.train.loop import Observe, Recipe, begin_at, fit
from sgmatte.train.views import CACHED_SIDE, Portrait, Views, portraits
from sgmatte.trimaps import FOREGROUND, TrimapNetwork, whole

WIDEST = 0.145  # share of a held-out portrait, on average, that the unknown band may take
BIASES = tuple(step / 8 for step in range(-8, 25))  # added to the unknown logit


def losses(network: nn.Module, batch: Sample) -> Mapping[str, Tensor]:
    """`class_losses` of what the network sees in the image."""
    image = batch["image"]
    logits = F.interpolate(network(image).float(), image.shape[2:], mode="bilinear", align_corners=False)
    return class_losses(logits, batch["trimap"], batch["mask"])


def class_losses(logits: Tensor, trimap: Tensor, mask: Tensor) -> Mapping[str, Tensor]:
    """Cross-entropy over the three classes, and over fg against bg alone.

    The second decides inside the unknown band which side a pixel is on, were it not unknown, and thereby keeps the
    middle of the band on the mask's edge: softmax(fg) + softmax(unknown)/2 > 1/2 exactly where fg's logit exceeds bg's.

    Args:
        logits: (N, 3, H, W).
        trimap: (N, H, W) int64 classes.
        mask: (N, H, W) float, 1 where the person is.
    """
    side = logits[:, FOREGROUND] - logits[:, 0]
    weight = logits.new_tensor([1.0, 1.5, 1.0])  # a missed hair costs more than a wide band
    return {
        "classes": F.cross_entropy(logits, trimap, weight=weight),
        "side": F.binary_cross_entropy_with_logits(side, mask),
    }


def trained_trimap(
    data: Path,
    backgrounds: Path | None,
    recipe: Recipe,
    run: Path,
    *,
    side: int = 384,
    band: float = 0.005,
    start: Path | None = None,
    thaw: bool = False,
    device: torch.device | None = None,
    observe: Observe | None = None,
) -> TrimapNetwork:
    """Train on `data` (image/, alpha/, mask/), with composites on the images of `backgrounds`.

    Every 16th portrait is held out: validated on, and used to choose the bias of the unknown logit.

    Args:
        side: longest side of a photo in the network; views are a little smaller, so that a photo is seen whole or cut.
        band: how far the unknown band reaches past soft alpha, as a share of the photo's longest side. A narrow one
            keeps the unknown logit on the soft pixels themselves; the bias then widens it where the network hesitates.
        start: folder of an earlier run, or a weight file, that this one goes on from; without it the backbone starts
            from ImageNet and the head from nothing.
        thaw: train the backbone's depthwise convolutions too.

    Raises:
        DataError: a folder lacks what is needed, or `run` holds another recipe's checkpoint.
        WeightError: see `zoo.path`.
    """
    people = portraits(data, band, observe)
    held_out, seen = people[::HELD_OUT], [p for i, p in enumerate(people) if i % HELD_OUT]
    scenes = [] if backgrounds is None else [_scene(path) for path in image_files(backgrounds)]
    torch.manual_seed(recipe.seed)
    backbone = LiteBackbone()
    zoo.load_into(backbone.features, "efficientnet-lite0.imagenet")
    freeze(backbone.features, depthwise=not thaw)
    network = DeepLab(backbone)
    if start:
        begin_at(network, start)

    def validate(model: nn.Module) -> Mapping[str, float]:
        found = answers(TrimapNetwork(model, side), held_out, device)
        return asdict(mean_scores([trimap_scores(*answer) for answer in found]))

    views = Views(seen, scenes, (whole(0.8 * side), whole(0.7 * side)))
    trained = fit(network, views, losses, recipe, run, device=device, validate=validate, observe=observe)
    bias = chosen_bias(answers(TrimapNetwork(trained, side), held_out, device))
    return TrimapNetwork(trained, side, bias)


def freeze(features: EfficientNetLite0, depthwise: bool) -> None:
    """Keep the first stages as ImageNet left them and, with `depthwise`, every depthwise convolution too.

    The first stages hold most of the pixels, and depthwise weight gradients are slow on a CPU: without both a training
    step takes half the time.
    """
    for module in [features.stem, *features.blocks[: features.ends["stage2"]]]:
        module.requires_grad_(False)
    if depthwise:
        for block in features.blocks:
            block.depthwise.requires_grad_(False)


def _scene(path: Path) -> Image.Image:
    scene = Image.fromarray(read_rgb(path))
    scene.thumbnail((CACHED_SIDE, CACHED_SIDE))
    return scene


Answer = tuple[Tensor, Tensor, Tensor]
"""Logits (1, 3, H, W), alpha (1, 1, H, W) in [0, 1] and mask (1, 1, H, W) bool of one portrait."""


@torch.no_grad()
def answers(network: TrimapNetwork, people: Sequence[Portrait], device: torch.device | None) -> Iterator[Answer]:
    """What the network says about portraits, at their cached size, beside what is true."""
    for person in people:
        image = torch.tensor(np.asarray(person.image)).permute(2, 0, 1)[None].to(device) / 255
        alpha = torch.tensor(np.asarray(person.alpha))[None, None].to(device) / 255
        mask = torch.tensor(np.asarray(person.classes) >= 128)[None, None].to(device)
        yield network.mean_logits(image), alpha, mask


def chosen_bias(found: Iterable[Answer], widest: float = WIDEST, steps: Sequence[float] = BIASES) -> float:
    """The largest addition to the unknown logit that keeps the band, on average, no wider than a share of the image.

    Largest, because a soft pixel outside the band is lost for good, and the matting network can narrow the band itself.
    """
    found = list(found)

    def width(bias: float) -> float:
        shift = torch.tensor([0.0, bias, 0.0]).view(1, 3, 1, 1)
        return mean_scores([trimap_scores(logits + shift.to(logits), *truth) for logits, *truth in found]).unknown

    return max((bias for bias in steps if width(bias) <= widest), default=min(steps))
