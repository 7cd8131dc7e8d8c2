import itertools
import json
from importlib.metadata import EntryPoint

import numpy as np
import pytest
import torch
from conftest import disc_alpha
from typer.testing import CliRunner

from sgmatte import zoo
from sgmatte.bench.matte import BAND_RADIUS, Contestant, Scores, all_scores, mean_scores, problems, ratios
from sgmatte.bench.peers import chosen_peer
from sgmatte.cli.app import app
from sgmatte.errors import DataError, TrimapError, UsageError, WeightError
from sgmatte.foreground import composite
from sgmatte.matting import registry
from sgmatte.matting.classical import ClassicalMatting
from sgmatte.matting.models import matted, matting_model, pasted
from sgmatte.matting.networks import NetworkMatting, reflected
from sgmatte.matting.registry import matting_models
from sgmatte.nn.alphagan import AlphaGAN
from sgmatte.nn.gca import GCA, STRIDE
from sgmatte.photo import read_photo
from sgmatte.train.data import PortraitFolder
from sgmatte.trimaps import Look, band_trimap, confidence


@pytest.fixture(scope="module")
def scene():
    """A reddish disc with a soft edge over a bluish ramp: image, trimap, true alpha; sides no multiples of 32."""
    alpha = torch.from_numpy(disc_alpha(90, 70, 25, softness=8))[None, None]
    ramp = torch.linspace(0, 1, 70).expand(1, 1, 90, 70)
    foreground = torch.cat((0.7 + 0.2 * ramp, 0.3 * ramp, 0.1 + 0 * ramp), 1)
    background = torch.cat((0.1 * ramp, 0.2 + 0.2 * ramp, 0.8 - 0.2 * ramp), 1)
    return composite(alpha, foreground, background), band_trimap(alpha, 4), alpha


@pytest.fixture(scope="module")
def untrained():
    torch.manual_seed(0)
    return NetworkMatting("gca", GCA(0.1).eval().requires_grad_(False), STRIDE)


@pytest.fixture(scope="module", params=["gca", "closed-form", "knn"])
def model(request):
    return matting_model(request.param)


def test_models_solve_an_easy_matte(model, scene):
    image, trimap, truth = scene
    alpha = model(image, trimap)
    unknown = trimap == 1
    assert alpha.shape == truth.shape
    assert alpha.dtype == torch.float32
    assert (alpha - truth).abs()[unknown].mean() < 0.08
    assert (0.5 - truth).abs()[unknown].mean() > 0.25


def test_certain_pixels_of_the_trimap_are_kept(model, scene):
    image, trimap, _ = scene
    alpha = model(image, trimap)
    assert (alpha[trimap == 0] == 0).all()
    assert (alpha[trimap == 2] == 1).all()


def test_models_name_themselves(model):
    assert matting_models().keys() >= {model.name}
    assert model.differentiable == (model.name == "gca")


def test_gradients_reach_the_image_where_promised(untrained, scene):
    image = scene[0].clone().requires_grad_()
    untrained(image, scene[1]).sum().backward()
    assert image.grad.abs().max() > 0
    assert image.grad.isfinite().all()


@pytest.mark.parametrize("size", [(64, 64), (33, 95), (20, 7), (1, 40)])
def test_gca_takes_photos_of_any_size(untrained, size):
    alpha = untrained(torch.rand(2, 3, *size), torch.ones(2, 1, *size, dtype=torch.long))
    assert alpha.shape == (2, 1, *size)
    assert 0 <= alpha.min() <= alpha.max() <= 1


@pytest.mark.parametrize("size", [(50, 40), (12, 40), (1, 3)])
def test_padding_reflects_as_often_as_needed(size):
    image = torch.rand(1, 3, *size)
    expected = np.pad(image.numpy(), [(0, 0), (0, 0), (32, 40), (32, 37)], mode="reflect")
    np.testing.assert_array_equal(reflected(image, (32, 37, 32, 40)).numpy(), expected)


