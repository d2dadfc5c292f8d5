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
        return max(1, SECTION_POSITIONS // self.latent_size[1])

    @property
    def section_count(self) -> int:
        return -(-self.latent_size[0] // self.section_rows)

    @property
    def sections(self) -> list[tuple[int, int]]:
        """First and last-plus-one latent row of every y section."""
        rows, height = self.latent_size[0], self.section_rows
        return [(top, min(top + height, rows)) for top in range(0, rows, height)]
