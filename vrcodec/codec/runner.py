"""Pictures through the networks, tile by tile: pixels to symbols and back.

Large pictures pass through in tiles and y in bands of rows (tiling.py), so that beside the
picture itself only the tile at work and the symbols of a few rows are in memory.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from vrcodec.bitstream.grid import BLOCK, LATENT_CHANNELS, Grid
from vrcodec.bitstream.trellis import CELL, Part
from vrcodec.codec import tiling
from vrcodec.codec.networks import Networks, Refine, Window
from vrcodec.codec.stages import (
    ANALYSIS,
    CONTEXT,
    HYPER,
    REFINEMENT,
    SCALE_PATH,
    SYNTHESIS,
    stage,
)
from vrcodec.codec.tiling import DecoderSpans, EncoderSpans, synthesis_reach
from vrcodec.conditional.dials import Conditioning
from vrcodec.model.config import ModelConfig


@dataclasses.dataclass(frozen=True)
class Band:
    """Some rows of pictures as symbols, and what of z is finished with them.

    Attributes:
        y: int16 (B, 768, some rows, columns).
        indexes: uint8, of y's shape: the scale index of every symbol.
        z: int16 (B, hyper, some rows, columns), below those of the band before; maybe none.
    """

    y: NDArray[np.int16]
    indexes: NDArray[np.uint8]
    z: NDArray[np.int16]


@dataclasses.dataclass(frozen=True)
class Runner:
    """Networks and the tiles that they work on.

    Attributes:
        side: the most latent positions along the side of a tile.
    """

    networks: Networks
    config: ModelConfig
    side: int = tiling.TILE

    def quantise(
        self,
        pixels: NDArray[np.uint8],
        conditioning: Conditioning,
        grey: bool,
        refine: Refine | None = None,
    ) -> Iterator[Band]:
        """Symbols of pictures (B, H, W, 3), a band at a time.

        Args:
            refine: what is asked for better latents, one picture at a time.
        """
        height, width = pixels.shape[1:3]
        grid = Grid(width, height)
        rows, columns = grid.latent_size
        z = np.empty((len(pixels), self.config.hyper, *grid.hyper_size), dtype=np.int16)
        # Chains of a trellis stay within a cell, all of which must be there.
        side = CELL if self.config.trellis_at(conditioning) else self.side
        tile_rows, tile_columns = tiling.tiles(rows, columns, side)
        across = [EncoderSpans.of(tile, columns, self.config) for tile in tile_columns]
        for tile in tile_rows:
            down = EncoderSpans.of(tile, rows, self.config)
            shape = len(pixels), LATENT_CHANNELS, len(tile), columns
            y, indexes = np.empty(shape, dtype=np.int16), np.empty(shape, dtype=np.uint8)
            for right in across:
                y[..., right.tile.at], indexes[..., right.tile.at] = self._quantise_tile(
                    pixels, z, down, right, conditioning, grey, refine
                )
            yield Band(y, indexes, z[..., down.z.at, :])

    def _quantise_tile(
        self,
        pixels: NDArray[np.uint8],
        z: NDArray[np.int16],
        down: EncoderSpans,
        across: EncoderSpans,
        conditioning: Conditioning,
        grey: bool,
        refine: Refine | None,
    ) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
        """Symbols of a tile and their scale indexes; decides its z, looks at its neighbours'."""
        height, width = pixels.shape[1:3]
        window = pixels[
            :, down.analysed.scaled(BLOCK, height).at, across.analysed.scaled(BLOCK, width).at
        ]
        with stage(ANALYSIS):
            y = self.networks.analysis(window, conditioning)
        y = y[..., down.y.within(down.analysed), across.y.within(across.analysed)]
        with stage(HYPER):
            made = self.networks.hyper(y, conditioning)
        z[..., down.z.at, across.z.at] = made[
            ..., down.z.within(down.z_made), across.z.within(across.z_made)
        ]
        y = y[..., down.coded.within(down.y), across.coded.within(across.y)]
        seen, at = z[..., down.z_seen.at, across.z_seen.at], (down.features, across.features)
        with stage(SCALE_PATH):
            each = [self.networks.scale_indexes(one, conditioning, at) for one in seen]
            indexes = each[0][None] if len(each) == 1 else np.stack(each)
        part = Part.of_cell(
            (down.tile.start, down.tile.stop),
            (across.tile.start, across.tile.stop),
            Grid(width, height).section_rows,
            (down.coded.start, across.coded.start),
        )
        if refine:
            shown = window[
                0,
                down.coded.within(down.analysed, BLOCK),
                across.coded.within(across.analysed, BLOCK),
            ]
            free = np.outer(down.free(self.config), across.free(self.config))
            with stage(REFINEMENT):
                y = refine(Window(shown, y, seen, at, free, part, grey))
        with stage(CONTEXT):
            # What was refined is where it is to be: it is rounded as it is.
            symbols = self.networks.quantise(
                y, seen, conditioning, at, grey, indexes, nearest=refine is not None, part=part
            )
        tile = down.tile.within(down.coded), across.tile.within(across.coded)
        return symbols[..., tile[0], tile[1]], indexes[..., tile[0], tile[1]]

    def reconstruct(
        self,
        z: NDArray[np.int16],
        sections: Iterable[NDArray[np.int16]],
        conditioning: Conditioning,
        width: int,
        height: int,
        reduce: int = 1,
    ) -> NDArray[np.uint8]:
        """Pixels (B, height, width, 3) of z (B, ...) and y's symbols (B, 768, some rows, columns).

        Args:
            reduce: give the picture so many times smaller along each side, sizes rounded up.

        Raises what drawing a section raises.
        """
        rows, columns = Grid(width, height).latent_size
        width, height, block = -(-width // reduce), -(-height // reduce), BLOCK // reduce
        pixels = np.empty((len(z), height, width, 3), dtype=np.uint8)
        reach = synthesis_reach(self.config) if reduce == 1 else 0
        tile_rows, tile_columns = tiling.tiles(rows, columns, self.side)
        bands = [DecoderSpans.of(tile, rows, self.config, reach) for tile in tile_rows]
        across = [DecoderSpans.of(tile, columns, self.config, reach) for tile in tile_columns]
        windows = tiling.restack(sections, [band.decoded for band in bands])
        for down, parts in zip(bands, windows, strict=True):
            for right in across:
                y = np.concatenate([part[..., right.decoded.at] for part in parts], axis=-2)
                tile = self._reconstruct_tile(z, y, down, right, conditioning, reduce)
                place = pixels[
                    :, down.tile.scaled(block, height).at, right.tile.scaled(block, width).at
                ]
                place[...] = tile[:, : place.shape[1], : place.shape[2]]
        return pixels

    def _reconstruct_tile(
        self,
        z: NDArray[np.int16],
        y: NDArray[np.int16],
        down: DecoderSpans,
        across: DecoderSpans,
        conditioning: Conditioning,
        reduce: int,
    ) -> NDArray[np.uint8]:
        seen, at = z[..., down.z_seen.at, across.z_seen.at], (down.features, across.features)
        with stage(CONTEXT):
            y_hat = self.networks.dequantise(y, seen, conditioning, at)
        y_hat = y_hat[..., down.used.within(down.decoded), across.used.within(across.decoded)]
        with stage(SYNTHESIS):
            if reduce == 1:
                pixels = self.networks.synthesis(y_hat, conditioning)
            else:
                pixels = self.networks.small_synthesis(y_hat, reduce)
        rows = down.tile.within(down.used, BLOCK // reduce)
        return pixels[:, rows, across.tile.within(across.used, BLOCK // reduce)]
