"""A photo's way through sgmatte, on one page: face -> inversion -> enhancement -> trimap -> alpha -> cut-out -> files.

The stages know nothing of each other; this module alone joins them. The same networks serve any number of photos.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor

from sgmatte.device import Device
from sgmatte.enhancement.choice import joint_look, kept_matte
from sgmatte.enhancement.critics import Judge, chosen_critic
from sgmatte.enhancement.optimise import WORKING_PIXELS, Enhancement, enhanced, working_scene
from sgmatte.face import Quad, chosen_face, crop_of, detected_faces, ffhq_quad
from sgmatte.frugal import frugal_alpha, frugal_trimap
from sgmatte.generator import Generator, load_generator
from sgmatte.generators import chosen_generator, smaller_sizes, weight_hashes
from sgmatte.inversion import Inversion, inversion_at, inverted
from sgmatte.latents import Latents, Origin, checked_latents, latent_file
from sgmatte.masks import read_trimap
from sgmatte.matting.models import MattingModel, matting_model
from sgmatte.memory import first_that_fits
from sgmatte.nn.encoder import Encoder, encoder_model
from sgmatte.nn.perceptual import PerceptualDistance, perceptual_distance
from sgmatte.observers import Observe, silent
from sgmatte.photo import Photo, read_photo
from sgmatte.results import Clock, Enhanced, Matte, enhancement_report
from sgmatte.settings import Settings
from sgmatte.trimaps import Confidence, Look, TrimapNetwork, confidence, trimap_model

Network = TypeVar("Network")


class Networks:
    """The networks of one batch or session, each loaded at first use and kept."""

    def __init__(self, settings: Settings, device: Device) -> None:
        self.settings, self.device = settings, device
        self._loaded: dict[tuple[object, ...], Any] = {}

    def under(self, settings: Settings) -> Networks:
        """The same networks for other settings: what both choose is loaded once."""
        same = copy.copy(self)
        same.settings = settings
        return same

    def _one(self, load: Callable[..., Network], *choice: object, **options: object) -> Network:
        key = (load, *choice, *options.items())
        if key not in self._loaded:
            self._loaded[key] = load(*choice, self.device.torch, **options)
        return self._loaded[key]

    @property
    def generator(self) -> Generator:
        return self._one(load_generator, self.settings.size, name=self.settings.generator)

    @property
    def trimap(self) -> TrimapNetwork:
        return self._one(trimap_model)

    @property
    def matting(self) -> MattingModel:
        return self._one(matting_model, self.settings.model)

    @property
    def encoder(self) -> Encoder:
        return self._one(encoder_model)

    @property
    def perceptual(self) -> PerceptualDistance:
        return self._one(perceptual_distance, self.settings.perceptual)

    @property
    def critic(self) -> Judge:
        return self._one(chosen_critic, self.settings.critic)


def trimap_photo(
    given: Path | Photo, networks: Networks, observe: Observe = silent
) -> tuple[Photo, Tensor, Confidence]:
    """Photo or its file -> the photo, its trimap's classes (1, 1, H, W), and how sure they are."""
    given = _photo(given, networks)
    photo, look = look_at(given, given.image, networks, observe)
    return photo, look.trimap.cpu(), look.confidence


def matte_photo(
    given: Path | Photo,
    networks: Networks,
    trimap: Path | Tensor | None = None,
    observe: Observe = silent,
    trimap_width: float | None = None,
) -> Matte:
    """Photo or its file -> trimap -> alpha -> foreground colours, without enhancing.

    `trimap` are classes (1, 1, H, W), or a file of them, or with `trimap_width`, in pixels, a mask's file. Where one is
    given, the trimap network is not asked at all: neither for a trimap nor for what is likely in the unknown region.

    Raises:
        PhotoError, TrimapError, WeightError: see `read_photo`, `read_trimap`, `zoo.path`.
    """
    photo = _photo(given, networks)
    if trimap is None:
        photo, look = look_at(photo, photo.image, networks, observe)
        return matte_of(photo, photo.image, look, networks, observe)
    classes = read_trimap(trimap, photo.size, trimap_width) if isinstance(trimap, Path) else trimap
    return matte_of(photo, photo.image, classes, networks, observe)


@dataclass(frozen=True)
class Moved:
    """A photo, and `image`, (1, 3, H, W) on the CPU, what the enhancement makes of it; `networks` that memory let."""

    photo: Photo
    image: Tensor
    networks: Networks
    quad: Quad
    inversion: Inversion
    enhancement: Enhancement


def moved_photo(
    given: Path | Photo, networks: Networks, observe: Observe = silent, clock: Clock | None = None
) -> Moved:
    """Photo or its file -> face -> inversion -> enhancement, and no further; raises what `enhance_photo` does."""
    photo = _photo(given, networks)
    image = photo.image.to(networks.device.torch)
    ways = _ways_to_enhance(photo, image, networks, observe, clock or Clock())
    (networks, quad, inversion, enhancement), way = first_that_fits(ways)
    photo = _noted(photo, f"memory is too small for it: it was enhanced {way}" if way else None)
    return Moved(photo, enhancement.delivered(image, quad).cpu(), networks, quad, inversion, enhancement)


