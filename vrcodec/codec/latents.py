"""Symbols to the sections of a file and back: tables, range coder, checksum. No torch here."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from vrcodec.bitstream import range_coder
from vrcodec.bitstream.checksum import SymbolsCrc
from vrcodec.bitstream.container import VERSION, Extra, Header, Stream
from vrcodec.bitstream.trellis import Part
from vrcodec.codec import sections
from vrcodec.codec.networks import Networks
from vrcodec.codec.stages import ENTROPY_CODING, SCALE_PATH, stage
from vrcodec.codec.tiling import Span, feature_slice
from vrcodec.conditional.dials import Conditioning
from vrcodec.errors import CorruptError
from vrcodec.model.weights_file import Weights, check_named


@dataclasses.dataclass(frozen=True)
class Latents:
    """A picture as the integers that are coded.

    Attributes:
        z: int16 (hyper, ceil(rows / 4), ceil(columns / 4)).
        y: int16 (768, rows, columns), the levels: (latent - mean) / step, rounded; with a trellis
            in units of its finer step.
        indexes: uint8, the scale index of every element of y.
    """

    z: NDArray[np.int16]
    y: NDArray[np.int16]
    indexes: NDArray[np.uint8]


class SymbolCoder:
    """Symbols <-> bytes under the tables of some weights."""

    def __init__(self, weights: Weights, networks: Networks) -> None:
        self.weights, self._networks = weights, networks

    def with_indexes(
        self, z: NDArray[np.int16], y: NDArray[np.int16], conditioning: Conditioning
    ) -> Latents:
        """Latents of the symbols of a picture."""
        return Latents(z, y, self.indexes(z, conditioning, Span(0, y.shape[1]), y.shape[2]))

    def estimate_bits(self, latents: Latents, conditioning: Conditioning) -> float:
        """Ideal code length of the latents under the tables, without any container."""
        z_bits = float(self.weights.z_tables.bits(latents.z, conditioning).sum())
        tables, (_, rows, columns) = self.weights.y_tables, latents.y.shape
        part = Part.whole(rows, columns)
        y_bits = sections.each_bits(latents.y, latents.indexes, tables, conditioning, part)
        return z_bits + float(y_bits.sum())

    def read(self, stream: Stream) -> tuple[NDArray[np.int16], Iterator[NDArray[np.int16]]]:
        """z, and the symbols of y section by section: integers only, the same on every machine.

        Raises:
            UnknownWeightsError, CorruptError: at once, or when sections are drawn.
        """
        header = stream.header
        check_named(header.weights_id, self.weights.id)
        if len(header.conditioning.values) != self.weights.config.coefficients:
            raise CorruptError(f"{len(header.conditioning.values)} conditioning values")
        hyper, shape = self.weights.z_tables, (self.weights.config.hyper, *header.hyper_size)
        with stage(ENTROPY_CODING):
            numbers = hyper.numbers(header.hyper_size, header.conditioning)
            z = range_coder.decode(stream.z, numbers, hyper.tables).astype(np.int16).reshape(shape)
        return z, self._sections(stream, z)

    def _sections(self, stream: Stream, z: NDArray[np.int16]) -> Iterator[NDArray[np.int16]]:
        rows, columns = stream.header.latent_size
        tables, conditioning = self.weights.y_tables, stream.header.conditioning
        crc = SymbolsCrc(z, stream.header.version)
        for body, (top, bottom) in zip(stream.y, stream.header.sections, strict=True):
            indexes = self.indexes(z, conditioning, Span(top, bottom), columns)
            with stage(ENTROPY_CODING):
                part = Part.of(rows, columns, top, bottom)
                quiet = stream.header.quiet
                levels = sections.decoded(body, indexes, tables, conditioning, part, quiet)
                crc.update(levels)
            if bottom == rows and crc.value != stream.symbols_crc:
                raise CorruptError("checksum of the decoded symbols does not match")
            yield levels

    def indexes(
        self, z: NDArray[np.int16], conditioning: Conditioning, rows: Span, columns: int
    ) -> NDArray[np.uint8]:
        """The scale index of every symbol in some rows of y; looks at no more of z than needed."""
        seen = rows.groups(1, z.shape[1])
        at = feature_slice(rows, seen), slice(0, columns)
        with stage(SCALE_PATH):
            return self._networks.scale_indexes(z[:, seen.at], conditioning, at)


class SectionWriter:
    """Codes the symbols of a picture as they arrive, and every section when it is complete."""

    def __init__(self, coder: SymbolCoder, header: Header) -> None:
        if header.version != VERSION:
            raise ValueError(f"version {header.version} is not written any more")
        self._coder, self._header = coder, header
        self._z = np.empty((coder.weights.config.hyper, *header.hyper_size), dtype=np.int16)
        self._z_rows = 0
        self._waiting: list[tuple[NDArray[np.int16], NDArray[np.uint8]]] = []
        self._spans = [Span(top, bottom) for top, bottom in header.sections]
        self._sections: list[bytes] = []
        self._crc = SymbolsCrc(self._z)

    def add(self, y: NDArray[np.int16], indexes: NDArray[np.uint8], z: NDArray[np.int16]) -> None:
        """Take the next rows of y (768, rows, columns) with their scale indexes, and of z."""
        self._z[:, self._z_rows : self._z_rows + z.shape[1]] = z
        self._z_rows += z.shape[1]
        while y.shape[1]:
            span = self._spans[len(self._sections)]
            missing = len(span) - sum(part.shape[1] for part, _ in self._waiting)
            self._waiting.append((y[:, :missing], indexes[:, :missing]))
            y, indexes = y[:, missing:], indexes[:, missing:]
            if self._waiting[-1][0].shape[1] == missing:
                self._code(*(np.concatenate(x, axis=1) for x in zip(*self._waiting, strict=True)))
                self._waiting = []

    def _code(self, y: NDArray[np.int16], indexes: NDArray[np.uint8]) -> None:
        tables = self._coder.weights.y_tables
        span = self._spans[len(self._sections)]
        part = Part.of(*self._header.latent_size, span.start, span.stop)
        with stage(ENTROPY_CODING):
            coded = sections.encoded(y, indexes, tables, self._header.conditioning, part)
            self._sections.append(coded)
            self._crc.update(y)

    def finish(self, extras: Mapping[Extra, bytes]) -> Stream:
        """The file, once all rows are there."""
        z, hyper = self._z, self._coder.weights.z_tables
        with stage(ENTROPY_CODING):
            numbers = hyper.numbers(self._header.hyper_size, self._header.conditioning)
            z_body = range_coder.encode(z.ravel(), numbers, hyper.tables)
            crc = self._crc.value
        return Stream(self._header, z_body, tuple(self._sections), crc, extras)
