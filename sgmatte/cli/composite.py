"""`sgmatte composite`: cut-outs before another background."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from sgmatte.cli import options
from sgmatte.cli.messages import Observe, Screen
from sgmatte.cli.photos import check_out, check_results, each_photo
from sgmatte.errors import UsageError


def composite(
    cutouts: Annotated[list[Path], typer.Argument(help="Cut-outs (RGBA), as `matte --cutout` writes them.")],
    background: Annotated[str, typer.Option("--background", "-b", help="A photo, a colour (white, #1e90ff), or blur.")],
    photo: Annotated[
        Path | None,
        typer.Option(help="For blur: the photo that the cut-out was taken from.", show_default=False),
    ] = None,
    blur: Annotated[float, typer.Option(help="Strength of blur, in percent of the longest side.", min=0.1, max=50)] = 2,
    out: options.OutFile = None,
    out_dir: options.OutFolder = None,
    max_pixels: options.MaxPixels = options.MAX_PIXELS,
    quiet: options.Quiet = False,
    json: options.Json = False,
) -> None:
    """Put cut-outs before another background: writes <stem>_composite.png.

    Example: sgmatte composite portrait_cutout.png --background beach.jpg
    """
    results = _results(cutouts, out, out_dir)
    if photo is not None and len(cutouts) > 1:
        raise UsageError("--photo belongs to a single cut-out; give one at a time")

    from sgmatte.device import chosen_device
    from sgmatte.masks import read_cutout
    from sgmatte.photo import read_photo
    from sgmatte.scenery import background_of, check_background, in_front
    from sgmatte.writers import write_image

    behind = background_of(background, max_pixels)
    check_background(behind, photo is not None)
    original = read_photo(photo, max_pixels) if photo else None

    def work(cutout: Path, observe: Observe) -> dict[str, Any]:
        pixels = read_cutout(cutout, max_pixels)
        write_image(results[cutout], in_front(pixels, behind, original, blur, name=str(cutout)))
        return {
            "files": {"composite": str(results[cutout])},
            "size": list(pixels.shape[2:]),
            "background": background,
        }

    each_photo(results, work, Screen(quiet, json), chosen_device("cpu"))


def _results(cutouts: list[Path], out: Path | None, out_dir: Path | None) -> dict[Path, Path]:
    """Where the composite of each cut-out goes."""
    check_out(cutouts, out, out_dir)
    results = {
        cutout: out or (out_dir or cutout.parent) / f"{cutout.stem.removesuffix('_cutout')}_composite.png"
        for cutout in cutouts
    }
    check_results({cutout: [file] for cutout, file in results.items()})
    return results
