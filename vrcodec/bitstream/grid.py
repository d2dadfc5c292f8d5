"""What stands where in a picture: pixels, latents y, hyper-latents z, sections. No torch.

One position of y's grid stands for BLOCK x BLOCK pixels, one of z's for GROUP x GROUP of y's; a
section of the file is some whole rows of y.
"""

from __future__ import annotations

import dataclasses

BLOCK = 16
"""Pixels along one side of the square that one latent position stands for."""
GROUP = 4
"""Positions of y's grid along one side of the square that one position of z stands for."""
LATENT_CHANNELS = 3 * BLOCK * BLOCK
"""Channels of y: as many as a 16x16 RGB block has values, so that nothing is out of reach."""
REDUCTIONS = (1, 2, 4, 8)
"""How many times smaller, along each side, a picture can be decoded."""
SECTION_POSITIONS = 8192
"""Latent positions in one y section, about: it is cut at whole rows."""

Run = tuple[int, int]
"""First and last-plus-one of some rows or columns."""


def cut(rows: int, columns: int, side: int) -> tuple[list[Run], list[Run]]:
    """Cut a grid of latent positions into pieces of about the same size, in whole groups.

    Args:
        side: the most positions along the side of a piece, a multiple of `GROUP`; a grid of no
            more than its square is one piece all the same.

    Returns:
        The rows of the pieces, and their columns.
    """
    if rows * columns <= side * side:
        return [(0, rows)], [(0, columns)]
    return _cut(rows, side), _cut(columns, side)


def _cut(length: int, side: int) -> list[Run]:
    count = -(-length // side)
    step = -(-length // (count * GROUP)) * GROUP
    return [(start, min(start + step, length)) for start in range(0, length, step)]


def section_rows(columns: int) -> int:
    """Latent rows in a y section of so many columns."""
    return max(1, SECTION_POSITIONS // columns)


def sections(rows: int, columns: int) -> list[Run]:
    """First and last-plus-one latent row of every y section of a grid."""
    height = section_rows(columns)
    return [(top, min(top + height, rows)) for top in range(0, rows, height)]


@dataclasses.dataclass(frozen=True)
class Grid:
    """The grids of a picture of so many pixels."""

    width: int
    height: int

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.width, self.height

    @property
    def latent_size(self) -> tuple[int, int]:
        """Rows and columns of y's grid."""
        return -(-self.height // BLOCK), -(-self.width // BLOCK)

    @property
    def hyper_size(self) -> tuple[int, int]:
        """Rows and columns of z's grid."""
        rows, columns = self.latent_size
        return -(-rows // GROUP), -(-columns // GROUP)

    @property
    def section_rows(self) -> int:
        """Latent rows in every y section but the last, which may have fewer."""
        return section_rows(self.latent_size[1])

    @property
    def section_count(self) -> int:
        return -(-self.latent_size[0] // self.section_rows)

    @property
    def sections(self) -> list[Run]:
        """First and last-plus-one latent row of every y section."""
        return sections(*self.latent_size)
