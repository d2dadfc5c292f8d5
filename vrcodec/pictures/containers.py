"""What stands around the pixels in a file: metadata and colour, read without any decoder.

PNG, JPEG, WebP and BMP are taken apart here, formats made of boxes in boxes.py. Each gives what it
found, and the file as it is handed to Pillow: without what Pillow could refuse it for.
"""

from __future__ import annotations

import dataclasses
import re
import struct
import zlib
from collections.abc import Callable, Iterator

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
_XMP_KEYWORD = b"XML:com.adobe.xmp"
_RAW_PROFILES = {
    b"exif": "exif",
    b"APP1": "exif",
    b"app1": "exif",
    b"xmp": "xmp",
    b"icc": "icc",
    b"icm": "icc",
}
_STANDALONE = {0x01, *range(0xD0, 0xD9)}
_DROPPED = {0xE1, 0xE2, 0xED}
"""JPEG segments that Pillow need not see: EXIF and XMP, ICC and multi-picture, Photoshop."""
_MARKER = re.compile(rb"\xff+[^\x00\xd0-\xd7\xff]")
_RESTART = re.compile(rb"\xff[\xd0-\xd7]")


@dataclasses.dataclass
class Found:
    """What a file says beside its pixels.

    Attributes:
        clean: the file for Pillow; None if it is to see the file itself.
        icc, exif, xmp: as they stand there, empty if they do not.
        cicp: colour primaries, transfer function and full range, numbered as in ITU-T H.273.
        gamma: of PNG; chromaticity: white, red, green, blue, x and y of each.
        srgb: PNG says that it is sRGB.
        dpi: dots per inch, horizontal and vertical.
        bits: per sample, where that is for the container to say.
        check: looks whether the pixels are whole; raises PictureError. To be called when it is
            known that they are not too many.
        frames: how many pictures there are; None if that is for Pillow to say.
        notes: what had to be left out.
    """

    clean: bytes | None = None
    icc: bytes = b""
    exif: bytes = b""
    xmp: bytes = b""
    cicp: tuple[int, int] | None = None
    gamma: float | None = None
    chromaticity: tuple[float, ...] | None = None
    srgb: bool = False
    dpi: tuple[float, float] | None = None
    bits: int | None = None
    frames: int | None = None
    check: Callable[[], None] | None = None
    notes: list[str] = dataclasses.field(default_factory=list)


def png(data: bytes) -> Found:
    """Chunks of a PNG file, whose needed ones are checked and kept.

    Raises:
        PictureError: a needed chunk is damaged, or the picture is not whole.
    """
    found, kept, ended, in_animation = Found(), [data[:8]], False, False
    for kind, body, whole, sound in _chunks(data):
        if kind in _NEEDED:
            if not sound and kind != b"IEND":
                raise PictureError(f"damaged PNG: checksum of {kind.decode()}")
            kept.append(whole)
            ended = ended or kind == b"IEND"
        elif sound:
            _png_facts(found, kind, body)
            in_animation = in_animation or (kind == b"fcTL" and not _has_pixels(kept))
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
        if end > len(data):  # whether enough is there is seen when it is inflated
            yield kind, body, _chunk(kind, body), True
            return
        checksum = data[end - 4 : end] == struct.pack(">I", zlib.crc32(view[at + 4 : end - 4]))
        yield kind, body, data[at:end], checksum
        at = end
        if kind == b"IEND":
            return


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _has_pixels(chunks: list[bytes]) -> bool:
    return any(chunk[4:8] == b"IDAT" for chunk in chunks)


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
        profile = _inflated(body.partition(b"\0")[2][1:])
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
    value = _inflated(rest) if packed else rest
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


def _inflated(data: bytes) -> bytes | None:
    """What zlib has packed; None if it is damaged or larger than anybody needs."""
    inflater = zlib.decompressobj()
    try:
        result = inflater.decompress(data, MAX_METADATA)
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


@dataclasses.dataclass
class Scan:
    """The entropy-coded data of a JPEG file.

    Attributes:
        ends: where each run of data ends.
        restarts: markers in each run.
        intervals: restart intervals that each run must have; 0 if there is no interval.
    """

    ends: list[int] = dataclasses.field(default_factory=list)
    restarts: list[int] = dataclasses.field(default_factory=list)
    intervals: list[int] = dataclasses.field(default_factory=list)
    progressive: bool = False


def jpeg(data: bytes) -> tuple[Found, Scan]:
    """Segments of a JPEG file, to the end of its first picture."""
    found, scan, kept = Found(), Scan(), [data[:2]]
    parts = _JpegParts()
    at, length = 2, 2
    while at + 4 <= len(data):
        if data[at] != 0xFF or data[at + 1] == 0xFF:
            at += 1  # fill bytes, or rubbish that decoders skip
            continue
        marker = data[at + 1]
        if marker == 0xD9:
            break
        if marker in _STANDALONE or marker == 0:
            at += 2
            continue
        size = 2 + struct.unpack_from(">H", data, at + 2)[0]
        body, end = data[at + 4 : at + size], at + size
        if marker == 0xDA:
            closing = _MARKER.search(data, end)
            end = closing.start() if closing else len(data)
            _note_scan(scan, parts, body, data, at + size, end, length - at)
        parts.take(marker, body)
        if marker not in _DROPPED:
            kept.append(data[at:end])
            length += end - at
        at = end
    found.clean = b"".join(kept) + data[at : at + 2]
    scan.progressive = parts.progressive
    parts.give(found)
    return found, scan


