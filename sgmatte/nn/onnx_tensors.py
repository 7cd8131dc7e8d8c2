"""Reader of ONNX files: the float32 constants of a graph, and which operations read them, without onnx.

An ONNX file is a protocol buffer (onnx.proto3): fields of a number, a wire type and a value, nested. Nothing of it is
believed: a length must end within the field around it, a tensor be as long as its shape says; other fields are skipped.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sgmatte.errors import WeightError
from sgmatte.hostile import content, printable

LARGEST = 256 << 20  # bytes of a file
MOST_FIELDS = 500_000  # of a file; a network of 500 operations has 4,000 that are looked at
DEEPEST_SHAPE = 8

GRAPH, NODE, INITIALISER = 7, 1, 5  # of a model, a graph, a graph
NODE_INPUT, NODE_KIND = 1, 4
DIMS, TYPE, FLOATS, NAME, RAW = 1, 2, 4, 8, 9  # of a tensor
FLOAT32 = 1  # a value of TYPE
VARINT, LENGTH, FIXED = 0, 2, {1: 8, 5: 4}  # wire types; the other two went out of use before ONNX


@dataclass(frozen=True)
class Node:
    """One operation, e.g. a "Conv"; `inputs` are names of constants or of other operations' results."""

    kind: str
    inputs: tuple[str, ...]


@dataclass(frozen=True)
class Graph:
    """The nodes in the order of the file, which is one of execution, and the constants by name."""

    path: Path
    nodes: tuple[Node, ...]
    tensors: dict[str, Tensor]


def read_graph(path: Path) -> Graph:
    """The graph of an ONNX file; constants of other types than float32 are left out.

    Raises:
        WeightError: it is missing, no ONNX file, cut off, or its constants do not fit their shapes.
    """
    reader = _Reader(content(path, LARGEST, WeightError))
    try:
        return Graph(path, *reader.graph())
    except ValueError as error:  # as of text that is no UTF-8, and of shapes that no array can have
        raise WeightError(f"{path}: not readable as ONNX ({printable(str(error))})") from error


class _Reader:
    """Raises ValueError where the file is at fault. Counts fields, so that a file of nothing else ends soon."""

    def __init__(self, data: bytes) -> None:
        self.model, self.left = memoryview(data), MOST_FIELDS

    def graph(self) -> tuple[tuple[Node, ...], dict[str, Tensor]]:
        graphs = [value for number, value in self.fields(self.model) if number == GRAPH]
        if len(graphs) != 1:
            raise ValueError(f"{len(graphs)} graphs where 1 was expected")
        nodes: list[Node] = []
        tensors: dict[str, Tensor] = {}
        for number, value in self.fields(_block(graphs[0])):
            if number == NODE:
                parts = list(self.fields(_block(value)))
                kind, *inputs = (_texts(parts, NODE_KIND) or [""])[-1:] + _texts(parts, NODE_INPUT)
                nodes.append(Node(kind, tuple(inputs)))
            elif number == INITIALISER:
                parts = list(self.fields(_block(value)))
                name = (_texts(parts, NAME) or [""])[-1]
                if name in tensors:
                    raise ValueError(f"two constants named '{name}'")
                if (TYPE, FLOAT32) in parts:
                    tensors[name] = _tensor(name, parts)
        return tuple(nodes), tensors

    def fields(self, message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
        """Numbers and values: the integer of a varint, else bytes."""
        at = 0
        while at < len(message):
            self.left -= 1
            if self.left < 0:
                raise ValueError(f"over {MOST_FIELDS} fields, more than any network has")
            key, at = _varint(message, at)
            wire = key & 7
            if wire not in (VARINT, LENGTH, *FIXED):
                raise ValueError(f"wire type {wire}")
            value, at = (FIXED[wire], at) if wire in FIXED else _varint(message, at)
            if wire == VARINT:
                yield key >> 3, value
            elif value > len(message) - at:
                raise ValueError(f"cut off: a field of {value} bytes, of which {len(message) - at} are there")
            else:
                yield key >> 3, message[at : at + value]
                at += value


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """An integer, seven bits a byte with the lowest first, and where it ends."""
    value = 0
    for place, byte in enumerate(message[at : at + 10]):  # enough for 64 bits
        value |= (byte & 127) << 7 * place
        if byte < 128:
            return value, at + place + 1
    raise ValueError("an integer without an end")


def _block(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise ValueError("an integer in place of a text or message")
    return value


def _texts(parts: list[tuple[int, int | memoryview]], wanted: int) -> list[str]:
    return [str(_block(value), "utf-8") for number, value in parts if number == wanted]


def _tensor(name: str, parts: list[tuple[int, int | memoryview]]) -> Tensor:
    shape: list[int] = []
    for value in (value for number, value in parts if number == DIMS):
        at, packed = 0, memoryview(b"") if isinstance(value, int) else value
        shape += [value] if isinstance(value, int) else []
        while at < len(packed) and len(shape) <= DEEPEST_SHAPE:
            size, at = _varint(packed, at)
            shape.append(size)
    data = b"".join(_block(value) for number, value in parts if number in (FLOATS, RAW))
    fits = len(shape) <= DEEPEST_SHAPE and max(shape, default=1) <= LARGEST and 4 * math.prod(shape) == len(data)
    if not fits:
        raise ValueError(f"constant '{name}' claims shape {shape[: DEEPEST_SHAPE + 1]}, and has {len(data)} bytes")
    return torch.from_numpy(np.frombuffer(data, "<f4").reshape(shape).astype(np.float32))
