"""Integer probability tables: what the entropy coder is allowed to know."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vrcodec.errors import WeightsError

PRECISION = 16
TOTAL = 1 << PRECISION
"""Every table's counts add up to this."""
MAX_SYMBOLS = 1 << 12
MAX_MAGNITUDE = (1 << 15) - 1
"""Values are 16-bit: encoders must not pass, and decoders refuse, anything larger."""


@dataclasses.dataclass(frozen=True)
class TableSet:
    """A list of frequency tables over runs of consecutive integers, each with an escape.

    Attributes:
        low: (T,) smallest regular value of every table.
        size: (T,) number of regular values.
        counts: all tables one after the other, size[t] + 1 counts each; the last is the
            escape's. A count may be 0: the coder keeps every symbol possible.
    """

    low: NDArray[np.int32]
    size: NDArray[np.int32]
    counts: NDArray[np.int32]

    def __post_init__(self) -> None:
        if self.low.ndim != 1 or self.low.shape != self.size.shape or self.counts.ndim != 1:
            raise WeightsError("probability tables: wrong shapes")
        if len(self.size) == 0 or self.size.min() < 1 or self.size.max() > MAX_SYMBOLS:
            raise WeightsError("probability tables: impossible size")
        low = self.low.astype(np.int64)
        if low.min() < -MAX_MAGNITUDE or (low + self.size - 1).max() > MAX_MAGNITUDE:
            raise WeightsError("probability tables: values exceed 16 bits")
        if len(self.counts) != int(self.starts[-1]):
            raise WeightsError("probability tables: wrong length")
        if self.counts.min() < 0:
            raise WeightsError("probability tables: negative count")
        sums = np.add.reduceat(self.counts.astype(np.int64), self.starts[:-1])
        if (sums != TOTAL).any():
            raise WeightsError(f"probability tables: counts do not add up to {TOTAL}")

    @functools.cached_property
    def starts(self) -> NDArray[np.int64]:
        """(T + 1,) where each table begins in `counts`."""
        return np.concatenate([[0], np.cumsum(self.size.astype(np.int64) + 1)])

    def __len__(self) -> int:
        return len(self.size)

    def part(self, first: int, count: int) -> TableSet:
        """Some tables one after the other, as a set of its own."""
        at, end = self.starts[first], self.starts[first + count]
        place = slice(first, first + count)
        return TableSet(self.low[place], self.size[place], self.counts[at:end])

    def table(self, number: int) -> NDArray[np.int32]:
        """Counts of one table, the escape's last."""
        return self.counts[self.starts[number] : self.starts[number + 1]]

    def bits(self, values: NDArray[np.integer[Any]], numbers: NDArray[np.integer[Any]]) -> float:
        """Ideal code length of values under their tables, escapes included."""
        return float(self.each_bits(values, numbers).sum())

    def each_bits(
        self, values: NDArray[np.integer[Any]], numbers: NDArray[np.integer[Any]]
    ) -> NDArray[np.float64]:
        """Ideal code length of every value (flat) under its table, escapes included."""
        values = values.astype(np.int64).ravel()
        numbers = numbers.ravel()
        symbol = values - self.low[numbers]
        size = self.size[numbers]
        escaped = (symbol < 0) | (symbol >= size)
        cost = -np.log2(_leaky_probabilities(self))
        at = self.starts[:-1][numbers] + np.where(escaped, size, symbol)
        bits: NDArray[np.float64] = cost[at]
        below, above = -symbol[escaped] - 1, symbol[escaped] - size[escaped]
        excess = np.where(symbol[escaped] < 0, below, above)
        bits[escaped] += 5 + np.floor(np.log2(excess + 1))
        return bits


class ByIdentity:
    """Cache key for a TableSet, which is immutable but not hashable."""

    def __init__(self, value: TableSet) -> None:
        self.value = value

    def __hash__(self) -> int:
        return id(self.value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ByIdentity) and self.value is other.value


def _leaky_probabilities(tables: TableSet) -> NDArray[np.float64]:
    """Probabilities as the coder uses them: 24 bits, none of them zero."""
    free = (1 << 24) - (tables.size + 1)
    scale = np.repeat(free, tables.size + 1)
    probabilities: NDArray[np.float64] = (tables.counts * (scale / TOTAL) + 1) / (1 << 24)
    return probabilities


def quantise(weights: NDArray[np.floating[Any]]) -> NDArray[np.int32]:
    """Non-negative weights to integer counts that add up to TOTAL (largest remainders)."""
    exact = weights / weights.sum() * TOTAL
    counts: NDArray[np.int32] = np.floor(exact).astype(np.int32)
    missing = TOTAL - int(counts.sum())
    counts[np.argsort(counts - exact, kind="stable")[:missing]] += 1
    return counts


def concatenate(low: list[int], counts: list[NDArray[np.int32]]) -> TableSet:
    """A TableSet from one smallest value and one array of counts per table."""
    return TableSet(
        np.array(low, dtype=np.int32),
        np.array([len(c) - 1 for c in counts], dtype=np.int32),
        np.concatenate(counts).astype(np.int32),
    )


def joined(*sets: TableSet) -> TableSet:
    """The tables of several sets, one after the other."""
    each = ((s.low, s.size, s.counts) for s in sets)
    return TableSet(*(np.concatenate(arrays) for arrays in zip(*each, strict=True)))
