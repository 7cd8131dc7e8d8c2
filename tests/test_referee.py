"""Whom the trimap believes, and how that is learned."""

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.data import astronaut

from sgmatte.nn.deeplab import DeepLab
from sgmatte.nn.referee import Referee
from sgmatte.train import referee as referee_training
from sgmatte.train.composites import CompositeSampler, Foregrounds, training_backgrounds
from sgmatte.train.data import HELD_OUT, PortraitFolder
from sgmatte.train.loop import Recipe
from sgmatte.train.referee import SIZE, Hearings, losses, soft_only, trained_referee
from sgmatte.train.scenes import FoundTrimaps, Scenes
from sgmatte.trimaps import (
    BACKGROUND,
    FOREGROUND,
    REFEREE,
    UNKNOWN,
    Panel,
    TrimapNetwork,
    likeliest,
    specks,
    trimap_model,
)


class Saying(torch.nn.Module):
    """Says of every pixel that it is a person's, with the same probability."""

    def __init__(self, probability):
        super().__init__()
        self.probability = probability

    def person(self, image):
        return torch.full_like(image[:, :1], self.probability)


class Last(torch.nn.Module):
    """A referee that believes the last of the others alone."""

    def forward(self, image, logits, persons):
        side = torch.logit(persons[:, -1:].clamp(1e-3, 1 - 1e-3))
        return torch.cat([-side, 0 * side, side], 1)


@pytest.fixture(scope="module")
def portrait():
    return torch.from_numpy(np.ascontiguousarray(astronaut()[::2, ::2])).permute(2, 0, 1)[None] / 255


@pytest.fixture(scope="module")
def bundled():
    return trimap_model()


def first_alone(network):
    return TrimapNetwork(network.network, network.side, network.unknown_bias)


# who is heard


def test_an_untrained_referee_says_what_the_first_network_says():
    logits = torch.randn(2, 3, 64, 96)
    assert torch.equal(Referee()(torch.rand(2, 3, 64, 96), logits, torch.rand(2, 2, 64, 96)), logits)


def test_the_referee_hears_the_picture_and_every_opinion(bundled, portrait):
    torch.manual_seed(0)
    referee = Referee()
    torch.nn.init.normal_(referee.verdict.weight)
    image = portrait[:, :, :64, :96].clone().requires_grad_()
    logits, persons = torch.randn(1, 3, 64, 96, requires_grad=True), torch.rand(1, 2, 64, 96, requires_grad=True)
    found = referee(image, logits, persons)
    assert found.shape == (1, 3, 64, 96)
    (found - logits).square().sum().backward()  # what it adds itself
    for heard in (image, logits, persons):
        assert (heard.grad != 0).float().mean() > 0.99
    assert all(parameter.grad is not None for parameter in referee.parameters())


def test_others_are_scaled_and_both_mirror_images_asked(bundled, portrait):
    others = [Saying(0.9), Saying(0.01)]
    network = TrimapNetwork(bundled.network, bundled.side, bundled.unknown_bias, Panel(others, [0.0, 0.0], Last(), 0.5))
    said = network.opinions(portrait)
    assert said.image.shape == (1, 3, 448, 448)
    assert said.logits.shape == (1, 3, 112, 112)
    assert said.persons.shape == (1, 2, 448, 448)
    assert [float(person.mean()) for person in said.persons[0]] == pytest.approx([0.9, 0.01])
    found = network.mean_logits(portrait)
    assert found.shape == (1, 3, 256, 256)
    first = first_alone(network).mean_logits(portrait)
    surely = (first[:, FOREGROUND] - first[:, UNKNOWN:FOREGROUND].amax(1)) > 6
    assert surely.float().mean() > 0.1
    share = found.softmax(1)[:, :, surely[0]]  # votes, DeepLab's alone here, and the referee's background
    assert float(share[:, BACKGROUND].median()) == pytest.approx(REFEREE, abs=0.02)
    assert float(share[:, FOREGROUND].median()) == pytest.approx(1 - REFEREE, abs=0.04)
    assert float(share[:, UNKNOWN].median()) < 0.05


