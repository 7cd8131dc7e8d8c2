"""Latent files: where a photo's face was found in a generator, so that `enhance --from` need not look for it again."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

from sgmatte.errors import DataError
from sgmatte.face import Quad
from sgmatte.files import write_bytes
from sgmatte.hostile import printable
from sgmatte.tensorfile import parsed_json, stored_tensors

SUFFIX = "_latents.safetensors"  # after the photo's stem
LARGEST = 128 << 20  # bytes; the noise maps of 1024 pixels have 22 MB


@dataclass(frozen=True)
class Origin:
    """What latents belong to; they mean nothing elsewhere.

    Attributes:
        generator, size: as in `--generator` and `--size`.
        weights: sha256 of each file of the generator, by name.
        photo: its width and height in pixels, as it is meant to be seen.
    """

    generator: str
    size: int
    weights: dict[str, str]
    photo: tuple[int, int]


@dataclass(frozen=True)
class Latents:
    """W+ (1, L, 512) and noise maps [(1, 1, r, r)] whose picture is what `quad` of the photo shows."""

    w_plus: Tensor
    noise: list[Tensor]
    quad: Quad
    origin: Origin


def write_latents(path: Path, latents: Latents) -> None:
    """Write a safetensors file: w_plus, noise_0, noise_1 ..., the rest as JSON in its metadata. Whole or not at all."""
    state = {"w_plus": latents.w_plus} | {f"noise_{k}": noise for k, noise in enumerate(latents.noise)}
    stored = {key: value.detach().float().cpu().contiguous() for key, value in state.items()}
    about = {"quad": asdict(latents.quad), "origin": asdict(latents.origin)}
    write_bytes(path, save(stored, metadata={"latents": json.dumps(about, sort_keys=True)}))


def read_latents(path: Path) -> Latents:
    """The reverse of `write_latents`.

    Raises:
        DataError: there is no such file, or it is none that `sgmatte invert` wrote.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such latent file; `sgmatte invert` writes it")
    state, metadata = stored_tensors(path, LARGEST, DataError)
    try:
        about = parsed_json(metadata["latents"], f"{path}: its place", DataError)
        quad = Quad(*(_point(about["quad"][name]) for name in ("corner", "right", "down")))
        origin = Origin(**about["origin"])
        width, height = origin.photo
        origin = Origin(str(origin.generator), int(origin.size), dict(origin.weights), (int(width), int(height)))
        w_plus, *noise = (state[key] for key in ("w_plus", *(f"noise_{k}" for k in range(len(state) - 1))))
        if not all(value.is_floating_point() and bool(torch.isfinite(value).all()) for value in state.values()):
            raise ValueError("values that are not finite")
        if not 0 < quad.side < math.inf:
            raise ValueError("a place without area")
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise DataError(f"{path}: not a latent file of `sgmatte invert` ({printable(str(error))})") from error
    return Latents(w_plus.float(), [value.float() for value in noise], quad, origin)


def checked_latents(path: Path, wanted: Origin, shapes: Sequence[tuple[int, ...]]) -> Latents:
    """The latents of a file, if they belong to what is `wanted`; `shapes` are those of W+ and of the noise maps.

    Raises:
        DataError: as in `read_latents`, or they belong to another generator or to a photo of another size.
    """
    latents = read_latents(path)
    found = latents.origin
    for what, theirs, ours in (
        ("generator", f"{found.generator} at {found.size}", f"{wanted.generator} at {wanted.size}"),
        ("version of the generator's weights", found.weights, wanted.weights),
        ("size of photo", "{}x{}".format(*found.photo), "{}x{}".format(*wanted.photo)),
    ):
        if theirs != ours:
            detail = f" ({theirs}, not {ours})" if isinstance(theirs, str) else ""
            raise DataError(f"{path}: made for another {what}{detail}; run `sgmatte invert` again")
    corners = latents.quad.corners
    inside = all(min(c[k] for c in corners) < found.photo[k] and max(c[k] for c in corners) > 0 for k in (0, 1))
    if [tuple(value.shape) for value in (latents.w_plus, *latents.noise)] != list(shapes) or not inside:
        raise DataError(f"{path}: its latents do not fit the generator or the photo; run `sgmatte invert` again")
    return latents


def latent_file(place: Path, photo: Path) -> Path:
    """The latent file of a photo: `place` itself, or, if that is a folder, <stem>_latents.safetensors in it."""
    return place / f"{photo.stem}{SUFFIX}" if place.is_dir() else place


def _point(values: list[float]) -> tuple[float, float]:
    x, y = values
    return float(x), float(y)
