"""`sgmatte bench ...`: the commands behind every figure that sgmatte claims."""

import typer

from sgmatte.cli.bench import batches, generators, hostile, portraits, reports

app = typer.Typer(no_args_is_help=True)
app.add_typer(portraits.app)
app.add_typer(generators.app)
app.add_typer(reports.app)
app.add_typer(batches.app)
app.add_typer(hostile.app)
