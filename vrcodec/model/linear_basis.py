"""The linear transform codec that the network starts from.

A picture block is rotated in colour (the decorrelating opponent axes grey, red-blue,
green-magenta) and transformed by an orthonormal 2-D DCT-II. Network weights are learned
relative to this basis, each coefficient divided by its standard deviation over the training
pictures, so that one learning rate suits the mean colour and the finest detail alike (the
idea of a linear shortcut that carries most of the energy: AuxT, ICLR 2025).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

PIXEL_GAIN = 8.0
"""Pixels in [0, 1] become (x - 0.5) x 8: one unit of a coefficient is 31.9 grey levels."""


def dct_matrix(size: int) -> Tensor:
    """Orthonormal DCT-II, (frequency, position)."""
    k = torch.arange(size, dtype=torch.float64, device="cpu")
    basis = torch.cos(math.pi / size * k[:, None] * (k[None, :] + 0.5)) * math.sqrt(2 / size)
    basis[0] /= math.sqrt(2)
    return basis


def block_basis(size: int) -> Tensor:
    """Orthonormal basis of size x size RGB blocks, rows sorted from low to high frequency.

    Always on the CPU, where the basis is made also of a model without storage ("meta").

    Returns:
        (3 size^2, 3 size^2): rows are coefficients, columns are in the channel order of
        `pixel_unshuffle(rgb, size)`, that is (colour, row, column).
    """
    axes = torch.tensor([[1, 1, 1], [1, 0, -1], [1, -2, 1]], dtype=torch.float64, device="cpu")
    lengths = torch.tensor([3.0, 2.0, 6.0], dtype=torch.float64, device="cpu").sqrt()
    colour = axes / lengths[:, None]
    dct = dct_matrix(size)
    basis = torch.einsum("pc,ui,vj->puvcij", colour, dct, dct).reshape(3 * size**2, 3 * size**2)
    u = torch.arange(size, dtype=torch.float64, device="cpu")
    radius = (u[:, None] ** 2 + u[None, :] ** 2).expand(3, size, size)
    # Chroma fades faster than luma: count its frequencies double.
    weight = torch.tensor([1.0, 4.0, 4.0], dtype=torch.float64, device="cpu")[:, None, None]
    order = torch.argsort((radius * weight).reshape(-1), stable=True)
    return basis[order].to(torch.float32)
