"""Which photos a batch has, and where their results go."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sgmatte.batch.inputs import Input, found_inputs, listed
from sgmatte.batch.names import Place, check_results, output_place
from sgmatte.errors import UsageError
from sgmatte.forms import Form
from sgmatte.writers import written


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    files = (
        "b.jpg a.png notes.txt .hidden.png a_alpha.png lone_alpha.png sub/c.JPG sub/deep/d.webp .git/e.png out/f.png"
    )
    for name in files.split():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"x")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names(inputs: list[Input]) -> list[str]:
    return [entry.photo.as_posix() for entry in inputs]


def test_a_folder_gives_its_photos_but_no_results_and_nothing_hidden(tree: Path) -> None:
    assert names(found_inputs(["."])) == ["a.png", "b.jpg", "lone_alpha.png"]
    found = found_inputs(["."], recursive=True, skipped=[tree / "out"])
    assert names(found) == ["a.png", "b.jpg", "lone_alpha.png", "sub/c.JPG", "sub/deep/d.webp"]
    assert [entry.folder.as_posix() for entry in found] == [".", ".", ".", "sub", "sub/deep"]
    assert names(found_inputs(["."], outputs=[tree / "b.jpg"])) == ["a.png", "lone_alpha.png"]


def test_what_is_named_is_a_photo_whatever_it_is_called(tree: Path) -> None:
    assert names(found_inputs(["a_alpha.png", ".hidden.png", "missing.png"])) == [
        *("a_alpha.png", ".hidden.png", "missing.png")
    ]
    assert all(entry.named for entry in found_inputs(["notes.txt"]))


def test_globs_keep_the_tree_below_what_is_fixed_of_them(tree: Path) -> None:
    assert names(found_inputs(["*.*"])) == ["a.png", "b.jpg", "lone_alpha.png"]
    found = found_inputs(["sub/**/*"])
    assert names(found) == ["sub/c.JPG", "sub/deep/d.webp"]
    assert [entry.folder.as_posix() for entry in found] == [".", "deep"]
    (tree / "x[1].png").touch()
    assert names(found_inputs(["x[1].png"])) == ["x[1].png"]
    with pytest.raises(UsageError, match="matches no photo"):
        found_inputs(["sub/*.gif"], ["a.png"])


def test_a_glob_of_a_list_that_matches_nothing_is_a_missing_photo(tree: Path) -> None:
    found = found_inputs([], ["s*b/*.JPG", "s*b/*.gif", "a.png"])
    assert names(found) == ["sub/c.JPG", "s*b/*.gif", "a.png"]
    assert [entry.root for entry in found] == [Path(), Path(), Path()]


def test_a_photo_counts_once(tree: Path) -> None:
    os.symlink(tree / "a.png", tree / "twin.png")
    assert names(found_inputs(["a.png", str(tree / "a.png"), ".", "twin.png"])) == ["a.png", "b.jpg", "lone_alpha.png"]


def test_links_to_folders_are_not_followed(tree: Path) -> None:
    os.symlink(tree, tree / "sub" / "round")
    assert len(found_inputs(["sub"], recursive=True)) == 2


@pytest.mark.parametrize(
    ("sources", "told"),
    [([], "no photos were given"), (["empty"], "no photos in this folder"), (["x*.png"], "matches no photo")],
)
def test_nothing_found_says_so(tree: Path, sources: list[str], told: str) -> None:
    (tree / "empty").mkdir()
    with pytest.raises(UsageError, match=told):
        found_inputs(sources)


def test_a_folder_of_folders_hints_at_recursive(tree: Path) -> None:
    (tree / "top" / "sub").mkdir(parents=True)
    with pytest.raises(UsageError, match="try --recursive"):
        found_inputs(["top"])


def test_lists_have_lines_or_nul() -> None:
    assert listed(b"a b.jpg\r\n\nc.jpg") == ["a b.jpg", "c.jpg"]
    assert listed(b"a\nb.jpg\0c.jpg\0") == ["a\nb.jpg", "c.jpg"]
    assert os.fsencode(listed(b"\xff.jpg\n")[0]) == b"\xff.jpg"


# --- where results go


def entry(photo: str = "in/sub/x.y.jpg", root: str = "in") -> Input:
    return Input(Path(photo), Path(root))


def files(place: Place, *kinds: str, of: Input | None = None) -> list[str]:
    job = place.job(of or entry(), kinds or ("alpha", "report"), {"report": ".json"})
    return [file.as_posix() for file in job.files.values()]


def test_results_lie_beside_the_photo_or_in_the_folder_with_the_tree() -> None:
    assert files(Place()) == ["in/sub/x.y_alpha.png", "in/sub/x.y_report.json"]
    assert files(Place(Path("out"))) == ["out/sub/x.y_alpha.png", "out/sub/x.y_report.json"]
    assert files(Place(file=Path("mine.tif"))) == ["mine.tif", "x.y_report.json"]
    assert Place(Path("out")).job(entry(), ["alpha"]).root == Path("out")
    assert Place().job(entry(), ["alpha"]).root == Path("in")


def test_names_of_the_users_own() -> None:
    assert files(Place(Path("out"), name="{kind}/{stem}-{ext}")) == [
        "out/sub/alpha/x.y-jpg.png",
        "out/sub/report/x.y-jpg.json",
    ]
    assert files(Place(Path("out"), name="{stem}.{kind}.webp")) == ["out/sub/x.y.alpha.webp", "out/sub/x.y.report.json"]
    assert files(Place(name="{stem}_a.tif"), "alpha") == ["in/sub/x.y_a.tif"]


def test_previews_are_png_unless_a_name_says_otherwise(tmp_path: Path) -> None:
    kinds, picture = ("enhanced", "preview", "report"), np.zeros((4, 5, 3), np.uint8)
    for form, name, suffix, stored in (
        (Form(), None, "png", "PNG"),
        (Form("webp"), None, "png", "PNG"),
        (Form("webp"), "{stem}_{kind}", "png", "PNG"),
        (Form(), "{kind}/{stem}.jpg", "jpg", "JPEG"),
        (Form(bits=16), "{kind}/{stem}.tiff", "tiff", "TIFF"),
    ):
        job = Place(tmp_path, name=name).job(entry(), kinds, form.suffixes(kinds))
        form.check(job.files)
        preview = job.files["preview"]
        assert preview.suffix == f".{suffix}"
        assert job.files["report"].suffix == ".json"
        written("preview", preview, picture, form)
        with Image.open(preview) as found:
            assert found.format == stored


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("{stem}.png", "needs {kind}"),
        ("{kind}.png", "needs {stem}"),
        ("../{stem}_{kind}.png", "leaves the output folder"),
        ("/tmp/{stem}_{kind}.png", "leaves the output folder"),
        ("{stem.__class__}_{kind}", "can stand in braces"),
        ("{stem!r}{kind}", "can stand in braces"),
        ("{stem}{0}", "can stand in braces"),
        ("{stem", "expected '}'"),
    ],
)
def test_names_that_cannot_be(name: str, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        files(Place(Path("out"), name=name))


def test_a_link_in_the_output_folder_leads_nothing_out_of_it(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "elsewhere").mkdir()
    os.symlink(tmp_path / "elsewhere", tmp_path / "out" / "sub")
    with pytest.raises(UsageError, match="a link leads out of the output folder"):
        files(Place(tmp_path / "out"))
    os.symlink(tmp_path / "out", tmp_path / "alias")  # the folder itself may be a link
    assert Place(tmp_path / "alias").job(entry("in/x.jpg"), ["alpha"]).files


def test_what_out_means(tmp_path: Path) -> None:
    assert output_place("x.png", None, None, several=False) == Place(file=Path("x.png"))
    assert output_place(str(tmp_path), None, None, several=False) == Place(tmp_path)
    assert output_place("new/", None, None, several=False) == Place(Path("new"))
    assert output_place("new", None, None, several=True) == Place(Path("new"))
    assert output_place(None, tmp_path, None, several=False) == Place(tmp_path)
    for given in (("new/", tmp_path, None), ("x.png", tmp_path, None)):
        with pytest.raises(UsageError):
            output_place(*given, several=False)
    with pytest.raises(UsageError, match="single result"):
        output_place("x.png", None, None, several=True)
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="is a file"):
        output_place(str(tmp_path / "file"), None, None, several=True)


def test_results_never_take_one_anothers_place_or_a_photos() -> None:
    twins = [Place(Path("out")).job(entry(f"in/x.{ext}"), ["alpha"]) for ext in ("jpg", "png")]
    with pytest.raises(UsageError, match=r"would be written twice.*--name"):
        check_results(twins)
    own = [Place(name="{stem}.png").job(entry("in/x.png"), ["alpha"])]
    with pytest.raises(UsageError, match="would overwrite the photo"):
        check_results(own)