def enhance_photo(given: Path | Photo, networks: Networks, observe: Observe = silent) -> Enhanced:
    """Photo or its file -> face -> inversion -> enhancement -> trimap -> alpha -> cut-out (SMPEG, figure 2).

    Raises:
        PhotoError, NoFaceError, UsageError, WeightError, DataError: see the stages.
    """
    clock = Clock()
    moved = moved_photo(given, networks, observe, clock)
    networks = moved.networks

    clock.start("matte")
    photo, look = look_at(moved.photo, moved.photo.image, networks, observe)
    photo, look_again = look_at(photo, moved.image, networks, observe)
    own = matte_of(photo, photo.image, look, networks, observe)
    enhanced_one = enhanced_matte(photo, moved.image, look, look_again, networks, observe)
    matte, whose = kept_matte(own, enhanced_one, networks.settings.keep)
    clock.stop()
    report = enhancement_report(
        networks, (own, enhanced_one), whose, moved.quad, moved.inversion, moved.enhancement, clock.seconds
    )
    return Enhanced(moved.image, matte, report)


def enhanced_matte(
    photo: Photo, image: Tensor, look: Look, look_again: Look, networks: Networks, observe: Observe = silent
) -> Matte:
    """Of `image`, a photo's enhanced version; the looks are at the photo and at that.

    Where alpha shall be better, trimaps learn from both versions, but colours are the photo's: the enhancement is for
    networks to understand, and leaves traces of that along hair.
    """
    if networks.settings.keep == "better":
        matte = matte_of(photo, photo.image, joint_look(look, look_again), networks, observe)
        return replace(matte, image=image)
    return matte_of(photo, image, look_again, networks, observe)


def _ways_to_enhance(
    photo: Photo, image: Tensor, networks: Networks, observe: Observe, clock: Clock
) -> Iterator[tuple[str, Callable[[], tuple[Networks, Quad, Inversion, Enhancement]]]]:
    """As it is wished for; where memory is short, with each smaller picture of the generator, then on a smaller photo.

    Latents out of a file are of one size of the generator.
    """
    settings = networks.settings

    def moved(size: int, pixels: int = WORKING_PIXELS) -> tuple[Networks, Quad, Inversion, Enhancement]:
        own = networks.under(replace(settings, size=size))
        clock.start("inversion")
        quad, inversion = (_kept if settings.latents else _found)(photo, image, own, observe)
        clock.start("enhancement")
        scene = working_scene(
            image,
            quad,
            size,
            own,
            composites=settings.weights.adversarial > 0,
            seed=settings.seed,
            backgrounds=settings.backgrounds,
            pixels=pixels,
        )
        enhancement = enhanced(
            own.generator,
            inversion,
            scene,
            own,
            settings.weights,
            settings.optimisation,
            observe=lambda step, steps, row: observe("enhancement", step, steps),
        )
        return own, quad, inversion, enhancement

    yield "", partial(moved, settings.size)
    smallest = settings.size
    for size in () if settings.latents else smaller_sizes(settings.generator, settings.size):
        yield f"with a picture of {size} pixels", partial(moved, size)
        smallest = size
    few = WORKING_PIXELS // 4
    yield f"with a picture of {smallest} pixels and the photo at half the working size", partial(moved, smallest, few)


def invert_photo(given: Path | Photo, networks: Networks, observe: Observe = silent) -> tuple[Latents, Inversion]:
    """Photo or its file -> face -> inversion, and no further.

    Raises:
        PhotoError, NoFaceError, UsageError, WeightError: see the stages.
    """
    photo = _photo(given, networks)
    quad, inversion = _found(photo, photo.image.to(networks.device.torch), networks, observe)
    return Latents(inversion.w_plus, inversion.noise, quad, _origin(photo, networks)), inversion


def _photo(given: Path | Photo, networks: Networks) -> Photo:
    return given if isinstance(given, Photo) else read_photo(given, networks.settings.max_pixels)


def _noted(photo: Photo, *notes: str | None) -> Photo:
    """The photo, with what the user should know of how its results came about."""
    return replace(photo, notes=tuple(dict.fromkeys((*photo.notes, *filter(None, notes)))))


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


def look_at(photo: Photo, image: Tensor, networks: Networks, observe: Observe = silent) -> tuple[Photo, Look]:
    """What the trimap network sees in `image`, which is the photo's own or its enhanced version; and the photo, noted
    where memory was short.
    """
    observe("trimap", 0, 1)
    look, note = frugal_trimap(networks.trimap, image.to(networks.device.torch))
    observe("trimap", 1, 1)
    return _noted(photo, note), look


def matte_of(photo: Photo, image: Tensor, given: Look | Tensor, networks: Networks, observe: Observe = silent) -> Matte:
    """Of `image`, the photo's own or its enhanced version, by what was seen there or by a trimap's classes."""
    trimap, person = (given.trimap, given.person) if isinstance(given, Look) else (given, None)
    sure = given.confidence if isinstance(given, Look) else confidence(given)
    image = image.to(networks.device.torch)
    observe("alpha", 0, 1)
    alpha, note = frugal_alpha(networks.matting, image, trimap.to(image.device), person)
    observe("alpha", 1, 1)
    return Matte(_noted(photo, note), image.cpu(), trimap.cpu(), alpha.cpu(), sure)
