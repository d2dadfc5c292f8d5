"""TIFF files before Pillow reads them: which are read right, their pages, their EXIF.

What is not on the list here is refused by name: a raw photograph's first picture is a thumbnail,
and Pillow reads some samples (signed, in planes, white at zero) as what they are not.
"""

from __future__ import annotations

import contextlib
import dataclasses
import struct
import zlib
from collections.abc import Collection
from typing import BinaryIO

from vrcodec.errors import PictureError
from vrcodec.pictures import exif
from vrcodec.pictures.containers import AS_STORED, Turned
from vrcodec.pictures.exif import Directory

MAX_PAGES = 1000
"""Pages are counted up to here."""

_SUBFILE, _OLD_SUBFILE, _SUB_IFDS = 254, 255, 330
_DNG_VERSION, _EP_STANDARD = 50706, 37398
_MASKED, _LINEAR_RAW = 32803, 34892
_PHOTOMETRIC_NAMES = {
    4: "a transparency mask",
    9: "ICCLab colours",
    10: "ITULab colours",
    32844: "LogL luminance",
    32845: "LogLuv colours",
}
_COMPRESSIONS = {1, 2, 3, 4, 5, 7, 8, 32773, 32946, 34925, 50000, 50001}
"""None, CCITT, LZW, JPEG, deflate, PackBits, LZMA, Zstandard, WebP."""
_MAX_VALUES = 64_000_000
"""Bytes of all values of a directory, at most."""
_MOST_SHARED, _MOST_BEYOND = 16, 1 << 20
"""How often all strips or tiles may be in the file, as some are shared, and bytes beyond it."""
_KINDS_64 = {16: "Q", 17: "q", 18: "Q"}


@dataclasses.dataclass(frozen=True)
class Samples:
    """What the samples of a TIFF file are.

    Attributes:
        bits: per sample.
        inverted: of 16 bits, with white at zero, which Pillow passes over.
        whole: largest value of whole numbers of 32 bits, all of which Pillow takes for signed
            ones; 0 for other samples.
        pages: pictures in the file, at most MAX_PAGES.
        tree: EXIF, as raw entries.
        orientation: what is still to do to the pixels, whatever XMP says; None: as that says.
        turned: what Pillow does by itself, by the orientation that is said.
        icc, xmp: as they stand there.
        compression: its number.
        pieces: where strips or tiles begin, and their bytes.
        size: width and height of the picture, before it is turned.
        piece: the same of each strip or tile.
        tiled: they are tiles.
        fax_options: T4Options or T6Options.
        reversed_bits: the lowest bit of a byte comes first.
        jpeg_tables: what the pieces have in common, if they are JPEG.
    """

    bits: int
    inverted: bool
    whole: int
    pages: int
    tree: exif.Tree
    orientation: int | None
    turned: Turned
    icc: bytes
    xmp: bytes
    compression: int
    pieces: tuple[tuple[int, int], ...]
    size: tuple[int, int]
    piece: tuple[int, int]
    tiled: bool
    fax_options: int
    reversed_bits: bool
    jpeg_tables: bytes