def test_pasting_keeps_gradients_of_the_unknown():
    alpha = torch.full((1, 1, 1, 3), 0.5, requires_grad=True)
    out = pasted(alpha, torch.tensor([0, 1, 2]).view(1, 1, 1, 3))
    assert out.flatten().tolist() == [0, 0.5, 1]
    out.sum().backward()
    assert alpha.grad.flatten().tolist() == [0, 1, 0]


def test_unknown_model_lists_the_known_ones():
    with pytest.raises(UsageError, match=r"gca, gca-plain, .*gca-dist, alphagan-public, closed-form, knn"):
        matting_model("magic")


def test_a_model_without_its_weights_says_how_to_get_them(monkeypatch, tmp_path):
    monkeypatch.setenv("SGMATTE_HOME", str(tmp_path))
    with pytest.raises(WeightError, match="sgmatte weights import FILE"):
        matting_model("gca-dist")


def halves(device):
    """Says one half.

    And nothing else.
    """
    model = Oracle(itertools.repeat(torch.full((1, 1, 1, 1), 0.5)))
    model.name = "half"
    return model


def test_other_packages_add_models(monkeypatch):
    theirs = [
        EntryPoint("half", f"{__name__}:halves", registry.GROUP),
        EntryPoint("gca", f"{__name__}:halves", registry.GROUP),
        EntryPoint("gone", "no_such_package:model", registry.GROUP),
    ]
    monkeypatch.setattr(registry, "entry_points", lambda group: theirs if group == registry.GROUP else [])
    assert list(matting_models()) == [*registry.OWN, "gone", "half"]
    trimap = torch.tensor([0, 1, 2]).view(1, 1, 1, 3)
    assert matting_model("half")(torch.rand(1, 3, 1, 3), trimap).flatten().tolist() == [0, 0.5, 1]
    assert isinstance(matting_model("gca"), NetworkMatting)  # nobody replaces ours
    with pytest.raises(UsageError, match=r"'gone' \(no_such_package:model\) cannot be imported"):
        matting_model("gone")
    listed = CliRunner().invoke(app, ["matte", "--model", "list"])
    assert listed.exit_code == 0
    lines = dict(line.split(maxsplit=1) for line in listed.output.splitlines())
    assert lines["half"] == "Says one half."
    assert lines["gone"].startswith("cannot be imported")
    assert lines["knn"].startswith("KNN matting")


def test_trimap_of_another_size_is_refused(model, scene):
    with pytest.raises(TrimapError, match="64x90 pixels and the photo 70x90"):
        model(scene[0], scene[1][..., :64])


def test_closed_form_needs_something_certain(scene):
    with pytest.raises(TrimapError, match="certain background"):
        matting_model("closed-form")(scene[0], torch.ones_like(scene[1]))


# bench


class Oracle:
    """Knows the answers of `problems`."""

    name, differentiable = "oracle", False

    def __init__(self, answers):
        self.answers = iter(answers)

    def __call__(self, image, trimap):
        return pasted(next(self.answers), trimap)


@pytest.fixture
def posed(data):
    return list(problems(PortraitFolder(data / "portraits"), data / "backgrounds", 3, seed=0))


def test_problems_are_composites_with_known_alpha(posed, data):
    again = list(problems(PortraitFolder(data / "portraits"), data / "backgrounds", 3, seed=0))
    assert sorted(p.name for p in posed) == ["0", "1", "2"]
    for problem, same in zip(posed, again, strict=True):
        assert torch.equal(problem.image, same.image)
        assert problem.image.shape == (1, 3, 160, 120)
        assert torch.equal(problem.trimap, band_trimap(problem.alpha, BAND_RADIUS))
        clear = problem.image[(problem.alpha == 0).expand_as(problem.image)].view(3, -1)
        assert clear.std(1).max() < 0.01  # a plain background shows


