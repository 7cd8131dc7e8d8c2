"""A generated portrait's way, on one page: seed -> W+ -> picture -> enhancement -> trimap -> alpha -> verdict.

What costs little is asked first, so a portrait that will not be kept mostly costs a twentieth of one that will.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sgmatte import zoo
from sgmatte.enhancement.optimise import enhanced, working_scene
from sgmatte.face import Quad, detected_faces, mtcnn
from sgmatte.foreground import estimated_foreground
from sgmatte.frugal import frugal_alpha, frugal_trimap
from sgmatte.generation.limits import faults, faults_of_faces, shape_of
from sgmatte.generation.settings import Drawing, Limits
from sgmatte.inversion import inversion_at
from sgmatte.metrics import psnr
from sgmatte.pipeline import Networks
from sgmatte.trimaps import BACKGROUND, FOREGROUND, confidence, entropy, likeliest

DIGITS = 5  # of scores


@dataclass(frozen=True)
class Portrait:
    """What came of a draw: its pictures (1, C, H, W), on the CPU, where there are no `reasons` against it."""

    reasons: list[str]
    scores: dict[str, float]
    pictures: dict[str, Tensor] = field(
        default_factory=dict
    )  # by kind: image, foreground, alpha; classes of the trimap


class Portraits:
    """Draws, enhances and judges portraits; number k depends on the settings, the seed and k alone."""

    def __init__(self, networks: Networks, drawing: Drawing, limits: Limits) -> None:
        self.networks, self.drawing, self.limits = networks, drawing, limits

    @cached_property
    def mean(self) -> Tensor:
        return self.networks.generator.mean_w()

    @cached_property
    def noise(self) -> list[Tensor]:
        return self.networks.generator.default_noise()

    def weight_hashes(self) -> dict[str, str]:
        """sha256 of every weight file that this process has opened, which is all that portraits need once they were
        asked for, by name.

        Raises:
            UsageError, WeightError: one cannot be had.
        """
        networks = self.networks
        for needed in (networks.generator, networks.trimap, networks.matting, networks.perceptual, mtcnn(self.device)):
            assert needed is not None
        if networks.settings.weights.adversarial:
            networks.critic  # noqa: B018
        found = {f"{name}/{file.name}": file.sha256 for name in zoo.used() for file in zoo.record(name).files}
        model = Path(networks.settings.model)
        return found | ({model.name: hashlib.sha256(model.read_bytes()).hexdigest()} if model.is_file() else {})

    @property
    def device(self) -> torch.device:
        return self.networks.device.torch

    @torch.no_grad()
    def w_plus(self, index: int) -> Tensor:
        """W+ (1, L, 512) of portrait number `index`."""
        generator, latent = self.networks.generator, self.mean.shape[1]
        z = np.random.default_rng((self.drawing.seed, index)).standard_normal((1, latent), np.float32)
        w = generator.mapping(torch.from_numpy(z).to(self.device))
        return torch.lerp(self.mean, w, self.drawing.truncation)[:, None].repeat(1, generator.layers, 1)

    def __getitem__(self, index: int) -> Portrait:
        """Portrait number `index`."""
        networks, scores = self.networks, _Scores()
        w_plus = self.w_plus(index)
        with torch.no_grad():
            drawn = networks.generator.synthesis(w_plus, self.noise).clamp(0, 1)
        faces = detected_faces(drawn, landmarks="mtcnn")  # its verdict alone is wanted, wherever fan is there or not
        scores.add(faces=len(faces), face=faces[0].score if faces else 0.0)
        if reasons := faults_of_faces(faces):
            return Portrait(reasons, scores)
        if reasons := self._faults_as_drawn(drawn, scores):
            return Portrait(reasons, scores)

        image = self._enhanced(drawn, w_plus)
        if not torch.equal(image, drawn):  # of one with itself it has no end, and books no word for that
            scores.add(psnr=psnr(image, drawn))
        look, _ = frugal_trimap(networks.trimap, image)
        trimap, sure = look.trimap, look.confidence
        alpha, _ = frugal_alpha(networks.matting, image, trimap, look.person)
        shape = shape_of(alpha[0, 0].cpu().numpy())
        scores.add(**{key: value for key, value in asdict(sure).items() if value is not None}, **asdict(shape))
        with torch.no_grad():
            scores.add(entropy_enhanced=float(entropy(networks.trimap.logits(image))))
        if reasons := faults(shape, sure, self.limits):
            return Portrait(reasons, scores)
        pictures = {
            "alpha": alpha,
            "foreground": estimated_foreground(image, alpha),
            "trimap": trimap,
            "image": image,
        }
        return Portrait([], scores, {kind: picture.cpu() for kind, picture in pictures.items()})

    @torch.no_grad()
    def _faults_as_drawn(self, drawn: Tensor, scores: _Scores) -> list[str]:
        """What one look of the trimap network says of the picture, and then what its alpha does.

        At the look, the likelier side stands for the alpha where the trimap is unknown.
        """
        logits = self.networks.trimap.logits(drawn)
        trimap = likeliest(logits)
        sure = confidence(trimap, float(entropy(logits)))
        scores.add(entropy_drawn=sure.entropy or 0.0, unknown=sure.unknown)
        person = (logits[:, FOREGROUND] > logits[:, BACKGROUND]).float()
        limits = self.limits.at_first_sight
        for alpha in (lambda: person[None], lambda: self.networks.matting(drawn, trimap)):
            shape = shape_of(alpha()[0, 0].cpu().numpy())
            scores.add(**asdict(shape))
            if reasons := faults(shape, sure, limits):
                return reasons
            limits = replace(limits, max_top=self.limits.max_top, side_from=self.limits.side_from)
        return []

    def _enhanced(self, drawn: Tensor, w_plus: Tensor) -> Tensor:
        """The picture after the enhancement, in which all of it may change."""
        networks, settings = self.networks, self.networks.settings
        quad = Quad.whole(*drawn.shape[-2:])
        scene = working_scene(
            drawn,
            quad,
            settings.size,
            networks,
            composites=settings.weights.adversarial > 0,
            seed=settings.seed,
            backgrounds=settings.backgrounds,
        )
        inversion = inversion_at(networks.generator, w_plus, self.noise, scene.crop)
        found = enhanced(networks.generator, inversion, scene, networks, settings.weights, settings.optimisation)
        return found.delivered(drawn, quad)


class _Scores(dict[str, float]):
    """Figures by name, rounded as books keep them."""

    def add(self, **figures: float) -> None:
        self.update({name: round(float(value), DIGITS) for name, value in figures.items()})
