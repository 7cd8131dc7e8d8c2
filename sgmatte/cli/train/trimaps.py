"""`sgmatte train trimap|person|referee`: thin commands over sgmatte.train, for networks that find trimaps."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sgmatte.cli.options import DeviceChoice, RunFolder, Seed, Start, WeightsOut
from sgmatte.cli.training import counted, watched_training

app = typer.Typer()


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


@app.command("person")
def person(
    data: Annotated[Path, typer.Option(help="Portraits to cut out: a folder with image/ and alpha/.")],
    backgrounds: Annotated[Path, typer.Option(help="Photos without people; every fifth is kept for `bench matte`.")],
    run: RunFolder,
    out: WeightsOut = Path("person-portrait.safetensors"),
    steps: int = 1000,
    batch: Annotated[int, typer.Option(help="Samples of each process in a step.")] = 4,
    lr: Annotated[float, typer.Option(help="Peak learning rate.")] = 8e-4,
    strength: Annotated[
        float, typer.Option(help="How much of what is learned is kept; the rest stays as it was.", min=0, max=1)
    ] = 0.5,
    cache: Annotated[Path | None, typer.Option(help="Folder for cut-out foregrounds; default inside --run.")] = None,
    workers: Annotated[int, typer.Option(help="Processes that prepare samples.")] = 1,
    seed: Seed = 0,
    device: DeviceChoice = "auto",
) -> None:
    """Adapt Robust Video Matting to portraits, without a change of its own values.

    On several GPUs or machines: torchrun --nproc-per-node 4 -m -- sgmatte train person ...

    Example: sgmatte train person --data portraits/train --backgrounds backgrounds --run runs/person
    """
    from sgmatte import zoo
    from sgmatte.device import chosen_device
    from sgmatte.train.loop import Recipe
    from sgmatte.train.person import trained_person
    from sgmatte.train.team import joined_team

    recipe = Recipe(steps, batch, lr, warmup=100, seed=seed, workers=workers, validate_every=250)
    with joined_team(chosen_device(device).torch) as (team, place), watched_training() as watch:
        adapter = trained_person(
            data,
            backgrounds,
            recipe,
            run,
            cache=cache,
            device=place,
            team=team,
            observe=watch("person network"),
            observe_cache=counted("foregrounds"),
        )
    if team.leads:
        zoo.save_weights(out, adapter.weakened(strength))


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
            observe_cache=counted("foregrounds"),
            observe_scenes=counted("scenes"),
        )
    zoo.save_weights(out, network.state_dict(), {"unknown_bias": bias})
