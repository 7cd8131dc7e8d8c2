"""The enhancement: W+ and noise maps move until trimap and matting network find the portrait easy.

The losses always see the picture that will be delivered, at a working size: the photo with the change pasted in.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from sgmatte.device import fast_in_bf16
from sgmatte.enhancement.backgrounds import background
from sgmatte.enhancement.losses import (
    adversarial,
    boundary_entropy,
    consensus,
    doubt,
    inconsistency,
    perceptual,
    pixel_distance,
    trimap_entropy,
)
from sgmatte.errors import UsageError
from sgmatte.face import Placement, Quad, crop_of
from sgmatte.foreground import composite, estimated_foreground
from sgmatte.matting.models import matted
from sgmatte.settings import LossWeights, Optimisation

if TYPE_CHECKING:
    from sgmatte.enhancement.critics import Judge
    from sgmatte.inversion import Inversion
    from sgmatte.matting.models import MattingModel
    from sgmatte.nn.perceptual import PerceptualDistance
    from sgmatte.trimaps import TrimapNetwork

WORKING_PIXELS = 800 * 608  # the paper's matting size
WARMUP = 5  # steps
SURROUNDINGS = 48  # pixels around what can change that the matting network sees: it looks for like pixels nearby
LATENT_SHARE = 0.2  # of the rate, for W+: one of its values moves the whole face, one of the noise maps a place

Observe = Callable[[int, int, Mapping[str, float]], None]
"""Called with (step, steps, losses)."""


class Synthesis(Protocol):
    """What the optimisation needs of a generator."""

    def synthesis(self, w_plus: Tensor, noise: Sequence[Tensor]) -> Tensor: ...


class Judges(Protocol):
    """The networks that the portrait should please."""

    @property
    def trimap(self) -> TrimapNetwork: ...
    @property
    def matting(self) -> MattingModel: ...
    @property
    def critic(self) -> Judge: ...
    @property
    def perceptual(self) -> PerceptualDistance: ...


@dataclass(frozen=True)
class Scene:
    """A photo at the working size and what of it stays fixed; pictures are RGB in [0, 1].

    Attributes:
        photo: (1, 3, h, w).
        placement: of the generator's picture in it.
        crop: (1, 3, S, S), the original in the generator's frame.
        window: rows and columns of what can change and its surroundings: all that is matted anew in each step.
        foreground, background: (1, 3, rows, columns) over the window; colours of the person, and a new background: what
            composites for the adversarial loss are made of. None where nobody asks for them.
    """

    photo: Tensor
    placement: Placement
    crop: Tensor
    window: tuple[slice, slice]
    foreground: Tensor | None
    background: Tensor | None

    def part(self, x: Tensor) -> Tensor:
        """The window of (N, C, h, w)."""
        return x[..., self.window[0], self.window[1]]


@dataclass(frozen=True)
class Enhancement:
    """The best point of the way, and the way.

    Attributes:
        w_plus, noise: latents (1, L, 512) and maps [(1, 1, r, r)].
        image: the generator's picture there, (1, 3, S, S), unclamped.
        change: what it adds to the picture of the inversion, (1, 3, S, S).
        losses: of every step from 0 (the photo itself), unweighted, and their weighted `total`.
        best: the step that was kept, the one with the lowest total.
    """

    w_plus: Tensor
    noise: list[Tensor]
    image: Tensor
    change: Tensor
    losses: list[dict[str, float]]
    best: int
    paste: str

    def delivered(self, photo: Tensor, quad: Quad) -> Tensor:
        """A photo (1, 3, H, W) of any size with the enhancement in it, in [0, 1]; `quad` in its pixels."""
        place = Placement(quad, (photo.shape[-2], photo.shape[-1]), self.image.shape[-1], device=photo.device)
        return _delivered(photo, place, self.image.to(photo.device), self.change.to(photo.device), self.paste)


def working_scene(
    photo: Tensor,
    quad: Quad,
    size: int,
    judges: Judges,
    *,
    composites: bool = True,
    seed: int = 0,
    backgrounds: Path | None = None,
    pixels: int = WORKING_PIXELS,
) -> Scene:
    """The scene of a photo (1, 3, H, W) in which `quad` is what the generator of `size` pixels draws.

    The working photo shows the quad at about the generator's resolution, within `pixels` in all.
    `composites`: whether the adversarial loss will be asked for; without, nothing is matted. `backgrounds` is a folder
    of photos to take the new background from; without one it is made up.

    Raises:
        DataError: `backgrounds` does not exist or holds no image.
    """
    height, width = photo.shape[-2:]
    scale = min(1.0, size / quad.side, math.sqrt(pixels / (height * width)))
    reduced = (max(1, round(height * scale)), max(1, round(width * scale)))
    small = F.interpolate(photo, reduced, mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)
    within = quad.scaled(reduced[1] / width, reduced[0] / height)
    placement = Placement(within, reduced, size, device=photo.device)
    window = _widened(placement.rows, reduced[0]), _widened(placement.columns, reduced[1])
    foreground = new = None
    if composites:
        with torch.no_grad():
            look = judges.trimap.look(small)
            alpha = matted(judges.matting, small, look.trimap, look.person)
        foreground = estimated_foreground(small, alpha)[..., window[0], window[1]]
        new = background(reduced, seed, backgrounds)[..., window[0], window[1]].to(photo.device)
    return Scene(
        photo=small,
        placement=placement,
        crop=crop_of(photo, quad, size),
        window=window,
        foreground=foreground,
        background=new,
    )


def _widened(part: slice, length: int) -> slice:
    return slice(max(0, part.start - SURROUNDINGS), min(length, part.stop + SURROUNDINGS))


def enhanced(
    generator: Synthesis,
    inversion: Inversion,
    scene: Scene,
    judges: Judges,
    weights: LossWeights | None = None,
    settings: Optimisation | None = None,
    observe: Observe | None = None,
) -> Enhancement:
    """Latents near those of the inversion whose picture, pasted into the photo, has the lowest weighted sum of losses.

    SMPEG, section III-C. Deterministic: nothing is drawn here.

    Raises:
        UsageError: the adversarial loss, or another of alpha, needs the gradient of a matting model that has none.
    """
    weights, settings = weights or LossWeights(), settings or Optimisation()
    if weights.of_alpha and not judges.matting.differentiable:
        raise UsageError(
            f"the adversarial loss needs the gradient of the matting model, and {judges.matting.name} has none; "
            "set its weight, and those of confidence and consistency, to 0 or choose another model"
        )
    with torch.no_grad():
        start = generator.synthesis(inversion.w_plus, inversion.noise)
    to_crop = judges.perceptual.against(scene.crop)
    opinion = judges.trimap.mean_logits(scene.photo).softmax(1) if weights.consensus else None

    def losses(image: Tensor) -> dict[str, Tensor]:
        change = image - start
        photo = _delivered(scene.photo, scene.placement, image, change, settings.paste)
        crop = image if settings.paste == "full" else scene.crop + change
        logits = judges.trimap.logits(photo)
        terms = {
            "entropy": trimap_entropy(logits),
            "pixels": pixel_distance(crop, scene.crop),
            "perceptual": perceptual(to_crop(crop)),
        }
        if weights.boundary:
            terms["boundary"] = boundary_entropy(logits)
        if opinion is not None:
            terms["consensus"] = consensus(logits, opinion)
        if weights.of_alpha:
            terms |= alpha_losses(scene.part(photo), scene.part(logits.argmax(dim=1, keepdim=True)))
        return terms

    def alpha_losses(part: Tensor, trimap: Tensor) -> dict[str, Tensor]:
        # half the time of a step is spent here, and a direction to move in needs no more digits than bfloat16 has
        with torch.autocast(part.device.type, torch.bfloat16, enabled=fast_in_bf16(part.device)):
            alpha = judges.matting(part, trimap).float()
            mirrored = judges.matting(part.flip(3), trimap.flip(3)).float().flip(3) if weights.consistency else alpha
        terms = {}
        if weights.adversarial:
            assert scene.foreground is not None
            assert scene.background is not None
            placed = composite(alpha, scene.foreground, scene.background)
            terms["adversarial"] = adversarial(judges.critic(placed, trimap))
        if weights.confidence:
            terms["confidence"] = doubt(alpha)
        if weights.consistency:
            terms["consistency"] = inconsistency(alpha, mirrored)
        return terms

    w_plus = inversion.w_plus.detach().clone().requires_grad_(settings.variables != "noise")
    noise = [m.detach().clone().requires_grad_(settings.variables != "latent") for m in inversion.noise]
    latent, maps = {"params": [w_plus], "share": LATENT_SHARE}, {"params": noise, "share": 1.0}
    optimizer = torch.optim.Adam({"latent": [latent], "noise": [maps], "both": [latent, maps]}[settings.variables])
    history: list[dict[str, float]] = []
    best, kept = 0, (w_plus.detach().clone(), [m.detach().clone() for m in noise], start)
    for step in range(settings.steps + 1):
        image = generator.synthesis(w_plus, noise)
        terms = losses(image)
        total = torch.stack([getattr(weights, name) * value for name, value in terms.items()]).sum()
        history.append({name: value.item() for name, value in (terms | {"total": total}).items()})
        if observe:
            observe(step, settings.steps, history[-1])
        if history[-1]["total"] < history[best]["total"]:
            best, kept = step, (w_plus.detach().clone(), [m.detach().clone() for m in noise], image.detach())
        if step == settings.steps:
            break
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, settings) * group["share"]
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
    w_best, noise_best, image_best = kept
    return Enhancement(w_best, noise_best, image_best, image_best - start, history, best, settings.paste)


def learning_rate(step: int, settings: Optimisation) -> float:
    """A short linear warm-up, then a cosine to zero.

    Adam's first step moves every variable by the whole rate, whether it matters or not; without the warm-up it leaves
    noise in the picture that the next steps have to clear away.
    """
    warm = min(1.0, (step + 1) / WARMUP)
    return settings.rate * warm * 0.5 * (1 + math.cos(math.pi * step / settings.steps))


def _delivered(photo: Tensor, place: Placement, image: Tensor, change: Tensor, paste: str) -> Tensor:
    """The photo with the generator's change added, or with the generator's own picture pasted."""
    changed = place.added(photo, change) if paste == "residual" else place.pasted(photo, image)
    return changed.clamp(0, 1)
