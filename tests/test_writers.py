"""Pictures as they are written: every format and depth, level by level, and what they carry of their photo."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image, TiffImagePlugin

from sgmatte.errors import PhotoError, UsageError
from sgmatte.forms import Form
from sgmatte.masks import read_alpha, read_cutout
from sgmatte.metadata import Metadata, carried_metadata
from sgmatte.readers import decoded, srgb_profile
from sgmatte.writers import write_image

H, W = 24, 32
THUMBNAIL = b"\xff\xd8 the old picture \xff\xd9"
IFD, Base = ExifTags.IFD, ExifTags.Base
KINDS = [("png", 8), ("png", 16), ("webp", 8), ("tiff", 8), ("tiff", 16), ("tif", 16)]
DEEP = [(suffix, bits) for suffix, bits in KINDS if bits == 16]


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A JPEG as a telephone takes it: on its side, with a place, a maker's note and a thumbnail."""
    exif = Image.Exif()
    exif[Base.Make], exif[Base.Model], exif[Base.Artist] = "Sgmatte", "One", "José".encode()
    exif[Base.Orientation], exif[Base.XResolution] = 6, 72.0
    exif[IFD.Exif] = {
        Base.ExposureTime: TiffImagePlugin.IFDRational(1, 125),
        Base.DateTimeOriginal: "2024:05:06 07:08:09",
        Base.MakerNote: b"places in the old file" * 9,
        Base.ExifImageWidth: W,
        Base.ExifImageHeight: H,
        Base.ColorSpace: 65535,
        Base.ExposureBiasValue: TiffImagePlugin.IFDRational(-1, 3),
        Base.CameraOwnerName: "José".encode().decode("latin-1"),
        Base.UserComment: b"ASCII\0\0\0a day out",
    }
    exif[IFD.GPSInfo] = {1: "N", 2: (48.0, 30.0, 12.5), 3: "E", 4: (9.0, 1.0, 2.25)}
    Image.new("RGB", (W, H), "teal").save(tmp_path / "photo.jpg", exif=with_thumbnail(exif.tobytes()))
    return tmp_path / "photo.jpg"


def with_thumbnail(exif: bytes) -> bytes:
    """EXIF whose second directory holds a thumbnail, as cameras write it and Pillow does not."""
    mark, tiff = exif[:6], exif[6:]
    order = "<" if tiff[:2] == b"II" else ">"
    first = struct.unpack_from(f"{order}I", tiff, 4)[0]
    link = first + 2 + 12 * struct.unpack_from(f"{order}H", tiff, first)[0]
    tiff += bytes(len(tiff) % 2)
    place, entries = len(tiff), ((Base.JpegIFOffset, len(tiff) + 30), (Base.JpegIFByteCount, len(THUMBNAIL)))
    second = struct.pack(f"{order}H", 2) + b"".join(struct.pack(f"{order}HHII", tag, 4, 1, n) for tag, n in entries)
    return mark + tiff[:link] + struct.pack(f"{order}I", place) + tiff[link + 4 :] + second + bytes(4) + THUMBNAIL


@pytest.mark.parametrize(("suffix", "bits"), KINDS)
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_levels_come_back(tmp_path: Path, suffix: str, bits: int, channels: int) -> None:
    image = torch.rand(1, channels, H, W, generator=torch.Generator().manual_seed(0)) * 1.2 - 0.1
    found = decoded(write_image(tmp_path / f"a.{suffix}", image, bits=bits))
    exact = np.clip(image[0].double().permute(1, 2, 0).numpy(), 0, 1) * (2**bits - 1)
    nearest = 0.5 + 2**-8  # float32 holds levels of 16 bits to a 512th
    assert found.colours.dtype == (np.uint16 if bits == 16 else np.uint8)
    assert np.abs(found.colours - exact[..., : min(channels, 3)]).max() <= nearest
    assert channels < 4 or np.abs(found.alpha - exact[..., 3]).max() <= nearest
    assert found.notes == ()


