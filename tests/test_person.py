"""Who is the person of a portrait: Robust Video Matting, adapted, and how that is learned."""

import csv
from dataclasses import replace

import numpy as np
import pytest
import torch
from skimage.data import astronaut
from typer.testing import CliRunner

from sgmatte import zoo
from sgmatte.cli.app import app
from sgmatte.nn.person import LOOKS, SIDE, Adapter, adapted_rvm, person_model
from sgmatte.nn.rvm import rvm_model
from sgmatte.train import person as training
from sgmatte.train.composites import Foregrounds, training_backgrounds
from sgmatte.train.data import PortraitFolder
from sgmatte.train.person import Stills, errors, losses
from sgmatte.train.scenes import WholePictures

SIZE = (64, 48)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def bundled():
    return person_model(CPU)


@pytest.fixture
def pictures(data):
    foregrounds = Foregrounds.of(PortraitFolder(data / "portraits"), data / "cache")
    return WholePictures.of(foregrounds, training_backgrounds(data / "backgrounds"))


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(training, "SIZE", SIZE)


# the network


def test_untrained_an_adapter_changes_nothing():
    state, adapted = rvm_model(CPU).state_dict(), adapted_rvm(Adapter()).state_dict()
    assert state.keys() == adapted.keys()
    assert all(torch.equal(state[name], adapted[name]) for name in state)


def test_an_adapter_adds_to_all_but_depthwise_kernels_and_the_filter():
    adapter = Adapter(rank=2)
    for parameter in adapter.parameters():
        torch.nn.init.normal_(parameter)
    rvm = rvm_model(CPU)
    before, after = rvm.state_dict(), adapter.adapted(rvm.state_dict())
    convolutions = {name: module for name, module in rvm.named_modules() if isinstance(module, torch.nn.Conv2d)}
    for name, convolution in convolutions.items():
        added = (after[f"{name}.weight"] - before[f"{name}.weight"]).flatten(1)
        left = name.startswith("refine") or convolution.groups > 1
        assert bool((added == 0).all()) is left
        if not left and min(added.shape) > 2:
            assert torch.linalg.matrix_rank(added, rtol=1e-4) == 2
    assert {name for name in before if not torch.equal(before[name], after[name])} <= {
        f"{name}.{part}" for name in convolutions if not name.startswith("refine") for part in ("weight", "bias")
    }
    assert not any(torch.equal(before[name], after[name]) for name in before if name.startswith("encoder.stem"))


def test_at_half_strength_it_adds_half():
    adapter, half = Adapter(rank=2), Adapter(rank=2)
    for parameter in adapter.parameters():
        torch.nn.init.normal_(parameter)
    half.load_state_dict(adapter.weakened(0.5))
    state = rvm_model(CPU).state_dict()
    whole, halves = adapter.adapted(state), half.adapted(state)
    for name, value in state.items():
        torch.testing.assert_close(halves[name], (whole[name] + value) / 2)
    assert any(not torch.equal(halves[name], value) for name, value in state.items())


def test_it_is_asked_at_few_pixels_and_mirrored(bundled):
    assert not bundled.training
    assert not any(parameter.requires_grad for parameter in bundled.parameters())
    assert (bundled.rvm.side, bundled.rvm.looks) == (SIDE, LOOKS)
    image = torch.from_numpy(astronaut()[:, 40:491].copy()).permute(2, 0, 1)[None] / 255
    person, mirrored = bundled.person(image), bundled.person(image.flip(3)).flip(3)
    assert person.shape == (1, 1, SIDE, round(451 * SIDE / 512))
    assert 0 <= float(person.min()) <= float(person.max()) <= 1
    assert (person - mirrored).abs().mean() < 2e-3  # in bfloat16 not the same everywhere
    assert bundled.person(image[..., :40, :60]).shape == (1, 1, 40, 60)
    face, wall = person[0, 0, 70:140, 130:185], person[0, 0, :100, :60]
    assert face.min() > 0.95
    assert wall.max() < 0.1


# the training


def test_pictures_show_everybody_who_is_not_held_out(pictures):
    assert pictures.people == [1, 2]
    assert WholePictures.of(pictures.foregrounds, pictures.backgrounds, held_out=True).people == [0]
    photos = replace(pictures, backgrounds=[], untouched=1.0)
    for person in (0, 1):
        image, alpha = photos(np.random.default_rng(5), person)
        assert image.shape == (*alpha.shape, 3)
        colours = photos.foregrounds[photos.people[person]][80, 60, :3].astype(float)
        assert np.abs(np.median(image[alpha == 255], 0) - colours).max() < 60  # jittered


def test_a_sample_has_its_alpha_where_its_picture_is(pictures, small):
    sample = Stills(pictures)(np.random.default_rng(2))
    image, alpha = sample["image"], sample["alpha"]
    assert image.shape == (3, *SIZE)
    assert alpha.shape == (1, *SIZE)
    assert all(x.min() >= 0 and x.max() <= 1 for x in (image, alpha))
    inside, outside = (image[:, region[0]] for region in (alpha > 0.99, alpha < 0.01))
    assert (inside.mean(1) - outside.mean(1)).abs().max() > 0.05  # a disc of one colour before another
    assert inside.std(1).max() < 0.1


@pytest.mark.parametrize(("value", "truth", "pull"), [(-0.5, 1.0, -1), (1.5, 0.0, 1), (-0.5, 0.0, 0), (1.5, 1.0, 0)])
def test_only_what_is_wrong_has_a_gradient_however_far_out(value, truth, pull):
    alpha = torch.full((1, 1, 32, 32), value, requires_grad=True)
    terms = losses(alpha, torch.full_like(alpha, truth))
    assert float(terms["l1"].detach()) == abs(pull)
    assert float(terms["laplacian"].detach()) == pytest.approx(0, abs=1e-6)  # the same everywhere has no details
    terms["l1"].backward()
    assert float(alpha.grad.sum()) == pytest.approx(pull)


def test_errors_are_shares_of_what_is_there(pictures, small):
    stills = Stills(pictures)
    nobody, everybody = (errors(lambda image, v=v: 0 * image[:, :1] + v, stills, 4, CPU) for v in (0.0, 1.0))
    assert 0 < nobody["wrong"] < nobody["mad"] < 1  # soft pixels err by less than all
    assert nobody["mse"] < nobody["mad"]
    assert nobody["mad"] + everybody["mad"] == pytest.approx(1, abs=1e-4)


def test_the_command_learns(data, pictures, small):
    run, out = data / "run", data / "out.safetensors"
    arguments = ["train", "person", "--data", str(data / "portraits"), "--backgrounds", str(data / "backgrounds")]
    arguments += ["--run", str(run), "--steps", "40", "--batch", "2", "--lr", "3e-3", "--strength", "1"]
    arguments += ["--workers", "0", "--cache", str(data / "cache"), "--out", str(out), "--device", "cpu"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    (row,) = csv.DictReader((run / "validation.csv").open())
    assert int(row["step"]) == 40
    learned = Adapter()
    learned.load_state_dict(zoo.state(out))
    with torch.inference_mode():
        before, after = (errors(adapted_rvm(each), Stills(pictures), 16, CPU) for each in (Adapter(), learned))
    assert after["mad"] < 0.7 * before["mad"]
