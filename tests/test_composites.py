from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from sgmatte.errors import DataError, UsageError
from sgmatte.nn.gca import GCA
from sgmatte.train import composites
from sgmatte.train import gca as gca_training
from sgmatte.train.composites import (
    CompositeSampler,
    Foregrounds,
    degraded,
    jittered,
    over,
    random_trimap,
    reserved_backgrounds,
    training_backgrounds,
    with_extra,
)
from sgmatte.train.data import PortraitFolder
from sgmatte.train.gca import laplacian_norm, losses, trained_gca
from sgmatte.train.loop import Recipe


def disc_alpha(height, width, radius, softness=6.0):
    y, x = np.mgrid[:height, :width]
    distance = np.hypot(y - height / 2, x - width / 2)
    return np.clip((radius - distance) / softness + 0.5, 0, 1).astype(np.float32)


@pytest.fixture
def sampler(data):
    foregrounds = Foregrounds.of(PortraitFolder(data / "portraits"), data / "cache")
    return CompositeSampler(foregrounds, training_backgrounds(data / "backgrounds"), size=64)


def test_every_fifth_background_is_kept_from_training(data):
    folder = data / "backgrounds"
    assert [p.stem for p in reserved_backgrounds(folder)] == ["4"]
    assert [p.stem for p in training_backgrounds(folder)] == ["0", "1", "2", "3", "5"]


def test_foregrounds_are_computed_once(data):
    foregrounds = Foregrounds.of(PortraitFolder(data / "portraits"), data / "cache")
    counted = []
    foregrounds.fill_cache(lambda done, total: counted.append((done, total)))
    assert counted == [(1, 3), (2, 3), (3, 3)]
    first = foregrounds[0]
    assert first.shape == (160, 120, 4)
    assert first.dtype == np.uint8
    np.testing.assert_array_equal(first[..., 3], np.asarray(Image.open(data / "portraits/alpha/0.png")))
    Image.new("RGB", (120, 160)).save(data / "portraits/image/0.png")
    np.testing.assert_array_equal(foregrounds[0], first)
    assert sorted(p.name for p in (data / "cache").iterdir()) == ["0.npy", "1.npy", "2.npy"]


def test_samples_depend_on_their_generator_alone(sampler):
    one, again, other = (sampler(np.random.default_rng((0, k))) for k in (7, 7, 8))
    for key, value in one.items():
        assert torch.equal(value, again[key])
    assert not torch.equal(one["image"], other["image"])


@pytest.mark.parametrize("k", range(12))
def test_a_sample_is_a_consistent_problem(sampler, k):
    sample = sampler(np.random.default_rng((1, k)))
    image, trimap, alpha = sample["image"], sample["trimap"], sample["alpha"]
    assert image.shape == (3, 64, 64)
    assert image.dtype == alpha.dtype == torch.float32
    assert trimap.shape == alpha.shape == (1, 64, 64)
    assert trimap.dtype == torch.int64
    for values in (image, alpha):
        assert 0 <= values.min() <= values.max() <= 1
    assert (trimap == 1).any()
    assert (alpha[trimap == 0] < 0.05).all()
    assert (alpha[trimap == 2] > 0.95).all()


def test_trimap_band_has_the_drawn_width():
    alpha = disc_alpha(200, 200, 60, softness=0.01)
    share = {}
    for scale in (0.5, 1.0):
        trimaps = [random_trimap(alpha, np.random.default_rng(k), scale) for k in range(20)]
        share[scale] = np.mean([(t == 1).mean() for t in trimaps])
        for trimap in trimaps:
            assert alpha[trimap == 0].max(initial=0) == 0
            assert alpha[trimap == 2].min(initial=1) == 1
    assert share[0.5] == pytest.approx(share[1.0] / 2, rel=0.15)


def test_two_people_over_each_other():
    one = np.ones((1, 3), np.float32)
    front, back = one[..., None] * np.float32([1, 0, 0]), one[..., None] * np.float32([0, 0, 1])
    colours, alpha = over(front, np.float32([[1, 0.5, 0]]), back, np.float32([[1, 0.5, 0]]))
    np.testing.assert_allclose(alpha, [[1, 0.75, 0]])
    np.testing.assert_allclose(colours[0, :2], [[1, 0, 0], [2 / 3, 0, 1 / 3]], atol=1e-6)
    np.testing.assert_allclose(colours[0, 2], [1, 0, 0])  # colours stay defined where nothing is seen


def test_augmentations_stay_in_range_and_keep_the_picture():
    image = np.random.default_rng(0).random((32, 32, 3)).astype(np.float32)
    for k in range(10):
        for augmented in (jittered(image, np.random.default_rng(k), 1), degraded(image, np.random.default_rng(k))):
            assert augmented.shape == image.shape
            assert 0 <= augmented.min() <= augmented.max() <= 1
            assert np.corrcoef(augmented.ravel(), image.ravel())[0, 1] > 0.5


def test_laplacian_norm_of_a_constant_and_of_a_pixel():
    assert laplacian_norm(torch.ones(1, 1, 32, 32)).item() == pytest.approx(0, abs=1e-4)
    pixel = torch.zeros(1, 1, 32, 32)
    pixel[0, 0, 16, 16] = 1
    # Averaging leaves 1/4; bilinear enlargement returns 3/4 * 3/4 of it to the pixel and spreads the rest, 1 in all.
    assert laplacian_norm(pixel, levels=1).item() == pytest.approx(2 * (1 - 9 / 64), abs=1e-5)


