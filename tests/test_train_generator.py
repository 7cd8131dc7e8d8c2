"""Teaching a StyleGAN2, on networks small enough for a test."""

import numpy as np
import pytest
import torch
from PIL import Image

from sgmatte.generator import MobileGenerator
from sgmatte.nn.critic import untrained_critic
from sgmatte.nn.mobilestylegan import Config, Head, Mapping, Synthesis
from sgmatte.nn.stylegan2 import Generator
from sgmatte.nn.stylegan2_discriminator import Discriminator
from sgmatte.train import adversarial, examination
from sgmatte.train import classroom as classrooms
from sgmatte.train import generator as training
from sgmatte.train import teacher as teaching
from sgmatte.train.adversarial import Duel, Opponents, Pair
from sgmatte.train.classroom import Lesson, Pupil, classroom, examples
from sgmatte.train.examination import Examination
from sgmatte.train.generator import trained_generator
from sgmatte.train.moments import Moments, shown
from sgmatte.train.teacher import Album, Latents, Teacher, as_bytes, as_picture, student_rows

LESSONS = (Lesson("8", 2, 200, 8, 2e-2), Lesson("16", 3, 100, 8, 1e-2, pixels=10))
SHAPES = [(1, 1, 4, 4), *[(1, 1, 8, 8)] * 2, *[(1, 1, 16, 16)] * 2]


@pytest.fixture(scope="module")
def teacher():
    torch.manual_seed(0)
    mapping = Mapping(12, 2).eval().requires_grad_(False)
    synthesis = Synthesis(Config(latent=12, constant=16, blocks=(16,))).eval().requires_grad_(False)
    synthesis.head = Head(12, 16).requires_grad_(False)
    for module in synthesis.modules():  # random networks hardly listen to w: make them
        for name in ("up", "modulation"):
            if hasattr(module, name):
                getattr(module, name).bias.add_(1)
    for noise in synthesis.noise:
        noise.normal_().mul_(0.1)
    return Teacher(MobileGenerator(mapping, synthesis))


def test_both_generators_change_over_at_the_same_resolution(teacher):
    w = torch.stack((torch.zeros(3, 12), torch.ones(3, 12)), 1)
    change = torch.tensor([1, 2, 3])
    student = student_rows(6, w, change)[:, :, 0]  # of 16 px: conv 4 | conv, conv 8 | conv, conv 16 | RGB
    assert student.tolist() == [[0, 1, 1, 1, 1, 1], [0, 0, 0, 1, 1, 1], [0, 0, 0, 0, 0, 1]]
    theirs = teacher._rows(w, change)[:, :, 0]  # 4 | up, conv, conv 8 | head
    assert theirs.tolist() == [[0, 1, 1, 1, 1], [0, 0, 0, 0, 1], [0, 0, 0, 0, 0]]


@pytest.fixture
def album(teacher, tmp_path, monkeypatch):
    monkeypatch.setattr(teaching, "SHARD", 8)
    album = Album(teacher, Latents(12, SHAPES, 3), tmp_path / "pictures", 16, seed=0)
    album.draw()
    return album


def test_a_teacher_is_asked_no_further_than_needed(teacher):
    latents = Latents(12, SHAPES[:3], 3)
    batch = examples(teacher, latents, 0, 2)
    noise = latents.maps(batch["noise"])
    assert [m.shape for m in noise] == [(2, 1, 4, 4), (2, 1, 8, 8), (2, 1, 8, 8)]
    torch.testing.assert_close(torch.cat([m.flatten(1) for m in noise], 1), batch["noise"])
    w = teacher.w(batch["z"].flatten(0, 1)).unflatten(0, (-1, 2))
    whole = teacher.features(w, batch["change"], noise, 2)
    first = teacher.features(w, batch["change"], noise, 1)
    assert [x.shape[-1] for x in whole] == [4, 8]
    assert len(first) == 1
    torch.testing.assert_close(first[0], whole[0])
    picture = teacher.picture(whole, w, batch["change"])
    assert torch.equal(as_bytes(picture), batch["picture"])
    assert batch["picture"].shape == (2, 3, 16, 16)


