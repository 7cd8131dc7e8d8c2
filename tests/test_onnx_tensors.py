"""The reader of ONNX files, on files written by hand, byte by byte."""

import time

import pytest
import torch

from sgmatte.errors import WeightError
from sgmatte.nn import onnx_tensors
from sgmatte.nn.onnx_tensors import Node, read_graph

FLOATS = bytes.fromhex("0000803f00000040000040c0")  # 1, 2, -3
TENSOR = (
    b"\x08\x03"  # 1, dims: 3
    b"\x08\x01"  # 1, dims: 1
    b"\x10\x01"  # 2, data_type: float
    b"\x42\x01w"  # 8, name
    b"\x4a\x0c" + FLOATS  # 9, raw_data
)
NODE = b"\x0a\x01x\x0a\x01w\x12\x01y\x22\x04Conv\x2a\x02\x0a\x00"  # two inputs, an output, op_type, an attribute


def of(number: int, content: bytes) -> bytes:
    """A field of a message, text or bytes."""
    return bytes((number << 3 | 2,)) + varint(len(content)) + content


def varint(value: int) -> bytes:
    low = bytearray()
    while value > 127:
        low.append(value & 127 | 128)
        value >>= 7
    return bytes((*low, value))


def model(*fields: bytes) -> bytes:
    return b"\x08\x07" + of(7, b"".join(fields)) + of(8, b"\x10\x0c")


@pytest.fixture
def read(tmp_path):
    def graph(data):
        (tmp_path / "a.onnx").write_bytes(data)
        return read_graph(tmp_path / "a.onnx")

    return graph


def test_nodes_and_constants(read):
    relu = of(1, b"\x0a\x01y\x0a\x00\x22\x04Relu")
    graph = read(model(of(1, NODE), of(5, TENSOR), of(2, b"name"), relu))
    assert graph.nodes == (Node("Conv", ("x", "w")), Node("Relu", ("y", "")))
    assert list(graph.tensors) == ["w"]
    assert torch.equal(graph.tensors["w"], torch.tensor([[1.0], [2.0], [-3.0]]))


@pytest.mark.parametrize(
    ("tensor", "expected"),
    [
        (b"\x0a\x02\x03\x01\x10\x01\x22\x0c" + FLOATS, [[1], [2], [-3]]),  # dims and float_data packed
        (b"\x08\x02\x10\x01" + b"".join(b"\x25" + FLOATS[k : k + 4] for k in (0, 4)), [1, 2]),  # float_data one by one
        (b"\x10\x01\x4a\x04" + FLOATS[:4], 1),  # no dims: a scalar
        (b"\x08\x00\x10\x01", []),
        (b"\x08\x03\x10\x01\x4a\x0c" + FLOATS + b"\x72\x00\x38\x01\x29" + bytes(8), [1, 2, -3]),  # fields of no use
        (b"\x08\x01\x10\x07\x4a\x08" + bytes(8), None),  # int64
    ],
)
def test_layouts_of_constants(read, tensor, expected):
    tensors = read(model(of(5, tensor + b"\x42\x01w"))).tensors
    assert list(tensors) == ([] if expected is None else ["w"])
    if expected is not None:
        assert torch.equal(tensors["w"], torch.tensor(expected, dtype=torch.float32))


def shaped(*dims: int, data: bytes = FLOATS) -> bytes:
    return of(5, b"".join(b"\x08" + varint(d) for d in dims) + b"\x10\x01\x42\x01w" + of(9, data))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "0 graphs"),
        (b"\x08\x07", "0 graphs"),
        (model() + model(), "2 graphs"),
        (b"PK\x03\x04" + bytes(100), "not readable as ONNX"),
        (b"\x38\x01", "an integer in place of"),
        (b"\x3b", "wire type 3"),
        (b"\x3a\xff", "an integer without an end"),
        (b"\x3a" + b"\xff" * 9 + b"\x7f", "cut off: a field of"),
        (b"\x80" * 50, "an integer without an end"),
        (b"\x3a\x05\x0a", "cut off: a field of 5 bytes, of which 1 are there"),
        (model(b"\x2a\x7f" + TENSOR), r"cut off: a field of 127 bytes, of which \d\d are there"),  # ends outside
        (model(b"\x0d\0\0"), "cut off: a field of 4 bytes"),
        (model(of(5, TENSOR), of(5, TENSOR)), "two constants named 'w'"),
        (model(of(5, b"\x10\x01\x42\x02\xff\xfe")), "utf-8"),
        (model(of(1, b"\x20\x01")), "an integer in place of"),
        (model(of(5, b"\x10\x01\x48\x01")), "an integer in place of"),
        (model(shaped(4)), r"claims shape \[4\], and has 12 bytes"),
        (model(shaped(3, data=FLOATS[:11])), "has 11 bytes"),
        (model(shaped(2**40)), "claims shape"),
        (model(shaped(2**64 - 3)), "claims shape"),  # -3
        (model(shaped(0, 2**63, data=b"")), "claims shape"),
        (model(shaped(0, *[2**27] * 7, data=b"")), "not readable as ONNX"),
        (model(shaped(3, *[1] * 8)), "claims shape"),
        (model(shaped(*[2**27] * 5000)), "claims shape"),
        (model(of(5, b"\x10\x01\x42\x01w" + of(1, b"\x01" * 5000) + of(9, FLOATS[:4]))), "claims shape"),
        (model(of(5, b"\x10\x01\x42\x0a\x1b[2J\r\n1234\x08\x09")), r"constant '\\x1b\[2J\\r\\n1234' claims"),
    ],
)
def test_hostile_files_get_one_line(read, data, message):
    with pytest.raises(WeightError, match=message) as caught:
        read(data)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 600


def test_a_file_that_ends_anywhere(read):
    whole = model(of(1, NODE), of(5, TENSOR))
    for end in range(2, len(whole) - 4):  # of the four last bytes, which are another field's, none is missed
        with pytest.raises(WeightError):
            read(whole[:end])


def test_a_file_of_fields_alone_ends_soon(read):
    began = time.monotonic()
    with pytest.raises(WeightError, match="over 500000 fields"):
        read(model(b"\x10\x00" * 4_000_000))
    with pytest.raises(WeightError, match="over 500000 fields"):
        read(model(b"\x0a\x00" * 4_000_000))
    assert time.monotonic() - began < 10


def test_sizes_beyond_any_network_are_not_read(read, tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_tensors, "LARGEST", 10)
    with pytest.raises(WeightError, match="more than any of its kind"):
        read(bytes(11))
    with pytest.raises(WeightError, match="no such file"):
        read_graph(tmp_path / "none.onnx")
    with pytest.raises(WeightError, match="is a folder"):
        read_graph(tmp_path)
