"""Which part of a large picture is computed at a time. Pure geometry, the same everywhere.

Networks run on tiles of y's grid. Each tile is computed from a window that is larger by a
*halo*, at least what the wanted values depend on, and the halo is cut off the result: so
tiled equals untiled. Windows end where the picture ends; there the networks pad as they
would untiled. Rows and columns need the same thought, so everything here is about one axis.

What depends on what, in positions of y's grid, to either side:

* a latent of y on the pixels of `analysis_reach` positions;
* element t of z, which stands for positions 4t to 4t + 3, on y from 4t - 3 to 4t + 3
  (`HyperAnalysis`: two convolutions 3x3 of stride 2);
* the features of a position on z of its own group of four and the next (`MeanPath`);
* a symbol, when it is made, and a latent, when it is decoded, on `context_reach` positions
  of y and of the features (`ContextModel`: every pass but the first looks one further);
* a pixel on latents of `synthesis_reach` positions.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from vrcodec.bitstream.grid import GROUP, cut
from vrcodec.bitstream.trellis import CELL
from vrcodec.model.config import ModelConfig

TILE = CELL
"""Latent positions along a side of a tile; a picture of at most TILE x TILE is one tile."""


def context_reach(config: ModelConfig) -> int:
    """Latent positions that the context passes look to every side, in whole groups.

    Every pass but the first looks at what was decoded before it, one position further and one
    more for each of its blocks; the blocks of the first look at features.
    """
    blocks, passes = config.context_blocks, config.context_passes
    return -(-(passes * (1 + blocks) + blocks) // GROUP) * GROUP


def analysis_reach(config: ModelConfig) -> int:
    """Latent positions that the analysis transform looks to every side."""
    at_8, at_16 = config.analysis_blocks
    return at_16 + -(-at_8 // 2)


def synthesis_reach(config: ModelConfig) -> int:
    """Latent positions that the synthesis transform looks to every side."""
    at_16, at_8 = config.synthesis_blocks
    return at_16 + -(-at_8 // 2)


@dataclasses.dataclass(frozen=True)
class Span:
    """A run of rows or columns."""

    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    @property
    def at(self) -> slice:
        """This as an index."""
        return slice(self.start, self.stop)

    def grown(self, before: int, after: int, end: int) -> Span:
        """With so much more on either side, as far as there is anything: 0 to `end`."""
        return Span(max(0, self.start - before), min(end, self.stop + after))

    def cut(self, other: Span) -> Span:
        """The part of this that is in `other`, which it overlaps."""
        return Span(max(self.start, other.start), min(self.stop, other.stop))

    def within(self, window: Span, scale: int = 1) -> slice:
        """Where this is in an array that holds `window`, with `scale` elements per position."""
        return slice((self.start - window.start) * scale, (self.stop - window.start) * scale)

    def scaled(self, scale: int, end: int) -> Span:
        """The same run on a grid `scale` times as fine that ends at `end`."""
        return Span(min(end, self.start * scale), min(end, self.stop * scale))

    def groups(self, neighbours: int, end: int) -> Span:
        """The groups of `GROUP` that this touches, and `neighbours` more, on z's grid."""
        touched = Span(self.start // GROUP, -(-self.stop // GROUP))
        return touched.grown(neighbours, neighbours, end)


def tiles(rows: int, columns: int, side: int = TILE) -> tuple[list[Span], list[Span]]:
    """Cut a grid into tiles of about the same size: their rows, and their columns.

    Args:
        side: the most positions along the side of a tile, a multiple of `GROUP`.
    """
    down, across = cut(rows, columns, side)
    return [Span(*run) for run in down], [Span(*run) for run in across]


@dataclasses.dataclass(frozen=True)
class EncoderSpans:
    """Along one axis, what is computed to get a tile's symbols.

    z is decided once, by the first tile that needs it: a tile's features reach two groups
    beyond it, so `z` lies two groups further than `tile`.

    Attributes:
        tile: positions whose symbols are made.
        analysed: positions whose pixels are looked at.
        y: positions where y is right.
        z_made: positions of z's grid that come out of `y`, its outermost not right.
        z: those of them that are decided.
        coded: positions that run through the context passes.
        z_seen: positions of z's grid that the features of `coded` come from.
    """

    tile: Span
    analysed: Span
    y: Span
    z_made: Span
    z: Span
    coded: Span
    z_seen: Span

    @property
    def features(self) -> slice:
        """Where `coded` is in features computed from `z_seen` alone."""
        return feature_slice(self.coded, self.z_seen)

    def free(self, config: ModelConfig) -> NDArray[np.bool_]:
        """Which positions of `coded` an encoder may change: none that a neighbour looks at."""
        context = context_reach(config)
        before = context if self.coded.start < self.tile.start else 0
        after = context if self.coded.stop > self.tile.stop else 0
        positions = np.arange(self.coded.start, self.coded.stop)
        return (positions >= self.tile.start + before) & (positions < self.tile.stop - after)

    @classmethod
    def of(cls, tile: Span, length: int, config: ModelConfig) -> EncoderSpans:
        """For a tile of a grid of `length` positions."""
        context = context_reach(config)
        groups, lookahead = -(-length // GROUP), context // GROUP + 1
        y = tile.grown(context, lookahead * GROUP, length)
        reach = analysis_reach(config)
        coded = tile.grown(context, context, length)
        first = tile.start // GROUP + lookahead if tile.start else 0
        last = min(groups, -(-tile.stop // GROUP) + lookahead)
        return cls(
            tile,
            y.grown(reach, reach, length),
            y,
            y.groups(0, groups),
            Span(min(first, last), last),
            coded,
            coded.groups(1, groups),
        )


@dataclasses.dataclass(frozen=True)
class DecoderSpans:
    """Along one axis, what is computed to get a tile's pixels.

    Attributes:
        tile: positions whose pixels are made.
        decoded: positions whose symbols run through the context passes.
        used: those of them that run through the synthesis, where their latents are right.
        z_seen: positions of z's grid that the features of `decoded` come from.
    """

    tile: Span
    decoded: Span
    used: Span
    z_seen: Span

    @property
    def features(self) -> slice:
        """Where `decoded` is in features computed from `z_seen` alone."""
        return feature_slice(self.decoded, self.z_seen)

    @classmethod
    def of(
        cls, tile: Span, length: int, config: ModelConfig, reach: int | None = None
    ) -> DecoderSpans:
        """For a tile of a grid of `length` positions.

        Args:
            reach: positions that the synthesis looks to every side, if not `synthesis_reach`.
        """
        reach = synthesis_reach(config) if reach is None else reach
        # Whole groups, so that the passes' pattern of two rows by two columns stays in step.
        halo = -(-(context_reach(config) + reach) // GROUP) * GROUP
        decoded, used = (tile.grown(more, more, length) for more in (halo, reach))
        return cls(tile, decoded, used, decoded.groups(1, -(-length // GROUP)))


def feature_slice(positions: Span, z_seen: Span) -> slice:
    """Where `positions` are in features computed from `z_seen` alone."""
    return positions.within(Span(z_seen.start * GROUP, z_seen.stop * GROUP))


def restack(
    parts: Iterable[NDArray[np.int16]], windows: Iterable[Span]
) -> Iterator[list[NDArray[np.int16]]]:
    """Cut rows that arrive in parts of some heights into windows of others.

    Args:
        parts: (..., rows, columns) each, one below the other; drawn when needed, and
            let go when no window needs them any more.
        windows: runs of rows, neither starts nor stops descending; they may overlap.

    Yields:
        For every window its rows, as views of the parts, top to bottom.
    """
    source, held, bottom = iter(parts), deque[tuple[Span, NDArray[np.int16]]](), 0
    for window in windows:
        while bottom < window.stop:
            part = next(source)
            held.append((Span(bottom, bottom + part.shape[-2]), part))
            bottom += part.shape[-2]
        while held and held[0][0].stop <= window.start:
            held.popleft()
        yield [part[..., window.cut(span).within(span), :] for span, part in held]