def test_layers_of_the_mapping_end_in_w(teacher):
    z = torch.randn(4, 12)
    layers = teacher.mapping_layers(z)
    assert len(layers) == 2
    torch.testing.assert_close(layers[-1], teacher.w(z))


def test_an_album_gives_pictures_with_the_latents_they_were_drawn_from(teacher, album):
    before = {file: file.stat().st_mtime_ns for file in album.files}
    album.draw()
    assert {file: file.stat().st_mtime_ns for file in album.files} == before
    for seed in range(4):
        sample = album(np.random.default_rng(seed))
        batch = {key: value[None] for key, value in sample.items()}
        error = as_picture(batch["picture"]) - teacher.drawn(batch, album.latents).clamp(-1, 1)
        assert error.abs().max() < 1.01 / 255


def test_lessons_teach_features_pictures_and_noise_and_resume(teacher, tmp_path, monkeypatch):
    monkeypatch.setattr(classrooms, "EXAMPLES", 8)
    rows = {}

    def observe(name):
        return lambda step, steps, row: rows.setdefault(name, []).append(row)

    def trained(run, **options):
        return trained_generator(
            teacher,
            run,
            size=16,
            channels=(16, 16, 8),
            critics=(8, 8, 8),
            lessons=LESSONS,
            duel=Duel(steps=20, alone=10, batch=4),
            examination=Examination(steps=20, batch=4),
            mapping_steps=300,
            pictures=256,
            **options,
        )

    student, discriminator = trained(tmp_path / "run", observe=observe)
    assert rows["mapping"][-1]["unexplained"] < 0.5  # 1 would be the mean of W
    assert rows["8"][-1]["explained_8"] > 0.2
    assert rows["16"][-1]["psnr_16"] > 12
    assert rows["duel"][-1]["psnr"] > 11
    strengths = [float(layer.noise["weight"]) for layer in [student.conv1, *student.convs]]
    assert strengths == pytest.approx([training.NOISE] * 5)
    assert discriminator(student(torch.randn(2, 6, 12))).shape == (2, 1)
    before = {name: len(found) for name, found in rows.items()}
    again = trained(tmp_path / "run", observe=observe)
    assert {name: len(found) for name, found in rows.items()} == before
    for first, second in zip((student, discriminator), again, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_latents_depend_on_their_generator_alone():
    latents = Latents(12, [(1, 1, 4, 4)], 3)
    first, second = (latents(np.random.default_rng(5)) for _ in range(2))
    assert all(torch.equal(first[key], second[key]) for key in first)
    changes = {int(latents(np.random.default_rng(k))["change"]) for k in range(40)}
    assert changes == {1, 2, 3}


def test_a_readout_that_is_right_leaves_nothing_unexplained(teacher):
    student = Generator(16, latent=12, depth=2, channels=(16, 16, 8))
    room = classroom(teacher, student, None)
    features = torch.randn(2, 16, 4, 4)
    assert float(room.unexplained(0, features, features).max()) == 0
    pupil = Pupil(student, teacher.channels)
    assert [readout.out_channels for readout in pupil.readouts] == [16, 16]
    terms = room.terms(pupil, examples(teacher, room.latents, 0, 2), LESSONS[1])
    assert set(terms) == {"features", "pixels"}
    assert all(term.requires_grad for term in terms.values())


@pytest.fixture
def pair(album):
    pair = Pair(Generator(16, latent=12, depth=2, channels=(16, 16, 8)), untrained_critic())
    adversarial._learn_scales(pair.critic, Opponents(album, None), 0, 4)
    return pair.train()


@pytest.fixture
def batch(album):
    rows = [Opponents(album, None)(np.random.default_rng(k)) for k in range(4)]
    return {key: torch.stack([row[key] for row in rows]) for key in rows[0]}


def reached(term, network):
    """Parts of a network in which a loss has a slope."""
    parameters = {key: value for key, value in network.named_parameters() if value.requires_grad}
    slopes = torch.autograd.grad(term, list(parameters.values()), retain_graph=True, allow_unused=True)
    pairs = zip(parameters, slopes, strict=True)
    return {key.split(".")[0] for key, slope in pairs if slope is not None and slope.abs().max() > 0}


def test_each_loss_of_a_duel_reaches_only_its_own_side(teacher, album, pair, batch):
    found = adversarial.terms(pair, batch, Duel(), teacher, album, None)
    sides = {name: reached(term, pair) for name, term in found.items()}
    assert sides["coarse"] == sides["unlike"] == sides["untrue"] == sides["unusual"] == {"student"}
    assert sides["told drawn"] == sides["told real"] == {"critic"}


def test_the_critic_scales_all_pictures_alike(pair, batch):
    scales = pair.critic.head.scale
    assert not any(scale.training for scale in scales)
    real = as_picture(batch["real"])
    seen = [scale(x) for scale, x in zip(scales, pair.critic.seen((real + 1) / 2), strict=True)]
    assert all(0.5 < float(x.std()) < 2 for x in seen)  # as real pictures are
    alone, together = pair.verdict(real[:1]), pair.verdict(torch.cat((real[:1], 0.1 * real[1:])))
    torch.testing.assert_close(alone, together[:1], atol=1e-4, rtol=1e-3)


def test_moments_of_pictures_drawn_from_the_real_ones_come_close_and_others_do_not():
    torch.manual_seed(0)
    real, other = torch.randn(400, 6) * 3 + 1, torch.randn(400, 6) + 4
    moments = Moments(6)
    moments.learn(real.split(100))
    alike = [float(moments.difference(batch)) for batch in real.split(8)][-1]
    unlike = [float(moments.difference(batch)) for batch in other.split(8)]
    assert alike < 0.1
    assert unlike[0] < unlike[-1]  # one batch alone says little
    assert unlike[-1] > 0.3
    rows = other[:8].clone().requires_grad_()
    (slope,) = torch.autograd.grad(moments.difference(rows), rows)
    moved = Moments(6)
    moved.load_state_dict(moments.state_dict())
    for batch in other.split(8) * 4:
        for own, step in ((moments, 0.0), (moved, 5.0)):
            own.difference(batch - step * slope.mean(0) * 8)
    ends = [float(own.difference(other[:8])) for own in (moments, moved)]
    assert ends[1] < ends[0]  # the slope points at less of a difference


def test_what_is_shown_does_not_depend_on_where_it_is(pair):
    picture = torch.zeros(1, 3, 64, 64)
    picture[..., 16:48, 16:48] = 0.7
    rows = [shown(pair.critic.trunk, x).detach() for x in (picture, torch.full_like(picture, 0.7), picture.roll(32, 3))]
    assert rows[0].shape == (1, len(pair.moments.centre))
    assert (rows[0] - rows[1]).norm() > 2 * (rows[0] - rows[2]).norm()


@pytest.mark.parametrize("lazy", [True, False])
def test_r1_is_taken_now_and_then(monkeypatch, batch, lazy):
    monkeypatch.setattr(examination, "LAZY", 0.9 if lazy else torch.inf)
    discriminator = Discriminator(16, channels=(8, 8, 8))
    real = as_picture(batch["real"])
    found = examination.told_smoothly(discriminator, torch.randn(4, 3, 16, 16), real, r1=1.0)
    assert set(found) == {"told drawn", "told real", "r1"}
    assert (float(found["r1"].detach()) > 0) == lazy


def test_a_value_with_a_slope_of_its_own():
    picture = torch.randn(2, 3, 4, 4, requires_grad=True)
    value = adversarial._with_slope(torch.tensor(3.0), picture, torch.full_like(picture, 0.25))
    assert float(value.detach()) == pytest.approx(3)
    assert torch.equal(torch.autograd.grad(value, picture)[0], torch.full_like(picture, 0.25))


def test_opponents_are_faces_and_pictures(album, tmp_path):
    folder = tmp_path / "faces"
    folder.mkdir()
    face = np.zeros((16, 16, 3), np.uint8)
    face[:, :8] = 255
    Image.fromarray(face).save(folder / "a.png")
    reals = [Opponents(album, folder)(np.random.default_rng(k))["real"] for k in range(24)]
    left = sum(bool((real[:, :, :8] == 255).all()) for real in reals)
    right = sum(bool((real[:, :, 8:] == 255).all()) for real in reals)
    assert left > 2
    assert right > 2
    assert left + right < 22
