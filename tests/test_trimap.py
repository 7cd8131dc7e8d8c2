import math

import pytest
import torch

from sgmatte import trimaps
from sgmatte.bench.trimap import mean_scores, trimap_scores
from sgmatte.train.trimap import chosen_bias, losses
from sgmatte.trimaps import (
    BACKGROUND,
    FOREGROUND,
    UNKNOWN,
    Panel,
    TrimapNetwork,
    band_trimap,
    entropy,
    everywhere,
    likeliest,
    trimap_model,
    working_size,
)

B, U, F = BACKGROUND, UNKNOWN, FOREGROUND


def row(*values: float) -> torch.Tensor:
    return torch.tensor(values).view(1, 1, 1, -1)


def certain(trimap: torch.Tensor) -> torch.Tensor:
    """Logits that leave no doubt about `trimap` (1, 1, H, W)."""
    return 20.0 * torch.nn.functional.one_hot(trimap[:, 0], 3).permute(0, 3, 1, 2)


# band_trimap


def test_soft_pixels_are_unknown_at_radius_0():
    assert band_trimap(row(0, 0.2, 0.9, 1), 0).flatten().tolist() == [B, U, U, F]


def test_band_widens_to_both_sides_by_the_radius():
    alpha = row(0, 0, 0, 0, 0.5, 1, 1, 1, 1)
    assert band_trimap(alpha, 2).flatten().tolist() == [B, B, U, U, U, U, U, F, F]


def test_hard_edge_gets_a_band_too():
    assert band_trimap(row(0, 0, 0, 1, 1, 1), 1).flatten().tolist() == [B, B, U, U, F, F]


def test_almost_opaque_and_almost_clear_8_bit_values_are_certain():
    alpha = row(0, 1 / 255, 2 / 255, 253 / 255, 254 / 255, 1)
    assert band_trimap(alpha, 0).flatten().tolist() == [B, B, U, U, F, F]


def test_band_around_one_soft_pixel_is_a_disc():
    alpha = torch.zeros(1, 1, 7, 7)
    alpha[..., 3, 3] = 0.5
    picture = ["".join(".#"[int(v == U)] for v in line) for line in band_trimap(alpha, 2)[0, 0]]
    assert picture == [".......", "...#...", "..###..", ".#####.", "..###..", "...#...", "......."]


def test_images_border_does_not_erode_and_images_do_not_mix():
    alpha = torch.stack([torch.ones(1, 4, 4), torch.zeros(1, 4, 4)])
    trimap = band_trimap(alpha, 3)
    assert trimap.dtype == torch.int64
    assert (trimap[0] == F).all()
    assert (trimap[1] == B).all()


# entropy


def test_the_likeliest_class_is_the_first_of_equals():
    logits = torch.tensor([[1.0, 0, 0], [0, 2, 1], [0, 1, 3], [1, 1, 0], [0, 1, 1], [2, 2, 2]]).T[None, :, None]
    found = likeliest(logits)
    assert found.dtype == torch.int64
    assert found[0, 0, 0].tolist() == [0, 1, 2, 0, 1, 0]


def test_everywhere_asks_a_square_and_the_borders_do_not_matter():
    region = torch.ones(2, 1, 9, 9, dtype=torch.bool)
    region[1, 0, 4, 4] = False
    inside = everywhere(region, 2)
    assert inside[0].all()
    expected = torch.ones(9, 9, dtype=torch.bool)
    expected[2:7, 2:7] = False
    assert torch.equal(inside[1, 0], expected)
    assert torch.equal(everywhere(region, 0), region)


def test_entropy_runs_from_0_to_ln_3():
    assert float(entropy(torch.zeros(2, 3, 4, 5))) == pytest.approx(math.log(3))
    assert float(entropy(certain(torch.ones(1, 1, 4, 5, dtype=torch.long)))) < 1e-6
    two = torch.tensor([0.0, -50.0, 0.0]).view(1, 3, 1, 1)
    assert float(entropy(two)) == pytest.approx(math.log(2))


