"""Official checkpoints of GCA, DeepLab and AlphaGAN, and SMPEG's zip. Every tensor repeats one number: small files."""

from __future__ import annotations

import io
import math
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from golden.fill import shapes
from torch import Tensor

from sgmatte import importers, zoo
from sgmatte import manifest as manifest_of_weights
from sgmatte.errors import WeightError
from sgmatte.importers import bundle, matting
from sgmatte.nn.alphagan import AlphaGAN
from sgmatte.nn.gca import GCA
from sgmatte.nn.stylegan2 import Generator

RECORD = '["stylegan2-ffhq.8"]\nsource = "import"\norigin = "here"\nlicence = "none"\ntrained_on = "nothing"\n'
STYLEGAN2, GCA_DIST, DEEPLAB = bundle.MEMBERS


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and the manifest with a place for the smallest StyleGAN2."""
    known = (manifest_of_weights.bundled_folder() / "manifest.toml").read_text(encoding="utf-8")
    (tmp_path / "manifest.toml").write_text(known + RECORD, encoding="utf-8")
    monkeypatch.setattr(manifest_of_weights, "bundled_folder", lambda: tmp_path)
    monkeypatch.setenv("SGMATTE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> float:
    """A width at which GCA and AlphaGAN are imported in these tests, where files are written."""
    monkeypatch.setattr(matting, "GCA_SETTINGS", {"width": 0.1})
    monkeypatch.setattr(matting, "ALPHAGAN_SETTINGS", {"width": 0.1, "dilated": "first"})
    return 0.1


def repeated(key: str, shape: tuple[int, ...]) -> Tensor:
    counted = key.endswith("num_batches_tracked")
    return torch.tensor(7) if counted else torch.tensor(0.5).expand(shape)


def gca_state(width: float = 1.0) -> dict[str, Tensor]:
    """Under the keys of the official file, prefixed as nn.DataParallel does."""
    with torch.device("meta"):
        plain = {key: tuple(value.shape) for key, value in GCA(width).state_dict().items()}
    state = {}
    for key in shapes("gca"):
        name, _, leaf = key.replace(".module.", ".").rpartition(".")
        shape = plain[f"{name}.{'weight' if leaf.startswith('weight_') else leaf}"]
        shape = {"weight_u": shape[:1], "weight_v": (math.prod(shape[1:]),)}.get(leaf, shape)
        state[f"module.{key}"] = repeated(key, shape)
    return state


def state_of(family: str) -> dict[str, Tensor]:
    return {key: repeated(key, shape) for key, shape in shapes(family).items()}


def generator_state() -> dict[str, Tensor]:
    with torch.device("meta"):
        network = Generator(8)
    return {key: repeated(key, tuple(value.shape)) for key, value in network.state_dict().items()}


def saved(content: object) -> bytes:
    stream = io.BytesIO()
    torch.save(content, stream)
    return stream.getvalue()


def zipped(folder: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(folder / "smpeg.zip", "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return folder / "smpeg.zip"


def test_gca_as_its_authors_save_it() -> None:
    state = gca_state()
    assert {key.removeprefix("module."): tuple(value.shape) for key, value in state.items()} == shapes("gca")
    (part,) = importers.gca_parts({"iter": 200000, "state_dict": state})
    assert (part.key, part.what, part.weight, part.config) == ("state_dict", "GCA", "gca.dist", {"width": 1.0})
    # 32 rows of 54 equal numbers w: the norm that is divided out is u . W v = 32 * 54 * 0.5 * 0.5 * w
    weight = part.state["encoder.conv1.weight"]
    torch.testing.assert_close(weight, torch.full((32, 6, 3, 3), 1 / (32 * 54 * 0.25)))


def test_deeplab_with_an_optimizer_and_a_score_of_numpy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[str] = []
    monkeypatch.setattr(importers, "_kept", lambda name, *rest: kept.append(name) or tmp_path)
    optimizer = {"state": {0: {"momentum_buffer": torch.zeros(3)}}, "param_groups": [{"lr": 0.007, "params": [0]}]}
    content = {"epoch": 49, "state_dict": state_of("deeplab"), "optimizer": optimizer, "best_pred": np.float64(0.93)}
    (tmp_path / "deeplab_model_best.pth.tar").write_bytes(saved(content))
    (part,) = importers.imported(tmp_path / "deeplab_model_best.pth.tar")
    assert (part.what, part.weight, part.config) == ("DeepLab on ResNet-101", "deeplab-resnet101.smpeg", {})
    assert kept == [part.weight]
    assert part.state["backbone.bn1.num_batches_tracked"] == 7


@pytest.mark.parametrize("prefix", ["", "module."])
def test_alphagan_as_a_bare_state_dict(prefix: str) -> None:
    (part,) = importers.alphagan_parts({prefix + key: value for key, value in state_of("alphagan_g").items()})
    assert (part.what, part.weight) == ("AlphaGAN", "alphagan.public")
    assert part.config == {"width": 1.0, "dilated": "first"}


def test_an_imported_weight_makes_its_network_again(tmp_path: Path, narrow: float) -> None:
    state = AlphaGAN(narrow).state_dict()
    (tmp_path / "alphagan.pth").write_bytes(saved(state))
    importers.imported(tmp_path / "alphagan.pth")
    network = zoo.load_into(AlphaGAN(**zoo.config("alphagan.public")), "alphagan.public")
    assert network.config["dilated"] == "first"
    assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())


def test_no_recogniser_takes_what_is_anothers() -> None:
    contents = {
        "stylegan2_parts": {"g_ema": generator_state()},
        "gca_parts": {"state_dict": gca_state()},
        "deeplab_parts": {"state_dict": state_of("deeplab")},
        "alphagan_parts": state_of("alphagan_g"),
    }
    for name, content in contents.items():
        assert [recogniser.__name__ for recogniser in importers.RECOGNISERS if recogniser(content)] == [name]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"module.encoder.conv1.module.weight_u": None}, r"encoder\.conv1\.module\.weight_bar has no spectral norm"),
        ({"module.encoder.conv1.module.weight_v": torch.ones(5)}, r"weight_bar has no spectral norm that fits"),
        ({"module.encoder.conv1.module.weight_bar": torch.ones(())}, r"weight_bar has no spectral norm that fits"),
        ({"module.encoder.conv1.module.weight_u": torch.zeros(2)}, r"has no spectral norm that fits"),
        (
            {"module.encoder.conv1.module.weight_v": torch.zeros(54)},
            r"encoder\.conv1\.weight holds values .* not finite",
        ),
        (
            {"module.encoder.bn1.weight": torch.ones(2)},
            r"no GCA: encoder\.bn1\.weight is \(2,\), the network wants \(3,\)",
        ),
        ({"module.encoder.bn1.weight": None}, r"no GCA: lacks encoder\.bn1\.weight"),
        ({"module.more": torch.ones(2)}, r"no GCA: has more"),
        ({"module.decoder.conv2.bias": torch.ones(1, dtype=torch.int64)}, r"no dense tensor of floating"),
        ({"module.encoder.bn1.num_batches_tracked": torch.ones(())}, None),
    ],
)
def test_gca_that_does_not_fit(narrow: float, change: dict[str, Tensor | None], message: str | None) -> None:
    state = gca_state(narrow) | change
    state = {key: value for key, value in state.items() if value is not None}
    if message is None:
        assert importers.gca_parts({"state_dict": state})
        return
    with pytest.raises(WeightError, match=message):
        importers.gca_parts({"state_dict": state})


def test_zip_as_downloaded(tmp_path: Path, home: Path, narrow: float) -> None:
    members = {
        "ckpt/": b"",
        "ckpt/README.txt": b"three checkpoints",
        GCA_DIST: saved({"state_dict": gca_state(narrow)}),
        STYLEGAN2: saved({"g_ema": generator_state(), "latent_avg": torch.zeros(512)}),
    }
    parts = importers.imported(zipped(tmp_path, members))
    assert [(part.key, part.weight) for part in parts] == [
        (f"{STYLEGAN2} g_ema", "stylegan2-ffhq.8"),
        (f"{STYLEGAN2} latent_avg", None),
        (f"{GCA_DIST} state_dict", "gca.dist"),
    ]
    assert [part.path for part in parts] == [zoo.path("stylegan2-ffhq.8"), None, zoo.path("gca.dist")]
    zoo.load_into(GCA(**zoo.config("gca.dist")), "gca.dist")
    assert not (home / "ckpt").exists()


@pytest.mark.parametrize("name", ["../../{}", "/{}", "C:\\{}", "{}/../../sprung", "\x1b[31m{}"])
def test_hostile_names_are_never_asked_for(tmp_path: Path, home: Path, narrow: float, name: str) -> None:
    hostile = {name.format(GCA_DIST): saved({"state_dict": gca_state(narrow)})}
    before = sorted(os.walk(tmp_path))
    with pytest.raises(WeightError, match=r"smpeg\.zip: a zip with none of ckpt/.*; it holds '[^\x1b]*'$"):
        importers.imported(zipped(tmp_path, hostile))
    (tmp_path / "smpeg.zip").unlink()
    assert sorted(os.walk(tmp_path)) == before

    file = zipped(tmp_path, {**hostile, GCA_DIST: saved({"state_dict": gca_state(narrow)})})
    assert [part.weight for part in importers.imported(file)] == ["gca.dist"]
    written = [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()]
    folder = "home/weights/gca-dist"
    expected = [f"{folder}/gca-dist.safetensors", f"{folder}/imported.json", "manifest.toml", "smpeg.zip"]
    assert sorted(written) == expected


def test_a_zip_is_imported_whole_or_not_at_all(tmp_path: Path, home: Path, narrow: float) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(tmp_path / "sprung"),)

    members = {GCA_DIST: saved({"state_dict": gca_state(narrow)}), DEEPLAB: saved(Trap())}
    with pytest.raises(WeightError, match=r"smpeg\.zip: ckpt/deeplab_.*\.mkdir, which could run code"):
        importers.imported(zipped(tmp_path, members))
    with pytest.raises(WeightError, match=r"smpeg\.zip: ckpt/deeplab_.*: state_dict is no DeepLab"):
        importers.imported(zipped(tmp_path, members | {DEEPLAB: saved({"aspp.aspp1.bn.weight": torch.ones(2)})}))
    assert not (tmp_path / "sprung").exists()
    assert not home.exists()


def test_damaged_and_oversized_members(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = zipped(tmp_path, {GCA_DIST: bytes(range(256)) * 40})
    content = bytearray(file.read_bytes())
    content[100] ^= 255
    file.write_bytes(content)
    with pytest.raises(
        WeightError, match=r"ckpt/gca-dist-all-data\.pth: cannot be read .*\(.*\); download the zip again"
    ):
        importers.imported(file)
    monkeypatch.setattr(bundle, "LARGEST", 2**20)
    with pytest.raises(WeightError, match=r"ckpt/gca-dist-all-data\.pth claims more than 1 MB"):
        importers.imported(zipped(tmp_path, {GCA_DIST: bytes(2**20 + 1)}))
