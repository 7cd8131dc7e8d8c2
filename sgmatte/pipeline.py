"""A photo's way through sgmatte, on one page: face -> inversion -> enhancement -> trimap -> alpha -> cut-out -> files.

The stages know nothing of each other; this module alone joins them. The same networks serve any number of photos.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sgmatte import __version__, zoo
from sgmatte.device import Device, peak_memory_mb
from sgmatte.enhancement.critics import Judge, chosen_critic
from sgmatte.enhancement.losses import LossWeights
from sgmatte.enhancement.optimise import Enhancement, Optimisation, enhanced, working_scene
from sgmatte.face import Quad, chosen_face, crop_of, detected_faces, ffhq_quad
from sgmatte.foreground import estimated_foreground
from sgmatte.generator import Generator, chosen_generator, load_generator, weight_hashes
from sgmatte.inversion import Inversion, inversion_at, inverted
from sgmatte.latents import Latents, Origin, checked_latents, latent_file
from sgmatte.masks import read_trimap, write_trimap
from sgmatte.matting import MattingModel, matting_model
from sgmatte.metrics import psnr
from sgmatte.nn.encoder import Encoder, encoder_model
from sgmatte.nn.perceptual import PerceptualDistance, perceptual_distance
from sgmatte.photo import MAX_PIXELS, Photo, read_photo, write_image, write_json
from sgmatte.preview import preview_image
from sgmatte.trimaps import Confidence, TrimapNetwork, confidence, entropy, trimap_model

Observe = Callable[[str, int, int], None]
"""Called as (stage, done, total) while a photo is worked on."""


def silent(stage: str, done: int, total: int) -> None:
    """An observer for those who do not watch."""


@dataclass(frozen=True)
class Settings:
    """What a user chooses for `enhance`; the defaults suit a CPU."""

    generator: str = "auto"  # a name of sgmatte.generator.GENERATORS, or the best one present
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
    seed: int = 0
    max_pixels: int = MAX_PIXELS


class Networks:
    """The networks of one batch, each loaded at first use and kept."""

    def __init__(self, settings: Settings, device: Device) -> None:
        self.settings, self.device = settings, device

    @cached_property
    def generator(self) -> Generator:
        return load_generator(self.settings.size, self.device.torch, name=self.settings.generator)

    @cached_property
    def trimap(self) -> TrimapNetwork:
        return trimap_model(self.device.torch)

    @cached_property
    def matting(self) -> MattingModel:
        return matting_model(self.settings.model, self.device.torch)

    @cached_property
    def encoder(self) -> Encoder:
        return encoder_model(self.device.torch)

    @cached_property
    def perceptual(self) -> PerceptualDistance:
        return perceptual_distance(self.settings.perceptual, self.device.torch)

    @cached_property
    def critic(self) -> Judge:
        return chosen_critic(self.settings.critic, self.device.torch)


@dataclass(frozen=True)
class Matte:
    """What `matte` makes of a photo; tensors at the photo's size, on the CPU."""

    photo: Photo
    image: Tensor  # (1, 3, H, W) the photo itself, or what the enhancement made of it
    trimap: Tensor  # (1, 1, H, W) classes
    alpha: Tensor  # (1, 1, H, W)
    confidence: Confidence  # of the trimap

    @cached_property
    def foreground(self) -> Tensor:
        """(1, 3, H, W) colours without the old background; estimated once, for those who ask."""
        return estimated_foreground(self.image, self.alpha)

    @property
    def cutout(self) -> Tensor:
        """(1, 4, H, W) RGBA with straight alpha."""
        return torch.cat([self.foreground, self.alpha], dim=1)


@dataclass(frozen=True)
class Enhanced:
    """What `enhance` makes of a photo."""

    image: Tensor  # (1, 3, H, W) the enhanced photo
    matte: Matte  # of the enhanced photo
    report: dict[str, Any]


