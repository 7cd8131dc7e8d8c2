"""Options that several commands share, each written once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Seed = Annotated[int, typer.Option(help="Every random choice comes from this number.")]
DeviceChoice = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or mps.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as one JSON line on stdout.")]
RunFolder = Annotated[Path, typer.Option("--run", help="Folder for checkpoints and logs; training resumes from it.")]
WeightsOut = Annotated[Path, typer.Option("--out", "-o", help="Where the trained weights are written (safetensors).")]
