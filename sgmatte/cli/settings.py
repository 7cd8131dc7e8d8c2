"""sgmatte.toml: defaults for the command line's options, the user's and a project's.

The user's file lies in the system's configuration folder ($XDG_CONFIG_HOME/sgmatte on Linux). A project's is the
nearest one in the current folder and those above it, up to the repository's root (where .git is) or the home folder;
outside of both, only the current folder counts. A project's file may come from somebody else: it can set options and
nothing more, and name no file outside of its own folder.
"""

from __future__ import annotations

import inspect
import os
import sys
import types
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import typer
from typer.models import OptionInfo

from sgmatte.errors import UsageError

NAME = "sgmatte.toml"
SHARED = ("device", "max-pixels", "quiet")  # may stand above the tables, for every command that has them
UNSUITABLE = ("out", "files-from", "report")  # name the results, or the photos, of one command
WORDS_OR_FILES = ("critic", "background", "model")  # a file if it looks like one or is there, else a word
LARGEST_NUMBER = 10**15  # of TOML's, which have no end; none, infinite and not a number are beyond it
LARGEST = 1 << 16  # bytes; nobody writes more, and a stranger's file shall not cost memory
LONGEST_QUOTE = 80  # characters

Commands = Mapping[str, Callable[..., Any]]
"""Functions of the commands by name, such as "train gca"."""


@dataclass(frozen=True)
class Source:
    """A file, and whether it is a project's."""

    file: Path
    project: bool


@dataclass(frozen=True)
class Option:
    """An option of a command: its parameter, its type without None, and what typer knows of it."""

    parameter: str
    kind: Any
    info: OptionInfo


@dataclass(frozen=True)
class Setting:
    """A value for an option of a command, as the command line would get it, and the file that says so."""

    command: str
    option: str
    parameter: str
    value: Any
    file: Path


def config_files(folder: Path | None = None) -> list[Source]:
    """The files that there are, the user's first: what comes later wins.

    Raises:
        UsageError: SGMATTE_CONFIG is set, but not to none.
    """
    chosen = os.environ.get("SGMATTE_CONFIG")
    if chosen == "none":
        return []
    if chosen:
        raise UsageError(f"SGMATTE_CONFIG={chosen}: it can only be none, which leaves every {NAME} unread")
    here = (folder or Path.cwd()).resolve()
    found = [Source(user_file(), False), *(Source(place / NAME, True) for place in project_places(here))]
    present = [source for source in found if source.file.is_file()]
    return [*(s for s in present if not s.project), *[s for s in present if s.project][:1]]


def user_file() -> Path:
    """Where the user's file is looked for."""
    from platformdirs import user_config_path

    return user_config_path("sgmatte", appauthor=False) / NAME


def project_places(folder: Path) -> list[Path]:
    """Folders where a project's file is looked for, the nearest first."""
    places = [folder, *folder.parents]
    home = Path.home().resolve()
    for count, place in enumerate(places, 1):
        if place == home or (place / ".git").exists():
            return places[:count]
    return [folder]


def commands_of(app: typer.Typer, prefix: str = "") -> dict[str, Callable[..., Any]]:
    """The functions of all commands of an app and of the apps in it."""
    found = {}
    for command in app.registered_commands:
        assert command.callback
        found[prefix + (command.name or command.callback.__name__.replace("_", "-"))] = command.callback
    for group in app.registered_groups:
        assert group.typer_instance
        found.update(commands_of(group.typer_instance, f"{prefix}{group.name} " if group.name else prefix))
    return found


def options_of(command: Callable[..., Any]) -> dict[str, Option]:
    """The options of a command by their long names, or short ones where there are no others, without dashes."""
    found = {}
    hints = get_type_hints(command, include_extras=True)
    for name, parameter in inspect.signature(command).parameters.items():
        kind, *notes = get_args(hints[name]) if get_origin(hints[name]) is Annotated else (hints[name],)
        if not notes and parameter.default is not parameter.empty:
            notes = [typer.Option()]  # as typer takes a plain parameter that has a default
        for info in notes:
            if isinstance(info, OptionInfo):
                declared = [word for word in (info.default, *(info.param_decls or ())) if isinstance(word, str)]
                words = sorted(declared, key=lambda word: not word.startswith("--")) or [name.replace("_", "-")]
                spelled = words[0].split("/")[0].strip().lstrip("-")
                found[spelled] = Option(name, _without_none(kind), info)
    return found


def settings_in(sources: Iterable[Source], commands: Commands) -> list[Setting]:
    """What the files say: one setting for an option of a command, later files before earlier ones.

    Raises:
        UsageError: a file cannot be read, or names what there is not, or gives a value of a wrong type; the message
            names file and key.
    """
    found: dict[tuple[str, str], Setting] = {}
    for source in sources:
        content = _content(source.file)
        shared = {key: value for key, value in content.items() if key in SHARED}
        for name, command in commands.items():
            known = options_of(command) if shared else {}
            for key in filter(known.__contains__, shared):
                found[name, key] = _setting(source, name, key, shared[key], known[key], key)
        for key in filter(lambda key: key not in shared, content):
            for setting in _table(source, key, content[key], commands):
                found[setting.command, setting.option] = setting
    order = list(commands)
    return sorted(found.values(), key=lambda setting: (order.index(setting.command), setting.option))


def default_map(settings: Iterable[Setting]) -> dict[str, Any]:
    """The settings as typer's context wants them: {"train": {"gca": {"steps": 100}}}."""
    found: dict[str, Any] = {}
    for setting in settings:
        place = found
        for word in setting.command.split():
            place = place.setdefault(word, {})
        place[setting.parameter] = setting.value
    return found