def test_entropy_falls_along_its_gradient():
    torch.manual_seed(0)
    logits = torch.randn(1, 3, 4, 4, requires_grad=True)
    before = entropy(logits)
    before.backward()
    assert float(entropy(logits.detach() - logits.grad)) < float(before.detach())


# scores


def test_scores_of_a_flawless_trimap():
    alpha = row(0, 0, 0.5, 0.5, 1, 1)
    mask = torch.tensor([0, 0, 0, 1, 1, 1]).view(1, 1, 1, -1).bool()
    scores = trimap_scores(certain(band_trimap(alpha, 0)), alpha, mask)
    assert (scores.covered, scores.wrong) == (1, 0)
    assert scores.unknown == pytest.approx(2 / 6)
    assert scores.soft_iou == scores.soft_iou_ideal == pytest.approx((2 + 0.5) / (3 + 0.5))


def test_scores_of_a_wrong_trimap():
    alpha = row(0, 0.5, 1, 1)
    trimap = torch.tensor([F, B, F, B]).view(1, 1, 1, -1)
    scores = trimap_scores(certain(trimap), alpha, alpha > 0.4)
    assert (scores.covered, scores.unknown) == (0, 0)
    assert scores.wrong == pytest.approx(2 / 4)
    assert scores.iou == scores.soft_iou == pytest.approx(1 / 4)


def test_iou_reads_the_unknown_band_by_its_likelier_side():
    logits = torch.tensor([[0.0, 9.0, 1.0], [1.0, 9.0, 0.0]]).T.view(1, 3, 1, 2)
    mask = torch.tensor([True, False]).view(1, 1, 1, 2)
    assert trimap_scores(logits, mask.float(), mask).iou == 1


def test_every_soft_pixel_counts_once_as_covered_or_missed():
    def scores(trimap: list[int], *alpha: float):
        return trimap_scores(certain(torch.tensor(trimap).view(1, 1, 1, -1)), row(*alpha), row(*alpha) > 0.5)

    hard = scores([B, B, F, F], 0, 0, 1, 1)
    missed = scores([B, B, F, F], 0, 0.3, 1, 1)
    found = scores([U, U, U, F], 0.1, 0.2, 0.3, 1)
    assert math.isnan(hard.covered)
    assert mean_scores([hard, missed, found]).covered == pytest.approx(3 / 4)
    assert mean_scores([hard, missed, found]).unknown == pytest.approx(1 / 4)
    assert math.isnan(mean_scores([hard]).covered)


# the network


@pytest.mark.parametrize(
    ("size", "expected"), [((800, 600), (320, 256)), ((256, 256), (320, 320)), ((30, 3000), (32, 320))]
)
def test_working_size_is_fixed_and_whole(size, expected):
    assert working_size(*size, 320) == expected


@pytest.fixture(scope="module")
def bundled() -> TrimapNetwork:
    return trimap_model()


@pytest.fixture(scope="module")
def astronaut() -> torch.Tensor:
    data = pytest.importorskip("skimage.data")
    return torch.tensor(data.astronaut()).permute(2, 0, 1)[None] / 255


@pytest.mark.parametrize("size", [(70, 51), (33, 120)])
def test_answers_have_the_images_size(bundled, size):
    image = torch.rand(2, 3, *size)
    assert bundled.logits(image).shape == (2, 3, *size)
    trimap = bundled.trimap(image)
    assert trimap.shape == (2, 1, *size)
    assert trimap.dtype == torch.int64


def test_a_mirrored_photo_has_the_mirrored_trimap(bundled, astronaut):
    small = astronaut[:, :, ::4, ::4]
    mirrored, plain = bundled.mean_logits(small.flip(3)).flip(3), bundled.mean_logits(small)
    differ = (mirrored.softmax(1) - plain.softmax(1)).abs() > 0.02  # by the digits that bfloat16 lacks
    assert differ.float().mean() < 1e-3  # but where an opinion tips over at them


