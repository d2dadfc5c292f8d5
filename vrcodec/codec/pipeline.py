"""Prepared pictures to files and back at a conditioning: networks, tiles and coder together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from vrcodec.arguments import is_whole
from vrcodec.bitstream.container import Header, Stream, pack
from vrcodec.bitstream.grid import BLOCK, REDUCTIONS
from vrcodec.codec import tiling
from vrcodec.codec.latents import Latents, SectionWriter, SymbolCoder
from vrcodec.codec.networks import Networks, Refine
from vrcodec.codec.runner import Runner
from vrcodec.codec.stages import ENTROPY_CODING, stage
from vrcodec.conditional.dials import Conditioning, Dials
from vrcodec.errors import ArgumentError
from vrcodec.model.weights_file import Weights
from vrcodec.pictures import CodedPicture

_Item = TypeVar("_Item")


class Pipeline:
    """What turns pictures into latents and files, and back.

    Args:
        weights: the tables, and what the networks look like.
        networks: of these weights.
        tile: latent positions along the side of what is computed at a time, a multiple of 4.
    """

    def __init__(self, weights: Weights, networks: Networks, tile: int = tiling.TILE) -> None:
        self.weights, self.networks = weights, networks
        self.coder = SymbolCoder(weights, networks)
        self.runner = Runner(networks, weights.config, tile)

    @property
    def dials(self) -> Dials:
        """Those of the weights."""
        return self.weights.config.dials

    def files(
        self,
        pictures: Sequence[CodedPicture],
        conditioning: Conditioning,
        size: int = 1,
        refine: Refine | None = None,
    ) -> list[bytes]:
        """The contents of .vrc files for pictures of one size, all grey or none.

        Args:
            size: so many pass together, at least as many as there are; copies fill them up, so
                that what becomes of a picture does not depend on its company.
            refine: looks for better latents, of a single picture.
        """
        pixels = _stack([picture.pixels for picture in _filled(pictures, size)])
        writers = [
            SectionWriter(self.coder, self._header(picture, conditioning)) for picture in pictures
        ]
        for band in self.runner.quantise(pixels, conditioning, pictures[0].grey, refine):
            for writer, *rows in zip(writers, band.y, band.indexes, band.z, strict=False):
                writer.add(*rows)
        files = []
        for writer, picture in zip(writers, pictures, strict=True):
            with stage(ENTROPY_CODING):
                files.append(pack(writer.finish(picture.extras)))
        return files

    def _header(self, picture: CodedPicture, conditioning: Conditioning) -> Header:
        height, width = picture.pixels.shape[:2]
        return Header(
            width,
            height,
            self.weights.id,
            conditioning,
            picture.grey,
            picture.sixteen_bit,
            picture.source_kind,
        )

    def decoded(
        self, streams: Sequence[Stream], size: int = 1, reduce: int = 1
    ) -> NDArray[np.uint8]:
        """Pixels (size, height, width, 3) of files of one size and conditioning, copies included.

        Args:
            size: so many pass together.
            reduce: how many times smaller along each side; one of `REDUCTIONS`.

        Raises:
            UnknownWeightsError, CorruptError.
            ArgumentError: there is no such reduction.
        """
        if not is_whole(reduce) or reduce not in REDUCTIONS:
            raise ArgumentError(f"reduce is one of 1, 2, 4 and 8, not {reduce!r}")
        header = streams[0].header
        facts = header.conditioning, header.width, header.height, reduce
        if size == 1:
            z, sections = self.coder.read(streams[0])
            return self.runner.reconstruct(z[None], (part[None] for part in sections), *facts)
        read = [self.coder.read(stream) for stream in streams]
        symbols = [(z, np.concatenate(list(sections), axis=1)) for z, sections in read]
        z, y = (np.stack(parts) for parts in zip(*_filled(symbols, size), strict=True))
        return self.runner.reconstruct(z, [y], *facts)

    def latents(
        self, pixels: NDArray[np.uint8], conditioning: Conditioning, grey: bool = False
    ) -> Latents:
        """What is coded of RGB pixels (H, W, 3), all at once."""
        bands = list(self.runner.quantise(pixels[None], conditioning, grey))
        parts = ((band.z[0], band.y[0], band.indexes[0]) for band in bands)
        return Latents(*(np.concatenate(rows, axis=1) for rows in zip(*parts, strict=True)))

    def pixels(
        self, latents: Latents, conditioning: Conditioning, reduce: int = 1
    ) -> NDArray[np.uint8]:
        """RGB pixels (16 rows, 16 columns, 3) of latents, or `reduce` times smaller."""
        _, rows, columns = latents.y.shape
        z, y, size = latents.z[None], [latents.y[None]], (BLOCK * columns, BLOCK * rows)
        return self.runner.reconstruct(z, y, conditioning, *size, reduce)[0]

    def estimate_bits(self, latents: Latents, conditioning: Conditioning) -> float:
        """Ideal code length of latents under the tables, without any container."""
        return self.coder.estimate_bits(latents, conditioning)

    def read_latents(self, stream: Stream) -> Latents:
        """Entropy-decode a file: integers only, the same on every machine.

        Raises:
            UnknownWeightsError, CorruptError.
        """
        z, sections = self.coder.read(stream)
        y = np.concatenate(list(sections), axis=1)
        return self.coder.with_indexes(z, y, stream.header.conditioning)

    def write_latents(self, latents: Latents, header: Header) -> Stream:
        """Entropy-code latents."""
        writer = SectionWriter(self.coder, header)
        writer.add(latents.y, latents.indexes, latents.z)
        return writer.finish({})

    def summary(self) -> dict[str, Any]:
        """Size and cost of the model: parameters, and kMAC/pixel of encoder and decoder.

        Everything executed is counted, the entropy model included, on a 768x512 picture.
        """
        at, pixels = self.dials.conditioning(), np.zeros((512, 768, 3), dtype=np.uint8)
        latents = self.latents(pixels, at)
        encode = self.networks.macs(lambda: self.latents(pixels, at))

        def decode(reduce: int) -> float:
            return self.networks.macs(
                lambda: self.pixels(self.coder.with_indexes(latents.z, latents.y, at), at, reduce)
            )

        return {
            "weights_id": self.weights.id,
            "runtime": self.networks.runtime,
            "device": self.networks.device,
            "parameters": self.networks.parameters,
            "dials": {dial.name: (dial.low, dial.high) for dial in self.dials},
            "lambda_ranges": self.weights.config.lambda_ranges,
            "encode_kmac_per_pixel": encode / (512 * 768) / 1e3,
            "decode_kmac_per_pixel": decode(1) / (512 * 768) / 1e3,
            "decode_small_kmac_per_pixel": decode(max(REDUCTIONS)) / (512 * 768) / 1e3,
        }


def _filled(items: Sequence[_Item], size: int) -> list[_Item]:
    """`items`, and the last one again until there are `size`."""
    return [*items, *[items[-1]] * (size - len(items))]


def _stack(arrays: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    return arrays[0][None] if len(arrays) == 1 else np.stack(arrays)  # a large one is not copied
