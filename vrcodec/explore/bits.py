"""Where in a picture the bits go: the entropy model's code lengths as a picture."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vrcodec.bitstream.container import unpack
from vrcodec.bitstream.grid import BLOCK, GROUP
from vrcodec.bitstream.trellis import Part
from vrcodec.codec import sections
from vrcodec.codec.pipeline import Pipeline

RAMP = ((0, 0, 4), (66, 10, 104), (147, 38, 103), (221, 81, 58), (252, 165, 10), (252, 255, 164))
"""Colours from few bits to many: the map "inferno" of matplotlib, at fifths."""
_VEIL = 0.75
"""How much of what is seen is the map's colour; the rest is the picture in grey."""
_FULL = 99.5
"""Percentile of the blocks that has the last colour."""


def bits_of_blocks(pipeline: Pipeline, data: bytes) -> NDArray[np.float64]:
    """Ideal code length of a file in every block of 16 x 16 pixels, (rows, columns).

    The bits of a hyper-latent are spread over the blocks that it stands for.

    Raises:
        FormatError, UnknownWeightsError.
    """
    stream = unpack(data)
    latents = pipeline.read_latents(stream)
    weights, at = pipeline.weights, stream.header.conditioning
    tables, (_, rows, columns) = weights.y_tables, latents.y.shape
    part = Part.whole(rows, columns)
    quiet = stream.header.quiet
    y = sections.each_bits(latents.y, latents.indexes, tables, at, part, quiet)
    blocks: NDArray[np.float64] = y.sum(axis=0)
    z = weights.z_tables.bits(latents.z, at).sum(axis=0)
    rows, columns = blocks.shape
    spread = _enlarged(np.ones_like(z), GROUP)[:rows, :columns]
    for (i, j), bits in np.ndenumerate(z):
        group = spread[GROUP * i : GROUP * (i + 1), GROUP * j : GROUP * (j + 1)]
        group *= bits / group.size
    return blocks + spread


def map_of(blocks: NDArray[np.float64], pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Bits by block as colours over a picture in grey: uint8 (H, W, 3)."""
    full = max(float(np.percentile(blocks, _FULL)), 1e-9)
    share = np.clip(blocks / full, 0, 1) ** 0.5
    stops = np.linspace(0, 1, len(RAMP))
    colours = np.stack([np.interp(share, stops, channel) for channel in np.transpose(RAMP)], -1)
    height, width = pixels.shape[:2]
    veil = _enlarged(colours, BLOCK)[:height, :width].astype(np.float32)
    grey = pixels.mean(axis=2, dtype=np.float32, keepdims=True)
    mixed: NDArray[np.uint8] = np.round(_VEIL * veil + (1 - _VEIL) * grey).astype(np.uint8)
    return mixed


def _enlarged(array: NDArray[np.float64], times: int) -> NDArray[np.float64]:
    return array.repeat(times, axis=0).repeat(times, axis=1)
