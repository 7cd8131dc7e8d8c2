"""`sgmatte train critic|referee|gca|alphagan|trimap`: thin commands over sgmatte.train, for networks of portraits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import typer

from sgmatte.cli.messages import errors
from sgmatte.cli.options import DeviceChoice, RunFolder, Seed, WeightsOut
from sgmatte.cli.training import watched_training

app = typer.Typer()

Start = Annotated[
    Path | None, typer.Option(help="--run folder or weights of an earlier training to go on from.", show_default=False)
]
Extra = Annotated[
    Path | None,
    typer.Option(
        help="More people: a folder with image/, alpha/ and perhaps foreground/, such as `sgmatte generate` makes. "
        "Validation does without.",
        show_default=False,
    ),
]
ExtraWeight = Annotated[float, typer.Option(help="Share of the samples that shows people of --extra.", min=0, max=1)]


def _counted(what: str) -> Callable[[int, int], None]:
    """Cutting out a thousand portraits takes minutes; what is cached takes none."""

    def line(done: int, total: int) -> None:
        if done % 200 == 0 or done == total:
            errors.print(f"{what} {done}/{total}", markup=False)

    return line


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
    with watched_training() as watch:
        network = trained_critic(
            data,
            backgrounds,
            recipe,
            run,
            unseen=unseen,
            size=size,
            cache=cache,
            device=chosen_device(device).torch,
            observe=watch("critic"),
        )
    zoo.save_weights(out, network.head.state_dict())


@app.command("referee")
def referee(
    data: Annotated[Path, typer.Option(help="Portraits to cut out: a folder with image/ and alpha/.")],
    backgrounds: Annotated[Path, typer.Option(help="Photos without people; every fifth is kept for `bench matte`.")],
    run: RunFolder,
    out: WeightsOut = Path("referee-portrait.safetensors"),
    scenes: Annotated[int, typer.Option(help="Whole composites to learn from.", min=1)] = 3600,
    widest: Annotated[float, typer.Option(help="Share of a picture that may be unknown.", min=0, max=1)] = 0.12,
    steps: int = 2000,
    batch: int = 8,
    lr: Annotated[float, typer.Option(help="Peak learning rate.")] = 2e-3,
    cache: Annotated[Path | None, typer.Option(help="Folder for foregrounds and scenes; default inside --run.")] = None,
    workers: Annotated[int, typer.Option(help="Processes that prepare samples.")] = 1,
    seed: Seed = 0,
    device: DeviceChoice = "auto",
) -> None:
    """Train the referee, who tells whom of three networks a trimap shall believe where.

    Example: sgmatte train referee --data portraits/train --backgrounds backgrounds --run runs/referee
    """
    from sgmatte import zoo
    from sgmatte.device import chosen_device
    from sgmatte.train.loop import Recipe
    from sgmatte.train.referee import trained_referee

    recipe = Recipe(
        steps, batch, lr, warmup=100, weight_decay=0.01, ema=0.995, seed=seed, workers=workers, validate_every=500
    )
    with watched_training() as watch:
        network, bias = trained_referee(
            data,
            backgrounds,
            recipe,
            run,
            scenes=scenes,
            widest=widest,
            cache=cache,
            device=chosen_device(device).torch,
            observe=watch("referee"),
            observe_cache=_counted("foregrounds"),
            observe_scenes=_counted("scenes"),
        )
    zoo.save_weights(out, network.state_dict(), {"unknown_bias": bias})


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
    start: Start = None,
    extra: Extra = None,
    extra_weight: ExtraWeight = 0.3,
    scenes: Annotated[
        int, typer.Option(help="Whole composites whose trimap the network finds; 0 for none.", min=0)
    ] = 0,
    scene_weight: Annotated[float, typer.Option(help="Share of the samples that come from them.", min=0, max=1)] = 0.6,
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
    with watched_training() as watch:
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
            extra=extra,
            extra_weight=extra_weight,
            scenes=scenes,
            scene_share=scene_weight,
            device=chosen_device(device).torch,
            observe=watch("GCA"),
            observe_cache=_counted("foregrounds"),
            observe_scenes=_counted("scenes"),
        )
    zoo.save_weights(out, network.state_dict(), {"width": width})


@app.command("alphagan")
def alphagan(
    data: Annotated[Path, typer.Option(help="Portraits to cut out: a folder with image/ and alpha/.")],
    backgrounds: Annotated[Path, typer.Option(help="Photos without people; every fifth is kept for `bench matte`.")],
    run: RunFolder,
    out: WeightsOut = Path("alphagan-portrait.safetensors"),
    discriminator_out: Annotated[Path, typer.Option(help="Where the discriminator's weights go.")] = Path(
        "alphagan-discriminator-portrait.safetensors"
    ),
    alpha_weight: Annotated[float, typer.Option(help="Of the alpha loss.", min=0)] = 0.5,
    composition_weight: Annotated[float, typer.Option(help="Of the composition loss.", min=0)] = 0.5,
    gan_weight: Annotated[
        float, typer.Option(help="Of the GAN loss; 0 trains without a discriminator.", min=0)
    ] = 0.001,
    width: Annotated[float, typer.Option(help="Scale of every layer's channels; 1.0 is the published network.")] = 0.5,
    steps: int = 5500,
    batch: Annotated[int, typer.Option(help="Samples of each process in a step.")] = 6,
    lr: Annotated[float, typer.Option(help="Peak learning rate.")] = 4e-4,
    size: Annotated[int, typer.Option(help="Side of a training crop in pixels, a multiple of 8.")] = 192,
    zoom: Annotated[float, typer.Option(help="Crops cover up to this many times --size, scaled down.", min=1)] = 1.9,
    band: Annotated[float, typer.Option(help="Widest trimap band beside the boundary, in pixels.", min=5)] = 40,
    precision: Annotated[
        Literal["bf16", "fp32"], typer.Option(help="Of convolutions; weights and losses are float32.")
    ] = "bf16",
    cache: Annotated[Path | None, typer.Option(help="Folder for cut-out foregrounds; default inside --run.")] = None,
    start: Start = None,
    extra: Extra = None,
    extra_weight: ExtraWeight = 0.3,
    compiled: Annotated[
        bool, typer.Option("--compile", help="Compile the network first: two minutes, then steps are much quicker.")
    ] = False,
    workers: Annotated[int, typer.Option(help="Processes that prepare samples.")] = 1,
    seed: Seed = 0,
    device: DeviceChoice = "auto",
) -> None:
    """Train AlphaGAN, a matting network and a discriminator of composites.

    On several GPUs or machines: torchrun --nproc-per-node 4 -m -- sgmatte train alphagan ...

    Example: sgmatte train alphagan --data portraits/train --backgrounds backgrounds --run runs/alphagan
    """
    from sgmatte import zoo
    from sgmatte.device import chosen_device
    from sgmatte.train.alphagan import Weights, trained_alphagan
    from sgmatte.train.loop import Recipe
    from sgmatte.train.team import joined_team

    recipe = Recipe(
        steps, batch, lr, betas=(0.5, 0.999), bf16=precision == "bf16", seed=seed, workers=workers, validate_every=500
    )
    with joined_team(chosen_device(device).torch) as (team, place), watched_training() as watch:
        generator, discriminator = trained_alphagan(
            data,
            backgrounds,
            recipe,
            run,
            weights=Weights(alpha_weight, composition_weight, gan_weight),
            width=width,
            size=size,
            zoom=zoom,
            band=band,
            cache=cache,
            start=start,
            extra=extra,
            extra_weight=extra_weight,
            compiled=compiled,
            device=place,
            team=team,
            observe=watch("AlphaGAN"),
            observe_cache=_counted("foregrounds"),
        )
    if team.leads:
        zoo.save_weights(out, generator.state_dict(), generator.config)
        if discriminator:
            zoo.save_weights(discriminator_out, discriminator.state_dict(), discriminator.config)


@app.command("trimap")
def trimap(
    data: Annotated[Path, typer.Option(help="Portraits: a folder with image/, alpha/ and mask/.")],
    run: RunFolder,
    backgrounds: Annotated[Path | None, typer.Option(help="Photos without people, to place some portraits on.")] = None,
    out: WeightsOut = Path("deeplab-portrait.safetensors"),
    start: Start = None,
    steps: int = 2000,
    batch: int = 8,
    lr: Annotated[float, typer.Option(help="Peak learning rate.")] = 1e-3,
    ema: Annotated[float, typer.Option(help="Decay of the averaged weights, which are what is kept.")] = 0.995,
    side: Annotated[int, typer.Option(help="Longest side of a photo in the network, in pixels.")] = 384,
    band: Annotated[float, typer.Option(help="Width of the band past soft alpha, in longest sides.")] = 0.005,
    thaw: Annotated[
        bool, typer.Option("--thaw", help="Train the backbone's depthwise layers too: a step takes longer.")
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
    with watched_training() as watch:
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
            observe=watch("trimap network"),
        )
    zoo.save_weights(out, network.network.state_dict(), {"side": side, "unknown_bias": network.unknown_bias})
