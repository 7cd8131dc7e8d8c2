"""`sgmatte config`: which defaults sgmatte.toml gives, and from where."""

from __future__ import annotations

import json as notation
from pathlib import Path

import typer

from sgmatte.cli import options
from sgmatte.cli.messages import Screen
from sgmatte.cli.settings import NAME, Setting, project_places, user_file


def config(context: typer.Context, json: options.Json = False) -> None:
    """Show the defaults that sgmatte.toml gives, as TOML, and which file says so.

    The user's file and the project's are read, the project's wins, and the command line wins over both.
    `sgmatte --no-config ...` or SGMATTE_CONFIG=none leaves them unread.

    Example: sgmatte config
    """
    settings: list[Setting] = context.find_root().obj or []
    screen = Screen(json=json)
    files = {setting.file: None for setting in settings}
    if not settings:
        nearest, *above = project_places(Path.cwd().resolve())
        until = f", nor above it up to {above[-1]}" if above else ""
        screen.note(f"nothing is set: no options in {user_file()} nor in {nearest / NAME}{until}")
    command = ""
    for setting in settings:
        if setting.command != command:
            screen.line(f"[{'.'.join(setting.command.split())}]")
            command = setting.command
        screen.line(f"{setting.option} = {notation.dumps(setting.value, ensure_ascii=False)}  # {setting.file}")
    screen.result(
        {
            "files": [str(file) for file in files],
            "settings": [
                {"command": s.command, "option": s.option, "value": s.value, "file": str(s.file)} for s in settings
            ],
        }
    )
