"""Levels of y to the bytes of a section and back: tables, chains, range coder. No torch here.

Without a trellis a level is its symbol, and all symbols of a section are coded at once. With one,
symbols outside of chains are, and then every step of the chains: the table of a symbol there
depends on the symbols before it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vrcodec.bitstream.range_coder import Decoder, Encoder
from vrcodec.bitstream.trellis import NEXT, Part, level_of
from vrcodec.conditional.dials import Conditioning
from vrcodec.errors import CorruptError
from vrcodec.model.latent_tables import PER_QUANTISER, LatentTables

LARGEST_LEVEL = (1 << 15) - 1


def encoded(
    levels: NDArray[np.int16],
    indexes: NDArray[np.uint8],
    tables: LatentTables,
    conditioning: Conditioning,
    part: Part,
) -> bytes:
    """A section of levels (768, rows, columns) of a part of a picture, with their scale indexes."""
    encoder = Encoder(tables.at(conditioning))
    numbers = tables.numbers(indexes).ravel()
    trellis = tables.config.trellis_at(conditioning)
    if trellis is None:
        encoder.add(levels.ravel(), numbers)
        return encoder.finish()
    flat, plain = levels.ravel(), (indexes < trellis.level).ravel()
    encoder.add(flat[plain] >> 1, numbers[plain])
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
) -> NDArray[np.int16]:
    """Inverse of `encoded`. Raises CorruptError."""
    decoder = Decoder(section, tables.at(conditioning))
    numbers = tables.numbers(indexes).ravel()
    trellis = tables.config.trellis_at(conditioning)
    if trellis is None:
        levels = decoder.take(numbers)
    else:
        plain = (indexes < trellis.level).ravel()
        levels = np.empty(indexes.size, dtype=np.int32)
        levels[plain] = 2 * decoder.take(numbers[plain])
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
