"""What stands around the pixels in a file: metadata and colour, read without any decoder.

PNG, WebP and BMP are taken apart here, JPEG in jpeg.py, what is made of boxes in boxes.py, older
formats in rasters.py. Each gives what it found, and the file for Pillow: without what Pillow could
refuse it for.
"""

from __future__ import annotations

import dataclasses
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

from vrcodec.errors import PictureError
from vrcodec.pictures import xmp

MAX_METADATA = 32_000_000
"""Bytes of one piece of metadata, at most; larger ones are left out."""

_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_ADAM7 = (
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
)
_NEEDED = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"}
_INFLATE_STEP = 1 << 20
_MOST_INFLATED = 1032
"""Bytes that one byte of deflated data can become."""
_XMP_KEYWORD = b"XML:com.adobe.xmp"
_RAW_PROFILES = {
    b"exif": "exif",
    b"APP1": "exif",
    b"app1": "exif",
    b"xmp": "xmp",
    b"icc": "icc",
    b"icm": "icc",
}


class Turned(NamedTuple):
    """What a decoder has done to a picture by itself.

    Attributes:
        at_all: it was turned or mirrored.
        sideways: so that width and height changed places.
    """

    at_all: bool = False
    sideways: bool = False

    @classmethod
    def by(cls, orientation: float | None) -> Turned:
        """As an orientation of EXIF asks for."""
        return cls(orientation in range(2, 9), orientation in range(5, 9))


AS_STORED = Turned()


@dataclasses.dataclass
class Found:
    """What a file says beside its pixels.

    Attributes:
        clean: the file for Pillow; None if it is to see the file itself.
        size: width and height, of formats that allocate or decode the picture when it is opened.
        icc, exif, xmp: as they stand there, empty if they do not.
        cicp: colour primaries, transfer function and full range, numbered as in ITU-T H.273.
        gamma: of PNG; chromaticity: white, red, green, blue, x and y of each.
        srgb: PNG says that it is sRGB.
        dpi: dots per inch, horizontal and vertical.
        bits: per sample, where that is for the container to say.
        check: looks whether the pixels are whole; raises PictureError. To be called when it is
            known that they are not too many.
        turned: what a decoder does that turns pictures by what the container says.
        frames: how many pictures there are; None if that is for Pillow to say.
        room: bytes that packed metadata may still have when they are inflated.
        notes: what had to be left out.
    """

    clean: bytes | None = None
    size: tuple[int, int] | None = None
    icc: bytes = b""
    exif: bytes = b""
    xmp: bytes = b""
    cicp: tuple[int, int] | None = None
    gamma: float | None = None
    chromaticity: tuple[float, ...] | None = None
    srgb: bool = False
    dpi: tuple[float, float] | None = None
    bits: int | None = None
    turned: Turned = AS_STORED
    frames: int | None = None
    check: Callable[[], None] | None = None
    room: int = 2 * MAX_METADATA
    notes: list[str] = dataclasses.field(default_factory=list)


def png(data: bytes) -> Found:
    """Chunks of a PNG file, whose needed ones are checked and kept.

    Raises:
        PictureError: a needed chunk is damaged, or the picture is not whole.
    """
    found, kept = Found(), [data[:8]]
    ended = pixels = in_animation = False
    for kind, body, whole, sound in _chunks(data):
        if kind in _NEEDED:
            if not sound and kind != b"IEND":
                raise PictureError(f"damaged PNG: checksum of {kind.decode()}")
            kept.append(whole)
            ended = ended or kind == b"IEND"
            pixels = pixels or kind == b"IDAT"
        elif sound:
            _png_facts(found, kind, body)
            in_animation = in_animation or (kind == b"fcTL" and not pixels)
    if not ended:
        kept.append(_chunk(b"IEND", b""))
    if found.frames and not in_animation:
        found.frames += 1  # a picture for those who show no animation comes first
    found.clean = b"".join(kept)
    found.check = lambda: _check_png_pixels(kept)
    return found


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes, bytes, bool]]:
    """Kind, body, the whole chunk and whether its checksum is right, up to IEND."""
    at, view = 8, memoryview(data)
    while at + 8 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        kind, end = data[at + 4 : at + 8], at + 12 + length
        if not kind.isalpha() or (end > len(data) and kind not in {b"IDAT", b"IEND"}):
            return
        body = data[at + 8 : min(end - 4, len(data))]
        if end > len(data) and kind == b"IDAT":
            raise PictureError("damaged PNG: image file is truncated")
        checksum = data[end - 4 : end] == struct.pack(">I", zlib.crc32(view[at + 4 : end - 4]))
        yield kind, body, data[at:end], checksum
        at = end
        if kind == b"IEND":
            return


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _check_png_pixels(kept: list[bytes]) -> None:
    """Inflate the pixels without keeping them: there must be enough, with the right checksum."""
    bodies = [chunk[8:-4] for chunk in kept[1:] if chunk[4:8] == b"IDAT"]
    header = next((chunk[8:-4] for chunk in kept[1:] if chunk[4:8] == b"IHDR"), b"")
    if len(header) < 13 or header[9] not in _CHANNELS:
        raise PictureError("damaged PNG: header")
    needed = _png_bytes(header)
    inflater, size = zlib.decompressobj(), 0
    try:
        for body in bodies:
            while body and not inflater.eof and size <= needed:
                size += len(inflater.decompress(body, _INFLATE_STEP))
                body = inflater.unconsumed_tail
    except zlib.error as error:
        raise PictureError(f"damaged PNG: {error}") from None
    if size < needed:
        raise PictureError("damaged PNG: image file is truncated, its data end too soon")


