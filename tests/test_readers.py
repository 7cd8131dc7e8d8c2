"""What a professional's workflow brings: 16 bits per channel, HEIC, AVIF, and files that mean harm in them."""

from __future__ import annotations

import io
import struct
import sys
import zlib
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image, features

from sgmatte.errors import PhotoError
from sgmatte.masks import read_alpha, read_cutout, read_trimap
from sgmatte.photo import read_photo
from sgmatte.readers import READ_FORMATS, decoded, optional_readers

H, W = 24, 32
SRGB, ADOBE = (imagecodecs.cms_profile(name) for name in ("srgb", "adobergb"))
LINEAR_GREY = imagecodecs.cms_profile("gray", gamma=1.0)
avif = pytest.mark.skipif("avif" not in features.get_supported(), reason="this Pillow was built without AVIF")


@pytest.fixture
def rgb() -> np.ndarray:
    """A smooth picture without symmetry, which lossy formats hardly change."""
    y, x = np.mgrid[0:H, 0:W] / np.array([H, W]).reshape(2, 1, 1)
    return (np.stack([x, y, 0.25 + 0.5 * x * y], -1) * 255).round().astype(np.uint8)


@pytest.fixture
def deep() -> np.ndarray:
    """RGBA in 16 bits, every level its own."""
    return np.random.default_rng(0).integers(1, 65536, (H, W, 4)).astype(np.uint16)


def with_chunk(png: bytes, kind: bytes, data: bytes) -> bytes:
    """A PNG with another chunk right behind its header."""
    chunk = struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    return png[:33] + chunk + png[33:]


def tiff(path: Path, pixels: np.ndarray, **options: object) -> Path:
    options = {"photometric": "rgb" if pixels.ndim == 3 else "minisblack", "metadata": None, **options}
    tifffile.imwrite(path, pixels, **options)
    return path


# --- 16 bits per channel


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_png_keeps_16_bits(tmp_path: Path, deep: np.ndarray, channels: int) -> None:
    pixels = deep[..., 0] if channels == 1 else deep[..., :channels]
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(np.ascontiguousarray(pixels)))
    found = decoded(tmp_path / "a.png")
    colours = 1 if channels < 3 else 3
    assert found.notes == ()
    assert np.array_equal(found.colours, deep[..., :colours])
    assert found.alpha is None if channels in (1, 3) else np.array_equal(found.alpha, deep[..., channels - 1])


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"compression": "lzw", "predictor": 2},
        {"compression": "adobe_deflate", "predictor": 2},
        {"compression": "packbits"},
        {"tile": (16, 16)},
        {"byteorder": ">", "rowsperstrip": 5},
        {"planarconfig": "separate"},
    ],
    ids=str,
)
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_tiff_keeps_16_bits(tmp_path: Path, deep: np.ndarray, options: dict, channels: int) -> None:
    pixels = deep[..., 0] if channels == 1 else deep[..., :channels]
    if "planarconfig" in options:
        if channels == 1:
            return
        pixels = np.moveaxis(pixels, 2, 0)
    extra = {"extrasamples": ["unassalpha"]} if channels == 4 else {}
    found = decoded(tiff(tmp_path / "a.tif", pixels, **options, **extra))
    assert found.notes == ()
    assert np.array_equal(found.colours, deep[..., :1] if channels == 1 else deep[..., :3])
    assert found.alpha is None if channels < 4 else np.array_equal(found.alpha, deep[..., 3])


def test_tiffs_that_count_from_white_or_hold_something_else(tmp_path: Path, deep: np.ndarray) -> None:
    inverse = decoded(tiff(tmp_path / "a.tif", deep[..., 0], photometric="miniswhite"))
    assert np.array_equal(inverse.colours[..., 0], 65535 - deep[..., 0])
    unknown = decoded(tiff(tmp_path / "b.tif", deep, extrasamples=["unspecified"]))
    assert unknown.alpha is None
    assert np.array_equal(unknown.colours, deep[..., :3])


