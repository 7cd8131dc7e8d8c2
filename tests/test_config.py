"""sgmatte.toml: where it is looked for, what wins, what it may not do, and how its mistakes are told."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from sgmatte import pipeline
from sgmatte.cli.app import app, main
from sgmatte.cli.settings import NAME, SHARED, commands_of, config_files, options_of, project_places, user_file
from sgmatte.errors import UsageError

COMMANDS = commands_of(app)


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A home with a user's configuration and a project in it, which is the current folder."""
    home, project = tmp_path / "home", tmp_path / "home" / "work" / "project"
    (home / "settings" / "sgmatte").mkdir(parents=True)
    project.mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / "settings"))
    monkeypatch.delenv("SGMATTE_CONFIG", raising=False)
    monkeypatch.chdir(project)
    return SimpleNamespace(home=home, project=project, user=home / "settings" / "sgmatte" / NAME, file=project / NAME)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[pipeline.Networks]:
    """The networks with which `enhance` and `matte` would have started."""
    found: list[pipeline.Networks] = []

    def stop(photo: object, networks: pipeline.Networks, *_: object) -> None:
        found.append(networks)
        raise UsageError("far enough")

    monkeypatch.setattr(pipeline, "enhance_photo", stop)
    monkeypatch.setattr(pipeline, "matte_photo", stop)
    return found


def run(*arguments: object) -> SimpleNamespace:
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return SimpleNamespace(code=result.exit_code, out=result.stdout, err=result.stderr)


def enhance(*arguments: object) -> str:
    Image.new("RGB", (8, 8)).save("photo.png")
    return run(*arguments, "enhance", "photo.png", "--generator", "stylegan2-portrait-256").err


# --- where


def test_the_users_file_lies_where_the_system_keeps_such_files(places: SimpleNamespace) -> None:
    assert user_file() == places.user


def test_a_project_ends_at_its_repository_or_at_home(places: SimpleNamespace, tmp_path: Path) -> None:
    inner = places.project / "a" / "b"
    inner.mkdir(parents=True)
    assert project_places(inner)[-1] == places.home
    (places.project / ".git").mkdir()
    assert project_places(inner) == [inner, inner.parent, places.project]
    outside = tmp_path / "elsewhere" / "deep"
    outside.mkdir(parents=True)
    assert project_places(outside) == [outside]


def test_the_nearest_project_counts_and_comes_after_the_user(places: SimpleNamespace) -> None:
    for file in (places.user, places.home / NAME, places.project.parent / NAME):
        file.write_text("")
    assert [source.file for source in config_files()] == [places.user, places.project.parent / NAME]
    assert [source.project for source in config_files()] == [False, True]


def test_what_is_no_file_is_none(places: SimpleNamespace) -> None:
    places.file.mkdir()
    assert config_files() == []


# --- what wins


def test_command_line_over_project_over_user(places: SimpleNamespace, seen: list[pipeline.Networks]) -> None:
    places.user.write_text('device = "cpu"\n[enhance]\nsteps = 1\nface = 2\nseed = 3\n')
    places.file.write_text("[enhance]\nsteps = 40\nface = 5\n")
    err = enhance()
    run("enhance", "photo.png", "--generator", "stylegan2-portrait-256", "--steps", "7")
    first, second = (networks.settings for networks in seen)
    assert (first.optimisation.steps, first.face, first.seed) == (40, 5, 3)
    assert second.optimisation.steps == 7
    assert seen[0].device.reason == "asked for"
    assert f"defaults: {places.user}\n" in err
    assert f"defaults: {places.file}\n" in err


def test_they_can_be_left_out(
    places: SimpleNamespace, seen: list[pipeline.Networks], monkeypatch: pytest.MonkeyPatch
) -> None:
    places.file.write_text("[enhance]\nsteps = 40\n")
    assert "defaults" not in enhance("--no-config")
    monkeypatch.setenv("SGMATTE_CONFIG", "none")
    enhance()
    assert [networks.settings.optimisation.steps for networks in seen] == [30, 30]
    monkeypatch.setenv("SGMATTE_CONFIG", "other.toml")
    with pytest.raises(UsageError, match="can only be none"):
        run("doctor")


