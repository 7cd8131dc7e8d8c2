"""Options that several commands share, each written once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from sgmatte.forms import Form
from sgmatte.hostile import MAX_PIXELS as MAX_PIXELS


def _model_names() -> list[str]:
    from sgmatte.matting.registry import matting_models

    return list(matting_models())


def _listed_models(name: str) -> str:
    """`name`, unless it asks for a list of the models, which ends the command."""
    if name != "list":
        return name
    from sgmatte.matting.registry import description, matting_models

    found = matting_models()
    width = max(map(len, found))
    for model, entry in found.items():
        typer.echo(f"{model:{width}}  {description(entry)}")
    raise typer.Exit


MANY = "Many photos"  # heading in the help

Photos = Annotated[
    list[Path], typer.Argument(help="Photos: JPEG, PNG, WebP, TIFF, GIF, BMP, AVIF, HEIC.", show_default=False)
]
Sources = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="PHOTOS...",
        help="Photos (JPEG, PNG, WebP, TIFF, GIF, BMP, AVIF, HEIC), folders or globs; - reads one photo from stdin "
        "and writes its result to stdout.",
        show_default=False,
    ),
]
Recursive = Annotated[bool, typer.Option("--recursive", "-r", help="Search subfolders too.", rich_help_panel=MANY)]
FilesFrom = Annotated[
    str | None,
    typer.Option(
        "--files-from",
        metavar="FILE",
        help="A list of photos, one a line or as `find -print0` gives them; - is stdin.",
        rich_help_panel=MANY,
        show_default=False,
    ),
]
Name = Annotated[
    str | None,
    typer.Option(
        "--name",
        metavar="TEMPLATE",
        help="Names of results, of {stem}, {ext} and {kind}: '{kind}/{stem}.png'. The suffix is all pictures' format.",
        rich_help_panel=MANY,
        show_default=False,
    ),
]
SkipExisting = Annotated[
    bool | None,
    typer.Option(
        "--skip-existing/--overwrite",
        help="Leave alone what is there, or do it again. Folders and lists are skipped by default, named photos done.",
        rich_help_panel=MANY,
        show_default=False,
    ),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.", rich_help_panel=MANY)
]
Jobs = Annotated[int, typer.Option("--jobs", "-j", help="Processes that share the cores.", min=1, rich_help_panel=MANY)]
EngineChoice = Annotated[
    Literal["local", "ray"],
    typer.Option(
        "--engine", help="ray: --jobs workers of a Ray cluster; they must see the same files.", rich_help_panel=MANY
    ),
]
Report = Annotated[
    Path | None,
    typer.Option(
        "--report",
        metavar="PAGE.html",
        help="A page to look through the results in a browser; its small pictures lie in a folder beside it.",
        rich_help_panel=MANY,
        show_default=False,
    ),
]
PICTURES = "Pictures"  # another
Format = Annotated[
    Literal["png", "webp", "tiff"] | None,
    typer.Option(
        "--format", help="Of pictures without a name of their own; png.", rich_help_panel=PICTURES, show_default=False
    ),
]
Bits = Annotated[  # numbers, which typer takes as words
    Literal["8", "16"],
    typer.Option("--bits", help="Per channel, of alphas and colours; 16 in PNG and TIFF.", rich_help_panel=PICTURES),
]
KeepMetadata = Annotated[
    bool,
    typer.Option(
        "--keep-metadata",
        help="Colours carry the photo's EXIF, the place (GPS) too, and a profile of sRGB, which they are in.",
        rich_help_panel=PICTURES,
    ),
]
Seed = Annotated[int, typer.Option(help="Every random choice comes from this number.")]
DeviceChoice = Annotated[Literal["auto", "cpu", "cuda", "mps"], typer.Option("--device", help="What computes.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")]
Json = Annotated[bool, typer.Option("--json", help="Print a JSON line for each result on stdout.")]
MattingChoice = Annotated[
    str,
    typer.Option(
        "--model",
        metavar="NAME",
        help="What estimates the alpha: `--model list` shows what there is; or a weight file that you have trained.",
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
Output = Annotated[
    str | None,
    typer.Option(
        "--out",
        "-o",
        metavar="PATH",
        help="Name of a single result; a folder for several, or if it is one or ends in /. Trees are kept.",
        show_default=False,
    ),
]
OutFolder = Annotated[
    Path | None, typer.Option("--out-dir", help="Where results go; without it, beside each photo.", show_default=False)
]
OutFile = Annotated[
    Path | None, typer.Option("--out", "-o", help="Name of the result, for a single photo.", show_default=False)
]
RunFolder = Annotated[Path, typer.Option("--run", help="Folder for checkpoints and logs; training resumes from it.")]
Start = Annotated[
    Path | None, typer.Option(help="--run folder or weights of an earlier training to go on from.", show_default=False)
]
WeightsOut = Annotated[Path, typer.Option("--out", "-o", help="Where the trained weights are written (safetensors).")]


def form(format: str | None, bits: str = "8", keep_metadata: bool = False) -> Form:
    """The three options together."""
    known: dict[str | None, Any] = {None: None, "png": "png", "webp": "webp", "tiff": "tiff"}
    return Form(known[format], 16 if bits == "16" else 8, keep_metadata)