def test_averaging_leaves_a_constant_answer_alone():
    network = TrimapNetwork(lambda x: torch.ones(len(x), 3, 4, 5) * torch.tensor([1.0, 2, 3]).view(1, 3, 1, 1), 64, 0.5)
    expected = torch.tensor([1.0, 2.5, 3]).view(1, 3, 1, 1).expand(2, 3, 20, 30)
    torch.testing.assert_close(network.mean_logits(torch.rand(2, 3, 20, 30)), expected)


def test_a_trimap_knows_how_sure_it_is(bundled, astronaut, monkeypatch):
    monkeypatch.setattr(trimaps, "ROWS", 100)  # the entropy of strips of any height is that of the whole
    look = bundled.look(astronaut)
    trimap, sure = look.trimap, look.confidence
    assert torch.equal(trimap, bundled.trimap(astronaut))
    assert sure.entropy == pytest.approx(float(entropy(bundled.mean_logits(astronaut))), rel=1e-5)
    shares = [float((trimap == k).float().mean()) for k in (B, U, F)]
    assert [sure.background, sure.unknown, sure.foreground] == pytest.approx(shares)
    assert float(look.person[trimap == F].min()) > 0.5 > float(look.person[trimap == B].max())


def test_entropys_gradient_reaches_every_part_of_the_image(bundled):
    image = torch.rand(1, 3, 64, 48, requires_grad=True)
    entropy(bundled.logits(image)).backward()
    assert torch.isfinite(image.grad).all()
    assert (image.grad != 0).float().mean() > 0.99
    assert all(p.grad is None for p in bundled.parameters())


def test_trimap_of_a_portrait_is_sane(bundled, astronaut):
    trimap = bundled.trimap(astronaut)[0, 0]
    assert trimap[110, 220] == F  # her face
    assert trimap[450, 250] == F  # the suit
    assert trimap[10, 10] == B
    assert trimap[200, 505] == B
    assert 0.03 < (trimap == U).float().mean() < 0.25
    touching = (trimap[1:] - trimap[:-1]).abs().max(), (trimap[:, 1:] - trimap[:, :-1]).abs().max()
    assert max(touching) <= 2


def test_a_larger_bias_widens_the_band(bundled, astronaut):
    panel = Panel(bundled.panel.others, bundled.panel.weights, bundled.panel.referee, bundled.panel.unknown_bias + 2)
    wider = TrimapNetwork(bundled.network, bundled.side, bundled.unknown_bias, panel)
    before, after = bundled.trimap(astronaut) == U, wider.trimap(astronaut) == U
    assert (after | ~before).all()
    assert after.sum() > 1.1 * before.sum()


# training


def test_losses_vanish_for_the_right_answer():
    trimap = torch.tensor([[B, U, U, F]]).expand(4, 4)[None]
    mask = torch.tensor([[0.0, 0, 1, 1]]).expand(4, 4)[None]
    logits = certain(trimap[:, None]) + 8 * torch.stack([-mask, 0 * mask, mask], 1) * (trimap == U)[:, None]
    batch = {"image": torch.rand(1, 3, 4, 4), "trimap": trimap, "mask": mask}
    right = losses(lambda image: logits, batch)
    wrong = losses(lambda image: logits.flip(1), batch)
    assert float(right["classes"]) < 1e-3
    assert float(right["side"]) < 0.2
    assert float(wrong["classes"]) > 1
    assert float(wrong["side"]) > 1


def test_bias_is_the_largest_whose_band_is_narrow_enough():
    alpha = row(0, 0.5, 0.5, 1)
    logits = torch.tensor([[5.0, 0, 0], [0.0, 1, 0], [0.0, -2, 0], [0.0, 0, 5]]).T.reshape(1, 3, 1, 4)
    answer = (logits, alpha, alpha >= 0.5)
    assert chosen_bias([answer], widest=0.3, steps=(0, 1, 2.5, 3, 9)) == 1
    assert chosen_bias([answer], widest=0.5, steps=(0, 1, 2.5, 3, 9)) == 3
    assert chosen_bias([answer], widest=0.1, steps=(0, 1, 2.5, 3, 9)) == 0