def test_premultiplied_colours_are_divided_by_their_alpha(tmp_path: Path) -> None:
    straight = np.full((H, W, 3), (60000, 30000, 0))
    alpha = np.linspace(0, 65535, H * W).reshape(H, W, 1).astype(np.uint16)
    stored = np.concatenate([np.rint(straight * (alpha / 65535)), alpha], 2).astype(np.uint16)
    found = read_cutout(tiff(tmp_path / "a.tif", stored, extrasamples=["assocalpha"]))[0].permute(1, 2, 0).numpy()
    sure = alpha[..., 0] > 6553
    assert np.abs(found[sure][:, :3] * 65535 - straight[sure]).max() < 10
    assert np.abs(found[..., 3:] * 65535 - alpha).max() < 0.1


@pytest.mark.parametrize(("name", "mode"), [("rest.tif", "CMYK"), ("zstd.tif", "RGB")])
def test_what_only_pillow_reads_is_read_as_8_bits_and_says_so(
    tmp_path: Path, deep: np.ndarray, name: str, mode: str
) -> None:
    if mode == "CMYK":
        tiff(tmp_path / name, deep, photometric="separated")
    else:
        tiff(tmp_path / name, deep[..., :3], compression="zstd")
    photo = read_photo(tmp_path / name)
    assert photo.notes == ("16 bits per channel are read as 8",)
    if mode == "RGB":
        assert np.abs(photo.image[0].permute(1, 2, 0).numpy() * 65535 - deep[..., :3]).max() < 300


