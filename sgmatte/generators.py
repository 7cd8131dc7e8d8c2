"""Which generators there are, and which is meant; generator.py loads them, and torch with them."""

from __future__ import annotations

from dataclasses import dataclass

from sgmatte import zoo
from sgmatte.errors import UsageError

WEIGHT = "mobilestylegan.ffhq-1024"
HEADS = {256: "mobilestylegan-head.256", 512: "mobilestylegan-head.512"}


@dataclass(frozen=True)
class Choice:
    """What `--generator` can mean.

    Attributes:
        weight: the one it cannot do without; all but `WEIGHT` are StyleGAN2s.
        sizes: pixels a side of the pictures that it draws.
    """

    weight: str
    sizes: tuple[int, ...]


GENERATORS = {  # the best first; where none of a size is present, the last of them can be fetched
    "stylegan2-ffhq-1024": Choice("stylegan2-ffhq.1024", (1024,)),
    "mobilestylegan": Choice(WEIGHT, (256, 512, 1024)),
    "stylegan2-portrait-256": Choice("stylegan2-portrait.256", (256,)),  # bundled
}


def chosen_generator(name: str = "auto", size: int | None = None) -> tuple[str, int]:
    """Name and size of the generator for `--generator` and `--size`; "auto" is the best one present for the size.

    Without a size it is 256, or what a generator named draws.

    Raises:
        UsageError: no such generator, or none of this size.
    """
    if name not in ("auto", *GENERATORS):
        raise UsageError(f"there is no generator '{name}'; choose auto or one of {', '.join(GENERATORS)}")
    considered = GENERATORS if name == "auto" else {name: GENERATORS[name]}
    sizes = sorted({side for choice in considered.values() for side in choice.sizes})
    size = size or sizes[0]
    fitting = [found for found, choice in considered.items() if size in choice.sizes]
    if not fitting:
        which = "generator" if name == "auto" else name
        raise UsageError(f"there is no {which} of size {size}; choose one of {', '.join(map(str, sizes))}")
    return next((found for found in fitting if zoo.present(GENERATORS[found].weight)), fitting[-1]), size


def smaller_sizes(name: str, size: int) -> list[int]:
    """The sizes below `size` that the generator for `--generator` and `--size` draws too, the largest first."""
    found, _ = chosen_generator(name, size)
    return sorted((side for side in GENERATORS[found].sizes if side < size), reverse=True)


def weight_hashes(name: str, size: int) -> dict[str, str]:
    """sha256 of each weight file that the generator `name` draws pictures of `size` with, by the file's name."""
    weights = [GENERATORS[name].weight]
    if name == "mobilestylegan" and size in HEADS:
        weights.append(HEADS[size])
    return {file.name: file.sha256 for weight in weights for file in zoo.record(weight).files}