def test_people_come_again_over_other_backgrounds(posed, data):
    found = list(problems(PortraitFolder(data / "portraits"), data / "backgrounds", 5, seed=0))
    assert [p.name for p in found] == [*(p.name for p in posed), posed[0].name, posed[1].name]
    assert torch.equal(found[0].image, posed[0].image)
    assert torch.equal(found[3].alpha, found[0].alpha)


def test_photos_do_not_come_again(data):
    with pytest.raises(DataError, match="has 3 portraits, 4 are wanted"):
        next(problems(PortraitFolder(data / "portraits"), None, 4, seed=0))


def test_only_models_that_ask_are_told_who_is_likely_there(posed):
    class Asking(Oracle):
        asks_person = True

        def __call__(self, image, trimap, person=None):
            return trimap / 2 if person is None else person

    image, trimap, person = posed[0].image, posed[0].trimap, posed[0].alpha * 0.5
    assert torch.equal(matted(Asking([]), image, trimap, person), person)
    assert torch.equal(matted(Asking([]), image, trimap), trimap / 2)
    assert torch.equal(matted(Oracle([posed[0].alpha]), image, trimap, person), posed[0].alpha)


def unknown(image):
    trimap = torch.ones_like(image[:, :1]).long()
    return Look(trimap, image[:, :1], image[:, :1], confidence(trimap))


def test_mean_scores_of_known_errors(posed, data):
    answers, halves = [p.alpha for p in posed], [torch.full_like(p.alpha, 0.5) for p in posed]
    contestants = [
        Contestant("right", Oracle(answers)),
        Contestant("half", Oracle(halves), look=unknown),
    ]
    seen = []
    each = all_scores(
        contestants,
        PortraitFolder(data / "portraits"),
        data / "backgrounds",
        3,
        seed=0,
        observe=lambda *at: seen.append(at),
    )
    assert seen == [(1, 3), (2, 3), (3, 3)]
    scores = {label: mean_scores(rows) for label, rows in each.items()}
    assert (scores["right"].sad, scores["right"].mse, scores["right"].mse_unknown) == (0, 0, 0)
    expected = np.mean([float((p.alpha - 0.5).abs().sum()) for p in posed]) / 1000
    assert scores["half"].sad == pytest.approx(expected, rel=1e-5)
    assert scores["half"].mse_unknown < 0.25
    assert scores["right"].gradient == scores["right"].connectivity == 0
    assert scores["half"].gradient > 0
    assert scores["half"].connectivity > 0


def test_a_ratio_of_means_knows_how_far_it_may_be_trusted():
    def rows(errors):
        return [Scores(sad, sad / 10, 0, 0, 0, 0) for sad in errors]

    others = np.random.default_rng(0).uniform(1, 3, 400)
    always = ratios(rows(0.9 * others), rows(others))
    assert (always["sad"].ratio, always["sad"].low, always["sad"].high) == pytest.approx((0.9, 0.9, 0.9))
    unrelated = ratios(rows(0.9 * np.random.default_rng(1).uniform(1, 3, 400)), rows(others))["sad"]
    # Of two means of 400 uniform values from 1 to 3, the ratio's deviation is 0.9 * sqrt(2 / 12) / sqrt(400).
    assert unrelated.high - unrelated.low == pytest.approx(2 * 1.96 * 0.9 * (2 / 12) ** 0.5 / 20, rel=0.1)
    assert unrelated.low < unrelated.ratio < unrelated.high
    assert always["mse"].ratio == pytest.approx(0.9)


