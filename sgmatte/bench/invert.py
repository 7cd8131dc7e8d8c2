"""How close does the inversion come to a face crop, and in what time?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sgmatte.errors import DataError
from sgmatte.face import chosen_face, crop_of, detected_faces, ffhq_quad
from sgmatte.generator import Generator
from sgmatte.inversion import inverted
from sgmatte.nn.encoder import Encoder
from sgmatte.nn.perceptual import PerceptualDistance
from sgmatte.photo import read_photo
from sgmatte.train.data import PortraitFolder


@dataclass(frozen=True)
class InversionScores:
    """Of one photo's largest face; PSNR in dB to the crop, of pictures in [0, 1]."""

    photo: str
    after_w: float
    psnr: float
    noise: float  # root mean square change of the noise maps
    seconds: float
    crop: Tensor  # (1, 3, S, S)
    image: Tensor  # the generator's


def inversion_scores(
    generator: Generator,
    photos: Sequence[Path],
    perceptual: PerceptualDistance,
    device: torch.device,
    encoder: Encoder | None = None,
) -> Iterator[InversionScores]:
    """Invert the largest face of each photo, from the encoder's guess or from the mean latent.

    Raises:
        PhotoError, NoFaceError: of a photo that does not serve.
    """
    untouched = generator.default_noise()
    for photo in photos:
        image = read_photo(photo).image.to(device)
        crop = crop_of(image, ffhq_quad(chosen_face(detected_faces(image, device))), generator.size)
        found = inverted(generator, crop, perceptual, start=encoder(crop) if encoder else None)
        changes = torch.cat([(a - b).flatten() for a, b in zip(found.noise, untouched, strict=True)])
        yield InversionScores(
            photo=photo.stem,
            after_w=found.psnr_after_w,
            psnr=found.psnr,
            noise=float(changes.square().mean().sqrt()),
            seconds=found.seconds,
            crop=crop,
            image=found.image,
        )


def portrait_sample(portraits: PortraitFolder, count: int, seed: int) -> list[Path]:
    """`count` photos of a folder, drawn without repetition.

    Raises:
        DataError: there are fewer.
    """
    photos = portraits.images
    if count > len(photos):
        raise DataError(f"{portraits.folder / 'image'}: {count} portraits wanted, {len(photos)} there")
    return [photos[k] for k in np.random.default_rng(seed).permutation(len(photos))[:count]]
