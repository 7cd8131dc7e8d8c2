"""Official checkpoints: recognised by their keys, checked against their architecture, never run."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import typing
from pathlib import Path

import pytest
import torch

from sgmatte import generators, importers, zoo
from sgmatte import manifest as manifest_of_weights
from sgmatte.cli import options
from sgmatte.cli.app import main
from sgmatte.errors import UsageError, WeightError
from sgmatte.generator import load_generator, load_stylegan2
from sgmatte.generators import GENERATORS, Choice, chosen_generator
from sgmatte.nn.stylegan2 import Generator
from sgmatte.nn.stylegan2_discriminator import Discriminator

SIDE = 8  # pixels of the StyleGAN2 in these tests: the smallest, with 512 channels all the same
WEIGHT, JUDGE = f"stylegan2-ffhq.{SIDE}", f"stylegan2-ffhq-discriminator.{SIDE}"
ORIGIN = "https://example.org/stylegan2.zip"
RECORD = '["{}"]\nsource = "import"\norigin = "{}"\nlicence = "none"\ntrained_on = "nothing"\n'


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and a manifest with places for StyleGAN2 at SIDE pixels."""
    (tmp_path / "bundle").mkdir()
    text = RECORD.format(WEIGHT, ORIGIN) + RECORD.format(JUDGE, ORIGIN)
    (tmp_path / "bundle" / "manifest.toml").write_text(text)
    monkeypatch.setattr(manifest_of_weights, "bundled_folder", lambda: tmp_path / "bundle")
    monkeypatch.setenv("SGMATTE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def narrow(kind: type[torch.nn.Module], *arguments: int) -> dict[str, torch.Tensor]:
    """The state of a network as a file of a few kilobytes can hold it: every tensor repeats one random number."""
    random = torch.Generator().manual_seed(0)
    with torch.device("meta"):
        shapes = {key: value.shape for key, value in kind(*arguments).state_dict().items()}
    return {key: torch.rand((), generator=random).expand(shape) for key, shape in shapes.items()}


def generator_state(size: int = SIDE) -> dict[str, torch.Tensor]:
    return narrow(Generator, size)


def discriminator_state(size: int = SIDE) -> dict[str, torch.Tensor]:
    return narrow(Discriminator, size)


def saved(folder: Path, content: object) -> Path:
    torch.save(content, folder / "checkpoint.pt")
    return folder / "checkpoint.pt"


def test_whole_checkpoint_becomes_two_weights(tmp_path: Path, home: Path) -> None:
    content = {
        "g": generator_state(),
        "g_ema": {key: 2 * value[...] for key, value in generator_state().items()},
        "d": discriminator_state(),
        "latent_avg": torch.zeros(512),
    }
    parts = importers.imported(saved(tmp_path, content))
    assert [(part.key, part.weight) for part in parts] == [
        ("g_ema", WEIGHT),
        ("g", None),
        ("d", JUDGE),
        ("latent_avg", None),
    ]
    assert parts[0].what == f"StyleGAN2 generator of {SIDE} px, channel multiplier 2"
    assert (
        parts[0].path
        == zoo.path(WEIGHT)
        == home / "weights" / f"stylegan2-ffhq-{SIDE}" / f"{WEIGHT.replace('.', '-')}.safetensors"
    )
    drawn = load_stylegan2(WEIGHT, "cpu", exact=True)
    state = drawn.network.state_dict()
    assert state.keys() == content["g_ema"].keys()
    assert all(torch.equal(value, content["g_ema"][key]) for key, value in state.items())
    assert (drawn.size, drawn.layers, drawn.name) == (SIDE, 4, WEIGHT)
    judge = zoo.load_into(Discriminator(**zoo.config(JUDGE)), JUDGE)
    assert torch.equal(judge.final_linear[1].weight, content["d"]["final_linear.1.weight"])


def test_the_hash_of_an_import_is_noted_and_checked(tmp_path: Path) -> None:
    assert not zoo.present(WEIGHT)
    with pytest.raises(WeightError, match=rf"{WEIGHT}: not imported into .*{ORIGIN}.*`sgmatte weights import FILE`"):
        zoo.fetch(WEIGHT)
    file = importers.imported(saved(tmp_path, {"g_ema": generator_state()}))[0].path
    assert zoo.present(WEIGHT)
    assert not zoo.present(JUDGE)
    content = bytearray(file.read_bytes())
    (noted,) = zoo.record(WEIGHT).files
    assert (noted.bytes, noted.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(WeightError, match=r"sha256 is .*, its import noted .*`sgmatte weights import FILE`"):
        zoo.path(WEIGHT)
    file.write_bytes(content[:-1])
    with pytest.raises(WeightError, match=r"has \d+ bytes, its import noted \d+"):
        zoo.path(WEIGHT)
    (file.parent / "imported.json").write_text("{")
    with pytest.raises(WeightError, match="not imported into"):
        zoo.path(WEIGHT)


@pytest.mark.parametrize("content", ["g", "bare"])
def test_other_forms_of_a_generator(tmp_path: Path, content: str) -> None:
    state = generator_state()
    (part,) = importers.imported(saved(tmp_path, state if content == "bare" else {"g": state}))
    assert part.weight == WEIGHT


def test_a_bare_discriminator_in_half_precision(tmp_path: Path) -> None:
    state = {key: value.half() for key, value in discriminator_state().items()}
    (part,) = importers.imported(saved(tmp_path, state))
    assert part.weight == JUDGE
    assert zoo.tensors(JUDGE)["final_conv.1.bias"].dtype == torch.float32


def test_config_f_is_recognised() -> None:
    """Both networks at 1024, without the 240 MB that a conversion would write."""
    parts = importers.stylegan2_parts({"g_ema": generator_state(1024), "d": discriminator_state(1024)})
    assert [part.weight for part in parts] == ["stylegan2-ffhq.1024", "stylegan2-ffhq-discriminator.1024"]
    assert parts[0].config["channels"] == [512, 512, 512, 512, 512, 256, 128, 64, 32]


def test_multiplier_one() -> None:
    (part,) = importers.stylegan2_parts({"g_ema": narrow(Generator, 64, 1)})
    assert part.what == "StyleGAN2 generator of 64 px, channel multiplier 1"


def broken(change: str) -> dict[str, object]:
    content: dict[str, object] = {"g_ema": generator_state(), "d": discriminator_state()}
    state = content["g_ema"]
    assert isinstance(state, dict)
    if change == "shape":
        state["conv1.conv.weight"] = torch.zeros(1, 512, 256, 3, 3)
    elif change == "missing":
        del state["noises.noise_1"]
    elif change == "surplus":
        state["to_rgbs.7.bias"] = torch.zeros(1, 3, 1, 1)
    elif change == "channels":
        state["convs.1.conv.weight"] = torch.zeros(1, 500, 500, 3, 3)
    elif change == "depth":
        state.update({f"convs.{k}.conv.weight": torch.zeros(1) for k in range(40)})
    elif change == "integers":
        state["conv1.noise.weight"] = torch.zeros(1, dtype=torch.int64)
    elif change == "sparse":
        state["conv1.activate.bias"] = torch.zeros(512).to_sparse()
    elif change == "meta":
        state["conv1.activate.bias"] = torch.zeros(512, device="meta")
    elif change == "text":
        state["conv1.activate.bias"] = "zeros"
    elif change == "list":
        content["d"] = [torch.zeros(1)]
    elif change == "mean":
        content["latent_avg"] = torch.zeros(3)
    elif change == "nan":
        content["d"]["final_linear.1.bias"] = torch.tensor([float("nan")])  # type: ignore[index]
    return content


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            "shape",
            r"g_ema is no StyleGAN2 generator of 8 px, .*: conv1\.conv\.weight is \(1, 512, 256, 3, 3\), .* wants",
        ),
        ("missing", r"g_ema is no StyleGAN2 generator of 8 px, .*: lacks noises\.noise_1"),
        ("surplus", r"has to_rgbs\.7\.bias, which the network lacks"),
        ("channels", "g_ema has 500 channels at 8 px, which no channel multiplier gives"),
        ("depth", "g_ema has layers for 20 doublings"),
        ("integers", r"g_ema: conv1\.noise\.weight is no dense tensor of floating numbers"),
        ("sparse", r"conv1\.activate\.bias is no dense tensor"),
        ("meta", r"conv1\.activate\.bias is no dense tensor"),
        ("text", r"conv1\.activate\.bias is no dense tensor"),
        ("list", "d is no state dict"),
        ("mean", "latent_avg is not a mean of W"),
        ("nan", r"d: final_linear\.1\.bias holds values that are not finite"),
    ],
)
def test_what_does_not_fit_is_refused_whole(tmp_path: Path, home: Path, change: str, message: str) -> None:
    with pytest.raises(WeightError, match=r"checkpoint\.pt: .*" + message):
        importers.imported(saved(tmp_path, broken(change)))
    assert not home.exists()