@pytest.mark.parametrize("orientation", range(1, 9))
def test_deep_files_are_turned_upright_like_shallow_ones(tmp_path: Path, deep: np.ndarray, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    shallow = deep[..., :3].astype(np.uint8)
    Image.fromarray(shallow).save(tmp_path / "shallow.png", exif=exif)
    png = imagecodecs.png_encode(shallow.astype(np.uint16) * 257)
    (tmp_path / "deep.png").write_bytes(with_chunk(png, b"eXIf", exif.tobytes()[6:]))
    tiff(tmp_path / "deep.tif", shallow.astype(np.uint16) * 257, extratags=[(0x0112, "H", 1, orientation, True)])
    expected = decoded(tmp_path / "shallow.png").colours
    for name in ("deep.png", "deep.tif"):
        assert np.array_equal(decoded(tmp_path / name).colours, expected.astype(np.uint16) * 257)


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_a_profile_is_honoured_in_16_bits(tmp_path: Path, rgb: np.ndarray, name: str) -> None:
    """More than 256 levels are left of a ramp, and they lie where the conversion of 8 bits has them."""

    def saved(pixels: np.ndarray) -> Path:
        if name.endswith("png"):
            plain = imagecodecs.png_encode(pixels)
            (tmp_path / name).write_bytes(with_chunk(plain, b"iCCP", b"x\0\0" + zlib.compress(ADOBE)))
            return tmp_path / name
        return tiff(tmp_path / name, pixels, iccprofile=ADOBE)

    ramp = np.repeat(np.linspace(20000, 50000, H * W).reshape(H, W, 1), 3, 2).astype(np.uint16)
    assert len(np.unique(decoded(saved(ramp)).colours[..., 0])) == H * W
    Image.fromarray(rgb).save(tmp_path / "shallow.png", icc_profile=ADOBE)
    inside = (np.ptp(rgb, axis=2, keepdims=True) < 60) & (rgb > 20)  # where sRGB has the colour, and not in the toe
    found = decoded(saved(rgb.astype(np.uint16) * 257)).colours / 257
    expected = decoded(tmp_path / "shallow.png").colours
    assert np.abs(found - expected)[inside].max() < 1.5
    assert np.abs(expected - rgb.astype(int))[inside].max() > 3  # it does something


def test_profiles_of_grey(tmp_path: Path) -> None:
    ramp = np.linspace(0, 65535, H * W).reshape(H, W).astype(np.uint16)
    tiff(tmp_path / "a.tif", ramp, iccprofile=LINEAR_GREY)
    found = decoded(tmp_path / "a.tif")
    assert found.notes == ()
    assert len(np.unique(found.colours)) > 600
    assert np.ptp(found.colours.astype(int), axis=2).max() <= 1  # grey
    tiff(tmp_path / "b.tif", ramp, iccprofile=SRGB)
    wrong = decoded(tmp_path / "b.tif")
    assert "colour profile cannot be used" in wrong.notes[0]
    assert np.array_equal(wrong.colours[..., 0], ramp)
    tiff(tmp_path / "c.tif", ramp, iccprofile=b"no profile")
    assert "colour profile cannot be used" in decoded(tmp_path / "c.tif").notes[0]


def test_masks_keep_16_bits_and_are_no_colours(tmp_path: Path) -> None:
    ramp = np.linspace(0, 65535, H * W).reshape(H, W).astype(np.uint16)
    for profile in (None, LINEAR_GREY):
        tiff(tmp_path / "a.tif", ramp, iccprofile=profile)
        assert np.abs(read_alpha(tmp_path / "a.tif")[0, 0].numpy() * 65535 - ramp).max() < 0.1
    colour = np.repeat(ramp[..., None], 3, 2)
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(np.concatenate([colour // 2, ramp[..., None]], 2)))
    assert np.abs(read_alpha(tmp_path / "a.png")[0, 0].numpy() * 65535 - ramp).max() < 0.1
    classes = np.repeat([0, 1, 2], 8)[:, None].repeat(W, 1)
    tiff(tmp_path / "t.tif", np.array([0, 128 * 257, 65535], np.uint16)[classes])
    assert np.array_equal(read_trimap(tmp_path / "t.tif", (H, W))[0, 0].numpy(), classes)


# --- HEIC and AVIF


def test_heic(tmp_path: Path, rgb: np.ndarray) -> None:
    heif = pytest.importorskip("pillow_heif", reason="HEIC is read with the package pillow-heif, which is not here")
    heif.register_heif_opener()
    Image.fromarray(rgb).save(tmp_path / "a.heic", format="HEIF", quality=95, chroma=444)
    photo = read_photo(tmp_path / "a.heic")
    assert photo.notes == ()
    assert np.abs(photo.image[0].permute(1, 2, 0).numpy() * 255 - rgb).max() < 8


def deep_heic(path: Path, pixels: np.ndarray, curve: int | None = None) -> Path:
    """A HEIC of 10 bits per channel."""
    heif = pytest.importorskip("pillow_heif", reason="not installed")
    mode = "RGB;16" if pixels.shape[2] == 3 else "RGBA;16"
    picture = heif.from_bytes(mode=mode, size=pixels.shape[1::-1], data=pixels.tobytes())
    options = {} if curve is None else {"transfer_characteristics": curve}
    picture.save(path, quality=-1, chroma=444, matrix_coefficients=0, **options)
    return path


@pytest.mark.parametrize("channels", [3, 4])
def test_heic_keeps_10_bits(tmp_path: Path, channels: int) -> None:
    ramp = np.linspace(0, 65535, 64 * 64).astype(np.uint16).reshape(64, 64, 1).repeat(channels, 2)
    found = decoded(deep_heic(tmp_path / "a.heic", ramp))
    assert found.notes == ()
    assert len(np.unique(found.colours)) == 1024
    assert np.abs(found.colours.astype(int) - ramp[..., :3]).max() <= 65
    assert (found.colours.min(), found.colours.max()) == (0, 65535)
    assert channels == 3 or np.abs(found.alpha.astype(int) - ramp[..., 3]).max() <= 65


def test_hdr_is_noted(tmp_path: Path) -> None:
    found = decoded(deep_heic(tmp_path / "a.heic", np.zeros((64, 64, 3), np.uint16), curve=16))
    assert "its tones are HDR's" in found.notes[0]


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
@pytest.mark.parametrize("kind", ["HEIF", pytest.param("AVIF", marks=avif)])
def test_containers_are_turned_once(tmp_path: Path, rgb: np.ndarray, kind: str, orientation: int) -> None:
    if kind == "HEIF":
        pytest.importorskip("pillow_heif", reason="not installed").register_heif_opener()
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = np.ascontiguousarray(np.rot90(rgb, {1: 0, 3: 2, 6: 1, 8: 3}[orientation]))
    Image.fromarray(stored).save(tmp_path / "a.img", format=kind, quality=95, exif=exif.tobytes())
    photo = read_photo(tmp_path / "a.img")
    assert photo.size == (H, W)
    assert np.abs(photo.image[0].permute(1, 2, 0).numpy() * 255 - rgb).max() < 16


@avif
@pytest.mark.parametrize("bits", [8, 10, 12])
def test_avif_of_more_than_8_bits_says_so(tmp_path: Path, bits: int) -> None:
    ramp = np.linspace(0, 2**bits - 1, 64 * 64).astype(np.uint8 if bits == 8 else np.uint16).reshape(64, 64, 1)
    (tmp_path / "a.avif").write_bytes(imagecodecs.avif_encode(ramp.repeat(3, 2), level=100, bitspersample=bits))
    found = decoded(tmp_path / "a.avif")
    assert found.white == 255
    assert found.notes == (() if bits == 8 else (f"{bits} bits per channel are read as 8",))


@avif
def test_avif_with_alpha_and_profile(tmp_path: Path, rgb: np.ndarray) -> None:
    alpha = np.full((H, W, 1), 51, np.uint8)
    Image.fromarray(np.concatenate([rgb, alpha], 2)).save(
        tmp_path / "a.avif", quality=100, subsampling="4:4:4", icc_profile=ADOBE
    )
    found = decoded(tmp_path / "a.avif")
    assert found.alpha is not None
    assert np.abs(found.alpha.astype(int) - 51).max() <= 2
    Image.fromarray(rgb).save(tmp_path / "a.png", icc_profile=ADOBE)
    assert np.abs(found.colours.astype(int) - decoded(tmp_path / "a.png").colours)[5:, 5:].mean() < 3


def test_a_missing_reader_names_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    monkeypatch.setitem(sys.modules, "pillow_avif", None)
    monkeypatch.setattr(features, "get_supported", lambda: ["webp"])
    for brand, message in ((b"heic", "pip install pillow-heif"), (b"avif", "pip install pillow-avif-plugin")):
        (tmp_path / "a").write_bytes(b"\0\0\0\x18ftyp" + brand + b"\0\0\0\0mif1" + brand + bytes(99))
        with pytest.raises(PhotoError, match=message):
            read_photo(tmp_path / "a")
    (tmp_path / "a").write_bytes(b"\0\0\0\x18ftypisom\0\0\0\0isommp42" + bytes(99))
    with pytest.raises(PhotoError, match=r"not an image that can be read \(.*HEIC, AVIF\)"):
        read_photo(tmp_path / "a")


# --- files that mean harm


def with_size(content: bytes, kind: str, width: int, height: int) -> bytes:
    """The same file, whose header claims another size."""
    if kind == "PNG":
        header = b"IHDR" + struct.pack(">II", width, height) + content[24:29]
        return content[:12] + header + struct.pack(">I", zlib.crc32(header)) + content[33:]
    if kind == "TIFF":
        changed = bytearray(content)
        start = int.from_bytes(content[4:8], "little")
        for entry in range(start + 2, start + 2 + 12 * int.from_bytes(content[start : start + 2], "little"), 12):
            tag = int.from_bytes(content[entry : entry + 2], "little")
            if tag in (256, 257):
                changed[entry + 2 : entry + 12] = struct.pack("<HII", 4, 1, width if tag == 256 else height)
        return bytes(changed)
    return content.replace(  # the box ispe of HEIC and AVIF
        b"ispe" + bytes(4) + struct.pack(">II", 64, 64), b"ispe" + bytes(4) + struct.pack(">II", width, height)
    )


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "HEIF", pytest.param("AVIF", marks=avif)])
def test_huge_sizes_in_a_header_are_refused_before_decoding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    if kind == "HEIF":
        pytest.importorskip("pillow_heif", reason="not installed").register_heif_opener()
    buffer, pixels = io.BytesIO(), np.zeros((64, 64, 3), np.uint16)
    if kind == "PNG":
        buffer.write(imagecodecs.png_encode(pixels))
    elif kind == "TIFF":
        tifffile.imwrite(buffer, pixels, photometric="rgb", byteorder="<", metadata=None)
    else:
        Image.new("RGB", (64, 64)).save(buffer, format=kind)
    honest = buffer.getvalue()
    (tmp_path / "a").write_bytes(honest)
    assert read_photo(tmp_path / "a").size == (64, 64)
    (tmp_path / "a").write_bytes(with_size(honest, kind, 12_000, 12_000))

    def never(*_: object, **__: object) -> None:
        raise AssertionError("decoded")

    for owner, name in ((Image.Image, "load"), (imagecodecs, "png_decode"), (tifffile.TiffPage, "asarray")):
        monkeypatch.setattr(owner, name, never)
    with pytest.raises(PhotoError, match="12000x12000 is 144 megapixels, the limit is 100"):
        read_photo(tmp_path / "a")


def test_a_small_file_that_inflates_is_stopped_at_its_size(tmp_path: Path) -> None:
    """A strip of 32x24 pixels that holds 256 MB."""
    whole = zlib.compressobj(9)
    bomb = b"".join(whole.compress(bytes(1 << 22)) for _ in range(64)) + whole.flush()
    path = tiff(tmp_path / "a.tif", np.zeros((H, W, 3), np.uint16), byteorder="<", compression="adobe_deflate")
    with tifffile.TiffFile(path, mode="r+b") as file:
        page = file.pages.first
        start = path.stat().st_size
        page.tags["StripOffsets"].overwrite([start])
        page.tags["StripByteCounts"].overwrite([len(bomb)])
    with path.open("ab") as stream:
        stream.write(bomb)
    with pytest.raises(PhotoError, match="truncated or damaged"):
        read_photo(path)


def test_too_little_memory_is_not_called_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("RGB", (W, H)).save(tmp_path / "a.png")

    def short(image: Image.Image) -> None:
        raise MemoryError

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", short)
    with pytest.raises(PhotoError, match="there is not enough memory to read it, or"):
        read_photo(tmp_path / "a.png")


def test_two_headers_that_disagree_are_refused(tmp_path: Path, deep: np.ndarray) -> None:
    """Pillow believes the last header of a PNG, libpng the first."""
    small = imagecodecs.png_encode(np.ascontiguousarray(deep[..., :3]))
    big = with_size(small, "PNG", 9000, 9000)[12:29]
    (tmp_path / "a.png").write_bytes(with_chunk(small, big[:4], big[4:]))
    with pytest.raises(PhotoError, match=r"a\.png: .*(damaged|not an image)"):
        read_photo(tmp_path / "a.png")


@pytest.mark.parametrize("name", ["a.png", "a.tif", "b.tif"])
def test_truncated_deep_files(tmp_path: Path, deep: np.ndarray, name: str) -> None:
    if name == "a.png":
        (tmp_path / name).write_bytes(imagecodecs.png_encode(deep))
    else:
        options = {"compression": "lzw"} if name == "a.tif" else {}
        tiff(tmp_path / name, deep, extrasamples=["unassalpha"], rowsperstrip=4, **options)
    whole = (tmp_path / name).read_bytes()
    for part in (0.2, 0.6, 0.99):
        (tmp_path / name).write_bytes(whole[: int(len(whole) * part)])
        with pytest.raises(PhotoError, match=r"(truncated|not an image|damaged)"):
            read_photo(tmp_path / name)


def test_a_tiff_whose_strips_are_gone_is_damaged_and_not_black(tmp_path: Path, deep: np.ndarray) -> None:
    path = tiff(tmp_path / "a.tif", deep[..., :3], rowsperstrip=4, compression="lzw")
    with tifffile.TiffFile(path, mode="r+b") as file:
        counts = list(file.pages.first.databytecounts)
        file.pages.first.tags["StripByteCounts"].overwrite([0, *counts[1:]])
    with pytest.raises(PhotoError, match="parts of it are missing"):
        read_photo(path)


def test_the_formats_that_need_no_package() -> None:
    Image.init()
    assert all(name in Image.OPEN for name in READ_FORMATS)


def test_the_doctor_knows_what_reads_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    heif = pytest.importorskip("pillow_heif", reason="not installed")
    assert optional_readers()["HEIC"] == f"pillow-heif {heif.__version__}"
    monkeypatch.setattr(features, "get_supported", lambda: ["webp"])
    monkeypatch.setattr("sgmatte.readers._package", lambda name: None)
    assert optional_readers() == {"HEIC": None, "AVIF": None}
