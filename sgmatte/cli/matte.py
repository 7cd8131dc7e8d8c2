"""`sgmatte matte` and `sgmatte trimap`: the networks without the enhancement."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from sgmatte.cli import options
from sgmatte.cli.messages import Observe, Screen
from sgmatte.cli.photos import check_out, check_results, each_photo, result_paths
from sgmatte.errors import UsageError


def _results(
    photos: list[Path], out: Path | None, out_dir: Path | None, kinds: list[str]
) -> dict[Path, dict[str, Path]]:
    """Where the results of each photo go, by kind; `out` renames the first kind of a single photo."""
    check_out(photos, out, out_dir)
    folder = out.parent if out is not None else out_dir
    results = {photo: result_paths(photo, folder, kinds) for photo in photos}
    if out is not None:
        results[photos[0]][kinds[0]] = out
    check_results({photo: list(files.values()) for photo, files in results.items()})
    return results


def matte(
    photos: options.Photos,
    out: options.OutFile = None,
    out_dir: options.OutFolder = None,
    model: options.MattingChoice = "gca",
    trimap: Annotated[
        Path | None,
        typer.Option(help="Your own trimap (black, grey, white) in the photo's size.", show_default=False),
    ] = None,
    trimap_width: Annotated[
        float | None,
        typer.Option(
            help="--trimap is a mask or an alpha: all within this many pixels of its edge is unknown.",
            min=1,
            show_default=False,
        ),
    ] = None,
    cutout: Annotated[bool, typer.Option("--cutout", help="Write <stem>_cutout.png (RGBA) as well.")] = False,
    max_pixels: options.MaxPixels = options.MAX_PIXELS,
    device: options.DeviceChoice = "auto",
    quiet: options.Quiet = False,
    json: options.Json = False,
) -> None:
    """Matte photos as they are: writes <stem>_alpha.png, white where the person is.

    Example: sgmatte matte photo.jpg --cutout
    """
    if trimap is not None and len(photos) > 1:
        raise UsageError("--trimap belongs to a single photo")
    if trimap_width is not None and trimap is None:
        raise UsageError("--trimap-width makes a trimap of a mask: give the mask with --trimap")
    results = _results(photos, out, out_dir, ["alpha", "cutout"] if cutout else ["alpha"])

    from sgmatte.device import chosen_device

    chosen = chosen_device(device)  # before the heavier imports: it may refuse

    from sgmatte.pipeline import Networks, Settings, matte_photo
    from sgmatte.writers import write_image

    networks = Networks(Settings(model=model, max_pixels=max_pixels), chosen)

    def work(photo: Path, observe: Observe) -> dict[str, Any]:
        result = matte_photo(photo, networks, trimap, observe, trimap_width)
        for kind, file in results[photo].items():
            write_image(file, getattr(result, kind))
        return {
            "files": {kind: str(file) for kind, file in results[photo].items()},
            "size": list(result.photo.size),
            "model": model,
            "confidence": asdict(result.confidence),
            "notes": list(result.photo.notes),
        }

    each_photo(results, work, Screen(quiet, json), chosen)


def trimap(
    photos: options.Photos,
    out: options.OutFile = None,
    out_dir: options.OutFolder = None,
    max_pixels: options.MaxPixels = options.MAX_PIXELS,
    device: options.DeviceChoice = "auto",
    quiet: options.Quiet = False,
    json: options.Json = False,
) -> None:
    """Write <stem>_trimap.png: black is background, grey unknown, white foreground.

    Correct it in any paint program and give it back with `sgmatte matte --trimap`.

    Example: sgmatte trimap photo.jpg
    """
    results = _results(photos, out, out_dir, ["trimap"])

    from sgmatte.device import chosen_device

    chosen = chosen_device(device)  # before the heavier imports: it may refuse

    from sgmatte.masks import write_trimap
    from sgmatte.pipeline import Networks, Settings, trimap_photo

    networks = Networks(Settings(max_pixels=max_pixels), chosen)

    def work(photo: Path, observe: Observe) -> dict[str, Any]:
        read, classes, confidence = trimap_photo(photo, networks, observe)
        return {
            "files": {"trimap": str(write_trimap(results[photo]["trimap"], classes))},
            "size": list(read.size),
            "notes": list(read.notes),
            "confidence": asdict(confidence),
        }

    each_photo(results, work, Screen(quiet, json), chosen)
