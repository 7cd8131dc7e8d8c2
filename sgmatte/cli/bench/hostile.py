"""`sgmatte bench fuzz`: hostile files for every reader."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from sgmatte.cli import options
from sgmatte.cli.messages import Screen, error_line

app = typer.Typer()


@app.command()
def fuzz(
    inputs: Annotated[int, typer.Option(help="Files in all, shared evenly by the targets.", min=1)] = 10_000,
    target: Annotated[
        list[str], typer.Option(help="A reader, such as photo or checkpoint; may be repeated. Without: all.")
    ] = [],  # noqa: B006
    minutes: Annotated[float | None, typer.Option(help="Stop after so many, evenly shared too.", min=0.01)] = None,
    seconds: Annotated[float, typer.Option(help="Processor time that one file may take.", min=0.1)] = 10.0,
    memory: Annotated[float, typer.Option(help="MB that a process may have.", min=100)] = 2000.0,
    keep: Annotated[Path, typer.Option(help="Folder for the files that were answered badly.")] = Path("fuzz"),
    seed: options.Seed = 0,
    quiet: options.Quiet = False,
    json: options.Json = False,
) -> None:
    """Damaged and hostile files for every reader: a traceback, a hang or too much memory is a finding, and exit code 1.

    Example: sgmatte bench fuzz --inputs 10000 --target photo --target checkpoint
    """
    from sgmatte.bench.fuzz import Limits, fuzzed
    from sgmatte.errors import UsageError
    from sgmatte.fuzz.corpus import CORPUS
    from sgmatte.fuzz.targets import TARGETS

    unknown = sorted(set(target) - TARGETS.keys())
    if unknown:
        raise UsageError(f"there is no target '{unknown[0]}'; they are {', '.join(TARGETS)}")
    wanted = [name for name in TARGETS if name in target or not target]
    screen = Screen(quiet, json)
    with screen.progress() as observe:
        tallies = fuzzed(
            {name: f"{TARGETS[name].__module__}:{TARGETS[name].__name__}" for name in wanted},
            {name: CORPUS[name]() for name in wanted},
            inputs,
            seed=seed,
            minutes=minutes,
            limits=Limits(seconds, memory),
            keep=keep,
            observe=observe,
        )
    screen.line(
        f"{'':12}" + "".join(f"{name:>10}" for name in ("inputs", "read", "refused", "bad", "s", "slowest", "MB"))
    )
    for row in tallies:
        cells = (row.inputs, row.read, row.refused, len(row.findings), f"{row.seconds:.0f}", f"{row.slowest:.2f}")
        screen.line(f"{row.target:12}" + "".join(f"{cell!s:>10}" for cell in (*cells, f"{row.peak_mb:.0f}")))
    findings = [found for row in tallies for found in row.findings]
    for found in findings:
        error_line(f"{found.target} {found.number}: {found.kind}: {found.why}; kept in {found.files}")
    shown = [
        {**asdict(row), "findings": [{**asdict(f), "files": str(f.files)} for f in row.findings]} for row in tallies
    ]
    screen.result({"seed": seed, "inputs": sum(row.inputs for row in tallies), "targets": shown})
    if findings:
        raise typer.Exit(1)
