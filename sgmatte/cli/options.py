"""Options that several commands share, each written once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer


def _model_names() -> list[str]:
    from sgmatte.matting import matting_models

    return list(matting_models())


def _listed_models(name: str) -> str:
    """`name`, unless it asks for a list of the models, which ends the command."""
    if name != "list":
        return name
    from sgmatte.matting.models import description, matting_models

    found = matting_models()
    width = max(map(len, found))
    for model, entry in found.items():
        typer.echo(f"{model:{width}}  {description(entry)}")
    raise typer.Exit


Photos = Annotated[
    list[Path], typer.Argument(help="Photos: JPEG, PNG, WebP, TIFF, GIF, BMP, AVIF, HEIC.", show_default=False)
]
Seed = Annotated[int, typer.Option(help="Every random choice comes from this number.")]
DeviceChoice = Annotated[Literal["auto", "cpu", "cuda", "mps"], typer.Option("--device", help="What computes.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as one JSON line on stdout.")]
MattingChoice = Annotated[
    str,
    typer.Option(
        "--model",
        metavar="NAME",
        help="What estimates the alpha; `--model list` shows what there is.",
        callback=_listed_models,
        is_eager=True,  # photos need not be named to see the list
        autocompletion=_model_names,
    ),
]
GeneratorChoice = Annotated[
    Literal["auto", "stylegan2-ffhq-1024", "mobilestylegan", "stylegan2-portrait-256"],
    typer.Option("--generator", help="What draws the face; auto: the best one present that draws --size."),
]
MaxPixels = Annotated[int, typer.Option(help="Limit of a photo, checked before it is decoded.", min=1)]
OutFolder = Annotated[
    Path | None, typer.Option("--out-dir", help="Where results go; without it, beside each photo.", show_default=False)
]
OutFile = Annotated[
    Path | None, typer.Option("--out", "-o", help="Name of the result, for a single photo.", show_default=False)
]
RunFolder = Annotated[Path, typer.Option("--run", help="Folder for checkpoints and logs; training resumes from it.")]
WeightsOut = Annotated[Path, typer.Option("--out", "-o", help="Where the trained weights are written (safetensors).")]

MAX_PIXELS = 100_000_000  # as sgmatte.photo.MAX_PIXELS, which `--help` must not import; a test holds them together
