"""What stands around the pixels in files made of boxes: AVIF, HEIC, JPEG 2000, JPEG XL.

ISO/IEC 14496-12 (boxes), 23008-12 (items and properties), 15444-1 annex I (JP2).
"""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Iterator

from vrcodec.errors import PictureError
from vrcodec.pictures import av1
from vrcodec.pictures.containers import MAX_METADATA, Found, Turned

_FULL_BOX = 4
_MAX_BOXES = 10_000
_SEQUENCE = 200
"""Bytes at the beginning of an AV1 stream in which its sequence header is."""
_XMP_UUID = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")
_EXIF_UUID = b"JpgTiffExif->JP2"
_SIZ = b"\xff\x4f\xff\x51"
_SOT, _EOC, _SOT_LENGTH = b"\xff\x90", b"\xff\xd9", 12
_JXL_HEAD = 40
"""Bytes of a JPEG XL codestream in which all is that is wanted of it."""
_JP2_SPACES = {12, 16, 17, 18}
"""Enumerated colour spaces that are read right: CMYK, sRGB, grey, sYCC."""

Box = tuple[bytes, int, int]
"""Kind, and where its contents begin and end."""


def boxes(data: bytes, start: int, end: int) -> Iterator[Box]:
    """The boxes between two places of a file, as far as they are whole."""
    for _ in range(_MAX_BOXES):
        if start + 8 > end:
            return
        size, kind = struct.unpack_from(">I4s", data, start)
        head = 8
        if size == 1 and start + 16 <= end:
            (size,) = struct.unpack_from(">Q", data, start + 8)
            head = 16
        elif size == 0:
            size = end - start
        if size < head or start + size > end:
            return
        yield kind, start + head, start + size
        start += size


def _inside(data: bytes, kinds: tuple[bytes, ...], start: int, end: int) -> Box | None:
    """A box by the kinds of those around it and its own."""
    for kind, first, last in boxes(data, start, end):
        if kind == kinds[0]:
            skip = _FULL_BOX if kind == b"meta" else 0
            inner = first + skip
            return (kind, inner, last) if len(kinds) == 1 else _inside(data, kinds[1:], inner, last)
    return None


def heif(data: bytes) -> Found:
    """Colour, depth and metadata of an AVIF or HEIC file; the clean file shows no EXIF item.

    Raises:
        PictureError: a picture in it is of another size than declared.
    """
    found = Found()
    try:
        meta = _inside(data, (b"meta",), 0, len(data))
        if meta is None:
            return found
        _heif_properties(data, meta, found)
        found.clean = _heif_items(data, meta, found)
    except (struct.error, IndexError):
        found.notes.append("metadata left out: damaged")
    return found


def _heif_properties(data: bytes, meta: Box, found: Found) -> None:
    container = _inside(data, (b"iprp", b"ipco"), meta[1], meta[2])
    if container is None:
        return
    own, size = _primary_properties(data, meta), None
    for number, (kind, start, end) in enumerate(boxes(data, container[1], container[2]), 1):
        if kind == b"av1C" and end - start >= 3 and found.bits is None and data[start + 2] & 0x40:
            found.bits = 12 if data[start + 2] & 0x20 else 10
        if own and number not in own:
            continue
        if number in own and kind == b"irot" and data[start:end]:
            quarter = bool(data[start] & 1)
            found.turned = Turned(bool(data[start] & 3) or found.turned.at_all, quarter)
        elif number in own and kind == b"imir":
            found.turned = found.turned._replace(at_all=True)
        if kind == b"ispe" and end - start >= _FULL_BOX + 8:
            size = struct.unpack_from(">II", data, start + _FULL_BOX)
        if kind == b"colr" and data[start : start + 4] == b"nclx":
            primaries, transfer = struct.unpack_from(">HH", data, start + 4)
            found.cicp = found.cicp or (primaries, transfer)
        elif kind == b"colr" and data[start : start + 4] in {b"prof", b"rICC"}:
            found.icc = found.icc or data[start + 4 : end]
    found.size = size


