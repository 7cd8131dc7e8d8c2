"""Teaching a StyleGAN2, on networks small enough for a test."""

import numpy as np
import pytest
import torch

from sgmatte.generator import MobileGenerator
from sgmatte.nn.mobilestylegan import Config, Head, Mapping, Synthesis
from sgmatte.train import generator as training
from sgmatte.train.generator import (
    Latents,
    Lesson,
    Pupil,
    Teacher,
    classroom,
    examples,
    student_rows,
    trained_generator,
)

LESSONS = (Lesson("8", 2, 200, 8, 2e-2), Lesson("16", 3, 100, 8, 1e-2, pixels=10))


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


def test_a_teacher_is_asked_no_further_than_needed(teacher):
    latents = Latents(12, [(1, 1, 4, 4), (1, 1, 8, 8), (1, 1, 8, 8)], 3)
    batch = examples(latents, 0, 2)
    noise = latents.maps(batch["noise"])
    assert [m.shape for m in noise] == [(2, 1, 4, 4), (2, 1, 8, 8), (2, 1, 8, 8)]
    torch.testing.assert_close(torch.cat([m.flatten(1) for m in noise], 1), batch["noise"])
    w = teacher.w(batch["z"].flatten(0, 1)).unflatten(0, (-1, 2))
    whole = teacher.features(w, batch["change"], noise, 2)
    first = teacher.features(w, batch["change"], noise, 1)
    assert [x.shape[-1] for x in whole] == [4, 8]
    assert len(first) == 1
    torch.testing.assert_close(first[0], whole[0])
    assert teacher.picture(whole, w, batch["change"]).shape == (2, 3, 16, 16)


def test_lessons_teach_features_pictures_and_noise_and_resume(teacher, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "EXAMPLES", 8)
    rows = {}

    def observe(name):
        return lambda step, steps, row: rows.setdefault(name, []).append(row)

    def trained(run, **options):
        return trained_generator(
            teacher, run, size=16, channels=(16, 16, 8), lessons=LESSONS, mapping_steps=800, **options
        )

    student = trained(tmp_path / "run", observe=observe)
    assert rows["mapping"][-1]["unexplained"] < 0.95  # 1 would be the mean of W
    assert rows["8"][-1]["explained_8"] > 0.2
    assert "psnr" not in rows["8"][-1]
    assert rows["16"][-1]["psnr"] > 12
    strengths = [float(module.noise["weight"]) for module in [student.conv1, *student.convs]]
    assert all(abs(strength - training.NOISE) > 1e-4 for strength in strengths)
    before = {name: len(found) for name, found in rows.items()}
    again = trained(tmp_path / "run", observe=observe)
    assert {name: len(found) for name, found in rows.items()} == before
    assert all(torch.equal(a, b) for a, b in zip(student.parameters(), again.parameters(), strict=True))


def test_latents_depend_on_their_generator_alone():
    latents = Latents(12, [(1, 1, 4, 4)], 3)
    first, second = (latents(np.random.default_rng(5)) for _ in range(2))
    assert all(torch.equal(first[key], second[key]) for key in first)
    changes = {int(latents(np.random.default_rng(k))["change"]) for k in range(40)}
    assert changes == {1, 2, 3}


def test_a_readout_that_is_right_leaves_nothing_unexplained(teacher):
    from sgmatte.nn.stylegan2 import Generator

    student = Generator(16, latent=12, depth=2, channels=(16, 16, 8))
    room = classroom(teacher, student, None)
    features = torch.randn(2, 16, 4, 4)
    assert float(room.unexplained(0, features, features).max()) == 0
    pupil = Pupil(student, teacher.channels)
    assert [readout.out_channels for readout in pupil.readouts] == [16, 16]
    terms = room.terms(pupil, examples(room.latents, 0, 2), LESSONS[1])
    assert set(terms) == {"features", "pixels"}
    assert all(term.requires_grad for term in terms.values())
