"""The checksum of a file's symbols: what is decoded wrongly is never shown."""

from __future__ import annotations

import binascii
import zlib
from typing import Any

from numpy.typing import NDArray

from vrcodec.bitstream.container import VERSION

CRC_START = 0xFFFF
"""Of the CRC-16."""


class SymbolsCrc:
    """Checksum of the symbols of a file as 16-bit big-endian integers, each array in its own order.

    From version 3 on the lower half of CRC-32, over y section by section and then z; before that
    CRC-16, over z and then y.

    Args:
        z: integers within 16 bits; from version 3 on looked at for `value` alone.
        version: of the format.
    """

    def __init__(self, z: NDArray[Any], version: int = VERSION) -> None:
        self._z, self._z_last = z, version >= 3
        self._value = 0 if self._z_last else binascii.crc_hqx(_words(z), CRC_START)

    def update(self, y: NDArray[Any]) -> None:
        """Feed the next section of y."""
        crc = zlib.crc32 if self._z_last else binascii.crc_hqx
        self._value = crc(_words(y), self._value)

    @property
    def value(self) -> int:
        """Of all that there is."""
        return zlib.crc32(_words(self._z), self._value) & 0xFFFF if self._z_last else self._value


def _words(symbols: NDArray[Any]) -> bytes:
    return symbols.astype(">i2").tobytes()
