"""Segments of a JPEG file: its metadata, and where its entropy-coded data end."""

from __future__ import annotations

import dataclasses
import re
import struct

from vrcodec.errors import PictureError
from vrcodec.pictures import xmp
from vrcodec.pictures.containers import Found

_STANDALONE = {0x01, *range(0xD0, 0xD9)}
_DROPPED = {0xE1, 0xE2, 0xED}
"""JPEG segments that Pillow need not see: EXIF and XMP, ICC and multi-picture, Photoshop."""
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_RESTART = re.compile(rb"\xff[\xd0-\xd7]")
_MOST_SCANS = 100
"""Every scan passes over the whole picture; encoders make a dozen."""


@dataclasses.dataclass
class Scan:
    """The entropy-coded data of a JPEG file.

    Attributes:
        ends: where each run of data ends.
        restarts: markers in each run.
        intervals: restart intervals that each run must have; 0 if there is no interval.
        progressive, arithmetic: how they are coded.
    """

    ends: list[int] = dataclasses.field(default_factory=list)
    restarts: list[int] = dataclasses.field(default_factory=list)
    intervals: list[int] = dataclasses.field(default_factory=list)
    progressive: bool = False
    arithmetic: bool = False


def segments(data: bytes) -> tuple[Found, Scan]:
    """Segments of a JPEG file, to the end of its first picture.

    Raises:
        PictureError: it has more scans than anybody writes.
    """
    found, scan, kept = Found(), Scan(), [data[:2]]
    parts = _JpegParts()
    at, length = 2, 2
    while at + 2 <= len(data):
        if data[at] != 0xFF or data[at + 1] == 0xFF:
            at += 1  # fill bytes, or rubbish that decoders skip
            continue
        marker = data[at + 1]
        if marker == 0xD9:
            break
        if marker in _STANDALONE or marker == 0:
            at += 2
            continue
        if at + 4 > len(data):
            break
        size = 2 + struct.unpack_from(">H", data, at + 2)[0]
        body, end = data[at + 4 : at + size], at + size
        if marker == 0xDA:
            end = _end_of_data(data, end)
            _note_scan(scan, parts, body, data, at + size, end, length - at)
            if len(scan.ends) > _MOST_SCANS:
                raise PictureError(f"JPEG of more than {_MOST_SCANS} scans")
        parts.take(marker, body)
        if marker not in _DROPPED:
            kept.append(data[at:end])
            length += end - at
        at = end
    found.clean = b"".join(kept) + data[at : at + 2]
    scan.progressive, scan.arithmetic = parts.progressive, parts.arithmetic
    parts.give(found)
    return found, scan


def _end_of_data(data: bytes, start: int) -> int:
    """Where entropy-coded data end: before a marker and any bytes that fill up before it."""
    closing = _MARKER.search(data, start)
    end = closing.start() if closing else len(data)
    while closing and end > start and data[end - 1] == 0xFF:
        end -= 1
    return end


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
        self.exif: list[bytes] = []
        self.packet = b""
        self.profile: dict[int, bytes] = {}
        self.profile_count = 0
        self.pieces: list[bytes] = []
        self.dpi: tuple[float, float] | None = None
        self.interval, self.frame, self.pictures = 0, b"", 1
        self.progressive = self.arithmetic = False

    def take(self, marker: int, body: bytes) -> None:
        if marker == 0xE0 and body.startswith(b"JFIF\0") and len(body) >= 12:
            unit = {1: 1.0, 2: 2.54}.get(body[7])
            across, down = struct.unpack_from(">HH", body, 8)
            self.dpi = (across * unit, down * unit) if unit else None
        elif marker == 0xE1 and body.startswith(b"Exif\0"):
            self.exif.append(body[6:])
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
            self.arithmetic = marker > 0xC8

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
        found.exif, found.dpi, found.frames = b"".join(self.exif), self.dpi, self.pictures
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
