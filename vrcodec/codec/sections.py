"""Levels of y to the bytes of a section and back: tables, chains, range coder. No torch here.

Without a trellis a level is its symbol, and all symbols of a section are coded at once. With one,
symbols outside of chains are, and then every step of the chains: the table of a symbol there
depends on the symbols before it.

Of the symbols outside of chains the greater part have deviations so small that none of them is
ever anything but zero. A section says in its first number up to which scale index that holds of all
it has, and leaves them out: nothing is lost, and coding takes half the time.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vrcodec.bitstream.range_coder import Decoder, Encoder
from vrcodec.bitstream.trellis import NEXT, Part, level_of
from vrcodec.conditional.dials import Conditioning
from vrcodec.errors import CorruptError
from vrcodec.model.config import SCALE_LEVELS
from vrcodec.model.latent_tables import PER_QUANTISER, LatentTables

LARGEST_LEVEL = (1 << 15) - 1
QUIET_LEVELS = 16
"""The scale index below which all symbols outside of chains are zero is below this."""


def encoded(
    levels: NDArray[np.int16],
    indexes: NDArray[np.uint8],
    tables: LatentTables,
    conditioning: Conditioning,
    part: Part,
) -> bytes:
    """A section of levels (768, rows, columns) of a part of a picture, with their scale indexes."""
    encoder = Encoder(tables.at(conditioning))
    flat, numbers, scales = levels.ravel(), tables.numbers(indexes).ravel(), indexes.ravel()
    trellis = tables.config.trellis_at(conditioning)
    plain = _plain(scales, tables, conditioning)
    lowest = _lowest(flat, scales, plain)
    encoder.add_number(lowest, QUIET_LEVELS)
    coded = np.flatnonzero(plain & (scales >= lowest))
    if trellis is None:
        encoder.add(flat[coded], numbers[coded])
        return encoder.finish()
    encoder.add(flat[coded] >> 1, numbers[coded])
    chains = trellis.chains(indexes, part)
    symbols, odd = chains.symbols(flat)
    numbers = numbers[chains.order] + PER_QUANTISER * odd
    for step in chains.steps():
        encoder.add(symbols[step], numbers[step])
    return encoder.finish()


def decoded(
    section: bytes,
    indexes: NDArray[np.uint8],
    tables: LatentTables,
    conditioning: Conditioning,
    part: Part,
    quiet: bool = True,
) -> NDArray[np.int16]:
    """Inverse of `encoded`, unless nothing is left out, as `Header.quiet` says.

    Raises:
        CorruptError.
    """
    decoder = Decoder(section, tables.at(conditioning))
    numbers, scales = tables.numbers(indexes).ravel(), indexes.ravel()
    trellis = tables.config.trellis_at(conditioning)
    plain = _plain(scales, tables, conditioning)
    lowest = decoder.take_number(QUIET_LEVELS) if quiet else 0
    coded = np.flatnonzero(plain & (scales >= lowest))
    levels = np.zeros(indexes.size, dtype=np.int32)
    levels[coded] = decoder.take(numbers[coded])
    if trellis is not None:
        levels *= 2
        chains = trellis.chains(indexes, part)
        state = np.zeros(chains.count, dtype=np.uint8)
        numbers = numbers[chains.order]
        for step in chains.steps():
            lane = chains.lane[step]
            here = state[lane]
            odd = here & 1
            symbols = decoder.take(numbers[step] + PER_QUANTISER * odd)
            levels[chains.order[step]] = level_of(symbols, odd)
            state[lane] = NEXT[here, symbols & 1]
        if levels.size and np.abs(levels).max() > LARGEST_LEVEL:
            raise CorruptError("a level exceeds 16 bits")
    decoder.finish()
    return levels.astype(np.int16).reshape(indexes.shape)


def each_bits(
    levels: NDArray[np.int16],
    indexes: NDArray[np.uint8],
    tables: LatentTables,
    conditioning: Conditioning,
    part: Part,
    quiet: bool = True,
) -> NDArray[np.float64]:
    """Ideal code length of every level in a section, of the same shape."""
    symbols, numbers = tables.symbols(levels, indexes, conditioning, part)
    bits = tables.at(conditioning).each_bits(symbols, numbers).ravel()
    if quiet:
        scales = indexes.ravel()
        plain = _plain(scales, tables, conditioning)
        bits[plain & (scales < _lowest(levels.ravel(), scales, plain))] = 0
    return bits.reshape(levels.shape)


def _plain(
    scales: NDArray[np.uint8], tables: LatentTables, conditioning: Conditioning
) -> NDArray[np.bool_]:
    """Which symbols are in no chain."""
    trellis = tables.config.trellis_at(conditioning)
    plain: NDArray[np.bool_] = scales < (SCALE_LEVELS if trellis is None else trellis.level)
    return plain


def _lowest(levels: NDArray[np.int16], scales: NDArray[np.uint8], plain: NDArray[np.bool_]) -> int:
    """The scale index from which on plain symbols are coded; all below are zero."""
    loud = plain & (levels != 0)
    # Faster than to choose by `loud`.
    scales = np.maximum(scales, ~loud * np.uint8(SCALE_LEVELS))
    return min(int(scales.min(initial=SCALE_LEVELS)), QUIET_LEVELS - 1)
