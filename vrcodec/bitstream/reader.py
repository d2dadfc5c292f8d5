"""Numbers as files hold them."""

from __future__ import annotations

from vrcodec.errors import CorruptError, TruncatedError


class Reader:
    """Bytes from a position on; raises what is wrong with them."""

    def __init__(self, data: bytes, position: int) -> None:
        self.data, self.position = data, position

    def need(self, count: int) -> None:
        """Raise TruncatedError unless so many bytes follow."""
        if self.position + count > len(self.data):
            raise TruncatedError(
                f"truncated: needs more than {self.position + count - 1} bytes, "
                f"has {len(self.data)}"
            )

    def take(self, count: int) -> bytes:
        """The next bytes."""
        self.need(count)
        self.position += count
        return self.data[self.position - count : self.position]

    def byte(self) -> int:
        """The next byte as a number."""
        return self.take(1)[0]

    def varint(self) -> int:
        """The next number in LEB128, in its only form."""
        value = 0
        for shift in range(0, 35, 7):
            part = self.byte()
            value |= (part & 127) << shift
            if part < 128:
                if part == 0 and shift:
                    raise CorruptError("number with superfluous digits")
                return value
        raise CorruptError("number of more than 35 bits")


def varint(value: int) -> bytes:
    """A number below 2^35 as LEB128."""
    digits = []
    while value > 127:
        digits.append(value & 127 | 128)
        value >>= 7
    return bytes([*digits, value])
