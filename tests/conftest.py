"""What several test modules stand on."""

import os

import numpy as np
import pytest
from PIL import Image

if "OMP_NUM_THREADS" in os.environ:  # tests that import PyMatting themselves must leave torch its threads too
    os.environ.setdefault("NUMBA_NUM_THREADS", os.environ["OMP_NUM_THREADS"])


def disc_alpha(height, width, radius, softness=6.0):
    y, x = np.mgrid[:height, :width]
    distance = np.hypot(y - height / 2, x - width / 2)
    return np.clip((radius - distance) / softness + 0.5, 0, 1).astype(np.float32)


@pytest.fixture
def data(tmp_path):
    """Three soft discs as portraits, six plain backgrounds."""
    for folder in ("portraits/image", "portraits/alpha", "backgrounds"):
        (tmp_path / folder).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for k in range(3):
        alpha = disc_alpha(160, 120, 40 + 5 * k)
        image = alpha[..., None] * rng.random(3) + (1 - alpha[..., None]) * rng.random(3)
        Image.fromarray((image * 255).astype(np.uint8)).save(tmp_path / f"portraits/image/{k}.png")
        Image.fromarray((alpha * 255).astype(np.uint8)).save(tmp_path / f"portraits/alpha/{k}.png")
    for k in range(6):
        Image.new("RGB", (90, 70), tuple(rng.integers(255, size=3))).save(tmp_path / f"backgrounds/{k}.png")
    return tmp_path
