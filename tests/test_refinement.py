"""Alpha corrected by the photo's colours, and large photos in windows."""

import pytest
import torch
from conftest import disc_alpha
from pymatting import estimate_alpha_cf
from skimage.data import astronaut

from sgmatte.matting import refinement, windows
from sgmatte.matting.models import pasted
from sgmatte.matting.refinement import refined
from sgmatte.matting.windows import windowed_alpha
from sgmatte.trimaps import BACKGROUND, FOREGROUND, UNKNOWN, band_trimap


@pytest.fixture(scope="module")
def problem():
    """A soft disc of one colour on a ramp of another: image, trimap and alpha."""
    alpha = torch.from_numpy(disc_alpha(96, 120, 30)).float()[None, None]
    ramp = torch.linspace(0.1, 0.4, 120).expand(1, 3, 96, 120)
    image = alpha * torch.tensor([0.9, 0.6, 0.2]).view(1, 3, 1, 1) + (1 - alpha) * ramp
    return image, band_trimap(alpha, 8), alpha


def test_small_errors_everywhere_go(problem):
    image, trimap, alpha = problem
    unknown = trimap == UNKNOWN
    torch.manual_seed(0)
    wrong = torch.where(unknown, (alpha + 0.1 * torch.randn_like(alpha)).clamp(0, 1), alpha)
    found = refined(wrong, image, trimap)
    before, after = ((x - alpha)[unknown].square().mean() for x in (wrong, found))
    assert after < before / 10
    assert torch.equal(found[~unknown], wrong[~unknown])
    assert 0 <= float(found.min()) <= float(found.max()) <= 1


def test_where_colours_say_nothing_the_network_is_believed(problem):
    _, trimap, alpha = problem
    grey = torch.full((1, 3, 96, 120), 0.5)
    certain = torch.ones_like(trimap)  # nothing is certain, and nothing can be seen
    found = refined(alpha, grey, certain)
    assert abs(float(found.mean() - alpha.mean())) < 0.01
    assert torch.equal(refined(alpha, grey, trimap * 0), alpha)


def test_the_trimap_network_has_a_word_where_colours_do_not_vary_and_another_is_wrong():
    """A region that touches the person alone, of which the matting network says that it is not the person's."""
    torch.manual_seed(0)
    image = torch.rand(1, 3, 96, 120)
    trimap = torch.full((1, 1, 96, 120), FOREGROUND)
    trimap[..., 20:80, 30:90] = UNKNOWN
    wrong = torch.where(trimap == UNKNOWN, 0.0, 1.0)
    likely, unlikely = torch.full_like(wrong, 0.99), torch.full_like(wrong, 0.01)
    told, alone, agreeing = (refined(wrong, image, trimap, person) for person in (likely, None, unlikely))
    unknown = trimap == UNKNOWN
    assert float(told[unknown].min()) > 0.9
    assert float(told[unknown].mean()) > float(alone[unknown].mean()) >= float(agreeing[unknown].mean())
    assert torch.equal(told[~unknown], wrong[~unknown])


def test_no_opinion_is_none(problem):
    image, trimap, alpha = problem
    undecided = torch.full_like(alpha, 0.5)
    likewise = (2 * alpha - 1).abs().mul(0.5).add(0.5).where(alpha > 0.5, 1 - (2 * alpha - 1).abs().mul(0.5).add(0.5))
    torch.testing.assert_close(
        refined(alpha, image, trimap, likewise), refined(alpha, image, trimap), atol=0.05, rtol=0
    )
    found = refined(alpha, image, trimap, undecided)
    assert (found - alpha).abs()[trimap == UNKNOWN].mean() < 0.05


def test_colours_are_followed_far_by_a_look_at_a_smaller_photo(monkeypatch):
    """A wide region of two colours; the certain pixels of each lie at its ends, the network knows nothing."""
    monkeypatch.setattr(refinement, "PRIOR", 0.0)
    monkeypatch.setattr(refinement, "PRIOR_FLAT", 0.0)
    torch.manual_seed(0)
    sides = (torch.arange(600) < 300).float().expand(1, 1, 64, 600)
    image = (0.3 + 0.4 * sides + 0.02 * torch.rand(1, 1, 64, 600)).expand(1, 3, 64, 600).contiguous()
    trimap = torch.full((1, 1, 64, 600), UNKNOWN)
    trimap[..., :4], trimap[..., -4:] = FOREGROUND, BACKGROUND
    start = torch.where(trimap == UNKNOWN, 0.5, trimap / 2)
    near = (refined(start, image, trimap) - sides).abs().mean()
    monkeypatch.setattr(refinement, "SMALL", 1000)
    assert near < (refined(start, image, trimap) - sides).abs().mean() / 2


