"""sgmatte from Python: pictures in every form, the same words and results as the command line."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import disc_alpha
from PIL import Image, ImageCms
from skimage import data
from typer.testing import CliRunner

import sgmatte
from sgmatte import api, inversion, pipeline, results
from sgmatte.cli import composite, enhance, invert, matte
from sgmatte.cli.app import app
from sgmatte.errors import PhotoError, TrimapError, UsageError
from sgmatte.inversion import Stage
from sgmatte.latents import read_latents
from sgmatte.masks import read_alpha, read_cutout, read_trimap
from sgmatte.observers import Observe
from sgmatte.photo import Photo, read_photo
from sgmatte.pictures import cutout_of, photo_of, trimap_of

SIZE = H, W = 150, 160
GENERATOR = ("--generator", "stylegan2-portrait-256")
QUICK = partial(inversion.Schedule, w_plus=Stage(2, 0.3), noise=Stage(2, 0.1, 0.06), enough=0)
# Options that say where results go, in what form, and what is shown meanwhile: results have `save`, callers `observe`.
OF_FILES_AND_SCREENS = {"out", "out_dir", "cutout", "picture", "quiet", "json"} | {
    *("format", "bits", "keep_metadata"),
    *("recursive", "files_from", "name", "skip_existing", "dry_run", "jobs", "engine", "report"),
}


@pytest.fixture(scope="module")
def session() -> sgmatte.Session:
    return sgmatte.Session("cpu")


@pytest.fixture(scope="module")
def portrait(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("photos") / "astronaut.png"
    Image.fromarray(data.astronaut()[:300, 60:380]).resize((W, H)).save(path)
    return path


@pytest.fixture(scope="module")
def matted(session: sgmatte.Session, portrait: Path) -> sgmatte.Matte:
    return session.matte(portrait)


def same(found: np.ndarray | torch.Tensor, wanted: np.ndarray | torch.Tensor) -> None:
    """Up to 8 bits and to what the last digits of a network do from run to run."""
    assert np.abs(np.asarray(found) - np.asarray(wanted)).mean() < 1 / 255


def options(command: object) -> dict[str, inspect.Parameter]:
    return dict(inspect.signature(command).parameters)  # type: ignore[arg-type]


# --- the package


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = "import sgmatte, sys; sys.exit(bool({'torch', 'numpy', 'PIL'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
    assert set(sgmatte.__all__) <= set(dir(sgmatte))
    assert all(getattr(sgmatte, name) for name in sgmatte.__all__)
    with pytest.raises(AttributeError, match="'sgmatte' has no attribute 'mate'"):
        sgmatte.mate  # noqa: B018


# --- the same words


@pytest.mark.parametrize(
    ("command", "method"),
    [
        (matte.matte, sgmatte.Session.matte),
        (matte.trimap, sgmatte.Session.trimap),
        (enhance.enhance, sgmatte.Session.enhance),
        (invert.invert, sgmatte.Session.invert),
        (composite.composite, sgmatte.Session.composite),
    ],
)
def test_words_and_defaults_are_those_of_the_command_line(command: object, method: object) -> None:
    theirs, ours = options(command), options(method)
    device = theirs.pop("device", None)
    assert device is None or device.default == options(sgmatte.Session)["device"].default
    photos = next(iter(theirs))
    wanted = {name: p.default for name, p in theirs.items() if name not in {photos, *OF_FILES_AND_SCREENS}}
    assert {name: ours[name].default for name in wanted if name in ours} == wanted
    assert set(ours) - set(wanted) <= {"self", "image", "cutout", "observe"}


@pytest.mark.parametrize("name", ["matte", "trimap", "enhance", "invert", "composite"])
def test_functions_are_methods_of_a_kept_session(name: str) -> None:
    function, method = getattr(sgmatte, name), getattr(sgmatte.Session, name)
    assert list(options(function)) == list(options(method))[1:]
    assert function.__doc__ == method.__doc__
    assert all(word in method.__doc__ for word in options(function) if word != "image")


def test_the_same_words_mean_the_same_settings(
    session: sgmatte.Session, portrait: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every option of `enhance`, away from its default."""
    words = {
        "generator": "stylegan2-portrait-256",
        "size": 256,
        "latents": str(tmp_path),
        "optimise": "noise",
        "steps": 7,
        "rate": 0.01,
        "paste": "full",
        "model": "closed-form",
        "face": 1,
        "whole": True,
        "landmarks": "mtcnn",
        "entropy_weight": 2.0,
        "pixel_weight": 3.0,
        "perceptual_weight": 4.0,
        "adversarial_weight": 0.0,
        "boundary_weight": 0.5,
        "confidence_weight": 0.25,
        "consistency_weight": 0.75,
        "consensus_weight": 1.5,
        "if_better": False,
        "critic": "another",
        "backgrounds": str(tmp_path),
        "perceptual": "effnet",
        "seed": 5,
        "max_pixels": 1_000_000,
    }
    assert set(words) == set(options(session.enhance)) - {"image", "observe"}
    seen = []

    def enhance_photo(photo: object, networks: pipeline.Networks, observe: object) -> None:
        seen.append(networks.settings)
        raise UsageError("far enough")

    monkeypatch.setattr(pipeline, "enhance_photo", enhance_photo)
    with pytest.raises(UsageError, match="far enough"):
        session.enhance(portrait, **words)
    spelled = {"latents": "--from", "if_better": "--always"}
    arguments = [
        part
        for name, value in words.items()
        for part in (
            spelled.get(name, "--" + name.replace("_", "-")),
            *([] if isinstance(value, bool) else [str(value)]),
        )
    ]
    result = CliRunner().invoke(app, ["enhance", str(portrait), *arguments])
    assert "far enough" in result.stderr
    assert seen[0] == seen[1]


