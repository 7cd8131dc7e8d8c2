"""`sgmatte composite`: cut-outs before another background."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from sgmatte.batch.names import Job
from sgmatte.cli import options
from sgmatte.cli.messages import Screen
from sgmatte.cli.photos import check_out, each_photo, named_jobs
from sgmatte.errors import UsageError
from sgmatte.forms import Form
from sgmatte.observers import Observe


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
    format: options.Format = None,
    bits: options.Bits = "8",
    keep_metadata: options.KeepMetadata = False,
    max_pixels: options.MaxPixels = options.MAX_PIXELS,
    quiet: options.Quiet = False,
    json: options.Json = False,
) -> None:
    """Put cut-outs before another background: writes <stem>_composite.png.

    Example: sgmatte composite portrait_cutout.png --background beach.jpg
    """
    form = options.form(format, bits, keep_metadata)
    jobs = _jobs(cutouts, out, out_dir, form)
    if photo is not None and len(cutouts) > 1:
        raise UsageError("--photo belongs to a single cut-out; give one at a time")

    from sgmatte.device import chosen_device
    from sgmatte.masks import read_cutout
    from sgmatte.metadata import metadata_for
    from sgmatte.photo import read_photo
    from sgmatte.scenery import background_of, check_background, in_front
    from sgmatte.writers import written

    behind = background_of(background, max_pixels)
    check_background(behind, photo is not None)
    original = read_photo(photo, max_pixels) if photo else None

    def work(job: Job, observe: Observe) -> dict[str, Any]:
        pixels = read_cutout(job.photo, max_pixels)
        metadata = metadata_for(form, job.photo, max_pixels)
        picture = in_front(pixels, behind, original, blur, name=str(job.photo))
        written("composite", job.files["composite"], picture, form, metadata)
        return {
            "files": {"composite": str(job.files["composite"])},
            "size": list(pixels.shape[2:]),
            "background": background,
            "notes": list(metadata.notes),
        }

    each_photo(jobs, work, Screen(quiet, json), chosen_device("cpu"))


def _jobs(cutouts: list[Path], out: Path | None, out_dir: Path | None, form: Form) -> list[Job]:
    """Each cut-out with the file of its composite."""
    check_out(cutouts, out, out_dir)
    suffix = form.suffixes(["composite"])["composite"]

    def files(cutout: Path) -> dict[str, Path]:
        name = f"{cutout.stem.removesuffix('_cutout')}_composite{suffix}"
        return {"composite": out or (out_dir or cutout.parent) / name}

    jobs = named_jobs(cutouts, out_dir, files)
    for job in jobs:
        form.check(job.files)
    return jobs
