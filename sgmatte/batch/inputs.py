"""Which photos: from files, folders, globs and lists, each once, in an order that does not depend on the disk."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sgmatte.errors import UsageError
from sgmatte.forms import READ_SUFFIXES
from sgmatte.hostile import printable

OWN_KINDS = ("alpha", "cutout", "trimap", "enhanced", "preview", "composite", "inverted")
"""Endings of the names that sgmatte gives to pictures: <stem>_<kind>.png beside <stem>.jpg is a result, no photo."""


@dataclass(frozen=True)
class Input:
    """A photo, and the folder from which on its place in the tree counts; `named`: the user wrote this very path."""

    photo: Path
    root: Path
    named: bool = False

    @property
    def folder(self) -> Path:
        """The photo's folder, relative to `root`."""
        return self.photo.parent.relative_to(self.root)


def listed(text: bytes) -> list[str]:
    """The paths of a list, a line each, or ended by NUL each (`find -print0`) if the list holds any."""
    separator = b"\0" if b"\0" in text else b"\n"
    return [os.fsdecode(line.rstrip(b"\r")) for line in text.split(separator) if line.strip()]


def found_inputs(
    sources: Iterable[str],
    lines: Iterable[str] = (),
    *,
    recursive: bool = False,
    skipped: Collection[Path] = (),
    outputs: Collection[Path] = (),
) -> list[Input]:
    """The photos that files, folders and globs mean, without repetition.

    Folders give the photos in them, those of their subfolders with `recursive`. Hidden files, and results that sgmatte
    has written there, are no photos, unless a path names them.

    Args:
        lines: of a list: as `sources`, but a glob there that matches nothing is a photo that is missing. Like any
            other, it fails later, and alone.
        skipped: folders that are not searched: where results go.
        outputs: files known to be results, whatever they are called.

    Raises:
        UsageError: a folder or a source's glob without a photo; or nothing at all was given.
    """
    found: dict[Path, Input] = {}
    left_out = {folder.resolve() for folder in skipped}
    results = {file.resolve() for file in outputs}
    for source, of_list in [*((source, False) for source in sources), *((line, True) for line in lines)]:
        with _told(source):
            for entry in _expanded(source, of_list, recursive, left_out, results):
                found.setdefault(entry.photo.resolve(), entry)
    if not found:
        raise UsageError("no photos were given; name files or folders, or `--files-from -` for a list on stdin")
    return list(found.values())


@contextmanager
def _told(source: str) -> Iterator[None]:
    """Turns what the system says of a name, that it is too long or holds a NUL, into a UsageError."""
    try:
        yield
    except (OSError, ValueError, RecursionError, re.error) as error:
        why = getattr(error, "strerror", None) or error
        raise UsageError(f"{printable(source)}: is no name of a photo ({why})") from error


def _expanded(source: str, of_list: bool, recursive: bool, left_out: set[Path], results: set[Path]) -> Iterator[Input]:
    path = Path(source)
    if path.is_dir():
        photos = list(_searched(path, recursive, left_out, results))
        if not photos:
            deeper = "" if recursive or not any(child.is_dir() for child in path.iterdir()) else "; try --recursive"
            raise UsageError(f"{printable(source)}: no photos in this folder{deeper}")
        yield from (Input(photo, path) for photo in photos)
    elif path.exists() or not glob.has_magic(source):
        yield Input(path, path.parent, named=True)  # one that is missing fails later, and alone
    else:
        matched = sorted(map(Path, glob.glob(source, recursive=True)))
        photos = [photo for photo in matched if photo.is_file() and _is_photo(photo, results)]
        if not (photos or of_list):
            raise UsageError(f"{printable(source)}: matches no photo")
        root = _fixed_part(path)
        yield from (Input(photo, root) for photo in photos or [path])


def _searched(folder: Path, recursive: bool, left_out: set[Path], results: set[Path]) -> Iterator[Path]:
    """Photos of a folder; links to folders are not followed, they may lead round in circles."""
    for place, folders, files in os.walk(folder, onerror=_refuse):
        here = Path(place)
        stems = {Path(name).stem for name in files if Path(name).suffix.lower() in READ_SUFFIXES}
        for name in sorted(files):
            if _is_photo(here / name, results, stems):
                yield here / name
        folders[:] = sorted(
            name
            for name in folders
            if recursive
            and not name.startswith(".")
            and not (name.endswith("_files") and f"{name[:-6]}.html" in files)  # of a page, and its pictures
            and (here / name).resolve() not in left_out
        )


def _refuse(error: OSError) -> None:
    raise UsageError(f"{printable(str(error.filename))}: the folder cannot be read ({error.strerror})") from error


def _is_photo(path: Path, results: set[Path], stems: Collection[str] | None = None) -> bool:
    if path.name.startswith(".") or path.suffix.lower() not in READ_SUFFIXES:
        return False
    stem, _, kind = path.stem.rpartition("_")
    if kind in OWN_KINDS and stem:
        beside = (
            stems if stems is not None else {f.stem for f in path.parent.iterdir() if f.suffix.lower() in READ_SUFFIXES}
        )
        if stem in beside:
            return False
    return not results or path.resolve() not in results


def _fixed_part(pattern: Path) -> Path:
    """The folders of a glob before the first that holds a wildcard."""
    fixed = Path(pattern.anchor)
    for part in pattern.relative_to(fixed).parts[:-1] if pattern.anchor else pattern.parts[:-1]:
        if glob.has_magic(part):
            break
        fixed /= part
    return fixed
