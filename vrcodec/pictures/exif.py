"""EXIF as raw entries: read, checked, turned upright, carried into TIFF; no value is re-encoded.

An EXIF block is a small TIFF file (Exif 2.32, section 4.6.2): directories of entries of 12 bytes,
each a tag, a type, a count and a value, or where the value lies if it is longer than 4 bytes.
"""

from __future__ import annotations

import dataclasses
import math
import struct
from collections.abc import Iterator, Mapping

PREFIX = b"Exif\0\0"
EXIF_IFD, GPS_IFD, INTEROP_IFD = 34665, 34853, 40965
ORIENTATION, THUMBNAIL_AT, XMP = 274, 513, 700
KIND_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
"""Bytes of one value of each type."""
DESCRIPTIVE = (
    *(269, 270, 271, 272, 285, 305, 306, 315, 316),
    *(18246, 18249, 33432),
    *(40091, 40092, 40093, 40094, 40095),
)
"""Tags that mean the same in any TIFF file: names of document and page, description, make, model,
software, date, artist, host computer; rating, copyright; and Windows' title, comment, author,
keywords, subject. The others describe how one is stored."""

_NUMBERS = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 13: "I"}
_NUMBERS |= {5: "II", 10: "ii", 11: "f", 12: "d"}
"""How a value of each numeric type is stored; of rationals, above and below the line."""
_SWAPPED = {5: "I", 10: "I", 3: "H", 8: "H", 4: "I", 9: "I", 11: "I", 12: "Q", 13: "I"}
_POINTERS = {EXIF_IFD, GPS_IFD, INTEROP_IFD}
_SIDES = {282: 283, 40962: 40963}
"""Tags of the two sides that change places when a picture is turned: resolution, and pixels."""
_RESOLUTION_UNIT = 296
_MOST_DIRECTORIES = 16

Raw = tuple[int, bytes]
"""An entry's type, and its value as it is stored."""
Directory = dict[int, Raw]


class ExifError(ValueError):
    """A block has no directory that can be read."""


@dataclasses.dataclass(frozen=True)
class _Entry:
    """Where an entry stands in a block."""

    at: int
    tag: int
    kind: int
    count: int
    value: int

    @property
    def size(self) -> int:
        return self.count * KIND_SIZES.get(self.kind, 0)


