"""The .vrc file: bytes <-> header and sections. No torch, no Pillow; see docs/bitstream.md.

Layout of versions 2 and 3 (integers big-endian, `varint` = LEB128 of at most five bytes)::

    "VRC" | version, kind of the source | [more of the kind, flags] | weights id (8)
    width varint | height varint | [count of conditioning values] | conditioning values (2 each)
    [extra sections: tag and coding, length varint, [expanded length varint] ... 0]
    length of z varint | length of each y varint
    checksum of the symbols | extra sections | z | y ... | CRC-32 of all before

Version 1 has the flags beside the version, three bytes of the weights id and plain extra
sections. In version 3 the sections of y leave out quiet symbols (codec/sections.py), and the
checksum of the symbols is another. All are read for ever; new files are of version 3.
"""

from __future__ import annotations

import dataclasses
import enum
import struct
import zlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from vrcodec.bitstream.extras import Coding, expand, shrink
from vrcodec.bitstream.extras import Extra as Extra
from vrcodec.bitstream.grid import Grid
from vrcodec.bitstream.reader import Reader, varint
from vrcodec.conditional.dials import MAX_DIALS, Conditioning
from vrcodec.errors import (
    CorruptError,
    FormatError,
    NotVrcError,
    TruncatedError,
    UnsupportedVersionError,
)

MAGIC = b"VRC"
VERSION = 3
"""What is written; all from 1 on are read."""
QUIET_SINCE = 3
"""The first version whose sections of y leave out quiet symbols."""
MAX_WIDTH = 1 << 17
"""Sections are whole rows of latents: this bounds the memory that one needs."""
MAX_HEIGHT = 1 << 24
CHECKSUM_BYTES = 4
PEEK_BYTES = 512
"""Header and list of extra sections are never longer."""


class SourceKind(enum.IntEnum):
    """What kind of file a picture came from, so that it can become one again."""

    UNKNOWN = 0
    JPEG = 1
    PNG = 2
    WEBP = 3
    TIFF = 4
    GIF = 5
    BMP = 6
    AVIF = 7
    HEIF = 8
    JPEG_XL = 9
    JPEG_2000 = 10
    NETPBM = 11
    OTHER_LOSSLESS = 12
    OTHER_LOSSY = 13


class _Flag(enum.IntFlag):
    GREY = 1
    SIXTEEN_BIT = 2
    EXTRAS = 4
    VECTOR = 8


_MORE = 8
"""Beside the version: a byte with flags and the rest of the source's kind follows."""
_ID_BYTES = {1: 3, 2: 8, 3: 8}
_TAG_BITS = 5