def trimap_photo(path: Path, networks: Networks, observe: Observe = silent) -> tuple[Photo, Tensor, Confidence]:
    """Photo file -> the photo, its trimap's classes (1, 1, H, W), and how sure they are."""
    photo = read_photo(path, networks.settings.max_pixels)
    observe("trimap", 0, 1)
    trimap, sure = networks.trimap.judged(photo.image.to(networks.device.torch))
    observe("trimap", 1, 1)
    return photo, trimap.cpu(), sure


def matte_photo(
    path: Path,
    networks: Networks,
    trimap_file: Path | None = None,
    observe: Observe = silent,
    trimap_width: float | None = None,
) -> Matte:
    """Photo file -> trimap -> alpha -> foreground colours, without enhancing.

    `trimap_file` is a trimap, or with `trimap_width`, in pixels, a mask to make one of.

    Raises:
        PhotoError, TrimapError, WeightError: see `read_photo`, `read_trimap`, `zoo.path`.
    """
    photo = read_photo(path, networks.settings.max_pixels)
    trimap = None if trimap_file is None else read_trimap(trimap_file, photo.size, trimap_width)
    return _matte(photo, photo.image, networks, observe, trimap)


def enhance_photo(path: Path, networks: Networks, observe: Observe = silent) -> Enhanced:
    """Photo file -> face -> inversion -> enhancement -> trimap -> alpha -> cut-out (SMPEG, figure 2).

    Raises:
        PhotoError, NoFaceError, UsageError, WeightError, DataError: see the stages.
    """
    settings, device = networks.settings, networks.device.torch
    clock = _Clock()
    photo = read_photo(path, settings.max_pixels)
    image = photo.image.to(device)

    clock.start("inversion")
    quad, inversion = (_kept if settings.latents else _found)(photo, image, networks, observe)

    clock.start("enhancement")
    scene = working_scene(image, quad, settings.size, networks, seed=settings.seed, backgrounds=settings.backgrounds)
    enhancement = enhanced(
        networks.generator,
        inversion,
        scene,
        networks,
        settings.weights,
        settings.optimisation,
        observe=lambda step, steps, row: observe("enhancement", step, steps),
    )
    delivered = enhancement.delivered(image, quad)

    clock.start("matte")
    matte = _matte(photo, delivered, networks, observe)
    clock.stop()
    report = _report(networks, image, delivered, quad, inversion, enhancement, clock.seconds)
    return Enhanced(delivered.cpu(), matte, report)


def invert_photo(path: Path, networks: Networks, observe: Observe = silent) -> tuple[Latents, Inversion]:
    """Photo file -> face -> inversion, and no further.

    Raises:
        PhotoError, NoFaceError, UsageError, WeightError: see the stages.
    """
    photo = read_photo(path, networks.settings.max_pixels)
    quad, inversion = _found(photo, photo.image.to(networks.device.torch), networks, observe)
    return Latents(inversion.w_plus, inversion.noise, quad, _origin(photo, networks)), inversion


def _found(photo: Photo, image: Tensor, networks: Networks, observe: Observe) -> tuple[Quad, Inversion]:
    """What the generator is to draw, and the latents that draw it."""
    observe("face", 0, 1)
    quad = face_quad(image, networks.settings)
    crop = crop_of(image, quad, networks.settings.size)
    return quad, inverted(
        networks.generator,
        crop,
        networks.perceptual,
        start=None if networks.settings.whole else networks.encoder(crop),  # it knows aligned faces only
        observe=lambda step, steps, row: observe("inversion", step, steps),
    )


def _kept(photo: Photo, image: Tensor, networks: Networks, observe: Observe) -> tuple[Quad, Inversion]:
    """The same, from a latent file."""
    assert networks.settings.latents
    generator = networks.generator
    shapes = (1, generator.layers, generator.mean_w(1).shape[1]), *generator.noise_shapes
    latents = checked_latents(latent_file(networks.settings.latents, photo.path), _origin(photo, networks), shapes)
    crop = crop_of(image, latents.quad, networks.settings.size)
    return latents.quad, inversion_at(generator, latents.w_plus, latents.noise, crop)


