"""The container: bytes <-> header and sections, and one named error for all that can be wrong."""

from __future__ import annotations

import dataclasses
import json
import struct
import tracemalloc
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vrcodec.bitstream.checksum import SymbolsCrc
from vrcodec.bitstream.container import (
    MAX_HEIGHT,
    MAX_WIDTH,
    VERSION,
    Extra,
    Header,
    SourceKind,
    Stream,
    describe,
    pack,
    unpack,
)
from vrcodec.conditional.dials import ONE, Conditioning
from vrcodec.errors import (
    CorruptError,
    FormatError,
    NotVrcError,
    TruncatedError,
    UnsupportedVersionError,
)

ID = "0a1b2c3d4e5f6071"
PLAIN = Stream(
    Header(768, 512, ID, Conditioning((9830,)), source_kind=SourceKind.JPEG),
    z=b"z" * 300,
    y=(b"y" * 40_000,),
    symbols_crc=0x1234,
)
FULL = Stream(
    Header(
        2000,
        1500,
        ID,
        Conditioning((0, ONE)),
        grey=True,
        sixteen_bit=True,
        source_kind=SourceKind.OTHER_LOSSY,
    ),
    z=b"zzz",
    y=(b"y0", b""),
    symbols_crc=0xFFFF,
    extras={Extra.DPI: struct.pack(">ff", 72, 300), Extra.ALPHA: b"png", Extra.XMP: b"<x/>"},
)
GREY, EXTRAS, VECTOR = 1, 4, 8
FIRST = dataclasses.replace(
    FULL,
    header=dataclasses.replace(
        FULL.header, weights_id=ID[:6], source_kind=SourceKind.UNKNOWN, version=1
    ),
)
"""As a file of version 1."""


def seal(body: bytes) -> bytes:
    return body + struct.pack(">I", zlib.crc32(body))


def first_bytes(version: int, flags: int, kind: int) -> bytes:
    if version == 1 or not (further := kind >> 3 << 4 | flags):
        return bytes([version << 4 | kind | flags])
    return bytes([version << 4 | 8 | kind & 7, further])


def raw_file(
    *,
    version: int = 2,
    flags: int = 0,
    kind: int = 0,
    width: bytes = b"\x10",
    height: bytes = b"\x10",
    conditioning: bytes = b"\x40\x00",
    extras: bytes = b"",
    lengths: bytes = b"\x01\x01",
    sections: bytes = b"zy",
) -> bytes:
    """A file from the bytes of its fields, valid unless one of them is replaced."""
    start = b"VRC" + first_bytes(version, flags, kind) + bytes(range(1, 4 if version == 1 else 9))
    return seal(start + width + height + conditioning + extras + lengths + b"\0\0" + sections)


def sides() -> st.SearchStrategy[tuple[int, int]]:
    """Sizes up to the largest that need at most a few hundred y sections."""
    small, medium = st.integers(1, 64), st.integers(1, 5000)
    pairs = [
        st.tuples(medium, medium),
        st.tuples(small, st.integers(1, MAX_HEIGHT)),
        st.tuples(st.integers(1, MAX_WIDTH), small),
    ]
    return st.one_of(pairs)


@st.composite
def streams(draw: st.DrawFn) -> Stream:
    values, first = st.integers(0, ONE), draw(st.booleans())
    header = Header(
        *draw(sides()),
        weights_id=draw(st.binary(min_size=8, max_size=8)).hex()[: 6 if first else 16],
        conditioning=Conditioning(tuple(draw(st.lists(values, min_size=1, max_size=8)))),
        grey=draw(st.booleans()),
        sixteen_bit=draw(st.booleans()),
        source_kind=SourceKind.UNKNOWN if first else draw(st.sampled_from(SourceKind)),
        version=1 if first else draw(st.sampled_from([2, VERSION])),
    )
    bodies = st.binary(max_size=300) | st.text("ab <>", max_size=300).map(str.encode)
    pattern = draw(st.lists(bodies, min_size=1, max_size=3))
    return Stream(
        header,
        z=draw(bodies),
        y=tuple(pattern[i % len(pattern)] for i in range(header.section_count)),
        symbols_crc=draw(st.integers(0, 0xFFFF)),
        extras=draw(st.dictionaries(st.sampled_from(Extra), bodies)),
    )


@given(streams())
def test_round_trip(stream: Stream) -> None:
    data = pack(stream)
    assert unpack(data) == stream
    facts = json.loads(json.dumps(describe(data)))
    assert sum(facts["bits"].values()) == 8 * len(data) == 8 * facts["bytes"]


