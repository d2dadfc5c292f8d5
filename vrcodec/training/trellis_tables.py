"""Probability tables of symbols in a trellis, counted as the codec itself would code.

Which levels an encoder chooses depends on what they cost, so tables and choices are found in turns:
at first under tables of logistic densities, then under those counted before, on more and more
pictures.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from vrcodec.bitstream.tables import TableSet, concatenate, joined, quantise
from vrcodec.bitstream.trellis import QUANTISERS, Part
from vrcodec.conditional.dials import ONE, Conditioning, Dials
from vrcodec.model.config import LOG_SCALE_STEP, SCALE_LEVELS, SCALE_MIN, ModelConfig
from vrcodec.model.fixed_point import FixedPointScalePath
from vrcodec.model.latent_tables import BUCKETS, KINDS, PER_QUANTISER, LatentTables
from vrcodec.model.network import CompressionModel
from vrcodec.model.trellis_search import Searches, TrellisSearch
from vrcodec.training.data import CropSampler

ROUNDS = (8, 4, 1)
"""In each round so many times fewer pictures than asked for."""
PRIOR_COUNT = 100.0
"""Weight of what is expected of a table, in observed symbols."""
REACH = 5.0
"""Half-width of a table, in standard deviations."""
GOLDEN = (math.sqrt(5) - 1) / 2


def places(
    dials: Dials, count: int, quality: float | None = None, reach: float = 1.0
) -> Iterator[Conditioning]:
    """Conditionings evenly over the first dial, and over the others like Kronecker's sequence.

    Args:
        quality: of a model that knows one alone.
        reach: the highest position of the second dial.
    """
    for i in range(count):
        positions = [(i + 0.5) * GOLDEN**k % 1 for k in range(len(dials))]
        positions[1:2] = [reach * position for position in positions[1:2]]
        positions[0] = (i + 0.5) / count if quality is None else quality
        yield dials.conditioning(dict(zip(dials.names, positions, strict=True)))


class TrellisEncoder:
    """A model with a trellis as far as the entropy coder.

    Args:
        network: in evaluation mode, on the CPU.
        fixed: its scale path.
        tables: of y, by which it decides.
    """

    def __init__(
        self, network: CompressionModel, fixed: FixedPointScalePath, tables: LatentTables
    ) -> None:
        self.network, self.fixed, self.tables = network, fixed, tables
        tensors = {name: value.numpy() for name, value in network.state_dict().items()}
        self._searches = Searches(tables, network.config, tensors)

    def quantise(
        self, x: Tensor, at: Conditioning
    ) -> tuple[Tensor, Tensor, NDArray[np.int32], NDArray[np.uint8]]:
        """z and levels of a picture (1, 3, H, W), its symbols and the numbers of their tables."""
        indexes: list[NDArray[np.uint8]] = []

        def searching(z: Tensor, seen: tuple[slice, slice]) -> TrellisSearch:
            indexes.append(self.fixed.indexes(z[0], at)[:, seen[0], seen[1]].numpy())
            return self._searches.at(at, indexes[0][None])

        z, levels = self.network.quantise(x, self.network.condition(at), searching)
        part = Part.everywhere(*levels.shape[2:])
        return z, levels, *self.tables.symbols(levels[0].numpy(), indexes[0], at, part)


def with_trellis(
    plain: TableSet,
    network: CompressionModel,
    fixed: FixedPointScalePath,
    sampler: CropSampler,
    pictures: int,
    size: int,
    quality: float | None = None,
) -> TableSet:
    """Tables of y for a model with a trellis; see `LatentTables`.

    Args:
        plain: those for where there is none, by bucket, kind of channel and scale index.
        network: in evaluation mode, on the CPU.
        fixed: its scale path.
        pictures: crops of size x size in the last round.
        quality: of a model that knows one alone.
    """
    config = network.config
    expected = [_expected(config, *at) for at in np.ndindex(QUANTISERS, SCALE_LEVELS)]
    nothing = [np.zeros((BUCKETS * KINDS, 2 * limit + 2)) for limit, _ in expected]
    tables = joined(plain, _tables(nothing, expected))
    for fewer in ROUNDS:
        encoder = TrellisEncoder(network, fixed, LatentTables(tables, config))
        counts = [np.zeros_like(each) for each in nothing]
        reach = config.trellis_reach / ONE
        for at in places(config.dials, max(1, pictures // fewer), quality, reach):
            _, _, symbols, numbers = encoder.quantise(sampler.batch(1, size).cpu(), at)
            _count(symbols, numbers, at.bucket(BUCKETS), counts)
        tables = joined(plain, _tables(counts, expected))
    return tables


def _count(
    symbols: NDArray[np.int32],
    numbers: NDArray[np.uint8],
    bucket: int,
    counts: list[NDArray[np.float64]],
) -> None:
    """Add a crop's symbols to the counts, [quantiser and scale index][bucket and kind, value]."""
    order = np.argsort(numbers, axis=None, kind="stable")
    ends = np.cumsum(np.bincount(numbers.ravel(), minlength=QUANTISERS * PER_QUANTISER))
    for number, values in enumerate(np.split(symbols.ravel()[order], ends[:-1])):
        odd, kind, level = np.unravel_index(number, (QUANTISERS, KINDS, SCALE_LEVELS))
        here = counts[int(odd) * SCALE_LEVELS + int(level)]
        escape = here.shape[1] - 1
        columns = values + (escape - 1) // 2
        columns[(columns < 0) | (columns >= escape)] = escape
        here[bucket * KINDS + int(kind)] += np.bincount(columns, minlength=escape + 1)


def _tables(
    counts: list[NDArray[np.float64]], expected: list[tuple[int, NDArray[np.float64]]]
) -> TableSet:
    """Counts in a bucket; where they are few, those of all; and where those are, a logistic."""
    low, tables = [], []
    for bucket, number in np.ndindex(BUCKETS, QUANTISERS * PER_QUANTISER):
        odd, kind, level = np.unravel_index(number, (QUANTISERS, KINDS, SCALE_LEVELS))
        at_level = int(odd) * SCALE_LEVELS + int(level)
        limit, prior = expected[at_level]
        by_bucket = counts[at_level].reshape(BUCKETS, KINDS, -1)[:, kind]
        everywhere = _symmetric(by_bucket.sum(axis=0)) + PRIOR_COUNT * prior
        here = _symmetric(by_bucket[bucket]) + PRIOR_COUNT * everywhere / everywhere.sum()
        low.append(-limit)
        tables.append(quantise(here))
    return concatenate(low, tables)


def _symmetric(counts: NDArray[Any]) -> NDArray[np.float64]:
    regular = counts[:-1]
    return np.append((regular + regular[::-1]) / 2, counts[-1])


def _expected(config: ModelConfig, odd: int, level: int) -> tuple[int, NDArray[np.float64]]:
    """How far a table reaches, and its probabilities were symbols the nearest of a logistic."""
    sigma = SCALE_MIN * math.exp(LOG_SCALE_STEP * level) / config.trellis_step
    limit = 2 + math.ceil(REACH * sigma / 2)
    symbols = np.arange(limit + 2)
    levels = 2 * symbols - odd * np.sign(symbols)
    edges = (levels[:-1] + levels[1:]) / 2
    tail = 1 / (1 + np.exp(np.minimum(edges * math.pi / (math.sqrt(3) * sigma), 700)))
    positive = tail[:-1] - tail[1:]
    inside = np.concatenate([positive[::-1], [1 - 2 * tail[0]], positive])
    return limit, np.append(inside, 2 * tail[-1])
