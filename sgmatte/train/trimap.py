"""What `sgmatte train trimap` runs: DeepLab on portraits, seen whole, in part, as head crops or in other places."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageFilter
from safetensors.torch import load_file
from torch import Tensor, nn

from sgmatte import zoo
from sgmatte.bench.trimap import mean_scores, trimap_scores
from sgmatte.errors import DataError
from sgmatte.nn.deeplab import DeepLab, LiteBackbone
from sgmatte.nn.efficientnet import EfficientNetLite0
from sgmatte.train.data import PortraitFolder, Sample, image_files, read_grey, read_rgb
from sgmatte.train.loop import Observe, Recipe, fit
from sgmatte.trimap import FOREGROUND, TrimapNetwork, band_trimap

CACHED_SIDE = 512  # longest side that decoded photos are kept at: 1,280 portraits take 1.3 GB
VIEW = (256, 224)  # height and width of a training view
COVERED = 0.965  # of the soft pixels of held-out portraits that the band has to cover; the bar on others is 0.95
BIASES = tuple(step / 8 for step in range(-8, 25))
BAND = 8 / 800  # how far the unknown band reaches past soft alpha, as a share of the photo's longest side
HELD_OUT = 16  # every 16th portrait is kept for validation and for choosing the decision rule


@dataclass(frozen=True)
class Portrait:
    """A decoded portrait: colours (RGB), alpha (L) and classes (L: trimap class + 128 where the mask is set)."""

    image: Image.Image
    alpha: Image.Image
    classes: Image.Image
    head: tuple[float, float, float]  # x of the head's middle, y of its top, side of a crop around it, in pixels


def portraits(folder: Path, observe: Observe | None = None) -> list[Portrait]:
    """Every portrait of `folder`, decoded once.

    Raises:
        DataError: see `PortraitFolder`; also where a mask is missing.
    """
    files = PortraitFolder(folder)
    images, alphas, masks = files.images, files.alphas, files.masks
    decoded = []
    for number, path in enumerate(images, start=1):
        if path.stem not in masks:
            raise DataError(f"{folder / 'mask'}: no mask for {path.stem}")
        decoded.append(portrait(read_rgb(path), read_grey(alphas[path.stem]), read_grey(masks[path.stem])))
        if observe and number % 200 == 0:
            observe(number, len(images), {"decoded": number})
    return decoded


def portrait(image: np.ndarray, alpha: np.ndarray, mask: np.ndarray) -> Portrait:
    """A `Portrait` from uint8 arrays (H, W, 3), (H, W), (H, W)."""
    height, width = alpha.shape
    scale = CACHED_SIDE / max(height, width)
    size = round(width * scale), round(height * scale)
    images = [Image.fromarray(array).resize(size, Image.Resampling.BOX) for array in (image, alpha, mask)]
    inside = np.asarray(images[2]) > 127
    trimap = band_trimap(torch.tensor(np.asarray(images[1]))[None, None] / 255, BAND * CACHED_SIDE)[0, 0].numpy()
    classes = Image.fromarray((trimap + 128 * inside).astype(np.uint8))
    return Portrait(images[0], images[1], classes, _head(inside))


def _head(mask: np.ndarray) -> tuple[float, float, float]:
    """Where the head must be in a head-and-shoulders portrait: at the top of the mask, half as wide as the frame."""
    rows = np.flatnonzero(mask.sum(1) > 0.05 * mask.shape[1])
    top, side = (float(rows[0]) if len(rows) else 0.0), 0.6 * mask.shape[1]
    columns = np.flatnonzero(mask[int(top) : int(top + 0.5 * side)].any(0))
    return (float(columns.mean()) if len(columns) else mask.shape[1] / 2), top, side


class Views:
    """Draws training samples: image (3, H, W) in [0, 1], trimap (H, W) int64 and mask (H, W) float."""

    def __init__(self, people: Sequence[Portrait], backgrounds: Sequence[Image.Image]) -> None:
        self.people, self.backgrounds = people, backgrounds

    def __call__(self, rng: np.random.Generator) -> Sample:
        person = self.people[int(rng.integers(len(self.people)))]
        moved = bool(self.backgrounds) and rng.random() < 0.25
        grid = _placed(person, rng) if moved else _viewed(person, rng)
        image = np.asarray(_sampled(person.image, grid, Image.Resampling.BILINEAR))
        classes = np.asarray(_sampled(person.classes, grid, Image.Resampling.NEAREST))
        if moved:
            alpha = np.asarray(_sampled(person.alpha, grid, Image.Resampling.BILINEAR))
            image = _on_background(image, alpha, self.backgrounds[int(rng.integers(len(self.backgrounds)))], rng)
        image = photographed(image, rng)
        return {
            "image": torch.from_numpy(image).permute(2, 0, 1),
            "trimap": torch.from_numpy((classes & 3).astype(np.int64)),
            "mask": torch.from_numpy((classes >= 128).astype(np.float32)),
        }


def _grid(centre: tuple[float, float], zoom: float, rng: np.random.Generator, anchor: float = 0.5) -> np.ndarray:
    """Affine map (2, 3) from view to photo pixels: rotated, flipped, `zoom` photo pixels per view pixel.

    `centre` in the photo comes to lie in the middle of the view's row at height `anchor`.
    """
    turn = np.deg2rad(rng.normal(0, 5)) if rng.random() < 0.5 else 0.0
    stretch = np.exp(rng.normal(0, 0.04))
    flip = -1 if rng.random() < 0.5 else 1
    matrix = zoom * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    matrix = matrix @ np.diag([flip * stretch, 1 / stretch])
    middle = np.array([VIEW[1] / 2, VIEW[0] * anchor])
    return np.column_stack([matrix, np.array(centre) - matrix @ middle])


def _viewed(person: Portrait, rng: np.random.Generator) -> np.ndarray:
    """The whole photo, a part of it, or the head filling the frame."""
    width, height = person.image.size
    whole = max(width / VIEW[1], height / VIEW[0])
    kind = rng.random()
    if kind < 0.55:
        zoom = whole * rng.uniform(0.75, 1.02)
        centre = _within(width, zoom * VIEW[1], rng), _within(height, zoom * VIEW[0], rng)
    elif kind < 0.8:
        zoom = whole * rng.uniform(0.35, 0.75)
        centre = _within(width, zoom * VIEW[1], rng), _within(height, zoom * VIEW[0], rng)
    else:
        x, top, side = person.head
        side *= rng.uniform(0.8, 1.5)
        zoom = side / VIEW[1]
        centre = x + rng.normal(0, 0.06) * side, top + rng.uniform(0.4, 0.65) * side
    return _grid(centre, zoom, rng)


def _within(length: float, window: float, rng: np.random.Generator) -> float:
    """Middle of a window that stays inside `length`, where it fits."""
    return length / 2 if window >= length else rng.uniform(window / 2, length - window / 2)


def _placed(person: Portrait, rng: np.random.Generator) -> np.ndarray:
    """The person smaller or larger, anywhere sideways, still cut off by the lower edge as in the photo."""
    width, height = person.image.size
    zoom = max(width / VIEW[1], height / VIEW[0]) * np.exp(rng.uniform(np.log(0.6), np.log(2.2)))
    sideways = rng.uniform(-0.3, 0.3) * zoom * VIEW[1]
    return _grid((width / 2 + sideways, height * rng.uniform(0.93, 0.99)), zoom, rng, anchor=1.0)


def _sampled(image: Image.Image, grid: np.ndarray, resample: Image.Resampling) -> Image.Image:
    coarse = np.hypot(grid[0, 0], grid[1, 0])
    if coarse >= 1.6 and resample is Image.Resampling.BILINEAR:  # averaged first, or the view would alias
        factor = round(coarse)
        image, grid = image.reduce(factor), grid / factor
    size = VIEW[1], VIEW[0]
    return image.transform(size, Image.Transform.AFFINE, tuple(grid.ravel()), resample)


def _on_background(
    image: np.ndarray, alpha: np.ndarray, background: Image.Image, rng: np.random.Generator
) -> np.ndarray:
    """Composite of the person, in foreground colours, over a random part of `background`; uint8 (H, W, 3)."""
    from pymatting import estimate_foreground_ml

    opacity = alpha[..., None].astype(np.float32) / 255
    foreground = estimate_foreground_ml(image.astype(np.float64) / 255, opacity[..., 0].astype(np.float64))
    share = rng.uniform(0.5, 1.0) * min(background.width / VIEW[1], background.height / VIEW[0])
    left = rng.uniform(0, background.width - share * VIEW[1])
    top = rng.uniform(0, background.height - share * VIEW[0])
    box = left, top, left + share * VIEW[1], top + share * VIEW[0]
    behind = background.resize((VIEW[1], VIEW[0]), Image.Resampling.BILINEAR, box=box)
    if rng.random() < 0.4:  # shallow depth of field
        behind = behind.filter(ImageFilter.GaussianBlur(rng.uniform(1, 6)))
    composite = opacity * np.clip(foreground, 0, 1) + (1 - opacity) * np.asarray(behind, np.float32) / 255
    return (composite * 255).astype(np.uint8)


def photographed(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """What other cameras and files make of a picture: blur, JPEG, exposure, colour, grey, noise.

    Args:
        image: uint8 (H, W, 3).

    Returns:
        float32 (H, W, 3) in [0, 1].
    """
    picture = Image.fromarray(image)
    if rng.random() < 0.15:
        picture = picture.filter(ImageFilter.GaussianBlur(rng.uniform(0.4, 2.0)))
    if rng.random() < 0.3:
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=int(rng.integers(25, 90)))
        picture = Image.open(file)
    values = np.asarray(picture, np.float32) / 255
    values = values ** np.float32(np.exp(rng.normal(0, 0.25)))  # gamma
    values = values * (1 + rng.normal(0, 0.06, 3)).astype(np.float32)  # white balance
    values = (values - values.mean()) * np.float32(np.exp(rng.normal(0, 0.2))) + values.mean()  # contrast
    values = values + np.float32(rng.normal(0, 0.06))  # brightness
    grey = values.mean(2, keepdims=True)
    saturation = 0.0 if rng.random() < 0.1 else np.exp(rng.normal(0, 0.3))
    values = grey + np.float32(saturation) * (values - grey)
    if rng.random() < 0.2:
        values = values + rng.normal(0, rng.uniform(0.005, 0.05), values.shape).astype(np.float32)
    return np.clip(values, 0, 1).astype(np.float32)


def losses(network: nn.Module, batch: Sample) -> Mapping[str, Tensor]:
    """Cross-entropy over the three classes, and over fg against bg alone.

    The second decides inside the unknown band which side a pixel is on, were it not unknown, and thereby keeps the
    middle of the band on the mask's edge: softmax(fg) + softmax(unknown)/2 > 1/2 exactly where fg's logit exceeds bg's.
    """
    image, trimap, mask = batch["image"], batch["trimap"], batch["mask"]
    logits = F.interpolate(network(image).float(), image.shape[2:], mode="bilinear", align_corners=False)
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
    start: Path | None = None,
    device: torch.device | None = None,
    observe: Observe | None = None,
) -> TrimapNetwork:
    """Train on `data` (image/, alpha/, mask/), with composites on the images of `backgrounds`.

    Every 16th portrait is held out: validated on, and used to choose the bias of the unknown logit. `start` is a file of
    weights to go on from; without it the backbone starts from ImageNet and the head from nothing.

    Raises:
        DataError: a folder lacks what is needed, or `run` holds another recipe's checkpoint.
        WeightError: see `zoo.path`.
    """
    people = portraits(data, observe)
    held_out, seen = people[::HELD_OUT], [p for i, p in enumerate(people) if i % HELD_OUT]
    scenes = [] if backgrounds is None else [_scene(path) for path in image_files(backgrounds)]
    torch.manual_seed(recipe.seed)
    backbone = LiteBackbone()
    zoo.load_into(backbone.features, "efficientnet-lite0.imagenet")
    freeze(backbone.features)
    network = DeepLab(backbone)
    if start:
        network.load_state_dict(load_file(start))

    def validate(model: nn.Module) -> Mapping[str, float]:
        return asdict(mean_scores([trimap_scores(*row) for row in answers(TrimapNetwork(model), held_out, device)]))

    trained = fit(network, Views(seen, scenes), losses, recipe, run, device=device, validate=validate, observe=observe)
    bias = chosen_bias(answers(TrimapNetwork(trained), held_out, device))
    return TrimapNetwork(trained, bias)


def freeze(features: EfficientNetLite0) -> None:
    """Keep the first stages and all its depthwise convolutions as ImageNet left them.

    The first stages hold most of the pixels, and depthwise weight gradients are slow on a CPU: without both, a training
    step takes a third of the time.
    """
    early = [features.stem, *features.blocks[: features.ends["stage2"]]]
    depthwise = [block.depthwise for block in features.blocks]
    for module in [*early, *depthwise]:
        module.requires_grad_(False)


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
        yield network.logits(image), alpha, mask


def chosen_bias(found: Iterable[Answer], covered: float = COVERED, steps: Sequence[float] = BIASES) -> float:
    """The smallest addition to the unknown logit that makes the band cover enough of the soft pixels.

    Smallest, because each step widens the band and leaves the matting network more to do.
    """
    found = list(found)
    for bias in steps:
        shift = torch.tensor([0.0, bias, 0.0]).view(1, 3, 1, 1)
        scores = mean_scores([trimap_scores(logits + shift.to(logits), *truth) for logits, *truth in found])
        if scores.covered >= covered:
            break
    return bias
