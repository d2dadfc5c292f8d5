"""The scale path in integers: the only arithmetic that the bitstream depends on.

z_hat and the conditioning value of the header determine the table of every symbol through
this path, on every machine the same. Weights, biases and activations are integers carried
in float64. Every partial sum stays below 2^53, so every product and sum is exact, whatever
the order of summation, number of threads, vector width, memory layout, library or device.
`check` proves the bound from the actual weights; it runs at export and at every load.

Fixed-point formats: weights have 12 fractional bits, activations 8 (0 to 256), the outputs
of the last layer are indices into the scale tables.
"""

from __future__ import annotations

import dataclasses

import torch
import torch.nn.functional as F
from torch import Tensor

from vrcodec.bitstream.container import CONDITIONING_ONE
from vrcodec.errors import WeightsError
from vrcodec.model.config import (
    ANCHORS,
    LOG_SCALE_STEP,
    SCALE_LEVELS,
    SCALE_MIN,
    ModelConfig,
)
from vrcodec.model.entropy_model import ACTIVATION_BITS, WEIGHT_BITS, ScalePath

ACTIVATION_MAX = 1 << 16
HYPER_MAX = ACTIVATION_MAX >> ACTIVATION_BITS
"""z_hat is limited to +-HYPER_MAX on its way into the path (not where it is coded)."""
EXACT = 1 << 53
ANCHOR_BITS = 12
assert CONDITIONING_ONE == (ANCHORS - 1) << ANCHOR_BITS


@dataclasses.dataclass(frozen=True)
class FixedPointLayer:
    """One convolution: integer weight (O, I, k, k) and bias anchors (K, ANCHORS, O)."""

    weight: Tensor
    bias: Tensor

    def bias_at(self, conditioning: tuple[int, ...]) -> Tensor:
        """Integer biases (O,) at header values: linear between anchors, rounded half up."""
        total = torch.zeros(self.bias.shape[2], dtype=torch.int64)
        for anchors, value in zip(self.bias, conditioning, strict=True):
            knot = min(value >> ANCHOR_BITS, ANCHORS - 2)
            part = value - (knot << ANCHOR_BITS)
            mixed = anchors[knot] * ((1 << ANCHOR_BITS) - part) + anchors[knot + 1] * part
            total += (mixed + (1 << (ANCHOR_BITS - 1))) >> ANCHOR_BITS
        return total


