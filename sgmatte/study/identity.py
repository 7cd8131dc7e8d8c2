"""Is it still the same person? As far as a face embedding can tell, where one is installed.

`pip install 'sgmatte[identity]'` brings dlib and its network (King, "High Quality Face Recognition with Deep Metric
Learning", 2017).
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from sgmatte.errors import WeightError

SIDE = 256  # of the crops
FACE = (0.2, 0.32, 0.8, 0.92)  # left, top, right and bottom of the face in a crop that is aligned as FFHQ's, in sides
SAME = 0.6  # distance below which dlib's authors take two pictures to show one person
POINTS, NETWORK = "shape_predictor_5_face_landmarks.dat", "dlib_face_recognition_resnet_model_v1.dat"


class FaceEmbedding:
    """dlib's network; `folder` holds its files.

    Raises:
        WeightError: they are not what dlib takes.
    """

    def __init__(self, folder: Path) -> None:
        import dlib

        self.dlib: Any = dlib
        try:
            self.points = dlib.shape_predictor(str(folder / POINTS))
            self.network = dlib.face_recognition_model_v1(str(folder / NETWORK))
        except RuntimeError as error:
            raise WeightError(f"{folder}: {error}; install face-recognition-models anew") from error

    def distance(self, first: Tensor, second: Tensor) -> float:
        """Euclidean distance of two faces, crops (1, 3, 256, 256) in [0, 1] aligned as FFHQ's; at most 2."""
        return float(np.linalg.norm(self._embedding(first) - self._embedding(second)))

    def _embedding(self, crop: Tensor) -> np.ndarray:
        pixels = (crop[0].clamp(0, 1).permute(1, 2, 0) * 255).round().byte().cpu().contiguous().numpy()
        face = self.dlib.rectangle(*(round(side * SIDE) for side in FACE))
        chip = self.dlib.get_face_chip(pixels, self.points(pixels, face), size=150, padding=0.25)
        return np.array(self.network.compute_face_descriptor(chip))


def face_embedding() -> FaceEmbedding | None:
    """The one that is installed, if one is."""
    models = find_spec("face_recognition_models")  # importing it would want setuptools
    if find_spec("dlib") is None or models is None or models.origin is None:
        return None
    return FaceEmbedding(Path(models.origin).parent / "models")
