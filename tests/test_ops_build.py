"""Building the operators: whatever happens to compiler, cache or build, the result is right."""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import sgmatte
from sgmatte import ops
from sgmatte.errors import OperatorError, UsageError
from sgmatte.health import health
from sgmatte.nn.mobilestylegan import Config, Synthesis
from sgmatte.nn.stylegan2 import Generator
from sgmatte.ops import build, native

RECIPE = build.cpu_recipe
needs_compiler = pytest.mark.skipif(build.cxx() is None or build.ninja() is None, reason="no compiler or no ninja")


def quick_recipe() -> build.Recipe:
    """The real one, but it compiles in a third of the time."""
    return dataclasses.replace(RECIPE(), flags=(*RECIPE().flags, "-O0"))


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and a process that has tried nothing yet."""
    monkeypatch.setenv("SGMATTE_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("SGMATTE_OPS", raising=False)
    monkeypatch.setattr(build, "cpu_recipe", quick_recipe)
    monkeypatch.setattr(native, "_states", {})
    monkeypatch.setattr(native, "_told", set())
    return tmp_path / "home"


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library, built once for the tests that start from one."""
    folder = tmp_path_factory.mktemp("ready")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SGMATTE_HOME", str(folder))
        return build.built(quick_recipe()).path


@pytest.fixture
def cache(home: Path, ready: Path) -> Path:
    """A cache that holds the library."""
    (home / "ops").mkdir(parents=True)
    return Path(shutil.copy(ready, home / "ops"))


def is_correct() -> bool:
    """Whether a picture of each generator is what plain torch makes of it."""
    torch.manual_seed(0)
    stylegan2, mobile = Generator(16, latent=8, depth=1, channels=(8, 8, 8)), Synthesis(Config(8, 8, (8,)))
    pictures = []
    for mode in (None, "reference"):
        with torch.no_grad(), pytest.MonkeyPatch.context() as patch:
            if mode:
                patch.setenv("SGMATTE_OPS", mode)
            w = torch.linspace(-2, 2, 8).expand(1, 6, -1)
            pictures.append((stylegan2(w), mobile(w[:, : mobile.config.layers])))
    return all(torch.allclose(found, right, atol=1e-5) for found, right in zip(*pictures, strict=True))


def no_compiled(caplog: pytest.LogCaptureFixture, why: str) -> bool:
    """A correct result without compiled operators, and one line that says why, however often they are wanted."""
    assert is_correct()
    assert is_correct()
    assert native.state("cpu").library is None
    (line,) = [record.getMessage() for record in caplog.records]
    assert why in line
    assert "\n" not in line
    return True


def test_no_compiler(monkeypatch, caplog, tmp_path):
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert no_compiled(caplog, "no C++ compiler found")
    monkeypatch.setenv("SGMATTE_OPS", "require")
    with pytest.raises(OperatorError, match=r"no C\+\+ compiler found.*SGMATTE_OPS=require"):
        ops.bias_act(torch.zeros(1, 1, 2, 2))


@needs_compiler
def test_no_ninja(monkeypatch, caplog):
    monkeypatch.setattr(build, "ninja", lambda: None)
    assert no_compiled(caplog, "pip install ninja")


@needs_compiler
def test_failed_build(monkeypatch, caplog, home, tmp_path):
    shutil.copytree(build.source_folder(), tmp_path / "sources")
    (tmp_path / "sources/cpu/bias_act.cpp").write_text("int main( {")
    monkeypatch.setattr(build, "source_folder", lambda: tmp_path / "sources")
    assert no_compiled(caplog, "error: ")
    assert [file.name for file in (home / "ops").iterdir()] in (["lock"], [])


@needs_compiler
def test_failed_self_check(monkeypatch, caplog, cache):
    right = native.Library.upfirdn2d
    monkeypatch.setattr(native.Library, "upfirdn2d", lambda *arguments: right(*arguments) * 1.001)
    assert no_compiled(caplog, "self-check failed")


@needs_compiler
def test_reference_is_never_left_when_asked_for(monkeypatch, cache):
    monkeypatch.setenv("SGMATTE_OPS", "reference")
    assert native.library("cpu") is None
    assert native._states == {}
    assert is_correct()


