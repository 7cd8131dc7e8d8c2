"""sgmatte from Python, in the words of the command line: `sgmatte.matte("photo.jpg", model="closed-form")`.

Options have the names and the defaults that they have there (`--from` is `latents`, `--device` belongs to a `Session`),
and errors are those of sgmatte.errors. Pictures come in as paths, Pillow images, arrays or tensors (pictures.py) and go
out as arrays, with the tensors behind them (arrays.py).
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable
from functools import cache, wraps
from pathlib import Path
from typing import Concatenate, Literal, ParamSpec, TypeVar

from sgmatte import pipeline, zoo
from sgmatte.arrays import Composite, Enhanced, Inversion, Matte, StrPath, Trimap
from sgmatte.device import chosen_device
from sgmatte.errors import UsageError
from sgmatte.generators import GENERATORS, chosen_generator
from sgmatte.hostile import MAX_PIXELS
from sgmatte.observers import Observe, silent
from sgmatte.pictures import Picture, cutout_of, photo_of, trimap_of
from sgmatte.pipeline import Networks
from sgmatte.scenery import background_of, in_front
from sgmatte.settings import LossWeights, Optimisation, Settings

__all__ = [
    *("Composite", "Enhanced", "Inversion", "Matte", "Session", "Trimap"),
    *("composite", "enhance", "invert", "matte", "trimap"),
]


class Session:
    """The networks, loaded when first needed and kept as long as the session lives.

    Calls from several threads take turns.

    Args:
        device: what computes, as `--device`: auto, cpu, cuda or mps.

    Raises:
        UsageError: there is no such device here.
    """

    def __init__(self, device: str = "auto") -> None:
        self.device = chosen_device(device)
        self._networks = Networks(Settings(), self.device)
        self._turn = threading.RLock()

    def trimap(self, image: Picture, *, max_pixels: int = MAX_PIXELS, observe: Observe = silent) -> Trimap:
        """What of a photo is surely background, surely foreground, or unknown.

        Args:
            max_pixels: limit of a photo, checked before it is decoded.
            observe: called as (stage, done, total) while the photo is worked on.

        Raises:
            PhotoError, WeightError: as `sgmatte trimap` says.
        """
        with self._turn:
            photo, classes, confidence = pipeline.trimap_photo(photo_of(image, max_pixels), self._networks, observe)
        return Trimap(classes, confidence, photo.notes)

    def matte(
        self,
        image: Picture,
        trimap: Picture | None = None,
        *,
        trimap_width: float | None = None,
        model: str = "gca",
        max_pixels: int = MAX_PIXELS,
        observe: Observe = silent,
    ) -> Matte:
        """The alpha of a photo as it is.

        Args:
            trimap: your own, in the photo's size; without it a network makes one.
            trimap_width: `trimap` is a mask or an alpha; all within this many pixels of its edge is unknown.
            model: what estimates the alpha, as `sgmatte matte --model list` shows.
            max_pixels: limit of a photo, checked before it is decoded.
            observe: called as (stage, done, total) while the photo is worked on.

        Raises:
            PhotoError, TrimapError, UsageError, WeightError: as `sgmatte matte` says.
        """
        if trimap_width is not None and trimap is None:
            raise UsageError("--trimap-width makes a trimap of a mask: give the mask with --trimap")
        with self._turn:
            photo = photo_of(image, max_pixels)
            classes = None if trimap is None else trimap_of(trimap, photo.size, trimap_width)
            networks = self._networks.under(Settings(model=model))
            return Matte(pipeline.matte_photo(photo, networks, classes, observe))

    def enhance(
        self,
        image: Picture,
        *,
        generator: str = "auto",
        size: int | None = None,
        latents: StrPath | None = None,
        optimise: Literal["latent", "noise", "both"] = "both",
        steps: int = 30,
        rate: float = 0.1,
        paste: Literal["residual", "full"] = "residual",
        model: str = "gca",
        face: int = 0,
        whole: bool = False,
        landmarks: Literal["auto", "mtcnn", "fan"] = "auto",
        entropy_weight: float = 1.0,
        pixel_weight: float = 10.0,
        perceptual_weight: float = 1.0,
        adversarial_weight: float = 0.0,
        boundary_weight: float = 0.0,
        confidence_weight: float = 0.0,
        consistency_weight: float = 0.0,
        consensus_weight: float = 0.0,
        if_better: bool = True,
        critic: str = "composite",
        backgrounds: StrPath | None = None,
        perceptual: Literal["auto", "effnet", "lpips"] = "auto",
        seed: int = 0,
        max_pixels: int = MAX_PIXELS,
        observe: Observe = silent,
    ) -> Enhanced:
        """A portrait enhanced until it mattes well, and its matte.

        A generator that is asked for and missing is fetched once with your own pip, as on the command line.

        Args:
            generator: what draws the face, as `--generator`; auto: the best one present that draws `size`.
            size: pixels of the generator's picture, 256, 512 or 1024; None: 256, where the generator draws that.
            latents: file of `invert`, or a folder of them, in place of an inversion (`--from`).
            optimise: what moves: W+, the noise maps or both.
            steps: of the enhancement.
            rate: learning rate of the noise maps; W+ takes a fifth of it.
            paste: add the change to the photo, or paste the generator's own picture.
            model: what estimates the alpha, as `sgmatte matte --model list` shows.
            face: which one; 0 is the largest.
            whole: work on the whole photo instead of a face.
            landmarks: what places eyes and mouth; fan only where its weights are present.
            entropy_weight, pixel_weight, perceptual_weight, adversarial_weight: of the four losses.
            boundary_weight, confidence_weight, consistency_weight, consensus_weight: of others that might help.
            if_better: a matte that hears photo and enhanced photo, or where that is no surer, the photo's own; without
                it that of the enhanced photo alone, as in the paper.
            critic: what judges composites: composite, or a discriminator's file from `sgmatte train alphagan`.
            backgrounds: folder of photos for the critic's composites; made up without it.
            perceptual: features of the perceptual loss; lpips only where its weights are present.
            seed: every random choice comes from this number.
            max_pixels: limit of a photo, checked before it is decoded.
            observe: called as (stage, done, total) while the photo is worked on.

        Raises:
            PhotoError, NoFaceError, UsageError, WeightError, DataError: as `sgmatte enhance` says.
        """
        name, pixels = chosen_generator(generator, size)
        settings = Settings(
            generator=name,
            size=pixels,
            model=model,
            landmarks=landmarks,
            face=face,
            latents=None if latents is None else Path(latents),
            whole=whole,
            perceptual=perceptual,
            critic=critic,
            backgrounds=None if backgrounds is None else Path(backgrounds),
            optimisation=Optimisation(variables=optimise, paste=paste, steps=steps, rate=rate),
            weights=LossWeights(
                entropy=entropy_weight,
                pixels=pixel_weight,
                perceptual=perceptual_weight,
                adversarial=adversarial_weight,
                boundary=boundary_weight,
                confidence=confidence_weight,
                consistency=consistency_weight,
                consensus=consensus_weight,
            ),
            keep="better" if if_better else "enhanced",
            seed=seed,
            max_pixels=max_pixels,
        )
        with self._turn:
            _fetch_once(name, observe)
            result = pipeline.enhance_photo(photo_of(image, max_pixels), self._networks.under(settings), observe)
        return Enhanced(result)

    def invert(
        self,
        image: Picture,
        *,
        generator: str = "auto",
        size: int | None = None,
        face: int = 0,
        whole: bool = False,
        max_pixels: int = MAX_PIXELS,
        observe: Observe = silent,
    ) -> Inversion:
        """The latents whose picture is a photo's face, to enhance it from.

        Args:
            generator, size, face, whole, max_pixels, observe: as in `enhance`, which needs the same generator and size.

        Raises:
            PhotoError, NoFaceError, UsageError, WeightError: as `sgmatte invert` says.
        """
        name, pixels = chosen_generator(generator, size)
        settings = Settings(generator=name, size=pixels, face=face, whole=whole, max_pixels=max_pixels)
        with self._turn:
            _fetch_once(name, observe)
            photo = photo_of(image, max_pixels)
            latents, found = pipeline.invert_photo(photo, self._networks.under(settings), observe)
        return Inversion(latents, found, photo.notes)

    def composite(
        self,
        cutout: Picture | Matte | Enhanced,
        background: Picture,
        *,
        photo: Picture | None = None,
        blur: float = 2,
        max_pixels: int = MAX_PIXELS,
    ) -> Composite:
        """A cut-out before another background.

        Args:
            cutout: RGBA, or what `matte` or `enhance` gave.
            background: a photo, a colour (white, #1e90ff), or blur for the cut-out's own surroundings out of focus.
            photo: for blur: the photo that the cut-out was taken from.
            blur: its strength, in percent of the longest side.
            max_pixels: limit of a photo, checked before it is decoded.

        Raises:
            PhotoError, UsageError: as `sgmatte composite` says.
        """
        with self._turn:
            if isinstance(cutout, Enhanced):
                cutout = cutout.matte
            pixels = cutout.tensors.cutout if isinstance(cutout, Matte) else cutout_of(cutout, max_pixels)
            behind = (
                background_of(background, max_pixels)
                if isinstance(background, str)
                else photo_of(background, max_pixels).image
            )
            original = None if photo is None else photo_of(photo, max_pixels)
            image = in_front(pixels, behind, original, blur)
        return Composite(image)


def _fetch_once(generator: str, observe: Observe) -> None:
    weight = GENERATORS[generator].weight
    if not zoo.present(weight):
        zoo.fetch(weight, observe)


@cache
def _session() -> Session:
    return Session()


P = ParamSpec("P")
R = TypeVar("R")


def _shared(method: Callable[Concatenate[Session, P], R]) -> Callable[P, R]:
    """A method of `Session` as a function, of one session that is kept for the rest of the process."""

    @wraps(method)
    def function(*args: P.args, **kwargs: P.kwargs) -> R:
        return method(_session(), *args, **kwargs)

    signature = inspect.signature(method)
    own = [parameter for name, parameter in signature.parameters.items() if name != "self"]
    function.__signature__ = signature.replace(parameters=own)  # type: ignore[attr-defined]
    function.__qualname__ = function.__name__
    return function


trimap = _shared(Session.trimap)
matte = _shared(Session.matte)
enhance = _shared(Session.enhance)
invert = _shared(Session.invert)
composite = _shared(Session.composite)
