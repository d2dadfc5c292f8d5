"""How far an encoder draws symbols towards zero before it rounds them. No torch here.

A symbol that is rarely anything but zero costs many bits where it is: rounding to the nearest
integer is then not what costs least, R + lambda D taken together (rate-distortion optimised
quantisation; for Laplacian values Sullivan, "Efficient scalar quantization of exponential and
Laplacian random variables", 1996). Where bits grow by a constant b from one magnitude to the next,
as in the tails of the logistic distribution, the best choice between neighbours is to subtract
b / (2 w) from the magnitude and to round then, w being the bits that a squared error of 1 is worth.

A decoder knows nothing of it. Tables are counted with it, networks are trained without: inside of
the zone nothing would tell latents and steps what they cost (docs/experiments.md).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vrcodec.bitstream.grid import LATENT_CHANNELS
from vrcodec.model.config import ModelConfig
from vrcodec.model.linear_basis import PIXEL_GAIN

DEAD_ZONE_LIMIT = 0.5
"""By so much at most: no symbol becomes another than one of its two neighbours."""
BITS_BY_DEVIATION = math.pi / (math.sqrt(3) * math.log(2))
"""Bits from one magnitude to the next in the tails of a logistic density of deviation 1."""


def strengths(config: ModelConfig) -> NDArray[np.float32]:
    """How strongly the symbols of every channel are drawn, (768, 1, 1).

    At 1 as is best if the synthesis transform is its DCT alone. What the networks make of the core
    channels, and of zeros in any channel, is worth less; so what is best was found by trying.
    """
    of_core, of_detail = config.dead_zone
    strength = np.full((LATENT_CHANNELS, 1, 1), of_detail, dtype=np.float32)
    strength[: config.core] = of_core
    return strength


def dead_zones(strength: Any, quality_lambda: Any, step: Any, deviation: Any) -> Any:
    """By how much symbols of standard deviation 1 are drawn towards zero, for every channel.

    It is in inverse proportion to the deviation, up to `DEAD_ZONE_LIMIT`. Arrays or tensors,
    (768, 1, 1) but for the first two, as they come.

    Args:
        strength: of `strengths`, or a number.
        quality_lambda: the loss coefficient of the first dial.
        step: quantisation steps, in deviations of their coefficients.
        deviation: of the coefficients.
    """
    levels = (255 / PIXEL_GAIN) * step * deviation  # of one step
    return strength * BITS_BY_DEVIATION / (2 * (quality_lambda / 3) * levels**2)
