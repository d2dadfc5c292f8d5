"""The linear transform codec that the networks start from, and what all of them count in. No torch.

A picture block is rotated in colour (the decorrelating opponent axes grey, red-blue,
green-magenta) and transformed by an orthonormal 2-D DCT-II. Network weights are learned
relative to this basis, each coefficient divided by its standard deviation over the training
pictures, so that one learning rate suits the mean colour and the finest detail alike (the
idea of a linear shortcut that carries most of the energy: AuxT, ICLR 2025).
"""

from __future__ import annotations

import functools
import math

import numpy as np
from numpy.typing import NDArray

from vrcodec.bitstream.grid import BLOCK

PIXEL_GAIN = 8.0
"""Pixels in [0, 1] become (x - 0.5) x 8: one unit of a coefficient is 31.9 grey levels."""


COLOUR_AXES = np.array([[1.0, 1, 1], [1, 0, -1], [1, -2, 1]]) / np.sqrt([[3.0], [2.0], [6.0]])
"""Orthonormal: grey, red against blue, green against magenta."""


def dct_matrix(size: int) -> NDArray[np.float64]:
    """Orthonormal DCT-II, (frequency, position)."""
    k = np.arange(size, dtype=np.float64)
    basis = np.cos(math.pi / size * k[:, None] * (k[None, :] + 0.5)) * math.sqrt(2 / size)
    basis[0] /= math.sqrt(2)
    return basis


def block_basis(size: int) -> NDArray[np.float32]:
    """Orthonormal basis of size x size RGB blocks, rows sorted from low to high frequency.

    Returns:
        (3 size^2, 3 size^2): rows are coefficients, columns are in the channel order of
        `pixel_unshuffle(rgb, size)`, that is (colour, row, column).
    """
    dct = dct_matrix(size)
    basis = np.einsum("pc,ui,vj->puvcij", COLOUR_AXES, dct, dct).reshape(3 * size**2, 3 * size**2)
    return basis[frequency_order(size)].astype(np.float32)


def frequency_order(size: int) -> NDArray[np.intp]:
    """Where in (colour axis, frequency by rows, by columns) the sorted coefficients come from."""
    u = np.arange(size)
    radius = np.broadcast_to(u[:, None] ** 2 + u[None, :] ** 2, (3, size, size))
    # Chroma fades faster than luma: count its frequencies double.
    weight = np.array([1, 4, 4])[:, None, None]
    return np.argsort((radius * weight).ravel(), kind="stable")


@functools.cache
def is_colour() -> NDArray[np.bool_]:
    """Whether each of the 768 coefficients is one of colour, 0 for every grey picture."""
    response_to_grey = np.abs(block_basis(BLOCK).reshape(-1, 3, BLOCK**2).sum(axis=1))
    return response_to_grey.max(axis=1) < 1e-3
