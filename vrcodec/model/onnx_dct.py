"""The 16 x 16 DCT in an ONNX graph: colours, columns and rows one after the other.

As one product of 768 x 768 it is an eighth of all multiplications of the networks, and takes four
times as long as this on one thread. It counts as that product wherever multiplications are counted.

Between the steps channels are in the order of the axes, (colour, row, column) or of their
frequencies; coefficients are sorted by frequency, like everything that is learned.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vrcodec.bitstream.grid import BLOCK, LATENT_CHANNELS
from vrcodec.model.linear_basis import COLOUR_AXES, dct_matrix, frequency_order
from vrcodec.model.onnx_builder import Builder, spread
from vrcodec.model.onnx_file import Value

HALF = BLOCK // 2


def coefficients(b: Builder, pixels: Value, middle: float, scale: NDArray[np.float32]) -> Value:
    """uint8 "pixels" (B, 16 h, 16 w, 3) -> (B, 768, h, w): coefficients of pixels less `middle`.

    Args:
        scale: what each coefficient is multiplied by, (768,).
    """
    x = b.blocks_of(pixels, BLOCK)
    grid = b.node("Shape", x, start=2, end=4)
    of = np.arange(LATENT_CHANNELS).reshape(BLOCK, BLOCK, 3).transpose(2, 0, 1)
    x = b.node("Gather", x, b.integers(*of.ravel()), axis=1)
    x = b.node("Sub", b.graph.cast(x, "float32"), b.number(middle))
    dct = dct_matrix(BLOCK)
    x = _along_axes(b, x, grid, COLOUR_AXES, dct, dct, rows_first=False)
    x = b.node("Gather", x, b.integers(*frequency_order(BLOCK)), axis=1)
    return b.node("Mul", x, b.graph.constant(scale.astype(np.float32).reshape(1, -1, 1, 1)))


def pixels(b: Builder, y: Value, middle: float, scale: NDArray[np.float32]) -> Value:
    """Coefficients (B, 768, h, w) -> (B, 192, 2 h, 2 w): blocks of 8 x 8, (row, column, colour).

    Args:
        middle: is added.
        scale: what each coefficient is multiplied by before, (768,).
    """
    grid = b.node("Shape", y, start=2, end=4)
    x = b.node("Mul", y, b.graph.constant(scale.astype(np.float32).reshape(1, -1, 1, 1)))
    x = b.node("Gather", x, b.integers(*np.argsort(frequency_order(BLOCK))), axis=1)
    dct = dct_matrix(BLOCK).T
    x = _along_axes(b, x, grid, COLOUR_AXES.T, dct, dct, rows_first=True)
    # Four blocks of 8 x 8 one after the other, so that they meet the branch there.
    of = np.arange(LATENT_CHANNELS).reshape(3, 2, HALF, 2, HALF).transpose(1, 3, 2, 4, 0)
    x = b.node("Gather", x, b.integers(*of.ravel()), axis=1)
    return spread(b.graph, b.node("Add", x, b.number(middle)))


def _along_axes(
    b: Builder,
    x: Value,
    grid: Value,
    colours: NDArray[np.float64],
    rows: NDArray[np.float64],
    columns: NDArray[np.float64],
    rows_first: bool,
) -> Value:
    """(B, 3 x 16 x 16 in any shape, h, w), each axis multiplied by a matrix -> (B, 768, h, w)."""
    positions = b.node("ReduceProd", grid, keepdims=1)
    steps = [(colours, BLOCK**2), (columns, 1), (rows, BLOCK)]
    for matrix, inner in reversed(steps) if rows_first else steps:
        width = b.node("Mul", positions, b.integers(inner))
        shape = b.node("Concat", b.integers(-1, len(matrix)), width, axis=0)
        x = b.node("MatMul", b.graph.constant(_dense(matrix)), b.node("Reshape", x, shape))
    b.macs += LATENT_CHANNELS**2
    return b.node("Reshape", x, b.node("Concat", b.integers(-1, LATENT_CHANNELS), grid, axis=0))


def _dense(matrix: NDArray[np.float64]) -> NDArray[np.float32]:
    return np.ascontiguousarray(matrix, dtype=np.float32)
