"""The .vrc file: bytes <-> header and sections. No torch, no Pillow; see docs/bitstream.md.

Layout of version 1 (integers big-endian, `varint` = LEB128 of at most five bytes)::

    "VRC" | version and flags | weights id (3) | width varint | height varint
    [count of conditioning values] | conditioning values (2 each)
    [extra sections: tag, length varint ... 0] | length of z varint | length of each y varint
    CRC-16 of the symbols | extra sections | z | y ... | CRC-32 of all before
"""

from __future__ import annotations

import binascii
import dataclasses
import enum
import struct
import zlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from vrcodec.bitstream.grid import Grid
from vrcodec.conditional.dials import MAX_DIALS, Conditioning
from vrcodec.errors import (
    CorruptError,
    FormatError,
    NotVrcError,
    TruncatedError,
    UnsupportedVersionError,
)

MAGIC = b"VRC"
VERSION = 1
MAX_WIDTH = 1 << 17
"""Sections are whole rows of latents: this bounds the memory that one needs."""
MAX_HEIGHT = 1 << 24
CHECKSUM_BYTES = 4
CRC_START = 0xFFFF
CRC_PERIOD = (1 << 15) - 1
"""The order of x^8, as of x, modulo the polynomial of CRC-16, (x + 1) times a primitive one."""


class Extra(enum.IntEnum):
    """Tags of the optional sections."""

    ALPHA = 1
    ICC = 2
    EXIF = 3
    XMP = 4
    DPI = 5
    SOURCE = 6


class _Flag(enum.IntFlag):
    GREY = 1
    SIXTEEN_BIT = 2
    EXTRAS = 4
    VECTOR = 8


@dataclasses.dataclass(frozen=True)
class Header:
    """What a file says about its picture.

    Attributes:
        width, height: pixels.
        weights_id: six hex digits, the start of the hash of the weights it was made with.
        conditioning: where on its dials the picture is coded.
        grey: the source was grey, and the decoder gives a grey picture.
        sixteen_bit: the source had more than 8 bits per sample (it was coded at 8).
    """

    width: int
    height: int
    weights_id: str
    conditioning: Conditioning
    grey: bool = False
    sixteen_bit: bool = False

    def __post_init__(self) -> None:
        if not (0 < self.width <= MAX_WIDTH and 0 < self.height <= MAX_HEIGHT):
            raise CorruptError(f"impossible size {self.width}x{self.height}")

    @property
    def quality(self) -> float:
        """Position on the first dial, 0 to 1."""
        return self.conditioning.quality

    @property
    def grid(self) -> Grid:
        """Where its latents are."""
        return Grid(self.width, self.height)

    @property
    def latent_size(self) -> tuple[int, int]:
        """Rows and columns of y's grid: one position per 16x16 pixels."""
        return self.grid.latent_size

    @property
    def hyper_size(self) -> tuple[int, int]:
        """Rows and columns of z's grid."""
        return self.grid.hyper_size

    @property
    def section_count(self) -> int:
        return self.grid.section_count

    @property
    def sections(self) -> list[tuple[int, int]]:
        """First and last-plus-one latent row of every y section."""
        return self.grid.sections


@dataclasses.dataclass(frozen=True)
class Stream:
    """A whole file, parsed.

    Attributes:
        z: entropy-coded hyper-latent.
        y: entropy-coded latent, one part per `Header.sections`.
        symbols_crc: CRC-16 of the decoded symbols (`SymbolsCrc`).
        extras: optional sections by tag.
    """

    header: Header
    z: bytes
    y: tuple[bytes, ...]
    symbols_crc: int
    extras: Mapping[Extra, bytes] = dataclasses.field(default_factory=dict)


class SymbolsCrc:
    """CRC-16 over symbols as 16-bit big-endian integers: z first, then y section by section.

    Args:
        value: what to start from; 0 for a part whose predecessor comes later (`after`).
    """

    def __init__(self, value: int = CRC_START) -> None:
        self.value = value
        self._bytes = 0

    def update(self, symbols: Any) -> None:
        """Feed a C-contiguous numpy array of integers within 16 bits, in its own order."""
        data = symbols.astype(">i2").tobytes()
        self.value = binascii.crc_hqx(data, self.value)
        self._bytes += len(data)

    def after(self, earlier: SymbolsCrc) -> int:
        """The value for what `earlier` was fed, followed by what this was; this began at 0.

        A CRC is linear: what came earlier counts as if as many zeros had followed, and zeros
        bring any value back after CRC_PERIOD of them.
        """
        return self.value ^ binascii.crc_hqx(bytes(self._bytes % CRC_PERIOD), earlier.value)


def pack(stream: Stream) -> bytes:
    """The bytes of a file.

    Raises:
        ValueError: not as many y sections as the header implies (a mistake of the caller).
    """
    header = stream.header
    if len(stream.y) != header.section_count:
        raise ValueError(f"{len(stream.y)} y sections, not {header.section_count}")
    flags = _Flag.GREY * header.grey | _Flag.SIXTEEN_BIT * header.sixteen_bit
    flags |= _Flag.EXTRAS * bool(stream.extras) | _Flag.VECTOR * (
        len(header.conditioning.values) > 1
    )
    parts = [MAGIC, bytes([VERSION << 4 | flags]), bytes.fromhex(header.weights_id)]
    parts += [_varint(header.width), _varint(header.height)]
    if flags & _Flag.VECTOR:
        parts.append(bytes([len(header.conditioning.values)]))
    parts += [struct.pack(">H", value) for value in header.conditioning.values]
    if stream.extras:
        for tag, body in sorted(stream.extras.items()):
            parts += [bytes([tag]), _varint(len(body))]
        parts.append(b"\0")
    parts += [_varint(len(body)) for body in (stream.z, *stream.y)]
    parts.append(struct.pack(">H", stream.symbols_crc))
    parts += [body for _, body in sorted(stream.extras.items())]
    parts += [stream.z, *stream.y]
    data = b"".join(parts)
    return data + struct.pack(">I", zlib.crc32(data))