@pytest.mark.parametrize(("suffix", "bits"), DEEP)
def test_a_ramp_keeps_more_than_256_levels(tmp_path: Path, suffix: str, bits: int) -> None:
    ramp = torch.linspace(0, 1, 65536).view(1, 1, 64, 1024)
    path = write_image(tmp_path / f"a.{suffix}", ramp, bits=bits)
    assert np.array_equal(decoded(path).colours[..., 0], np.arange(65536).reshape(64, 1024))
    assert (read_alpha(path) - ramp).abs().max() < 1e-6
    cutout = torch.cat((ramp.expand(1, 3, 64, 1024), ramp), 1)
    assert (read_cutout(write_image(tmp_path / f"b.{suffix}", cutout, bits=bits)) - cutout).abs().max() < 1e-5


@pytest.mark.parametrize(("suffix", "bits"), KINDS)
def test_other_programs_can_read_them(tmp_path: Path, suffix: str, bits: int) -> None:
    image = torch.rand(1, 3, H, W, generator=torch.Generator().manual_seed(0))
    with Image.open(write_image(tmp_path / f"a.{suffix}", image, bits=bits)) as found:
        pixels = np.asarray(found.convert("RGB"))
    assert np.abs(pixels - image[0].permute(1, 2, 0).numpy() * 255).max() <= 1


@pytest.mark.parametrize("with_metadata", [False, True])
@pytest.mark.parametrize(("suffix", "bits"), KINDS)
def test_same_picture_same_bytes(tmp_path: Path, photo: Path, suffix: str, bits: int, with_metadata: bool) -> None:
    image = torch.rand(1, 4, H, W, generator=torch.Generator().manual_seed(0))
    metadata = carried_metadata(photo) if with_metadata else Metadata()
    first, second = (
        write_image(tmp_path / f"{name}.{suffix}", image, bits=bits, metadata=metadata).read_bytes() for name in "ab"
    )
    assert first == second


@pytest.mark.parametrize(("suffix", "bits"), [*KINDS, ("jpg", 8)])
def test_metadata_is_carried_over(tmp_path: Path, photo: Path, suffix: str, bits: int) -> None:
    image = torch.rand(1, 3 if suffix == "jpg" else 4, W, H, generator=torch.Generator().manual_seed(0))
    metadata = carried_metadata(photo)
    assert metadata.notes == ()
    with Image.open(photo) as source:
        assert source.getexif().get_ifd(IFD.IFD1)[Base.JpegIFByteCount] == len(THUMBNAIL)
    path = write_image(tmp_path / f"a.{suffix}", image, bits=bits, metadata=metadata)
    plain = decoded(write_image(tmp_path / f"b.{suffix}", image, bits=bits))
    with Image.open(path) as found:
        exif = found.getexif()
        assert found.info["icc_profile"] == srgb_profile()
        assert exif[Base.Make] == "Sgmatte"
        assert exif[Base.Artist].encode("latin-1") == "José".encode()
        assert exif[Base.Orientation] == 1
        shot = exif.get_ifd(IFD.Exif)
        assert shot[Base.DateTimeOriginal] == "2024:05:06 07:08:09"
        assert float(shot[Base.ExposureTime]) == pytest.approx(1 / 125)
        assert (shot[Base.ExifImageWidth], shot[Base.ExifImageHeight], shot[Base.ColorSpace]) == (H, W, 1)
        assert float(shot[Base.ExposureBiasValue]) == pytest.approx(-1 / 3)
        assert shot[Base.UserComment] == b"ASCII\0\0\0a day out"
        assert Base.MakerNote not in shot
        assert exif.get_ifd(IFD.GPSInfo) == {1: "N", 2: (48.0, 30.0, 12.5), 3: "E", 4: (9.0, 1.0, 2.25)}
        assert not exif.get_ifd(IFD.IFD1)
    assert THUMBNAIL in photo.read_bytes()
    assert THUMBNAIL not in path.read_bytes()
    assert np.array_equal(decoded(path).colours, plain.colours) or suffix == "jpg"


