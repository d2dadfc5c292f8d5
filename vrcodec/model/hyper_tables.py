"""Which probability tables the symbols of z are coded under. No torch here.

A symbol's table is that of its channel, at the place on the dials that is nearest among some: what
z has to say changes along them, fastest at low rates, where it is a sixth of a file.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vrcodec.bitstream.tables import TableSet
from vrcodec.conditional.dials import ONE, Conditioning
from vrcodec.errors import WeightsError
from vrcodec.model.config import ModelConfig
from vrcodec.model.latent_tables import BUCKETS

INTERVALS = (32, 4)
"""Between places on the first and on the second dial that have tables of their own."""


def places_of(config: ModelConfig) -> tuple[int, ...]:
    """How many places there are on the dials of a model, which may have one only."""
    return tuple(count + 1 for count in INTERVALS[: config.coefficients])


@dataclasses.dataclass(frozen=True)
class HyperTables:
    """The tables of z in a weights file.

    Attributes:
        tables: by place on the first dial, place on the second if there is one, and channel; of
            earlier weights by eighth of the first dial and channel.
        config: the model's.

    Raises:
        WeightsError: there are as many of them as is neither.
    """

    tables: TableSet
    config: ModelConfig

    def __post_init__(self) -> None:
        places = len(self.tables) / self.config.hyper
        if places not in (BUCKETS, math.prod(places_of(self.config))):
            raise WeightsError("wrong number of probability tables")

    def numbers(self, size: tuple[int, int], at: Conditioning) -> NDArray[np.int64]:
        """The table of every symbol of z (hyper, rows, columns), flat."""
        channels = self.config.hyper
        if len(self.tables) == BUCKETS * channels:
            place = at.bucket(BUCKETS)
        else:
            place = 0
            for value, count in zip(at.values, INTERVALS, strict=False):
                place = place * (count + 1) + (2 * value * count + ONE) // (2 * ONE)
        return np.repeat(place * channels + np.arange(channels), size[0] * size[1])

    def bits(self, z: NDArray[np.integer[Any]], at: Conditioning) -> NDArray[np.float64]:
        """Ideal code length of every symbol of z (hyper, rows, columns), of that shape."""
        rows, columns = z.shape[1:]
        return self.tables.each_bits(z, self.numbers((rows, columns), at)).reshape(z.shape)
