"""`sgmatte composite`: cut-outs before another background."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from sgmatte.batch.names import Job
from sgmatte.cli import options
from sgmatte.cli.messages import Observe, Screen
from sgmatte.cli.photos import check_out, each_photo, named_jobs
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
    jobs = _jobs(cutouts, out, out_dir)
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

    def work(job: Job, observe: Observe) -> dict[str, Any]:
        pixels = read_cutout(job.photo, max_pixels)
        write_image(job.files["composite"], in_front(pixels, behind, original, blur, name=str(job.photo)))
        return {
            "files": {"composite": str(job.files["composite"])},
            "size": list(pixels.shape[2:]),
            "background": background,
        }

    each_photo(jobs, work, Screen(quiet, json), chosen_device("cpu"))


def _jobs(cutouts: list[Path], out: Path | None, out_dir: Path | None) -> list[Job]:
    """Each cut-out with the file of its composite."""
    check_out(cutouts, out, out_dir)

    def files(cutout: Path) -> dict[str, Path]:
        name = f"{cutout.stem.removesuffix('_cutout')}_composite.png"
        return {"composite": out or (out_dir or cutout.parent) / name}

    return named_jobs(cutouts, out_dir, files)
