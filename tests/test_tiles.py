"""GCA by tiles is GCA."""

import pytest
import torch
from conftest import disc_alpha
from skimage.data import astronaut

from sgmatte.matting import networks, tiles
from sgmatte.matting.models import matting_model
from sgmatte.matting.tiles import Box, boxes, tiled_alpha
from sgmatte.nn import gca
from sgmatte.nn.gca import GCA
from sgmatte.trimaps import UNKNOWN, band_trimap


@pytest.fixture(scope="module")
def portrait():
    """A photo (1, 3, 480, 416) and a ring of unknown whose upper half alone is kept."""
    image = torch.from_numpy(astronaut()).permute(2, 0, 1)[None, :, :480, 64:480].float() / 255
    trimap = band_trimap(torch.from_numpy(disc_alpha(480, 416, 100))[None, None], 12)
    trimap[:, :, 250:] = 0
    return image, trimap


@pytest.mark.parametrize("side", [96, 128, 256, 1024])
def test_tiles_leave_no_seams(portrait, side):
    network = GCA(0.5).eval()
    for seed, parameter in enumerate(network.parameters()):  # He's start leaves the residual branches out
        torch.manual_seed(seed)
        if parameter.ndim == 1:
            torch.nn.init.uniform_(parameter, 0.5, 1)
    image, trimap = portrait
    with torch.no_grad():
        whole = network(image, trimap)
    assert whole.std() > 0.05
    found = tiled_alpha(network, image, trimap, side)
    unknown = trimap == UNKNOWN
    assert (found - whole)[unknown].abs().max() < 5e-4  # rounding: a single tile differs by 2e-4


def test_the_bundled_network_on_tiles(portrait, monkeypatch):
    model = matting_model("gca-plain")
    image, trimap = portrait
    exact = model(image, trimap)  # gradients are on: untiled, in float32
    monkeypatch.setattr(networks, "fast_in_bf16", lambda device: False)
    monkeypatch.setattr(tiles, "TILE", 64)
    with torch.no_grad():
        assert (model(image, trimap) - exact).abs().max() < 1 / 255 / 10
        smaller = model.in_tiles(96)  # what is left when memory is short
        assert (smaller(image, trimap) - exact).abs().max() < 1 / 255 / 10
    assert matting_model("alphagan").in_tiles(96) is None
    monkeypatch.setattr(networks, "fast_in_bf16", lambda device: True)
    with torch.no_grad():
        assert (model(image, trimap) - exact).abs().mean() < 1 / 255 / 4


def test_certain_tiles_are_left_out(portrait, monkeypatch):
    seen = []
    network = GCA(0.1).eval()
    monkeypatch.setattr(network, "late", lambda x, *rest: seen.append(x.shape) or torch.ones_like(x[:, :1]))
    image, trimap = portrait
    alpha = tiled_alpha(network, image, trimap, 128)
    touched = [bool((box.of(trimap) == UNKNOWN).any()) for box in boxes(480, 416, 128)]
    assert len(seen) == sum(touched) < len(touched) == 16
    assert (alpha[trimap == UNKNOWN] == 1).all()


def test_boxes_cover_every_pixel_once():
    count = torch.zeros(1, 1, 100, 70)
    for box in boxes(100, 70, 32):
        box.of(count).add_(1)
        wide = box.widened(10, 100, 70)
        assert torch.equal(box.within(wide).of(wide.of(count)), box.of(count))
    assert (count == 1).all()
    assert Box(32, 64, 0, 32).of(torch.zeros(1, 2, 12, 12), 8).shape == (1, 2, 4, 4)


def test_attention_of_a_large_photo_stays_around_a_patch(monkeypatch):
    torch.manual_seed(0)
    queries, keys, values = torch.randn(2, 300, 8), torch.randn(2, 300, 8), torch.randn(2, 300, 5)
    own = -1e4 * (torch.rand(2, 300) < 0.3)
    whole = gca._attended(queries, keys, values, own)
    monkeypatch.setattr(gca, "KEYS", 100)
    monkeypatch.setattr(gca, "SCORES_PER_BLOCK", 2 * 100 * 40)
    near = gca._attended(queries, keys, values, own)
    assert (near - whole).abs().max() > 0.1
    for start in range(0, 300, 40):  # blocks of 40 queries, the 100 keys around each
        rows = slice(start, min(start + 40, 300))
        first = min(max(0, (rows.start + rows.stop - 100) // 2), 200)
        part = slice(first, first + 100)
        scores = queries[:, rows] @ keys[:, part].mT
        for k in range(rows.start, rows.stop):
            scores[:, k - rows.start, k - first] += own[:, k]
        torch.testing.assert_close(near[:, rows], scores.softmax(2) @ values[:, part])