def _primary_properties(data: bytes, meta: Box) -> set[int]:
    """Numbers of the properties that the primary item has; empty if that is not said."""
    primary = _inside(data, (b"pitm",), meta[1], meta[2])
    association = _inside(data, (b"iprp", b"ipma"), meta[1], meta[2])
    if primary is None or association is None:
        return set()
    wide = data[primary[1]] > 0
    (wanted,) = struct.unpack_from(">I" if wide else ">H", data, primary[1] + _FULL_BOX)
    version, flags = data[association[1]], data[association[1] + 3]
    (count,) = struct.unpack_from(">I", data, association[1] + _FULL_BOX)
    at = association[1] + _FULL_BOX + 4
    for _ in range(min(count, _MAX_BOXES)):
        (item,) = struct.unpack_from(">I" if version else ">H", data, at)
        at += 4 if version else 2
        many, at = data[at], at + 1
        form = ">H" if flags & 1 else ">B"
        size = struct.calcsize(form)
        own = {
            struct.unpack_from(form, data, at + size * i)[0] & (0x7FFF if flags & 1 else 0x7F)
            for i in range(many)
        }
        if item == wanted:
            return own
        at += size * many
    return set()


def _heif_items(data: bytes, meta: Box, found: Found) -> bytes | None:
    """Fetch the items of metadata. Returns the file without the name of its EXIF item."""
    listing = _inside(data, (b"iinf",), meta[1], meta[2])
    if listing is None:
        return None
    clean, items = bytearray(data), _Items(data, meta)
    start = listing[1] + _FULL_BOX + (4 if data[listing[1]] else 2)
    for kind, first, last in boxes(data, start, listing[2]):
        version = data[first]
        at = first + _FULL_BOX + (4 if version == 3 else 2)
        (item,) = struct.unpack_from(">I" if version == 3 else ">H", data, first + _FULL_BOX)
        name = data[at + 2 : at + 6]
        if name == b"av01":
            _check_frame(items.begin(item), found)
        if kind != b"infe" or version < 2:
            continue
        if name == b"Exif":
            clean[at + 2 : at + 6] = b"exiF"
            body = b"" if found.exif else items.whole(item)
            skip = 4 + struct.unpack_from(">I", body)[0] if len(body) >= 4 else 0
            found.exif = found.exif or body[skip:]
        elif name == b"mime" and b"application/rdf+xml" in data[at + 6 : last]:
            found.xmp = found.xmp or items.whole(item)
    return bytes(clean)


def _check_frame(stream: bytes, found: Found) -> None:
    """Raise PictureError for a picture larger than the file says: libavif would scale it down."""
    size = av1.frame_size(stream)
    if size and found.size and (size[0] > found.size[0] or size[1] > found.size[1]):
        raise PictureError(f"damaged AVIF: a picture of {size[0]}x{size[1]} inside another size")


class _Items:
    """The items of a file, from wherever their bytes lie. Each is given once.

    Attributes:
        room: bytes that may still be fetched, since items may overlap.
    """

    def __init__(self, data: bytes, meta: Box) -> None:
        self.data, self.places = data, _locations(data, meta)
        stored = _inside(data, (b"idat",), meta[1], meta[2])
        self.stored = stored[1] if stored else 0
        self.room = 2 * MAX_METADATA

    def begin(self, item: int) -> bytes:
        """The bytes of an item in which the sequence header of its AV1 stream is."""
        return self._fetch(self.places.pop(item, None), _SEQUENCE)

    def whole(self, item: int) -> bytes:
        """An item; nothing of one that is too large."""
        place = self.places.pop(item, None)
        size = sum(length for _, length in place.extents) if place else 0
        if size > min(MAX_METADATA, self.room):
            return b""
        self.room -= size
        return self._fetch(place, size)

    def _fetch(self, place: _Location | None, most: int) -> bytes:
        parts, shift = [], self.stored if place and place.inside else 0
        for start, length in place.extents if place else ():
            parts.append(self.data[shift + start : shift + start + min(length, most)])
            most -= len(parts[-1])
        return b"".join(parts)


@dataclasses.dataclass
class _Location:
    """Where an item lies: in the file, or inside the box `idat`."""

    inside: bool
    extents: list[tuple[int, int]]


