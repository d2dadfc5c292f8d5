"""The integer scale path as an ONNX graph; what it is, `integer_path.py` says. No torch here.

It is made of matrix products of float64, whose sums are exact in any order; ONNX Runtime has no
convolutions of float64 on a CPU. A 3x3 convolution is three products, a row of its kernel each.
"""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

from vrcodec.bitstream.grid import LATENT_CHANNELS
from vrcodec.conditional.folding import FoldedCondition
from vrcodec.model.config import SCALE_LEVELS
from vrcodec.model.integer_path import (
    ACTIVATION_BITS,
    ACTIVATION_MAX,
    HYPER_MAX,
    SHUFFLE,
    WEIGHT_BITS,
    FixedPointLayer,
    IntegerScalePath,
)
from vrcodec.model.onnx_file import Graph, Value
from vrcodec.model.onnx_graph import Network

DENSITY = (1 / 16, 1 / 4, 1 / 4, 1, 1)
"""Positions of every layer for every position of y's grid."""
_END = np.iinfo(np.int64).max
_CHANNELS, _ROWS, _COLUMNS = 1, 2, 3
"""Axes of the activations."""


def scale_path(path: IntegerScalePath) -> Network:
    """int16 "z" (1, hyper, t, s) -> uint8 "indexes" (1, 768, h, w), the table of every symbol.

    At the positions from int64 "start" to "stop" (row, column) of the 4t x 4s that there are.
    """
    b = _Builder()
    z = b.graph.input("z", "int16", (1, path.layers[0].weight.shape[1], "t", "s"))
    start, stop = (b.graph.input(name, "int64", (2,)) for name in ("start", "stop"))
    a = b.clip(b.graph.cast(z, "float64"), -HYPER_MAX, HYPER_MAX)
    a = b.graph.node("Mul", a, b.number(2**ACTIVATION_BITS))
    *hidden, last = enumerate(path.layers)
    for number, layer in hidden:
        a = b.layer(a, number, layer, WEIGHT_BITS, ACTIVATION_MAX)
    a = b.graph.node("Slice", a, start, stop, b.integers(_ROWS, _COLUMNS))
    a = b.layer(a, *last, WEIGHT_BITS + ACTIVATION_BITS, SCALE_LEVELS - 1)
    b.graph.output(b.graph.cast(a, "uint8"), "indexes", "uint8", (1, LATENT_CHANNELS, "h", "w"))
    macs = sum(layer.weight.size * n for layer, n in zip(path.layers, DENSITY, strict=True))
    return Network(b.graph.model(), tuple(b.biases), macs)


class _Builder:
    """A graph of integers carried in float64, (1, channels, rows, columns)."""

    def __init__(self) -> None:
        self.graph = Graph("scale path")
        self.biases: list[functools.partial[dict[str, NDArray[np.float64]]]] = []

    def number(self, value: float) -> Value:
        return self.graph.constant(np.array(value, dtype=np.float64))

    def integers(self, *values: int) -> Value:
        return self.graph.constant(np.array(values, dtype=np.int64))

    def clip(self, a: Value, low: int, high: int) -> Value:
        return self.graph.node("Clip", a, self.number(low), self.number(high))

    def layer(self, a: Value, number: int, layer: FixedPointLayer, shift: int, top: int) -> Value:
        """clamp((conv(a) + bias) / 2^shift rounded half up, 0, top)."""
        outputs, _, side, _ = layer.weight.shape
        order = np.arange(outputs)
        if SHUFFLE[number]:
            order = order.reshape(-1, 4).T.ravel()  # (C, 2, 2) to (2, 2, C)
        # Exact, too: a power of two moves the exponents alone.
        weight = layer.weight[order] * 2.0**-shift
        name = f"bias {number}"
        self.biases.append(functools.partial(_bias, name, layer, order, shift))
        bias = self.graph.input(name, "float64", (outputs, 1))
        node = self.graph.node
        size = node("Shape", a, start=_ROWS, end=_COLUMNS + 1)
        total = self.product(a, weight[..., 0, 0]) if side == 1 else self.conv3x3(a, weight)
        total = self.clip(node("Floor", node("Add", total, bias)), 0, top)
        shape = node("Concat", self.integers(1, outputs), size, axis=0)
        total = node("Reshape", total, shape)
        return node("DepthToSpace", total, blocksize=2) if SHUFFLE[number] else total

    def conv3x3(self, a: Value, weight: NDArray[np.float64]) -> Value:
        """A convolution (O, I, 3, 3) of a surrounded by zeros, (O, rows columns)."""
        padded = self.graph.node("Pad", a, self.integers(0, 0, 1, 1, 0, 0, 1, 1))
        beside = [self.shifted(padded, _COLUMNS, tap) for tap in range(3)]
        row = self.graph.node("Concat", *beside, axis=_CHANNELS)
        sums = [
            self.product(self.shifted(row, _ROWS, tap), _row_of(weight, tap)) for tap in range(3)
        ]
        return functools.reduce(functools.partial(self.graph.node, "Add"), sums)

    def shifted(self, a: Value, axis: int, tap: int) -> Value:
        """What one of three taps sees along an axis of padded activations."""
        end = tap - 2 if tap < 2 else _END
        return self.graph.node(
            "Slice", a, self.integers(tap), self.integers(end), self.integers(axis)
        )

    def product(self, a: Value, weight: NDArray[np.float64]) -> Value:
        """(O, I) by (1, I, rows, columns): (O, rows columns)."""
        flat = self.graph.node("Reshape", a, self.integers(weight.shape[1], -1))
        return self.graph.node("MatMul", self.graph.constant(weight), flat)


def _row_of(weight: NDArray[np.float64], row: int) -> NDArray[np.float64]:
    """A row of kernels (O, I, 3, 3) as (O, 3 I), its taps one after the other."""
    return weight[:, :, row].transpose(0, 2, 1).reshape(len(weight), -1)


def _bias(
    name: str,
    layer: FixedPointLayer,
    order: NDArray[np.int64],
    shift: int,
    condition: FoldedCondition,
) -> dict[str, NDArray[np.float64]]:
    """The input of a name: biases, and the half that rounds."""
    total = layer.bias_at(condition.conditioning)[order, None] + 2.0 ** (shift - 1)
    return {name: total * 2.0**-shift}
