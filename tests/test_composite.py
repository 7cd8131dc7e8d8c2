"""`sgmatte composite`, and the backgrounds that it makes."""

import numpy as np
import pytest
import torch
from conftest import disc_alpha
from typer.testing import CliRunner

from sgmatte import scenery
from sgmatte.cli.app import app
from sgmatte.errors import UsageError
from sgmatte.masks import read_cutout
from sgmatte.photo import read_photo
from sgmatte.writers import write_image

H, W = 60, 90
ALPHA = torch.from_numpy(disc_alpha(H, W, 20))[None, None]
RED = torch.tensor([0.9, 0.1, 0.1]).view(1, 3, 1, 1)
GREEN = torch.tensor([0.1, 0.8, 0.2]).view(1, 3, 1, 1)
STEP = 1 / 255


@pytest.fixture
def cutout(tmp_path):
    return write_image(tmp_path / "x_cutout.png", torch.cat((RED.expand(1, 3, H, W), ALPHA), 1))


@pytest.fixture
def original(tmp_path):
    return write_image(tmp_path / "x.png", ALPHA * RED + (1 - ALPHA) * GREEN)


def made(*arguments):
    result = CliRunner().invoke(app, ["composite", *map(str, arguments)])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_on_a_colour(cutout, tmp_path):
    made(cutout, "-b", "#0000ff")
    found = read_photo(tmp_path / "x_composite.png").image
    expected = ALPHA * RED + (1 - ALPHA) * torch.tensor([0.0, 0, 1]).view(1, 3, 1, 1)
    assert (found - expected).abs().max() < 2 * STEP


def test_on_a_photo_that_is_cut_to_shape(cutout, tmp_path):
    ramp = torch.linspace(0, 1, 400).expand(1, 3, 100, 400)
    made(cutout, "-b", write_image(tmp_path / "ramp.png", ramp), "-o", tmp_path / "out.png")
    row = read_photo(tmp_path / "out.png").image[0, 2, 0]
    expected = (125 + (np.arange(W) + 0.5) / W * 150 - 0.5) / 399  # the middle 150 of 400 columns
    np.testing.assert_allclose(row.numpy(), expected, atol=0.01)


def test_blur_leaves_no_halo(cutout, original, tmp_path):
    made(cutout, "-b", "blur", "--photo", original, "--blur", "8")
    found = read_photo(tmp_path / "x_composite.png").image
    assert (found - read_photo(original).image).abs().max() < 3 * STEP  # a plain background stays as it is


def test_blur_blurs_what_is_around():
    stripes = (torch.arange(W) % 2).float().expand(1, 3, H, W)
    blurred = scenery.out_of_focus(stripes, stripes, torch.zeros(1, 1, H, W), 4)
    assert (blurred[..., 10:-10] - 0.5).abs().max() < 0.01


def test_a_colour_behind_many_goes_to_a_folder(cutout, tmp_path):
    other = write_image(tmp_path / "y.png", torch.cat((GREEN.expand(1, 3, 8, 8), torch.ones(1, 1, 8, 8)), 1))
    made(cutout, other, "-b", "white", "--out-dir", tmp_path / "out")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["x_composite.png", "y_composite.png"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-b", "no-such-thing"], "neither a file nor a colour"),
        (["-b", "blur"], "needs the original photo"),
        (["-b", "white", "--photo", "x.png"], "needs the original photo"),
        (["another.png", "-b", "white", "-o", "z.png"], "names a single result"),
    ],
)
def test_wrong_usage(cutout, arguments, message):
    with pytest.raises(UsageError, match=message):
        made(cutout, *arguments)


def test_bad_files_cost_one_line_each(cutout, original, tmp_path):
    result = made(original.rename(tmp_path / "plain.png"), cutout, "-b", "white", "--out-dir", tmp_path / "out")
    assert result.exit_code == 1
    assert "has no transparency" in result.stderr
    assert (tmp_path / "out" / "x_composite.png").exists()
    small = write_image(tmp_path / "small.png", torch.zeros(1, 3, 10, 10))
    result = made(cutout, "-b", "blur", "--photo", small)
    assert "is 90x60 pixels, its --photo" in result.stderr


def test_hidden_colours_of_a_cutout_are_kept(cutout):
    found = read_cutout(cutout)
    assert found.shape == (1, 4, H, W)
    assert (found[:, :3] - RED).abs().max() < STEP
    assert (found[:, 3:] - ALPHA).abs().max() < STEP
