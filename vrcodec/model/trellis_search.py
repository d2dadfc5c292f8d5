"""The encoder of trellis-coded quantisation: which levels symbols get. No torch here.

Of all ways through a chain's states that one is taken which costs least in

    worth x squared error + strength x bits

with bits from the coder's own tables (Viterbi's algorithm). `worth` is what a squared error of a
level is worth in bits were the synthesis transform its DCT alone, and `strength` how much of the
bits counts. Symbols outside of chains are drawn towards zero as in dead_zone.py, on the coarser
lattice of even levels.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vrcodec.bitstream.grid import LATENT_CHANNELS
from vrcodec.bitstream.tables import ByIdentity, TableSet
from vrcodec.bitstream.trellis import NEXT, STATES, Chains, Part, Trellis
from vrcodec.conditional.dials import Conditioning
from vrcodec.conditional.folding import FoldedCondition
from vrcodec.errors import ArgumentError
from vrcodec.model.config import (
    LOG_SCALE_STEP,
    SCALE_LEVELS,
    SCALE_MAX,
    SCALE_MIN,
    ModelConfig,
)
from vrcodec.model.constants import MAX_SYMBOL
from vrcodec.model.dead_zone import BITS_BY_DEVIATION, DEAD_ZONE_LIMIT
from vrcodec.model.latent_tables import PER_QUANTISER, LatentTables
from vrcodec.model.linear_basis import PIXEL_GAIN, is_colour

MAX_LEVEL = MAX_SYMBOL - 8
"""Of what is to be rounded: levels beside it still are 16-bit."""
REACH = 255
"""Symbols beyond cost what this one does."""
CLASSES = ((0, 0), (0, 1), (1, 0), (1, 1))
"""Of levels: odd quantiser or not, odd symbol or not."""
FIRST = (0, 2, 3, 1)
"""A level of each class, of which the others are multiples of 4 away, on one side of zero."""
LUMA_STRENGTH, STRENGTH = 0.6, 1.4
"""How much of the bits counts: of the core channels of luma, where the networks add most to what
the DCT makes of an error, and of all others. Found by trying, with a synthesis transform that has
learned from such latents (`training/synthesis.py`); one that has not would want half as much."""
IMPOSSIBLE = np.float32(1e9)
MAX_WORTH = 1e15
"""Absurd weights might ask for more, and costs would not be finite."""
AT_ONCE = 512
"""Chains whose ways are looked for at a time: 30 MB."""


def _predecessors() -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """For every state the two it can be reached from, and the classes of symbols on the way."""
    symbols, states = np.indices((2, STATES)).reshape(2, -1)
    ways = np.argsort(NEXT.T.ravel(), kind="stable").reshape(STATES, 2).T
    return states[ways], (2 * (states & 1) + symbols)[ways]


BEFORE, BY = _predecessors()
"""(2, states): predecessors of every state, and classes on the way from them: by an even symbol and
by an odd one, from even states to the first half and from odd ones to the second."""
HALVES = slice(STATES // 2), slice(STATES // 2, None)


@dataclasses.dataclass(frozen=True)
class Prices:
    """What an encoder weighs at a conditioning.

    Attributes:
        bits: (tables, REACH + 1) of every magnitude of a symbol.
        worth: (768,) bits that a squared error of one level is worth.
        strength: (768,) how much of the bits counts.
        zone: (768,) by how much symbols that are not in chains are drawn towards zero, were their
            deviation one quantisation step.
    """

    bits: NDArray[np.float32]
    worth: NDArray[np.float32]
    strength: NDArray[np.float32]
    zone: NDArray[np.float32]

    @classmethod
    def at(
        cls,
        conditioning: Conditioning,
        tables: LatentTables,
        config: ModelConfig,
        step: NDArray[np.floating[Any]],
        deviation: NDArray[np.floating[Any]],
    ) -> Prices:
        """Args: step: quantisation steps (768,) in deviations; deviation: of coefficients."""
        (quality, *_) = config.dials
        lam = quality.coefficient(conditioning.quality)
        level_step = config.level_step_at(conditioning)
        size = (255 / PIXEL_GAIN) * level_step * step.ravel() * deviation.ravel()
        worth = (lam / 3) * np.asarray(size, dtype=np.float64) ** 2
        luma = (np.arange(LATENT_CHANNELS) < config.core) & ~is_colour()
        strength = np.where(luma, LUMA_STRENGTH, STRENGTH)
        return cls.of_worth(_bits(tables.at(conditioning)), worth, strength, level_step)

    @classmethod
    def of_worth(
        cls, bits: NDArray[np.float32], worth: NDArray[Any], strength: Any, level_step: float
    ) -> Prices:
        """Of (768,) bits that a squared error of one level is worth."""
        strength = np.broadcast_to(np.asarray(strength, dtype=np.float32), worth.shape)
        worth = np.clip(np.asarray(worth, dtype=np.float64), 1 / MAX_WORTH, MAX_WORTH)
        # Even levels are two apart: an error of one symbol is worth four times as much.
        zone = strength * BITS_BY_DEVIATION / (2 * 4 * worth) * (2 * level_step)
        # Beyond that every symbol is at the limit: the largest deviation is SCALE_MAX.
        zone = np.minimum(zone, DEAD_ZONE_LIMIT * SCALE_MAX)
        return cls(bits, worth.astype(np.float32), strength, zone.astype(np.float32))

    def plainly(self) -> Prices:
        """Where only errors count."""
        nothing = np.zeros_like(self.strength)
        return dataclasses.replace(self, strength=nothing, zone=nothing)


@functools.lru_cache(16)
def _bits_of(tables: ByIdentity) -> NDArray[np.float32]:
    values = np.tile(np.arange(REACH + 1), len(tables.value))
    numbers = np.repeat(np.arange(len(tables.value)), REACH + 1)
    return tables.value.each_bits(values, numbers).astype(np.float32).reshape(-1, REACH + 1)


def _bits(tables: TableSet) -> NDArray[np.float32]:
    return _bits_of(ByIdentity(tables))


@dataclasses.dataclass(frozen=True)
class TrellisSearch:
    """Levels of the symbols of pictures, pass by pass, as `CompressionModel.passes` asks.

    Attributes:
        trellis: where chains are.
        prices: what is weighed.
        indexes: scale indexes (B, 768, rows, columns), from an even row and column on.
        part: the cells that have chains; symbols elsewhere are even levels.
        kept: bool (768,), channels that may be anything but zero.
    """

    trellis: Trellis
    prices: Prices
    indexes: NDArray[np.uint8]
    part: Part
    kept: NDArray[np.bool_]

    def levels(
        self, number: int, exact: NDArray[np.float32], prices: Prices | None = None
    ) -> NDArray[np.float32]:
        """Whole levels of a pass, (B, channels of the pass, rows, columns).

        Args:
            number: of the pass; symbols of other passes come out as if they had no chains.
            exact: what is to be rounded, in levels.
            prices: other ones than usually.
        """
        core, prices = self.trellis.core, prices or self.prices
        exact = np.ascontiguousarray(exact)  # as are levels then, which are written through a view
        channels = slice(core) if number < self.trellis.passes else slice(core, None)
        levels = self._halves(exact, channels, prices)
        levels *= 2
        for picture, indexes in enumerate(self.indexes):
            groups = list(self.trellis.groups(indexes, self.part, [number]))
            first = (channels.start or 0) * indexes[0].size
            for chains in Chains.of(groups).blocks(AT_ONCE):
                at = chains.order - first
                kind = indexes.ravel()[chains.order]
                channel = chains.order // indexes[0].size
                costs, ways = candidates(
                    exact[picture].ravel()[at],
                    kind + SCALE_LEVELS * (channel >= core),
                    prices.worth[channel],
                    prices.strength[channel],
                    prices.bits,
                )
                costs[1::2, ~self.kept[channel]] = IMPOSSIBLE  # zero is an even symbol
                best = best_classes(costs, chains)
                levels[picture].reshape(-1)[at] = np.take_along_axis(ways, best[None], 0)[0]
        levels *= self.kept[channels, None, None]
        return levels

    def _halves(
        self, exact: NDArray[np.float32], channels: slice, prices: Prices
    ) -> NDArray[np.float32]:
        """Symbols that are not in chains: drawn towards zero as in dead_zone.py, and rounded."""
        halves = _limited(exact) / 2
        if prices.zone.any():
            zone = self._zone(prices)[:, channels]
            halves -= np.clip(halves, -zone, zone)
        return np.round(halves, out=halves)

    def _zone(self, prices: Prices) -> NDArray[np.float32]:
        if self._zones.get("of") is not prices:
            zone = prices.zone[:, None, None] * _inverse_deviations()[self.indexes]
            self._zones.update(of=prices, zone=np.minimum(zone, DEAD_ZONE_LIMIT, out=zone))
        zone = self._zones["zone"]
        return zone

    @functools.cached_property
    def _zones(self) -> dict[str, Any]:
        return {}


class Searches:
    """Makes the searches of a model.

    Args:
        tables: those of the symbols.
        config: of a model with a trellis.
        tensors: float parameters, as `shapes.checked` gives them.
    """

    def __init__(
        self, tables: LatentTables, config: ModelConfig, tensors: Mapping[str, NDArray[Any]]
    ) -> None:
        self._tables, self._config, self._tensors = tables, config, tensors
        self._prices = functools.lru_cache(8)(self._new_prices)

    def at(
        self,
        conditioning: Conditioning,
        indexes: NDArray[np.uint8],
        part: Part | None = None,
        grey: bool = False,
        nearest: bool = False,
    ) -> TrellisSearch:
        """A search at a conditioning.

        Args:
            indexes: scale indexes (B, 768, rows, columns), from an even row and column on.
            part: the cells that have chains; by default all is one.
            grey: nothing but zero for colour.
            nearest: look for the least error, whatever it costs.

        Raises:
            ArgumentError: the model has no trellis there.
        """
        trellis = self._config.trellis_at(conditioning)
        if trellis is None:
            raise ArgumentError("there is no trellis here")
        prices = self._prices(conditioning)
        return TrellisSearch(
            trellis,
            prices.plainly() if nearest else prices,
            indexes,
            part or Part.everywhere(*indexes.shape[2:]),
            ~is_colour() if grey else np.ones(LATENT_CHANNELS, dtype=bool),
        )

    def prices_of(self, conditioning: Conditioning, worth: NDArray[np.float32]) -> Prices:
        """Where bits count in full, and a squared error of a step (768,) is worth so many."""
        size = self._config.level_step_at(conditioning)
        return Prices.of_worth(_bits(self._tables.at(conditioning)), worth * size**2, 1, size)

    def _new_prices(self, conditioning: Conditioning) -> Prices:
        step = FoldedCondition.of(conditioning, self._tensors).step
        deviation = self._tensors["basis.deviation16"]
        return Prices.at(conditioning, self._tables, self._config, step, deviation)


def candidates(
    exact: NDArray[np.float32],
    numbers: NDArray[np.integer[Any]],
    worth: NDArray[np.float32],
    strength: NDArray[np.float32],
    bits: NDArray[np.float32],
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """What a symbol of every class costs at least, and the levels that do, (4, n) each.

    Args:
        exact: (n,) in levels.
        numbers: of their tables under the even quantiser.
        worth, strength, bits: see `Prices`.
    """
    exact = _limited(exact)
    magnitude, sign = np.abs(exact), np.copysign(np.float32(1), exact)
    costs = np.empty((len(CLASSES), len(exact)), dtype=np.float32)
    ways = np.empty_like(costs)
    for kind, (odd, parity) in enumerate(CLASSES):
        first = np.float32(FIRST[kind])
        low = first + 4 * np.floor((magnitude - first) / 4)
        high = low + 4
        if odd:  # beyond zero levels of the odd quantiser are those of the other class
            low = np.maximum(low, parity)
        rows = (numbers + PER_QUANTISER * odd) * np.int64(REACH + 1)
        either = []
        for level in (low, high):
            symbol = (np.abs(level).astype(np.int64) + odd) >> 1
            price = bits.ravel()[rows + np.minimum(symbol, REACH)]
            either.append(worth * (magnitude - level) ** 2 + strength * price)
        better = either[1] < either[0]
        costs[kind] = np.where(better, either[1], either[0])
        ways[kind] = sign * np.where(better, high, low)
    return costs, ways


def best_classes(costs: NDArray[np.float32], chains: Chains) -> NDArray[np.int64]:
    """The classes of symbols on the cheapest way of every chain, (n,), in the chains' order.

    Args:
        costs: (4, n) of a symbol of every class.
    """
    costs = np.fmin(costs, IMPOSSIBLE)  # or else no way might be better than an impossible one
    total = np.full((STATES, chains.count), np.inf, dtype=np.float32)
    total[0] = 0
    second: list[NDArray[np.bool_]] = []
    spans = list(chains.steps())
    for step in spans:
        width = step.stop - step.start
        lane = chains.lane[step]
        here, at = total[:, lane] if width < chains.count else total, costs[:, step]
        one, other = (here.take(before, axis=0) for before in BEFORE)
        for odd, half in enumerate(HALVES):
            one[half] += at[2 * odd]
            other[half] += at[2 * odd + 1]
        second.append(other < one)
        least = np.minimum(one, other, out=one)
        if width < chains.count:
            total[:, lane] = least
        else:
            total = least
    state = np.argmin(total, axis=0)
    best = np.empty(costs.shape[1], dtype=np.int64)
    for step, way in zip(reversed(spans), reversed(second), strict=True):
        lane = chains.lane[step]
        here = state[lane]
        which = way[here, np.arange(len(lane))].astype(np.int64)
        best[step] = BY[which, here]
        state[lane] = BEFORE[which, here]
    return best


def _limited(exact: NDArray[np.float32]) -> NDArray[np.float32]:
    limited = np.clip(exact, -MAX_LEVEL, MAX_LEVEL)
    return limited if np.isfinite(limited.sum()) else np.nan_to_num(limited)


@functools.cache
def _inverse_deviations() -> NDArray[np.float32]:
    """Of symbols of every scale index, in quantisation steps."""
    deviation = SCALE_MIN * np.exp(LOG_SCALE_STEP * np.arange(SCALE_LEVELS))
    return (1 / deviation).astype(np.float32)
