"""Older formats (Netpbm, SGI, Sun, XPM): what Pillow does not look at before it reads them."""

from __future__ import annotations

import re
import struct
from typing import BinaryIO

from vrcodec.errors import PictureError
from vrcodec.pictures.containers import Found

_NETPBM = re.compile(rb"P[1-6f](?:(?:\s|#[^\r\n]*[\r\n])+[^\s#]{1,30}){2,3}(?=\s|#|$)")
_TOKEN = re.compile(rb"(?:\s|#[^\r\n]*[\r\n])+([^\s#]{1,30})")
_RAW_TOKENS = {b"P4": 2, b"P5": 3, b"P6": 3, b"Pf": 3}
_MOST_NETPBM = 1 << 16
_SUN_PACKED = 2
_XPM_COLOUR = re.compile(rb"[ \t]#([0-9A-Fa-f]+)")
_SGI_HEAD = 512
_MOST_SHARED = 16
"""How often all rows of an SGI file may be in it."""


def check_netpbm(stream: BinaryIO) -> None:
    """Raise PictureError for a header longer than anybody needs: Pillow reads it byte by byte."""
    stream.seek(0)
    if not _NETPBM.match(stream.read(_MOST_NETPBM)):
        raise PictureError("Netpbm header that is damaged, or long")


def netpbm_pictures(stream: BinaryIO, most: int) -> int:
    """How many pictures a Netpbm file has, at most so many: only raw ones have others behind them.

    Another picture follows the last byte of one, or a line end that some write there.
    """
    found = at = 0
    size = stream.seek(0, 2)
    while found < most and at < size:
        stream.seek(at)
        head = stream.read(_MOST_NETPBM)
        blank = len(head) - len(head.lstrip()) if found else 0
        if not _NETPBM.match(head, blank):
            break
        found += 1
        raster = _raw_raster(head[blank:])
        if not raster:
            break
        at += blank + raster
    return max(1, found)


def _raw_raster(head: bytes) -> int:
    """Where a raw picture ends that begins like this; 0 of one in plain text, or a damaged one."""
    tokens, at = [], 2
    for _ in range(_RAW_TOKENS.get(head[:2], 0)):
        match = _TOKEN.match(head, at)
        if not match:
            return 0
        tokens.append(int(match[1]) if match[1].isdigit() else 0)
        at = match.end()
    if not tokens:
        return 0
    width, height, largest = (*tokens, 1)[:3]
    row = {
        b"P4": -(-width // 8),
        b"P5": width * (1 + (largest > 255)),
        b"P6": 3 * width * (1 + (largest > 255)),
        b"Pf": 4 * width,
    }[head[:2]]
    return at + 1 + row * height


def sgi(data: bytes) -> Found:
    """An SGI file, whose packed rows are to be checked."""
    return Found(check=lambda: _check_sgi_rows(data), bits=8 * data[3] if data[3:] else None)


def _check_sgi_rows(data: bytes) -> None:
    """Raise PictureError for a row that is too short: Pillow leaves the rest as it was before.

    Rows may be the same bytes, but not many that overlap.
    """
    packed, unit, _, width, height, channels = struct.unpack_from(">BBHHHH", data, 2)
    rows = height * channels
    if not packed or len(data) < _SGI_HEAD + 8 * rows:
        return
    places = struct.unpack_from(f">{rows}I", data, _SGI_HEAD)
    lengths = struct.unpack_from(f">{rows}I", data, _SGI_HEAD + 4 * rows)
    different = set(zip(places, lengths, strict=True))
    if sum(length for _, length in different) > _MOST_SHARED * len(data):
        raise PictureError("damaged SGI: its rows overlap")
    for place, length in different:
        if _sgi_samples(data, place, min(place + length, len(data)), unit, width) < width:
            raise PictureError("damaged SGI: a row is too short")


def _sgi_samples(data: bytes, start: int, end: int, unit: int, wanted: int) -> int:
    """Samples in a packed row, counted as far as wanted: runs and copies of up to 127."""
    at, found = start + unit - 1, 0
    while found < wanted and at < end and (count := data[at] & 127):
        found += count
        at += unit * (1 + (count if data[at] & 128 else 1))
    return found


def sun(data: bytes) -> Found:
    """A Sun raster file. Raises PictureError for one that Pillow would read askew."""
    width, _, depth, _, kind = struct.unpack_from(">IIIII", data.ljust(24, b"\0"), 4)
    if depth == 32:
        raise PictureError("Sun raster of 32 bits is not supported")
    if kind == _SUN_PACKED and -(-width * depth // 8) % 2:  # rows are whole words
        raise PictureError("packed Sun raster with rows of odd length is not supported")
    return Found()


def xpm(data: bytes) -> Found:
    """An XPM file. Raises PictureError for colours that Pillow would read wrong."""
    if any(len(digits) != 6 for digits in _XPM_COLOUR.findall(data)):
        raise PictureError("XPM with colours of other than six digits is not supported")
    return Found()