@given(sides())
def test_sections_cover_all_rows_once(size: tuple[int, int]) -> None:
    header = Header(*size, ID, Conditioning((0,)))
    rows, columns = header.latent_size
    assert 0 <= 16 * rows - size[1] < 16
    assert 0 <= 16 * columns - size[0] < 16
    assert len(header.sections) == header.section_count
    edges = [0, *(bottom for _, bottom in header.sections)]
    assert [top for top, _ in header.sections] == edges[:-1]
    assert edges[-1] == rows
    heights = {bottom - top for top, bottom in header.sections[:-1]}
    assert heights <= {max(1, 8192 // columns)}


@pytest.mark.parametrize("version", [1, 2, 3])
def test_layout_is_the_documented_one(version: int) -> None:
    data = raw_file(
        version=version, flags=GREY | EXTRAS, extras=b"\x03\x02\x05\x01\0", sections=b"eedzy"
    )
    name = "010203" if version == 1 else "0102030405060708"
    assert unpack(data) == Stream(
        Header(16, 16, name, Conditioning((1 << 14,)), grey=True, version=version),
        b"z",
        (b"y",),
        0,
        {Extra.EXIF: b"ee", Extra.DPI: b"d"},
    )
    assert pack(unpack(data)) == data


def test_overhead_of_a_plain_photograph() -> None:
    assert len(pack(PLAIN)) - 300 - 40_000 <= 29


def test_describe() -> None:
    facts = describe(pack(FULL))
    bits = facts.pop("bits")
    sections = {"alpha": 24, "xmp": 32, "dpi": 64, "z": 24, "y": 16, "checksums": 48}
    assert {name: bits[name] for name in sections} == sections
    assert sum(bits.values()) == 8 * len(pack(FULL))
    assert facts == {
        "version": 3,
        "width": 2000,
        "height": 1500,
        "quality": 0.0,
        "conditioning": [0, ONE],
        "weights_id": ID,
        "grey": True,
        "sixteen_bit": True,
        "source_kind": "other_lossy",
        "bytes": len(pack(FULL)),
        "bpp": 8 * len(pack(FULL)) / 3_000_000,
    }


@pytest.mark.parametrize(
    ("version", "z", "y", "crc"),
    [
        (1, b"12", (b"34", b"5678"), 0xA12B),
        (2, b"12", (b"34", b"5678"), 0xA12B),
        (3, b"78", (b"1234", b"56"), 0x9AE0DAAF & 0xFFFF),
    ],
)
def test_symbols_crc(version: int, z: bytes, y: tuple[bytes, ...], crc: int) -> None:
    """Of the digits 1 to 8, whatever integers they are held in."""
    found = SymbolsCrc(np.frombuffer(z, dtype=">i2").astype(np.int32), version)
    for part in y:
        found.update(np.frombuffer(part, dtype=">i2").astype(np.int64).reshape(-1, 1))
    assert found.value == crc


def test_z_may_come_last() -> None:
    z, y = np.zeros((2, 1, 1), np.int16), np.arange(6, dtype=np.int16)
    late = SymbolsCrc(z)
    late.update(y)
    z[:] = 7
    early = SymbolsCrc(z.copy())
    early.update(y)
    assert late.value == early.value


@pytest.mark.parametrize("wrong", [b"", b"\x89PNG\r\n\x1a\n", b"X", b"VRc" + bytes(40), bytes(40)])
def test_not_a_vrc(wrong: bytes) -> None:
    with pytest.raises(NotVrcError):
        unpack(wrong)


@pytest.mark.parametrize("version", [0, 4, 15])
def test_other_versions(version: int) -> None:
    with pytest.raises(UnsupportedVersionError, match=f"version {version} "):
        unpack(raw_file(version=version))


@pytest.mark.parametrize("stream", [PLAIN, FULL, FIRST], ids=["plain", "full", "version-1"])
def test_truncated_at_every_length(stream: Stream) -> None:
    data = pack(stream)
    sections = (stream.z, *stream.y, *stream.extras.values())
    header_end = len(data) - 4 - sum(map(len, sections))
    for size in [*range(1, min(len(data), 400)), len(data) - 5, len(data) - 4, len(data) - 1]:
        with pytest.raises(TruncatedError) as caught:
            unpack(data[:size])
        words = str(caught.value).split()
        assert words[-3:] == ["bytes,", "has", str(size)]
        if size >= header_end:
            assert words[:3] == ["truncated:", "needs", str(len(data))]
        else:
            assert words[:4] == ["truncated:", "needs", "more", "than"]
            assert size <= int(words[4]) < len(data)


@pytest.mark.parametrize("tail", [b"\0", b"VRC", bytes(1000)])
def test_trailing_bytes(tail: bytes) -> None:
    with pytest.raises(FormatError, match=f"^{len(tail)} bytes too many"):
        unpack(pack(PLAIN) + tail)


@pytest.mark.parametrize("stream", [FULL, FIRST], ids=["version-3", "version-1"])
def test_every_flipped_bit_is_noticed(stream: Stream) -> None:
    data = pack(stream)
    body = len(data) - 4 - sum(map(len, (stream.z, *stream.y, *stream.extras.values())))
    for bit in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 128 >> bit % 8
        with pytest.raises(FormatError) as caught:
            unpack(bytes(damaged))
        if bit >= 8 * body:
            assert type(caught.value) is CorruptError
            assert "checksum" in str(caught.value)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (raw_file(width=b"\0"), "impossible size 0x16"),
        (raw_file(height=b"\0"), "impossible size 16x0"),
        (raw_file(width=b"\x81\x80\x08"), "impossible size 131073x16"),
        (raw_file(height=b"\xff\xff\xff\xff\x7f"), "impossible size"),
        (raw_file(width=b"\x90\x00"), "superfluous digits"),
        (raw_file(lengths=b"\x01\x81\x80\x00"), "superfluous digits"),
        (raw_file(height=b"\x80\x80\x80\x80\x80\x01"), "35 bits"),
        (raw_file(conditioning=b"\x80\x01"), "conditioning value out of range"),
        (raw_file(flags=VECTOR, conditioning=b"\x01\0\0"), "1 conditioning values"),
        (raw_file(flags=VECTOR, conditioning=b"\x09" + bytes(18)), "9 conditioning values"),
        (raw_file(flags=EXTRAS, extras=b"\x07\x01\0", sections=b"xzy"), "unknown section 7"),
        (raw_file(flags=EXTRAS, extras=b"\xff\x01\0", sections=b"xzy"), "unknown section 255"),
        (raw_file(flags=EXTRAS, extras=b"\x62\x01\0", sections=b"xzy"), "unknown section 98"),
        (raw_file(flags=EXTRAS, extras=b"\x20\x01\0", sections=b"xzy"), "unknown section 32"),
        (
            raw_file(version=1, flags=EXTRAS, extras=b"\x22\x01\0", sections=b"xzy"),
            "unknown section 34",
        ),
        (raw_file(kind=14), "unknown kind of source 14"),
        (raw_file(kind=127), "unknown kind of source 127"),
        (seal(b"VRC\x28\0" + raw_file()[4:-4]), "superfluous flags"),
        (raw_file(flags=EXTRAS, extras=b"\2\1\1\1\0", sections=b"iazy"), "out of order"),
        (raw_file(flags=EXTRAS, extras=b"\2\1\2\1\0", sections=b"iizy"), "out of order"),
        (raw_file(flags=EXTRAS, extras=b"\0"), "empty list of sections"),
        (raw_file()[:-1] + b"\0", "checksum"),
    ],
    ids=lambda part: part.replace(" ", "-") if isinstance(part, str) else "",
)
def test_corrupt(data: bytes, message: str) -> None:
    with pytest.raises(CorruptError, match=message):
        unpack(data)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (raw_file(width=b"\x80\x80\x08", height=b"\x80\x80\x80\x08"), "more than 1048597 "),
        (raw_file(lengths=b"\xff\xff\xff\xff\x7f\x01"), f"needs {(1 << 35) + 28} "),
        (raw_file(flags=EXTRAS, extras=b"\2\xff\xff\xff\xff\x7f\0"), f"needs {(1 << 35) + 33} "),
    ],
    ids=["picture", "section", "extra"],
)
def test_huge_declarations_allocate_nothing(data: bytes, message: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(TruncatedError, match=message):
            unpack(data)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_a_huge_picture_of_empty_sections_parses_in_little_memory() -> None:
    """2^17 x 2^20 pixels in 2^16 sections: a few machine words for each byte of the file."""
    width, height = b"\x80\x80\x08", b"\x80\x80\x40"
    data = raw_file(width=width, height=height, lengths=bytes(1 + (1 << 16)), sections=b"")
    tracemalloc.start()
    try:
        stream = unpack(data)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()
    assert len(stream.y) == stream.header.section_count == 1 << 16


@pytest.mark.parametrize(
    "change",
    [
        {"width": 0},
        {"width": MAX_WIDTH + 1},
        {"height": MAX_HEIGHT + 1},
    ],
)
def test_impossible_headers_cannot_be_made(change: dict[str, object]) -> None:
    with pytest.raises(CorruptError):
        dataclasses.replace(PLAIN.header, **change)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"weights_id": "0a1b2c3d"}, "weights id of 8 digits"),
        ({"weights_id": ID[:6]}, "weights id of 6 digits"),
        ({"version": 1}, "weights id of 16 digits"),
        ({"version": 1, "weights_id": ID[:6]}, "no place for the kind"),
        ({"version": 0}, "version 0 "),
        ({"version": VERSION + 1}, f"version {VERSION + 1} "),
    ],
)
def test_headers_of_no_version_cannot_be_made(change: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        dataclasses.replace(PLAIN.header, **change)


@pytest.mark.parametrize("count", [0, 2])
def test_number_of_sections_must_fit(count: int) -> None:
    with pytest.raises(ValueError, match=f"{count} y sections, not 1"):
        pack(dataclasses.replace(PLAIN, y=(b"y",) * count))