# --- pictures


def forms(picture: np.ndarray) -> dict[str, object]:
    """An 8-bit picture in every form that it may come in."""
    planes = picture if picture.ndim == 3 else picture[..., None]
    return {
        "uint8": picture,
        "uint16": picture.astype(np.uint16) * 257,
        "float32": picture / np.float32(255),
        "float64": picture / 255,
        "strided": np.repeat(picture, 2, 1)[:, ::2],
        "tensor": torch.from_numpy(planes.transpose(2, 0, 1).copy())[None] / 255,
    }


def test_photos_in_every_form_are_the_same(portrait: Path) -> None:
    wanted = read_photo(portrait).image
    image = Image.open(portrait)
    for form in (
        str(portrait),
        portrait,
        image,
        image.convert("RGBA"),
        *forms(np.asarray(Image.open(portrait))).values(),
    ):
        found = photo_of(form)
        torch.testing.assert_close(found.image, wanted, rtol=0, atol=1e-6)
        assert found.image.dtype == torch.float32
    grey = np.arange(64, dtype=np.uint8).reshape(8, 8)
    assert torch.equal(photo_of(grey).image, photo_of(np.repeat(grey[..., None], 3, 2)).image)
    clear = photo_of(np.zeros((4, 5, 4), np.uint8))
    assert torch.equal(clear.image, torch.ones(1, 3, 4, 5))
    assert clear.notes == ("its transparent parts are shown on white",)


def test_trimaps_in_every_form_are_the_same(tmp_path: Path) -> None:
    levels = np.digitize(disc_alpha(H, W, 40, 20), (0.01, 0.99)).astype(np.uint8) * 127
    Image.fromarray(levels).save(tmp_path / "trimap.png")
    wanted = read_trimap(tmp_path / "trimap.png", SIZE)
    assert wanted.unique().tolist() == [0, 1, 2]
    for form in (
        tmp_path / "trimap.png",
        Image.fromarray(levels),
        wanted,
        wanted.to(torch.uint8),
        *forms(levels).values(),
    ):
        assert torch.equal(trimap_of(form, SIZE), wanted)
    mask = disc_alpha(H, W, 40) > 0.5
    Image.fromarray(mask).save(tmp_path / "mask.png")
    wanted = read_trimap(tmp_path / "mask.png", SIZE, 5)
    for form in (mask, Image.fromarray(mask), mask.astype(np.uint8) * 255, torch.from_numpy(mask)[None, None].float()):
        assert torch.equal(trimap_of(form, SIZE, 5), wanted)


def test_cutouts_in_every_form_are_the_same(tmp_path: Path) -> None:
    cutout = np.random.default_rng(0).integers(0, 256, (8, 9, 4)).astype(np.uint8)
    Image.fromarray(cutout).save(tmp_path / "cutout.png")
    wanted = read_cutout(tmp_path / "cutout.png")
    for form in (tmp_path / "cutout.png", Image.fromarray(cutout), *forms(cutout).values()):
        torch.testing.assert_close(cutout_of(form), wanted, rtol=0, atol=1e-6)


