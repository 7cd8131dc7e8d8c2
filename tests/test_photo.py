"""Photos as they come: every format, depth and mode that people have, and files that are none."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

from sgmatte.errors import PhotoError, TrimapError, UsageError
from sgmatte.masks import read_trimap, write_trimap
from sgmatte.photo import read_photo, write_json
from sgmatte.writers import write_image

H, W = 24, 32


@pytest.fixture
def rgb() -> np.ndarray:
    """A smooth colour picture without symmetry, which lossy formats hardly change."""
    y, x = np.mgrid[0:H, 0:W] / np.array([H, W]).reshape(2, 1, 1)
    return (np.stack([x, y, 0.25 + 0.5 * x * y], -1) * 255).round().astype(np.uint8)


def levels(path: Path) -> np.ndarray:
    """Read back as float levels (H, W, 3) of 255."""
    return read_photo(path).image[0].permute(1, 2, 0).numpy() * 255


def png_bytes(width: int, height: int, depth: int, colour: int, rows: bytes) -> bytes:
    """A PNG written by hand, for depths that Pillow does not write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("name", "options", "tolerance"),
    [
        ("a.png", {}, 0),
        ("a.bmp", {}, 0),
        ("a.tif", {"compression": "tiff_lzw"}, 0),
        ("a.webp", {"lossless": True}, 0),
        ("a.jpg", {"quality": 95, "subsampling": 0}, 8),
        ("a.jpeg", {"quality": 95, "subsampling": 0, "progressive": True}, 8),
    ],
)
def test_formats(tmp_path: Path, rgb: np.ndarray, name: str, options: dict, tolerance: float) -> None:
    Image.fromarray(rgb).save(tmp_path / name, **options)
    photo = read_photo(tmp_path / name)
    assert photo.image.shape == (1, 3, H, W)
    assert photo.image.dtype == torch.float32
    assert photo.size == (H, W)
    assert photo.notes == ()
    assert np.abs(levels(tmp_path / name) - rgb).max() <= tolerance + 1e-3


def test_the_suffix_does_not_decide(tmp_path: Path, rgb: np.ndarray) -> None:
    Image.fromarray(rgb).save(tmp_path / "a.jpg", format="PNG")
    assert np.abs(levels(tmp_path / "a.jpg") - rgb).max() < 1e-3


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.webp", "a.jpg"])
def test_exif_orientation(tmp_path: Path, rgb: np.ndarray, orientation: int, name: str) -> None:
    as_stored = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, 1),
        7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
        8: lambda a: np.rot90(a, -1),
    }[orientation](rgb)
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if name.endswith("webp") else {"quality": 98, "subsampling": 0}
    Image.fromarray(np.ascontiguousarray(as_stored)).save(tmp_path / name, exif=exif, **options)
    photo = read_photo(tmp_path / name)
    assert photo.size == (H, W)
    assert np.abs(levels(tmp_path / name) - rgb).max() < 8


def test_grey_palette_and_bilevel(tmp_path: Path, rgb: np.ndarray) -> None:
    grey = Image.fromarray(rgb[..., 0])
    grey.save(tmp_path / "grey.png")
    assert np.abs(levels(tmp_path / "grey.png") - rgb[..., :1]).max() < 1e-3

    palette = Image.fromarray(rgb).quantize(16)
    palette.save(tmp_path / "palette.png")
    assert np.abs(levels(tmp_path / "palette.png") - np.asarray(palette.convert("RGB"))).max() < 1e-3

    grey.convert("1").save(tmp_path / "bits.png")
    assert set(np.unique(levels(tmp_path / "bits.png"))) == {0, 255}


