"""Reports: what the page holds, what lies beside it, and that nothing in a file name is taken for markup."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from PIL import Image

from sgmatte.batch.inputs import found_inputs
from sgmatte.batch.names import Job
from sgmatte.bench.report import drawn_run
from sgmatte.errors import SgmatteError, UsageError
from sgmatte.report.page import write_report
from sgmatte.report.previews import LARGE, SMALL
from sgmatte.report.records import Record, record_of
from sgmatte.trimaps import Confidence


def data_of(page: Path) -> dict:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page.read_text(), re.DOTALL)
    assert found
    return json.loads(found[1])


def saved(path: Path, width: int, height: int, mode: str = "RGB", **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    levels = np.linspace(0, 255, width * height * len(mode)).reshape(height, width, len(mode)).astype(np.uint8)
    Image.fromarray(levels.squeeze()).save(path, **options)
    return path


@pytest.fixture
def run(tmp_path: Path) -> list[Record]:
    return drawn_run(tmp_path / "photos", 3, scale=0.2)


def test_all_that_a_record_holds_is_in_the_page(tmp_path: Path) -> None:
    photo, alpha = saved(tmp_path / "a.jpg", 30, 20), saved(tmp_path / "a_alpha.png", 30, 20, "L")
    sure = Confidence(0.5, 0.2, 0.3, 0.12)
    record = Record(photo, {"alpha": alpha}, None, sure, (0.2, 0.1), ("a note",), 1.5)
    page = write_report(tmp_path / "report.html", [record], title="a run")
    (entry,) = data_of(page)["photos"]
    assert (entry["name"], entry["pixels"], entry["error"]) == ("a.jpg", [30, 20], None)
    assert (entry["shares"], entry["entropy"], entry["change"]) == ([0.5, 0.2, 0.3], 0.12, [0.2, 0.1])
    assert (entry["notes"], entry["seconds"]) == (["a note"], 1.5)
    assert entry["links"] == {"photo": "a.jpg", "alpha": "a_alpha.png"}
    assert list(entry["pictures"]) == ["photo", "alpha", "cutout"]
    assert entry["pictures"]["photo"]["full"] == "a.jpg"
    assert "<title>a run</title>" in page.read_text()


def test_a_cutout_that_nobody_wrote_is_made_for_the_page(run: list[Record], tmp_path: Path) -> None:
    record = Record(run[0].photo, {"alpha": run[0].files["alpha"]})
    page = write_report(tmp_path / "report.html", [record])
    cutout = data_of(page)["photos"][0]["pictures"]["cutout"]
    assert cutout["full"] is None
    with Image.open(tmp_path / cutout["small"]) as made, Image.open(record.files["alpha"]) as alpha:
        assert made.mode == "RGBA"
        assert made.size == alpha.size
        apart = np.asarray(made.getchannel("A"), float) - np.asarray(alpha, float)
    assert np.abs(apart).mean() < 3  # a JPEG lies between


def test_names_are_data(tmp_path: Path) -> None:
    names = ["<script>alert(1).jpg", "100% #1?.jpg", "javascript:alert(1).jpg", "é 'x' \"y\" & <!--.jpg"]
    photos = [saved(tmp_path / "in put" / name, 30, 20) for name in names]
    error = "</script><img src=x onerror=alert(1)>"
    page = write_report(tmp_path / "re port.html", [*map(Record, photos), Record(Path("x"), error=error)], title="<b>")
    text = page.read_text()
    assert text.count("</script>") == 2  # the data's and the script's own end
    assert "onerror" not in text.replace("\\u003cimg src=x onerror", "")
    assert "<b>" not in text
    entries = data_of(page)["photos"]
    assert [entry["name"] for entry in entries[:-1]] == names
    assert entries[-1]["error"] == error
    for entry in entries[:-1]:
        for url in (entry["links"]["photo"], *entry["pictures"]["photo"].values()):
            assert re.fullmatch(r"[\w./%~-]+", url, re.ASCII)
            assert (tmp_path / unquote(url)).is_file()


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such names")
def test_names_that_are_no_text_are_shown_and_linked(tmp_path: Path) -> None:
    name = os.fsdecode(b"\xff.jpg")
    try:
        photo = saved(tmp_path / name, 30, 20)
    except OSError:
        pytest.skip("the file system wants UTF-8")
    page = write_report(tmp_path / "report.html", [Record(photo)])
    assert data_of(page)["photos"][0]["links"]["photo"] == "%FF.jpg"


def test_only_what_was_written_here_may_run(run: list[Record], tmp_path: Path) -> None:
    text = write_report(tmp_path / "report.html", run).read_text()
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)
    assert policy
    assert policy[1].startswith("default-src 'none'; ")
    for tag, directive in (("style", "style-src"), ('script type="module"', "script-src")):
        inline = re.search(rf"<{tag}>(.*?)</{tag.split()[0]}>", text, re.DOTALL)
        assert inline
        digest = base64.b64encode(hashlib.sha256(inline[1].encode()).digest()).decode()
        assert f"{directive} 'sha256-{digest}';" in policy[1]
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", text)


def test_photos_may_lie_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved(tmp_path / "photos" / "a.jpg", 30, 20)
    monkeypatch.chdir(tmp_path)
    write_report(Path("out/deep/report.html"), [Record(Path("photos/a.jpg"))])
    assert data_of(tmp_path / "out/deep/report.html")["photos"][0]["links"]["photo"] == "../../photos/a.jpg"


def test_previews_are_small_upright_and_opaque(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6  # lies on its side
    lying = saved(tmp_path / "lying.jpg", 1600, 900, exif=exif)
    clear = saved(tmp_path / "clear.png", 20, 10, "RGBA")
    page = write_report(tmp_path / "report.html", [Record(lying), Record(clear)])
    first, second = data_of(page)["photos"]
    assert first["pixels"] == [900, 1600]
    with Image.open(tmp_path / first["pictures"]["photo"]["small"]) as small:
        assert (small.size, small.mode) == ((SMALL * 9 // 16, SMALL), "RGB")
    with Image.open(tmp_path / second["pictures"]["photo"]["small"]) as small:
        assert (small.size, small.mode) == ((20, 10), "RGB")
        assert min(small.getpixel((0, 0))) > 240  # clear there, and shown on white


def test_what_no_browser_shows_gets_a_large_preview(tmp_path: Path) -> None:
    photo = saved(tmp_path / "a.tif", 3000, 1500)
    page = write_report(tmp_path / "report.html", [Record(photo)])
    entry = data_of(page)["photos"][0]
    assert entry["links"]["photo"] == "a.tif"
    assert entry["pictures"]["photo"]["full"].endswith("_photo_large.jpg")
    with Image.open(tmp_path / entry["pictures"]["photo"]["full"]) as large:
        assert large.size == (LARGE, LARGE // 2)


def test_16_bits_are_shown_as_8(tmp_path: Path) -> None:
    Image.fromarray(np.full((8, 8), 65535, np.uint16)).save(tmp_path / "white.png")
    page = write_report(tmp_path / "report.html", [Record(tmp_path / "white.png")])
    with Image.open(tmp_path / data_of(page)["photos"][0]["pictures"]["photo"]["small"]) as small:
        assert small.getextrema() == ((255, 255),) * 3


def test_failures_are_shown_where_they_can_be_read(tmp_path: Path) -> None:
    photo = saved(tmp_path / "a.jpg", 30, 20)
    (tmp_path / "b.jpg").write_bytes(b"no photo")
    records = [
        Record(photo, error=f"{photo}: no face"),
        Record(tmp_path / "b.jpg", error=f"{tmp_path / 'b.jpg'}: not an image"),
        Record(photo, {"alpha": tmp_path / "b.jpg"}),
    ]
    page = write_report(tmp_path / "report.html", records)
    faceless, unreadable, damaged = data_of(page)["photos"]
    assert faceless["error"] == "no face"
    assert list(faceless["pictures"]) == ["photo"]
    assert (unreadable["error"], unreadable["pictures"], unreadable["notes"]) == ("not an image", {}, [])
    assert list(damaged["pictures"]) == ["photo"]
    assert damaged["notes"][0].startswith("no preview of the alpha: ")


def test_the_pixel_limit_holds_for_previews(tmp_path: Path) -> None:
    photo = saved(tmp_path / "a.jpg", 30, 20)
    page = write_report(tmp_path / "report.html", [Record(photo)], max_pixels=599)
    entry = data_of(page)["photos"][0]
    assert entry["pictures"] == {}
    assert "the limit is" in entry["notes"][0]


def test_a_report_written_again_is_the_same_and_makes_what_changed(run: list[Record], tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    before = write_report(path, run).read_bytes()
    previews = {file: file.stat().st_ino for file in (tmp_path / "report_files").iterdir()}  # a new file is another one
    assert write_report(path, run[::-1]).read_bytes() != before
    assert write_report(path, run).read_bytes() == before
    assert {file: file.stat().st_ino for file in (tmp_path / "report_files").iterdir()} == previews
    os.utime(run[1].photo, (1, 1))  # put back from a backup, say: older than it was, and perhaps another photo
    assert write_report(path, run).read_bytes() == before
    changed = [file for file, inode in previews.items() if file.stat().st_ino != inode]
    assert [file.name.partition("_")[2] for file in changed] == ["photo.jpg"]


def test_a_report_is_a_page(run: list[Record], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"end in \.html"):
        write_report(tmp_path / "report.pdf", run)
    (tmp_path / "report.html").mkdir()
    with pytest.raises(SgmatteError, match="cannot be written"):
        write_report(tmp_path / "report.html", [])


def test_records_are_read_from_a_batchs_books(tmp_path: Path) -> None:
    files = {"alpha": tmp_path / "a_alpha.png", "preview": tmp_path / "a_preview.png", "report": tmp_path / "a.json"}
    job = Job(Path("a.jpg"), files, tmp_path)
    line = {
        "state": "done",
        "confidence": {"background": 0.5, "unknown": 0.2, "foreground": 0.3, "entropy": None},
        "notes": ["n"],
        "seconds": 1.5,
    }
    pictures, sure = {"alpha": files["alpha"]}, Confidence(0.5, 0.2, 0.3)
    assert record_of(job, line) == Record(job.photo, pictures, confidence=sure, notes=("n",), seconds=1.5)
    files["report"].write_text('{"trimap_entropy": {"before": 0.2, "after": 0.1}}')
    assert record_of(job, line).entropy == (0.2, 0.1)
    assert record_of(job, None) == Record(job.photo, pictures, entropy=(0.2, 0.1))
    assert record_of(job, {"state": "failed", "error": "a.jpg: no"}) == Record(job.photo, error="a.jpg: no")


@pytest.mark.parametrize(
    "report", [b"", b"[]", b'{"trimap_entropy": {"before": NaN, "after": 1}}', b"[" * 5000, b"\xff"]
)
def test_books_that_are_not_sound_spoil_no_report(tmp_path: Path, report: bytes) -> None:
    files = {"alpha": tmp_path / "a_alpha.png", "report": tmp_path / "a.json"}
    files["report"].write_bytes(report)
    job, plain = Job(Path("a.jpg"), files, tmp_path), Record(Path("a.jpg"), {"alpha": files["alpha"]})
    for told in ({"sure": 1}, {"background": "x", "unknown": 0, "foreground": 1}, [1, 2, 3], "x", float("nan")):
        assert record_of(job, {"state": "done", "confidence": told, "notes": told, "seconds": told}) == plain
    more = {"background": 0.5, "unknown": 0.2, "foreground": 0.3, "sure": 0.9}  # of another version
    assert record_of(job, {"state": "done", "confidence": more}).confidence == Confidence(0.5, 0.2, 0.3)


def test_a_preview_that_is_damaged_is_told_and_the_page_is_written(tmp_path: Path) -> None:
    Image.new("RGB", (8, 6)).save(tmp_path / "a.png")
    record = Record(tmp_path / "a.png")
    write_report(tmp_path / "page.html", [record])
    (preview,) = (tmp_path / "page_files").iterdir()
    stamp = preview.stat().st_mtime_ns
    preview.write_bytes(b"no picture")
    os.utime(preview, ns=(stamp, stamp))
    write_report(tmp_path / "page.html", [record])
    assert "no preview of the photo" in (tmp_path / "page.html").read_text()


def test_a_pages_pictures_are_no_photos_of_a_folder(run: list[Record], tmp_path: Path) -> None:
    write_report(tmp_path / "report.html", run)
    (tmp_path / "other_files").mkdir()
    saved(tmp_path / "other_files" / "a.jpg", 30, 20)
    found = [entry.photo for entry in found_inputs([str(tmp_path)], recursive=True)]
    assert {photo.parent.name for photo in found} == {"other_files", "photos"}