def unpack(data: bytes) -> Stream:
    """Parse a file and verify its checksum.

    Nothing is allocated beyond copies of what the file really contains.

    Raises:
        FormatError: with the kind that applies (see errors.py).
    """
    layout = _Layout(data)
    if zlib.crc32(data[:-CHECKSUM_BYTES]) != struct.unpack(">I", data[-CHECKSUM_BYTES:])[0]:
        raise CorruptError("checksum mismatch")
    position = layout.body
    bodies = []
    for length in (*layout.extras.values(), layout.z, *layout.y):
        bodies.append(data[position : position + length])
        position += length
    extras = dict(zip(layout.extras, bodies, strict=False))
    z, *y = bodies[len(extras) :]
    return Stream(layout.header, z, tuple(y), layout.symbols_crc, MappingProxyType(extras))


def describe(data: bytes) -> dict[str, Any]:
    """What `vrcodec info` prints, without decoding anything.

    Returns:
        JSON-able facts; `bits` holds the bits of every section, which add up to the file.

    Raises:
        FormatError: as `unpack`.
    """
    stream = unpack(data)
    header = stream.header
    bits = {tag.name.lower(): 8 * len(body) for tag, body in stream.extras.items()}
    bits |= {"z": 8 * len(stream.z), "y": 8 * sum(map(len, stream.y))}
    bits["checksums"] = 8 * (CHECKSUM_BYTES + 2)
    return {
        "version": VERSION,
        "width": header.width,
        "height": header.height,
        "quality": header.quality,
        "conditioning": list(header.conditioning.values),
        "weights_id": header.weights_id,
        "grey": header.grey,
        "sixteen_bit": header.sixteen_bit,
        "bytes": len(data),
        "bpp": 8 * len(data) / (header.width * header.height),
        "bits": {"header": 8 * len(data) - sum(bits.values()), **bits},
    }


class _Layout:
    """Everything before the sections, and the promise that the sections fit."""

    def __init__(self, data: bytes) -> None:
        if data[: len(MAGIC)] != MAGIC[: len(data)] or not data:
            raise NotVrcError("not a .vrc file")
        reader = _Reader(data, len(MAGIC))
        first = reader.byte()
        if first >> 4 != VERSION:
            raise UnsupportedVersionError(
                f"version {first >> 4} of the format (this program knows version {VERSION})"
            )
        flags = _Flag(first & 15)
        weights_id = reader.take(3).hex()
        width, height = reader.varint(), reader.varint()
        count = reader.byte() if flags & _Flag.VECTOR else 1
        if flags & _Flag.VECTOR and not 1 < count <= MAX_DIALS:
            raise CorruptError(f"{count} conditioning values")
        values = struct.unpack(f">{count}H", reader.take(2 * count))
        try:
            conditioning = Conditioning(values)
        except ValueError as error:
            raise CorruptError(str(error)) from None
        self.header = Header(
            width,
            height,
            weights_id,
            conditioning,
            bool(flags & _Flag.GREY),
            bool(flags & _Flag.SIXTEEN_BIT),
        )
        self.extras = self._extra_lengths(reader) if flags & _Flag.EXTRAS else {}
        self.z = reader.varint()
        reader.need(self.header.section_count)
        self.y = [reader.varint() for _ in range(self.header.section_count)]
        self.symbols_crc = struct.unpack(">H", reader.take(2))[0]
        self.body = reader.position
        size = self.body + sum(self.extras.values()) + self.z + sum(self.y) + CHECKSUM_BYTES
        if size > len(data):
            raise TruncatedError(f"truncated: needs {size} bytes, has {len(data)}")
        if size < len(data):
            raise FormatError(f"{len(data) - size} bytes too many after the end of the file")

    @staticmethod
    def _extra_lengths(reader: _Reader) -> dict[Extra, int]:
        lengths: dict[Extra, int] = {}
        while tag := reader.byte():
            try:
                extra = Extra(tag)
            except ValueError:
                raise CorruptError(f"unknown section {tag}") from None
            if lengths and tag <= max(lengths):
                raise CorruptError("sections out of order")
            lengths[extra] = reader.varint()
        if not lengths:
            raise CorruptError("empty list of sections")
        return lengths


class _Reader:
    def __init__(self, data: bytes, position: int) -> None:
        self.data, self.position = data, position

    def need(self, count: int) -> None:
        if self.position + count > len(self.data):
            raise TruncatedError(
                f"truncated: needs more than {self.position + count - 1} bytes, "
                f"has {len(self.data)}"
            )

    def take(self, count: int) -> bytes:
        self.need(count)
        self.position += count
        return self.data[self.position - count : self.position]

    def byte(self) -> int:
        return self.take(1)[0]

    def varint(self) -> int:
        value = 0
        for shift in range(0, 35, 7):
            part = self.byte()
            value |= (part & 127) << shift
            if part < 128:
                if part == 0 and shift:
                    raise CorruptError("number with superfluous digits")
                return value
        raise CorruptError("number of more than 35 bits")


def _varint(value: int) -> bytes:
    digits = []
    while value > 127:
        digits.append(value & 127 | 128)
        value >>= 7
    return bytes([*digits, value])
