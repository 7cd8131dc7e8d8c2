"""Which generated portraits are fit to learn from, and why the others are not. Shares are of pixels, in [0, 1]."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from sgmatte.face import SURE, Face
from sgmatte.generation.settings import Limits
from sgmatte.trimaps import Confidence

SOLID = 0.5  # alpha from which a pixel is the person's
FAINT = 0.2  # alpha from which a piece beside the person is seen

NO_FACE, SEVERAL = "no face", "several people"
UNSURE, VAGUE = "low confidence", "much unknown"
HOLE, DETACHED = "holes", "detached pieces"
CUT, SMALL, LARGE = "cut hair", "too small", "too large"


@dataclass(frozen=True)
class Shape:
    """How an alpha lies in its picture."""

    person: float  # mean alpha
    hole: float  # the largest gap that the person encloses
    detached: float  # all pieces but the largest
    top: float  # of the upper border, the share that is the person's
    side: float  # of the height, where the person's highest pixel on the left or right border lies; 1 without any


def shape_of(alpha: np.ndarray) -> Shape:
    """Of an alpha (H, W) in [0, 1]."""
    height, pixels = alpha.shape[0], alpha.size
    person = alpha >= SOLID
    gaps, _ = ndimage.label(~person)
    sizes = np.bincount(gaps.ravel())
    sizes[0] = 0  # the person
    sizes[np.unique(np.concatenate((gaps[0], gaps[-1], gaps[:, 0], gaps[:, -1])))] = 0  # open to the outside
    pieces, _ = ndimage.label(alpha >= FAINT)
    areas = np.sort(np.bincount(pieces.ravel())[1:])
    at_sides = np.flatnonzero(person[:, 0] | person[:, -1])
    return Shape(
        person=float(alpha.mean()),
        hole=float(sizes.max()) / pixels,
        detached=float(areas[:-1].sum()) / pixels,
        top=float(person[0].mean()),
        side=float(at_sides[0]) / height if len(at_sides) else 1.0,
    )


def faults_of_faces(faces: Sequence[Face]) -> list[str]:
    """What the faces that were found in a portrait say against it."""
    sure = [face for face in faces if face.score >= SURE]
    return [] if len(sure) == 1 else [SEVERAL if sure else NO_FACE]


def faults(shape: Shape, confidence: Confidence, limits: Limits) -> list[str]:
    """What alpha and trimap of a portrait say against it."""
    against = {
        CUT: shape.top > limits.max_top or shape.side < limits.side_from,
        SMALL: shape.person < limits.min_person,
        LARGE: shape.person > limits.max_person,
        UNSURE: confidence.entropy is not None and confidence.entropy > limits.max_entropy,
        VAGUE: confidence.unknown > limits.max_unknown,
        HOLE: shape.hole > limits.max_hole,
        DETACHED: shape.detached > limits.max_detached,
    }
    return [reason for reason, holds in against.items() if holds]
