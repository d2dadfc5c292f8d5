"""Layers of a model as nodes of an ONNX graph. No torch here.

What follows from the conditioning enters a graph as inputs (`Network.conditioned`), so that one
graph serves every quality.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vrcodec.bitstream.grid import LATENT_CHANNELS
from vrcodec.conditional.folding import FoldedCondition, FoldedConv
from vrcodec.model.config import ModelConfig
from vrcodec.model.constants import COEFFICIENT_LIMIT, SLOPE, TOLERATED_EXCESS
from vrcodec.model.onnx_file import Graph, Value

AROUND = (1, 1, 1, 1)
"""Padding of a 3x3 convolution: top, left, bottom, right."""
Array = NDArray[np.float32]
Tensors = Mapping[str, NDArray[Any]]
Conditioned = Callable[[FoldedCondition], Mapping[str, NDArray[Any]]]
"""Gives some inputs of a graph at a conditioning."""


@dataclasses.dataclass(frozen=True)
class Network:
    """A network for ONNX Runtime.

    Attributes:
        model: an ONNX file.
        conditioned: what gives the inputs that depend on the conditioning.
        macs: multiply-accumulates for every position of y's grid.
    """

    model: bytes
    conditioned: tuple[Conditioned, ...]
    macs: float

    def inputs_at(self, condition: FoldedCondition) -> dict[str, NDArray[Any]]:
        """Those inputs that depend on the conditioning."""
        return {name: x for part in self.conditioned for name, x in part(condition).items()}


class Builder:
    """A graph whose layers are those of a model.

    Args:
        name: of the graph.
        tensors: the model's float parameters, as `shapes.checked` gives them.
        config: its shape.
    """

    def __init__(self, name: str, tensors: Tensors, config: ModelConfig) -> None:
        self.graph, self.tensors, self.config = Graph(name), tensors, config
        self.node = self.graph.node
        self.conditioned: list[Conditioned] = []
        self.macs = 0.0

    def tensor(self, name: str) -> Array:
        return self.tensors[name].astype(np.float32)

    def number(self, value: float) -> Value:
        return self.graph.constant(np.array(value, dtype=np.float32))

    def integers(self, *values: int) -> Value:
        return self.graph.constant(np.array(values, dtype=np.int64))

    def finished(self) -> Network:
        return Network(self.graph.model(), tuple(self.conditioned), self.macs)

    # Layers. `density`: positions of the output for every position of y's grid.

    def product(
        self,
        x: Value,
        weight: NDArray[Any],
        bias: NDArray[Any] | None = None,
        density: float = 1,
        **attributes: Any,
    ) -> Value:
        """A convolution with constant weights (O, I) or (O, I, k, k)."""
        if weight.ndim == 2:
            weight = weight[..., None, None]
        self.macs += weight.size * density
        parts = [weight] if bias is None else [weight, bias]
        constants = [self.graph.constant(part.astype(np.float32)) for part in parts]
        return self.node("Conv", x, *constants, **attributes)

    def conv(self, x: Value, name: str, density: float = 1, **attributes: Any) -> Value:
        """A convolution of the model."""
        bias = self.tensor(f"{name}.bias") if f"{name}.bias" in self.tensors else None
        return self.product(x, self.tensor(f"{name}.weight"), bias, density, **attributes)

    def shuffled(self, x: Value, name: str, density: float = 1, **attributes: Any) -> Value:
        """A convolution and leaky ReLU, its outputs spread over 2 x 2 positions."""
        weight, bias = self.tensor(f"{name}.weight"), self.tensor(f"{name}.bias")
        order = np.arange(len(bias)).reshape(-1, 4).T.ravel()  # (C, 2, 2) to (2, 2, C)
        h = self.product(x, weight[order], bias[order], density, **attributes)
        return spread(self.graph, h)

    def conditioned_conv(self, x: Value, name: str, density: float = 1) -> Value:
        """A convolution followed by FiLM, which is folded into its weights."""
        if f"{name}.film.weight" not in self.tensors:
            return self.conv(x, name, density)
        kinds = ("weight", "bias", "film.weight", "film.bias")
        folded = FoldedConv(*(self.tensor(f"{name}.{kind}") for kind in kinds))
        return self.varying(x, name, folded.weight.shape, folded.at, density)

    def varying(
        self,
        x: Value,
        name: str,
        shape: tuple[int, ...],
        at: Callable[[FoldedCondition], tuple[Array, Array]],
        density: float,
    ) -> Value:
        """A convolution whose weights (O, I, k, k) and biases depend on the conditioning."""
        names = f"{name}.weight", f"{name}.bias"
        self.macs += float(np.prod(shape)) * density
        self.conditioned.append(lambda condition: dict(zip(names, at(condition), strict=True)))
        sizes = shape, shape[:1]
        inputs = [
            self.graph.input(n, "float32", size) for n, size in zip(names, sizes, strict=True)
        ]
        return self.node("Conv", x, *inputs)

    def per_channel(
        self, name: str, channels: int, at: Callable[[FoldedCondition], NDArray[Any]]
    ) -> Value:
        """One value per channel that depends on the conditioning."""
        self.conditioned.append(
            lambda condition: {name: at(condition).astype(np.float32).reshape(1, -1, 1, 1)}
        )
        return self.graph.input(name, "float32", (1, channels, 1, 1))

    def leaky(self, x: Value) -> Value:
        return self.node("LeakyRelu", x, alpha=SLOPE)

    def clip(self, x: Value, low: float, high: float) -> Value:
        return self.node("Clip", x, self.number(low), self.number(high))

    def limited(self, coefficients: Value) -> Value:
        return self.clip(coefficients, -COEFFICIENT_LIMIT, COEFFICIENT_LIMIT)

    def channels(self, x: Value, start: int, stop: int) -> Value:
        """Some channels of x."""
        return self.node("Slice", x, self.integers(start), self.integers(stop), self.integers(1))

    def blocks(self, x: Value, name: str, count: int, width: int, density: float) -> Value:
        """Residual blocks in a row."""
        for block in (f"{name}.{number}" for number in range(count)):
            y = self.leaky(self.conditioned_conv(x, f"{block}.mix_in", density))
            y = self.conv(y, f"{block}.depthwise", density, group=width, pads=AROUND)
            x = self.node("Add", self.conv(y, f"{block}.mix_out", density), x)
            y = self.leaky(self.conditioned_conv(x, f"{block}.expand", density))
            x = self.node("Add", self.conv(y, f"{block}.contract", density), x)
        return x

    def blocks_of(self, pixels: Value, size: int) -> Value:
        """(B, H, W, 3) -> (B, 3 size^2, H / size, W / size), channels as pixels lie in memory."""
        across = self.node("Div", self.node("Shape", pixels, start=2, end=3), self.integers(size))
        shape = self.node(
            "Concat", self.integers(0, -1, size), across, self.integers(3 * size), axis=0
        )
        blocks = self.node("Transpose", self.node("Reshape", pixels, shape), perm=(0, 1, 3, 2, 4))
        flat = self.node("Reshape", blocks, self.integers(0, 0, 0, 3 * size**2))
        return self.node("Transpose", flat, perm=(0, 3, 1, 2))

    def confidence(self, coefficients: Value, limited: Value) -> Value:
        """How far the non-linear branches are to be trusted, (B, 1, h, w)."""
        excess = self.node("Abs", self.node("Sub", coefficients, limited))
        flat = self.node("Reshape", excess, self.integers(0, LATENT_CHANNELS, -1))
        # As a product the sum over channels takes a fifth of the time.
        unit = np.full((1, LATENT_CHANNELS), 1 / (LATENT_CHANNELS * TOLERATED_EXCESS), np.float32)
        excess = self.node("MatMul", self.graph.constant(unit), flat)
        one = self.number(1)
        trust = self.node("Div", one, self.node("Add", self.node("Mul", excess, excess), one))
        size = self.node("Shape", coefficients, start=2, end=4)
        return self.node("Reshape", trust, self.node("Concat", self.integers(0, 1), size, axis=0))


def spread(graph: Graph, x: Value) -> Value:
    """(B, 4 C, h, w), its channels (2, 2, C), -> (B, C, 2 h, 2 w).

    What DepthToSpace does, in two steps which take a quarter to a half of its time.
    """

    def integers(*values: int) -> Value:
        return graph.constant(np.array(values, dtype=np.int64))

    size = graph.node("Mul", graph.node("Shape", x, start=2, end=4), integers(2))
    rows = graph.node("Reshape", x, integers(0, 2, -1, 0))
    rows = graph.node("Transpose", rows, perm=(0, 2, 1, 3))
    columns = graph.node("Reshape", rows, integers(0, 2, -1))
    columns = graph.node("Transpose", columns, perm=(0, 2, 1))
    shape = graph.node("Concat", integers(0, -1), size, axis=0)
    return graph.node("Reshape", columns, shape)
