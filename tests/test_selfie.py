"""The second opinion about who is in front, against MediaPipe's own answer."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from skimage.data import astronaut

from sgmatte import zoo
from sgmatte.nn.selfie import SelfieSegmentation, from_graph
from sgmatte.trimaps import AROUND, BACKGROUND, FOREGROUND, UNKNOWN, entropies, specks, voted, without_specks

GOLDEN = Path(__file__).parent / "golden" / "selfie.npz"


@pytest.fixture(scope="module")
def portrait():
    return torch.from_numpy(np.ascontiguousarray(astronaut()[::2, ::2])).permute(2, 0, 1)[None] / 255


def test_its_mask_is_that_of_the_package(portrait):
    with torch.inference_mode():
        mask = zoo.load_into(SelfieSegmentation(), "selfie.mediapipe")(portrait).sigmoid()[0, 0]
    assert mask.shape == (256, 256)
    assert (mask[1::4, 1::4] - torch.from_numpy(np.load(GOLDEN)["mask"])).abs().max() < 1e-4


def test_a_graph_has_its_convolutions_in_the_order_of_the_network():
    own = SelfieSegmentation().state_dict()
    numbered = {f"{k // 2}.{name.rsplit('.')[-1]}": value for k, (name, value) in enumerate(own.items())}
    renamed = from_graph(numbered)
    assert list(renamed) == list(own)
    assert all(torch.equal(renamed[name], value) for name, value in own.items())


def logits(background, unknown, foreground):
    return torch.tensor([background, unknown, foreground]).view(1, 3, 1, 1)


@pytest.mark.parametrize(
    ("first", "person", "expected"),
    [
        (logits(0.0, -4.0, 6.0), 0.99, FOREGROUND),
        (logits(6.0, -4.0, 0.0), 0.01, BACKGROUND),
        (logits(0.0, 8.0, 0.0), 0.99, UNKNOWN),  # the other cannot make the unknown certain
        (logits(0.0, -4.0, 6.0), 0.01, UNKNOWN),  # contradiction
        (logits(6.0, -4.0, 0.0), 0.99, UNKNOWN),
        (logits(0.0, -4.0, 0.2), 0.01, UNKNOWN),
    ],
)
def test_two_opinions(first, person, expected):
    found = voted(first, [torch.full((1, 1, 1, 1), person)], [0.5])
    assert int(found.argmax(1)) == expected
    assert float(found.exp().sum()) == pytest.approx(1, abs=1e-4)
    assert torch.isfinite(entropies(found)).all()


def test_votes_are_weighed():
    divided = logits(0.0, -4.0, 6.0)
    persons = [torch.full((1, 1, 1, 1), value) for value in (0.99, 0.01)]
    assert int(voted(divided, persons, [0.5, 0.5]).argmax(1)) == FOREGROUND
    assert int(voted(divided, persons, [0.5, 1.5]).argmax(1)) == UNKNOWN
    assert int(voted(divided, persons, [0.1, 9.0]).argmax(1)) == BACKGROUND


def test_where_an_alpha_has_no_boundary_there_is_none():
    wide = logits(0.0, 6.0, 3.0).expand(1, 3, 100, 100)  # all unknown, rather the person's
    alpha = (torch.arange(100) < 50).float().expand(1, 1, 100, 100)
    found = voted(wide, [alpha], [1.5], [alpha]).argmax(1)[0, 50]
    near = round(AROUND * 100)
    assert (found[: 50 - near] == FOREGROUND).all()
    assert (found[50 - near : 50 + near] == UNKNOWN).all()
    assert (found[50 + near :] == UNKNOWN).all()  # votes are divided there: one says background, the other a person
    assert (voted(wide, [alpha], [9.0], [alpha]).argmax(1)[0, 50, 50 + near :] == BACKGROUND).all()
    assert (voted(wide, [alpha], [1.5]).argmax(1) == UNKNOWN).all()


def test_specks_of_certainty_are_unknown():
    trimap = torch.ones(1, 1, 100, 100, dtype=torch.long)
    trimap[..., 10:40, 10:40] = FOREGROUND
    trimap[..., 60:63, 60:63] = FOREGROUND  # 9 pixels of 10,000
    trimap[..., 70:74, 60:63] = FOREGROUND  # 12 of them
    trimap[..., 80:82, 80:82] = BACKGROUND  # no larger one of this class
    trimap[..., 90, 90] = BACKGROUND
    expected = torch.zeros_like(trimap, dtype=torch.bool)
    expected[..., 60:63, 60:63] = expected[..., 90, 90] = True
    assert torch.equal(specks(trimap), expected)
    logits = torch.nn.functional.one_hot(trimap[:, 0], 3).permute(0, 3, 1, 2).float() * 5
    found = without_specks(logits)
    assert torch.equal(found.argmax(1), torch.where(expected, UNKNOWN, trimap)[:, 0])
    sides = [BACKGROUND, FOREGROUND]
    assert torch.equal(found[:, sides], logits[:, sides])  # which it would be is not lost


@pytest.mark.parametrize("side", [-1.0, 1.0])
def test_what_is_behind_the_unknown_stays_to_be_told(side):
    """However sure a network is that a pixel is unknown, which side it would be on is not lost."""
    found = voted(logits(-side, 40.0, side), [], [])
    assert int(found.argmax(1)) == UNKNOWN
    told = float((found[:, FOREGROUND] - found[:, BACKGROUND]).sigmoid())
    assert told == pytest.approx(1 / (1 + math.exp(-2 * side)), abs=1e-3)
