"""What a user chooses for a photo's way through sgmatte.

Settings travel to where the work is done; torch is left to the modules that do it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from sgmatte.errors import UsageError
from sgmatte.hostile import MAX_PIXELS

VARIABLES = ("latent", "noise", "both")
PASTES = ("residual", "full")
Keep = Literal["better", "moved", "enhanced", "surer"]


@dataclass(frozen=True)
class LossWeights:
    """Weights of the sum that is minimised; the paper's, but for the perceptual one, which is 100 there, and the
    adversarial one, which is 1.

    There, both distances start at what the inversion cannot draw. Here only the generator's change enters the photo, so
    they start at 0, and a weight of 100 holds the photo still. At 1, the distance stays below 0.04. Otherwise
    the scales are the paper's: pixels in [-1, 1], and `PerceptualDistance` in the range of LPIPS.
    """

    entropy: float = 1.0
    pixels: float = 10.0
    perceptual: float = 1.0
    # 0 because without them the matte's error is lower, or no higher: docs/results.md has the figures. The adversarial
    # one is the paper's, the rest is not.
    adversarial: float = 0.0
    boundary: float = 0.0
    confidence: float = 0.0
    consistency: float = 0.0
    consensus: float = 0.0

    @property
    def of_alpha(self) -> bool:
        """Whether a loss looks at the matting model's alpha."""
        return any((self.adversarial, self.confidence, self.consistency))


@dataclass(frozen=True)
class Optimisation:
    """How the latents move.

    The paper takes 500 steps of Adam at 1e-4. Adam moves by about its rate a step, so 30 larger steps lead farther, by
    intent: the farther, the less mattes err; a twentieth of this rate leads as far as the paper's (docs/results.md). A
    cosine towards 0 takes the place of small steps at the end.

    Raises:
        UsageError: a value is out of range.
    """

    variables: str = "both"
    paste: str = "residual"
    steps: int = 30
    rate: float = 0.1  # of the noise maps, before the cosine; W+ takes a fifth of it

    def __post_init__(self) -> None:
        if self.variables not in VARIABLES:
            raise UsageError(f"cannot optimise '{self.variables}'; choose one of {', '.join(VARIABLES)}")
        if self.paste not in PASTES:
            raise UsageError(f"no paste mode '{self.paste}'; choose one of {', '.join(PASTES)}")
        if self.steps < 0 or self.rate <= 0:
            raise UsageError("the enhancement needs 0 or more steps and a rate above 0")


@dataclass(frozen=True)
class Settings:
    """What a user chooses for `enhance`; the defaults suit a CPU."""

    generator: str = "auto"  # a name of sgmatte.generators.GENERATORS, or the best one present
    size: int = 256  # pixels of the generator's picture
    model: str = "gca"
    landmarks: str = "auto"
    face: int = 0  # 0 is the largest
    latents: Path | None = None  # a latent file, or a folder of them, in place of the inversion
    whole: bool = False  # invert the whole photo, as the paper does, instead of an aligned face crop
    perceptual: str = "auto"
    critic: str = "composite"  # of the adversarial loss, or the file of an AlphaGAN's discriminator
    backgrounds: Path | None = None  # photos for the composites of the adversarial loss; without them they are made up
    optimisation: Optimisation = field(default_factory=Optimisation)
    weights: LossWeights = field(default_factory=LossWeights)
    keep: Keep = "better"  # see `sgmatte.enhancement.choice`
    seed: int = 0
    max_pixels: int = MAX_PIXELS