def test_help_shows_the_defaults_that_hold(places: SimpleNamespace) -> None:
    places.file.write_text("[enhance]\nsteps = 41\n")
    assert "41" in run("enhance", "--help").out
    assert "41" not in run("--no-config", "enhance", "--help").out


def test_groups_have_tables_in_tables(places: SimpleNamespace) -> None:
    places.file.write_text(
        '[train.gca]\nworkers = 3\n[weights.list]\njson = true\n[bench.matte]\nmodel = ["gca", "knn"]'
    )
    assert json.loads(run("weights", "list").out)["weights"]
    settings = {(s["command"], s["option"]): s["value"] for s in json.loads(run("config", "--json").out)["settings"]}
    assert settings == {
        ("weights list", "json"): True,
        ("train gca", "workers"): 3,
        ("bench matte", "model"): ["gca", "knn"],
    }


def test_shared_options_reach_every_command_that_has_them(places: SimpleNamespace) -> None:
    places.file.write_text("max-pixels = 99\n[matte]\nmax-pixels = 7")
    settings = {s["command"]: s["value"] for s in json.loads(run("config", "--json").out)["settings"]}
    assert settings["trimap"] == settings["enhance"] == 99
    assert settings["matte"] == 7
    having = {name for name, command in COMMANDS.items() if "max-pixels" in options_of(command)}
    assert set(settings) == having
    for option in SHARED:
        assert sum(option in options_of(command) for command in COMMANDS.values()) > 1


def test_config_says_what_holds_as_toml(places: SimpleNamespace) -> None:
    assert "nothing is set" in run("config").err
    places.user.write_text('quiet = false\n[matte]\nmodel = "knn"\n')
    places.file.write_text('[matte]\nmodel = "closed-form"\n')
    out = run("config").out
    assert f'[matte]\nmodel = "closed-form"  # {places.file}\nquiet = false  # {places.user}\n' in out
    places.user.unlink()
    places.file.write_text(run("config").out)
    assert f'[matte]\nmodel = "closed-form"  # {places.file}\n' in run("config").out


# --- paths


def test_paths_are_relative_to_their_file(places: SimpleNamespace, seen: list[pipeline.Networks]) -> None:
    inner = places.project / "inner"
    inner.mkdir()
    for name in ("my-critic", "mine.safetensors"):
        (places.project / name).write_text("")
    places.user.write_text(
        f'[enhance]\nfrom = "latents"\nbackgrounds = "{places.home}/beaches"\ncritic = "composite"\n'
    )
    places.file.write_text('[enhance]\nout-dir = "results"\ncritic = "my-critic"\nmodel = "mine.safetensors"\n')
    settings = {s["option"]: s["value"] for s in json.loads(run("config", "--json").out)["settings"]}
    assert settings == {
        "backgrounds": str(places.home / "beaches"),
        "critic": str(places.project / "my-critic"),
        "from": str(places.user.parent / "latents"),
        "model": str(places.project / "mine.safetensors"),
        "out-dir": str(places.project / "results"),
    }


@pytest.mark.parametrize("path", ["/etc", "../other", "a/../../x", "link/x"])
def test_a_project_names_nothing_outside_of_itself(places: SimpleNamespace, path: str) -> None:
    (places.project / "link").symlink_to(places.home)
    places.file.write_text(f'[matte]\nout-dir = "{path}"\n')
    with pytest.raises(UsageError, match=rf"{NAME}: \[matte\] out-dir: .* lies outside of"):
        run("doctor")
    for option in ("critic", "model"):  # a word or a file
        places.file.write_text(f'[enhance]\n{option} = "{path}"\n')
        with pytest.raises(UsageError, match=rf"{NAME}: \[enhance\] {option}: .* lies outside of"):
            run("doctor")


def test_home_means_the_users_home_in_their_own_file_only(places: SimpleNamespace) -> None:
    for file, folder in ((places.user, places.home / "results"), (places.file, places.project / "~" / "results")):
        file.write_text('[matte]\nout-dir = "~/results"\n')
        assert json.loads(run("config", "--json").out)["settings"][0]["value"] == str(folder)


