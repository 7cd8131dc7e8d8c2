"""`sgmatte study ...`: what enhancement does to mattes, measured against photos whose alpha is known."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from sgmatte.cli import options
from sgmatte.cli.messages import Screen

app = typer.Typer(no_args_is_help=True)


@app.command()
def enhance(
    data: Annotated[Path, typer.Option(help="Portraits with their alphas: a folder with image/ and alpha/.")],
    out: Annotated[Path, typer.Option("--out-dir", "-o", help="Where tables and pictures go; resumes from there.")],
    backgrounds: Annotated[
        Path | None,
        typer.Option(help="Photos without people; every fifth is used. Without: the portraits as they are."),
    ] = None,
    count: Annotated[int, typer.Option("-n", help="Pictures.", min=1)] = 20,
    variant: Annotated[
        list[str], typer.Option(help="A way to enhance, or all, or list, which shows them; may be repeated.")
    ] = ["default"],  # noqa: B006
    model: Annotated[list[str], typer.Option(help="A matting model; may be repeated. Enhanced for the first.")] = [  # noqa: B006
        "gca",
        "alphagan",
    ],
    generator: options.GeneratorChoice = "auto",
    seed: options.Seed = 0,
    device: options.DeviceChoice = "auto",
    quiet: options.Quiet = False,
    json: options.Json = False,
) -> None:
    """The matte's error on photos and on their enhanced versions, with the trimap that each version gets.

    Writes rows.csv, summary.csv, fidelity.csv, changes.png and extremes.png.

    Example: sgmatte study enhance --data portraits/dev -o study
    """
    from sgmatte.study.variants import VARIANTS, chosen_variants

    screen = Screen(quiet, json)
    if variant == ["list"]:
        for each in VARIANTS.values():
            screen.line(f"{each.name:16}{each.words}")
        return
    variants = chosen_variants(list(VARIANTS) if variant == ["all"] else variant)

    from sgmatte.device import chosen_device

    chosen = chosen_device(device)

    from dataclasses import asdict

    from sgmatte.generators import chosen_generator
    from sgmatte.pipeline import Networks
    from sgmatte.settings import Settings
    from sgmatte.study.enhancing import numbered_problems, study_rows
    from sgmatte.study.pictures import extremes, write_plot, write_sheet
    from sgmatte.study.summary import changes, fidelities, write_summary
    from sgmatte.train.data import PortraitFolder

    screen.device(chosen)
    drawing, size = chosen_generator(generator)
    networks = Networks(Settings(generator=drawing, size=size, model=model[0], seed=seed), chosen)
    portraits = PortraitFolder(data)
    asked = {"data": str(data), "backgrounds": None if backgrounds is None else str(backgrounds), "seed": seed}
    with screen.progress() as observe:
        rows, faceless = study_rows(
            numbered_problems(portraits, backgrounds, count, seed),
            variants,
            model,
            networks,
            out,
            asked | {"generator": drawing, "model": model[0]},
            lambda done: observe("pictures", done, count),
        )
    write_summary(out, rows)
    write_plot(out, rows)
    write_sheet(out, extremes(rows, variants[0].name, model[0]))
    found = changes(rows)
    screen.line(f"{'variant':16}{'model':14}{'error':14}{'before':>10}{'after':>10}{'change':>9}{'p':>8}{'worse':>8}")
    for c in found:
        screen.line(
            f"{c.variant:16}{c.model:14}{c.error:14}{c.before:10.5f}{c.after:10.5f}{c.change:9.1%}{c.p:8.3f}{c.worse:8.0%}"
        )
    screen.line(
        f"{'variant':16}{'photos':>7}{'PSNR':>8}{'lowest':>8}{'entropy':>18}{'enhanced':>10}{'seconds':>9}{'faces':>8}"
    )
    for f in fidelities(rows):
        screen.line(
            f"{f.variant:16}{f.photos:7}{f.psnr:8.2f}{f.lowest_psnr:8.2f}"
            f"{f.entropy_before:9.4f} ->{f.entropy_after:6.4f}{f.enhanced:10.0%}{f.seconds:9.1f}{f.identity:8.3f}"
        )
    if faceless:
        screen.line(f"left out, for no face was found: {', '.join(faceless)}")
    screen.result(
        {"changes": [_known(asdict(c)) for c in found], "fidelity": [_known(asdict(f)) for f in fidelities(rows)]}
    )


def _known(values: dict[str, Any]) -> dict[str, Any]:
    """The same with None for NaN, which JSON does not have."""
    return {name: None if value != value else value for name, value in values.items()}


@app.command()
def page(
    page: Annotated[Path, typer.Argument(help="A page of results, such as docs/results.md.")],
) -> None:
    """Fill a page of results with the tables of its studies: page.md with those in page/NAME/.

    Example: sgmatte study page docs/results.md
    """
    from sgmatte.study.page import write_page

    write_page(page)