def test_the_bias_is_that_of_the_unknown_alone(bundled, portrait):
    panel = bundled.panel
    more = Panel(panel.others, panel.weights, panel.referee, panel.unknown_bias + 0.75)
    wider = TrimapNetwork(bundled.network, bundled.side, bundled.unknown_bias, more)
    added = wider.mean_logits(portrait) - bundled.mean_logits(portrait)
    sides = added[:, [BACKGROUND, FOREGROUND]]
    torch.testing.assert_close(sides, torch.zeros_like(sides), rtol=0, atol=1e-4)
    assert ((added[:, UNKNOWN] - 0.75).abs() < 1e-4).float().mean() > 0.99  # but on specks


def test_a_trimap_has_no_specks(bundled, portrait):
    assert not specks(likeliest(bundled.settled(bundled.opinions(portrait)))).any()


def test_what_all_agree_on_stays(bundled, portrait):
    found, first = bundled.look(portrait), first_alone(bundled).look(portrait)
    said = bundled.opinions(portrait)
    person = torch.nn.functional.interpolate(said.persons, portrait.shape[2:], mode="bilinear").amin(1, keepdim=True)
    agreed = (first.trimap == FOREGROUND) & (person > 0.95)
    assert agreed.float().mean() > 0.2
    assert (found.trimap[agreed] == FOREGROUND).float().mean() > 0.97


# scenes


@pytest.fixture
def scenes(data):
    foregrounds = Foregrounds.of(PortraitFolder(data / "portraits"), data / "cache")
    network = TrimapNetwork(DeepLab().eval(), 64, 0.0, Panel([Saying(0.3)], [1.0], Referee(1)))
    return Scenes.of(foregrounds, training_backgrounds(data / "backgrounds"), 6, network)


def test_scenes_are_made_once_and_of_nobody_who_is_held_out(scenes, data):
    counted = []
    scenes.fill_cache(lambda done, total: counted.append((done, total)))
    assert counted == [(k + 1, 6) for k in range(6)]
    assert scenes.kept.parent == data / "cache"
    assert sorted(path.name for path in scenes.kept.iterdir()) == [f"{k}.npz" for k in range(6)]
    assert scenes.pictures.people == [1, 2]
    first = scenes[0]
    assert first.image.shape == (*first.alpha.shape, 3)
    for path in (data / "portraits/image").iterdir():
        Image.new("RGB", (120, 160)).save(path)
    assert all(np.array_equal(getattr(scenes[0], kind), getattr(first, kind)) for kind in ("image", "alpha"))
    held_out = Scenes.of(scenes.pictures.foregrounds, scenes.pictures.backgrounds, 2, scenes.network, held_out=True)
    assert held_out.pictures.people == [0]
    assert len({*scenes.pictures.people} & {k for k in range(3) if k % HELD_OUT == 0}) == 0
    assert held_out.kept != scenes.kept
    more = Panel([*scenes.network.panel.others, DeepLab()], [1.0, 1.0], Referee())
    others = TrimapNetwork(scenes.network.network, 64, 0.0, more)
    assert Scenes.of(scenes.pictures.foregrounds, scenes.pictures.backgrounds, 2, others).kept != scenes.kept


