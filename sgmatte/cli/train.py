"""`sgmatte train ...`: thin commands over sgmatte.train."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated

import typer

from sgmatte.cli.messages import errors, training_lines
from sgmatte.cli.options import DeviceChoice, RunFolder, Seed, WeightsOut

app = typer.Typer(no_args_is_help=True)


def _cutout_lines(done: int, total: int) -> None:
    """Cutting out a thousand portraits takes minutes; a cached one takes none."""
    if done % 200 == 0 or done == total:
        errors.print(f"foregrounds {done}/{total}", markup=False)


@app.command("critic")
def critic(
    data: Annotated[Path, typer.Option(help="Portraits to cut out: a folder with image/ and alpha/.")],
    backgrounds: Annotated[Path, typer.Option(help="Photos without people; every fifth is kept for --unseen.")],
    run: RunFolder,
    out: WeightsOut = Path("critic-composite.safetensors"),
    unseen: Annotated[
        Path | None, typer.Option(help="Other portraits, to measure accuracy on.", show_default=False)
    ] = None,
    steps: int = 1000,
    batch: int = 12,
    lr: Annotated[float, typer.Option(help="Peak learning rate.")] = 2e-3,
    size: Annotated[int, typer.Option(help="Side of a training crop in pixels.")] = 192,
    cache: Annotated[Path | None, typer.Option(help="Folder for cut-out foregrounds; default inside --run.")] = None,
    workers: Annotated[int, typer.Option(help="Processes that prepare samples; 0 prepares them in this one.")] = 1,
    seed: Seed = 0,
    device: DeviceChoice = "auto",
) -> None:
    """Train the critic of the adversarial loss: good composites against damaged ones.

    Example: sgmatte train critic --data portraits/train --backgrounds backgrounds --run runs/critic
    """
    from sgmatte import zoo
    from sgmatte.device import chosen_device
    from sgmatte.train.critic import trained_critic
    from sgmatte.train.loop import Recipe

    recipe = Recipe(
        steps,
        batch,
        lr,
        warmup=30,
        ema=0.98,
        seed=seed,
        workers=workers,
        log_every=20,
        checkpoint_every=50,
        validate_every=500,
    )
    network = trained_critic(
        data,
        backgrounds,
        recipe,
        run,
        unseen=unseen,
        size=size,
        cache=cache,
        device=chosen_device(device).torch,
        observe=training_lines(),
    )
    zoo.save_weights(out, network.head.state_dict())


@app.command("gca")
def gca(
    data: Annotated[Path, typer.Option(help="Portraits to cut out: a folder with image/ and alpha/.")],
    backgrounds: Annotated[Path, typer.Option(help="Photos without people; every fifth is kept for `bench matte`.")],
    run: RunFolder,
    out: WeightsOut = Path("gca-portrait.safetensors"),
    width: Annotated[float, typer.Option(help="Scale of every layer's channels; 1.0 is the published network.")] = 0.5,
    steps: int = 5500,
    batch: int = 6,
    lr: Annotated[float, typer.Option(help="Peak learning rate.")] = 1e-3,
    size: Annotated[int, typer.Option(help="Side of a training crop in pixels.")] = 192,
    zoom: Annotated[float, typer.Option(help="Crops cover up to this many times --size, scaled down.", min=1)] = 1.9,
    band: Annotated[float, typer.Option(help="Widest trimap band beside the boundary, in pixels.", min=5)] = 40,
    cache: Annotated[Path | None, typer.Option(help="Folder for cut-out foregrounds; default inside --run.")] = None,
    start: Annotated[Path | None, typer.Option(help="--run folder of an earlier training to go on from.")] = None,
    workers: Annotated[int, typer.Option(help="Processes that prepare samples.")] = 1,
    seed: Seed = 0,
    device: DeviceChoice = "auto",
) -> None:
    """Train the GCA matting network on composites of cut-out portraits and backgrounds.

    Example: sgmatte train gca --data portraits/train --backgrounds backgrounds --run runs/gca
    """
    from sgmatte import zoo
    from sgmatte.device import chosen_device
    from sgmatte.train.gca import trained_gca
    from sgmatte.train.loop import Recipe

    recipe = Recipe(steps, batch, lr, betas=(0.5, 0.999), seed=seed, workers=workers)
    network = trained_gca(
        data,
        backgrounds,
        recipe,
        run,
        width=width,
        size=size,
        zoom=zoom,
        band=band,
        cache=cache,
        start=start,
        device=chosen_device(device).torch,
        observe=training_lines(),
        observe_cache=_cutout_lines,
    )
    zoo.save_weights(out, network.state_dict(), {"width": width})


@app.command("trimap")
def trimap(
    data: Annotated[Path, typer.Option(help="Portraits: a folder with image/, alpha/ and mask/.")],
    run: RunFolder,
    backgrounds: Annotated[Path | None, typer.Option(help="Photos without people, to place some portraits on.")] = None,
    out: WeightsOut = Path("deeplab-portrait.safetensors"),
    start: Annotated[
        Path | None, typer.Option(help="--run folder of an earlier training to go on from, instead of ImageNet.")
    ] = None,
    steps: int = 2000,
    batch: int = 8,
    lr: Annotated[float, typer.Option(help="Peak learning rate.")] = 1e-3,
    ema: Annotated[float, typer.Option(help="Decay of the averaged weights, which are what is kept.")] = 0.995,
    side: Annotated[int, typer.Option(help="Longest side of a photo in the network, in pixels.")] = 384,
    band: Annotated[float, typer.Option(help="Width of the band past soft alpha, in longest sides.")] = 0.005,
    thaw: Annotated[
        bool, typer.Option("--thaw", help="Train the backbone's depthwise layers too: a step takes twice as long.")
    ] = False,
    workers: Annotated[int, typer.Option(help="Processes that prepare samples; 0 prepares them in this one.")] = 1,
    seed: Seed = 0,
    device: DeviceChoice = "auto",
) -> None:
    """Train the DeepLab trimap network on portraits, and on composites of them.

    Example: sgmatte train trimap --data portraits/train --backgrounds backgrounds --run runs/trimap
    """
    from sgmatte import zoo
    from sgmatte.device import chosen_device
    from sgmatte.train.loop import Recipe
    from sgmatte.train.trimap import trained_trimap

    recipe = Recipe(
        steps,
        batch,
        lr,
        warmup=100,
        weight_decay=0.01,
        ema=ema,
        seed=seed,
        workers=workers,
        log_every=25,
        checkpoint_every=100,
        validate_every=500,
    )
    network = trained_trimap(
        data,
        backgrounds,
        recipe,
        run,
        side=side,
        band=band,
        start=start,
        thaw=thaw,
        device=chosen_device(device).torch,
        observe=training_lines(),
    )
    zoo.save_weights(out, network.network.state_dict(), {"side": side, "unknown_bias": network.unknown_bias})


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
    from sgmatte.generator import HEADS, load_networks
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
    trained = trained_head(files, size, recipe, run / str(size), device=chosen, observe=training_lines())
    zoo.save_weights(out or Path(f"mobilestylegan-head-{size}.safetensors"), trained.state_dict(), {"size": size})


@app.command("generator")
def generator(
    run: RunFolder,
    faces: Annotated[
        Path | None,
        typer.Option(help="Real faces, 256x256, aligned as FFHQ's: half of what the discriminator takes for real."),
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
    effort: Annotated[float, typer.Option(help="Multiplies the steps of every lesson.", min=0)] = 1.0,
    seed: Seed = 0,
    device: DeviceChoice = "auto",
) -> None:
    """Train a small StyleGAN2 that shares its W with MobileStyleGAN, its teacher, and a discriminator.

    Lessons are 16, 64, 64-again, 256 and duel, in which the discriminator takes part.

    Example: sgmatte train generator --run runs/generator --faces faces
    """
    from sgmatte import zoo
    from sgmatte.device import chosen_device
    from sgmatte.errors import UsageError
    from sgmatte.generator import load_mobilestylegan
    from sgmatte.nn.perceptual import perceptual_distance
    from sgmatte.train.adversarial import Duel
    from sgmatte.train.generator import LESSONS, trained_generator
    from sgmatte.train.teacher import Teacher

    names = [*(lesson.name for lesson in LESSONS), "duel"]
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

    def lesson_lines(name: str) -> Callable[[int, int, Mapping[str, float]], None]:
        errors.print(f"lesson {name}", markup=False)
        return training_lines()

    student, discriminator = trained_generator(
        teacher,
        run,
        lessons=[lesson for lesson in LESSONS if lesson.name in taken],
        duel=Duel() if "duel" in taken else None,
        faces=faces,
        start=before,
        effort=effort,
        seed=seed,
        perceptual=perceptual_distance("auto", chosen),
        device=chosen,
        observe=lesson_lines,
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
