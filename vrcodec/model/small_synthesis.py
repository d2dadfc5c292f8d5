"""A decoded picture at a half, a quarter or an eighth of its size, from its latents. No torch here.

Latents are coefficients of the DCT of 16x16 blocks, with a learned linear correction. Mean values
of squares of pixels are linear in them, too: so all that is linear in the synthesis and the box
filter behind it become one small matrix, as JPEG decoders have it for their 8x8 blocks. The
non-linear branch, most of the work, is left out: what it adds is mostly finer than a small
picture shows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vrcodec.bitstream.grid import BLOCK, LATENT_CHANNELS
from vrcodec.model.config import ModelConfig
from vrcodec.model.constants import COEFFICIENT_LIMIT, LINEAR_GAIN, TOLERATED_EXCESS
from vrcodec.model.linear_basis import PIXEL_GAIN, block_basis

_MIDDLE = 127.5


class SmallSynthesis:
    """Latents (B, 768, h, w), in deviations, to pixels (B, 16 h / reduce, 16 w / reduce, 3).

    Args:
        tensors: the model's float parameters by name, as `shapes.checked` gives them.
        config: its shape.
        reduce: one of `grid.REDUCTIONS` but 1.
    """

    def __init__(
        self, tensors: Mapping[str, NDArray[Any]], config: ModelConfig, reduce: int
    ) -> None:
        self._side = BLOCK // reduce
        split = (3, self._side, reduce, self._side, reduce, LATENT_CHANNELS)
        means = block_basis(BLOCK).astype(np.float64).T.reshape(split).mean(axis=(2, 4))
        rows = means.transpose(1, 2, 0, 3).reshape(-1, LATENT_CHANNELS) * (255 / PIXEL_GAIN)
        self._linear = (rows * tensors["basis.deviation16"]).astype(np.float32)
        self._correction = None
        if config.learned_linear:
            learned = tensors["synthesis.linear.correction"].astype(np.float64)
            self._correction = (rows @ learned * LINEAR_GAIN).astype(np.float32)

    @property
    def macs(self) -> int:
        """Multiply-accumulates for every position of y's grid."""
        return self._linear.size * (1 if self._correction is None else 2)

    def __call__(self, y_hat: NDArray[np.float32]) -> NDArray[np.uint8]:
        count, _, rows, columns = y_hat.shape
        y = y_hat.reshape(count, LATENT_CHANNELS, rows * columns)
        x = self._linear @ y
        if self._correction is not None:
            limited = np.clip(y, -COEFFICIENT_LIMIT, COEFFICIENT_LIMIT)
            excess = np.abs(y - limited).mean(axis=1, keepdims=True) / TOLERATED_EXCESS
            x += (self._correction @ limited) / (1 + excess**2)
        eight_bit = np.clip(np.rint(x + _MIDDLE), 0, 255).astype(np.uint8)
        side = self._side
        blocks = eight_bit.reshape(count, side, side, 3, rows, columns)
        return blocks.transpose(0, 4, 1, 5, 2, 3).reshape(count, rows * side, columns * side, 3)
