"""`sgmatte evaluate` on drawn alphas: which files meet, what is printed and written, and what is refused."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sgmatte import metrics
from sgmatte.cli.app import main
from sgmatte.errors import DataError, UsageError
from sgmatte.evaluation import error_colours, evaluation, files_at, material, mean_evaluation, worst_picture
from sgmatte.masks import read_alpha, read_trimap

Run = Callable[..., tuple[int, str, str]]
H, W = 24, 36
NAMES = ("ann", "bob", "cy")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run `sgmatte evaluate` in this process: arguments -> exit code, stdout, stderr."""

    def command(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["sgmatte", "evaluate", *map(str, arguments)])
        code: object = 0
        try:
            main()
        except SystemExit as left:
            code = left.code or 0
        out, err = capsys.readouterr()
        assert isinstance(code, int)
        return code, out, err

    return command


def saved(path: Path, values: np.ndarray) -> Path:
    path.parent.mkdir(exist_ok=True)
    Image.fromarray((np.clip(values, 0, 1) * 255).round().astype(np.uint8)).save(path)
    return path


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """gt, pred, trimap and image; ann is perfect, bob off by 0.1 in a corner, cy by 0.4."""
    y, x = np.mgrid[0:H, 0:W]
    disc = np.clip(9.5 - np.hypot(y - H / 2, x - W / 2), 0, 1)
    trimap = np.select([disc == 1, disc > 0], [1, 128 / 255], 0.0)
    trimap[:6, :6] = 128 / 255
    for name, error in zip(NAMES, (0, 0.1, 0.4), strict=True):
        damage = np.where((y < 4) & (x < 4), error, 0)
        saved(tmp_path / "gt" / f"{name}.png", disc)
        saved(tmp_path / "pred" / f"{name}_alpha.png", disc + damage)
        saved(tmp_path / "trimap" / f"{name}_trimap.png", trimap)
        saved(tmp_path / "image" / f"{name}.jpg", np.dstack([disc, x / W, y / H]))
    return tmp_path


# --- the library


def test_errors_are_those_of_metrics(folders: Path) -> None:
    case = material(folders / "pred", folders / "gt", folders / "trimap").case("cy")
    found = evaluation(case)
    alpha, truth = read_alpha(case.prediction), read_alpha(case.truth)
    assert found.whole.sad == metrics.sad(alpha, truth) == pytest.approx(16 * 0.4 / 1000)
    assert found.whole.mad == metrics.mad(alpha, truth)
    assert found.whole.gradient == metrics.gradient_error(alpha, truth)
    assert found.whole.connectivity == metrics.connectivity_error(alpha, truth) == pytest.approx(16 * 0.4 / 1000)
    assert found.whole.iou == 1  # 0.4 is not yet half opaque
    unknown = read_trimap(case.trimap, (H, W)) == 1
    assert found.unknown
    assert found.unknown.mse == metrics.mse(alpha, truth, unknown) > found.whole.mse
    assert found.severity == found.unknown.mse
    assert list(found.row())[5:7] == ["iou", "sad_unknown"]


def test_means_count_every_photo_the_same(folders: Path) -> None:
    given = material(folders / "pred", folders / "gt")
    each = [evaluation(given.case(name)) for name in NAMES]
    mean = mean_evaluation(each)
    assert mean.unknown is None
    assert mean.whole.sad == pytest.approx(16 * (0.1 + 0.4) / 3 / 1000, rel=0.02)
    assert mean.whole.mse == pytest.approx(np.mean([e.whole.mse for e in each]))


def test_partners_by_name(folders: Path) -> None:
    given = material(folders / "pred", folders / "gt", folders / "trimap", folders / "image")
    case = given.case("ann")
    assert [case.prediction.name, case.truth.name] == ["ann_alpha.png", "ann.png"]
    assert case.trimap == folders / "trimap" / "ann_trimap.png"
    assert case.photo == folders / "image" / "ann.jpg"
    back = material(folders / "gt", folders / "pred").case("ann")  # the ending may be on either side
    assert (back.prediction, back.truth) == (case.truth, case.prediction)


def test_results_beside_their_photos(tmp_path: Path) -> None:
    for name in ("ann.jpg", "ann_alpha.png", "ann_cutout.png", "ann_trimap.png"):
        saved(tmp_path / name, np.zeros((4, 4)))
    assert files_at(tmp_path, "_alpha").by_name["ann"].name == "ann_alpha.png"
    assert files_at(tmp_path, "_trimap").by_name["ann"].name == "ann_trimap.png"
    assert files_at(tmp_path).by_name["ann"].name == "ann.jpg"
    saved(tmp_path / "ann_alpha.bmp", np.zeros((4, 4)))
    with pytest.raises(DataError, match=r"ann_alpha\.bmp and ann_alpha\.png are both for ann"):
        files_at(tmp_path, "_alpha")