def test_open_images_are_read_as_their_files_are(tmp_path: Path) -> None:
    ramp = Image.fromarray(np.arange(96, dtype=np.uint8).reshape(4, 8, 3))
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    ramp.save(tmp_path / "turned.png", exif=exif, icc_profile=profile)
    with Image.open(tmp_path / "turned.png") as image:
        assert torch.equal(photo_of(image).image, read_photo(tmp_path / "turned.png").image)
    assert photo_of(image).size == (8, 4)
    Image.fromarray(np.random.default_rng(0).integers(256, size=(64, 64, 3)).astype(np.uint8)).save(
        tmp_path / "cut.png"
    )
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:6000])
    with Image.open(tmp_path / "cut.png") as image, pytest.raises(PhotoError, match="image: is truncated or damaged"):
        photo_of(image)
    with pytest.raises(PhotoError, match="image: 8x4 is 0 megapixels, the limit is"):
        photo_of(ramp, max_pixels=31)
    with pytest.raises(PhotoError, match="image: has no transparency"):
        cutout_of(ramp)


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        (np.zeros((4, 5, 2)), r"\(H, W, 4\), not \(4, 5, 2\)"),
        (np.zeros((0, 5, 3)), r"not \(0, 5, 3\)"),
        (np.zeros((4, 5, 3), np.int64), "not int64"),
        (np.full((4, 5, 3), 255.0), "these go from 255 to 255"),
        (np.full((4, 5, 3), np.nan), "from nan to nan"),
        (torch.zeros(3, 4, 5), r"expected \(1, 3, H, W\), not \(3, 4, 5\)"),
        (torch.zeros(1, 3, 4, 5, dtype=torch.uint8), "not torch.uint8"),
        (-torch.ones(1, 3, 4, 5), "from -1 to -1"),
        ("no-such-file.png", "no such file"),
    ],
)
def test_what_is_no_picture_says_so(picture: object, message: str) -> None:
    with pytest.raises(PhotoError, match=message):
        photo_of(picture)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("trimap", "width", "message"),
    [
        (np.zeros((*SIZE, 3)), None, "grey"),
        (np.zeros((4, 5)), None, "4"),
        (torch.ones(1, 1, 4, 5, dtype=torch.long), None, "wants"),
        (torch.full((1, 1, *SIZE), 128), None, "0 background, 1 unknown, 2 foreground"),
        (torch.ones(1, 1, *SIZE, dtype=torch.long), 4, "needs no --trimap-width"),
        (disc_alpha(H, W, 40, 20), None, "looks like an alpha"),
    ],
)
def test_what_is_no_trimap_says_so(trimap: object, width: float | None, message: str) -> None:
    with pytest.raises(TrimapError, match=message):
        trimap_of(trimap, SIZE, width)  # type: ignore[arg-type]


# --- the methods


def test_matte_gives_what_the_command_writes(
    session: sgmatte.Session, portrait: Path, matted: sgmatte.Matte, tmp_path: Path
) -> None:
    assert CliRunner().invoke(app, ["matte", str(portrait), "--cutout", "--out-dir", str(tmp_path)]).exit_code == 0
    assert (matted.alpha.shape, matted.alpha.dtype) == (SIZE, np.float32)
    assert (matted.cutout.shape, matted.foreground.shape) == ((*SIZE, 4), (*SIZE, 3))
    assert set(np.unique(matted.trimap)) == {0, 128, 255}
    same(read_alpha(tmp_path / "astronaut_alpha.png")[0, 0].numpy(), matted.alpha)
    same(read_alpha(matted.save(tmp_path / "mine.png"))[0, 0].numpy(), matted.alpha)
    same(read_cutout(tmp_path / "astronaut_cutout.png"), read_cutout(matted.save(tmp_path / "mine.png", "cutout")))
    trimap = session.trimap(portrait)
    same(trimap.trimap / 255, matted.trimap / 255)
    assert trimap.confidence.entropy == pytest.approx(matted.confidence.entropy, rel=1e-4)
    assert np.array_equal(np.asarray(Image.open(trimap.save(tmp_path / "a.png"))), trimap.trimap)
    assert np.array_equal(np.asarray(Image.open(matted.save(tmp_path / "b.png", "trimap"))), matted.trimap)
    fine = read_alpha(matted.save(tmp_path / "c.tif", bits=16))[0, 0].numpy()
    assert np.abs(fine - matted.alpha).max() < 1 / 65535
    assert len(np.unique(fine)) > 256  # of a photo of 8 bits: the network's own levels
    with Image.open(matted.save(tmp_path / "d.png", "cutout", keep_metadata=True)) as cutout:
        assert "icc_profile" in cutout.info


def test_a_trimap_of_ones_own(session: sgmatte.Session, portrait: Path, matted: sgmatte.Matte) -> None:
    pixels = np.asarray(Image.open(portrait))
    again = session.matte(pixels, matted.trimap)
    same(again.alpha, matted.alpha)
    of_mask = session.matte(pixels, matted.alpha > 0.5, trimap_width=6, model="closed-form")
    assert np.abs(of_mask.alpha - matted.alpha).mean() < 0.05
    with pytest.raises(UsageError, match="give the mask with --trimap"):
        session.matte(pixels, trimap_width=6)
    with pytest.raises(UsageError, match="unknown matting model 'gac'"):
        session.matte(pixels, model="gac")