def test_without_a_wish_nothing_is_carried(tmp_path: Path) -> None:
    for suffix, bits in KINDS:
        with Image.open(write_image(tmp_path / f"a.{suffix}", torch.zeros(1, 3, H, W), bits=bits)) as found:
            assert "icc_profile" not in found.info
            assert not found.getexif().get_ifd(IFD.Exif)
            assert Base.Make not in found.getexif()


def test_a_photo_without_metadata_gives_the_profile_alone(tmp_path: Path) -> None:
    Image.new("RGB", (W, H)).save(tmp_path / "a.png")
    metadata = carried_metadata(tmp_path / "a.png")
    with Image.open(write_image(tmp_path / "b.png", torch.zeros(1, 3, H, W), metadata=metadata)) as found:
        assert dict(found.getexif()) == {Base.Orientation: 1}
        assert found.info["icc_profile"] == srgb_profile()


def test_a_tiff_gives_what_describes_it_and_not_how_it_is_stored(tmp_path: Path) -> None:
    Image.new("RGB", (W, H)).save(tmp_path / "a.tif", compression="tiff_lzw", tiffinfo={270: "A portrait", 315: "Me"})
    image = torch.rand(1, 3, H, W, generator=torch.Generator().manual_seed(0))
    found = write_image(tmp_path / "b.tif", image, bits=16, metadata=carried_metadata(tmp_path / "a.tif"))
    assert np.abs(decoded(found).colours - image[0].permute(1, 2, 0).double().numpy() * 65535).max() <= 1.6
    with Image.open(found) as written:
        assert (written.getexif()[270], written.getexif()[315]) == ("A portrait", "Me")


def test_damaged_exif_is_left_behind_and_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, photo: Path) -> None:
    def damaged(*_: object) -> None:
        raise SyntaxError("not a TIFF file")

    monkeypatch.setattr(Image.Exif, "get_ifd", damaged)
    metadata = carried_metadata(photo)
    assert "EXIF is damaged and left behind" in metadata.notes[0]
    monkeypatch.undo()
    for suffix, bits in KINDS:
        path = write_image(tmp_path / f"a.{suffix}", torch.zeros(1, 3, H, W), bits=bits, metadata=metadata)
        with Image.open(path) as found:
            assert found.info["icc_profile"] == srgb_profile()
            assert Base.Make not in found.getexif()


def test_wrong_wishes_are_told_before_anything_is_written(tmp_path: Path) -> None:
    for name, message in (
        ("a.webp", "WEBP has 8 bits"),
        ("a.jpg", "JPEG has 8 bits"),
        ("a.gif", "unknown image suffix"),
    ):
        with pytest.raises(UsageError, match=message):
            Form(bits=16).check({"alpha": tmp_path / name})
        with pytest.raises(UsageError, match=message):
            write_image(tmp_path / name, torch.zeros(1, 1, H, W), bits=16)
    Form(bits=16).check({"alpha": tmp_path / "a.png", "cutout": tmp_path / "a.TIFF", "trimap": tmp_path / "a.webp"})
    with pytest.raises(UsageError, match="do not go together"):
        Form(format="webp").check({"alpha": tmp_path / "a.png"})
    Form(format="webp").check({"preview": tmp_path / "a.png", "report": tmp_path / "a.json"})
    with pytest.raises(UsageError, match=r"b\.jpg: JPEG has no transparency"):
        Form().check({"alpha": tmp_path / "a.jpg", "cutout": tmp_path / "b.jpg"})
    assert list(tmp_path.iterdir()) == []


def test_a_picture_too_large_for_webp_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(PhotoError, match=r"a\.webp: cannot be written \(.*16383"):
        write_image(tmp_path / "a.webp", np.zeros((1, 16384), np.uint8))
    assert list(tmp_path.iterdir()) == []