@pytest.mark.parametrize("size", [(600, 3), (6, 300), (257, 9), (1, 400)])
def test_narrow_photos_are_refined_too(size):
    torch.manual_seed(0)
    image, alpha = torch.rand(1, 3, *size), torch.rand(1, 1, *size)
    trimap = torch.full((1, 1, *size), UNKNOWN)
    trimap[..., :1, :1] = FOREGROUND
    found = refined(pasted(alpha, trimap), image, trimap, torch.rand(1, 1, *size))
    assert found.shape == alpha.shape
    assert torch.isfinite(found).all()
    assert float(found[0, 0, 0, 0]) == 1


def test_without_a_prior_it_is_closed_form_matting(problem, monkeypatch):
    monkeypatch.setattr(refinement, "PRIOR", 0.0)
    monkeypatch.setattr(refinement, "PRIOR_FLAT", 0.0)
    monkeypatch.setattr(refinement, "STEPS", 2000)
    image, trimap, _ = problem
    start = torch.where(trimap == UNKNOWN, 0.5, trimap / 2)
    theirs = estimate_alpha_cf(image[0].permute(1, 2, 0).double().numpy(), trimap[0, 0].numpy() / 2)
    assert (refined(start, image, trimap)[0, 0] - torch.from_numpy(theirs)).abs().max() < 0.01


def test_conjugate_gradients_solve_and_stop():
    torch.manual_seed(0)
    half = torch.randn(12, 12, dtype=torch.float64)
    matrix = half @ half.T + torch.eye(12)
    wanted, calls = torch.randn(12, dtype=torch.float64), []

    def applied(x):
        calls.append(x)
        return matrix @ x

    x = refinement._conjugate_gradients(applied, wanted, torch.zeros_like(wanted), matrix.diagonal())
    assert (matrix @ x - wanted).norm() <= 2 * refinement.TOLERANCE * wanted.norm()
    assert len(calls) < refinement.STEPS
    calls.clear()
    assert torch.equal(refinement._conjugate_gradients(applied, matrix @ x, x, matrix.diagonal()), x)
    assert len(calls) == 1


def test_the_laplacian_is_built_in_tiles(problem, monkeypatch):
    image, trimap, alpha = problem
    whole = refined(alpha * 0.5, image, trimap)
    monkeypatch.setattr(refinement, "TILE", 32)
    torch.testing.assert_close(refined(alpha * 0.5, image, trimap), whole, atol=1e-4, rtol=0)


def test_windows_fade_into_each_other(monkeypatch):
    monkeypatch.setattr(windows, "WINDOW", 64)
    monkeypatch.setattr(windows, "OVERLAP", 16)
    image = torch.from_numpy(astronaut()).permute(2, 0, 1)[None, :, :200, 100:300].float() / 255
    trimap = torch.zeros(1, 1, 200, 200, dtype=torch.long)
    trimap[:, :, 80:120, :150] = UNKNOWN
    seen = []

    def network(part, regions):
        seen.append(part.shape)
        return part[:, :1] + 0.1 * len(seen)  # every window says something else

    assert torch.equal(windowed_alpha(network, image, trimap), image[:, :1] + 0.1)  # small enough for one
    monkeypatch.setattr(windows, "LIMIT", 0)
    seen.clear()
    found = windowed_alpha(network, image, trimap)
    assert 1 < len(seen) < 16  # windows without unknown are left out
    offset = (found - image[:, :1])[0, 0, 80:120, :150]
    assert (offset.diff(dim=1).abs() < 0.1).all()  # no step as large as what windows differ by
    assert float(offset.min()) > 0.09


def test_blocks_of_a_flat_photo_do_not_show_in_alpha():
    """A wall as JPEG leaves it: blocks of 8 pixels that differ by two levels."""
    rng = torch.Generator().manual_seed(0)
    blocks = torch.randint(0, 3, (1, 1, 12, 15), generator=rng).float() / 255
    image = (0.05 + blocks).repeat_interleave(8, 2).repeat_interleave(8, 3).expand(1, 3, 96, 120).contiguous()
    alpha = torch.linspace(0, 1, 120).expand(1, 1, 96, 120).clone()  # what a network says where nothing can be seen
    unknown = torch.full((1, 1, 96, 120), UNKNOWN)
    found = refined(alpha, image, unknown)
    assert (found - alpha).abs().max() < 0.05
