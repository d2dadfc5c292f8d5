"""Picture files made to cost time or memory, or to pass for whole: bounded, and refused by name."""

from __future__ import annotations

import hashlib
import io
import struct
import time
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image, features

from vrcodec.errors import PictureError
from vrcodec.pictures import boxes, open_picture, to_coded, xmp
from vrcodec.pictures.av1 import frame_size
from vrcodec.pictures.containers import MAX_METADATA

SECONDS = 10
"""Processor time that a file may cost; each of these took a minute or more once, or would."""
Entry = tuple[int, int, int, bytes]


def saved(
    format: str, size: tuple[int, int] = (40, 30), mode: str = "RGB", **options: Any
) -> bytes:
    buffer = io.BytesIO()
    image = Image.linear_gradient("L").resize(size).convert(mode)
    image.save(buffer, format, **options)
    return buffer.getvalue()


def png(*chunks: tuple[bytes, bytes]) -> bytes:
    data = saved("PNG")
    return data[:33] + b"".join(map(chunk, chunks)) + data[33:]


def chunk(part: tuple[bytes, bytes]) -> bytes:
    kind, body = part
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def with_xmp(packet: bytes) -> bytes:
    return png((b"iTXt", b"XML:com.adobe.xmp" + bytes(5) + packet))


def tiff(entries: list[Entry], body: bytes = b"") -> bytes:
    """A TIFF file of one directory: tag, type, count, value (as it stands in the entry)."""
    rows = [
        struct.pack("<HHI", tag, kind, count) + value.ljust(4, b"\0")
        for tag, kind, count, value in sorted(entries)
    ]
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(rows)) + b"".join(rows) + bytes(4) + body


def number(tag: int, value: int) -> Entry:
    return tag, 4, 1, struct.pack("<I", value)


def begin(entries: int) -> int:
    """Where the bytes after a directory are."""
    return 14 + 12 * entries


def grey_tiff(width: int, height: int, compression: int = 1, bits: int = 8) -> list[Entry]:
    values = {256: width, 257: height, 258: bits, 259: compression, 262: 1, 277: 1}
    return [number(tag, value) for tag, value in values.items()]


def strips(rows: int, count: int, places: int, lengths: int) -> list[Entry]:
    table = begin(9)
    return [
        (273, 4, count, struct.pack("<I", places if count == 1 else table)),
        number(278, rows),
        (279, 4, count, struct.pack("<I", lengths if count == 1 else table + 4 * count)),
    ]


# Time


def many_orientations() -> bytes:
    return with_xmp(b"<x>" + b'<a tiff:Orientation="6"/>' * 200_000)


def many_prefixes() -> bytes:
    space = b'<a xmlns:p%d="http://ns.adobe.com/hdr-gain-map/1.0/">'
    return with_xmp(b"".join(space % i for i in range(20_000)))


def tags_without_end() -> bytes:
    return with_xmp(b"<x>" + b"<tiff:Orientation " * 200_000)


def many_directories() -> bytes:
    pointers = b"".join(struct.pack("<HHII", 34665, 4, 1, 10 + 12 * i) for i in range(40_000))
    block = b"II*\0\x08\0\0\0" + struct.pack("<H", 40_000) + pointers + bytes(700_000)
    return png((b"eXIf", block))


def many_profiles() -> bytes:
    return png(*[(b"iCCP", b"a\0\0" + zlib.compress(bytes(31_000_000), 9))] * 300)


def many_texts() -> bytes:
    body = b"Raw profile type exif\0\0" + zlib.compress(b"0" * 31_000_000, 9)
    return png(*[(b"zTXt", body)] * 300)


def long_comment() -> bytes:
    return b"P6 #" + b"a" * 40_000_000 + b"\n1 1 255\nabc"


def many_scans() -> bytes:
    data = saved("JPEG", (6000, 5000), "L", quality=10, progressive=True)
    last = data.rfind(b"\xff\xda")
    return data[:-2] + data[last:-2] * 3000 + b"\xff\xd9"


def fill_bytes() -> bytes:
    """Fill bytes that no marker follows, among the data of a scan."""
    data = saved("JPEG")
    return data[:-2] + b"\xff" * 1_000_000 + b"\0" + data[-2:]


def fill_bytes_in_tiff() -> bytes:
    inner = bytearray(fill_bytes())
    inner[-2:] = b"\xff\xd9"
    values = {256: 40, 257: 30, 258: 8, 259: 7, 262: 6, 277: 3}
    entries = [number(tag, value) for tag, value in values.items()]
    return tiff(entries + strips(30, 1, begin(9), len(inner)), bytes(inner))