class _File:
    """Directories of a TIFF or BigTIFF file."""

    def __init__(self, stream: BinaryIO) -> None:
        self.stream = stream
        head = self._at(0, 16)
        self.order = "<" if head[:2] == b"II" else ">"
        self.big = 43 in (head[2], head[3])
        self.raw_mark = head[8:10] == b"CR"
        form, at = ("Q", 8) if self.big else ("I", 4)
        (self.first,) = struct.unpack_from(self.order + form, head, at)

    def _at(self, place: int, size: int) -> bytes:
        self.stream.seek(place)
        return self.stream.read(size)

    def _head(self, place: int) -> tuple[int, int, int]:
        """Number of entries, where they begin, bytes of each."""
        form, size = ("Q", 20) if self.big else ("H", 12)
        length = struct.calcsize(form)
        (count,) = struct.unpack(self.order + form, self._at(place, length))
        if count > 65535:
            raise struct.error
        return count, place + length, size

    def size(self) -> int:
        return self.stream.seek(0, 2)

    def next(self, place: int) -> int:
        """Where the following directory is; 0 after the last. Raises struct.error."""
        count, start, size = self._head(place)
        form = self.order + ("Q" if self.big else "I")
        return int(struct.unpack(form, self._at(start + size * count, struct.calcsize(form)))[0])

    def directory(self, place: int, only: Collection[int] = ()) -> Directory:
        """The entries of a directory whose values are there: all, or these. Raises struct.error."""
        budget = _MAX_VALUES
        count, start, size = self._head(place)
        body = self._at(start, count * size)
        found: Directory = {}
        inline = 8 if self.big else 4
        for at in range(0, len(body) - size + 1, size):
            tag, kind = struct.unpack_from(self.order + "HH", body, at)
            (values,) = struct.unpack_from(self.order + ("Q" if self.big else "I"), body, at + 4)
            unit = 8 if kind in _KINDS_64 else exif.KIND_SIZES.get(kind, 0)
            length, value = unit * values, body[at + size - inline : at + size]
            if not 0 < length <= budget or (only and tag not in only):
                continue
            budget -= length
            if length > inline:
                (where,) = struct.unpack(self.order + ("Q" if self.big else "I"), value)
                value = self._at(where, length) if where < 1 << 62 else b""
            if len(value) >= length and tag not in found:
                found[tag] = kind, value[:length]
        return found

    def numbers(self, directory: Directory, tag: int) -> tuple[int, ...]:
        """The integers of an entry, none if it has none."""
        kind, value = directory.get(tag, (0, b""))
        form = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 13: "I", **_KINDS_64}.get(kind)
        if form is None:
            return ()
        return struct.unpack(f"{self.order}{len(value) // struct.calcsize(form)}{form}", value)

    def number(self, directory: Directory, tag: int, default: int = 0) -> int:
        return (*self.numbers(directory, tag), default)[0]


def inspect(stream: BinaryIO) -> Samples:
    """Look at a TIFF file, and refuse what would be read wrong.

    Raises:
        PictureError: names what the file is.
    """
    try:
        file = _File(stream)
        first = file.directory(file.first)
        _refuse_raw(file, first)
        if file.big and file.order == ">":
            raise PictureError("big-endian BigTIFF is not supported")
        bits = _check_samples(file, first)
        photometric = file.number(first, 262)
        orientation, turned = _orientation(file, first)
        return Samples(
            bits,
            inverted=bits == 16 and photometric == 0,
            whole={1: 2**32 - 1, 2: 2**31 - 1}.get(file.number(first, 339, 1), 0) * (bits == 32),
            pages=_pages(file),
            tree=_tree(file, first),
            orientation=orientation,
            turned=turned,
            icc=first.get(34675, (0, b""))[1],
            xmp=first.get(exif.XMP, (0, b""))[1],
            compression=file.number(first, 259, 1),
            pieces=_pieces(file, first),
            size=(file.number(first, 256), file.number(first, 257)),
            piece=_piece(file, first),
            tiled=322 in first,
            fax_options=file.number(first, 293 if file.number(first, 259) == 4 else 292),
            reversed_bits=file.number(first, 266, 1) == 2,
            jpeg_tables=first.get(347, (0, b""))[1],
        )
    except (struct.error, IndexError, OverflowError, ValueError):
        raise PictureError("damaged TIFF: its first directory cannot be read") from None


def check_deflated(stream: BinaryIO, samples: Samples, most: int) -> None:
    """Inflate every piece of a deflated file: libtiff does not look at their checksums.

    Args:
        stream: the file.
        samples: what `inspect` found.
        most: bytes that all pieces together can have when inflated.

    Raises:
        PictureError: a piece is damaged.
    """
    for place, length in samples.pieces:
        stream.seek(place)
        inflater, body = zlib.decompressobj(), stream.read(length)
        try:
            while body and not inflater.eof and most >= 0:
                most -= len(inflater.decompress(body, 1 << 20))
                body = inflater.unconsumed_tail
        except zlib.error as error:
            raise PictureError(f"damaged TIFF: {error}") from None
        if not inflater.eof:
            raise PictureError("damaged TIFF: a part of it is not whole")