def _png_bytes(header: bytes) -> int:
    """Bytes of the inflated pixels with the filter byte of every row."""
    width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", header[:13])
    bits = depth * _CHANNELS[colour]
    passes = _ADAM7 if interlaced else ((0, 0, 1, 1),)
    total = 0
    for left, top, across, down in passes:
        columns, rows = -(-(width - left) // across), -(-(height - top) // down)
        if columns > 0 and rows > 0:
            total += rows * (1 + -(-columns * bits // 8))
    return total


def _png_facts(found: Found, kind: bytes, body: bytes) -> None:
    if kind == b"cICP" and len(body) == 4:
        found.cicp = body[0], body[1]
    elif kind == b"gAMA" and len(body) == 4 and any(body):
        found.gamma = struct.unpack(">I", body)[0] / 100000
    elif kind == b"cHRM" and len(body) == 32:
        found.chromaticity = tuple(value / 100000 for value in struct.unpack(">8I", body))
    elif kind == b"sRGB" and body:
        found.srgb = True
    elif kind == b"pHYs" and len(body) == 9 and body[8] == 1:
        across, down = struct.unpack(">II", body[:8])
        found.dpi = across * 0.0254, down * 0.0254
    elif kind == b"eXIf":
        found.exif = _limited(found, "EXIF", body) or found.exif
    elif kind == b"iCCP":
        profile = _inflated(found, body.partition(b"\0")[2][1:])
        found.icc = _limited(found, "ICC profile", profile) or found.icc
    elif kind == b"acTL" and len(body) == 8:
        found.frames = max(1, struct.unpack_from(">I", body)[0])
    elif kind in {b"tEXt", b"zTXt", b"iTXt"}:
        _png_text(found, kind, body)


def _png_text(found: Found, kind: bytes, body: bytes) -> None:
    keyword, _, rest = body.partition(b"\0")
    packed = kind == b"zTXt"
    if kind == b"iTXt":
        packed, rest = rest[:1] == b"\1", rest[2:].partition(b"\0")[2].partition(b"\0")[2]
    elif packed:
        rest = rest[1:]
    raw = keyword.startswith(b"Raw profile type ")
    what = _RAW_PROFILES.get(keyword.rpartition(b" ")[2], "") if raw else ""
    if keyword != _XMP_KEYWORD and not what:
        return
    value = _inflated(found, rest) if packed else rest
    if raw and value is not None:
        value = raw_profile(value)
        if value and value.startswith(xmp.JPEG_MARK):
            what, value = "xmp", value[len(xmp.JPEG_MARK) :]
    name = what or "xmp"
    text = {"exif": "EXIF", "xmp": "XMP", "icc": "ICC profile"}[name]
    value = _limited(found, text, value)
    if value and not (raw and getattr(found, name)):
        setattr(found, name, value)


def raw_profile(text: bytes) -> bytes | None:
    """The bytes in a text of ImageMagick's: a name, a length, and hexadecimal digits."""
    parts = text.split(None, 2)
    try:
        body = bytes.fromhex(parts[2].decode("ascii"))
        return body if len(body) == int(parts[1]) else None
    except (ValueError, IndexError):
        return None


def _inflated(found: Found, data: bytes) -> bytes | None:
    """What zlib has packed; None if it is damaged or larger than anybody needs, alone or in all."""
    most = min(MAX_METADATA, found.room)
    found.room -= min(most, _MOST_INFLATED * len(data))
    if most <= 0:
        return None
    inflater = zlib.decompressobj()
    try:
        result = inflater.decompress(data, most)
    except zlib.error:
        return None
    return result if inflater.eof else None


def _limited(found: Found, name: str, value: bytes | None) -> bytes:
    if value is None:
        found.notes.append(f"{name} left out: damaged, or more than {MAX_METADATA:,} bytes")
        return b""
    if len(value) > MAX_METADATA:
        found.notes.append(f"{name} left out: more than {MAX_METADATA:,} bytes")
        return b""
    return value


def webp(data: bytes) -> Found:
    """Chunks of a WebP file. Raises PictureError if it is cut short."""
    (size,) = struct.unpack_from("<I", data, 4)
    if size + 8 > len(data) + 1:
        raise PictureError("damaged WebP: image file is truncated")
    found = Found(size=_webp_size(data))
    at = 12
    while at + 8 <= len(data):
        kind, (length,) = data[at : at + 4], struct.unpack_from("<I", data, at + 4)
        body = data[at + 8 : at + 8 + length]
        if kind == b"ICCP":
            found.icc = _limited(found, "ICC profile", body)
        elif kind == b"EXIF":
            found.exif = _limited(found, "EXIF", body)
        elif kind == b"XMP ":
            found.xmp = _limited(found, "XMP", body)
        at += 8 + length + length % 2
    return found


def _webp_size(data: bytes) -> tuple[int, int] | None:
    """Width and height of the first chunk: the canvas, or the only picture."""
    kind, body = data[12:16], data[20:30]
    if kind == b"VP8 " and body[3:6] == b"\x9d\x01\x2a":
        across, down = struct.unpack_from("<HH", body, 6)
        return across & 0x3FFF, down & 0x3FFF
    if kind == b"VP8X" and len(body) == 10:
        return int.from_bytes(body[4:7], "little") + 1, int.from_bytes(body[7:], "little") + 1
    if kind == b"VP8L" and len(body) >= 5:
        bits = int.from_bytes(body[1:5], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    return None


def bmp(data: bytes) -> Found:
    """The profile that a bitmap of version 5 can hold."""
    found = Found()
    if len(data) > 138 and data[14:18] == b"\x7c\0\0\0" and data[70:74] == b"DEBM":
        at, size = struct.unpack_from("<II", data, 126)
        found.icc = data[14 + at : 14 + at + size] if 14 + at + size <= len(data) else b""
    return found