def packed_xmp(packet: bytes) -> bytes:
    return png((b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(packet, 9)))


def declared(space: bytes) -> bytes:
    """A hundred prefixes of a namespace, each of them used."""
    each = b'<a xmlns:p%d="' + space + b'" p%d:q="1"/>'
    return b"<x>" + b"".join(each % (i, i) for i in range(100))


def promises_of_many_prefixes() -> bytes:
    return packed_xmp(declared(b"http://ns.apple.com/HDRGainMap/1.0/") + b"<b> " * 2_500_000)


def orientations_of_many_prefixes() -> bytes:
    return packed_xmp(declared(b"http://ns.adobe.com/tiff/1.0/") + b"<b> " * 2_500_000)


def extended_xmp(extension: bytes) -> bytes:
    identity = hashlib.md5(extension, usedforsecurity=False).hexdigest().upper().encode()
    main = b'<a xmlns:xmpNote="%s" xmpNote:HasExtendedXMP="%s"><r:RDF></r:RDF></a>'
    parts = [xmp.JPEG_MARK + main % (b"http://ns.adobe.com/xmp/note/", identity)]
    for at in range(0, len(extension), 60_000):
        head = xmp.EXTENSION_MARK + identity + struct.pack(">II", len(extension), at)
        parts.append(head + extension[at : at + 60_000])
    data = saved("JPEG")
    segments = (b"\xff\xe1" + struct.pack(">H", len(part) + 2) + part for part in parts)
    return data[:2] + b"".join(segments) + data[2:]


def long_extended_tag() -> bytes:
    """Ten thousand declarations, and one tag of megabytes that wants them."""
    spaces = b"".join(b' xmlns:a%d="u"' % i for i in range(10_000))
    tag = b"<r:Description " + b' b="c"' * 500_000
    return extended_xmp(b"<r:RDF" + spaces + b">" + tag + b"></r:RDF>")


def many_extended_tags() -> bytes:
    """One long declaration, and ten thousand tags that want it."""
    head = b'<r:RDF xmlns:a="' + b"u" * 1_000_000 + b'">'
    return extended_xmp(head + b"<r:Description/>" * 10_000 + b"</r:RDF>")


def many_palettes() -> bytes:
    data = saved("PNG")
    at, end = data.index(b"IDAT") - 4, data.index(b"IEND") - 4
    control = chunk((b"fcTL", bytes(26))) * 30_000
    return data[:at] + chunk((b"PLTE", b"abc")) * 30_000 + data[at:end] + control + data[end:]


def overlapping_rows() -> bytes:
    """SGI: every row begins in the one before and has hundreds of times the samples it needs."""
    count, body = 20_000, b"\x01\5" * 40_000
    head = struct.pack(">HBBHHHHII", 474, 1, 1, 2, 1, count, 1, 0, 255).ljust(512, b"\0")
    start = 512 + 8 * count
    places = [start + 2 * i for i in range(count)]
    lengths = [start + len(body) - place for place in places]
    return head + struct.pack(f">{2 * count}I", *places, *lengths) + body


def long_rows() -> bytes:
    """SGI: few rows, each of all the file."""
    return sgi(*[b"\x40\5" + b"\x7f\5" * 2_000_000 + b"\0"] * 4)


def box(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(body), kind) + body


def heif_items(numbers: list[int], kind: bytes, parts: int) -> bytes:
    """Items of this kind whose parts are all the same 20,000 bytes."""
    entries = b"".join(
        box(b"infe", struct.pack(">IHH", 2 << 24, item, 0) + kind) for item in numbers
    )
    listing = box(b"iinf", struct.pack(">IH", 0, len(numbers)) + entries)
    different = sorted(set(numbers))
    places = b"".join(
        struct.pack(">HHH", item, 0, parts) + struct.pack(">II", 100, 20_000) * parts
        for item in different
    )
    location = box(b"iloc", bytes(4) + b"\x44\0" + struct.pack(">H", len(different)) + places)
    empty = box(b"free", b"") * 5000
    meta = box(b"meta", bytes(4) + empty + listing + location)
    return box(b"ftyp", b"avif\0\0\0\0avifmif1") + box(b"mdat", b"\xff" * 30_000) + meta