# --- mistakes


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[enhance]\nstep = 40", r"\[enhance\] has no option 'step'; did you mean 'steps'\?"),
        ("[enhance]\nmax_pixels = 40", r"has no option 'max_pixels'; did you mean 'max-pixels'\?"),
        ("[enhance]\nout = 'x.png'", r"\[enhance\] out: names the result of one command"),
        ("[matte]\nphotos = 'x.png'", r"\[matte\] has no option 'photos'"),
        ("[enhnace]\nsteps = 40", r"no command 'enhnace'; did you mean 'enhance'\?"),
        ("[train.gac]\nsize = 40", r"no command 'train gac'; did you mean 'gca'\?"),
        ("steps = 40", r"'steps' stands in no command's table; above the tables only device, max-pixels, quiet can"),
        ("[train]\nseed = 1", r"'seed' stands in no command's table"),
        ("[enhance]\nsteps = 'many'", r"\[enhance\] steps: expected a whole number, got 'many'"),
        ("[enhance]\nsteps = true", r"steps: expected a whole number, got True"),
        ("[enhance]\nsteps = 4.5", r"steps: expected a whole number, got 4.5"),
        ("[enhance]\nsteps = -1", r"steps: expected at least 0, got -1"),
        ("[enhance]\nrate = nan", r"rate: expected a finite number, got nan"),
        ("[composite]\nblur = 60", r"blur: expected at least 0.1 and at most 50, got 60"),
        ("[enhance]\nwhole = 1", r"whole: expected true or false, got 1"),
        ("[enhance]\nsize = 300", r"size: expected one of 256, 512, 1024, got 300"),
        ("[matte]\nmodel = 5", r"model: expected a text, got 5"),
        ("[matte]\nmodel = {}", r"model: expected a text, got \{\}"),
        ("[bench.matte]\nmodel = 'gca'", r"\[bench matte\] model: expected a list, got 'gca'"),
        ("device = 'abacus'", r"device: expected one of auto, cpu, cuda, mps, got 'abacus'"),
        (f"[enhance]\ngenerator = '{'[' * 5000}'", r"generator: expected one of .*, got '\[{1,60}\.\.\.\["),
        (f"[{'k' * 5000}]\nsteps = 1", r"there is no command 'k{1,60}\.\.\.k"),
        ("[enhance\n", "is no TOML"),
        ("a = " + "[" * 5000, "is no TOML"),
        ("#" * 70_000, "has more than 65536 bytes"),
    ],
)
def test_mistakes_name_the_file_and_the_key(
    places: SimpleNamespace,
    text: str,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    places.file.write_text(text)
    with pytest.raises(UsageError, match=message) as caught:
        run("doctor")
    assert str(caught.value).startswith(f"{places.file}: ")
    monkeypatch.setattr("sys.argv", ["sgmatte", "doctor"])
    with pytest.raises(SystemExit) as left:
        main()
    out, err = capsys.readouterr()
    assert (left.value.code, out, err.count("\n")) == (2, "", 1)
    assert run("--no-config", "weights", "list").code == 0


def test_bytes_that_are_no_text_are_no_toml(places: SimpleNamespace) -> None:
    places.file.write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="is no TOML"):
        run("doctor")


# --- what typer knows


def test_every_option_of_every_command_is_found() -> None:
    """The options are read off the functions; typer itself must see the same ones."""
    group = typer.main.get_command(app)
    for name, function in COMMANDS.items():
        command = group
        for word in name.split():
            command = command.commands[word]  # type: ignore[attr-defined]
        theirs = {p.name: p.opts for p in command.params if p.param_type_name == "option"}
        ours = {option.parameter: spelled for spelled, option in options_of(function).items()}
        assert set(ours) == set(theirs)
        assert all({f"-{spelled}", f"--{spelled}"} & set(theirs[parameter]) for parameter, spelled in ours.items())


def test_the_readme_shows_a_file_that_reads(places: SimpleNamespace) -> None:
    readme = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```toml\n([^`]*\[enhance\][^`]*)```", readme)
    places.file.write_text(block)
    settings = {(s["command"], s["option"]): s["value"] for s in json.loads(run("config", "--json").out)["settings"]}
    assert settings["enhance", "steps"] == 40
    assert settings["matte", "out-dir"] == str(places.project / "mattes")