def test_sizes_without_a_place_are_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightError, match=r"g_ema is a StyleGAN2 generator of 16 px, .* has no use for"):
        importers.imported(saved(tmp_path, {"g_ema": generator_state(16)}))


@pytest.mark.parametrize(("content", "held"), [({"latent_avg": torch.zeros(512)}, "latent_avg"), ([1], "list")])
def test_unknown_checkpoints_are_named(tmp_path: Path, content: object, held: str) -> None:
    with pytest.raises(WeightError, match=f"not a checkpoint that sgmatte knows .* it holds {held}"):
        importers.imported(saved(tmp_path, content))


def test_code_in_a_pickle_is_not_run(tmp_path: Path, home: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(tmp_path / "sprung"),)

    with pytest.raises(
        WeightError, match=r"checkpoint\.pt: not a plain torch state dict .*\.mkdir, which could run code"
    ):
        importers.imported(saved(tmp_path, {"g_ema": generator_state(), "trap": Trap()}))
    assert not (tmp_path / "sprung").exists()
    assert not home.exists()


def test_settings_of_a_training_are_not_unpickled_either(tmp_path: Path) -> None:
    with pytest.raises(WeightError, match=r"it needs argparse\.Namespace, which could run code"):
        importers.imported(saved(tmp_path, {"g_ema": generator_state(), "args": argparse.Namespace(size=8)}))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x80\x02.", b"<html>Quota exceeded</html>", bytes(4000)])