@pytest.mark.parametrize("kind", [b"Exif\0", b"mime\0application/rdf+xml\0", b"av01\0"])
@pytest.mark.parametrize(
    ("numbers", "parts"), [([1] * 4000, 1500), (list(range(4000)), 1)], ids=["one", "many"]
)
def test_items_are_fetched_once(numbers: list[int], kind: bytes, parts: int) -> None:
    data = heif_items(numbers, kind, parts)
    start = time.process_time()
    found = boxes.heif(data)
    assert time.process_time() - start < SECONDS
    assert len(found.xmp) <= MAX_METADATA


def shared_strips() -> bytes:
    """20,000 strips of six megabytes each, all of them the same bytes."""
    piece, count = zlib.compress(bytes(8)) + bytes(6_000_000), 20_000
    entries = grey_tiff(8, count, 8) + strips(1, count, 0, 0)
    place = struct.pack("<I", begin(9) + 8 * count)
    return tiff(entries, place * count + struct.pack("<I", len(piece)) * count + piece)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (many_orientations, "XMP left out: too many orientations in it"),
        (many_prefixes, "XMP left out: too many prefixes in it"),
        (tags_without_end, ""),
        (many_directories, "EXIF left out"),
        (many_profiles, "ICC profile left out"),
        (many_texts, "EXIF left out"),
        (long_comment, "refused: x: cannot be read: Netpbm header"),
        (fill_bytes, ""),
        (fill_bytes_in_tiff, ""),
        (promises_of_many_prefixes, "gain map or video left out"),
        (orientations_of_many_prefixes, ""),
        (long_extended_tag, ""),
        (many_extended_tags, "extended XMP left out"),
        (many_palettes, ""),
        (overlapping_rows, "refused: x: cannot be read: damaged SGI: its rows overlap"),
        (long_rows, ""),
        (many_scans, "refused: x: cannot be read: JPEG of more than 100 scans"),
        (shared_strips, "refused: x: cannot be read: damaged TIFF: its strips or tiles overlap"),
    ],
)
def test_time_is_bounded(make: Callable[[], bytes], said: str) -> None:
    data = make()
    start = time.process_time()
    try:
        seen = " ".join(to_coded(open_picture(data, "x")).notes)
    except PictureError as error:
        seen = f"refused: {error}"
    assert said in seen
    assert time.process_time() - start < SECONDS


def test_metadata_are_collected_once(monkeypatch: pytest.MonkeyPatch) -> None:
    packets: list[bytes] = []
    once = xmp.without_promises
    monkeypatch.setattr(xmp, "without_promises", lambda data: packets.append(data) or once(data))
    to_coded(open_picture(with_xmp(b"<x/>"), "x"))
    assert packets == [b"<x/>"]


# Memory


def jpeg_in_a_row() -> bytes:
    """A TIFF file of one row, whose only strip is a JPEG file of many."""
    inner = saved("JPEG", (8000, 6000), "L", quality=10)
    entries = grey_tiff(8000, 1, 7) + strips(1, 1, begin(9), len(inner))
    return tiff(entries, inner)


def huge_tile() -> bytes:
    tile = {322: 60_000, 323: 60_000, 324: begin(10), 325: 16}
    return tiff(grey_tiff(16, 16, 8) + [number(*pair) for pair in tile.items()], bytes(16))


def lossy_webp() -> bytes:
    data = bytearray(saved("WEBP", quality=10))
    at = data.index(b"\x9d\x01\x2a") + 3
    data[at : at + 4] = struct.pack("<HH", 16383, 16383)
    return bytes(data)


def small_header() -> bytes:
    """A JPEG 2000 file that calls itself small, around a codestream that is large."""
    data = bytearray(saved("JPEG2000", (3000, 3000), "L"))
    at = data.index(b"ihdr") + 4
    data[at : at + 8] = struct.pack(">II", 16, 16)
    return bytes(data)


def small_property() -> bytes:
    """The same of AVIF, which libavif would scale down in silence."""
    data = bytearray(saved("AVIF", (2000, 1000), speed=10))
    at = data.index(b"ispe") + 8
    data[at : at + 8] = struct.pack(">II", 16, 16)
    return bytes(data)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (jpeg_in_a_row, "8000x6000 is more than"),
        (huge_tile, "60000x60000 is more than"),
        (lossy_webp, "16383x16383 is more than 100,000 pixels"),
        (small_header, "damaged JPEG 2000: two sizes"),
        pytest.param(
            small_property,
            "damaged AVIF: a picture of 2000x1000 inside another size",
            marks=pytest.mark.skipif(not features.check("avif"), reason="no AVIF here"),
        ),
    ],
)
def test_what_is_inside_is_no_larger_than_it_says(make: Callable[[], bytes], said: str) -> None:
    with pytest.raises(PictureError, match=said):
        open_picture(make(), "x", 100_000)