def test_unknown_mode(monkeypatch):
    monkeypatch.setenv("SGMATTE_OPS", "fast")
    with pytest.raises(UsageError, match="auto, reference, require"):
        ops.bias_act(torch.zeros(1, 1, 2, 2))


@needs_compiler
def test_a_library_in_the_cache_is_used(monkeypatch, cache):
    monkeypatch.setattr(build, "compile_", lambda *_: pytest.fail("built again"))
    monkeypatch.setenv("SGMATTE_OPS", "require")
    assert is_correct()
    assert native.state("cpu").path == cache


@needs_compiler
def test_key_follows_sources_flags_and_compiler(monkeypatch, tmp_path):
    keys = {build.cpu_recipe().key}
    shutil.copytree(build.source_folder(), tmp_path / "sources")
    monkeypatch.setattr(build, "source_folder", lambda: tmp_path / "sources")
    assert build.cpu_recipe().key in keys
    with (tmp_path / "sources/operators.h").open("a") as header:
        header.write("// changed\n")
    keys.add(build.cpu_recipe().key)
    monkeypatch.setenv("CXX", "g++ -g0")
    keys.add(build.cpu_recipe().key)
    assert len(keys) == 3


@needs_compiler
def test_damaged_library_and_interrupted_build_heal(monkeypatch, home, cache):
    whole = cache.read_bytes()
    cache.write_bytes(whole[: len(whole) // 2])
    assert build.cached(build.cpu_recipe()) is None

    def interrupted(recipe: build.Recipe, work: Path) -> None:
        (work / "library.so").write_bytes(whole[:100])
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(build, "compile_", interrupted)
        with pytest.raises(KeyboardInterrupt):
            native.library("cpu")
    (home / "ops" / "build-killed").mkdir()  # what a process leaves that had no time to tidy up
    (home / "ops" / "build-killed" / "library.so").write_bytes(whole[:100])

    assert native.library("cpu") is not None
    assert is_correct()
    assert sorted(file.suffix for file in (home / "ops").iterdir()) in (["", ".so"], [".so"])


@needs_compiler
def test_two_processes_at_once(home):
    program = (
        "import torch; from sgmatte.ops import native, bias_act;"
        "print(bias_act(torch.full((1, 1, 1, 2), -5.0), gain=1.0).tolist(), native.state('cpu').path)"
    )
    folder = str(Path(sgmatte.__file__).parents[1])
    environment = {**os.environ, "SGMATTE_OPS": "require", "PYTHONPATH": folder, "OMP_NUM_THREADS": "1"}
    both = [
        subprocess.Popen([sys.executable, "-c", program], env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    told = {process.communicate()[0] for process in both}
    assert [process.returncode for process in both] == [0, 0]
    assert len(told) == 1  # the same result from the same file
    assert told.pop().startswith("[[[[-1.0, -1.0]]]]")
    assert len(list((home / "ops").glob("*.so"))) == 1


@needs_compiler
def test_cache_that_cannot_be_written(home, caplog):
    home.write_text("a file where the folder should be")
    assert native.library("cpu") is not None
    assert is_correct()
    (line,) = [record.getMessage() for record in caplog.records]
    assert "cannot be written" in line
    assert home.read_text().startswith("a file")


@needs_compiler
def test_library_in_a_read_only_cache(monkeypatch, cache, caplog):
    def refused(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    for name in ("mkdir", "touch", "unlink", "write_text"):
        monkeypatch.setattr(Path, name, refused)
    monkeypatch.setattr(build, "FileLock", refused)
    assert native.library("cpu") is not None
    assert not caplog.records


@needs_compiler
def test_doctor_tells(monkeypatch, cache):
    found = health()
    assert found["operators"]["cpu"]["used"] == "compiled"
    assert found["operators"]["cpu"]["library"] == str(cache)
    assert 0 < found["operators"]["cpu"]["self_check"] < 1
    assert found["tools"]["C++ compiler"].startswith(build.cxx()[0])
    monkeypatch.setenv("SGMATTE_OPS", "reference")
    assert (
        health()["operators"]["cpu"] | {"used": "plain torch", "reason": "SGMATTE_OPS=reference"}
        == (health()["operators"]["cpu"])
    )
