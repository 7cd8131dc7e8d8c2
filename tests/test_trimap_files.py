"""Trimaps and masks as people and other programs save them, and files that cannot be used."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sgmatte.cli.app import main
from sgmatte.errors import PhotoError, TrimapError
from sgmatte.masks import read_alpha, read_trimap, write_trimap
from sgmatte.trimaps import band_trimap

H, W = 40, 56
SIZE = (H, W)


def distance(height: int = H, width: int = W) -> np.ndarray:
    """Signed pixels from a disc's edge, positive inside."""
    y, x = np.mgrid[0:height, 0:width]
    return 14 * height / H - np.hypot(y - (height - 1) / 2, x - (width - 1) / 2)


def levels() -> np.ndarray:
    """A trimap whose unknown ring is eight pixels wide, uint8."""
    return np.select([distance() > 4, distance() > -4], [255, 128], 0).astype(np.uint8)


CLASSES = torch.from_numpy(np.digitize(levels(), (85, 170)))[None, None]


def saved(path: Path, pixels: np.ndarray | Image.Image, **options: object) -> Path:
    (pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)).save(path, **options)
    return path


@pytest.mark.parametrize("grey", [100, 126, 127, 128, 129, 150])
@pytest.mark.parametrize(("black", "white"), [(0, 255), (3, 252), (16, 235)])
def test_levels_near_the_three(tmp_path: Path, grey: int, black: int, white: int) -> None:
    pixels = np.array([black, grey, white], np.uint8)[CLASSES[0, 0].numpy()]
    assert torch.equal(read_trimap(saved(tmp_path / "t.png", pixels), SIZE), CLASSES)


def test_jpeg(tmp_path: Path) -> None:
    found = read_trimap(saved(tmp_path / "t.jpg", levels(), quality=75), SIZE)
    assert float((found == CLASSES).float().mean()) > 0.99


def test_anti_aliased_edges_move_by_less_than_a_pixel(tmp_path: Path) -> None:
    fine = np.select([distance(8 * H, 8 * W) > 32, distance(8 * H, 8 * W) > -32], [255, 128], 0).astype(np.uint8)
    smooth = Image.fromarray(fine).resize((W, H), Image.Resampling.BOX)
    assert len(np.unique(np.asarray(smooth))) > 20
    found = read_trimap(saved(tmp_path / "t.png", smooth), SIZE)[0, 0].numpy()
    settled = np.minimum(np.abs(distance() - 4), np.abs(distance() + 4)) > 1
    assert np.array_equal(found[settled], CLASSES[0, 0].numpy()[settled])


def test_palettes(tmp_path: Path) -> None:
    """The index says nothing: here 0 is white, 1 black and 2 grey."""
    image = Image.fromarray(np.array([1, 2, 0], np.uint8)[CLASSES[0, 0].numpy()], mode="P")
    image.putpalette([255, 255, 255, 0, 0, 0, 127, 127, 127])
    for name in ("t.png", "t.gif"):
        assert torch.equal(read_trimap(saved(tmp_path / name, image), SIZE), CLASSES)


def test_16_bit_grey(tmp_path: Path) -> None:
    for name in ("t.png", "t.tif"):
        for factor in (256, 257):
            deep = levels().astype(np.uint16) * factor
            assert torch.equal(read_trimap(saved(tmp_path / name, deep), SIZE), CLASSES)