def test_cmyk(tmp_path: Path) -> None:
    inks = np.zeros((H, W, 4), np.uint8)
    inks[:, : W // 2, 0] = 255  # cyan on the left, paper on the right
    for name in ("a.tif", "a.jpg"):
        Image.fromarray(inks, mode="CMYK").save(tmp_path / name)
        found = levels(tmp_path / name)
        assert np.abs(found[:, 2] - (0, 255, 255)).max() < 6
        assert np.abs(found[:, -2] - 255).max() < 6


def test_existing_transparency_is_shown_on_white(tmp_path: Path, rgb: np.ndarray) -> None:
    alpha = np.full((H, W, 1), 255, np.uint8)
    Image.fromarray(np.concatenate([rgb, alpha], 2)).save(tmp_path / "opaque.png")
    assert read_photo(tmp_path / "opaque.png").notes == ()
    assert np.abs(levels(tmp_path / "opaque.png") - rgb).max() < 1e-3

    alpha[:, : W // 2] = 51  # 20 %
    Image.fromarray(np.concatenate([rgb, alpha], 2)).save(tmp_path / "half.png")
    assert "transparent parts" in read_photo(tmp_path / "half.png").notes[0]
    share = alpha / 255.0
    assert np.abs(levels(tmp_path / "half.png") - (rgb * share + 255 * (1 - share))).max() < 1e-2


def test_a_transparent_palette_entry_is_white(tmp_path: Path) -> None:
    image = Image.new("P", (W, H), 1)
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.paste(0, (0, 0, W // 2, H))
    image.save(tmp_path / "a.gif", transparency=0)
    found = levels(tmp_path / "a.gif")
    assert np.abs(found[0, 0] - 255).max() < 1e-3
    assert np.abs(found[0, -1] - (0, 0, 255)).max() < 1e-3


def test_16_bit_grey_keeps_its_depth(tmp_path: Path) -> None:
    ramp = np.linspace(0, 65535, H * W).reshape(H, W).astype(np.uint16)
    for name in ("a.png", "a.tif"):
        Image.fromarray(ramp).save(tmp_path / name)
        photo = read_photo(tmp_path / name)
        assert photo.notes == ()
        assert np.abs(photo.image[0, 1].numpy() * 65535 - ramp).max() < 0.1


def test_pixels_without_an_agreed_white_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.full((H, W), 0.5, np.float32)).save(tmp_path / "float.tif")
    with pytest.raises(PhotoError, match=r"float\.tif: floating-point"):
        read_photo(tmp_path / "float.tif")
    Image.fromarray(np.full((H, W), 1 << 20, np.int32)).save(tmp_path / "int.tif")
    with pytest.raises(PhotoError, match=r"int\.tif: 32-bit"):
        read_photo(tmp_path / "int.tif")


def test_icc_profile_is_converted_to_srgb(tmp_path: Path, rgb: np.ndarray) -> None:
    """A LAB picture with a LAB profile: L 50, a = b = 0 is the grey of level 119 in sRGB."""
    lab = Image.new("LAB", (W, H), (128, 128, 128))
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    lab.save(tmp_path / "lab.tif", icc_profile=profile)
    assert np.abs(levels(tmp_path / "lab.tif") - 119).max() <= 2

    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(rgb).save(tmp_path / "srgb.png", icc_profile=srgb)
    assert np.abs(levels(tmp_path / "srgb.png") - rgb).max() <= 1.001


def test_wide_gamut_profile(tmp_path: Path, rgb: np.ndarray) -> None:
    """A profile whose red and blue primaries change places turns the picture's red into blue."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    entries = {bytes(profile[132 + 12 * i : 136 + 12 * i]): 132 + 12 * i for i in range(profile[131])}
    red, blue = entries[b"rXYZ"] + 4, entries[b"bXYZ"] + 4
    profile[red : red + 8], profile[blue : blue + 8] = profile[blue : blue + 8], profile[red : red + 8]
    Image.fromarray(rgb).save(tmp_path / "a.png", icc_profile=bytes(profile))
    assert np.abs(levels(tmp_path / "a.png") - rgb[..., ::-1]).max() <= 2


def test_a_damaged_profile_is_noted(tmp_path: Path, rgb: np.ndarray) -> None:
    Image.fromarray(rgb).save(tmp_path / "a.png", icc_profile=b"no profile")
    photo = read_photo(tmp_path / "a.png")
    assert "colour profile cannot be used" in photo.notes[0]
    assert np.abs(levels(tmp_path / "a.png") - rgb).max() < 1e-3


def test_a_profile_of_another_kind_than_the_pixels_is_noted(tmp_path: Path, rgb: np.ndarray) -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(rgb[..., 0]).save(tmp_path / "a.png", icc_profile=srgb)
    photo = read_photo(tmp_path / "a.png")
    assert photo.image.shape == (1, 3, H, W)
    assert "colour profile cannot be used" in photo.notes[0]


def test_the_first_frame_of_an_animation(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (W, H), colour) for colour in ("red", "blue")]
    for name in ("a.gif", "a.webp", "a.png", "a.tif"):
        options = {"lossless": True} if name == "a.webp" else {}
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], **options)
        photo = read_photo(tmp_path / name)
        assert photo.notes == ("only the first of its frames is used",)
        assert np.abs(levels(tmp_path / name)[3, 3] - (255, 0, 0)).max() < 2


def test_too_many_pixels_are_refused_before_decoding(tmp_path: Path) -> None:
    (tmp_path / "bomb.png").write_bytes(png_bytes(60_000, 60_000, 8, 2, b""))  # holds no pixels at all
    with pytest.raises(PhotoError, match=r"bomb\.png: 60000x60000 is 3600 megapixels, the limit is 100"):
        read_photo(tmp_path / "bomb.png")
    Image.new("RGB", (W, H)).save(tmp_path / "a.png")
    with pytest.raises(PhotoError, match="limit"):
        read_photo(tmp_path / "a.png", max_pixels=W * H - 1)
    assert read_photo(tmp_path / "a.png", max_pixels=W * H).size == (H, W)


def test_pillows_own_limit_is_back_after_reading(tmp_path: Path) -> None:
    before = Image.MAX_IMAGE_PIXELS
    with pytest.raises(PhotoError):
        read_photo(tmp_path / "none.png")
    Image.new("RGB", (W, H)).save(tmp_path / "a.png")
    read_photo(tmp_path / "a.png")
    assert before == Image.MAX_IMAGE_PIXELS


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "a.tif", "a.gif"])
def test_truncated_files(tmp_path: Path, name: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / name)
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: len(whole) * 6 // 10])
    with pytest.raises(PhotoError, match=rf"{name}: .*(truncated|not an image)"):
        read_photo(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("text.jpg", b"this is no image", "not an image"),
        ("empty.png", b"", "the file is empty"),
        ("zero.png", png_bytes(0, 0, 8, 2, b""), r"(0x0|not an image|damaged)"),
        ("eps.png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", "not an image"),
        ("header.png", b"\x89PNG\r\n\x1a\n", "(not an image|damaged)"),
    ],
)
def test_files_that_are_no_image(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(PhotoError, match=message) as caught:
        read_photo(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_missing_files_and_folders(tmp_path: Path) -> None:
    with pytest.raises(PhotoError, match="no such file"):
        read_photo(tmp_path / "none.jpg")
    with pytest.raises(PhotoError, match="is a folder"):
        read_photo(tmp_path)


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_written_images_read_back(tmp_path: Path, suffix: str, channels: int) -> None:
    image = torch.rand(1, channels, H, W, generator=torch.Generator().manual_seed(0)) * 1.2 - 0.1
    path = write_image(tmp_path / f"a{suffix}", image)
    mode = {1: "L", 3: "RGB", 4: "RGBA"}[channels]
    with Image.open(path) as found:
        assert channels == 1 or found.mode == mode
        pixels = np.asarray(found.convert(mode)).reshape(H, W, channels)
    expected = np.rint(np.clip(image[0].permute(1, 2, 0).numpy(), 0, 1) * 255)
    assert np.array_equal(pixels, expected)


def test_writing_rounds_to_the_nearest_level(tmp_path: Path) -> None:
    image = (torch.tensor([0.0, 0.4, 0.6, 254.4, 254.6]) / 255).reshape(1, 1, 1, 5)
    with Image.open(write_image(tmp_path / "a.png", image)) as found:
        assert np.asarray(found).tolist() == [[0, 0, 1, 254, 255]]


def test_same_picture_same_bytes(tmp_path: Path, rgb: np.ndarray) -> None:
    first, second = (write_image(tmp_path / f"{name}.png", rgb).read_bytes() for name in "ab")
    assert first == second


def test_writing_says_what_is_wrong(tmp_path: Path) -> None:
    image = torch.zeros(1, 4, 2, 2)
    with pytest.raises(PhotoError, match="JPEG has no transparency"):
        write_image(tmp_path / "a.jpg", image)
    with pytest.raises(UsageError, match=r"unknown image suffix '\.xyz'"):
        write_image(tmp_path / "a.xyz", image)
    with pytest.raises(ValueError, match="not finite"):
        write_image(tmp_path / "a.png", image / 0)
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(PhotoError, match="cannot be written"):
        write_image(tmp_path / "file" / "a.png", image)
    assert sorted(os.listdir(tmp_path)) == ["file"]


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_image(tmp_path / "a.png", torch.zeros(1, 1, 2, 2))
    before = path.read_bytes()

    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full_disk)
    with pytest.raises(PhotoError, match="No space left"):
        write_image(path, torch.ones(1, 1, 2, 2))
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["a.png"]


def test_json_refuses_nan_and_keeps_order(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"b": 1, "a": "é"})
    assert (tmp_path / "a.json").read_bytes() == '{\n "b": 1,\n "a": "é"\n}\n'.encode()
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"loss": float("nan")})


def classes() -> torch.Tensor:
    trimap = torch.zeros(1, 1, H, W, dtype=torch.int64)
    trimap[..., 8:24] = 1
    trimap[..., 12:20] = 2
    return trimap


@pytest.mark.parametrize("name", ["t.png", "t.jpg"])
def test_trimap_round_trip(tmp_path: Path, name: str) -> None:
    write_trimap(tmp_path / name, classes())
    assert torch.equal(read_trimap(tmp_path / name, (H, W)), classes())


def test_trimap_modes(tmp_path: Path) -> None:
    with Image.open(write_trimap(tmp_path / "t.png", classes())) as image:
        assert np.unique(np.asarray(image)).tolist() == [0, 128, 255]
        for mode in ("RGB", "P", "RGBA", "LA"):
            image.convert(mode).save(tmp_path / f"{mode}.png")
            assert torch.equal(read_trimap(tmp_path / f"{mode}.png", (H, W)), classes())
        Image.fromarray(np.asarray(image).astype(np.uint16) * 257).save(tmp_path / "deep.png")
    assert torch.equal(read_trimap(tmp_path / "deep.png", (H, W)), classes())


def test_trimaps_that_cannot_be_used(tmp_path: Path) -> None:
    path = write_trimap(tmp_path / "t.png", classes())
    with pytest.raises(TrimapError, match="the trimap is 32x24, its photo 24x32"):
        read_trimap(path, (W, H))
    for index, name in enumerate(("background", "unknown", "foreground")):
        without = classes().where(classes() != index, (index + 1) % 3)
        with pytest.raises(TrimapError, match=f"no {name}"):
            read_trimap(write_trimap(path, without), (H, W))
    ramp = np.tile(np.linspace(0, 255, W).astype(np.uint8), (H, 1))
    with pytest.raises(TrimapError, match="looks like an alpha"):
        read_trimap(write_image(path, ramp), (H, W))
    with pytest.raises(PhotoError, match="no such file"):
        read_trimap(tmp_path / "none.png", (H, W))


def test_folder_names_with_spaces_and_umlauts(tmp_path: Path, rgb: np.ndarray) -> None:
    folder = tmp_path / "umlaut ö & space"
    path = write_image(folder / "a b.png", rgb)
    assert np.abs(levels(path) - rgb).max() < 1e-3