def _content(file: Path) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib

    try:
        if file.stat().st_size > LARGEST:
            raise UsageError(f"{file}: has more than {LARGEST} bytes; it holds options, nothing else")
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{file}: cannot be read ({error.strerror}); --no-config does without it") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{file}: is no TOML ({error})") from error


def _table(source: Source, name: str, value: Any, commands: Commands) -> list[Setting]:
    """The settings of `name`, a command or a group of commands."""
    if name in commands and isinstance(value, dict):
        known = options_of(commands[name])
        return [
            _setting(source, name, key, raw, _known(known, key, f"{source.file}: [{name}]"), f"[{name}] {key}")
            for key, raw in value.items()
        ]
    if isinstance(value, dict) and any(command.startswith(f"{name} ") for command in commands):
        return [setting for key, inner in value.items() for setting in _table(source, f"{name} {key}", inner, commands)]
    group, _, last = name.rpartition(" ")
    inside = [command.removeprefix(group).split()[0] for command in commands if command.startswith(group)]
    if isinstance(value, dict):
        raise UsageError(f"{source.file}: there is no command {_shown(name)}{_near(last, inside)}")
    above = f"above the tables only {', '.join(SHARED)} can"
    raise UsageError(f"{source.file}: {_shown(last)} stands in no command's table; {above}")


def _known(known: Mapping[str, Option], key: str, place: str) -> Option:
    if key in UNSUITABLE:
        what = "photos" if key == "files-from" else "result"
        raise UsageError(f"{place} {key}: names the {what} of one command; give it there")
    if key not in known:
        raise UsageError(f"{place} has no option {_shown(key)}{_near(key, known)}")
    return known[key]


def _shown(value: Any) -> str:
    """As a message quotes it, cut where it is long: a file of any content gets one line that can be read."""
    text = repr(value)
    return text if len(text) <= LONGEST_QUOTE else f"{text[: LONGEST_QUOTE // 2]}...{text[-LONGEST_QUOTE // 2 :]}"


def _near(word: str, known: Iterable[str]) -> str:
    near = get_close_matches(word, known, n=1)
    return f"; did you mean '{near[0]}'?" if near else ""


def _setting(source: Source, command: str, key: str, raw: Any, option: Option, spelled: str) -> Setting:
    place = f"{source.file}: {spelled}"
    value = _value(source, key, raw, option.kind, option.info, place)
    return Setting(command, key, option.parameter, value, source.file)


def _value(source: Source, key: str, raw: Any, kind: Any, info: OptionInfo, place: str) -> Any:
    """`raw` as the command line would get it, if it fits `kind`."""
    if get_origin(kind) is list:
        if not isinstance(raw, list):
            raise UsageError(f"{place}: expected a list, got {_shown(raw)}")
        return [_value(source, key, item, get_args(kind)[0], info, place) for item in raw]
    if get_origin(kind) is Literal:
        words = get_args(kind)
        if isinstance(raw, bool) or str(raw) not in words:
            raise UsageError(f"{place}: expected one of {', '.join(words)}, got {_shown(raw)}")
        return str(raw)
    types_of = {bool: (bool,), int: (int,), float: (int, float), str: (str,), Path: (str,)}
    names = {bool: "true or false", int: "a whole number", float: "a number", str: "a text", Path: "a path"}
    if kind not in types_of:
        raise UsageError(f"{place}: can only be given on the command line")
    if type(raw) not in types_of[kind]:  # exactly: true is no number here
        raise UsageError(f"{place}: expected {names[kind]}, got {_shown(raw)}")
    if kind in (int, float):
        _check_range(raw, info, place)
    try:
        if kind is Path or (key in WORDS_OR_FILES and _is_file(source, raw)):
            return str(_path(source, raw, place))
    except (OSError, ValueError, RuntimeError) as error:  # a NUL, a name that is too long, links in a circle, ~nobody
        raise UsageError(f"{place}: {_shown(raw)} is no path ({getattr(error, 'strerror', None) or error})") from error
    return raw


def _check_range(value: float, info: OptionInfo, place: str) -> None:
    least, most = info.min, info.max
    if (
        not -LARGEST_NUMBER <= value <= LARGEST_NUMBER
        or (least is not None and value < least)
        or (most is not None and value > most)
    ):
        limits = " and ".join(
            f"{word} {limit:g}" for word, limit in (("at least", least), ("at most", most)) if limit is not None
        )
        raise UsageError(f"{place}: expected {limits or 'a finite number'}, got {str(value)[:40]}")


def _is_file(source: Source, raw: str) -> bool:
    """Whether a text that may be a word names a file: one beside sgmatte.toml, or one by its folders."""
    return "/" in raw or os.sep in raw or (source.file.parent / raw).exists()


def _path(source: Source, raw: str, place: str) -> Path:
    """Relative to the file's folder, and in a project inside of it."""
    folder = source.file.parent
    path = folder / (raw if source.project else Path(raw).expanduser())
    if source.project and not path.resolve().is_relative_to(folder.resolve()):
        raise UsageError(f"{place}: {_shown(raw)} lies outside of {folder}, and a project's {NAME} names nothing there")
    return path


def _without_none(kind: Any) -> Any:
    if get_origin(kind) in (Union, types.UnionType):
        (kind,) = [one for one in get_args(kind) if one is not type(None)]
    return kind
