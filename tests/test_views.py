import numpy as np
import pytest
import torch
from PIL import Image

from sgmatte.train.views import Views, photographed, portrait
from sgmatte.trimaps import BACKGROUND, FOREGROUND, UNKNOWN

VIEW = (64, 56)


@pytest.fixture(scope="module")
def person():
    """A drawn portrait: a grey head on a grey body, with a soft edge, before a blue wall."""
    y, x = np.mgrid[:160, :120]
    inside = np.maximum(30 - np.hypot(x - 60, y - 60), 50 - np.hypot((x - 60) * 0.9, y - 150))
    alpha = np.clip(0.5 + inside / 6, 0, 1)
    image = alpha[..., None] * 170 + (1 - alpha[..., None]) * np.array([20, 60, 200])
    return portrait(image.astype(np.uint8), (alpha * 255).astype(np.uint8), (alpha > 0.5).astype(np.uint8) * 255, 0.01)


def test_portrait_finds_the_head(person):
    x, top, side = person.head
    scale = 512 / 160
    assert x == pytest.approx(60 * scale, abs=4)
    assert top == pytest.approx(30 * scale, abs=8)
    assert side == pytest.approx(0.6 * 120 * scale, abs=2)


def test_views_depend_on_nothing_but_their_generator(person):
    views = Views([person], [Image.new("RGB", (400, 300), (0, 200, 0))], VIEW)
    for seed in range(4):
        first, second = (views(np.random.default_rng(seed)) for _ in range(2))
        assert first["image"].shape == (3, *VIEW)
        assert first["trimap"].shape == first["mask"].shape == VIEW
        assert set(first["trimap"].unique().tolist()) <= {BACKGROUND, UNKNOWN, FOREGROUND}
        assert all(torch.equal(first[key], second[key]) for key in first)


def test_views_keep_picture_and_classes_together(person):
    """Where the classes say foreground there is grey, where background, blue (or the green of a new place)."""
    views = Views([person], [Image.new("RGB", (400, 300), (0, 200, 0))], VIEW)
    for seed in range(12):
        sample = views(np.random.default_rng(seed))
        spread = sample["image"].amax(0) - sample["image"].amin(0)
        if spread.max() < 0.2:  # drawn as a grey photo
            continue
        inside, outside = spread[sample["trimap"] == FOREGROUND], spread[sample["trimap"] == BACKGROUND]
        if len(inside) and len(outside):
            assert inside.median() < outside.median()
        assert (sample["mask"][sample["trimap"] == FOREGROUND] == 1).all()


def test_photographed_stays_in_range():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (*VIEW, 3), dtype=np.uint8)
    for _ in range(8):
        picture = photographed(image, rng)
        assert picture.dtype == np.float32
        assert 0 <= picture.min() <= picture.max() <= 1
