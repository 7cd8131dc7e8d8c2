"""Reader of OpenVINO IR v10 pairs (.xml graph, .bin constants): enough to take the weights out, without OpenVINO.

The files come from elsewhere, so nothing in them is believed: every offset, size, shape and type is checked before a
byte of the .bin is touched, and a document type declaration (the way to XML entity tricks) is refused.
"""

from __future__ import annotations

import math
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sgmatte.errors import WeightError
from sgmatte.hostile import content, printable

DTYPES = {"f32": "<f4", "f16": "<f2", "i64": "<i8", "i32": "<i4"}
LARGEST_XML = 2 << 20  # bytes; the real ones have under half a MB
LARGEST_BIN = 512 << 20
DEEPEST_SHAPE = 8
SHARED = 2  # times the .bin that all constants together may have; equal ones may lie at one place


@dataclass(frozen=True)
class Layer:
    """One operation of the graph; `inputs` are the layers that feed its ports, in port order."""

    id: str
    kind: str  # "Const", "Add", "MatMul", ...
    name: str
    inputs: tuple[str, ...]
    value: Tensor | None = None  # of a Const


class Graph:
    """The layers of one IR file, with the walks needed to find constants whose own names were lost in the export."""

    def __init__(self, path: Path, layers: dict[str, Layer]) -> None:
        self.path = path
        self.layers = layers
        self._named = {layer.name: layer for layer in layers.values()}
        self._users: dict[str, list[Layer]] = {}
        for layer in layers.values():
            for source in layer.inputs:
                self._users.setdefault(source, []).append(layer)

    def __contains__(self, name: str) -> bool:
        return name in self._named

    def named(self, name: str) -> Layer:
        """The layer of that name.

        Raises:
            WeightError: there is none.
        """
        if name not in self._named:
            raise WeightError(f"{self.path}: no layer named '{name}'; this is another network than expected")
        return self._named[name]

    def constant(self, name: str) -> Tensor:
        """The value of a named constant."""
        return self.value(self.named(name))

    def value(self, layer: Layer) -> Tensor:
        """The value of a `Const` layer."""
        if layer.value is None:
            raise WeightError(f"{self.path}: layer '{layer.name}' is a {layer.kind} where a constant was expected")
        return layer.value

    def user(self, layer: Layer, kind: str) -> Layer:
        """The only layer of that kind that reads `layer`'s output."""
        users = [user for user in self._users.get(layer.id, []) if user.kind == kind]
        if len(users) != 1:
            raise WeightError(
                f"{self.path}: layer '{layer.name}' feeds {len(users)} {kind} layers where 1 was expected"
            )
        return users[0]

    def input(self, layer: Layer, kind: str) -> Layer:
        """The only input of `layer` that is of that kind."""
        inputs = [self.layers[source] for source in layer.inputs if self.layers[source].kind == kind]
        if len(inputs) != 1:
            raise WeightError(
                f"{self.path}: layer '{layer.name}' reads {len(inputs)} {kind} layers where 1 was expected"
            )
        return inputs[0]

    def of_kind(self, kind: str) -> Iterator[Layer]:
        """Layers of one kind, in the order of the file, which is an order of execution."""
        return (layer for layer in self.layers.values() if layer.kind == kind)


def read_graph(xml: Path, binary: Path) -> Graph:
    """The graph of an IR pair, constants loaded.

    Raises:
        WeightError: a file is missing, is no IR, or its constants do not fit the .bin.
    """
    root, data = _parsed(xml, content(xml, LARGEST_XML, WeightError)), content(binary, LARGEST_BIN, WeightError)
    _check_sizes(xml, root, len(data))
    sources: dict[str, dict[int, str]] = {}
    for edge in root.iterfind("./edges/edge"):
        port = _natural(xml, edge.get("to-port"), "port")
        sources.setdefault(edge.get("to-layer", ""), {})[port] = edge.get("from-layer", "")
    layers: dict[str, Layer] = {}
    for element in root.iterfind("./layers/layer"):
        id, name = element.get("id", ""), element.get("name", "")
        inputs = tuple(source for _, source in sorted(sources.get(id, {}).items()))
        value = _constant(xml, name, element.find("data"), data) if element.get("type") == "Const" else None
        if id in layers:
            raise WeightError(f"{xml}: has two layers with the id '{printable(id)}'")
        layers[id] = Layer(id, element.get("type", ""), name, inputs, value)
    unknown = {source for layer in layers.values() for source in layer.inputs} - layers.keys()
    if not layers or unknown:
        raise WeightError(f"{xml}: not a complete IR graph ({len(layers)} layers, {len(unknown)} edges from nowhere)")
    return Graph(xml, layers)


def _parsed(path: Path, text: bytes) -> ElementTree.Element:
    # Entities can only be declared inside a DOCTYPE, and IR files have none. In another encoding one would slip past
    # this search, so the parser is given text, whatever encoding the file declares; and UTF-16, which it would guess
    # even so, is UTF-8 with NULs.
    try:
        decoded = text.decode("utf-8")
        if "\0" in decoded:
            raise ValueError("it holds NULs")
        if "<!doctype" in decoded.lower():
            raise WeightError(f"{path}: declares a document type, which IR files never do; refused")
        return ElementTree.fromstring(decoded)
    except (ValueError, ElementTree.ParseError) as error:
        raise WeightError(f"{path}: not readable as XML ({printable(str(error))})") from error


def _check_sizes(path: Path, root: ElementTree.Element, available: int) -> None:
    """Raises WeightError where all constants together are far larger than their file, which each alone may fit."""
    constants = root.iterfind("./layers/layer/data[@size]")
    total = sum(_natural(path, data.get("size"), "size of a constant") for data in constants)
    if total > SHARED * available:
        raise WeightError(f"{path}: its constants claim {total} bytes of a .bin of {available}")


def _constant(path: Path, name: str, data: ElementTree.Element | None, binary: bytes) -> Tensor:
    name = printable(name)
    if data is None or data.get("element_type") not in DTYPES:
        kind = None if data is None else printable(data.get("element_type", ""))
        raise WeightError(f"{path}: constant '{name}' has type {kind}, not one of {', '.join(DTYPES)}")
    dtype = np.dtype(DTYPES[data.get("element_type", "")])
    shape = tuple(
        _natural(path, part, f"shape of '{name}'") for part in data.get("shape", "").split(",") if part.strip()
    )
    offset = _natural(path, data.get("offset"), f"offset of '{name}'")
    size = _natural(path, data.get("size"), f"size of '{name}'")
    if len(shape) > DEEPEST_SHAPE or math.prod(shape) * dtype.itemsize != size:
        raise WeightError(f"{path}: constant '{name}' claims shape {shape} and {size} bytes, which do not agree")
    if offset + size > len(binary):
        raise WeightError(f"{path}: constant '{name}' ends at byte {offset + size} of a .bin of {len(binary)}")
    try:
        array = np.frombuffer(binary, dtype, math.prod(shape), offset).reshape(shape)
    except ValueError as error:  # nothing at all, in a shape that no array can have
        raise WeightError(f"{path}: constant '{name}' claims shape {shape} ({error})") from error
    return torch.from_numpy(array.astype(dtype.newbyteorder("=")))


def _natural(path: Path, text: str | None, what: str) -> int:
    text = (text or "").strip()
    if not (text.isascii() and text.isdigit() and len(text) <= 12):
        raise WeightError(f"{path}: {what} is '{printable(text, 40)}', not a natural number")
    return int(text)
