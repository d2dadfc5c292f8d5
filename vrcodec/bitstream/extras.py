"""How optional sections are stored since version 2: as they are, deflated, or by number.

Metadata often outweighs a small picture: a profile of 3 kB beside 10 kB of latents. Everything
comes back byte for byte. Texts that recur in metadata (`dictionary`) count as already seen, and
colour profiles that everybody uses are a number in a list. Dictionary and list are part of the
format: the one never changes, the other may grow at its end.
"""

from __future__ import annotations

import enum
import functools
import zlib
from collections.abc import Mapping
from pathlib import Path

from vrcodec.errors import CorruptError, UnsupportedVersionError

MAX_EXPANDED = 16 << 20
"""Bytes that a deflated section may have when expanded; larger ones are stored as they are."""
_DATA = Path(__file__).resolve().parents[1] / "data" / "metadata"
_PROFILES = ("srgb-hp-perceptual.icc", "srgb-hp-relative.icc", "srgb-2014.icc")
_RAW_DEFLATE = -15


class Extra(enum.IntEnum):
    """Tags of the optional sections."""

    ALPHA = 1
    ICC = 2
    EXIF = 3
    XMP = 4
    DPI = 5
    SOURCE = 6


class Coding(enum.IntEnum):
    """How a section is stored."""

    PLAIN = 0
    DEFLATE = 1
    LISTED = 2


@functools.cache
def dictionary() -> bytes:
    """What a deflated section may refer to as if it came before it."""
    return (_DATA / "dictionary.bin").read_bytes()


@functools.cache
def profiles() -> tuple[bytes, ...]:
    """The listed colour profiles, by number."""
    return tuple((_DATA / name).read_bytes() for name in _PROFILES)


def shrink(tag: Extra, body: bytes) -> tuple[Coding, bytes]:
    """A section as it is stored: the shortest way there is."""
    if tag is Extra.ICC and body in profiles():
        return Coding.LISTED, bytes([profiles().index(body)])
    if len(body) <= MAX_EXPANDED:
        machine = zlib.compressobj(9, zlib.DEFLATED, _RAW_DEFLATE, 9, zdict=dictionary())
        deflated = machine.compress(body) + machine.flush()
        if len(deflated) + (len(body).bit_length() + 6) // 7 < len(body):  # with its size
            return Coding.DEFLATE, deflated
    return Coding.PLAIN, body


def stored_bytes(extras: Mapping[Extra, bytes]) -> int:
    """Bytes of a file that sections take, their list not counted."""
    return sum(len(shrink(tag, body)[1]) for tag, body in extras.items())


def expand(tag: Extra, coding: Coding, stored: bytes, size: int) -> bytes:
    """A section as it was; no more than MAX_EXPANDED bytes are allocated.

    Args:
        size: bytes of a deflated section when expanded, as the file says.

    Raises:
        CorruptError: it is not what it says.
        UnsupportedVersionError: a profile that a newer version has listed.
    """
    if coding is Coding.LISTED:
        if tag is not Extra.ICC or len(stored) != 1:
            raise CorruptError(f"section {tag.name} cannot be a listed one")
        (number,) = stored
        if number >= len(profiles()):
            raise UnsupportedVersionError(f"colour profile {number} of the list is a newer one")
        return profiles()[number]
    if coding is Coding.DEFLATE:
        return _inflate(tag, stored, size)
    return stored


def _inflate(tag: Extra, stored: bytes, size: int) -> bytes:
    if size > MAX_EXPANDED:
        raise CorruptError(f"section {tag.name} expands to {size:,} bytes")
    machine = zlib.decompressobj(_RAW_DEFLATE, zdict=dictionary())
    try:
        body = machine.decompress(stored, size + 1)
    except zlib.error as error:
        raise CorruptError(f"section {tag.name} cannot be expanded") from error
    if len(body) != size or not machine.eof or machine.unused_data:
        raise CorruptError(f"section {tag.name} does not expand to {size:,} bytes")
    return body