def check_restarts(scan: Scan) -> None:
    """Raise PictureError where a scan has fewer restart intervals than its size asks for."""
    for restarts, intervals in zip(scan.restarts, scan.intervals, strict=True):
        if intervals and restarts < intervals - 1:
            raise PictureError("damaged JPEG: its data end before the picture does")


def _note_scan(
    scan: Scan, parts: _JpegParts, header: bytes, data: bytes, start: int, end: int, shift: int
) -> None:
    scan.ends.append(end + shift)
    scan.restarts.append(len(_RESTART.findall(data, start, end)) if parts.interval else 0)
    blocks = parts.blocks(header) if parts.interval else 0
    scan.intervals.append(-(-blocks // parts.interval) if parts.interval else 0)


class _JpegParts:
    """What the segments of a JPEG file say, gathered."""

    def __init__(self) -> None:
        self.exif, self.packet = b"", b""
        self.profile: dict[int, bytes] = {}
        self.profile_count = 0
        self.pieces: list[bytes] = []
        self.dpi: tuple[float, float] | None = None
        self.interval, self.frame, self.pictures = 0, b"", 1
        self.progressive = False

    def take(self, marker: int, body: bytes) -> None:
        if marker == 0xE0 and body.startswith(b"JFIF\0") and len(body) >= 12:
            unit = {1: 1.0, 2: 2.54}.get(body[7])
            across, down = struct.unpack_from(">HH", body, 8)
            self.dpi = (across * unit, down * unit) if unit else None
        elif marker == 0xE1 and body.startswith(b"Exif\0"):
            self.exif += body[6:]
        elif marker == 0xE1 and body.startswith(xmp.JPEG_MARK):
            self.packet = self.packet or body[len(xmp.JPEG_MARK) :]
        elif marker == 0xE1 and body.startswith(xmp.EXTENSION_MARK):
            self.pieces.append(body[len(xmp.EXTENSION_MARK) :])
        elif marker == 0xE2 and body.startswith(b"ICC_PROFILE\0") and len(body) > 14:
            self.profile[body[12]] = body[14:]
            self.profile_count = body[13]
        elif marker == 0xE2 and body.startswith(b"MPF\0"):
            self.pictures = _mpf_pictures(body[4:])
        elif marker == 0xDD and len(body) == 2:
            (self.interval,) = struct.unpack(">H", body)
        elif 0xC0 <= marker <= 0xCF and marker not in {0xC4, 0xC8, 0xCC} and len(body) >= 6:
            self.frame, self.progressive = body, marker in {0xC2, 0xC6, 0xCA, 0xCE}

    def blocks(self, header: bytes) -> int:
        """Minimum coded units of a scan, from its header. ITU-T T.81, A.2."""
        _, height, width, count = struct.unpack_from(">BHHB", self.frame.ljust(6, b"\0"))
        factors = {
            self.frame[i]: (self.frame[i + 1] >> 4, self.frame[i + 1] & 15)
            for i in range(6, min(6 + 3 * count, len(self.frame) - 2), 3)
        }
        if not factors or not header or min(min(pair) for pair in factors.values()) < 1:
            return 0
        most = [max(pair[i] for pair in factors.values()) for i in (0, 1)]
        own = (1, 1)
        if header[0] == 1 and len(header) > 1:
            own = factors.get(header[1], (1, 1))
            across, down = (-(-side * own[i] // most[i]) for i, side in enumerate((width, height)))
            return -(-across // 8) * -(-down // 8)
        return -(-width // (8 * most[0])) * -(-height // (8 * most[1]))

    def give(self, found: Found) -> None:
        found.exif, found.dpi, found.frames = self.exif, self.dpi, self.pictures
        count = self.profile_count
        if count and sorted(self.profile) == list(range(1, count + 1)):
            found.icc = b"".join(self.profile[number] for number in range(1, count + 1))
        elif self.profile:
            found.notes.append("ICC profile left out: parts of it are missing")
        found.xmp = self.packet
        if self.pieces:
            whole = xmp.joined(self.packet, self.pieces)
            found.xmp = whole or self.packet
            if whole is None:
                found.notes.append("extended XMP left out: it is damaged")


def _mpf_pictures(body: bytes) -> int:
    """How many pictures a multi-picture JPEG says it has (CIPA DC-007)."""
    order = "<" if body[:2] == b"II" else ">"
    try:
        (start,) = struct.unpack_from(order + "I", body, 4)
        (count,) = struct.unpack_from(order + "H", body, start)
        for at in range(start + 2, start + 2 + 12 * min(count, 32), 12):
            tag, _, _, value = struct.unpack_from(order + "HHII", body, at)
            if tag == 0xB001:
                return max(1, int(value))
    except struct.error:
        pass
    return 1


def webp(data: bytes) -> Found:
    """Chunks of a WebP file. Raises PictureError if it is cut short."""
    (size,) = struct.unpack_from("<I", data, 4)
    if size + 8 > len(data) + 1:
        raise PictureError("damaged WebP: image file is truncated")
    found = Found()
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


def bmp(data: bytes) -> Found:
    """The profile that a bitmap of version 5 can hold."""
    found = Found()
    if len(data) > 138 and data[14:18] == b"\x7c\0\0\0" and data[70:74] == b"DEBM":
        at, size = struct.unpack_from("<II", data, 126)
        found.icc = data[14 + at : 14 + at + size] if 14 + at + size <= len(data) else b""
    return found
