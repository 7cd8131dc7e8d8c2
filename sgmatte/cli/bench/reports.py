"""`sgmatte bench report`: how a report of many photos feels in a browser."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from sgmatte.cli import options
from sgmatte.cli.messages import Screen

app = typer.Typer()


@app.command()
def report(
    photos: Annotated[int, typer.Option(help="Photos in the report; they are drawn.", min=1)] = 500,
    browser: Annotated[Path | None, typer.Option(help="A Chromium; without it, the one on the path.")] = None,
    keep: Annotated[Path | None, typer.Option(help="Leave report and photos in this folder.")] = None,
    seed: options.Seed = 0,
    quiet: options.Quiet = False,
    json: options.Json = False,
) -> None:
    """A report of many photos: seconds to write it, to its first paint, and until filters and sliders answer.

    Needs Chromium, and Playwright from the `test` extra.

    Example: sgmatte bench report --photos 500
    """
    from sgmatte.bench.report import chromium, report_figures

    screen, found = Screen(quiet, json), chromium(browser)
    with ExitStack() as stack:
        folder = keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        observe = stack.enter_context(screen.progress())
        figures = report_figures(folder, photos, found, seed, lambda *at: observe("previews", *at))
    screen.line(
        f"{figures.photos} photos: the page has {figures.bytes / 1e6:.2f} MB, the small pictures beside it "
        f"{figures.pictures_bytes / 1e6:.0f} MB; written in {figures.written:.1f} s, once more in {figures.again:.1f} s"
    )
    screen.line(
        f"first paint after {figures.first_paint:.2f} s, usable after {figures.usable:.2f} s (processor time "
        f"{figures.processor:.2f} s), the first screen's pictures after {figures.pictures:.2f} s"
    )
    screen.line(f"slowest filter {figures.filtered * 1e3:.0f} ms, slowest step of a slider {figures.slid * 1e3:.0f} ms")
    screen.result(asdict(figures))
