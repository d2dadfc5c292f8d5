"""The scale path in integers: the only arithmetic that the bitstream depends on. No torch here.

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
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vrcodec.bitstream.grid import LATENT_CHANNELS
from vrcodec.conditional.dials import ANCHOR_BITS, ANCHORS, Conditioning
from vrcodec.errors import WeightsError
from vrcodec.model.config import SCALE_LEVELS, ModelConfig

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
AT_ONCE = 192
"""Positions that a layer is computed for at once, or those of one row."""


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

    @functools.cached_property
    def matrix(self) -> NDArray[np.float64]:
        """The weight as (O, k k I)."""
        return self.weight.transpose(0, 2, 3, 1).reshape(len(self.weight), -1).astype(np.float64)


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

    def indexes(self, z: NDArray[np.integer[Any]], conditioning: Conditioning) -> NDArray[np.uint8]:
        """Scale index of every symbol of y.

        Args:
            z: integers (hyper, h, w).
            conditioning: of the header.

        Returns:
            (768, 4h, 4w), 0 to SCALE_LEVELS - 1.
        """
        return self.indexes_of(self.features(z, conditioning), conditioning)

    def features(
        self, z: NDArray[np.integer[Any]], conditioning: Conditioning
    ) -> NDArray[np.float64]:
        """All layers but the last: integers (hyper_width, 4h, 4w)."""
        a = z.astype(np.float64).clip(-HYPER_MAX, HYPER_MAX) * 2**ACTIVATION_BITS
        for layer, shuffled in zip(self.layers[:-1], SHUFFLE, strict=False):
            a = _convolved(a, layer, conditioning, WEIGHT_BITS, ACTIVATION_MAX)
            if shuffled:
                a = _pixel_shuffle(a)
        return a

    def indexes_of(
        self, features: NDArray[np.float64], conditioning: Conditioning
    ) -> NDArray[np.uint8]:
        """The last layer, position by position: (768, h, w) of features (..., h, w).

        Apart from the others because its output is the largest by far: a decoder takes it a
        few rows at a time.
        """
        shift = WEIGHT_BITS + ACTIVATION_BITS
        top = SCALE_LEVELS - 1
        return _convolved(features, self.layers[-1], conditioning, shift, top, np.uint8)


def _convolved(
    a: NDArray[np.float64],
    layer: FixedPointLayer,
    conditioning: Conditioning,
    shift: int,
    top: int,
    dtype: type = np.float64,
) -> NDArray[Any]:
    """clamp((conv(a) + bias) / 2^shift rounded half up, 0, top), exact in float64.

    Some rows at a time, so that what is computed with stays in the processor's cache.
    """
    side, (_, rows, columns) = layer.weight.shape[2], a.shape
    reach = side // 2
    # Exact, too: a power of two moves the exponents alone.
    weight = layer.matrix * 2.0**-shift
    bias = (layer.bias_at(conditioning)[:, None] + 2.0 ** (shift - 1)) * 2.0**-shift
    padded = np.pad(a, ((0, 0), (reach, reach), (reach, reach))) if reach else a
    result: NDArray[Any] = np.empty((len(weight), rows, columns), dtype=dtype)
    step = max(1, AT_ONCE // columns)
    for start in range(0, rows, step):
        stop = min(start + step, rows)
        taps = [padded[:, start + i : stop + i, j : j + columns] for i, j in np.ndindex(side, side)]
        total = weight @ np.concatenate(taps).reshape(weight.shape[1], -1)
        total += bias
        np.floor(total, out=total)
        total.clip(0, top, out=total)
        result[:, start:stop] = total.reshape(len(weight), -1, columns)
    return result


def _pixel_shuffle(a: NDArray[np.float64]) -> NDArray[np.float64]:
    """(4 C, h, w) -> (C, 2h, 2w)."""
    channels, rows, columns = a.shape
    parts = a.reshape(channels // 4, 2, 2, rows, columns).transpose(0, 3, 1, 4, 2)
    return np.ascontiguousarray(parts).reshape(channels // 4, 2 * rows, 2 * columns)
