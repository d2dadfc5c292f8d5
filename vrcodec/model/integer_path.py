"""The scale path in integers: the only arithmetic that the bitstream depends on. No torch here.

Its numbers, and the proof that they are exact; `onnx_scale_path.py` and `fixed_point.py` compute.

z_hat and the conditioning of the header determine the table of every symbol through this path,
on every machine the same. Weights, biases and activations are integers carried in float64. Every
partial sum stays below 2^53, so every product and sum is exact, whatever the order of summation,
number of threads, vector width, memory layout, library or device. `check` proves the bound from
the actual weights; it runs at export and at every load.

Fixed-point formats: weights have 12 fractional bits, activations 8 (0 to 256), the outputs of
the last layer are indices into the scale tables.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vrcodec.bitstream.grid import LATENT_CHANNELS
from vrcodec.conditional.dials import ANCHOR_BITS, ANCHORS, Conditioning
from vrcodec.errors import WeightsError
from vrcodec.model.config import ModelConfig

KERNELS = (1, 3, 1, 3, 1)
"""Side of every layer's kernel."""
SHUFFLE = (True, False, True, False, False)
"""Whether a layer's channels are spread over twice as many rows and columns."""
WEIGHT_BITS = 12
ACTIVATION_BITS = 8
"""Fractional bits."""
ACTIVATION_MAX = 1 << 16
HYPER_MAX = ACTIVATION_MAX >> ACTIVATION_BITS
"""z_hat is limited to +-HYPER_MAX on its way into the path (not where it is coded)."""
EXACT = 1 << 53


def layer_widths(config: ModelConfig) -> tuple[tuple[int, int], ...]:
    """Input and output channels of every layer."""
    z, h = config.hyper, config.hyper_width
    return (z, 4 * h), (h, h), (h, 4 * h), (h, h), (h, LATENT_CHANNELS)


@dataclasses.dataclass(frozen=True)
class FixedPointLayer:
    """One convolution: integer weight (O, I, k, k) and bias anchors (K, ANCHORS, O)."""

    weight: NDArray[np.int64]
    bias: NDArray[np.int64]

    def bias_at(self, conditioning: Conditioning) -> NDArray[np.int64]:
        """Integer biases (O,): linear between anchors, rounded half up."""
        total = np.zeros(self.bias.shape[2], dtype=np.int64)
        for anchors, (knot, part) in zip(self.bias, conditioning.knots, strict=True):
            mixed = anchors[knot] * ((1 << ANCHOR_BITS) - part) + anchors[knot + 1] * part
            total += (mixed + (1 << (ANCHOR_BITS - 1))) >> ANCHOR_BITS
        return total


class IntegerScalePath:
    """Integer twin of `entropy_model.ScalePath`; gives table indices instead of log sigma.

    Raises:
        WeightsError: a sum could exceed 2^53.
    """

    def __init__(self, layers: Sequence[FixedPointLayer]) -> None:
        self.layers = list(layers)
        self.check()

    def tensors(self) -> dict[str, NDArray[np.int32]]:
        """The layers as named arrays, for the weights file.

        Raises:
            WeightsError: a value exceeds 32 bits.
        """
        named = {}
        for i, layer in enumerate(self.layers):
            for kind, values in (("weight", layer.weight), ("bias", layer.bias)):
                if int(np.abs(values).max()) >= 1 << 31:
                    raise WeightsError(f"scale path: layer {i}: {kind} exceeds 32 bits")
                named[f"fixed.{i}.{kind}"] = values.astype(np.int32)
        return named

    @staticmethod
    def layers_of(
        tensors: Mapping[str, NDArray[Any]], config: ModelConfig
    ) -> list[FixedPointLayer]:
        """Inverse of `tensors`. Raises WeightsError on missing parts or wrong shapes."""
        layers = []
        for i, ((inputs, outputs), k) in enumerate(zip(layer_widths(config), KERNELS, strict=True)):
            shapes = {
                "weight": (outputs, inputs, k, k),
                "bias": (config.coefficients, ANCHORS, outputs),
            }
            parts = {}
            for kind, shape in shapes.items():
                values = tensors.get(f"fixed.{i}.{kind}")
                if values is None or values.shape != shape or values.dtype != np.int32:
                    raise WeightsError(f"scale path: layer {i}: bad or missing {kind}")
                parts[kind] = values.astype(np.int64)
            layers.append(FixedPointLayer(parts["weight"], parts["bias"]))
        return layers

    def check(self) -> None:
        """Prove that no partial sum can reach 2^53. Raises WeightsError."""
        for i, layer in enumerate(self.layers):
            reach = np.abs(layer.weight).astype(np.float64).sum(axis=(1, 2, 3)) * ACTIVATION_MAX
            bias = np.abs(layer.bias).astype(np.float64).max(axis=1).sum(axis=0)
            # One more for the rounding constant; float64 of these sums errs by far less.
            if float((reach + bias).max()) + (1 << 32) >= EXACT:
                raise WeightsError(f"scale path: layer {i} could exceed 2^53")
