"""The integer scale path as an ONNX graph; what it is, `integer_path.py` says. No torch here.

It is made of matrix products of float64, whose sums are exact in any order; ONNX Runtime has no
convolutions of float64 on a CPU. A 3x3 convolution is nine products, one for each tap.
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
from vrcodec.model.onnx_builder import Network, spread
from vrcodec.model.onnx_file import Graph, Value

DENSITY = (1 / 16, 1 / 4, 1 / 4, 1, 1)
"""Positions of every layer for every position of y's grid."""
_END = np.iinfo(np.int64).max
_ROWS, _COLUMNS = 2, 3
"""Axes of the activations."""


def scale_features(path: IntegerScalePath) -> Network:
    """int16 "z" (1, hyper, t, s) -> float64 "features" (1, hyper_width, 4t, 4s)."""
    b = _Builder("scale features")
    z = b.graph.input("z", "int16", (1, path.layers[0].weight.shape[1], "t", "s"))
    a = b.clip(b.graph.cast(z, "float64"), -HYPER_MAX, HYPER_MAX)
    a = b.graph.node("Mul", a, b.number(2**ACTIVATION_BITS))
    for number, layer in enumerate(path.layers[:-1]):
        a = b.graph.node("Floor", b.layer(a, number, layer, WEIGHT_BITS, ACTIVATION_MAX))
    channels = path.layers[-1].weight.shape[1]
    b.graph.output(a, "features", "float64", (1, channels, "h", "w"))
    return b.finished()


def scale_indexes(path: IntegerScalePath) -> Network:
    """float64 "features" (1, hyper_width, h, w) -> uint8 "indexes" (1, 768, h, w): the last layer.

    Apart because its output is the largest by far: it is computed some rows at a time.
    """
    b = _Builder("scale indexes")
    number, layer = len(path.layers) - 1, path.layers[-1]
    a = b.graph.input("features", "float64", (1, layer.weight.shape[1], "h", "w"))
    a = b.layer(a, number, layer, WEIGHT_BITS + ACTIVATION_BITS, SCALE_LEVELS - 1)
    # Whole numbers by the way: what is not negative, a cast rounds down.
    b.graph.output(b.graph.cast(a, "uint8"), "indexes", "uint8", (1, LATENT_CHANNELS, "h", "w"))
    return b.finished()


class _Builder:
    """A graph of integers carried in float64, (1, channels, rows, columns)."""

    def __init__(self, name: str) -> None:
        self.graph = Graph(name)
        self.biases: list[functools.partial[dict[str, NDArray[np.float64]]]] = []
        self.macs = 0.0

    def finished(self) -> Network:
        return Network(self.graph.model(), tuple(self.biases), self.macs)

    def number(self, value: float) -> Value:
        return self.graph.constant(np.array(value, dtype=np.float64))

    def integers(self, *values: int) -> Value:
        return self.graph.constant(np.array(values, dtype=np.int64))

    def clip(self, a: Value, low: int, high: int) -> Value:
        return self.graph.node("Clip", a, self.number(low), self.number(high))

    def layer(self, a: Value, number: int, layer: FixedPointLayer, shift: int, top: int) -> Value:
        """clamp((conv(a) + bias) / 2^shift, 0, top), half a unit added and not yet rounded down."""
        outputs, _, side, _ = layer.weight.shape
        order = np.arange(outputs)
        if SHUFFLE[number]:
            order = order.reshape(-1, 4).T.ravel()  # (C, 2, 2) to (2, 2, C)
        # Exact, too: a power of two moves the exponents alone.
        weight = layer.weight[order] * 2.0**-shift
        self.macs += weight.size * DENSITY[number]
        name = f"bias {number}"
        self.biases.append(functools.partial(_bias, name, layer, order, shift))
        bias = self.graph.input(name, "float64", (outputs, 1))
        node = self.graph.node
        size = node("Shape", a, start=_ROWS, end=_COLUMNS + 1)
        convolved = self.conv3x3 if side == 3 else self.conv1x1
        total = self.clip(convolved(a, weight, bias), 0, top)
        shape = node("Concat", self.integers(1, outputs), size, axis=0)
        total = node("Reshape", total, shape)
        return spread(self.graph, total) if SHUFFLE[number] else total

    def conv1x1(self, a: Value, weight: NDArray[np.float64], total: Value) -> Value:
        """A convolution (O, I, 1, 1) of a, (O, rows columns), added to what there is."""
        return self.product(a, weight[..., 0, 0], total)

    def conv3x3(self, a: Value, weight: NDArray[np.float64], total: Value) -> Value:
        """A convolution (O, I, 3, 3) of a surrounded by zeros, added to what there is."""
        padded = self.graph.node("Pad", a, self.integers(0, 0, 1, 1, 0, 0, 1, 1))
        for row, column in np.ndindex(3, 3):
            seen = self.shifted(padded, row, column)
            total = self.product(seen, np.ascontiguousarray(weight[..., row, column]), total)
        return total

    def shifted(self, padded: Value, row: int, column: int) -> Value:
        """What one of 3 x 3 taps sees."""
        starts = row, column
        ends = (tap - 2 if tap < 2 else _END for tap in starts)
        bounds = self.integers(*starts), self.integers(*ends), self.integers(_ROWS, _COLUMNS)
        return self.graph.node("Slice", padded, *bounds)

    def product(self, a: Value, weight: NDArray[np.float64], total: Value) -> Value:
        """(O, I) by (1, I, rows, columns), (O, rows columns), added to what there is."""
        flat = self.graph.node("Reshape", a, self.integers(weight.shape[1], -1))
        return self.graph.node("Gemm", self.graph.constant(weight), flat, total)


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