def test_losses_see_the_unknown_region_alone():
    alpha = torch.rand(1, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    trimap = torch.ones(1, 1, 32, 32, dtype=torch.long)
    trimap[..., :16] = 0
    sample = {"image": torch.zeros(1, 3, 32, 32), "trimap": trimap, "alpha": alpha}
    wrong_where_known = torch.where(trimap == 0, 1 - alpha, alpha)
    assert all(value == 0 for value in losses(lambda *_: wrong_where_known, sample).values())
    off_by_a_tenth = losses(lambda *_: alpha + 0.1, sample)
    assert off_by_a_tenth["l1"].item() == pytest.approx(0.1, abs=1e-5)


def test_training_writes_its_progress(data):
    recipe = Recipe(steps=2, batch=2, lr=1e-3, warmup=1, workers=0, validate_every=2, seed=3)
    network = trained_gca(
        data / "portraits", data / "backgrounds", recipe, data / "run", width=0.1, size=32, validation=4
    )
    assert isinstance(network, GCA)
    assert not network.training
    assert all(value.isfinite().all() for value in network.state_dict().values())
    assert (data / "run/validation.csv").read_text().startswith("step,unknown_l1,unknown_mse\n2,")
    assert len(list((data / "run/foregrounds").iterdir())) == 3


# --- people of another folder


@pytest.fixture
def more(data):
    """Two generated people of 48 x 48 pixels, with foreground colours that are theirs alone."""
    rng = np.random.default_rng(1)
    for kind in ("image", "alpha", "foreground"):
        (data / "more" / kind).mkdir(parents=True)
    for k in range(2):
        alpha = disc_alpha(48, 48, 15)
        Image.fromarray(rng.integers(255, size=(48, 48, 3), dtype=np.uint8)).save(data / f"more/image/0-{k}.png")
        Image.fromarray((alpha * 255).astype(np.uint8)).save(data / f"more/alpha/0-{k}.png")
        Image.new("RGB", (48, 48), (200, 10 + k, 30)).save(data / f"more/foreground/0-{k}.png")
    return data / "more"


def test_foreground_files_are_taken_in_place_of_an_estimate(data, more):
    foregrounds = Foregrounds.extra(more, data / "cache")
    np.testing.assert_array_equal(foregrounds[1][..., :3], np.full((48, 48, 3), (200, 11, 30)))
    np.testing.assert_array_equal(foregrounds[1][..., 3], np.asarray(Image.open(more / "alpha/0-1.png")))
    Image.new("RGB", (40, 48)).save(more / "foreground/0-0.png")
    with pytest.raises(DataError, match="another size"):
        foregrounds[0]
    (more / "foreground/0-0.png").unlink()
    with pytest.raises(DataError, match="no foreground for 0-0"):
        PortraitFolder(more)


def test_folders_with_the_same_names_have_caches_of_their_own(data, more):
    assert Foregrounds.extra(more, data).cache != Foregrounds.extra(data / "portraits", data).cache
    assert Foregrounds.extra(more, data).cache.parent == data


def test_without_people_of_another_folder_nothing_else_is_drawn(sampler, data):
    """A share of 1 costs one number and gives, of the same people, the same samples."""
    sampler = replace(sampler, zoom=1.5)
    same = with_extra(sampler, Foregrounds.extra(data / "portraits", data / "cache"), 1)
    for k in range(4):
        one, other = np.random.default_rng(k), np.random.default_rng(k)
        one.random()
        plain, extra = sampler(one), same(other)
        assert all(torch.equal(value, extra[key]) for key, value in plain.items())
        assert one.bit_generator.state == other.bit_generator.state


def test_a_share_of_the_samples_shows_people_of_another_folder(sampler, data, more, monkeypatch):
    scales = []

    def spied(alpha, rng, scale, widest):
        scales.append(scale)
        return random_trimap(alpha, rng, scale, widest)

    monkeypatch.setattr(composites, "random_trimap", spied)
    mixed = with_extra(sampler, Foregrounds.extra(more, data / "cache"), 0.3)
    for k in range(60):
        mixed(np.random.default_rng((0, k)))
    of_more = [scale for scale in scales if scale > 1]  # crops of at most 48 pixels, as 64: bands grow with them
    assert set(of_more) == {64 / 48}
    assert 0.15 < len(of_more) / len(scales) < 0.45


def test_validation_knows_nothing_of_the_people_of_another_folder(data, more, monkeypatch):
    seen = {}
    whole_errors, whole_fit = gca_training.alpha_errors, gca_training.fit

    def errors(sampler, *rest):
        seen["validation"] = sampler
        return whole_errors(sampler, *rest)

    def fit(network, sampler, *rest, **options):
        seen["training"] = sampler
        return whole_fit(network, sampler, *rest, **options)

    monkeypatch.setattr(gca_training, "alpha_errors", errors)
    monkeypatch.setattr(gca_training, "fit", fit)
    recipe = Recipe(steps=1, batch=2, lr=1e-3, warmup=1, workers=0, validate_every=1)
    places = data / "portraits", data / "backgrounds", recipe, data / "run"
    trained_gca(*places, width=0.1, size=32, validation=4, extra=more, extra_weight=0.5)
    assert seen["validation"].extra is None
    assert seen["training"] == replace(seen["validation"], extra=seen["training"].extra, extra_share=0.5)
    assert len(seen["training"].extra) == 2
    with pytest.raises(UsageError, match="--extra-weight"):
        trained_gca(*places, width=0.1, size=32, validation=4, extra=more, extra_weight=1.5)
