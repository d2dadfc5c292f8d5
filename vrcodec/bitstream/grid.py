"""The grids of a picture: pixels, latents y, hyper-latents z, sections. Pure arithmetic.

Sizes of pictures are (width, height), as in files; grids are (rows, columns), as in arrays.
See docs/bitstream.md, section 2.
"""

from __future__ import annotations

BLOCK = 16
"""Pixels along one side of the square that one latent position stands for."""

GROUP = 4
"""Positions of y's grid along one side of the square that one position of z stands for."""

SECTION_POSITIONS = 8192
"""Latent positions in one y section, about: it is cut at whole rows."""


def latent_size(width: int, height: int) -> tuple[int, int]:
    """Rows and columns of y's grid for a picture of this size."""
    return -(-height // BLOCK), -(-width // BLOCK)


def hyper_size(width: int, height: int) -> tuple[int, int]:
    """Rows and columns of z's grid for a picture of this size."""
    rows, columns = latent_size(width, height)
    return -(-rows // GROUP), -(-columns // GROUP)


def section_rows(columns: int) -> int:
    """Latent rows in every y section but the last, which may have fewer."""
    return max(1, SECTION_POSITIONS // columns)


def section_count(width: int, height: int) -> int:
    """Number of y sections of a picture of this size."""
    rows, columns = latent_size(width, height)
    return -(-rows // section_rows(columns))


def sections(width: int, height: int) -> list[tuple[int, int]]:
    """First and last-plus-one latent row of every y section."""
    rows, columns = latent_size(width, height)
    step = section_rows(columns)
    return [(top, min(top + step, rows)) for top in range(0, rows, step)]
