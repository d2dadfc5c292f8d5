"""ONNX models as bytes, for ONNX Runtime. No torch here, and no `onnx` either.

Of that package (36 MB with what it brings, 0.1 s to import) a few messages are wanted, whose
encoding is simple and frozen: a field is a key, then a varint, four bytes, or a length and that
many bytes (https://protobuf.dev/programming-guides/encoding, field numbers from onnx.proto).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

IR_VERSION = 8
OPSET = 17
"""Versions of the format and of its operators; ONNX Runtime reads these from 1.12 on."""

_TYPES = {"float32": 1, "uint8": 2, "int16": 5, "int32": 6, "int64": 7, "bool": 9, "float64": 11}
_VARINT, _BYTES, _FIXED32 = 0, 2, 5
_FLOAT, _INT, _INTS = 1, 2, 7
"""Kinds of attributes."""

Value = str
"""Name of what a node gives or takes."""


class Graph:
    """A graph under construction; its values are named by numbers.

    Args:
        name: of the graph.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.inputs: list[str] = []
        self._parts: list[bytes | memoryview] = []
        self._values = 0

    def input(self, name: str, dtype: str, shape: Sequence[int | str]) -> Value:
        """An input; sizes that are text are free."""
        self.inputs.append(name)
        self._parts.append(_message(11, _value_info(name, dtype, shape)))
        return name

    def output(self, value: Value, name: str, dtype: str, shape: Sequence[int | str]) -> None:
        """Have the graph give a value."""
        self._add("Identity", [value], [name], {})
        self._parts.append(_message(12, _value_info(name, dtype, shape)))

    def constant(self, values: NDArray[Any]) -> Value:
        """A tensor that is part of the file."""
        name, data = self._new(), np.ascontiguousarray(values).reshape(-1).view(np.uint8)
        facts = [_integer(1, size) for size in values.shape]
        facts += [_integer(2, _TYPES[str(values.dtype)]), _text(8, name), _head(9, data.size)]
        tensor = b"".join(facts)
        # Not by `_message`: the data are copied once, by `model`.
        self._parts += [_head(5, len(tensor) + data.size), tensor, data.data]
        return name

    def node(self, operator: str, *inputs: Value, **attributes: float | Sequence[int]) -> Value:
        """The output of an operator."""
        return self.nodes(operator, 1, *inputs, **attributes)[0]

    def nodes(
        self, operator: str, count: int, *inputs: Value, **attributes: float | Sequence[int]
    ) -> list[Value]:
        """The outputs of an operator that has several."""
        outputs = [self._new() for _ in range(count)]
        self._add(operator, inputs, outputs, attributes)
        return outputs

    def cast(self, value: Value, dtype: str) -> Value:
        """A value in another type."""
        return self.node("Cast", value, to=_TYPES[dtype])

    def model(self) -> bytes:
        """The file."""
        graph = [*self._parts, _text(2, self.name)]
        facts = _integer(1, IR_VERSION) + _text(2, "vrcodec") + _message(8, _integer(2, OPSET))
        return b"".join([facts, _head(7, sum(map(len, graph))), *graph])

    def _add(
        self,
        operator: str,
        inputs: Iterable[Value],
        outputs: Iterable[Value],
        attributes: dict[str, float | Sequence[int]],
    ) -> None:
        fields = [_text(1, name) for name in inputs] + [_text(2, name) for name in outputs]
        fields.append(_text(4, operator))
        fields += [_message(5, _attribute(name, value)) for name, value in attributes.items()]
        self._parts.append(_message(1, b"".join(fields)))

    def _new(self) -> Value:
        self._values += 1
        return f"v{self._values}"


def _varint(value: int) -> bytes:
    """Seven bits a byte, the lowest first; negative numbers as 64-bit two's complement."""
    value &= (1 << 64) - 1
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])


def _key(field: int, kind: int) -> bytes:
    return _varint(field << 3 | kind)


def _integer(field: int, value: int) -> bytes:
    return _key(field, _VARINT) + _varint(value)


def _head(field: int, length: int) -> bytes:
    """What comes before so many bytes."""
    return _key(field, _BYTES) + _varint(length)


def _message(field: int, body: bytes) -> bytes:
    return _head(field, len(body)) + body


def _text(field: int, value: str) -> bytes:
    return _message(field, value.encode())


def _attribute(name: str, value: float | Sequence[int]) -> bytes:
    if isinstance(value, int):
        return _text(1, name) + _integer(3, value) + _integer(20, _INT)
    if isinstance(value, float):
        number = _key(2, _FIXED32) + struct.pack("<f", value)
        return _text(1, name) + number + _integer(20, _FLOAT)
    numbers = b"".join(_integer(8, number) for number in value)
    return _text(1, name) + numbers + _integer(20, _INTS)


def _value_info(name: str, dtype: str, shape: Sequence[int | str]) -> bytes:
    sizes = [_text(2, size) if isinstance(size, str) else _integer(1, size) for size in shape]
    dimensions = b"".join(_message(1, size) for size in sizes)
    tensor = _integer(1, _TYPES[dtype]) + _message(2, dimensions)
    return _text(1, name) + _message(2, _message(1, tensor))
