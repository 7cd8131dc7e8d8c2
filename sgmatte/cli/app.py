"""The command line's table of contents. Commands import what they compute with inside, so `--help` stays instant."""

from __future__ import annotations

import io
import sys
from shutil import get_terminal_size
from typing import Annotated, Any

import typer

from sgmatte import __version__
from sgmatte.cli import (
    bench,
    composite,
    config,
    doctor,
    enhance,
    evaluate,
    generate,
    invert,
    matte,
    messages,
    study,
    train,
    weights,
)
from sgmatte.cli.messages import error_line
from sgmatte.errors import SgmatteError

COLUMNS = get_terminal_size().columns
IS_NARROW = COLUMNS < messages.ROOMY  # boxes would cut the names of options: plain help then

app = typer.Typer(
    name="sgmatte",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None if IS_NARROW else "rich",
    context_settings={"terminal_width": COLUMNS} if IS_NARROW else None,
    help="Portrait enhancement and matting: a photo of a person in, a clean cut-out out.",
)
app.command()(enhance.enhance)
app.command()(invert.invert)
app.command()(matte.matte)
app.command()(matte.trimap)
app.command()(composite.composite)
app.command()(generate.generate)
app.command()(evaluate.evaluate)
app.command()(doctor.doctor)
app.command()(config.config)
app.add_typer(weights.app, name="weights", help="The trained weights: list, fetch, verify, find.")
app.add_typer(train.app, name="train", help="Train the networks that sgmatte ships, on your own data.")
app.add_typer(study.app, name="study", help="What enhancement does to mattes, and generated portraits to training.")
app.add_typer(bench.app, name="bench", help="Measure every figure that sgmatte claims.")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"sgmatte {__version__}")
        raise typer.Exit


def _set_help_under_names(context: typer.Context) -> None:
    """Have help explain options below their names, indented: a column beside them would be too slim for words."""
    usual: Any = type(context.make_formatter())

    class Formatter(usual):
        def write_dl(self, rows: Any, col_max: int = 8, col_spacing: int = 2) -> None:
            super().write_dl(rows, min(col_max, 8), col_spacing)

    type(context).formatter_class = Formatter


@app.callback()
def _options(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and leave.", callback=_print_version, is_eager=True)
    ] = False,
    no_config: Annotated[bool, typer.Option("--no-config", help="Do without every sgmatte.toml.")] = False,
) -> None:
    from sgmatte.cli.settings import commands_of, config_files, default_map, settings_in

    if IS_NARROW:
        _set_help_under_names(context)
    if context.resilient_parsing:  # a shell asks for completions: a broken file is not its business
        return
    found = settings_in([] if no_config else config_files(), commands_of(app))
    context.default_map, context.obj = default_map(found), found
    messages.configs = list(dict.fromkeys(s.file for s in found if s.command.split()[0] == context.invoked_subcommand))


def main() -> None:
    """Entry point of the `sgmatte` script: expected failures become one line and an exit code."""
    for stream in (sys.stdout, sys.stderr):  # a file name that is no UTF-8 is printed as the bytes that it is
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="surrogateescape")
    try:
        app()
    except SgmatteError as error:
        error_line(str(error))
        sys.exit(error.exit_code)
