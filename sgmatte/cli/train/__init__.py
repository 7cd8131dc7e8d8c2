"""`sgmatte train ...`: the commands that made the bundled weights."""

import typer

from sgmatte.cli.train import generators, matting, trimaps

app = typer.Typer(no_args_is_help=True)
app.add_typer(matting.app)
app.add_typer(trimaps.app)
app.add_typer(generators.app)
