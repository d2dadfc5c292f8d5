"""The size that an AV1 stream says it has, from its sequence header (AV1 specification, 5.5)."""

from __future__ import annotations

_SEQUENCE_HEADER = 1
_MOST_UNITS = 16


def frame_size(data: bytes) -> tuple[int, int] | None:
    """Width and height of the largest frame; None where no sequence header begins the stream."""
    at = 0
    for _ in range(_MOST_UNITS):
        if at >= len(data) or not data[at] & 2:  # units of an AVIF item have their sizes
            return None
        kind, extended = data[at] >> 3 & 15, data[at] >> 2 & 1
        size, at = _leb128(data, at + 1 + extended)
        if kind == _SEQUENCE_HEADER:
            return _size_in_header(_Bits(data[at : at + size]))
        at += size
    return None


def _leb128(data: bytes, at: int) -> tuple[int, int]:
    """A number of seven bits a byte, and where it ends."""
    value = 0
    for i, byte in enumerate(data[at : at + 8]):
        value |= (byte & 127) << 7 * i
        if byte < 128:
            return value, at + i + 1
    return 0, len(data)


class _Bits:
    """Bits from the first one on; zeros after the last."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def read(self, count: int) -> int:
        value = 0
        for place in range(self.at, self.at + count):
            byte = self.data[place >> 3] if place >> 3 < len(self.data) else 0
            value = value << 1 | byte >> 7 - (place & 7) & 1
        self.at += count
        return value


def _size_in_header(bits: _Bits) -> tuple[int, int]:
    bits.read(4)  # profile, still picture
    if bits.read(1):  # a reduced header
        bits.read(5)
    else:
        _skip_operating_points(bits)
    across, down = bits.read(4) + 1, bits.read(4) + 1
    return bits.read(across) + 1, bits.read(down) + 1


def _skip_operating_points(bits: _Bits) -> None:
    delay = 0
    if bits.read(1):  # timing
        bits.read(64)
        if bits.read(1):
            zeros = 0
            while zeros < 32 and not bits.read(1):
                zeros += 1
            bits.read(zeros)
        if bits.read(1):  # decoder model
            delay = bits.read(5) + 1
            bits.read(42)
    delayed = bits.read(1)
    for _ in range(bits.read(5) + 1):
        bits.read(12)
        if bits.read(5) > 7:
            bits.read(1)
        if delay and bits.read(1):
            bits.read(2 * delay + 1)
        if delayed and bits.read(1):
            bits.read(4)
