"""How good the trimaps are: against masks for meaning, against alphas for the boundary."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from sgmatte.train.data import PortraitFolder, read_grey, read_rgb
from sgmatte.trimaps import BACKGROUND, FOREGROUND, UNKNOWN, TrimapNetwork, likeliest

Observe = Callable[[int, int], None]
SOFT = (0.05, 0.95)  # alpha between these is soft and has to be unknown


@dataclass(frozen=True)
class TrimapScores:
    """Of one image, or means over images."""

    iou: float  # of {P(fg) + P(unknown)/2 > 1/2}, that is fg likelier than bg, against the mask
    soft_iou: float  # sum(min) / sum(max) of the classes read as 0, 1/2, 1 against the mask
    soft_iou_ideal: float  # the same of a flawless trimap that leaves only the soft pixels unknown: soft_iou's ceiling
    soft: float  # share of the image that is soft
    covered: float  # share of the soft pixels that are unknown
    wrong: float  # share of the image that is certain, but differs from alpha by more than 1/2
    unknown: float  # share of the image that is unknown


def trimap_scores(logits: Tensor, alpha: Tensor, mask: Tensor) -> TrimapScores:
    """Scores of one image.

    Args:
        logits: (1, 3, H, W).
        alpha: (1, 1, H, W) true alpha in [0, 1].
        mask: (1, 1, H, W) bool, who is foreground.

    Returns:
        The scores; `covered` is nan where no pixel is soft.
    """
    trimap = likeliest(logits)
    person = logits[:, FOREGROUND:] > logits[:, BACKGROUND:UNKNOWN]
    soft = (alpha > SOFT[0]) & (alpha < SOFT[1])
    unknown, level = trimap == UNKNOWN, trimap / 2
    return TrimapScores(
        iou=_iou(person.float(), mask.float()),
        soft_iou=_iou(level, mask.float()),
        soft_iou_ideal=_iou(torch.where(soft, 0.5, (alpha >= SOFT[1]).float()), mask.float()),
        soft=float(soft.float().mean()),
        covered=float((unknown & soft).sum() / soft.sum()) if soft.any() else math.nan,
        wrong=float((~unknown & ((alpha - level).abs() > 0.5)).float().mean()),
        unknown=float(unknown.float().mean()),
    )


def _iou(a: Tensor, b: Tensor) -> float:
    return float(torch.minimum(a, b).sum() / torch.maximum(a, b).sum().clamp(min=1e-6))


def mean_scores(rows: list[TrimapScores]) -> TrimapScores:
    """Mean of each score over images; `covered` is weighted by `soft`, so that every soft pixel counts once."""
    means = {field.name: sum(getattr(row, field.name) for row in rows) / len(rows) for field in fields(TrimapScores)}
    covered = sum(row.covered * row.soft for row in rows if row.soft)
    means["covered"] = covered / len(rows) / means["soft"] if means["soft"] else math.nan
    return TrimapScores(**means)


def portrait_scores(
    network: TrimapNetwork, data: PortraitFolder, device: torch.device, observe: Observe
) -> Mapping[str, TrimapScores]:
    """Scores of every portrait of a folder with image/, alpha/ and mask/, by stem."""
    images, alphas, masks = data.images, data.alphas, data.masks
    scores = {}
    for number, path in enumerate(images, start=1):
        image = torch.tensor(read_rgb(path)).permute(2, 0, 1)[None].to(device) / 255
        alpha, mask = (torch.tensor(read_grey(files[path.stem]))[None, None].to(device) for files in (alphas, masks))
        with torch.no_grad():
            scores[path.stem] = trimap_scores(network.mean_logits(image), alpha / 255, mask > 127)
        observe(number, len(images))
    return scores
