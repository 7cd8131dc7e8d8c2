"""Landmarks of the face-alignment package, for those who have its weights. Nothing is downloaded here.

Bulat, Tzimiropoulos: How far are we from solving the 2D & 3D Face Alignment problem? ICCV 2017. The package's S3FD
detector finds the faces, its FAN network 68 points on each.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import torch
from torch import Tensor

from sgmatte.errors import UsageError, WeightError

CHOICES = ("auto", "mtcnn", "fan")


def landmark_source(choice: str) -> str:
    """The network that answers to `--landmarks`: "mtcnn" or "fan". "auto" is fan where its weights are present.

    Raises:
        UsageError: unknown choice.
        WeightError: "fan", and its weights are missing; the message says which and where they belong.
    """
    if choice not in CHOICES:
        raise UsageError(f"unknown landmarks '{choice}'; choose one of {', '.join(CHOICES)}")
    if choice == "mtcnn" or (choice == "auto" and not any(_cache_folder().glob("s3fd-*"))):
        return "mtcnn"  # without importing the package, which takes seconds
    missing = [url for url in _weight_urls() if not (_cache_folder() / _file_name(url)).is_file()]
    if not missing:
        return "fan"
    if choice == "auto":
        return "mtcnn"
    raise WeightError(
        f"--landmarks fan: {' and '.join(map(_file_name, missing))} not found in {_cache_folder()}; "
        f"download {' and '.join(missing)} into it, or use --landmarks mtcnn"
    )


@torch.inference_mode()
def fan_faces(image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes (N, 4), five points (N, 5, 2) and scores (N,) of the faces in an image (1, 3, H, W) in [0, 1]."""
    pixels = (image[0].permute(1, 2, 0) * 255).round().byte().cpu().numpy()
    aligner = _aligner(str(image.device))
    found = [box.tolist() for box in aligner.face_detector.detect_from_image(pixels)]
    if not found:
        return torch.zeros(0, 4), torch.zeros(0, 5, 2), torch.zeros(0)
    points = torch.stack([torch.as_tensor(face) for face in aligner.get_landmarks_from_image(pixels, found)])
    boxes = torch.tensor(found)
    return boxes[:, :4], five_of_68(points), boxes[:, 4]


def five_of_68(points: Tensor) -> Tensor:
    """Landmarks (N, 68, 2) in the order of iBUG 300-W -> left eye, right eye, nose, mouth left, mouth right (N, 5, 2).

    The eyes are the means of their outlines, the mouth's corners the outer ones: what FFHQ aligns by.
    """
    eyes = [points[:, 36:42].mean(dim=1), points[:, 42:48].mean(dim=1)]
    return torch.stack([*eyes, points[:, 30], points[:, 48], points[:, 54]], dim=1)


def _weight_urls() -> list[str]:
    from face_alignment.api import models_urls
    from face_alignment.detection.sfd.sfd_detector import models_urls as detector_urls

    return [detector_urls["s3fd"], models_urls["2DFAN-4"]]


def _file_name(url: str) -> str:
    return os.path.basename(urlparse(url).path)


def _cache_folder() -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints"


@cache
def _aligner(device: str) -> Any:
    from face_alignment import FaceAlignment, LandmarksType

    return FaceAlignment(LandmarksType.TWO_D, device=device, flip_input=False, face_detector="sfd", compile=False)
