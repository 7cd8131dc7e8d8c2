"""`sgmatte evaluate`: how far alphas are from the truth."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sgmatte.cli import options
from sgmatte.cli.messages import Screen, error_line
from sgmatte.errors import SgmatteError

if TYPE_CHECKING:
    from rich.table import Table

    from sgmatte.evaluation import Evaluation


def evaluate(
    pred: Annotated[Path, typer.Argument(help="An alpha, or a folder of them.", show_default=False)],
    gt: Annotated[
        Path, typer.Argument(help="The true one, or a folder; NAME.png belongs to NAME.png or NAME_alpha.png.")
    ],
    trimap: Annotated[
        Path | None,
        typer.Option(help="A trimap or a folder: errors in its unknown region as well.", show_default=False),
    ] = None,
    images: Annotated[
        Path | None, typer.Option(help="The photo or a folder, to be shown by --worst.", show_default=False)
    ] = None,
    show_all: Annotated[bool, typer.Option("--all", help="A row for every photo, not the means alone.")] = False,
    csv: Annotated[Path | None, typer.Option(help="Write every photo's errors here.", show_default=False)] = None,
    worst: Annotated[
        Path | None, typer.Option(help="Write a picture of the six worst cases here.", show_default=False)
    ] = None,
    max_pixels: options.MaxPixels = options.MAX_PIXELS,
    quiet: options.Quiet = False,
    json: options.Json = False,
) -> None:
    """SAD, MSE, MAD, Gradient, Connectivity and IoU of alphas, over the whole image and in the unknown region.

    SAD, Gradient and Connectivity are in thousands, MSE and MAD in [0, 1], as sgmatte.metrics defines them.

    Example: sgmatte evaluate predictions truth --trimap trimaps --csv errors.csv --worst worst.png
    """
    from sgmatte.evaluation import evaluation, material, mean_evaluation, worst_picture
    from sgmatte.writers import write_image

    screen = Screen(quiet, json)
    given = material(pred, gt, trimap, images)
    if given.without_truth:
        names = ", ".join(path.name for path in given.without_truth[:5])
        screen.note(f"{len(given.without_truth)} files in {pred} have no truth in {gt} and are left out: {names} ...")
    found, failed, exit_code = {}, {}, 0
    with screen.progress() as observe:
        for done, name in enumerate(given.truths.by_name, start=1):
            try:
                case = given.case(name)
                found[case] = evaluation(case, max_pixels)
            except SgmatteError as error:
                error_line(str(error))
                failed[name] = str(error)
                exit_code = max(exit_code, error.exit_code)
            observe("photos", done, len(given.truths.by_name))

    rows = {case.name: result for case, result in found.items()}
    mean = mean_evaluation(list(rows.values())) if rows else None
    if mean:
        title = f"mean of {len(rows)}" + (f", {len(failed)} failed" if failed else "")
        screen.table(_table({**(rows if show_all else {}), title: mean}))
        if csv:
            _write_csv(csv, rows)
        if worst:
            write_image(worst, worst_picture(found, max_pixels=max_pixels))
        for file in filter(None, (csv, worst)):
            screen.line(str(file))
    screen.result(
        {
            "photos": len(rows),
            "mean": mean.row() if mean else None,
            "each": {name: result.row() for name, result in rows.items()},
            "errors": failed,
        }
    )
    if exit_code:
        raise typer.Exit(exit_code)


def _table(rows: dict[str, Evaluation]) -> Table:
    from rich.table import Table

    table = Table(box=None, header_style="bold")
    table.add_column("")
    table.add_column("region")
    for column in ("SAD", "MSE", "MAD", "Grad", "Conn", "IoU"):
        table.add_column(column, justify="right", no_wrap=True)
    for name, row in rows.items():
        for region, errors in (("whole", row.whole), ("unknown", row.unknown)):
            if errors:
                table.add_row(
                    name if region == "whole" else "",
                    region,
                    f"{errors.sad:.3f}",
                    f"{errors.mse:.5f}",
                    f"{errors.mad:.5f}",
                    f"{errors.gradient:.3f}",
                    f"{errors.connectivity:.3f}",
                    f"{errors.iou:.4f}",
                )
    return table


def _write_csv(path: Path, rows: dict[str, Evaluation]) -> None:
    import csv
    import io

    from sgmatte.errors import DataError
    from sgmatte.files import write_text

    columns = list(next(iter(rows.values())).row())
    text = io.StringIO()
    writer = csv.DictWriter(text, ["name", *columns], lineterminator="\n")
    writer.writeheader()
    writer.writerows({"name": name, **result.row()} for name, result in rows.items())
    try:
        write_text(path, text.getvalue())
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror})") from error
