"""Styles on pictures of any size: in one piece, or in tiles that show no seams."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vrcodec.conditional.layers import Moments
from vrcodec.stylize.network import FOLD, StyleNet

Pixels = NDArray[np.uint8]
"""(height, width, 3), sRGB."""

WHOLE = 1 << 22
"""Pixels up to which a picture is computed in one piece."""
TILE = 1024
"""Side of a tile of a larger one."""
SAMPLE = 256
"""Side of the windows that the moments of a larger picture are taken from."""
WINDOWS = 5
"""How many of these along a side, evenly spread."""


class Stylizer:
    """A style, ready for pictures.

    What an instance norm divides by has to be the whole picture's, or tiles would differ in colour.
    So tiles of a large picture are all computed with the same moments, which are taken before from
    windows spread evenly over it, at its full resolution, normalised together as one picture.

    Args:
        network: of the style; it goes to the device.
        device: where to compute.
    """

    def __init__(self, network: StyleNet, device: torch.device | None = None) -> None:
        self.device = device or torch.device("cpu")
        self.network = network.to(self.device)
        self.dials = network.config.dials

    @torch.inference_mode()
    def apply(
        self,
        pixels: Pixels,
        positions: Mapping[str, float] | None = None,
        tile: int = TILE,
        whole: int = WHOLE,
    ) -> Pixels:
        """A picture in the style.

        Args:
            pixels: of the picture.
            positions: on the dials, 0 to 1; those not named are at their defaults.
            tile: side of the tiles, of a picture that needs them; a multiple of FOLD.
            whole: pixels up to which a picture needs none.

        Raises:
            DialError: there is no such dial, or a position is not in [0, 1].
        """
        vector = torch.tensor([self.dials.conditioning(positions).positions], device=self.device)
        height, width = pixels.shape[:2]
        padded = np.pad(pixels, ((0, -height % FOLD), (0, -width % FOLD), (0, 0)), "edge")
        if height * width <= whole:
            return self._made(padded, vector, Moments())[:height, :width]
        moments = Moments(pooled=True)
        self.network(self._windows(padded), vector, moments)
        result = np.empty_like(padded)
        reach = self.network.reach
        for rows, outer_rows in _spans(padded.shape[0], tile, reach):
            for columns, outer_columns in _spans(padded.shape[1], tile, reach):
                made = self._made(padded[outer_rows, outer_columns], vector, moments.again())
                top, left = rows.start - outer_rows.start, columns.start - outer_columns.start
                size = rows.stop - rows.start, columns.stop - columns.start
                result[rows, columns] = made[top : top + size[0], left : left + size[1]]
        return result[:height, :width]

    def _made(self, pixels: Pixels, vector: Tensor, moments: Moments) -> Pixels:
        made = self.network(self._batch(pixels[None]), vector, moments)[0]
        rounded = (made.clamp(0, 1) * 255).round().to(torch.uint8)
        array: Pixels = rounded.permute(1, 2, 0).cpu().numpy()
        return array

    def _windows(self, pixels: Pixels) -> Tensor:
        """Windows evenly spread over a picture, as one batch."""
        rows, columns = (_starts(length) for length in pixels.shape[:2])
        cut = [pixels[top : top + SAMPLE, left : left + SAMPLE] for top in rows for left in columns]
        return self._batch(np.stack(cut))

    def _batch(self, pixels: Pixels) -> Tensor:
        """(B, h, w, 3) as a tensor (B, 3, h, w) in [0, 1]."""
        values = torch.from_numpy(np.ascontiguousarray(pixels)).to(self.device)
        return values.permute(0, 3, 1, 2).float() / 255


def _starts(length: int) -> list[int]:
    """Where windows of at most SAMPLE pixels begin, at most WINDOWS of them, along one side."""
    room = max(0, length - SAMPLE)
    count = min(WINDOWS, -(-length // SAMPLE))
    return [round(room * i / max(1, count - 1)) for i in range(count)]


def _spans(length: int, tile: int, reach: int) -> Iterator[tuple[slice, slice]]:
    """Tiles along one side, and each with what its pixels depend on."""
    for start in range(0, length, tile):
        stop = min(start + tile, length)
        yield slice(start, stop), slice(max(0, start - reach), min(length, stop + reach))
