"""Files that claim what they cannot hold, name what they must not reach, or ask for code: one clear error each."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from sgmatte import archive, checkpoint, manifest, zoo
from sgmatte.batch.inputs import found_inputs
from sgmatte.batch.manifest import Manifest, lines
from sgmatte.cli import photos
from sgmatte.cli.app import app, main
from sgmatte.cli.settings import Source, commands_of, settings_in
from sgmatte.errors import DataError, PhotoError, UsageError, WeightError
from sgmatte.files import write_bytes, write_json
from sgmatte.hostile import content, file_size, printable
from sgmatte.importers import imported
from sgmatte.latents import read_latents
from sgmatte.manifest import WeightFile, WeightRecord
from sgmatte.nn.openvino_ir import read_graph
from sgmatte.photo import read_photo
from sgmatte.train.data import read_grey, read_rgb
from sgmatte.writers import write_image

# --- files as such


def test_pipes_folders_and_names_with_a_nul_are_no_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    for name in ("pipe.png", "", "none.png", "a\0b.png"):
        with pytest.raises(PhotoError, match=r"is no regular file|is a folder|no such file|embedded null"):
            read_photo(tmp_path / name)
    for reader in (checkpoint.checkpoint, zoo.stored_config, zoo.state):
        with pytest.raises(WeightError, match="is no regular file"):
            reader(tmp_path / "pipe.png")


def test_size_is_known_before_a_byte_is_read(tmp_path: Path) -> None:
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(DataError, match=r"has 1099512 MB, more than any of its kind \(1 MB\)"):
        file_size(tmp_path / "sparse", 1 << 20, DataError)
    with pytest.raises(DataError, match="more than any"):
        content(tmp_path / "sparse", 1 << 20, DataError)
    with pytest.raises(PhotoError, match="more than any"):
        read_photo(tmp_path / "sparse")


def test_texts_of_files_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert printable("a\x1b[2Jb\nc é") == "a\\x1b[2Jb\\nc é"
    assert printable("a" * 300) == "a" * 200 + "..."
    from sgmatte.cli.messages import error_line

    error_line("a\x1b]0;title\x07 [red]b[/red] " + "x" * 10_000)
    shown = capsys.readouterr().err
    assert "\x1b" not in shown
    assert "[red]b[/red]" in shown
    assert len(shown) < 5000


# --- photos


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def tags(*entries: tuple[int, int, int, int]) -> bytes:
    """A little-endian TIFF directory at byte 8: (tag, type, count, value or offset) each."""
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHLL", *e) for e in entries)


TAG_BOMB = tags(*((1000 + k, 7, 1 << 19, 8) for k in range(4000))) + bytes(1 << 19)


def jpeg(**options: Any) -> bytes:
    stream = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(noise).save(stream, "JPEG", **options)
    return stream.getvalue()


def png(*extra: bytes) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (8, 8)).save(stream, "PNG")
    whole = stream.getvalue()
    return whole[:33] + b"".join(extra) + whole[33:]


def segments(kind: int, data: bytes) -> bytes:
    return b"".join(
        b"\xff" + bytes([kind]) + struct.pack(">H", len(part) + 2) + part
        for part in (data[k : k + 65_000] for k in range(0, len(data), 65_000))
    )


def exif_jpeg(exif: bytes) -> bytes:
    whole = jpeg()
    parts = [exif[k : k + 60_000] for k in range(0, len(exif), 60_000)]
    return whole[:2] + b"".join(segments(0xE1, b"Exif\0\0" + part) for part in parts) + whole[2:]


def many_scans() -> bytes:
    whole = jpeg(progressive=True)
    start = whole.rindex(b"\xff\xda")
    return whole[:-2] + 100 * whole[start:-2] + whole[-2:]


def bmp(width: int, height: int, rle: bytes) -> bytes:
    header = struct.pack("<LllHHLLllLL", 40, width, height, 1, 8, 1, len(rle), 0, 0, 2, 0)
    palette = bytes(8)
    return struct.pack("<2sLHHL", b"BM", 62 + len(rle), 0, 0, 62) + header + palette + rle


def gif(comment: int) -> bytes:
    stream = io.BytesIO()
    Image.new("P", (8, 8)).save(stream, "GIF")
    whole = stream.getvalue()
    start = 13 + (3 << (whole[10] & 7) + 1 if whole[10] & 128 else 0)
    blocks = (b"\xff" + b"x" * 255) * (comment // 255)
    return whole[:start] + b"!\xfe" + blocks + b"\0" + whole[start:]


TILES = tags(
    (256, 3, 1, 8), (257, 3, 1, 8), (258, 3, 1, 8), (259, 3, 1, 8), (262, 3, 1, 1), (277, 3, 1, 1),
    (322, 3, 1, 60_000), (323, 3, 1, 60_000), (324, 4, 1, 150), (325, 4, 1, 10),
) + bytes(200)  # fmt: skip


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("tags.tif", TAG_BOMB, "its tags claim 2[0-9]{3} MB of a file of 0.6 MB"),
        ("exif.jpg", exif_jpeg(TAG_BOMB), "its tags claim"),
        ("exif.png", png(chunk(b"eXIf", TAG_BOMB)), "its tags claim"),
        ("text.png", png(chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(
            b"\nexif\n  9\n" + TAG_BOMB[: 450_000].hex().encode()))), "its tags claim"),
        ("tiles.tif", TILES, "its tiles have 3600 megapixels each"),
        ("scans.jpg", many_scans(), "more than 60 scans"),
        ("junk.jpg", b"\xff\xd8" + bytes(2_000_000), "no picture behind its header"),
        ("segments.jpg", b"\xff\xd8" + b"\xff\xfe\0\2" * 200_000 + jpeg()[2:], "no picture behind its header"),
        ("chunks.png", png(chunk(b"teSt", b"") * 600_000), "more than 500000 chunks"),
        ("comment.gif", gif(4_000_000), "more than 1 MB beside its picture"),
        ("wide.bmp", bmp(90_000_000, 1, b"\0\2\1\xff" * 4), "a side has 90000000 pixels"),
        ("lines.bmp", bmp(9_000, 9_000, b"\1\1\0\0" * 9_000), "run-length BMP of more than 10 megapixels"),
    ],
)  # fmt: skip
def test_photos_that_claim_too_much(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(PhotoError, match=message):
        read_photo(tmp_path / name)
    with pytest.raises(PhotoError):
        read_rgb(tmp_path / name)
    with pytest.raises(PhotoError):
        read_grey(tmp_path / name)


def test_ordinary_metadata_is_no_bomb(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x010E] = "words " * 5000
    exif.get_ifd(0x8769)[0x9286] = b"comment" * 1000
    for name, options in (("a.jpg", {"progressive": True}), ("a.png", {}), ("a.webp", {}), ("a.tif", {})):
        picture = Image.new("RGB", (40, 30), "red")
        picture.save(tmp_path / name, exif=exif, **options)
        assert read_photo(tmp_path / name).size == (30, 40)
    (tmp_path / "b.gif").write_bytes(gif(5000))
    assert read_photo(tmp_path / "b.gif").size == (8, 8)


def test_webps_have_less_room(tmp_path: Path) -> None:
    Image.new("RGB", (10, 10)).save(tmp_path / "a.webp")
    with pytest.raises(PhotoError, match="80% of --max-pixels"):
        read_photo(tmp_path / "a.webp", max_pixels=100)
    assert read_photo(tmp_path / "a.webp", max_pixels=125).size == (10, 10)


def test_a_colour_profile_as_large_as_a_photo_is_left_aside(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.webp", icc_profile=bytes(9 << 20))
    assert read_photo(tmp_path / "a.webp").notes == ("its colour profile has 9 MB and is ignored",)


# --- zips and torch's files


def zipped(path: Path, members: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, data in members.items():
            file.writestr(name, data)
    return path


def test_no_name_of_a_zip_reaches_the_disk(tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    file = zipped(inside / "a.zip", {"../../escaped": b"x", "/tmp/escaped": b"x", "a\\..\\b\x1b[2J": b"x"})
    with pytest.raises(WeightError, match="a zip with none of") as caught:
        imported(file)
    assert "\x1b" not in str(caught.value)
    assert sorted(os.listdir(inside)) == ["a.zip"]
    assert sorted(os.listdir(tmp_path)) == ["inside"]


def test_a_directory_of_a_million_members_is_not_read(tmp_path: Path) -> None:
    file = zipped(tmp_path / "a.zip", {f"{k:06}" + "n" * 200: b"" for k in range(17_000)}, zipfile.ZIP_STORED)
    with pytest.raises(WeightError, match="more members than any checkpoint has"):
        imported(file)


def test_torch_files_with_compressed_records_are_refused(tmp_path: Path) -> None:
    plain = io.BytesIO()
    torch.save({"a": torch.zeros(1 << 20)}, plain)
    with zipfile.ZipFile(plain) as source:
        members = {name: source.read(name) for name in source.namelist()}
    with pytest.raises(WeightError, match="claim more bytes than the file has"):
        checkpoint.checkpoint(zipped(tmp_path / "a.pt", members))


def pickled(path: Path, body: bytes, legacy: bool) -> Path:
    """A file of torch whose pickle is `body`."""
    if legacy:
        stream = io.BytesIO()
        torch.save({}, stream, _use_new_zipfile_serialization=False)
        head = io.BytesIO(stream.getvalue())
        for _ in range(3):
            pickle.Unpickler(head).load()
        path.write_bytes(stream.getvalue()[: head.tell()] + body + pickle.dumps([], 2))
        return path
    return zipped(path, {"a/data.pkl": body, "a/version": b"3\n", "a/byteorder": b"little"}, zipfile.ZIP_STORED)


def text(value: str) -> bytes:
    return b"X" + struct.pack("<L", len(value)) + value.encode()


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"cos\nsystem\n" + text("touch sprung") + b"\x85R.", "it needs os.system, which could run code"),
        (b"c__builtin__\nbytearray\n\x8a\x05" + (1 << 36).to_bytes(5, "little") + b"\x85R.", "needs __builtin__.byte"),
        (b"ctorch\nTensor\n\x8a\x05" + (1 << 36).to_bytes(5, "little") + b"\x85\x81.", "it needs torch.Tensor"),
        (b"c_codecs\nencode\n" + text("x" * 3000) + text("hex") + b"\x86R.", "texts that are longer than any key"),
        (text("k" * 5000) + b".", "texts that are longer than any key"),
        (b"]" * 600_000 + b".", "longer than that of any checkpoint|not a plain torch state dict"),
        (b"\x8a\xff" + bytes(255) + b".", "not a plain torch state dict|is no state dict|it holds"),
        (b"(" * 1000, "not a plain torch state dict"),
    ],
)  # fmt: skip
def test_pickles_that_ask_for_more_than_tensors(tmp_path: Path, body: bytes, message: str, legacy: bool) -> None:
    file = pickled(tmp_path / "a.pt", b"\x80\2" + body, legacy)
    with pytest.raises(WeightError, match=message):
        imported(file)
    with pytest.raises(WeightError):
        zoo.state(file)
    assert sorted(os.listdir(tmp_path)) == ["a.pt"]


@pytest.mark.parametrize("legacy", [False, True])
def test_plain_files_of_torch_still_read(tmp_path: Path, legacy: bool) -> None:
    state = {
        "a": torch.rand(3, 4),
        "b": torch.nn.Parameter(torch.ones(2)).half(),
        "n": torch.tensor(7),
        "score": np.float64(0.5),
        "epoch": 3,
        "shape": torch.Size([1, 2]),
    }
    torch.save(state, tmp_path / "a.pt", _use_new_zipfile_serialization=not legacy)
    found = checkpoint.checkpoint(tmp_path / "a.pt")
    assert torch.equal(found["a"], state["a"])
    assert {key: found[key] for key in ("score", "epoch", "shape")} == {"score": 0.5, "epoch": 3, "shape": (1, 2)}


def test_tensors_without_strides_do_not_become_large(tmp_path: Path) -> None:
    torch.save({"g_ema": {"a.weight": torch.zeros(1).half().expand(1 << 40)}}, tmp_path / "a.pt")
    with pytest.raises(WeightError, match="claims 1099511627776 values"):
        zoo.float_state(checkpoint.checkpoint(tmp_path / "a.pt")["g_ema"], "g_ema")


@pytest.mark.parametrize("found", [[1], {"a": 1}, {1: torch.zeros(1)}, {"a": torch.zeros(3).to_sparse()}, None])
def test_what_is_no_state_dict(tmp_path: Path, found: object) -> None:
    torch.save(found, tmp_path / "a.pt")
    with pytest.raises(WeightError, match="is no state dict"):
        zoo.state(tmp_path / "a.pt")


# --- safetensors and latents


def safetensors(path: Path, header: object, data: bytes = b"") -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


@pytest.mark.parametrize(
    ("header", "data"),
    [
        ({"a": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 4]}}, bytes(4)),
        ({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 1 << 40]}}, bytes(4)),
        ({"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}, bytes(4)),
        ({"a": {"dtype": "F32", "shape": [1 << 62, 1 << 62], "data_offsets": [0, 4]}}, bytes(4)),
        ({"a": {"dtype": "F8_E4M3", "shape": [4], "data_offsets": [0, 4]}}, bytes(4)),
        ({"a": {"dtype": "C64", "shape": [1], "data_offsets": [0, 8]}}, bytes(8)),
        (b'{"a":' * 5000, b""),
        (b" " * (5 << 20) + b"{}", b""),
    ],
)
def test_safetensors_that_claim_too_much(tmp_path: Path, header: object, data: bytes) -> None:
    file = safetensors(tmp_path / "a.safetensors", header, data)
    with pytest.raises(WeightError, match=r"a\.safetensors: "):
        zoo.state(file)


@pytest.mark.parametrize("config", ["[" * 100_000, "[1]", "{", "NaN", "1" * 5000])
def test_settings_that_are_none(tmp_path: Path, config: str) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "a.safetensors", {"config": config})
    with pytest.raises(WeightError, match="its config cannot be read"):
        zoo.stored_config(tmp_path / "a.safetensors")


ORIGIN = {"generator": "g", "size": 256, "weights": {}, "photo": [8, 8]}
PLACE = {"quad": {"corner": [0, 0], "right": [1, 0], "down": [0, 1]}, "origin": ORIGIN}


@pytest.mark.parametrize(
    "about",
    [
        {**PLACE, "origin": {**ORIGIN, "photo": [float("inf"), 1]}},
        {**PLACE, "origin": {**ORIGIN, "weights": 5}},
        {**PLACE, "origin": {**ORIGIN, "size": "x"}},
        {**PLACE, "origin": [1]},
        {**PLACE, "quad": {"corner": [0, 0], "right": [float("nan"), 0], "down": [0, 1]}},
        {**PLACE, "quad": {"corner": [0, 0], "right": [10**400, 0], "down": [0, 1]}},
        [],
        "[" * 100_000,
    ],
)
def test_latents_with_a_damaged_place(tmp_path: Path, about: object) -> None:
    text = about if isinstance(about, str) else json.dumps(about)
    save_file({"w_plus": torch.zeros(1, 2, 512)}, tmp_path / "a.safetensors", {"latents": text})
    with pytest.raises(DataError, match=r"a\.safetensors: "):
        read_latents(tmp_path / "a.safetensors")


@pytest.mark.parametrize("tensors", [{"noise_0": torch.zeros(1)}, {"w_plus": torch.zeros(1), "b": torch.zeros(1)}, {}])
def test_latents_without_latents(tmp_path: Path, tensors: dict[str, torch.Tensor]) -> None:
    save_file(tensors, tmp_path / "a.safetensors", {"latents": json.dumps(PLACE)})
    with pytest.raises(DataError, match="not a latent file"):
        read_latents(tmp_path / "a.safetensors")


# --- OpenVINO's files


def graph(path: Path, xml: bytes, data: bytes = bytes(16)) -> tuple[Path, Path]:
    (path / "a.xml").write_bytes(xml)
    (path / "a.bin").write_bytes(data)
    return path / "a.xml", path / "a.bin"


def constant(id: int, **fields: object) -> str:
    known = {"element_type": "f32", "shape": "4", "offset": 0, "size": 16, **fields}
    data = " ".join(f'{key}="{value}"' for key, value in known.items())
    return f'<layer id="{id}" name="n{id}" type="Const"><data {data}/></layer>'


ENTITIES = '<!DOCTYPE a [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><net>&b;</net>'


@pytest.mark.parametrize(
    ("xml", "message"),
    [
        (ENTITIES.encode(), "declares a document type"),
        (ENTITIES.encode("utf-16-le"), "not readable as XML"),  # NULs are UTF-8 too
        (b'<?xml version="1.0" encoding="cp037"?>' + ENTITIES.encode("cp037"), "not readable as XML"),
        ("".join(["<net><layers>", *(constant(k) for k in range(9)), "</layers></net>"]).encode(), "claim 144 bytes"),
        (f"<net><layers>{constant(1)}{constant(1)}</layers></net>".encode(), "two layers with the id '1'"),
        (f"<net><layers>{constant(1, shape='0' + 2 * ',99999999999', size=0)}</layers></net>".encode(), "claims shape"),
        (f"<net><layers>{constant(1, shape='-4')}</layers></net>".encode(), "not a natural number"),
        (f"<net><layers>{constant(1, offset=17)}</layers></net>".encode(), "ends at byte 33"),
        (b"<a>" * 400_000 + b"</a>" * 400_000, "more than any of its kind"),
        (b"<a>" * 250_000 + b"</a>" * 250_000, "not a complete IR graph"),
    ],
)  # fmt: skip
def test_graphs_that_claim_too_much(tmp_path: Path, xml: bytes, message: str) -> None:
    with pytest.raises(WeightError, match=message):
        read_graph(*graph(tmp_path, xml))


# --- the manifest


@pytest.mark.parametrize("name", ["../a", "/etc/passwd", "a/b", "a\\b", "..", ".", "", "a\0b", "a\x1b[2J", "c:a", 5])
def test_no_path_of_a_manifest_is_followed(name: Any) -> None:
    with pytest.raises(WeightError, match="not a plain file name"):
        WeightFile(name, 1, "0" * 64)
    if isinstance(name, str):
        with pytest.raises(WeightError, match="is not a name of a weight"):
            WeightRecord(name, "user", "", "", (WeightFile("a", 1, "0" * 64),))


@pytest.mark.parametrize("requirement", ["--index-url=http://evil", "a", "a==1 --pre", "a==1; x", "-r==1", "a@file:x"])
def test_no_option_of_pip_comes_from_a_manifest(requirement: str) -> None:
    with pytest.raises(WeightError, match="is not package==version"):
        WeightRecord("a.b", "pypi", "", "", (WeightFile("a", 1, "0" * 64, "a"),), requirement=requirement)


@pytest.mark.parametrize(
    "text",
    ["a = " + "[" * 5000, "[a.b]\nsource = 1", "a = 1", "[a]\nfiles = [1]", "\xff", "[a]\nfigures = 3", "[x]\ny=1"],
)
def test_damaged_manifests(text: str) -> None:
    with pytest.raises(WeightError, match=r"manifest\.toml: "):
        manifest.parsed(text.encode("latin-1"))


@pytest.mark.parametrize("wrong", [{"bytes": -1}, {"bytes": True}, {"bytes": 1.5}, {"sha256": "../x"}, {"member": 3}])
def test_records_of_another_type(wrong: dict[str, Any]) -> None:
    with pytest.raises(WeightError, match="has no"):
        WeightFile(**{"name": "a", "bytes": 1, "sha256": "0" * 64, **wrong})


# --- books, lists and settings


LINE = {"state": "done", "task": "matte", "photo": "a.jpg", "settings": "0", "files": {"alpha": "a_alpha.png"}}


@pytest.mark.parametrize(
    "wrong",
    [
        {"photo": {}}, {"task": []}, {"files": [1]}, {"files": {"alpha": 3}}, {"input": 7},
        {"files": {"alpha": "../../x"}},
        {"files": {"alpha": "/etc/passwd"}}, {"files": {"alpha": "a\0b"}}, {"options": "x"}, {"state": 1},
    ],
)  # fmt: skip
def test_lines_of_a_batch_with_other_types_or_places_are_left_out(tmp_path: Path, wrong: dict[str, Any]) -> None:
    text = "\n".join(json.dumps(line) for line in (LINE, {**LINE, **wrong}, LINE)) + "\n" + '{"a":' * 5000 + "\n"
    (tmp_path / "manifest.jsonl").write_text(text)
    assert list(lines(tmp_path / "manifest.jsonl")) == [LINE, LINE]
    assert Manifest(tmp_path).results() == {tmp_path / "a_alpha.png"}


@pytest.mark.parametrize("name", ["manifest.jsonl", "failures.jsonl"])
def test_books_that_are_links_are_not_followed(tmp_path: Path, name: str) -> None:
    (tmp_path / "precious").write_text("no line feed at its end")
    out = tmp_path / "out"
    out.mkdir()
    (out / name).symlink_to(tmp_path / "precious")
    with pytest.raises(UsageError, match=rf"{name}: is a link"):
        Manifest(out)
    assert (tmp_path / "precious").read_text() == "no line feed at its end"


@pytest.mark.parametrize("name", ["x" * 5000, "a\0b", "[" * 300 + "*"])
def test_names_in_lists_that_no_file_can_have(name: str) -> None:
    with pytest.raises(UsageError, match=r"is no name of a photo|matches no photo"):
        found_inputs([name])


def test_messages_about_listed_names_are_single_lines(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        found_inputs([f"{tmp_path}/a\nb*"])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    ["max-pixels = " + "9" * 400, "[enhance]\nrate = nan", "[enhance]\nrate = inf", '[matte]\ntrimap = "a\\u0000b"',
     '[matte]\ntrimap = "' + "x" * 5000 + '/../../../y"', '[matte]\ntrimap = "../x"', "a = " + "[" * 5000],
)  # fmt: skip
def test_settings_that_no_option_takes(tmp_path: Path, text: str) -> None:
    (tmp_path / "sgmatte.toml").write_text(text)
    with pytest.raises(UsageError, match=r"sgmatte\.toml"):
        settings_in([Source(tmp_path / "sgmatte.toml", True)], commands_of(app))


def test_a_photo_from_stdin_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(photos, "LARGEST_STDIN", 1000)
    stream = photos._Limited(io.BytesIO(bytes(1001)))
    stream.read(1000)
    with pytest.raises(PhotoError, match="stdin: more than"):
        stream.read(1000)


# --- what is written


def test_a_link_in_the_place_of_a_result_is_replaced_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside.png"
    outside.write_bytes(b"precious")
    out = tmp_path / "out"
    out.mkdir()
    for name in ("a.png", "b.json", "dangling.bin"):
        (out / name).symlink_to(outside if name != "dangling.bin" else tmp_path / "nowhere")
    write_image(out / "a.png", torch.zeros(1, 1, 2, 2))
    write_json(out / "b.json", {"a": 1})
    write_bytes(out / "dangling.bin", b"x")
    assert outside.read_bytes() == b"precious"
    assert not (tmp_path / "nowhere").exists()
    assert not any(path.is_symlink() for path in out.iterdir())


def test_names_that_are_no_utf8(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    name = os.fsdecode(b"n\xff\x1bme_cutout.png")
    Image.new("RGBA", (8, 8), (255, 0, 0, 128)).save(tmp_path / name)
    stdout = io.TextIOWrapper(io.FileIO(os.dup(1), "w"), encoding="utf-8")
    monkeypatch.setattr("sys.stdout", stdout)
    monkeypatch.setattr("sys.argv", ["sgmatte", "composite", str(tmp_path / name), "-b", "white"])
    with pytest.raises(SystemExit) as left:
        main()
    stdout.close()
    assert left.value.code in (0, None)
    assert capfdbinary.readouterr().out.endswith(b"n\xff\x1bme_composite.png\n")
    write_json(tmp_path / "a.json", {"name": name})
    assert json.loads((tmp_path / "a.json").read_bytes())["name"] == name


def test_the_directory_of_a_zip_is_measured_as_zipfile_does(tmp_path: Path) -> None:
    plain = io.BytesIO()
    torch.save({"a": torch.zeros(3)}, plain)
    with zipfile.ZipFile(plain) as file:
        size = len(plain.getvalue()) - file.start_dir
    assert 0 < archive._directory_bytes(plain) <= size