def test_the_command_compares_with_a_row(data):
    arguments = ["bench", "matte", "--data", str(data / "portraits"), "-n", "3", "--device", "cpu", "--json", "--quiet"]
    arguments += ["--model", "gca", "--model", "closed-form"]
    result = CliRunner().invoke(app, [*arguments, "--against", "closed-form"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert list(found["ratios"]) == ["gca"]
    sad = found["ratios"]["gca"]["sad"]
    assert sad["ratio"] == pytest.approx(found["scores"]["gca"]["sad"] / found["scores"]["closed-form"]["sad"])
    assert sad["low"] <= sad["ratio"] <= sad["high"]
    result = CliRunner().invoke(app, [*arguments, "--against", "knn"])
    assert isinstance(result.exception, UsageError)
    assert "--against knows no row 'knn'; choose one of gca, closed-form" in str(result.exception)


def test_without_backgrounds_the_portraits_are_the_problems(data):
    portraits = PortraitFolder(data / "portraits")
    found = list(problems(portraits, None, 3, seed=0))
    assert sorted(p.name for p in found) == ["0", "1", "2"]
    for problem in found:
        assert torch.equal(problem.image, read_photo(data / "portraits" / "image" / f"{problem.name}.png").image)


def test_an_unknown_peer_lists_the_known_ones():
    with pytest.raises(UsageError, match="unknown peer 'nobody'; choose one of mediapipe"):
        chosen_peer("nobody")


@pytest.mark.parametrize("network", [GCA(0.125), AlphaGAN(0.125)])
def test_a_trained_file_is_a_model(tmp_path, network):
    file = tmp_path / "mine.safetensors"
    zoo.save_weights(file, network.state_dict(), getattr(network, "config", {"width": 0.125}))
    model = matting_model(str(file))
    trimap = torch.ones(1, 1, 64, 72, dtype=torch.long)
    trimap[:, :, :20], trimap[:, :, 50:] = 0, 2
    image = torch.rand(1, 3, 64, 72)
    with torch.no_grad():
        refined, plain = model(image, trimap), model.plain()(image, trimap)
    assert model.name == "mine"
    assert refined.shape == (1, 1, 64, 72)
    assert not torch.equal(refined, plain)
    assert torch.equal(plain[trimap != 1], (trimap == 2).float()[trimap != 1])


def test_found_trimaps_have_a_network_of_their_own():
    image, trimap = torch.rand(1, 3, 64, 64), torch.ones(1, 1, 64, 64, dtype=torch.long)
    trimap[:, :, :20], trimap[:, :, 50:] = 0, 2

    def constant(value, found=None):
        def tiled(side):
            return lambda image, trimap: torch.full_like(image[:, :1], value if side is None else value / 2)

        return NetworkMatting("both", tiled(None), 8, tiled=tiled, found=found)

    model = constant(0.25, constant(0.75))
    person = torch.full((1, 1, 64, 64), 0.5)
    unknown = trimap == 1
    for asked, given, found in ((model, 0.25, 0.75), (model.plain(), 0.25, 0.75), (model.in_tiles(96), 0.125, 0.375)):
        assert (matted(asked, image, trimap)[unknown] == given).all()
        assert (matted(asked, image, trimap, person)[unknown] == found).all()


@pytest.mark.parametrize("config", [{}, {"width": 1e6}, {"width": "much"}, {"width": 0.125, "dilated": [1]}])
def test_a_file_of_something_else_is_no_model(tmp_path, config):
    file = tmp_path / "mine.safetensors"
    zoo.save_weights(file, GCA(0.125).state_dict(), config)
    with pytest.raises(WeightError, match=r"mine\.safetensors"):
        matting_model(str(file))
    with pytest.raises(WeightError, match=r"none\.safetensors"):
        matting_model(str(tmp_path / "none.safetensors"))


def test_classical_matting_leaves_stdout_to_results(capsys):
    model = ClassicalMatting("loud", lambda image, trimap: print("WARNING") or trimap)
    trimap = torch.tensor([[[[0, 1, 2]]]])
    assert torch.equal(model(torch.rand(1, 3, 1, 3), trimap), trimap / 2)
    assert capsys.readouterr() == ("", "WARNING\n")
