"""Trellis-coded quantisation: which levels a symbol may stand for follows from those before it.

Two quantisers share a lattice of levels, integers in units of a fine step: one of all even levels,
and one of the odd levels and zero. A chain of symbols walks through a machine of 128 states; the
state names the quantiser, and whether the symbol was even or odd the next state. So levels are as
far apart as a coarse step allows, and packed in many dimensions more densely than in one: an
encoder that looks for the best way through the trellis (model/trellis_search.py) errs less at the
same rate. From Marcellin and Fischer, "Trellis coded quantization of memoryless and Gauss-Markov
sources" (1990), with the quantisers of VVC (Schwarz et al., "Hybrid video coding with trellis-coded
quantization", DCC 2019) and a code of Ungerboeck ("Channel coding with multilevel/phase signals",
1982, table I). Only encoders feel the number of states.

Here is what encoder and decoder must agree on (docs/bitstream.md): the machine, which symbols are
in chains, and in which order those stand in a section. No torch here.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vrcodec.bitstream.grid import Run, cut, sections

STATES = 128
CODE = 0o235, 0o126
"""Ungerboeck's parity check coefficients of 128 states, for the quantiser and for the symbol."""


def _next_states() -> NDArray[np.uint8]:
    state, odd = np.arange(STATES)[:, None], np.arange(2)
    quantiser, symbol = (coefficients >> 1 for coefficients in CODE)
    return ((state >> 1) ^ (state & 1) * quantiser ^ odd * symbol).astype(np.uint8)


NEXT = _next_states()
"""(STATES, 2): the state after an even and after an odd symbol. Odd states have the odd
quantiser."""
QUANTISERS = 2
CHAIN = 256
"""Symbols in a chain at most."""
LANES = 8
"""Chains that symbols are dealt out to at least."""
CELL = 96
"""Latent positions along the side of a cell at most: no chain leaves its own."""
ORDER = ((0, 2), (3, 1))
"""Context pass of core channel 0 by even and odd row and column; other channels follow in turn."""

Cell = tuple[slice, slice]
"""Rows and columns of latent positions."""