@dataclasses.dataclass(frozen=True)
class Header:
    """What a file says about its picture.

    Attributes:
        width, height: pixels.
        weights_id: hex digits, the start of the hash of the weights it was made with: 16, or
            six in a file of version 1.
        conditioning: where on its dials the picture is coded.
        grey: the source was grey, and the decoder gives a grey picture.
        sixteen_bit: the source had more than 8 bits per sample (it was coded at 8).
        source_kind: what kind of file the picture came from; version 1 cannot say.
        version: of the format.
    """

    width: int
    height: int
    weights_id: str
    conditioning: Conditioning
    grey: bool = False
    sixteen_bit: bool = False
    source_kind: SourceKind = SourceKind.UNKNOWN
    version: int = VERSION

    def __post_init__(self) -> None:
        if self.version not in _ID_BYTES:
            raise ValueError(f"version {self.version} of the format")
        if 2 * _ID_BYTES[self.version] != len(self.weights_id):
            raise ValueError(f"a weights id of {len(self.weights_id)} digits")
        if self.version == 1 and self.source_kind:
            raise ValueError("version 1 has no place for the kind of the source")
        if not (0 < self.width <= MAX_WIDTH and 0 < self.height <= MAX_HEIGHT):
            raise CorruptError(f"impossible size {self.width}x{self.height}")

    @property
    def quiet(self) -> bool:
        """Whether the sections of y leave out quiet symbols."""
        return self.version >= QUIET_SINCE

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
        symbols_crc: checksum of the decoded symbols (checksum.py).
        extras: optional sections by tag.
    """

    header: Header
    z: bytes
    y: tuple[bytes, ...]
    symbols_crc: int
    extras: Mapping[Extra, bytes] = dataclasses.field(default_factory=dict)


def pack(stream: Stream) -> bytes:
    """The bytes of a file.

    Raises:
        ValueError: not as many y sections as the header implies (a mistake of the caller).
    """
    header = stream.header
    if len(stream.y) != header.section_count:
        raise ValueError(f"{len(stream.y)} y sections, not {header.section_count}")
    values = header.conditioning.values
    extras = [
        (tag, len(body), *_stored(header, tag, body)) for tag, body in sorted(stream.extras.items())
    ]
    parts = [MAGIC, _first_bytes(header, bool(extras)), bytes.fromhex(header.weights_id)]
    parts += [varint(header.width), varint(header.height)]
    if len(values) > 1:
        parts.append(bytes([len(values)]))
    parts += [struct.pack(">H", value) for value in values]
    for tag, size, coding, stored in extras:
        parts += [bytes([coding << _TAG_BITS | tag]), varint(len(stored))]
        if coding is Coding.DEFLATE:
            parts.append(varint(size))
    if extras:
        parts.append(b"\0")
    parts += [varint(len(body)) for body in (stream.z, *stream.y)]
    parts.append(struct.pack(">H", stream.symbols_crc))
    parts += [stored for *_, stored in extras]
    parts += [stream.z, *stream.y]
    data = b"".join(parts)
    return data + struct.pack(">I", zlib.crc32(data))


def _stored(header: Header, tag: Extra, body: bytes) -> tuple[Coding, bytes]:
    return (Coding.PLAIN, body) if header.version == 1 else shrink(tag, body)


def _first_bytes(header: Header, extras: bool) -> bytes:
    """Version, kind of the source and flags."""
    flags = _Flag.GREY * header.grey | _Flag.SIXTEEN_BIT * header.sixteen_bit
    flags |= _Flag.EXTRAS * extras | _Flag.VECTOR * (len(header.conditioning.values) > 1)
    if header.version == 1:
        return bytes([1 << 4 | flags])
    further, kind = divmod(header.source_kind, _MORE)
    further = further << 4 | flags
    if not further:
        return bytes([header.version << 4 | kind])
    return bytes([header.version << 4 | _MORE | kind, further])


def unpack(data: bytes) -> Stream:
    """Parse a file and verify its checksum.

    Nothing is allocated beyond copies of what the file really contains, and deflated sections,
    which expand to at most MAX_EXPANDED bytes each.

    Raises:
        FormatError: with the kind that applies (see errors.py).
    """
    layout = _Layout(data)
    if zlib.crc32(data[:-CHECKSUM_BYTES]) != struct.unpack(">I", data[-CHECKSUM_BYTES:])[0]:
        raise CorruptError("checksum mismatch")
    position = layout.body
    bodies = []
    for length in (*(entry.length for entry in layout.extras), layout.z, *layout.y):
        bodies.append(data[position : position + length])
        position += length
    extras = {}
    for entry, stored in zip(layout.extras, bodies, strict=False):
        extras[entry.tag] = expand(entry.tag, entry.coding, stored, entry.size)
    z, *y = bodies[len(extras) :]
    return Stream(layout.header, z, tuple(y), layout.symbols_crc, MappingProxyType(extras))


def peek(start: bytes) -> tuple[Header, frozenset[Extra]]:
    """Header and kinds of extra sections of a file, by its first PEEK_BYTES; nothing is verified.

    Raises:
        FormatError: as `unpack`, as far as it can be seen.
    """
    _, header, entries = _read_start(start)
    return header, frozenset(entry.tag for entry in entries)


def describe(data: bytes) -> dict[str, Any]:
    """What `vrcodec info` prints, without decoding anything.

    Returns:
        JSON-able facts; `bits` holds the bits of every section, which add up to the file.

    Raises:
        FormatError: as `unpack`.
    """
    stream = unpack(data)
    header = stream.header
    bits = {entry.tag.name.lower(): 8 * entry.length for entry in _Layout(data).extras}
    bits |= {"z": 8 * len(stream.z), "y": 8 * sum(map(len, stream.y))}
    bits["checksums"] = 8 * (CHECKSUM_BYTES + 2)
    return {
        "version": header.version,
        "width": header.width,
        "height": header.height,
        "quality": header.quality,
        "conditioning": list(header.conditioning.values),
        "weights_id": header.weights_id,
        "grey": header.grey,
        "sixteen_bit": header.sixteen_bit,
        "source_kind": header.source_kind.name.lower(),
        "bytes": len(data),
        "bpp": 8 * len(data) / (header.width * header.height),
        "bits": {"header": 8 * len(data) - sum(bits.values()), **bits},
    }


@dataclasses.dataclass(frozen=True)
class _Entry:
    """An extra section in the list of them: bytes in the file, and when expanded."""

    tag: Extra
    coding: Coding
    length: int
    size: int = 0


class _Layout:
    """Everything before the sections, and the promise that the sections fit."""

    def __init__(self, data: bytes) -> None:
        reader, self.header, self.extras = _read_start(data)
        self.z = reader.varint()
        reader.need(self.header.section_count)
        self.y = [reader.varint() for _ in range(self.header.section_count)]
        self.symbols_crc = struct.unpack(">H", reader.take(2))[0]
        self.body = reader.position
        lengths = (*(entry.length for entry in self.extras), self.z, *self.y)
        size = self.body + sum(lengths) + CHECKSUM_BYTES
        if size > len(data):
            raise TruncatedError(f"truncated: needs {size} bytes, has {len(data)}")
        if size < len(data):
            raise FormatError(f"{len(data) - size} bytes too many after the end of the file")


def _read_start(data: bytes) -> tuple[Reader, Header, list[_Entry]]:
    """What comes first in a file: the header and the list of extra sections."""
    if data[: len(MAGIC)] != MAGIC[: len(data)] or not data:
        raise NotVrcError("not a .vrc file")
    reader = Reader(data, len(MAGIC))
    version, kind, flags = _read_first_bytes(reader)
    weights_id = reader.take(_ID_BYTES[version]).hex()
    size = reader.varint(), reader.varint()
    conditioning = _read_conditioning(reader, bool(flags & _Flag.VECTOR))
    grey, deep = bool(flags & _Flag.GREY), bool(flags & _Flag.SIXTEEN_BIT)
    header = Header(*size, weights_id, conditioning, grey, deep, kind, version)
    return reader, header, _read_entries(reader, version) if flags & _Flag.EXTRAS else []


def _read_first_bytes(reader: Reader) -> tuple[int, SourceKind, _Flag]:
    """Version, kind of the source and flags."""
    version, low = divmod(reader.byte(), 16)
    if version not in _ID_BYTES:
        raise UnsupportedVersionError(
            f"version {version} of the format (this program knows versions 1 to {VERSION})"
        )
    if version == 1:
        return version, SourceKind.UNKNOWN, _Flag(low)
    further = reader.byte() if low & _MORE else 0
    if low & _MORE and not further:
        raise CorruptError("superfluous flags")
    kind = (further >> 4) * _MORE + low % _MORE
    try:
        return version, SourceKind(kind), _Flag(further & 15)
    except ValueError:
        raise CorruptError(f"unknown kind of source {kind}") from None


def _read_conditioning(reader: Reader, vector: bool) -> Conditioning:
    count = reader.byte() if vector else 1
    if vector and not 1 < count <= MAX_DIALS:
        raise CorruptError(f"{count} conditioning values")
    values = struct.unpack(f">{count}H", reader.take(2 * count))
    try:
        return Conditioning(values)
    except ValueError as error:
        raise CorruptError(str(error)) from None


def _read_entries(reader: Reader, version: int) -> list[_Entry]:
    entries: list[_Entry] = []
    while byte := reader.byte():
        coding, tag = divmod(byte, 1 << _TAG_BITS) if version > 1 else (0, byte)
        if tag not in set(Extra) or coding not in set(Coding):
            raise CorruptError(f"unknown section {byte}")
        if entries and tag <= entries[-1].tag:
            raise CorruptError("sections out of order")
        length = reader.varint()
        size = reader.varint() if coding == Coding.DEFLATE else 0
        entries.append(_Entry(Extra(tag), Coding(coding), length, size))
    if not entries:
        raise CorruptError("empty list of sections")
    return entries
