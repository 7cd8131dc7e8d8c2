"""Official checkpoints, turned into weights of the zoo: `sgmatte weights import FILE`.

A recogniser looks at what a file holds and returns the parts that it knows, each checked against its architecture; one
that does not know the file returns none. To support another kind of checkpoint, add one to RECOGNISERS.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from sgmatte import zoo
from sgmatte.errors import WeightError
from sgmatte.files import write_json
from sgmatte.hostile import printable
from sgmatte.importers.bundle import checkpoints
from sgmatte.importers.matting import alphagan_parts, deeplab_parts, gca_parts
from sgmatte.importers.parts import Part
from sgmatte.importers.stylegan2 import stylegan2_parts
from sgmatte.manifest import IMPORTED

__all__ = ["RECOGNISERS", "Part", "alphagan_parts", "deeplab_parts", "gca_parts", "imported", "stylegan2_parts"]

RECOGNISERS: tuple[Callable[[Mapping[str, Any]], list[Part]], ...] = (
    stylegan2_parts,
    gca_parts,
    deeplab_parts,
    alphagan_parts,
)
KNOWN = "StyleGAN2, GCA, DeepLab on ResNet-101, AlphaGAN"


def imported(file: Path) -> list[Part]:
    """Convert a checkpoint, or SMPEG's zip of three, to safetensors in the cache; nothing of it if a part is wrong.

    Raises:
        WeightError: the file is none that is known, holds other shapes than its architecture has, needs code to be
            unpickled, or is of a size that the zoo has no entry for.
    """
    parts: list[Part] = []
    for member, content in checkpoints(file):
        try:
            found = _parts(content)
        except WeightError as error:
            raise WeightError(f"{file}: {f'{member}: ' if member else ''}{error}") from error
        parts += [replace(part, key=f"{member} {part.key}") for part in found] if member else found
    return [replace(part, path=_kept(part.weight, part.state, part.config)) if part.weight else part for part in parts]


def _parts(content: Any) -> list[Part]:
    for recogniser in RECOGNISERS:
        parts = recogniser(content) if isinstance(content, Mapping) else []
        if parts:
            homeless = [part for part in parts if part.weight and part.weight not in zoo.records()]
            if homeless:
                raise WeightError(f"{homeless[0].key} is a {homeless[0].what}, which sgmatte has no use for")
            return parts
    keys = [printable(str(key)) for key in list(content)[:4]] if isinstance(content, Mapping) else []
    held = ", ".join(keys) or type(content).__name__
    raise WeightError(f"not a checkpoint that sgmatte knows ({KNOWN}); it holds {held}")


def _kept(name: str, state: Mapping[str, Tensor], config: Mapping[str, Any]) -> Path:
    """Where a weight now lies in the cache, in full precision, its size and sha256 noted for every later use."""
    entry = zoo.record(name)
    folder = entry.folders[0]
    file = zoo.save_weights(folder / f"{entry.stem}.safetensors", state, config, fp16=False)
    write_json(folder / IMPORTED, {"name": file.name, "bytes": file.bytes, "sha256": file.sha256})
    return zoo.path(name)
