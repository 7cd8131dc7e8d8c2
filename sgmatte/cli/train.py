"""`sgmatte train ...`: thin commands over sgmatte.train."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sgmatte.cli.messages import training_lines
from sgmatte.cli.options import DeviceChoice, RunFolder, Seed, WeightsOut

app = typer.Typer(no_args_is_help=True)


@app.command("critic")
def critic(
    data: Annotated[Path, typer.Option(help="Folder that holds portraits/train and portraits/dev (image, alpha).")],
    backgrounds: Annotated[Path, typer.Option(help="Photos without people.")],
    run: RunFolder,
    out: WeightsOut = Path("critic-composite.safetensors"),
    steps: int = 800,
    batch: int = 12,
    size: Annotated[int, typer.Option(help="Side of a training crop in pixels.")] = 192,
    cache: Annotated[Path | None, typer.Option(help="Folder for cut-out foregrounds; default inside --run.")] = None,
    workers: Annotated[int, typer.Option(help="Processes that prepare samples.")] = 1,
    seed: Seed = 0,
    device: DeviceChoice = "auto",
) -> None:
    """Train the critic of the adversarial loss: good composites against damaged ones.

    Example: sgmatte train critic --data portraits --backgrounds backgrounds --run runs/critic
    """
    from sgmatte import zoo
    from sgmatte.device import chosen_device
    from sgmatte.train.critic import trained_critic
    from sgmatte.train.loop import Recipe

    recipe = Recipe(
        steps, batch, lr=5e-4, warmup=50, ema=0.99, seed=seed, workers=workers, log_every=20, validate_every=200
    )
    network = trained_critic(
        data,
        backgrounds,
        recipe,
        run,
        size=size,
        cache=cache,
        device=chosen_device(device).torch,
        observe=training_lines(),
    )
    zoo.save_weights(out, network.state_dict(), network.config)