def test_files_that_are_no_checkpoint(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.pt").write_bytes(content)
    with pytest.raises(WeightError, match=r"a\.pt: (not a plain torch state dict|cannot be read as the zip)"):
        importers.imported(tmp_path / "a.pt")


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(WeightError, match=r"none\.pt: no such file"):
        importers.imported(tmp_path / "none.pt")


def test_a_truncated_checkpoint(tmp_path: Path) -> None:
    file = saved(tmp_path, {"g_ema": generator_state()})
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(WeightError, match="cannot be read as the zip it should be"):
        importers.imported(file)


def test_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def run(*arguments: str) -> tuple[object, str, str]:
        monkeypatch.setattr("sys.argv", ["sgmatte", "weights", *arguments])
        with pytest.raises(SystemExit) as left:
            main()
        return left.value.code or 0, *capsys.readouterr()

    assert f"{WEIGHT}: not imported\n" in run("list")[1]
    file = saved(tmp_path, {"g_ema": generator_state(), "latent_avg": torch.zeros(512)})
    code, out, err = run("import", str(file))
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        f"g_ema: StyleGAN2 generator of {SIDE} px, channel multiplier 2, now {WEIGHT}: {zoo.path(WEIGHT)}",
        "latent_avg: mean of W, left aside",
    ]
    shown = json.loads(run("import", str(file), "--json")[1])["parts"]
    assert [part["weight"] for part in shown] == [WEIGHT, None]
    assert f"{WEIGHT}: imported, 42 MB" in run("list")[1]
    assert f"{WEIGHT}: ok\n{JUDGE}: not imported\n" in run("verify")[1]
    code, out, err = run("fetch", JUDGE)
    assert (code, out) == (1, "")
    assert f"download it by hand from {ORIGIN}" in err


# --- which generator draws


def test_choices_of_the_command_line_are_those_of_the_library() -> None:
    words = typing.get_args(typing.get_args(options.GeneratorChoice)[0])
    assert words == ("auto", *GENERATORS)


def test_the_best_generator_present_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    present: set[str] = set()
    monkeypatch.setattr(zoo, "present", lambda name: name in present)
    table = {
        "best": Choice("best.1", (1024,)),
        "good": Choice("good.1", (256, 1024)),
        "last": Choice("last.1", (256, 512)),
    }
    monkeypatch.setattr(generators, "GENERATORS", table)
    assert chosen_generator() == ("last", 256)
    assert chosen_generator("auto", 1024) == ("good", 1024)
    present.update(("best.1", "good.1"))
    assert chosen_generator() == ("good", 256)
    assert chosen_generator("auto", 1024) == ("best", 1024)
    assert chosen_generator("last") == ("last", 256)
    assert chosen_generator("best") == ("best", 1024)
    with pytest.raises(UsageError, match="there is no best of size 256; choose one of 1024"):
        chosen_generator("best", 256)
    with pytest.raises(UsageError, match="there is no generator of size 128; choose one of 256, 512, 1024"):
        chosen_generator("auto", 128)
    with pytest.raises(UsageError, match="no generator 'worst'; choose auto or one of best, good, last"):
        chosen_generator("worst")


def test_a_narrow_generator_behind_the_interface(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    narrow_one = Generator(SIDE, latent=16, depth=2, channels=(12, 8))
    importers._kept(WEIGHT, narrow_one.state_dict(), narrow_one.config)
    monkeypatch.setitem(GENERATORS, "tiny", Choice(WEIGHT, (SIDE,)))
    drawn = load_generator(SIDE)
    noise = drawn.default_noise()
    assert [tuple(m.shape) for m in noise] == drawn.noise_shapes == [(1, 1, 4, 4), (1, 1, 8, 8), (1, 1, 8, 8)]
    noise[0].fill_(7)
    assert drawn.default_noise()[0].max() < 7
    mean = drawn.mean_w(20)
    assert mean.shape == (1, 16)
    assert torch.equal(mean, drawn.mean_w(20))
    assert not torch.equal(mean, drawn.mean_w(20, seed=1))
    w_plus = mean[:, None].repeat(2, drawn.layers, 1).requires_grad_()
    image = drawn.synthesis(w_plus, noise)
    assert image.shape == (2, 3, SIDE, SIDE)
    network = load_stylegan2(WEIGHT, "cpu", False).network
    torch.testing.assert_close(image, (network(w_plus, noise) + 1) / 2)
    image.sum().backward()
    assert w_plus.grad is not None
    assert drawn.coarse is None
