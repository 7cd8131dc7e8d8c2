"""Where results go: beside their photos, into a folder with the tree kept, or under names of the user's own making."""

from __future__ import annotations

import string
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sgmatte.batch.inputs import Input
from sgmatte.errors import UsageError
from sgmatte.forms import FORMATS, READ_SUFFIXES
from sgmatte.hostile import printable

FIELDS = ("stem", "ext", "kind")


@dataclass(frozen=True, eq=False)
class Job:
    """A photo, and the file that each kind of result becomes."""

    photo: Path
    files: Mapping[str, Path]
    root: Path  # the output folder, where the batch keeps its books
    seen: bool = True  # whether the photo was there when the batch was planned


@dataclass(frozen=True)
class Place:
    """What the user said of where results go.

    Attributes:
        folder: results go there, in the folders of the tree that their photos come from; without, beside the photos.
        file: the first kind of result of a single photo.
        name: template of file names, with {stem}, {ext} (the photo's, without dot) and {kind}; it may hold folders. A
            suffix in it is that of all pictures, of previews too.
    """

    folder: Path | None = None
    file: Path | None = None
    name: str | None = None

    def __post_init__(self) -> None:
        if self.file is not None and (self.folder is not None or self.name is not None):
            raise UsageError("--out names a single result; for several use a folder (-o DIR/), and not both")
        if self.name is not None:
            _check_template(self.name)

    def job(self, entry: Input, kinds: Sequence[str], suffixes: Mapping[str, str] | None = None) -> Job:
        """The files of one photo.

        Args:
            kinds: of results, the chief one first.
            suffixes: of the kinds that are not .png files.

        Raises:
            UsageError: a name that would not stay inside the output folder.
        """
        suffixes = suffixes or {}
        if self.name is not None and len(kinds) > 1 and "{kind" not in self.name:
            raise UsageError(f"--name {self.name}: needs {{kind}}: a photo gives {', '.join(kinds)}")
        if self.file is not None:
            base, root = self.file.parent, self.file.parent
        elif self.folder is not None:
            base, root = self.folder / entry.folder, self.folder
        else:
            base, root = entry.photo.parent, entry.root
        files = {kind: base / self._name(entry.photo, kind, suffixes.get(kind, ".png")) for kind in kinds}
        if self.file is not None:
            files[kinds[0]] = self.file
        if self.folder is not None or self.name is not None:
            _check_inside(root, files.values())
        return Job(entry.photo, files, root, entry.photo.exists())

    def _name(self, photo: Path, kind: str, suffix: str) -> str:
        if self.name is None:
            return f"{photo.stem}_{kind}{suffix}"
        template, chosen = self.name, Path(self.name).suffix
        if chosen and "{" not in chosen:  # of pictures; what is no picture keeps its own
            template, suffix = template.removesuffix(chosen), chosen if suffix in FORMATS else suffix
        name = template.format(stem=photo.stem, ext=photo.suffix.removeprefix("."), kind=kind) + suffix
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise UsageError(
                f"--name {self.name}: gives {_shown(name)} for {_shown(photo)}, which leaves the output folder"
            )
        return name


def output_place(out: str | None, out_dir: Path | None, name: str | None, several: bool) -> Place:
    """What `-o`, `--out-dir` and `--name` mean together.

    `-o` is a folder if it is one, if it ends in a slash, or if there are `several` photos, or a `name` for the file.

    Raises:
        UsageError: options that exclude each other, or a folder's name that a file has.
    """
    file, folder = None, out_dir
    if out is not None:
        is_folder = several or name is not None or out.endswith(("/", "\\")) or Path(out).is_dir()
        if is_folder and out_dir is not None:
            raise UsageError("-o and --out-dir both name a folder; give one")
        if several and Path(out).suffix.lower() in READ_SUFFIXES and not Path(out).is_dir():
            raise UsageError(f"--out {out} names a single result; for several photos give a folder")
        file, folder = (None, Path(out)) if is_folder else (Path(out), out_dir)
    if folder is not None and folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder}: is a file, and several results need a folder")
    return Place(folder, file, name)


def check_results(jobs: Iterable[Job]) -> None:
    """Refuse to start where a result would take another's place, or a photo's.

    Raises:
        UsageError: the message names the files.
    """
    jobs = list(jobs)
    originals = {job.photo.resolve(): job.photo for job in jobs}
    writers: dict[Path, Path] = {}
    for job in jobs:
        for file in job.files.values():
            place = file.resolve()
            if place in originals:
                raise UsageError(
                    f"{_shown(file)}: the result would overwrite the photo {_shown(originals[place])}; "
                    "choose another name"
                )
            if place in writers:
                raise UsageError(
                    f"{_shown(file)} would be written twice, for {_shown(writers[place])} and for {_shown(job.photo)}; "
                    "rename one, or tell them apart with --name '{stem}_{ext}_{kind}.png'"
                )
            writers[place] = job.photo


def _shown(path: Path | str) -> str:
    return printable(str(path), 1000)


def _check_template(name: str) -> None:
    try:
        fields = [field for _, field, form, change in string.Formatter().parse(name) if field is not None]
        plain = all(not form and not change for _, field, form, change in string.Formatter().parse(name))
    except ValueError as error:
        raise UsageError(f"--name {name}: {error}") from error
    if not plain or any(field not in FIELDS for field in fields):
        raise UsageError(f"--name {name}: only {', '.join(f'{{{field}}}' for field in FIELDS)} can stand in braces")
    if "stem" not in fields:
        raise UsageError(f"--name {name}: needs {{stem}}, or all photos would have the same name")


def _check_inside(root: Path, files: Iterable[Path]) -> None:
    """Raises UsageError where a link in the output folder leads a result out of it."""
    real = root.resolve()
    for file in files:
        if not (file.parent.resolve() / file.name).is_relative_to(real):
            raise UsageError(f"{_shown(file)}: a link leads out of the output folder {root}; nothing is written there")
