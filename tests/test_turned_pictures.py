"""Pictures that Pillow or a decoder has turned: what is said of their sides turns with them."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vrcodec.bitstream.container import Extra
from vrcodec.pictures import open_picture, to_coded
from vrcodec.pictures.exif import Block, Tree, packed

WIDTH, HEIGHT = 75, 53


def picture() -> Image.Image:
    return Image.linear_gradient("L").resize((WIDTH, HEIGHT)).convert("RGB")


def saved(format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture().save(buffer, format, **options)
    return buffer.getvalue()


def sides(width: int, height: int) -> dict[int, tuple[int, bytes]]:
    return {40962: (4, struct.pack("<I", width)), 40963: (4, struct.pack("<I", height))}


def block(orientation: int) -> bytes:
    first = {
        274: (3, struct.pack("<H", orientation)),
        282: (5, struct.pack("<II", 300, 1)),
        283: (5, struct.pack("<II", 150, 1)),
        296: (3, struct.pack("<H", 2)),
    }
    return packed(Tree("<", first, {34665: sides(WIDTH, HEIGHT)}))


def png(orientation: int) -> bytes:
    return saved("PNG", exif=block(orientation))


def jpeg(orientation: int) -> bytes:
    return saved("JPEG", exif=b"Exif\0\0" + block(orientation), dpi=(300, 150))


def tiff(orientation: int) -> bytes:
    return saved("TIFF", exif=block(orientation), dpi=(300, 150))


def tiff_of_type(kind: int, form: str) -> Callable[[int], bytes]:
    """TIFF files whose orientation is of another type."""

    def make(orientation: int) -> bytes:
        data = tiff(orientation)
        entry = struct.pack("<HHIHH", 274, 3, 1, orientation, 0)
        assert data.count(entry) == 1
        parts = [orientation, 1][: len(form)]
        value = struct.pack("<" + form, *parts)
        if len(value) > 4:
            data, value = data + value, struct.pack("<I", len(data))
        return data.replace(entry, struct.pack("<HHI", 274, kind, 1) + value.ljust(4, b"\0"))

    return make


def heic(orientation: int) -> bytes:
    heif = pytest.importorskip("pillow_heif")
    buffer = io.BytesIO()
    heif.from_pillow(picture()).save(buffer, exif=block(orientation))
    return buffer.getvalue()


def avif(orientation: int) -> bytes:
    return saved("AVIF", exif=block(orientation))


def jxl(orientation: int) -> bytes:
    """A JPEG XL file whose header is written anew, with an orientation (ISO/IEC 18181-1)."""
    codecs = pytest.importorskip("imagecodecs")
    pytest.importorskip("pillow_jxl")
    data = bytes(codecs.jpegxl_encode(np.asarray(picture()), distance=1.0, usecontainer=False))
    head = int.from_bytes(data[2:20], "little")
    size = 1 + 2 + 9 + 3 + 2 + 9  # not small; a height of 9 bits; no ratio; a width of 9 bits
    assert head & 7 == 0 and head >> 12 & 7 == 0 and head >> size & 3 == 3
    bits = [head >> i & 1 for i in range(size)]
    bits += [0, 1, *(orientation - 1 >> i & 1 for i in range(3))]  # not by default; more fields
    bits += [0, 0, 0]  # no intrinsic size, preview, animation
    bits += [0, 0, 0, 1, 0, 0]  # whole numbers of 8 bits, in 16 at most; no extra channels
    bits += [1, 1, 1, 0, 0, 1]  # XYB; colours, tones, extensions, transforms by default
    new = sum(bit << i for i, bit in enumerate(bits)).to_bytes(-(-len(bits) // 8), "little")
    stream = data[:2] + new + data[2 + -(-(size + 2) // 8) :]
    boxes = {b"JXL ": b"\r\n\x87\n", b"ftyp": b"jxl \0\0\0\0jxl ", b"Exif": bytes(4) + block(1)}
    boxes[b"jxlc"] = stream
    return b"".join(struct.pack(">I4s", 8 + len(body), kind) + body for kind, body in boxes.items())


MAKERS = {
    "png": png,
    "jpeg": jpeg,
    "tiff": tiff,
    "tiff of bytes": tiff_of_type(1, "B"),
    "tiff of rationals": tiff_of_type(5, "II"),
    "tiff of floats": tiff_of_type(11, "f"),
    "tiff of doubles": tiff_of_type(12, "d"),
    "tiff of directories": tiff_of_type(13, "I"),
    "heic": heic,
    "avif": avif,
    "jxl": jxl,
}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", MAKERS)
def test_what_is_said_of_the_sides_turns_with_them(name: str, orientation: int) -> None:
    data = MAKERS[name](orientation)
    images = [open_picture(data, "x")]
    if name not in {"heic", "jxl"}:  # which Pillow opens only when asked to
        images += [Image.open(io.BytesIO(data)), Image.open(io.BytesIO(data))]
        images[-1].load()
    for image in images:
        coded = to_coded(image)
        turned = orientation > 4
        size = (HEIGHT, WIDTH) if turned else (WIDTH, HEIGHT)
        assert coded.pixels.shape[1::-1] == size
        dpi = struct.unpack(">II", coded.extras[Extra.DPI])
        assert dpi == ((150_000, 300_000) if turned else (300_000, 150_000))
        found = Block(coded.extras[Extra.EXIF])
        inner = [found.read(place) for place in found.directories()][1]
        values = [exact(raw, found.order) for raw in (inner[40962], inner[40963])]
        assert values == list(size)


def exact(raw: tuple[int, bytes], order: str) -> int:
    return int.from_bytes(raw[1], "little" if order == "<" else "big")


def test_thumbnail_of_a_picture_that_its_decoder_turned_is_dropped() -> None:
    heif = pytest.importorskip("pillow_heif")
    buffer = io.BytesIO()
    picture().resize((40, 28)).save(buffer, "JPEG")
    small = buffer.getvalue()
    second = struct.pack("<HHHIIHHII", 2, 513, 4, 1, 56, 514, 4, 1, len(small)) + bytes(4)
    for orientation in (1, 3):
        buffer = io.BytesIO()
        first = struct.pack("<HHHIHHI", 1, 274, 3, 1, orientation, 0, 26)
        data = b"II*\0\x08\0\0\0" + first + second + small
        heif.from_pillow(picture()).save(buffer, exif=data)
        kept = to_coded(open_picture(buffer.getvalue(), "x")).extras[Extra.EXIF]
        assert (small in kept) == (orientation == 1)