def _locations(data: bytes, meta: Box) -> dict[int, _Location]:
    """Where each item lies. Raises PictureError for more parts than anybody writes."""
    found: dict[int, _Location] = {}
    box = _inside(data, (b"iloc",), meta[1], meta[2])
    if box is None:
        return found
    version, at = data[box[1]], box[1] + _FULL_BOX
    sizes = data[at] >> 4, data[at] & 15, data[at + 1] >> 4, data[at + 1] & 15
    wide = version == 2
    (count,) = struct.unpack_from(">I" if wide else ">H", data, at + 2)
    at += 6 if wide else 4
    parts = 0

    def number(size: int) -> int:
        nonlocal at
        at += size
        return int.from_bytes(data[at - size : at], "big")

    for _ in range(count):
        item = number(4 if wide else 2)
        method = number(2) & 15 if version else 0
        number(2)  # data reference
        base, extents = number(sizes[2]), number(2)
        parts += 1 + extents
        if parts > _MAX_BOXES:
            raise PictureError(f"AVIF or HEIC of more than {_MAX_BOXES:,} parts")
        if at > len(data):
            raise struct.error
        place = _Location(method == 1, [])
        for _ in range(extents):
            if version and sizes[3]:
                number(sizes[3])
            start = base + number(sizes[0])
            place.extents.append((start, number(sizes[1])))
        found.setdefault(item, place)
    return found


def jpeg2000(data: bytes) -> Found:
    """Colour, depth and metadata of a JPEG 2000 file.

    Raises:
        PictureError: of a kind whose samples are not known to be read right.
    """
    found = Found()
    stream = 0
    try:
        if not data.startswith(_SIZ):
            for kind, start, end in boxes(data, 0, len(data)):
                if kind == b"jp2h":
                    _jp2_header(data, start, end, found)
                elif kind == b"uuid" and data[start : start + 16] == _XMP_UUID:
                    found.xmp = data[start + 16 : end]
                elif kind == b"uuid" and data[start : start + 16] == _EXIF_UUID:
                    found.exif = data[start + 16 : end]
                elif kind == b"jp2c":
                    stream = stream or start
        _components(data, stream, found)
        _check_tiles(data, stream)
    except (struct.error, IndexError):
        raise PictureError("damaged JPEG 2000 header") from None
    return found


def _jp2_header(data: bytes, start: int, end: int, found: Found) -> None:
    method = None
    for kind, first, last in boxes(data, start, end):
        if kind == b"ihdr":
            height, width = struct.unpack_from(">II", data, first)
            found.size = width, height
        elif kind == b"colr" and method is None:
            method = data[first]
            if method == 1:
                (space,) = struct.unpack_from(">I", data, first + 3)
                if space not in _JP2_SPACES:
                    raise PictureError(f"JPEG 2000 of colour space {space} is not supported")
            elif method in {2, 3}:
                found.icc = data[first + 3 : last]
            else:
                raise PictureError(f"JPEG 2000 with colour by method {method} is not supported")
        elif kind == b"cdef":
            _channels(data, first)


def _channels(data: bytes, start: int) -> None:
    (count,) = struct.unpack_from(">H", data, start)
    for number in range(count):
        channel, kind, colour = struct.unpack_from(">HHH", data, start + 2 + 6 * number)
        if (kind == 0 and colour not in {channel + 1, 0xFFFF}) or kind not in {0, 1}:
            raise PictureError("JPEG 2000 with channels in an unusual order is not supported")
        if kind == 1 and channel != count - 1:
            raise PictureError("JPEG 2000 with alpha before colour is not supported")


def _components(data: bytes, stream: int, found: Found) -> None:
    """Size, precision and sign of the components, from the segment SIZ (annex A.5.1)."""
    if data[stream : stream + 4] != _SIZ:
        raise PictureError("JPEG 2000 without a codestream")
    right, bottom, left, top = struct.unpack_from(">IIII", data, stream + 8)
    if found.size not in {None, (right - left, bottom - top)}:
        raise PictureError("damaged JPEG 2000: two sizes")
    found.size = right - left, bottom - top
    (count,) = struct.unpack_from(">H", data, stream + 4 + 36)
    depths = {data[stream + 4 + 38 + 3 * number] for number in range(count)}
    if len(depths) != 1:
        raise PictureError("JPEG 2000 with components of several depths is not supported")
    (depth,) = depths
    if depth & 0x80:
        raise PictureError("JPEG 2000 with signed samples is not supported")
    found.bits = (depth & 0x7F) + 1
    if not 8 <= found.bits <= 16:
        raise PictureError(f"JPEG 2000 of {found.bits} bits per sample is not supported")
    if count > 1 and found.bits > 8:  # Pillow rounds white up, to black
        raise PictureError(
            f"JPEG 2000 of {found.bits} bits per sample with {count} components is not supported"
        )