def rgba(colours: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    return np.dstack([np.broadcast_to(colours, (*SIZE, 3)), alpha]).astype(np.uint8)


def test_transparency(tmp_path: Path) -> None:
    trimap, opaque = levels(), np.full(SIZE, 255)
    grey = np.repeat(trimap[..., None], 3, 2)
    photo = np.random.default_rng(0).integers(0, 256, (*SIZE, 3))
    files = {
        "opaque": rgba(grey, opaque),
        "drawn on nothing": rgba(grey, np.where(trimap > 0, 255, 0)),
        "nothing is white": rgba(np.where(grey > 0, grey, 255), np.where(trimap > 0, 255, 0)),
        "in white": rgba(np.full(3, 255), trimap),
        "in black": rgba(np.zeros(3), trimap),
        "in both": rgba(grey, trimap),
        "a cut-out": rgba(photo, trimap),
    }
    for name, pixels in files.items():
        assert torch.equal(read_trimap(saved(tmp_path / "t.png", pixels), SIZE), CLASSES), name
    layered = saved(tmp_path / "la.png", np.dstack([trimap, np.where(trimap > 0, 255, 0).astype(np.uint8)]))
    assert torch.equal(read_trimap(layered, SIZE), CLASSES)


# --- masks


def hard() -> np.ndarray:
    return np.where(distance() > 0, 255, 0).astype(np.uint8)


def masks() -> dict[str, Image.Image]:
    grey = Image.fromarray(hard())
    return {
        "grey": grey,
        "bits": grey.convert("1"),
        "palette": grey.convert("P"),
        "rgba": Image.fromarray(rgba(np.zeros(3), hard())),
        "deep": Image.fromarray(hard().astype(np.uint16) * 257),
        "not quite": Image.fromarray(np.where(hard() > 0, 250, 4).astype(np.uint8)),
    }


@pytest.mark.parametrize("name", masks())
def test_a_mask_becomes_a_trimap(tmp_path: Path, name: str) -> None:
    found = read_trimap(saved(tmp_path / "m.png", masks()[name]), SIZE, width=5)
    alpha = torch.from_numpy(hard() / np.float32(255))[None, None]
    assert torch.equal(found, band_trimap(alpha, 5))
    unknown = found[0, 0].numpy() == 1
    assert np.abs(distance()[unknown]).max() < 6
    assert unknown[np.abs(distance()) < 4].all()


def test_a_soft_mask_is_unknown_where_it_is_soft(tmp_path: Path) -> None:
    soft = (np.clip(distance() / 6 + 0.5, 0, 1) * 255).round().astype(np.uint8)
    found = read_trimap(saved(tmp_path / "m.png", soft), SIZE, width=3)[0, 0].numpy()
    assert (found[np.abs(distance()) < 4] == 1).all()
    assert (found[distance() > 8] == 2).all()
    assert (found[distance() < -8] == 0).all()


def test_a_trimap_is_widened(tmp_path: Path) -> None:
    found = read_trimap(write_trimap(tmp_path / "t.png", CLASSES), SIZE, width=3)
    assert bool((found[CLASSES == 1] == 1).all())
    assert int((found == 1).sum()) > int((CLASSES == 1).sum()) * 1.5


# --- nonsense


def refusal(path: Path, pixels: np.ndarray, **options: object) -> str:
    with pytest.raises(TrimapError) as caught:
        read_trimap(saved(path, pixels), SIZE, **options)
    assert str(path) in str(caught.value)
    assert caught.value.exit_code == 2
    return str(caught.value)


def test_what_is_missing_is_said_with_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "t.png"
    assert "no foreground (white)" in refusal(path, np.minimum(levels(), 128))
    assert "no background (black)" in refusal(path, np.maximum(levels(), 128))
    assert "no unknown (grey)" in refusal(path, hard())
    assert "--trimap-width PIXELS" in refusal(path, hard())
    labels = refusal(path, hard() // 255)
    assert "no foreground" in labels
    assert "its levels go from 0 to 1 of 255" in labels
    soft = (np.clip(distance() / 30 + 0.5, 0, 1) * 255).astype(np.uint8)
    assert "--trimap-width" in refusal(path, soft)


def test_a_width_that_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "m.png"
    assert "no foreground (white)" in refusal(path, hard(), width=16)
    assert "a --trimap-width of 16 is too much" in refusal(path, hard(), width=16)
    assert "no background (black)" in refusal(path, 255 - hard(), width=16)
    for level in (0, 255):
        assert f"its levels go from {level} to {level}" in refusal(path, np.full(SIZE, level, np.uint8), width=2)


def test_another_size(tmp_path: Path) -> None:
    message = refusal(tmp_path / "t.png", levels()[:, :-1])
    assert "the trimap is 55x40, its photo 56x40" in message
    assert "save it again in the photo's size" in message


def test_a_benchmarks_trimap_may_lack_certain_pixels(tmp_path: Path) -> None:
    path = saved(tmp_path / "t.png", np.minimum(levels(), 128))
    assert read_trimap(path, SIZE, complete=False).unique().tolist() == [0, 1]
    with pytest.raises(TrimapError, match="no unknown"):
        read_trimap(saved(path, hard()), SIZE, complete=False)


def test_pixels_without_an_agreed_white(tmp_path: Path) -> None:
    with pytest.raises(PhotoError, match="floating-point"):
        read_trimap(saved(tmp_path / "t.tif", levels().astype(np.float32)), SIZE)


# --- alphas


def test_alphas_from_grey_and_from_transparency(tmp_path: Path) -> None:
    ramp = np.tile(np.linspace(0, 255, W).astype(np.uint8), (H, 1))
    truth = torch.from_numpy(ramp / np.float32(255))[None, None]
    photo = np.random.default_rng(0).integers(0, 256, (*SIZE, 3))
    for pixels in (ramp, np.repeat(ramp[..., None], 3, 2), rgba(photo, ramp), ramp.astype(np.uint16) * 257):
        found = read_alpha(saved(tmp_path / "a.png", pixels))
        assert found.shape == (1, 1, H, W)
        assert float((found - truth).abs().max()) < 1e-6


# --- the command


def test_the_option_reaches_the_reader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from sgmatte import pipeline

    photo = saved(tmp_path / "p.png", np.zeros((*SIZE, 3), np.uint8))
    mask = saved(tmp_path / "m.png", hard())
    seen = []

    def matting(image: torch.Tensor, trimap: torch.Tensor) -> torch.Tensor:
        seen.append(trimap)
        return trimap.float() / 2

    monkeypatch.setattr(pipeline.Networks, "matting", staticmethod(matting))

    def run(*arguments: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["sgmatte", "matte", str(photo), *map(str, arguments)])
        code: object = 0
        try:
            main()
        except SystemExit as left:
            code = left.code or 0
        return int(code), capsys.readouterr().err  # type: ignore[call-overload]

    assert run("--trimap", mask, "--trimap-width", 5)[0] == 0
    assert torch.equal(seen[0], read_trimap(mask, SIZE, width=5))
    code, err = run("--trimap", mask)
    assert (code, len(seen)) == (1, 1)
    assert "--trimap-width PIXELS" in err
    code, err = run("--trimap-width", 5)
    assert code == 2
    assert "give the mask with --trimap" in err
