"""`sgmatte matte` and `sgmatte trimap`: the networks without the enhancement."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sgmatte.cli import options
from sgmatte.cli.messages import Screen
from sgmatte.cli.photos import Asked, device_for, run_batch, selected
from sgmatte.errors import UsageError


def matte(
    photos: options.Sources = None,
    out: options.Output = None,
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
    format: options.Format = None,
    bits: options.Bits = "8",
    keep_metadata: options.KeepMetadata = False,
    recursive: options.Recursive = False,
    files_from: options.FilesFrom = None,
    name: options.Name = None,
    skip_existing: options.SkipExisting = None,
    report: options.Report = None,
    dry_run: options.DryRun = False,
    jobs: options.Jobs = 1,
    engine: options.EngineChoice = "local",
    max_pixels: options.MaxPixels = options.MAX_PIXELS,
    device: options.DeviceChoice = "auto",
    quiet: options.Quiet = False,
    json: options.Json = False,
) -> None:
    """Matte photos as they are: writes <stem>_alpha.png, white where the person is.

    Example: sgmatte matte photo.jpg --cutout
    """
    if trimap_width is not None and trimap is None:
        raise UsageError("--trimap-width makes a trimap of a mask: give the mask with --trimap")
    asked = Asked(
        photos or [], recursive, files_from, out, out_dir, name, skip_existing, dry_run, jobs, engine, json, report
    )
    kinds = ["alpha", "cutout"] if cutout else ["alpha"]
    form = options.form(format, bits, keep_metadata)
    with selected(asked, kinds, form, piped=kinds[-1]) as selection:
        if trimap is not None and len(selection.jobs) > 1:
            raise UsageError("--trimap belongs to a single photo")

        chosen = device_for(selection, device)

        from sgmatte.batch.tasks import MatteTask
        from sgmatte.settings import Settings

        settings = Settings(model=model, max_pixels=max_pixels)
        run_batch(selection, "matte", MatteTask(settings, chosen, trimap, trimap_width, form), Screen(quiet, json))


def trimap(
    photos: options.Sources = None,
    out: options.Output = None,
    out_dir: options.OutFolder = None,
    format: options.Format = None,
    recursive: options.Recursive = False,
    files_from: options.FilesFrom = None,
    name: options.Name = None,
    skip_existing: options.SkipExisting = None,
    report: options.Report = None,
    dry_run: options.DryRun = False,
    jobs: options.Jobs = 1,
    engine: options.EngineChoice = "local",
    max_pixels: options.MaxPixels = options.MAX_PIXELS,
    device: options.DeviceChoice = "auto",
    quiet: options.Quiet = False,
    json: options.Json = False,
) -> None:
    """Write <stem>_trimap.png: black is background, grey unknown, white foreground.

    Correct it in any paint program and give it back with `sgmatte matte --trimap`.

    Example: sgmatte trimap photo.jpg
    """
    asked = Asked(
        photos or [], recursive, files_from, out, out_dir, name, skip_existing, dry_run, jobs, engine, json, report
    )
    with selected(asked, ["trimap"], options.form(format), piped="trimap") as selection:
        chosen = device_for(selection, device)

        from sgmatte.batch.tasks import TrimapTask
        from sgmatte.settings import Settings

        run_batch(selection, "trimap", TrimapTask(Settings(max_pixels=max_pixels), chosen), Screen(quiet, json))
