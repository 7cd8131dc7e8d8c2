"""The ways to enhance that a study compares: the default, and others that differ from it in one thing each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from sgmatte.errors import UsageError
from sgmatte.settings import Settings


@dataclass(frozen=True)
class Variant:
    """A name, what it is in words, and what it makes of the default settings."""

    name: str
    words: str
    settings: Callable[[Settings], Settings]


def _losses(**weights: float) -> Callable[[Settings], Settings]:
    return lambda settings: replace(settings, weights=replace(settings.weights, **weights))


def _moves(**changes: Any) -> Callable[[Settings], Settings]:
    return lambda settings: replace(settings, optimisation=replace(settings.optimisation, **changes))


def _all(*changes: Callable[[Settings], Settings]) -> Callable[[Settings], Settings]:
    def changed(settings: Settings) -> Settings:
        for change in changes:
            settings = change(settings)
        return settings

    return changed


def _whole(settings: Settings) -> Settings:
    return replace(settings, whole=True)


def _always(settings: Settings) -> Settings:
    return replace(settings, keep="enhanced")


def _moved(settings: Settings) -> Settings:
    return replace(settings, keep="moved")


def _surer(settings: Settings) -> Settings:
    return replace(settings, keep="surer")


VARIANTS = {
    variant.name: variant
    for variant in (
        Variant("default", "as `sgmatte enhance` does it", _all()),
        Variant("moved", "the matte of the enhanced photo alone, where it is surer", _moved),
        Variant("always", "the same in any case", _always),
        Variant("surer", "of both mattes, at each pixel the one farther from 0.5", _surer),
        Variant("no-entropy", "without the trimap's entropy", _losses(entropy=0)),
        Variant("no-pixels", "without the pixels' distance to the photo", _losses(pixels=0)),
        Variant("no-perceptual", "without the perceptual distance to the photo", _losses(perceptual=0)),
        Variant("adversarial", "and what a critic holds against the composite", _losses(adversarial=1)),
        Variant("latent", "W+ alone moves", _moves(variables="latent")),
        Variant("noise", "the noise maps alone move", _moves(variables="noise")),
        Variant("steps-10", "10 steps", _moves(steps=10)),
        Variant("steps-100", "100 steps", _moves(steps=100)),
        Variant("rate-low", "a twentieth of the rate", _moves(rate=5e-3)),
        Variant("rate-half", "half the rate", _moves(rate=5e-2)),
        Variant("rate-high", "twice the rate", _moves(rate=0.2)),
        Variant("whole", "the whole photo moves, not the face's crop", _whole),
        Variant("size-512", "the generator draws 512 px", lambda settings: replace(settings, size=512)),
        Variant(
            "bundled",
            "the bundled StyleGAN2 draws",
            lambda settings: replace(settings, generator="stylegan2-portrait-256"),
        ),
        Variant(
            "paper",
            "the published weights: 100 for the perceptual distance, 1 for the critic",
            _losses(perceptual=100, adversarial=1),
        ),
        Variant("boundary", "entropy where the trimap is unknown", _all(_losses(entropy=0, boundary=1), _always)),
        Variant("confidence", "and less of alpha between 0 and 1", _all(_losses(confidence=3), _always)),
        Variant("consistency", "and alpha that of the mirrored photo", _all(_losses(consistency=30), _always)),
        Variant(
            "consensus",
            "towards the trimap that several looks at the photo agree on, in the whole photo",
            _all(_losses(entropy=0, consensus=1), _whole, _always),
        ),
    )
}


def chosen_variants(names: list[str]) -> list[Variant]:
    """Variants by name.

    Raises:
        UsageError: there is none of a name.
    """
    for name in names:
        if name not in VARIANTS:
            raise UsageError(f"there is no variant '{name}'; choose from {', '.join(VARIANTS)}")
    return [VARIANTS[name] for name in dict.fromkeys(names)]
