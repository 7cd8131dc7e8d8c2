"""Several photos on one command line: where their results go, and how one that fails leaves the others alone."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import typer

from sgmatte import __version__
from sgmatte.cli.messages import Observe, Screen, error_line
from sgmatte.device import Device
from sgmatte.errors import SgmatteError, UsageError, WeightError

Work = Callable[[Path, Observe], dict[str, Any]]


def result_paths(photo: Path, folder: Path | None, kinds: Sequence[str]) -> dict[str, Path]:
    """<stem>_<kind>.png for each kind of result, beside the photo or in `folder`."""
    return {kind: (folder or photo.parent) / f"{photo.stem}_{kind}.png" for kind in kinds}


def check_out(photos: Collection[Path], out: Path | None, out_dir: Path | None) -> None:
    """Raises UsageError where `--out` cannot name all results."""
    if out is not None and (len(photos) > 1 or out_dir is not None):
        raise UsageError("--out names a single result; for several use --out-dir, and not both")


def check_results(results: Mapping[Path, Sequence[Path]]) -> None:
    """Refuse to start where a result would take another's place, or a photo's.

    Args:
        results: for each photo, the files that it will give.

    Raises:
        UsageError: the message names the files.
    """
    originals = {photo.resolve(): photo for photo in results}
    writers: dict[Path, Path] = {}
    for photo, files in results.items():
        for file in files:
            place = file.resolve()
            if place in originals:
                raise UsageError(
                    f"{file}: the result would overwrite the photo {originals[place]}; choose another name"
                )
            if place in writers:
                raise UsageError(f"{file} would be written twice, for {writers[place]} and for {photo}; rename one")
            writers[place] = photo


def each_photo(photos: Collection[Path], work: Work, screen: Screen, device: Device) -> None:
    """Run `work` on every photo; a photo that cannot be worked on costs one line on stderr and the exit code.

    `work` returns what `--json` shows of a photo; its "files" are listed on stdout and its "notes" on stderr.

    Raises:
        typer.Exit: at the end, with the highest exit code of the photos that failed.
    """
    screen.device(device)
    shown, exit_code = [], 0
    for photo in photos:
        if len(photos) > 1:
            screen.note(str(photo))
        try:
            with screen.progress() as observe:
                result = work(photo, observe)
        except WeightError:
            raise  # the other photos need the same networks
        except SgmatteError as error:
            error_line(str(error))
            exit_code = max(exit_code, error.exit_code)
            shown.append({"photo": str(photo), "error": str(error)})
            continue
        for note in result.get("notes", ()):
            screen.note(f"{photo}: {note}")
        for file in result["files"].values():
            screen.line(file)
        shown.append({"photo": str(photo), **result})
    screen.result(
        {"version": __version__, "device": {"name": device.name, "reason": device.reason}, "photos": shown},
    )
    if exit_code:
        raise typer.Exit(exit_code)
