"""Marks by which a batch run knows its own finished files: digests of source and settings.

A `.vrc` file carries its mark as the optional section SOURCE. A decoded picture carries it as text
in a place of its format that viewers ignore. No torch, no Pillow.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import struct
import zlib
from pathlib import Path
from typing import Any

from vrcodec.bitstream.container import Extra, unpack
from vrcodec.errors import FormatError, naming

DIGEST_BYTES = 8
_PIECE = 1 << 20
_KEYWORD = b"vrcodec-source"
_TEXT = re.compile(_KEYWORD + rb"[\0:]([0-9a-f]{32})([0-9a-f]{16})")


@dataclasses.dataclass(frozen=True)
class Mark:
    """What a file was made of.

    Attributes:
        source: digest of the source file's bytes, 8 bytes.
        settings: digest of all that decides about the result beside them, 8 bytes.
    """

    source: bytes
    settings: bytes

    def pack(self) -> bytes:
        """The contents of the section SOURCE, 16 bytes."""
        return self.source + self.settings


def source_digest(data: bytes | Path) -> bytes:
    """The first 8 bytes of the SHA-256 of a source file's contents, or of the file at a path."""
    if not isinstance(data, Path):
        return hashlib.sha256(data).digest()[:DIGEST_BYTES]
    digest = hashlib.sha256()
    with naming(str(data)), data.open("rb") as file:
        while piece := file.read(_PIECE):
            digest.update(piece)
    return digest.digest()[:DIGEST_BYTES]


def settings_digest(settings: dict[str, Any]) -> bytes:
    """The first 8 bytes of the SHA-256 of settings (JSON-able values) in a fixed spelling."""
    text = json.dumps(settings, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).digest()[:DIGEST_BYTES]


def vrc_mark(data: bytes) -> Mark | None:
    """The mark of a whole and valid .vrc file; None if it has none, or is not one."""
    try:
        packed = unpack(data).extras.get(Extra.SOURCE, b"")
    except FormatError:
        return None
    return _mark(packed)


def picture_mark(data: bytes) -> Mark | None:
    """The mark in a picture file of any kind that `mark_picture` knows.

    None if it has none, or is not as it was made: editors keep such text in files they change.
    """
    found = _TEXT.search(data)
    if not found or bytes.fromhex(found[2].decode()) != _digest_around(data, found):
        return None
    return _mark(bytes.fromhex(found[1].decode()))


def mark_picture(data: bytes, format: str, mark: Mark) -> bytes:
    """A picture file with a mark in it; its pixels and metadata stay the same.

    The mark is followed by a digest of the rest of the file. It is a tEXt chunk in PNG, a comment
    in JPEG and PPM, a RIFF chunk of its own in WebP, a `free` box in AVIF, and unreferenced bytes
    at the end of TIFF and BMP.

    Args:
        data: the file, as `pictures.save_picture` makes it.
        format: one of `pictures.FORMATS`.
    """
    blank = _with_text(data, format, mark.pack() + bytes(DIGEST_BYTES))
    found = _TEXT.search(blank)
    assert found
    return _with_text(data, format, mark.pack() + _digest_around(blank, found))


def _digest_around(data: bytes, text: re.Match[bytes]) -> bytes:
    """Digest of a file but for the place of this digest and, in PNG, the checksum behind that."""
    end = text.end() + (4 if b"\0" in text[0] else 0)
    return source_digest(data[: text.start(2)] + data[end:])


def _with_text(data: bytes, format: str, body: bytes) -> bytes:
    text = _KEYWORD + b":" + body.hex().encode()
    if format == "png":
        chunk = b"tEXt" + text.replace(b":", b"\0")
        chunk = struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
        return data[:-12] + chunk + data[-12:]
    if format == "jpeg":
        after_jfif = 4 + struct.unpack_from(">H", data, 4)[0]
        comment = b"\xff\xfe" + struct.pack(">H", 2 + len(text)) + text
        return data[:after_jfif] + comment + data[after_jfif:]
    if format == "ppm":
        magic, _, rest = data.partition(b"\n")
        return magic + b"\n# " + text + b"\n" + rest
    if format == "webp":
        chunk = b"VRCs" + struct.pack("<I", len(text)) + text + b"\0" * (len(text) % 2)
        size = struct.pack("<I", len(data) - 8 + len(chunk))
        return data[:4] + size + data[8:] + chunk
    if format == "avif":
        return data + struct.pack(">I", 8 + len(text)) + b"free" + text
    if format == "bmp":
        return data[:2] + struct.pack("<I", len(data) + len(text)) + data[6:] + text
    return data + text


def _mark(packed: bytes) -> Mark | None:
    if len(packed) != 2 * DIGEST_BYTES:
        return None
    return Mark(packed[:DIGEST_BYTES], packed[DIGEST_BYTES:])
