"""Which probability tables the symbols of y are coded under. No torch here.

A symbol's table is that of its scale index. Weights may have tables of their own for core channels
and for the others, and for every part of the quality dial: symbols of one scale are not distributed
alike everywhere, least of all where the dead zone is another (dead_zone.py).
"""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
from numpy.typing import NDArray

from vrcodec.bitstream.tables import TableSet
from vrcodec.conditional.dials import ANCHORS, Conditioning
from vrcodec.errors import WeightsError
from vrcodec.model.config import SCALE_LEVELS

BUCKETS = ANCHORS - 1
"""Parts of the quality dial that have tables of their own, `Conditioning.bucket(BUCKETS)`."""
KINDS = 2
"""Of channels: core, and the others."""


@dataclasses.dataclass(frozen=True)
class LatentTables:
    """The tables of y in a weights file.

    Attributes:
        tables: one for every scale index; or by bucket, kind of channel and scale index.
        core: how many channels are core.

    Raises:
        WeightsError: there are as many of them as is neither.
    """

    tables: TableSet
    core: int

    def __post_init__(self) -> None:
        if len(self.tables) not in (SCALE_LEVELS, BUCKETS * KINDS * SCALE_LEVELS):
            raise WeightsError("wrong number of probability tables")

    @property
    def common(self) -> bool:
        """Whether the scale index alone says which table it is."""
        return len(self.tables) == SCALE_LEVELS

    def bucket(self, conditioning: Conditioning) -> int:
        """In which part of the quality dial a conditioning lies, if that matters."""
        return 0 if self.common else conditioning.bucket(BUCKETS)

    def of(self, bucket: int) -> TableSet:
        """The tables of a part of the dial, which `numbers` counts; always the same object."""
        if self.common:
            return self.tables
        count = KINDS * SCALE_LEVELS
        if bucket not in self._parts:
            self._parts.setdefault(bucket, self.tables.part(bucket * count, count))
        return self._parts[bucket]

    def at(self, conditioning: Conditioning) -> TableSet:
        """The tables at a conditioning."""
        return self.of(self.bucket(conditioning))

    def numbers(self, indexes: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Which of the tables at a conditioning each symbol has, of scale indexes (768, h, w)."""
        if self.common:
            return indexes
        numbers = indexes.copy()
        numbers[self.core :] += SCALE_LEVELS
        return numbers

    @functools.cached_property
    def _parts(self) -> dict[int, TableSet]:
        return {}