def _origin(photo: Photo, networks: Networks) -> Origin:
    name, size = chosen_generator(networks.settings.generator, networks.settings.size)
    height, width = photo.image.shape[2:]
    return Origin(name, size, weight_hashes(name, size), (width, height))


def face_quad(image: Tensor, settings: Settings) -> Quad:
    """The square that the generator will draw: FFHQ's around the chosen face, or the whole photo.

    Raises:
        NoFaceError: no face, and `whole` is not set.
    """
    if settings.whole:
        return Quad.whole(*image.shape[-2:])
    faces = detected_faces(image, image.device, settings.landmarks)
    return ffhq_quad(chosen_face(faces, settings.face))


def write_enhanced(result: Enhanced, folder: Path) -> list[Path]:
    """Write <stem>_{enhanced,trimap,alpha,cutout,preview}.png and <stem>_report.json; returns the six paths."""
    matte, stem = result.matte, result.matte.photo.path.stem
    preview = preview_image(matte.photo.image, result.image, matte.trimap, matte.alpha, matte.cutout)
    report = folder / f"{stem}_report.json"
    write_json(report, result.report)
    return [
        write_image(folder / f"{stem}_enhanced.png", result.image),
        write_trimap(folder / f"{stem}_trimap.png", matte.trimap),
        write_image(folder / f"{stem}_alpha.png", matte.alpha),
        write_image(folder / f"{stem}_cutout.png", matte.cutout),
        write_image(folder / f"{stem}_preview.png", preview),
        report,
    ]


def _matte(photo: Photo, image: Tensor, networks: Networks, observe: Observe, trimap: Tensor | None = None) -> Matte:
    """Of `image`, which is the photo's own or its enhanced version."""
    image = image.to(networks.device.torch)
    if trimap is None:
        observe("trimap", 0, 1)
        trimap, sure = networks.trimap.judged(image)
    else:
        sure = confidence(trimap)
    observe("alpha", 0, 1)
    with torch.no_grad():
        alpha = networks.matting(image, trimap.to(image.device))
    observe("alpha", 1, 1)
    return Matte(photo, image.cpu(), trimap.cpu(), alpha.cpu(), sure)


class _Clock:
    """Seconds of each stage, in order."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._stage, self._started = "read", time.monotonic()

    def start(self, stage: str) -> None:
        self.stop()
        self._stage, self._started = stage, time.monotonic()

    def stop(self) -> None:
        self.seconds[self._stage] = round(time.monotonic() - self._started, 3)


def _report(
    networks: Networks,
    photo: Tensor,
    delivered: Tensor,
    quad: Quad,
    inversion: Inversion,
    enhancement: Enhancement,
    seconds: dict[str, float],
) -> dict[str, Any]:
    """What <stem>_report.json holds: everything that is needed to repeat the result, and how it came about."""
    with torch.no_grad():
        before, after = (float(entropy(networks.trimap.logits(x))) for x in (photo, delivered))
    return {
        "versions": {"sgmatte": __version__, "torch": torch.__version__, "python": platform.python_version()},
        "device": {"name": networks.device.name, "reason": networks.device.reason},
        "generator": networks.generator.name,
        "weights": {name: {file.name: file.sha256 for file in zoo.record(name).files} for name in zoo.used()},
        "settings": {
            key: str(value) if isinstance(value, Path) else value for key, value in asdict(networks.settings).items()
        },
        "quad": [[round(value, 3) for value in corner] for corner in quad.corners],
        "psnr": {
            "inversion_after_w_plus": inversion.psnr_after_w,
            "inversion": inversion.psnr,
            "enhanced_photo": psnr(delivered, photo) if enhancement.best else None,  # step 0 is the photo itself
        },
        "trimap_entropy": {"before": before, "after": after},
        "losses": {"inversion": inversion.losses, "enhancement": enhancement.losses, "kept_step": enhancement.best},
        "seconds": seconds,
        "peak_memory_mb": peak_memory_mb(),
    }
