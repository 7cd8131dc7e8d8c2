"""Which generated portraits are fit to learn from, and why the others are not. Shares are of pixels, in [0, 1]."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from sgmatte.errors import UsageError
from sgmatte.face import SURE, Face
from sgmatte.trimaps import Confidence

SOLID = 0.5  # alpha from which a pixel is the person's
FAINT = 0.2  # alpha from which a piece beside the person is seen

NO_FACE, SEVERAL = "no face", "several people"
UNSURE, VAGUE = "low confidence", "much unknown"
HOLE, DETACHED = "holes", "detached pieces"
CUT, SMALL, LARGE = "cut hair", "too small", "too large"


@dataclass(frozen=True)
class Limits:
    """What a portrait may be to be kept.

    Raises:
        UsageError: a limit is not in [0, 1].
    """

    max_entropy: float = 0.12  # nats, of the trimap: above it lie hats, second heads, and backgrounds like the hair
    max_unknown: float = 0.25  # of the picture: a wider band leaves the matting network to guess
    max_hole: float = 5e-4  # of the largest gap inside the person: larger ones are seldom gaps between curls
    max_detached: float = 5e-4  # of what stands beside the person: hands, shoulders and hats of others
    max_top: float = 0.4  # of the upper border that is the person's: a crown of which a twelfth of the height is lost
    side_from: float = 0.3  # of the height, from which on shoulders and long hair may leave the picture at the sides
    min_person: float = 0.25
    max_person: float = 0.85  # less background is left than a network needs to tell it from hair

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not 0 <= value <= 1:
                raise UsageError(f"--{name.replace('_', '-')} lies between 0 and 1, not at {value:g}")

    @property
    def at_first_sight(self) -> Limits:
        """Those of a portrait that was looked at once and not enhanced yet: beyond them, none was seen to come back."""
        return Limits(
            max_entropy=min(1, self.max_entropy * 1.6),
            max_unknown=min(1, self.max_unknown * 1.3),
            max_hole=min(1, self.max_hole * 4),
            max_detached=min(1, self.max_detached * 4),
            max_top=min(1, self.max_top * 1.2),
            side_from=self.side_from / 1.2,
            min_person=self.min_person / 1.2,
            max_person=min(1, self.max_person * 1.1),
        )


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
