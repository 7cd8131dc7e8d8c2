"""Safetensors files that others made. The format runs no code and its reader checks offsets; the rest is here."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sgmatte.errors import SgmatteError, WeightError
from sgmatte.hostile import file_size, printable

if TYPE_CHECKING:
    from torch import Tensor

LARGEST = 1 << 30  # bytes of a file
LARGEST_HEADER = 4 << 20  # bytes of names, shapes and metadata
WIDEST = 4.0  # times the published channels; no network here is wider
MOST_VALUES = 1 << 28  # in all tensors of a file, whatever their storage; the largest known network has a quarter
DTYPES = ("F64", "F32", "F16", "BF16", "I64", "I32", "I16", "I8", "U8", "BOOL")


def stored_tensors(
    file: Path, most: int = LARGEST, error: type[SgmatteError] = WeightError
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a safetensors file by key, and its metadata.

    Raises:
        error: there is no such file, it has more than `most` bytes, is damaged, or holds what no weights are made of.
    """
    with _opened(file, most, error) as opened:
        shapes = {key: opened.get_slice(key) for key in opened.keys()}  # noqa: SIM118, it is no dict
        for key, entry in shapes.items():
            if entry.get_dtype() not in DTYPES:
                raise error(f"{file}: {printable(key)} has type {printable(entry.get_dtype())}, which no weights have")
        return {key: opened.get_tensor(key) for key in shapes}, dict(opened.metadata() or {})


def stored_json(file: Path, key: str, most: int = LARGEST, error: type[SgmatteError] = WeightError) -> dict[str, Any]:
    """What a safetensors file keeps as JSON under `key` of its metadata; {} where there is nothing.

    Raises:
        error: as `stored_tensors`, or it is no JSON object.
    """
    with _opened(file, most, error) as opened:
        text = (opened.metadata() or {}).get(key, "{}")
    return parsed_json(text, f"{file}: its {key}", error)


def parsed_json(text: str | bytes, name: str, error: type[SgmatteError]) -> dict[str, Any]:
    """A JSON object.

    Raises:
        error: `name` is damaged, nested too deeply, or something else than an object.
    """
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as problem:
        raise error(f"{name} cannot be read ({printable(str(problem))})") from problem
    if not isinstance(found, dict):
        raise error(f"{name} cannot be read (it is no JSON object)")
    return found


@contextmanager
def _opened(file: Path, most: int, error: type[SgmatteError]) -> Iterator[Any]:
    from safetensors import safe_open

    size = file_size(file, most, error)
    try:
        with file.open("rb") as stream:
            header = int.from_bytes(stream.read(8), "little")
        if size < 8 or header > min(size - 8, LARGEST_HEADER):
            raise error(f"{file}: not a readable safetensors file (its header has {header} of {size} bytes)")
        with safe_open(file, framework="pt") as opened:
            yield opened
    except SgmatteError:
        raise
    except OSError as problem:
        raise error(f"{file}: {problem.strerror or 'cannot be read'}") from problem
    except Exception as problem:  # SafetensorError, and whatever torch says to a type or a shape
        raise error(f"{file}: not a readable safetensors file ({printable(str(problem))})") from problem


def stored_width(file: Path, kind: str) -> float:
    """The scale of a network's channels that its file holds.

    Raises:
        WeightError: as `stored_json`, or there is none, or one that asks for more memory than any network has, which
            must be known before tensors can be compared. `kind` says what the file should have been.
    """
    width = stored_json(file, "config").get("width")
    if not isinstance(width, float | int) or not 0 < width <= WIDEST:
        raise WeightError(f"{file}: not {kind}")
    return width