def test_networks_stay_loaded(session: sgmatte.Session, portrait: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = session.matte(portrait)

    def load(*_: object) -> None:
        raise AssertionError("loaded again")

    monkeypatch.setattr("sgmatte.zoo.load_into", load)
    same(session.matte(portrait).alpha, before.alpha)
    with pytest.raises(AssertionError, match="loaded again"):
        sgmatte.Session("cpu").matte(portrait)


def test_composites(session: sgmatte.Session, portrait: Path, matted: sgmatte.Matte, tmp_path: Path) -> None:
    white = session.composite(matted, "white").image
    assert white[0, 0] == pytest.approx([1, 1, 1])
    file = matted.save(tmp_path / "x_cutout.png", "cutout")
    assert np.abs(session.composite(file, "white").image - white).max() < 2 / 255
    assert np.abs(session.composite(matted.cutout, np.ones((3, 3, 3))).image - white).max() < 1e-5
    blurred = session.composite(matted, "blur", photo=portrait, blur=4)
    assert blurred.save(tmp_path / "blurred.png").is_file()
    assert np.abs(blurred.image - read_photo(portrait).image[0].permute(1, 2, 0).numpy())[100, 80].max() < 0.02
    with pytest.raises(UsageError, match="needs the original photo"):
        session.composite(matted, "blur")
    with pytest.raises(PhotoError, match="cut-out: is 160x150 pixels, its --photo image 9x8"):
        session.composite(matted, "blur", photo=np.zeros((8, 9, 3)))


def test_enhance_works_on_arrays(
    session: sgmatte.Session, portrait: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inversion, "Schedule", QUICK)
    stages = []
    result = session.enhance(
        np.asarray(Image.open(portrait)),
        generator="stylegan2-portrait-256",
        steps=1,
        observe=lambda stage, done, total: stages.append(stage),
    )
    assert (result.image.shape, result.matte.alpha.shape) == ((*SIZE, 3), SIZE)
    assert len(result.report["losses"]["enhancement"]) == 2
    assert list(dict.fromkeys(stages)) == ["face", "inversion", "enhancement", "trimap", "alpha"]
    assert {file.name for file in result.save(tmp_path)} >= {"image_enhanced.png", "image_report.json"}
    on_blue = session.composite(result, "blue").image
    assert on_blue[0, 0] == pytest.approx([0, 0, 1])


def test_an_inversion_is_what_enhance_goes_on_from(
    session: sgmatte.Session, portrait: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inversion, "Schedule", QUICK)
    stages = []
    words = {"generator": "stylegan2-portrait-256", "whole": True}
    found = session.invert(portrait, **words, observe=lambda stage, *_: stages.append(stage))  # type: ignore[arg-type]
    assert (found.image.shape, found.notes) == ((256, 256, 3), ())
    assert 0 <= found.image.min() < found.image.max() <= 1
    assert found.psnr == found.tensors.psnr > 0
    assert list(dict.fromkeys(stages)) == ["face", "inversion"]
    file = found.save(tmp_path / "a.safetensors")
    assert torch.equal(read_latents(file).w_plus, found.latents.w_plus)
    later = session.enhance(portrait, latents=file, steps=0, **words)  # type: ignore[arg-type]
    assert later.report["psnr"]["inversion"] == pytest.approx(found.psnr, abs=1e-3)
    CliRunner().invoke(
        app, ["invert", str(portrait), "--whole", "--out-dir", str(tmp_path), *GENERATOR, "--device=cpu"]
    )
    assert read_latents(tmp_path / "astronaut_latents.safetensors").quad == found.latents.quad


# --- the documentation


def test_the_examples_in_the_documentation_run(
    session: sgmatte.Session,
    portrait: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    whole = pipeline.enhance_photo

    def shorter(photo: Photo, networks: pipeline.Networks, observe: Observe) -> results.Enhanced:
        settings = networks.settings
        assert settings.optimisation.steps == 20
        settings = replace(settings, size=256, optimisation=replace(settings.optimisation, steps=0))
        return whole(photo, networks.under(settings), observe)

    monkeypatch.setattr(api, "_session", lambda: session)
    monkeypatch.setattr(pipeline, "enhance_photo", shorter)
    monkeypatch.setattr(inversion, "Schedule", QUICK)
    monkeypatch.chdir(tmp_path)
    for name in ("photo.jpg", "other.jpg"):
        Image.open(portrait).save(name)
    text = (Path(__file__).parents[1] / "docs" / "python.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "docs/python.md", "exec"), names)
    out = capsys.readouterr().out
    assert "alpha: 1/1\n" in out
    assert "missing.jpg: no such file\n" in out
    files = {"alpha.png", "blue.png", "cutout.png", "print.tif", "other.jpg.png", "photo.jpg.png", "results"}
    assert files <= {path.name for path in tmp_path.iterdir()}
    assert (tmp_path / "results" / "photo_cutout.png").is_file()
