"""`sgmatte train head|generator|encoder`: thin commands over sgmatte.train, for networks around a generator."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sgmatte.cli.options import DeviceChoice, RunFolder, Seed, WeightsOut
from sgmatte.cli.training import watched_training

app = typer.Typer()


@app.command("head")
def head(
    run: RunFolder,
    size: Annotated[int, typer.Option(help="256 or 512.")] = 256,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Default: mobilestylegan-head-SIZE.safetensors.")
    ] = None,
    pictures: Annotated[int, typer.Option(help="Pictures that the whole network draws; both sizes share them.")] = 2000,
    steps: int = 6000,
    batch: int = 8,
    lr: Annotated[float, typer.Option(help="Peak learning rate.")] = 2e-3,
    seed: Seed = 0,
    device: DeviceChoice = "auto",
) -> None:
    """Train an output head that draws smaller pictures, on the whole generator's own.

    Example: sgmatte train head --size 256 --run runs/head
    """
    from sgmatte import zoo
    from sgmatte.cli.messages import Screen
    from sgmatte.device import chosen_device
    from sgmatte.generator import load_networks
    from sgmatte.generators import HEADS
    from sgmatte.train.head import trained_head, write_pictures
    from sgmatte.train.loop import Recipe

    chosen = chosen_device(device).torch
    mapping, synthesis = load_networks(chosen, exact=False)
    with Screen().progress() as observe:
        files = write_pictures(
            mapping, synthesis, tuple(HEADS), run / "pictures", pictures, seed, lambda *at: observe("pictures", *at)
        )
    recipe = Recipe(
        steps, batch, lr, betas=(0.9, 0.99), ema=0.998, bf16=False, seed=seed, workers=0, validate_every=2000
    )
    with watched_training() as watch:
        trained = trained_head(files, size, recipe, run / str(size), device=chosen, observe=watch("head"))
    zoo.save_weights(out or Path(f"mobilestylegan-head-{size}.safetensors"), trained.state_dict(), {"size": size})


@app.command("generator")
def generator(
    run: RunFolder,
    faces: Annotated[
        Path | None,
        typer.Option(help="Real faces, 256x256, aligned as FFHQ's: half of what counts as real."),
    ] = None,
    out: WeightsOut = Path("stylegan2-portrait-256.safetensors"),
    start: Annotated[
        Path | None,
        typer.Option(help="A generator's weights to go on from, with its discriminator's beside them."),
    ] = None,
    first: Annotated[str | None, typer.Option(help="Lesson to begin with; earlier ones are left out.")] = None,
    last: Annotated[str | None, typer.Option(help="Lesson to end with; later ones are left out.")] = None,
    discriminator_out: Annotated[Path, typer.Option(help="Where the discriminator's weights go.")] = Path(
        "stylegan2-portrait-discriminator-256.safetensors"
    ),
    adversarial: Annotated[
        float, typer.Option(help="Slope of the critic's loss in the duel, in that of the others together.", min=0)
    ] = 2.0,
    effort: Annotated[float, typer.Option(help="Multiplies the steps of every lesson.", min=0)] = 1.0,
    seed: Seed = 0,
    device: DeviceChoice = "auto",
) -> None:
    """Train a small StyleGAN2 that shares its W with MobileStyleGAN, its teacher, and a discriminator.

    Lessons are 16, 64, 64-again, 256, duel, in which a critic sharpens the pictures, discriminator, and mapping.

    Example: sgmatte train generator --run runs/generator --faces faces
    """
    from sgmatte import zoo
    from sgmatte.device import chosen_device
    from sgmatte.errors import UsageError
    from sgmatte.generator import load_mobilestylegan
    from sgmatte.nn.perceptual import perceptual_distance
    from sgmatte.train.adversarial import Duel
    from sgmatte.train.examination import Examination
    from sgmatte.train.generator import LESSONS, MAPPING_STEPS, trained_generator
    from sgmatte.train.teacher import Teacher

    names = [*(lesson.name for lesson in LESSONS), "duel", "discriminator", "mapping"]
    for name in (first, last):
        if name not in (None, *names):
            raise UsageError(f"there is no lesson '{name}'; they are {', '.join(names)}")
    taken = names[names.index(first) if first else 0 : names.index(last) + 1 if last else None]
    before = None
    if start:
        judge = start.with_name(discriminator_out.name)
        before = (zoo.state(start), zoo.state(judge) if judge.exists() else None)

    chosen = chosen_device(device).torch
    teacher = Teacher(load_mobilestylegan(256, chosen, exact=False))

    with watched_training() as watch:
        student, discriminator = trained_generator(
            teacher,
            run,
            lessons=[lesson for lesson in LESSONS if lesson.name in taken],
            duel=Duel(adversarial=adversarial) if "duel" in taken else None,
            examination=Examination() if "discriminator" in taken else None,
            mapping_steps=MAPPING_STEPS if "mapping" in taken else 0,
            faces=faces,
            start=before,
            effort=effort,
            seed=seed,
            perceptual=perceptual_distance("auto", chosen),
            device=chosen,
            observe=watch,
        )
    zoo.save_weights(out, student.state_dict(), student.config)
    if discriminator:
        zoo.save_weights(discriminator_out, discriminator.state_dict(), discriminator.config)


@app.command("encoder")
def encoder(
    run: RunFolder,
    out: WeightsOut = Path("w-encoder-faces.safetensors"),
    portraits: Annotated[int, typer.Option(help="Portraits that the teacher draws; `train generator` shares them.")] = (
        8192
    ),
    seed: Seed = 0,
    device: DeviceChoice = "auto",
) -> None:
    """Fit the encoder that inversions start from: w from what an ImageNet network sees in generated portraits.

    Example: sgmatte train encoder --run runs/generator
    """
    from sgmatte import zoo
    from sgmatte.cli.messages import Screen
    from sgmatte.device import chosen_device
    from sgmatte.generator import load_mobilestylegan
    from sgmatte.train.encoder import fitted_encoder
    from sgmatte.train.teacher import Album, Teacher, latents_of

    chosen = chosen_device(device).torch
    teacher, screen = Teacher(load_mobilestylegan(256, chosen, exact=False)), Screen()
    album = Album(teacher, latents_of(256), run / "pictures", portraits, seed)
    with screen.progress() as observe:
        album.draw(lambda *at: observe("portraits", *at))
        fit = fitted_encoder(album, chosen, lambda *at: observe("features", *at))
    screen.note(
        f"{fit.portraits} portraits of one w, ridge {fit.ridge:g}: "
        f"{fit.explained:.3f} of W's variance is found in those held out"
    )
    state = fit.encoder.state_dict()
    zoo.save_weights(out, {key: value for key, value in state.items() if not key.startswith("trunk.")})
