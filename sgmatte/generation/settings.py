"""What a user chooses for generated portraits; torch is left to the modules that draw and judge them."""

from __future__ import annotations

from dataclasses import dataclass

from sgmatte.errors import UsageError


@dataclass(frozen=True)
class Drawing:
    """How portraits are drawn.

    Raises:
        UsageError: a truncation that is not above 0 and at most 1.
    """

    truncation: float = 0.7  # of the way from the mean w: beyond, faces get odd; nearer, they are all alike
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.truncation <= 1:
            raise UsageError(f"--truncation is above 0 and at most 1, not {self.truncation:g}")
        if self.seed < 0:
            raise UsageError(f"--seed is 0 or more here, not {self.seed}")


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