class Block:
    """An EXIF block that is changed in place, so that whatever is not understood stays.

    Args:
        data: with or without the prefix "Exif".

    Raises:
        ExifError: it has no first directory that lies in it.
    """

    def __init__(self, data: bytes) -> None:
        while data.startswith(PREFIX):
            data = data[len(PREFIX) :]
        self.data = bytearray(data)
        self.order = {b"II*\0": "<", b"MM\0*": ">"}.get(data[:4], "")
        if not self.order or len(data) < 14:
            raise ExifError("not an EXIF block, or a truncated one")
        self.first = int(self._unpack("I", 4)[0])
        if not 8 <= self.first <= len(data) - 2 or not self._end(self.first) <= len(data):
            raise ExifError("truncated")

    def directories(self) -> Iterator[int]:
        """Where the directories begin: the first, Exif, GPS, Interop, and that of the thumbnail.

        Raises:
            ExifError: they are more than anybody writes.
        """
        waiting, seen = [self.first], set[int]()
        if thumbnail := self._next(self.first):
            waiting.append(thumbnail)
        while waiting:
            place = waiting.pop(0)
            if place in seen or not self._whole(place):
                continue
            seen.add(place)
            yield place
            waiting += [
                self._pointer(entry) for entry in self.entries(place) if entry.tag in _POINTERS
            ]
            if len(seen) + len(waiting) > _MOST_DIRECTORIES:
                raise ExifError("too many directories")

    def entries(self, directory: int) -> list[_Entry]:
        """The entries of a directory, damaged ones too."""
        (count,) = self._unpack("H", directory)
        found = []
        for at in range(directory + 2, directory + 2 + 12 * count, 12):
            tag, kind, values = self._unpack("HHI", at)
            entry = _Entry(at, tag, kind, values, at + 8)
            if entry.size > 4:
                entry = dataclasses.replace(entry, value=int(self._unpack("I", at + 8)[0]))
            found.append(entry)
        return found

    def read(self, directory: int) -> Directory:
        """The sound entries of a directory by tag."""
        return {
            entry.tag: (entry.kind, bytes(self.data[entry.value : entry.value + entry.size]))
            for entry in self.entries(directory)
            if self._sound(entry)
        }

    def mend(self) -> int:
        """Take out entries that cannot be read. Returns how many that were."""
        removed = 0
        if (thumbnail := self._next(self.first)) and not self._whole(thumbnail):
            self.drop_thumbnail()
            removed += 1
        for directory in list(self.directories()):
            bad = [entry for entry in self.entries(directory) if not self._sound(entry)]
            self._remove(directory, bad)
            removed += len(bad)
        return removed

    def remove(self, tag: int) -> None:
        """Take a tag out of the first directory."""
        self._remove(self.first, [entry for entry in self.entries(self.first) if entry.tag == tag])

    def orientation(self) -> int | None:
        """The orientation, 1 to 8, of whatever numeric type; None where there is none."""
        for entry in self.entries(self.first):
            value = self._number(entry) if entry.tag == ORIENTATION else None
            if value is not None and value in range(1, 9):
                return int(value)
        return None

    def resolution(self) -> tuple[float, float] | None:
        """Dots per inch, horizontal and vertical; None where they are not said."""
        numbers = {entry.tag: self._number(entry) for entry in self.entries(self.first)}
        across, down = numbers.get(282), numbers.get(283)
        unit = {2.0: 1.0, 3.0: 2.54}.get(numbers.get(_RESOLUTION_UNIT) or 2)
        if not across or not down or not unit:
            return None
        return across * unit, down * unit

    def set_upright(self, turned: bool, sideways: bool) -> None:
        """Say of a picture that it has been turned as its orientation asked for.

        Args:
            turned: it was: a thumbnail that lies as before is dropped.
            sideways: width and height changed places, and with them what is said of each.
        """
        for entry in self.entries(self.first):
            if entry.tag == ORIENTATION and self._number(entry) is not None:
                self._set_number(entry, 1)
        if turned and self._next(self.first):
            self.drop_thumbnail()
        if sideways:
            for directory in list(self.directories()):
                places = {entry.tag: entry.at for entry in self.entries(directory)}
                for one, other in _SIDES.items():
                    if one in places and other in places:
                        self._swap(places[one] + 2, places[other] + 2)

    def drop_thumbnail(self) -> None:
        """Unlink the second directory; bytes of its own at the end of the block go with it."""
        directory = self._next(self.first)
        struct.pack_into(self.order + "I", self.data, self._end(self.first) - 4, 0)
        if not self._whole(directory):
            return
        numbers = {entry.tag: self._number(entry) for entry in self.entries(directory)}
        start, length = (int(numbers.get(THUMBNAIL_AT + i) or 0) for i in (0, 1))
        if start and length and start + length == len(self.data):
            if start > max(self._reach(), directory):
                del self.data[start:]
        elif start and length and 8 < start < start + length < len(self.data):
            self.data[start : start + length] = bytes(length)

    def _reach(self) -> int:
        """Where the last byte lies that some entry uses."""
        ends = [self._end(self.first)]
        for directory in self.directories():
            ends.append(self._end(directory))
            ends += [entry.value + entry.size for entry in self.entries(directory)]
        return max(ends)

    def _unpack(self, form: str, at: int) -> tuple[int, ...]:
        return struct.unpack_from(self.order + form, self.data, at)

    def _end(self, directory: int) -> int:
        return directory + 6 + 12 * int(self._unpack("H", directory)[0])

    def _whole(self, directory: int) -> bool:
        fits = 8 <= directory <= len(self.data) - 6
        return fits and self._end(directory) <= len(self.data)

    def _next(self, directory: int) -> int:
        return int(self._unpack("I", self._end(directory) - 4)[0])

    def _sound(self, entry: _Entry) -> bool:
        if not entry.size or entry.value + entry.size > len(self.data):
            return False
        return entry.tag not in _POINTERS or self._whole(self._pointer(entry))

    def _pointer(self, entry: _Entry) -> int:
        value = self._number(entry)
        return int(value) if value is not None and entry.kind in {3, 4, 13} else 0

    def _number(self, entry: _Entry) -> float | None:
        """An entry's first value; None if it is no number, or lies outside."""
        if not entry.size or entry.value + entry.size > len(self.data):
            return None
        return number(entry.kind, bytes(self.data[entry.value : entry.value + 8]), self.order)

    def _set_number(self, entry: _Entry, value: int) -> None:
        form = _NUMBERS[entry.kind]
        struct.pack_into(self.order + form, self.data, entry.value, *[value] * len(form))

    def _swap(self, one: int, other: int) -> None:
        ours, theirs = slice(one, one + 10), slice(other, other + 10)
        self.data[ours], self.data[theirs] = self.data[theirs], self.data[ours]

    def _remove(self, directory: int, unwanted: list[_Entry]) -> None:
        """Close the gaps in a directory; it becomes shorter, and nothing else moves."""
        places = {entry.at for entry in unwanted}
        start, end = directory + 2, self._end(directory)
        kept = b"".join(
            self.data[at : at + 12] for at in range(start, end - 4, 12) if at not in places
        )
        rest = kept + self.data[end - 4 : end]
        struct.pack_into(self.order + "H", self.data, directory, len(kept) // 12)
        self.data[start:end] = rest + bytes(end - start - len(rest))


def number(kind: int, value: bytes, order: str) -> float | None:
    """The first number in a value as it is stored; None if it is none, or not finite."""
    form = order + _NUMBERS.get(kind, "")
    if form == order or len(value) < struct.calcsize(form):
        return None
    over, under = (*struct.unpack_from(form, value), 1)[:2]
    return over / under if under and math.isfinite(over) else None


@dataclasses.dataclass
class Tree:
    """What EXIF says in one byte order: entries of the first directory, and those below it."""

    order: str
    first: Directory
    below: dict[int, Directory] = dataclasses.field(default_factory=dict)

    def in_order(self, order: str) -> Tree:
        """The same in this byte order."""
        if order == self.order:
            return self
        turn = {
            tag: _reordered(directory, self.order, order) for tag, directory in self.below.items()
        }
        return Tree(order, _reordered(self.first, self.order, order), turn)


def tree(data: bytes) -> Tree:
    """The descriptive entries of an EXIF block with its Exif, GPS and Interop directories.

    Raises:
        ExifError: no directory can be read.
    """
    block = Block(data)
    first = block.read(block.first)
    below = {
        tag: block.read(int(struct.unpack(block.order + "I", first[tag][1][:4])[0]))
        for tag in (EXIF_IFD, GPS_IFD)
        if tag in first and len(first[tag][1]) >= 4
    }
    inner = below.get(EXIF_IFD, {}).get(INTEROP_IFD)
    if inner and len(inner[1]) >= 4:
        below[INTEROP_IFD] = block.read(int(struct.unpack(block.order + "I", inner[1][:4])[0]))
    kept = {tag: first[tag] for tag in DESCRIPTIVE if tag in first}
    return Tree(block.order, kept, below)


def packed(directories: Tree) -> bytes:
    """An EXIF block with these entries."""
    head = {"<": b"II*\0", ">": b"MM\0*"}[directories.order] + struct.pack(
        directories.order + "I", 8
    )
    return head + laid_out(directories, len(head))


def laid_out(directories: Tree, at: int) -> bytes:
    """The bytes of directories and values that begin at `at` of a file; the first comes first."""
    below = {tag: body for tag, body in directories.below.items() if body}
    first = dict(directories.first)
    if INTEROP_IFD in below and EXIF_IFD in below:
        below[EXIF_IFD] = {**below[EXIF_IFD], INTEROP_IFD: (4, bytes(4))}
    first |= {tag: (4, bytes(4)) for tag in below if tag != INTEROP_IFD}
    order = [first, *below.values()]
    places, end = [], at
    for directory in order:
        places.append(end)
        end += _length(directory)
    for tag, place in zip(below, places[1:], strict=True):
        owner = below[EXIF_IFD] if tag == INTEROP_IFD else first
        owner[tag] = (4, struct.pack(directories.order + "I", place))
    order = [first, *below.values()]
    return b"".join(
        _directory(body, directories.order, place)
        for body, place in zip(order, places, strict=True)
    )


def _length(directory: Mapping[int, Raw]) -> int:
    values = (len(value) for _, value in directory.values())
    return 6 + 12 * len(directory) + sum(size + size % 2 for size in values if size > 4)


def _directory(directory: Mapping[int, Raw], order: str, at: int) -> bytes:
    end = at + 6 + 12 * len(directory)
    entries, values = [struct.pack(order + "H", len(directory))], b""
    for tag, (kind, value) in sorted(directory.items()):
        count = len(value) // KIND_SIZES[kind]
        place = value.ljust(4, b"\0")
        if len(value) > 4:
            place = struct.pack(order + "I", end + len(values))
            values += value + b"\0" * (len(value) % 2)
        entries.append(struct.pack(order + "HHI", tag, kind, count) + place)
    return b"".join(entries) + bytes(4) + values


def _reordered(directory: Directory, order: str, wanted: str) -> Directory:
    result = {}
    for tag, (kind, value) in directory.items():
        if form := _SWAPPED.get(kind):
            count = len(value) // struct.calcsize(form)
            value = struct.pack(
                f"{wanted}{count}{form}", *struct.unpack(f"{order}{count}{form}", value)
            )
        result[tag] = kind, value
    return result
