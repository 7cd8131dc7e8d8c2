"""Are faces found, in what time, and how well does the crop agree with FFHQ's own?"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from sgmatte.errors import DataError
from sgmatte.face import Face, Quad, crop_of, detected_faces, ffhq_quad
from sgmatte.observers import Observe
from sgmatte.photo import read_photo
from sgmatte.train.data import PortraitFolder, image_files, read_grey


@dataclass(frozen=True)
class Detection:
    """Over portraits of one person each."""

    photos: int
    found: float  # share of the photos with a face at all
    on_person: float  # share whose first face has its nose inside the mask of the person
    several: float  # share with more than one face
    seconds: float  # per photo, without reading it, and without the first, which loads the networks


def detection(data: PortraitFolder, device: torch.device, observe: Observe, landmarks: str = "auto") -> Detection:
    """Look for faces in every photo of a folder with image/ and mask/."""
    images, masks = data.images, data.masks
    faces: list[list[Face]] = []
    seconds = []
    on_person = 0
    for number, file in enumerate(images, start=1):
        photo = read_photo(file)
        started = time.perf_counter()
        faces.append(detected_faces(photo.image, device, landmarks))
        seconds.append(time.perf_counter() - started)
        if faces[-1] and file.stem in masks:
            mask = read_grey(masks[file.stem])
            column, row = (int(value) for value in faces[-1][0].points[2])
            inside = 0 <= row < mask.shape[0] and 0 <= column < mask.shape[1]
            on_person += inside and bool(mask[row, column] > 127)
        observe("detection", number, len(images))
    return Detection(
        photos=len(images),
        found=sum(map(bool, faces)) / len(images),
        on_person=on_person / len(images),
        several=sum(len(found) > 1 for found in faces) / len(images),
        seconds=sum(seconds[1:]) / max(1, len(seconds) - 1),
    )


@dataclass(frozen=True)
class Alignment:
    """Over pictures that FFHQ's script has aligned: their own frame is the truth. Lengths are shares of its side."""

    photos: int
    found: float  # share of the pictures with a face
    corner: float  # mean distance of a corner from the picture's
    side: float  # mean of the side's length; 1 is right
    angle: float  # root mean square, in degrees


def alignment(folder: Path, device: torch.device, observe: Observe, landmarks: str = "auto") -> Alignment:
    """Align about 200 aligned pictures once more, each inside a mirrored frame of half its size on every side.

    Raises:
        DataError: no picture of the folder has a face.
    """
    images = image_files(folder)
    images = images[:: max(1, len(images) // 200)]
    quads = []
    for number, file in enumerate(images, start=1):
        image = read_photo(file).image
        height, width = image.shape[-2:]
        frame = Quad((-width / 2, -height / 2), (2.0 * width, 0.0), (0.0, 2.0 * height))
        faces = detected_faces(crop_of(image, frame, 2 * width).to(device), device, landmarks)
        if faces:  # the mirror may show a second one
            middle = min(faces, key=lambda face: math.dist(face.points[2], (width, width)))
            quads.append(ffhq_quad(middle).scaled(1 / width))
        observe("alignment", number, len(images))
    if not quads:
        raise DataError(f"{folder}: no picture shows a face")
    truth = ((0.5, 0.5), (1.5, 0.5), (1.5, 1.5), (0.5, 1.5))
    corners = [math.dist(a, b) for quad in quads for a, b in zip(quad.corners, truth, strict=True)]
    angles = [math.degrees(math.atan2(quad.right[1], quad.right[0])) for quad in quads]
    return Alignment(
        photos=len(images),
        found=len(quads) / len(images),
        corner=sum(corners) / len(corners),
        side=sum(quad.side for quad in quads) / len(quads),
        angle=math.sqrt(sum(angle**2 for angle in angles) / len(angles)),
    )