def level_of(symbols: NDArray[np.int32], odd: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Levels that symbols stand for, under the even (0) or odd (1) quantiser."""
    levels: NDArray[np.int32] = 2 * symbols - odd * np.sign(symbols)
    return levels


def symbol_of(levels: NDArray[np.int32], odd: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Inverse of `level_of`; a level that the quantiser does not have becomes another's symbol."""
    symbols: NDArray[np.int32] = (levels + odd * np.sign(levels)) // 2
    return symbols


@dataclasses.dataclass(frozen=True)
class Chains:
    """Symbols of an array in chains, as they are coded: the first of every chain, the second, ...

    Attributes:
        order: (n,) places in the flat array.
        lane: (n,) the chain of each of them.
        ends: (steps,) where in these the first symbols of chains end, the second ones, ...
        count: of chains.
    """

    order: NDArray[np.int32]
    lane: NDArray[np.int32]
    ends: NDArray[np.int64]
    count: int

    @classmethod
    def of(cls, groups: Sequence[NDArray[np.int32]]) -> Chains:
        """Every group's places dealt out to its own chains, CHAIN to each or, of few, fewer."""
        steps, lanes, count = [], [], 0
        for group in groups:
            width = max(LANES, -(-len(group) // CHAIN))
            step, lane = np.divmod(np.arange(len(group), dtype=np.int32), np.int32(width))
            steps.append(step.astype(np.uint16))
            lanes.append(lane + np.int32(count))
            count += width
        if not steps:
            nothing = np.zeros(0, dtype=np.int32)
            return cls(nothing, nothing, np.zeros(0, dtype=np.int64), 0)
        step = np.concatenate(steps)
        by_step = np.argsort(step, kind="stable")
        ends = np.cumsum(np.bincount(step)) if len(step) else np.zeros(0, dtype=np.int64)
        return cls(np.concatenate(groups)[by_step], np.concatenate(lanes)[by_step], ends, count)

    def symbols(
        self, levels: NDArray[np.integer[Any]]
    ) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
        """Symbols of levels (flat) in the order of `order`, and which have the odd quantiser."""
        ordered = levels[self.order].astype(np.int32)
        symbols, odd = np.empty_like(ordered), np.empty(len(ordered), dtype=np.uint8)
        state = np.zeros(self.count, dtype=np.uint8)
        for step in self.steps():
            lane = self.lane[step]
            here = state[lane]
            odd[step] = here & 1
            symbols[step] = symbol_of(ordered[step], odd[step])
            state[lane] = NEXT[here, symbols[step] & 1]
        return symbols, odd

    def blocks(self, lanes: int) -> Iterator[Chains]:
        """So many of the chains at a time."""
        if self.count <= lanes:
            yield self
            return
        step = np.repeat(np.arange(len(self.ends)), np.diff(self.ends, prepend=0))
        for first in range(0, self.count, lanes):
            inside = (self.lane >= first) & (self.lane < first + lanes)
            ends = np.cumsum(np.bincount(step[inside]))
            count = min(lanes, self.count - first)
            yield Chains(self.order[inside], self.lane[inside] - np.int32(first), ends, count)

    def steps(self) -> Iterator[slice]:
        """Where in `order` and `lane` the symbols of every step are."""
        start = 0
        for end in self.ends.tolist():
            yield slice(start, end)
            start = end


@dataclasses.dataclass(frozen=True)
class Part:
    """Some rows of a picture's latent grid, and the cells in them.

    Attributes:
        top: the first of the rows.
        cells: that have chains of their own; their rows are counted from `top` on.
    """

    top: int
    cells: tuple[Cell, ...]

    @classmethod
    def of(cls, rows: int, columns: int, top: int, bottom: int) -> Part:
        """A section: rows `top` to `bottom` of a grid of so many rows and columns."""
        down, across = cut(rows, columns, CELL)
        return cls(
            top,
            tuple(
                (slice(max(a, top) - top, min(b, bottom) - top), slice(*run))
                for a, b in down
                if a < bottom and b > top
                for run in across
            ),
        )

    @classmethod
    def everywhere(cls, rows: int, columns: int) -> Part:
        """All of these as one cell."""
        return cls(0, ((slice(0, rows), slice(0, columns)),))

    @classmethod
    def whole(cls, rows: int, columns: int) -> Part:
        """All sections of a grid."""
        parts = [cls.of(rows, columns, *run) for run in sections(rows, columns)]
        shifted = [
            (slice(down.start + part.top, down.stop + part.top), across)
            for part in parts
            for down, across in part.cells
        ]
        return cls(0, tuple(shifted))

    @classmethod
    def of_cell(cls, rows: Run, columns: Run, height: int, origin: tuple[int, int]) -> Part:
        """One cell in a window of a picture, as sections cut it.

        Args:
            rows, columns: of the cell, in the picture.
            height: rows of a section.
            origin: row and column of the picture where the window begins, both even.
        """
        top, left = origin
        (start, stop), across = rows, slice(columns[0] - left, columns[1] - left)
        cuts = [start, *range((start // height + 1) * height, stop, height), stop]
        return cls(0, tuple((slice(a - top, b - top), across) for a, b in pairwise(cuts)))


@dataclasses.dataclass(frozen=True)
class Trellis:
    """Where chains are in a model's symbols.

    Attributes:
        level: the lowest scale index of symbols in chains; others are even levels.
        core: channels that are coded in `passes`; the others follow in one more.
        passes: context passes over the core channels.
        step: distance of levels, in quantisation steps.
    """

    level: int
    core: int
    passes: int
    step: float = 1.0

    def chains(self, indexes: NDArray[np.uint8], part: Part) -> Chains:
        """All chains of a part, of scale indexes (768, rows, columns)."""
        return Chains.of(list(self.groups(indexes, part, range(self.passes + 1))))

    def groups(
        self, indexes: NDArray[np.uint8], part: Part, passes: Sequence[int]
    ) -> Iterator[NDArray[np.int32]]:
        """Places of symbols whose chains belong together, by cell and pass, in their order there.

        Args:
            indexes: scale indexes (768, rows, columns) of a part.
            passes: some of them; `self.passes` is that of the other channels.
        """
        channels, rows, columns = indexes.shape
        pass_of = pattern(self.core, self.passes, rows, columns, part.top % 2)
        for down, across in part.cells:
            for number in passes:
                first, last = (self.core, channels) if number == self.passes else (0, self.core)
                here = indexes[first:last, down, across]
                chained = here >= self.level
                if number < self.passes:
                    chained &= pass_of[:, down, across] == number
                found = np.unravel_index(np.flatnonzero(chained), here.shape)
                channel, row, column = (axis.astype(np.int32) for axis in found)
                places = (channel + np.int32(first)) * np.int32(rows) + (row + np.int32(down.start))
                places = places * np.int32(columns) + (column + np.int32(across.start))
                yield places[np.argsort(here[chained], kind="stable")]


@functools.lru_cache(16)
def pattern(core: int, passes: int, rows: int, columns: int, odd: int = 0) -> NDArray[np.uint8]:
    """The context pass of every core channel at every position, (core, rows, columns).

    Args:
        odd: 1 if the first row is an odd one of the picture.
    """
    of_channel = (np.array(ORDER) + np.arange(core)[:, None, None]) % passes
    tiled = np.tile(of_channel.astype(np.uint8), (1, rows // 2 + 1, columns // 2 + 1))
    return tiled[:, odd : odd + rows, :columns]