@pytest.mark.skipif(not features.check("avif"), reason="no AVIF here")
@pytest.mark.parametrize("size", [(1, 1), (64, 48), (300, 7)])
def test_size_in_an_av1_stream(size: tuple[int, int]) -> None:
    data = saved("AVIF", size)
    assert frame_size(data[data.index(b"\x12\0\x0a") :]) == size
    assert open_picture(data, "x").size == size


# Parts that are not there


def fax(compression: str) -> bytes:
    """The second half of what is coded replaced by zeros."""
    data = bytearray(saved("TIFF", (400, 400), "1", compression=compression))
    with Image.open(io.BytesIO(bytes(data))) as image:
        start, length = image.tag_v2[273][0], image.tag_v2[279][0]
    data[start + length // 2 : start + length] = bytes(length - length // 2)
    return bytes(data)


def sparse() -> bytes:
    """Two strips of which one has no bytes, as geographers write it for: nothing there."""
    table = struct.pack("<4I", begin(9) + 16, 0, 256, 0)
    return tiff(grey_tiff(32, 16) + strips(8, 2, 0, 0), table + bytes(range(256)))


def one_strip_of_two() -> bytes:
    return tiff(grey_tiff(32, 16) + strips(8, 1, begin(9), 256), bytes(range(256)))


def sgi(*rows: bytes) -> bytes:
    """Packed grey rows of 64 samples."""
    count = len(rows)
    head = struct.pack(">HBBHHHHII", 474, 1, 1, 2, 64, count, 1, 0, 255).ljust(512, b"\0")
    places = np.cumsum([512 + 8 * count, *map(len, rows)])[:-1]
    table = struct.pack(f">{2 * count}I", *places, *map(len, rows))
    return head + table + b"".join(rows)


def test_packed_rows_are_read() -> None:
    literal = bytes([0xC0, *range(64), 0])
    coded = to_coded(open_picture(sgi(literal, b"\x40\x07\0"), "x"))
    assert np.array_equal(coded.pixels[..., 0], [[7] * 64, list(range(64))])


def one_tile_of_four() -> bytes:
    data = saved("JPEG2000", (32, 32), "L", tile_size=(16, 16), no_jp2=True)
    at = data.index(b"\xff\x90")
    return data[: at + struct.unpack_from(">I", data, at + 6)[0]] + b"\xff\xd9"


def cut_codestream() -> bytes:
    return saved("JPEG2000", (64, 64), no_jp2=True)[:-40] + b"\xff\xd9"


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: fax("group4"), "fax data are not whole"),
        (lambda: fax("group3"), "fax data are not whole"),
        (sparse, "strips or tiles are missing"),
        (one_strip_of_two, "strips or tiles are missing"),
        (lambda: sgi(b"\x40\x07\0", b"\x20\x09\0"), "a row is too short"),
        (one_tile_of_four, "1 of 4 tiles are there"),
        (cut_codestream, "image file is truncated"),
    ],
)
def test_half_a_picture_is_refused(make: Callable[[], bytes], said: str) -> None:
    data = make()
    for road in (lambda: open_picture(data, "x"), lambda: Image.open(io.BytesIO(data))):
        with pytest.raises(PictureError, match=said):
            to_coded(road())


@pytest.mark.parametrize("compression", ["group3", "group4"])
def test_whole_fax_is_read(compression: str) -> None:
    data = saved("TIFF", (400, 400), "1", compression=compression)
    right = np.asarray(Image.open(io.BytesIO(data)).convert("L"))
    assert np.array_equal(to_coded(open_picture(data, "x")).pixels[..., 0], right)


# Metadata never vetoes a picture


@pytest.mark.parametrize("value", [b"&#a;", b"&#%s;" % (b"9" * 5000), b"&#xD800;", b"9"])
def test_odd_orientation_in_xmp_is_none(value: bytes) -> None:
    coded = to_coded(open_picture(with_xmp(b'<x tiff:Orientation="%s"/>' % value), "x"))
    assert coded.pixels.shape == (30, 40, 3)


def test_orientation_in_other_spellings_of_xmp() -> None:
    space = b'xmlns="http://ns.adobe.com/tiff/1.0/"'
    for packet in (
        b"<tiff:Orientation><![CDATA[6]]></tiff:Orientation>",
        b"<x " + space + b"><Orientation>6</Orientation></x>",
        b"<tiff:Orientation>&#x36;</tiff:Orientation>",
    ):
        assert to_coded(open_picture(with_xmp(packet), "x")).pixels.shape == (40, 30, 3)