def _check_tiles(data: bytes, stream: int) -> None:
    """Raise PictureError unless there is a part of every tile, and each is whole (annex A.4)."""
    right, bottom, _, _, across, down, left, top = struct.unpack_from(">8I", data, stream + 8)
    if not across or not down:
        raise PictureError("damaged JPEG 2000: tiles without a size")
    wanted = -(-(right - left) // across) * -(-(bottom - top) // down)
    at, seen = stream + 2, set[int]()
    while data[at : at + 2] not in {_SOT, _EOC, b""}:
        at += 2 + struct.unpack_from(">H", data, at + 2)[0]
    while data[at : at + 2] == _SOT:
        tile, length = struct.unpack_from(">HI", data, at + 4)
        seen.add(tile)
        at = at + length if length else len(data)
        if at > len(data) or 0 < length < _SOT_LENGTH:
            raise PictureError("damaged JPEG 2000: image file is truncated")
    if len(seen) != wanted:
        raise PictureError(f"damaged JPEG 2000: {len(seen)} of {wanted} tiles are there")


def jxl(data: bytes) -> Found:
    """Metadata of a JPEG XL file in a container, as far as it is not compressed."""
    found = Found()
    if data.startswith(b"\xff\x0a"):
        _jxl_header(data[2:_JXL_HEAD], found)
        return found
    for kind, start, end in boxes(data, 0, len(data)):
        if kind == b"Exif" and end - start > 4:
            found.exif = data[start + 4 + int.from_bytes(data[start : start + 4], "big") : end]
        elif kind == b"jxlc" and data[start : start + 2] == b"\xff\x0a":
            _jxl_header(data[start + 2 : start + _JXL_HEAD], found)
        elif kind == b"jxlp" and data[start + 4 : start + 6] == b"\xff\x0a":
            _jxl_header(data[start + 6 : start + 4 + _JXL_HEAD], found)
        elif kind == b"xml ":
            found.xmp = data[start:end]
        elif kind == b"brob":
            found.notes.append("compressed metadata left out")
    return found


def _jxl_header(data: bytes, found: Found) -> None:
    """Size, orientation and depth of a codestream (ISO/IEC 18181-1, SizeHeader, ImageMetadata)."""
    value, at = int.from_bytes(data, "little"), 0

    def bits(count: int) -> int:
        nonlocal at
        at += count
        return value >> (at - count) & (1 << count) - 1

    def choice(*options: int | tuple[int, int]) -> int:
        """One of four: a number, or so many bits to be added to one."""
        option = options[bits(2)]
        return option if isinstance(option, int) else option[0] + bits(option[1])

    def side(small: int) -> int:
        return 8 * (1 + bits(5)) if small else choice((1, 9), (1, 13), (1, 18), (1, 30))

    def size() -> tuple[int, int]:
        small = bits(1)
        height, ratio = side(small), bits(3)
        over, under = ((0, 1), (1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))[ratio]
        return (height * over // under if ratio else side(small)), height

    found.size = size()
    if bits(1):  # everything else is usual
        return
    if bits(1):
        found.turned = Turned.by(1 + bits(3))
        if bits(1):
            size()  # as it is meant to be shown
        if bits(1):
            return  # a preview, which nobody writes
        if bits(1):  # animation: ticks, loops, time codes
            choice(100, 1000, (1, 10), (1, 30)), choice(1, 1001, (1, 8), (1, 10))
            choice(0, (0, 3), (0, 16), (0, 32)), bits(1)
    floating = bits(1)
    found.bits = choice(32, 16, 24, (1, 6)) if floating else choice(8, 10, 12, (1, 6))
