"""`sgmatte bench ...`: thin commands over sgmatte.bench; each prints a table and, with --json, one JSON line."""

from __future__ import annotations

import typer

app = typer.Typer(no_args_is_help=True)