class FixedPointScalePath:
    """Integer twin of `entropy_model.ScalePath`; gives table indices instead of log sigma."""

    def __init__(self, layers: list[FixedPointLayer]) -> None:
        self.layers = layers
        self.check()
        self._on_device: dict[torch.device, list[Tensor]] = {}

    @classmethod
    @torch.no_grad()
    def from_float(cls, path: ScalePath) -> FixedPointScalePath:
        """Quantise a trained scale path."""
        layers = []
        last = len(path.convs) - 1
        for i, (conv, table) in enumerate(path.layers()):
            weight = conv.weight.detach().double().cpu()
            bias = table.anchors().detach().double().cpu()
            if i == last:
                bias[0] -= torch.log(torch.tensor(SCALE_MIN, dtype=torch.float64))
                weight, bias = weight / LOG_SCALE_STEP, bias / LOG_SCALE_STEP
            layers.append(
                FixedPointLayer(
                    torch.round(weight * 2**WEIGHT_BITS).long(),
                    torch.round(bias * 2 ** (WEIGHT_BITS + ACTIVATION_BITS)).long(),
                )
            )
        return cls(layers)

    def tensors(self) -> dict[str, Tensor]:
        """The layers as named int32 tensors, for the weights file."""
        named = {}
        for i, layer in enumerate(self.layers):
            for kind, values in (("weight", layer.weight), ("bias", layer.bias)):
                if int(values.abs().max()) >= 1 << 31:
                    raise WeightsError(f"scale path: layer {i}: {kind} exceeds 32 bits")
                named[f"fixed.{i}.{kind}"] = values.to(torch.int32)
        return named

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor], config: ModelConfig) -> FixedPointScalePath:
        """Inverse of `tensors`. Raises WeightsError on missing parts, shapes or bounds."""
        expected = ScalePath(config)
        layers = []
        for i, (conv, bias) in enumerate(expected.layers()):
            shapes = {"weight": conv.weight.shape, "bias": bias.values.shape}
            parts = {}
            for kind, shape in shapes.items():
                values = tensors.get(f"fixed.{i}.{kind}")
                if values is None or values.shape != shape or values.dtype != torch.int32:
                    raise WeightsError(f"scale path: layer {i}: bad or missing {kind}")
                parts[kind] = values.long()
            layers.append(FixedPointLayer(parts["weight"], parts["bias"]))
        return cls(layers)

    def check(self) -> None:
        """Prove that no partial sum can reach 2^53. Raises WeightsError."""
        for i, layer in enumerate(self.layers):
            reach = layer.weight.abs().double().sum(dim=(1, 2, 3)) * ACTIVATION_MAX
            bias = layer.bias.abs().double().amax(dim=1).sum(dim=0)
            # One more for the rounding constant; double() of these sums errs by far less.
            if float((reach + bias).max()) + (1 << 32) >= EXACT:
                raise WeightsError(f"scale path: layer {i} could exceed 2^53")

    def to(self, device: torch.device) -> list[Tensor]:
        """The weights as float64 on a device (the CPU where the device has no float64)."""
        if device.type == "mps":
            device = torch.device("cpu")
        if device not in self._on_device:
            self._on_device[device] = [layer.weight.double().to(device) for layer in self.layers]
        return self._on_device[device]

    def indexes(self, z: Tensor, conditioning: tuple[int, ...]) -> Tensor:
        """Scale index of every symbol of y.

        Args:
            z: integers (hyper, h, w), any integer dtype.
            conditioning: header values, 0 to CONDITIONING_ONE.

        Returns:
            uint8 (768, 4h, 4w), 0 to SCALE_LEVELS - 1.
        """
        return self.indexes_of(self.features(z, conditioning), conditioning)

    @torch.no_grad()
    def features(self, z: Tensor, conditioning: tuple[int, ...]) -> Tensor:
        """All layers but the last: float64 integers (hyper_width, 4h, 4w)."""
        weights = self.to(z.device)
        device = weights[0].device
        limited = z.to(device).double().clamp(-HYPER_MAX, HYPER_MAX)
        a = (limited * 2**ACTIVATION_BITS)[None]
        for i, (layer, weight) in enumerate(zip(self.layers[:-1], weights[:-1], strict=True)):
            a = _layer(a, weight, layer.bias_at(conditioning), WEIGHT_BITS, ACTIVATION_MAX)
            if ScalePath.SHUFFLE[i]:
                a = F.pixel_shuffle(a, 2)
        return a[0]

    @torch.no_grad()
    def indexes_of(self, features: Tensor, conditioning: tuple[int, ...]) -> Tensor:
        """The last layer, position by position: uint8 (768, h, w) of features (…, h, w).

        Apart from the others because its output is the largest by far: a decoder takes it a
        few rows at a time.
        """
        weight, bias = self.to(features.device)[-1], self.layers[-1].bias_at(conditioning)
        shift = WEIGHT_BITS + ACTIVATION_BITS
        return _layer(features[None], weight, bias, shift, SCALE_LEVELS - 1)[0].to(torch.uint8)


def _layer(a: Tensor, weight: Tensor, bias: Tensor, shift: int, top: int) -> Tensor:
    """clamp((conv(a) + bias) / 2^shift rounded half up, 0, top), exact in float64."""
    # The rounding absorbs a library that convolves by FFT; exact sums it leaves alone.
    total = torch.round(F.conv2d(a, weight, padding=weight.shape[-1] // 2))
    total += bias.double().to(a.device)[:, None, None] + 2.0 ** (shift - 1)
    return torch.floor(total * 2.0**-shift).clamp_(0, top)