def test_a_folder_without_images(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(DataError, match="holds no image"):
        files_at(tmp_path)
    with pytest.raises(DataError, match="no such file or folder"):
        files_at(tmp_path / "none")


def test_files_and_folders_do_not_mix(folders: Path) -> None:
    with pytest.raises(UsageError, match="a file each or a folder each"):
        material(folders / "pred", folders / "gt", folders / "trimap" / "ann_trimap.png")


def test_colours_of_errors() -> None:
    alpha, truth = (torch.tensor(v).view(1, 1, 1, 3) for v in ([0.5, 1.0, 0.0], [0.5, 0.0, 1.0]))
    assert error_colours(alpha, truth)[0, :, 0].T.tolist() == [[1, 1, 1], [1, 0, 0], [0, 0, 1]]


def test_the_picture_has_a_row_for_each_of_the_worst(folders: Path) -> None:
    given = material(folders / "pred", folders / "gt", None, folders / "image")
    found = {case: evaluation(case) for case in map(given.case, NAMES)}
    one, two = (worst_picture(found, count, panel=60) for count in (1, 2))
    assert one.shape[1] == two.shape[1]
    assert one.shape[0] < two.shape[0] <= 2 * one.shape[0]
    assert np.array_equal(one[: one.shape[0] - 20], two[: one.shape[0] - 20])  # the worst comes first
    pink = (one[..., 0] > 250) & (one[..., 1] < 160) & (one[..., 2] < 160)
    assert pink.any()  # cy's corner


# --- the command


def test_means_and_rows(run: Run, folders: Path) -> None:
    code, out, err = run(folders / "pred", folders / "gt")
    assert (code, "error" in err) == (0, False)
    lines = out.split("\n")
    assert lines[0].split() == ["region", "SAD", "MSE", "MAD", "Grad", "Conn", "IoU"]
    assert lines[1].split()[:5] == ["mean", "of", "3", "whole", "0.003"]
    code, out, _ = run(folders / "pred", folders / "gt", "--trimap", folders / "trimap", "--all")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()[1:]] == [
        word for name in (*NAMES, "mean") for word in (name, "unknown")
    ]
    assert out.splitlines()[1].split() == ["ann", "whole", "0.000", "0.00000", "0.00000", "0.000", "0.000", "1.0000"]


def test_two_files_need_no_common_name(run: Run, folders: Path) -> None:
    other = (folders / "pred" / "cy_alpha.png").rename(folders / "mine.png")
    code, out, _ = run(other, folders / "gt" / "cy.png", "--trimap", folders / "trimap" / "cy_trimap.png")
    assert code == 0
    assert "mean of 1" in out


def test_csv_json_and_picture(run: Run, folders: Path) -> None:
    table, picture = folders / "out" / "errors.csv", folders / "out" / "worst.png"
    arguments = ("--trimap", folders / "trimap", "--images", folders / "image", "--csv", table, "--worst", picture)
    code, out, _ = run(folders / "pred", folders / "gt", *arguments, "--json")
    assert code == 0
    assert out.count("\n") == 1
    result = json.loads(out)
    assert (result["photos"], result["errors"]) == (3, {})
    with table.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row.pop("name") for row in rows] == list(NAMES)
    assert {k: float(v) for k, v in rows[2].items()} == result["each"]["cy"]
    assert len(rows[0]) == 12
    with Image.open(picture) as sheet:
        assert sheet.width > 4 * 320
    before = table.read_bytes(), picture.read_bytes()
    run(folders / "pred", folders / "gt", *arguments, "--quiet")
    assert (table.read_bytes(), picture.read_bytes()) == before


def test_what_cannot_be_compared_costs_a_line_each(run: Run, folders: Path) -> None:
    (folders / "pred" / "ann_alpha.png").unlink()
    saved(folders / "pred" / "bob_alpha.png", np.zeros((H, W - 1)))
    (folders / "gt" / "dan.png").write_bytes(b"no image")
    saved(folders / "pred" / "dan.png", np.zeros((H, W)))
    saved(folders / "pred" / "eve.png", np.zeros((H, W)))
    code, out, err = run(folders / "pred", folders / "gt")
    assert code == 2
    assert "mean of 1, 3 failed" in out
    missing, size, damaged = (" ".join(line.split()) for line in err.splitlines() if line.startswith("error: "))
    assert "ann.png: has no partner in" in missing
    assert f"bob_alpha.png is {W - 1}x{H}, its truth" in size
    assert "dan.png: not an image" in damaged
    assert "1 files in" in err
    assert "eve.png" in err
    failed = json.loads(run(folders / "pred", folders / "gt", "--json")[1])
    assert set(failed["errors"]) == {"ann", "bob", "dan"}
    assert set(failed["each"]) == {"cy"}


def test_nothing_at_all(run: Run, folders: Path) -> None:
    for path in (folders / "pred").iterdir():
        path.write_bytes(b"")
    code, out, err = run(folders / "pred", folders / "gt", "--csv", folders / "errors.csv")
    assert (code, out) == (2, "")
    assert err.count("the file is empty") == 3
    assert not (folders / "errors.csv").exists()


def test_trimaps_that_do_not_fit(run: Run, folders: Path) -> None:
    saved(folders / "trimap" / "ann_trimap.png", np.zeros((H, W + 1)))
    saved(folders / "trimap" / "bob_trimap.png", np.tile(np.arange(W) > 9, (H, 1)).astype(float))
    code, _, err = run(folders / "pred", folders / "gt", "--trimap", folders / "trimap")
    assert code == 2
    assert f"the trimap is {W + 1}x{H}" in err
    assert "no unknown (grey) pixels" in err


def test_a_table_that_cannot_be_written(run: Run, folders: Path) -> None:
    code, _, err = run(folders / "pred", folders / "gt", "--csv", folders / "gt" / "ann.png" / "errors.csv")
    assert code == 2
    assert "errors.csv: cannot be written" in err
