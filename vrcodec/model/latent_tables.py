"""Which probability tables the symbols of y are coded under. No torch here.

A symbol's table is that of its scale index. Weights may have tables of their own for core channels
and for the others, and for every part of the quality dial: symbols of one scale are not distributed
alike everywhere, least of all where the dead zone is another (dead_zone.py). With a trellis a
symbol counts in even levels, or in odd ones, and both have their own tables.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vrcodec.bitstream.tables import TableSet
from vrcodec.bitstream.trellis import QUANTISERS, Part
from vrcodec.conditional.dials import ANCHORS, Conditioning
from vrcodec.errors import WeightsError
from vrcodec.model.config import SCALE_LEVELS, ModelConfig

BUCKETS = ANCHORS - 1
"""Parts of the quality dial that have tables of their own, `Conditioning.bucket(BUCKETS)`."""
KINDS = 2
"""Of channels: core, and the others."""
PER_QUANTISER = KINDS * SCALE_LEVELS
"""Tables of a part of the dial, for each of a trellis' quantisers or for the only one."""


@dataclasses.dataclass(frozen=True)
class LatentTables:
    """The tables of y in a weights file.

    Attributes:
        tables: one for every scale index; or by bucket, kind of channel and scale index. If there
            may be a trellis, those and then by bucket, quantiser, kind of channel and scale index
            the tables for where there is one.
        config: the model's.

    Raises:
        WeightsError: there are as many of them as is neither.
    """

    tables: TableSet
    config: ModelConfig

    def __post_init__(self) -> None:
        possible = {BUCKETS * PER_QUANTISER * (1 + QUANTISERS)}
        if not self.config.trellis:
            possible = {SCALE_LEVELS, BUCKETS * PER_QUANTISER}
        if len(self.tables) not in possible:
            raise WeightsError("wrong number of probability tables")

    @property
    def common(self) -> bool:
        """Whether the scale index alone says which table it is."""
        return len(self.tables) == SCALE_LEVELS

    def bucket(self, conditioning: Conditioning) -> int:
        """In which part of the quality dial a conditioning lies, if that matters.

        Where there is a trellis, it is one of `BUCKETS` others.
        """
        if self.common:
            return 0
        chained = self.config.trellis_at(conditioning) is not None
        return conditioning.bucket(BUCKETS) + BUCKETS * chained

    def of(self, bucket: int) -> TableSet:
        """The tables of a part of the dial, which `numbers` counts; always the same object."""
        if self.common:
            return self.tables
        if bucket not in self._parts:
            first, count = bucket * PER_QUANTISER, PER_QUANTISER
            if bucket >= BUCKETS:
                count = QUANTISERS * PER_QUANTISER
                first = BUCKETS * PER_QUANTISER + (bucket - BUCKETS) * count
            self._parts.setdefault(bucket, self.tables.part(first, count))
        return self._parts[bucket]

    def at(self, conditioning: Conditioning) -> TableSet:
        """The tables at a conditioning."""
        return self.of(self.bucket(conditioning))

    def numbers(self, indexes: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Which of the tables at a conditioning each symbol has, of scale indexes (768, h, w).

        Of symbols under the odd quantiser it is `PER_QUANTISER` further on.
        """
        if self.common:
            return indexes
        numbers = indexes.copy()
        numbers[self.config.core :] += SCALE_LEVELS
        return numbers

    def symbols(
        self,
        levels: NDArray[np.integer[Any]],
        indexes: NDArray[np.uint8],
        conditioning: Conditioning,
        part: Part,
    ) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
        """What levels of a part (768, rows, columns) are coded as, and the tables of that."""
        symbols, numbers = levels.astype(np.int32), self.numbers(indexes)
        trellis = self.config.trellis_at(conditioning)
        if trellis is None:
            return symbols, numbers
        chains = trellis.chains(indexes, part)
        chained, odd = chains.symbols(symbols.ravel())
        symbols >>= 1
        symbols.ravel()[chains.order] = chained
        quantisers = np.zeros_like(numbers)
        quantisers.ravel()[chains.order] = PER_QUANTISER * odd
        return symbols, numbers + quantisers

    @functools.cached_property
    def _parts(self) -> dict[int, TableSet]:
        return {}
