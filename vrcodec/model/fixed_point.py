"""The integer scale path on a device of torch; what it is, `integer_path.py` says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from vrcodec.conditional.dials import Conditioning
from vrcodec.model.config import LOG_SCALE_STEP, SCALE_LEVELS, SCALE_MIN, ModelConfig
from vrcodec.model.entropy_model import ScalePath
from vrcodec.model.integer_path import (
    ACTIVATION_BITS,
    ACTIVATION_MAX,
    HYPER_MAX,
    SHUFFLE,
    WEIGHT_BITS,
    FixedPointLayer,
    IntegerScalePath,
)


class FixedPointScalePath:
    """`IntegerScalePath` in float64 convolutions of torch, with the same results.

    Raises:
        WeightsError: a sum could exceed 2^53.
    """

    def __init__(self, layers: Sequence[FixedPointLayer]) -> None:
        self.exact = IntegerScalePath(layers)
        self._on_device: dict[torch.device, list[Tensor]] = {}

    @property
    def layers(self) -> list[FixedPointLayer]:
        """The integers."""
        return self.exact.layers

    @classmethod
    @torch.no_grad()
    def from_float(cls, path: ScalePath) -> FixedPointScalePath:
        """Quantise a trained scale path. Raises WeightsError."""
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
                    torch.round(weight * 2**WEIGHT_BITS).long().numpy(),
                    torch.round(bias * 2 ** (WEIGHT_BITS + ACTIVATION_BITS)).long().numpy(),
                )
            )
        return cls(layers)

    @classmethod
    def from_tensors(
        cls, tensors: Mapping[str, NDArray[Any]], config: ModelConfig
    ) -> FixedPointScalePath:
        """Inverse of `tensors`. Raises WeightsError on missing parts, shapes or bounds."""
        return cls(IntegerScalePath.layers_of(tensors, config))

    def tensors(self) -> dict[str, NDArray[Any]]:
        """The layers as named int32 arrays, for the weights file. Raises WeightsError."""
        return dict(self.exact.tensors())

    def to(self, device: torch.device) -> list[Tensor]:
        """The weights as float64 on a device (the CPU where the device has no float64)."""
        if device.type == "mps":
            device = torch.device("cpu")
        if device not in self._on_device:
            self._on_device[device] = [
                torch.from_numpy(layer.weight).double().to(device) for layer in self.layers
            ]
        return self._on_device[device]

    def indexes(self, z: Tensor, conditioning: Conditioning) -> Tensor:
        """Scale index of every symbol of y.

        Args:
            z: integers (hyper, h, w), any integer dtype.
            conditioning: of the header.

        Returns:
            uint8 (768, 4h, 4w), 0 to SCALE_LEVELS - 1.
        """
        return self.indexes_of(self.features(z, conditioning), conditioning)

    @torch.no_grad()
    def features(self, z: Tensor, conditioning: Conditioning) -> Tensor:
        """All layers but the last: float64 integers (hyper_width, 4h, 4w)."""
        weights = self.to(z.device)
        device = weights[0].device
        limited = z.to(device).double().clamp(-HYPER_MAX, HYPER_MAX)
        a = (limited * 2**ACTIVATION_BITS)[None]
        for i, (layer, weight) in enumerate(zip(self.layers[:-1], weights[:-1], strict=True)):
            a = _layer(a, weight, layer.bias_at(conditioning), WEIGHT_BITS, ACTIVATION_MAX)
            if SHUFFLE[i]:
                a = F.pixel_shuffle(a, 2)
        return a[0]

    @torch.no_grad()
    def indexes_of(self, features: Tensor, conditioning: Conditioning) -> Tensor:
        """The last layer, position by position: uint8 (768, h, w) of features (…, h, w).

        Apart from the others because its output is the largest by far: a decoder takes it a
        few rows at a time.
        """
        weight, bias = self.to(features.device)[-1], self.layers[-1].bias_at(conditioning)
        shift = WEIGHT_BITS + ACTIVATION_BITS
        return _layer(features[None], weight, bias, shift, SCALE_LEVELS - 1)[0].to(torch.uint8)


def _layer(a: Tensor, weight: Tensor, bias: NDArray[Any], shift: int, top: int) -> Tensor:
    """clamp((conv(a) + bias) / 2^shift rounded half up, 0, top), exact in float64."""
    # The rounding absorbs a library that convolves by FFT; exact sums it leaves alone.
    total = torch.round(F.conv2d(a, weight, padding=weight.shape[-1] // 2))
    total += torch.from_numpy(bias).double().to(a.device)[:, None, None] + 2.0 ** (shift - 1)
    return torch.floor(total * 2.0**-shift).clamp_(0, top)