def _pieces(file: _File, first: Directory) -> tuple[tuple[int, int], ...]:
    """Where strips or tiles begin, and their bytes, which are few if they do not overlap."""
    for places, lengths in ((273, 279), (324, 325)):
        if places in first:
            starts, sizes = file.numbers(first, places), file.numbers(first, lengths)
            if sum(sizes) > _MOST_SHARED * file.size() + _MOST_BEYOND:
                raise PictureError("damaged TIFF: its strips or tiles overlap")
            wanted = _wanted_pieces(file, first)
            found = tuple(zip(starts, sizes or (0,) * (wanted == 1), strict=False))[:wanted]
            if len(found) < wanted or (wanted > 1 and not all(map(all, found))):
                raise PictureError("damaged TIFF: some of its strips or tiles are missing")
            return found
    return ()


def _wanted_pieces(file: _File, first: Directory) -> int:
    """How many strips or tiles a picture needs."""
    across, down = _piece(file, first)
    if across < 1 or down < 1:
        raise PictureError("damaged TIFF: strips or tiles without a size")
    planes = file.number(first, 277, 1) if file.number(first, 284, 1) == 2 else 1
    width, height = file.number(first, 256), file.number(first, 257)
    return planes * -(-width // across) * -(-height // down)


def _piece(file: _File, first: Directory) -> tuple[int, int]:
    """Width and height of a strip or tile."""
    width, height = file.number(first, 256), file.number(first, 257)
    if 322 in first:
        return file.number(first, 322), file.number(first, 323)
    return width, min(height, file.number(first, 278) or height)


def _refuse_raw(file: _File, first: Directory) -> None:
    """Raise PictureError where the first picture is not what the file is about."""
    photometric = file.number(first, 262)
    if _DNG_VERSION in first:
        raise PictureError("a raw photograph (DNG) is not supported")
    if file.raw_mark or _EP_STANDARD in first or photometric in {_MASKED, _LINEAR_RAW}:
        raise PictureError("a raw photograph (TIFF/EP) is not supported")
    size = file.number(first, 256) * file.number(first, 257)
    for place in file.numbers(first, _SUB_IFDS)[:100]:
        with contextlib.suppress(struct.error):
            inner = file.directory(place, only=(256, 257, 262))
            if file.number(inner, 262) in {_MASKED, _LINEAR_RAW}:
                raise PictureError("a raw photograph (TIFF) is not supported")
            if file.number(inner, 256) * file.number(inner, 257) > size:
                raise PictureError("TIFF whose first picture is a thumbnail of a larger picture")
    reduced = file.number(first, _SUBFILE) & 1 or file.number(first, _OLD_SUBFILE) == 2
    if reduced:
        raise PictureError("TIFF whose first picture is a thumbnail (reduced resolution)")
    if file.number(first, _SUBFILE) & 4:
        raise PictureError("TIFF whose first picture is a transparency mask")


def _check_samples(file: _File, first: Directory) -> int:
    """Bits per sample of a picture that is read right; PictureError names every other."""
    if 262 not in first:
        raise PictureError("TIFF without photometric interpretation")
    photometric = file.number(first, 262)
    if photometric not in {0, 1, 2, 3, 5, 6, 8}:
        what = _PHOTOMETRIC_NAMES.get(photometric, f"photometric interpretation {photometric}")
        raise PictureError(f"TIFF with {what} is not supported")
    compression = file.number(first, 259, 1)
    if compression not in _COMPRESSIONS:
        raise PictureError(f"TIFF with compression {compression} is not supported")
    depths = set(file.numbers(first, 258) or (1,))
    forms = set(file.numbers(first, 339) or (1,))
    if len(depths) > 1 or len(forms) > 1:
        raise PictureError("TIFF with samples of several kinds is not supported")
    (bits,), (form,) = depths, forms
    kind = {1: "unsigned", 2: "signed", 3: "floating-point"}.get(form, f"(format {form})")
    samples = file.number(first, 277, 1)
    if (form == 2 and bits != 32) or form > 3:
        raise PictureError(f"TIFF with {kind} {bits}-bit samples is not supported")
    if form == 3 and (bits != 32 or samples > 1 or photometric != 1):
        what = "white at zero" if photometric == 0 else f"{samples} samples of {bits} bits"
        raise PictureError(f"floating-point TIFF with {what} is not supported")
    grey = photometric in {0, 1} and samples == 1
    if bits not in ({1, 2, 4, 8, 12, 16, 32} if grey else {1, 2, 4, 8, 16}):
        raise PictureError(f"TIFF with {bits}-bit samples is not supported")
    if photometric == 0 and bits > 16:
        raise PictureError(f"TIFF of {bits} bits with white at zero is not supported")
    _check_layout(file, first, bits, samples, compression)
    return bits


def _check_layout(file: _File, first: Directory, bits: int, samples: int, compression: int) -> None:
    photometric = file.number(first, 262)
    if file.number(first, 284, 1) == 2 and (bits != 8 or samples == 1 or photometric == 6):
        raise PictureError(f"TIFF of {bits} bits in separate planes is not supported")
    if photometric == 5 and file.number(first, 332, 1) != 1:
        raise PictureError("TIFF with inks other than CMYK is not supported")
    if file.number(first, 32997, 1) > 1:
        raise PictureError("TIFF of a volume (several slices) is not supported")
    if photometric == 6 and compression != 7:
        if file.numbers(first, 530) != (1, 1):
            raise PictureError("TIFF with subsampled YCbCr colours is not supported")
        if 532 in first and file.number(first, 339, 1) != 1:
            raise PictureError("TIFF with unusual YCbCr colours is not supported")
    if any(side <= 0 for side in (file.number(first, 256), file.number(first, 257))):
        raise PictureError("TIFF without dimensions")


def _pages(file: _File) -> int:
    place, seen = file.first, set[int]()
    with contextlib.suppress(struct.error, OverflowError, ValueError):
        while place and place not in seen and len(seen) < MAX_PAGES:
            seen.add(place)
            place = file.next(place)
    return max(1, len(seen))


def _orientation(file: _File, first: Directory) -> tuple[int | None, Turned]:
    """Orientation that is left to do, and what Pillow does, which passes over bytes."""
    if exif.ORIENTATION not in first:
        return None, AS_STORED
    kind, value = first[exif.ORIENTATION]
    single = len(value) == exif.KIND_SIZES.get(kind)
    wanted = exif.number(kind, value, file.order) if single else None
    if wanted is None or wanted not in range(1, 9):
        return 1, AS_STORED
    return (int(wanted), AS_STORED) if kind == 1 else (1, Turned.by(wanted))


def _tree(file: _File, first: Directory) -> exif.Tree:
    """The EXIF in a TIFF file: what describes the picture and not its storage."""
    below: dict[int, Directory] = {}
    for tag, owner in ((exif.EXIF_IFD, first), (exif.GPS_IFD, first), (exif.INTEROP_IFD, None)):
        place = file.number(below.get(exif.EXIF_IFD, {}) if owner is None else owner, tag)
        if place:
            with contextlib.suppress(struct.error):
                below[tag] = {
                    inner: raw
                    for inner, raw in file.directory(place).items()
                    if raw[0] in exif.KIND_SIZES
                }
    described = ((tag, first.get(tag, (0, b""))) for tag in exif.DESCRIPTIVE)
    kept = {tag: raw for tag, raw in described if raw[0] in exif.KIND_SIZES}
    return exif.Tree(file.order, kept, below)
