"""`sgmatte bench batch`: what batches promise."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from sgmatte.cli import options
from sgmatte.cli.messages import Screen

app = typer.Typer()


@app.command()
def batch(
    part: Annotated[
        Literal["all", "kill", "jobs", "ray"],
        typer.Option(help="kill: lose nothing under `kill -9`. jobs: time and memory. ray: the same bytes."),
    ] = "all",
    photos: Annotated[int, typer.Option(help="Photos to be killed at; drawn, and made by the generator.", min=2)] = 200,
    broken: Annotated[int, typer.Option(help="So many of them are broken, in ten ways.", min=0)] = 20,
    kills: Annotated[int, typer.Option(help="Times that the batch is killed.", min=0)] = 20,
    command: Annotated[Literal["trimap", "matte"], typer.Option(help="What the batch does.")] = "trimap",
    jobs: Annotated[int, typer.Option("--jobs", "-j", help="Processes of the killed batch.", min=1)] = 1,
    few: Annotated[int, typer.Option(help="Photos for times, memory and Ray.", min=2)] = 16,
    keep: Annotated[Path | None, typer.Option(help="Leave photos and results in this folder.")] = None,
    seed: options.Seed = 0,
    quiet: options.Quiet = False,
    json: options.Json = False,
) -> None:
    """Batches: nothing lost under `kill -9`, two jobs against one with two threads, memory of a job, Ray.

    Example: sgmatte bench batch --part kill
    """
    from sgmatte.bench.batch_photos import made_photos

    screen = Screen(quiet, json)
    with ExitStack() as stack:
        folder = keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sgmatte-")))
        results: dict[str, Any] = {}
        if part in ("all", "kill"):
            made = made_photos(folder / "photos", photos, broken, seed)
            results["kill"] = _kill(screen, made, folder / "killed", command, kills, seed, jobs)
        plain = made_photos(folder / "few", few, 0, seed).good
        if part in ("all", "jobs"):
            results["jobs"] = _jobs(screen, plain, folder, command)
        if part in ("all", "ray"):
            results["ray"] = _ray(screen, plain, folder, command)
    screen.result(results)
    if "kill" in results and not results["kill"]["flawless"]:
        raise typer.Exit(1)


def _kill(screen: Screen, made: Any, out: Path, command: str, kills: int, seed: int, jobs: int) -> dict[str, Any]:
    from sgmatte.bench.batch import killed_batch

    with screen.progress() as observe:
        found = killed_batch(made, out, command, kills, seed, jobs, lambda *at: observe("killed batch", *at))
    screen.line(
        f"killed {found.kills} times in {found.seconds:.0f} s: {found.complete} of {found.good} good photos complete "
        f"once, {found.reported} of {found.broken} broken ones reported once, {found.interrupted} begun more than "
        f"once, {len(found.leftovers)} files left over, exit code {found.exit_code}"
    )
    return asdict(found) | {"flawless": found.is_flawless}


def _jobs(screen: Screen, photos: Any, folder: Path, command: str) -> dict[str, Any]:
    from sgmatte.bench.batch import batch_cost

    costs = {}
    for name, (processes, threads) in {"one": (1, 2), "two": (2, 1), "three": (3, 1)}.items():
        costs[name] = batch_cost(photos, folder / f"jobs-{name}", command, processes, threads)
        memory = costs[name].memory_mb
        screen.line(
            f"{processes} job{'s' * (processes > 1)}{' with 2 threads' * (processes == 1)}, {len(photos)} photos: "
            f"{costs[name].seconds:.1f} s{f', {memory:.0f} MB' if memory else ''}"
        )
    two, three = costs["two"].memory_mb, costs["three"].memory_mb
    if two and three:
        screen.line(f"an extra job takes {three - two:.0f} MB")
    return {name: asdict(cost) for name, cost in costs.items()}


def _ray(screen: Screen, photos: Any, folder: Path, command: str) -> dict[str, Any]:
    from sgmatte.bench.batch import batch_cost, same_bytes

    plain = batch_cost(photos, folder / "plain", command, 2, 1)
    ray = batch_cost(photos, folder / "ray", command, 2, 1, engine="ray")
    same = same_bytes(folder / "plain", folder / "ray")
    screen.line(
        f"Ray with 2 workers: {ray.seconds:.1f} s, plain {plain.seconds:.1f} s, {'the same' if same else 'other'} bytes"
    )
    return {"plain": asdict(plain), "ray": asdict(ray), "same_bytes": same}
