"""`sgmatte train critic|gca|alphagan`: thin commands over sgmatte.train, for networks that matte and judge mattes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from sgmatte.cli.options import DeviceChoice, RunFolder, Seed, Start, WeightsOut
from sgmatte.cli.training import counted, watched_training

app = typer.Typer()

Extra = Annotated[
    Path | None,
    typer.Option(
        help="More people: a folder with image/, alpha/ and perhaps foreground/, such as `sgmatte generate` makes. "
        "Validation does without.",
        show_default=False,
    ),
]
ExtraWeight = Annotated[float, typer.Option(help="Share of the samples that shows people of --extra.", min=0, max=1)]


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
            observe_cache=counted("foregrounds"),
            observe_scenes=counted("scenes"),
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
            observe_cache=counted("foregrounds"),
        )
    if team.leads:
        zoo.save_weights(out, generator.state_dict(), generator.config)
        if discriminator:
            zoo.save_weights(discriminator_out, discriminator.state_dict(), discriminator.config)