def test_a_scene_keeps_what_the_networks_said_of_it(scenes):
    scene = scenes[1]
    image = torch.from_numpy(scene.image).permute(2, 0, 1)[None] / 255
    said = scenes.network.opinions(image)
    torch.testing.assert_close(scene.opinions.image, said.image)
    torch.testing.assert_close(scene.opinions.logits, said.logits, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(scene.opinions.persons, said.persons, rtol=1e-3, atol=1e-3)


def test_scenes_differ_and_show_the_person_over_a_background(scenes):
    assert len({scenes[k].image.tobytes() for k in range(6)}) == 6
    moved = [scenes[k] for k in range(6)]
    assert all(0.02 < (scene.alpha > 127).mean() < 0.9 for scene in moved)


def test_found_trimaps_come_from_scenes_at_their_share(scenes, data):
    sampler = CompositeSampler(scenes.pictures.foregrounds, scenes.pictures.backgrounds, size=48)
    never, always = (FoundTrimaps(sampler, scenes, share, 48, 1.5) for share in (0.0, 1.0))

    class Halves(torch.nn.Module):  # background at the left, unknown in the middle, a person at the right
        def forward(self, image, logits, persons):
            x = torch.linspace(-1, 1, logits.shape[3]).expand_as(logits[:, :1])
            x = x * torch.tensor([1.0, -1.0]).view(2, 1, 1, 1)  # the second is a mirror image
            return torch.cat([-x, 0.4 - 0 * x, x], 1) * 50

    scenes.network.panel.referee = Halves()
    for k in range(4):
        sample = always(np.random.default_rng(k))
        assert sample["image"].shape == (3, 48, 48)
        assert sample["image"].dtype == sample["alpha"].dtype == torch.float32
        assert sample["trimap"].shape == sample["alpha"].shape == (1, 48, 48)
        assert sample["trimap"].dtype == torch.int64
        assert (sample["trimap"] == UNKNOWN).any()
        columns = sample["trimap"][0].float()
        assert (columns == columns[:1]).all()  # what was found, not a band along the boundary
    rngs = np.random.default_rng(3), np.random.default_rng(3)
    rngs[1].random()
    assert torch.equal(never(rngs[0])["image"], sampler(rngs[1])["image"])


# the training


def test_a_hearing_has_its_truth_where_its_picture_is(scenes):
    sample = Hearings(scenes)(np.random.default_rng(5))
    assert sample["image"].shape == sample["logits"].shape == (3, *SIZE)
    assert sample["persons"].shape == (1, *SIZE)
    trimap, mask = sample["trimap"], sample["mask"]
    assert trimap.shape == mask.shape == SIZE
    assert set(trimap.unique().tolist()) == {BACKGROUND, UNKNOWN, FOREGROUND}
    assert (mask[trimap == FOREGROUND] == 1).all()
    assert (mask[trimap == BACKGROUND] == 0).all()
    assert (trimap == UNKNOWN).float().mean() < 0.3


def test_almost_clear_and_almost_opaque_are_certain():
    alpha = torch.tensor([0.0, 0.04, 0.06, 0.5, 0.94, 0.96, 1.0])
    torch.testing.assert_close(soft_only(alpha), torch.tensor([0.0, 0.0, 0.06, 0.5, 0.94, 1.0, 1.0]))


def test_training_learns_whom_to_believe(scenes, data, monkeypatch, tmp_path):
    class Knowing(torch.nn.Module):
        """Knows the discs by their colour: theirs is that of the picture's middle."""

        def person(self, image):
            height, width = image.shape[2:]
            middle = image[:, :, height // 2, width // 2, None, None]
            return (1 - 6 * (image - middle).abs().amax(1, keepdim=True)).clamp(0, 1)

    def hearing(referee, unknown_bias=0.0):
        torch.manual_seed(1)
        return TrimapNetwork(
            DeepLab().eval(), 64, 0.0, Panel([Saying(0.5), Knowing()], [0.0, 0.0], referee, unknown_bias)
        )

    monkeypatch.setattr(referee_training, "hearing_all", hearing)
    monkeypatch.setattr(referee_training, "SIZE", (64, 64))
    places = data / "portraits", data / "backgrounds"
    recipe = Recipe(40, 4, 5e-3, warmup=5, ema=0.9, workers=0, bf16=False, log_every=20, validate_every=20)
    scored = []
    observe = lambda step, steps, row: scored.append(row["iou"]) if "iou" in row else None  # noqa: E731
    referee, bias = trained_referee(*places, recipe, tmp_path / "run", scenes=6, held_out=2, observe=observe)
    assert len(scored) == 2
    assert scored[-1] > 0.7
    assert -3 <= bias <= 3
    batch = {key: value[None] for key, value in Hearings(scenes)(np.random.default_rng(0)).items()}
    batch["persons"] = batch["persons"].expand(1, 2, *batch["persons"].shape[2:])
    before, after = (sum(losses(network, batch).values()) for network in (Referee(), referee))
    assert float(before.detach()) != float(after.detach())
