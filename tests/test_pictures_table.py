"""The table of formats in docs/pictures.md, row by row, with files that Pillow has not written.

They come from tifffile and imagecodecs, or are put together here from a format's specification.
"""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from vrcodec.errors import PictureError
from vrcodec.pictures import open_picture, to_coded
from vrcodec.pictures.formats import KNOWN

tifffile = pytest.importorskip("tifffile")
imagecodecs = pytest.importorskip("imagecodecs")

DOCS = Path(__file__).resolve().parents[1] / "docs" / "pictures.md"
Samples = NDArray[np.uint8]


def samples(channels: int = 3, height: int = 13, width: int = 16) -> Samples:
    """Smooth colours (height, width, channels), other ones in every corner."""
    rows, columns = np.mgrid[0:height, 0:width]
    levels = [16 * rows + 2 * columns, 255 - 12 * columns, 9 * rows + 5 * columns, 17 * rows]
    return np.stack([level % 256 for level in levels[:channels]], axis=-1).astype(np.uint8)


def grey() -> Samples:
    return samples(1)[..., 0]


def two_colours() -> NDArray[np.bool_]:
    """Black (true) and white, in no regular order."""
    return grey() * 7 % 256 > 128


# Files by hand


def ppm(pixels: Samples) -> bytes:
    return b"P6\n# made by hand\n%d %d\n255\n" % pixels.shape[1::-1] + pixels.tobytes()


def pgm16(levels: Samples) -> bytes:
    values = levels.astype(">u2") * 257
    return b"P5 %d %d 65535\n" % levels.shape[::-1] + values.tobytes()


def pgm_plain(levels: Samples) -> bytes:
    return b"P2 %d %d 255\n" % levels.shape[::-1] + " ".join(map(str, levels.ravel())).encode()


def pbm(black: NDArray[np.bool_]) -> bytes:
    return b"P4 %d %d\n" % black.shape[::-1] + np.packbits(black, axis=1).tobytes()


def pfm(levels: Samples) -> bytes:
    rows = (levels[::-1] / 255).astype("<f4")
    return b"Pf\n%d %d\n-1.0\n" % levels.shape[::-1] + rows.tobytes()


def sgi(pixels: Samples) -> bytes:
    height, width, channels = pixels.shape
    head = struct.pack(">HBBHHHHII", 474, 0, 1, 3, width, height, channels, 0, 255).ljust(
        512, b"\0"
    )
    return head + np.moveaxis(pixels[::-1], -1, 0).tobytes()


def psd(pixels: Samples) -> bytes:
    height, width, channels = pixels.shape
    head = b"8BPS" + struct.pack(">H6xHIIHH", 1, channels, height, width, 8, 3)
    return head + bytes(12) + b"\0\0" + np.moveaxis(pixels, -1, 0).tobytes()


def sun(pixels: Samples) -> bytes:
    """Rows of blue, green, red; an even number of bytes each."""
    height, width, _ = pixels.shape
    rows = pixels[..., ::-1].tobytes()
    return struct.pack(">8I", 0x59A66A95, width, height, 24, len(rows), 1, 0, 0) + rows


def tga(pixels: Samples) -> bytes:
    """From the bottom row up, blue first; eight bits of alpha if there are four channels."""
    height, width, channels = pixels.shape
    order = [2, 1, 0, 3][:channels]
    flags = 8 if channels == 4 else 0
    head = struct.pack("<BBB5xHHHHBB", 0, 0, 2, 0, 0, width, height, 8 * channels, flags)
    return head + pixels[::-1, :, order].tobytes()


def pcx(levels: Samples) -> bytes:
    """Eight bits of grey, every byte as a run of one."""
    height, width = levels.shape
    head = struct.pack("<BBBB4H", 10, 5, 1, 8, 0, 0, width - 1, height - 1).ljust(65, b"\0")
    head = (head + struct.pack("<BHH", 1, width, 2)).ljust(128, b"\0")
    runs = np.stack([np.full(levels.size, 0xC1, np.uint8), levels.ravel()], axis=1)
    palette = np.repeat(np.arange(256, dtype=np.uint8), 3)
    return head + runs.tobytes() + b"\x0c" + palette.tobytes()


def xbm(black: NDArray[np.bool_]) -> bytes:
    height, width = black.shape
    values = np.packbits(black, axis=1, bitorder="little").ravel()
    body = ", ".join(f"0x{value:02x}" for value in values)
    head = f"#define a_width {width}\n#define a_height {height}\n"
    return f"{head}static char a_bits[] = {{\n{body}\n}};\n".encode()


def xpm(black: NDArray[np.bool_]) -> bytes:
    height, width = black.shape
    rows = ["".join("#."[int(not value)] for value in row) for row in black]
    lines = [f"{width} {height} 2 1", "# c #102030", ". c #FFEEDD", *rows]
    body = ",\n".join(f'"{line}"' for line in lines)
    return f"/* XPM */\nstatic char *a[] = {{\n{body}\n}};\n".encode()


def tiff(values: NDArray[Any], **options: Any) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, values, metadata=None, **options)
    return buffer.getvalue()


def png(values: NDArray[Any]) -> bytes:
    return bytes(imagecodecs.png_encode(values))


XPM_COLOURS = np.array([[0xFF, 0xEE, 0xDD], [0x10, 0x20, 0x30]], np.uint8)

ROWS: dict[str, list[tuple[bytes, NDArray[Any], int]]] = {
    "png": [
        (png(samples()), samples(), 0),
        (png(samples(4)), samples(4), 0),
        (png(grey().astype(np.uint16) * 257), grey(), 0),
        (bytes(imagecodecs.apng_encode(samples())), samples(), 0),
    ],
    "jpeg": [
        (bytes(imagecodecs.jpeg8_encode(samples(), level=100, subsampling="444")), samples(), 3)
    ],
    "webp": [(bytes(imagecodecs.webp_encode(samples(), lossless=True)), samples(), 0)],
    "tiff": [
        (tiff(samples(), photometric="rgb"), samples(), 0),
        (tiff(samples(), photometric="rgb", compression="zlib", tile=(16, 16)), samples(), 0),
        (tiff(255 - grey(), photometric="miniswhite"), grey(), 0),
        (tiff(grey().astype(np.uint16) * 257, photometric="minisblack"), grey(), 0),
    ],
    "avif": [(bytes(imagecodecs.avif_encode(samples(), level=100)), samples(), 2)],
    "bmp": [(bytes(imagecodecs.bmp_encode(samples())), samples(), 0)],
    "ppm": [
        (ppm(samples()), samples(), 0),
        (pgm16(grey()), grey(), 0),
        (pgm_plain(grey()), grey(), 0),
        (pbm(two_colours()), np.where(two_colours(), 0, 255), 0),
        (pfm(grey()), grey(), 0),
    ],
    "gif": [(bytes(imagecodecs.gif_encode(grey())), grey(), 0)],
    "jpeg2000": [
        (bytes(imagecodecs.jpeg2k_encode(samples(), reversible=True)), samples(), 0),
        (bytes(imagecodecs.jpeg2k_encode(grey(), reversible=True, codecformat="j2k")), grey(), 0),
    ],
    "qoi": [(bytes(imagecodecs.qoi_encode(samples())), samples(), 0)],
    "sgi": [(sgi(samples()), samples(), 0), (sgi(samples(4)), samples(4), 0)],
    "psd": [(psd(samples()), samples(), 0)],
    "sun": [(sun(samples()), samples(), 0)],
    "xpm": [(xpm(two_colours()), XPM_COLOURS[two_colours().astype(int)], 0)],
    "xbm": [(xbm(two_colours()), np.where(two_colours(), 0, 255), 0)],
    "pcx": [(pcx(grey()), grey(), 0)],
    "tga": [(tga(samples()), samples(), 0), (tga(samples(4)), samples(4), 0)],
}
"""By format: a file, its samples, and how far they may be from what is read."""


def rows_of_docs() -> dict[str, list[str]]:
    lines = DOCS.read_text().splitlines()
    start = lines.index("| format | names | read | what is refused by name |") + 2
    rows = [line for line in lines[start : start + len(KNOWN) + 1] if line.startswith("| ")]
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    return {cell[0]: cell[1:] for cell in cells}


def test_every_row_that_is_read_is_tested() -> None:
    rows = rows_of_docs()
    assert rows.keys() == {format.name for format in KNOWN}
    assert {name for name, row in rows.items() if row[1] == "yes"} == ROWS.keys()
    assert {name for name, row in rows.items() if row[2]} == REFUSED.keys()


@pytest.mark.parametrize("name", ROWS)
def test_a_row_is_read_right(name: str) -> None:
    for data, right, within in ROWS[name]:
        coded = to_coded(open_picture(data, "x"))
        right = right[..., None] if right.ndim == 2 else right
        difference = abs(coded.pixels.astype(int) - right[..., :3])
        shown = ... if coded.alpha is None else coded.alpha > 0
        assert difference[shown].max() <= within
        if right.shape[2] == 4:
            assert coded.alpha is not None
            assert np.array_equal(coded.alpha, right[..., 3])
        else:
            assert coded.alpha is None


@pytest.mark.parametrize(
    ("name", "package", "encode"),
    [
        ("heic", "pillow_heif", lambda image: save_heic(image)),
        ("jxl", "pillow_jxl", lambda image: bytes(imagecodecs.jpegxl_encode(image, lossless=True))),
    ],
)
def test_rows_of_other_packages(name: str, package: str, encode: Callable[..., bytes]) -> None:
    pytest.importorskip(package)
    coded = to_coded(open_picture(encode(samples(3, 64, 64)), "x"))
    difference = abs(coded.pixels.astype(int) - samples(3, 64, 64)).mean()
    assert difference <= (3 if name == "heic" else 0)


def save_heic(pixels: Samples) -> bytes:
    import pillow_heif

    buffer = io.BytesIO()
    pillow_heif.encode(
        "RGB", pixels.shape[1::-1], pixels.tobytes(), buffer, quality=100, chroma=444
    )
    return buffer.getvalue()


# What is refused by name


def with_bytes(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new + data[at + len(new) :]


def damaged_png() -> bytes:
    data = png(samples())
    at = data.index(b"IDAT") + 9
    return with_bytes(data, at, bytes([data[at] ^ 1]))


def short_jpeg() -> bytes:
    data = bytes(imagecodecs.jpeg8_encode(samples(3, 80, 80), level=95))
    return data[: len(data) // 2] + b"\xff\xd9"


def jpeg2000(**options: Any) -> bytes:
    values = options.pop("values", samples())
    return bytes(imagecodecs.jpeg2k_encode(values, reversible=True, **options))


def signed_jpeg2000() -> bytes:
    data = jpeg2000(codecformat="j2k")
    at = data.index(b"\xff\x51") + 40
    for component in range(3):
        data = with_bytes(data, at + 3 * component, b"\x87")
    return data


def mixed_jpeg2000() -> bytes:
    data = jpeg2000(codecformat="j2k")
    return with_bytes(data, data.index(b"\xff\x51") + 40, b"\x0b")


def big_psd(version: int, bits: int) -> bytes:
    data = with_bytes(psd(samples()), 4, struct.pack(">H", version))
    return with_bytes(data, 22, struct.pack(">H", bits))


REFUSED: dict[str, list[tuple[bytes, str]]] = {
    "png": [
        (damaged_png(), "damaged PNG: checksum of IDAT"),
        (png(samples())[:-40], "damaged PNG"),
    ],
    "jpeg": [
        (b"\xff\xd8\xff\xc1\0\x0b\x0c\0\x10\0\x10\1\1\x11\0\xff\xd9", "12"),
        (short_jpeg(), "damaged JPEG: its data end before the picture does"),
    ],
    "tiff": [
        (tiff(samples().astype(np.int16), photometric="rgb"), "signed 16-bit samples"),
        (
            tiff(
                np.moveaxis(samples(), -1, 0).astype(np.uint16),
                photometric="rgb",
                planarconfig="separate",
            ),
            "16 bits in separate planes",
        ),
        (tiff(grey().astype(np.float32), photometric="miniswhite"), "white at zero"),
    ],
    "ppm": [
        (b"P7\nWIDTH 1\nHEIGHT 1\nDEPTH 1\nMAXVAL 255\nENDHDR\n\0", "PAM"),
        (b"PF\n1 1\n-1.0\n" + bytes(12), "colour PFM"),
    ],
    "jpeg2000": [
        (jpeg2000(values=grey() >> 4, bitspersample=4, codecformat="j2k"), "4 bits"),
        (signed_jpeg2000(), "signed"),
        (mixed_jpeg2000(), "several depths"),
    ],
    "psd": [(big_psd(2, 8), "PSB"), (big_psd(1, 16), "PSD")],
    "sun": [(with_bytes(sun(samples()), 12, struct.pack(">I", 32)), "32 bits")],
    "xpm": [(re.sub(rb"#(..)....", rb"#\1", xpm(two_colours())), "six digits")],
}
"""By format: a file, and what the refusal says."""


@pytest.mark.parametrize("name", REFUSED)
def test_a_row_refuses_by_name(name: str) -> None:
    for data, words in REFUSED[name]:
        with pytest.raises(PictureError, match=re.escape(words)) as caught:
            to_coded(open_picture(data, "x"))
        assert "\n" not in str(caught.value)


def test_lossless_jpeg_is_read_right_or_refused() -> None:
    """That is for the libjpeg at hand to say."""
    data = bytes(imagecodecs.ljpeg_encode(grey()))
    try:
        assert np.array_equal(to_coded(open_picture(data, "x")).pixels[..., 0], grey())
    except PictureError as error:
        assert "JPEG" in str(error) or "decoder" in str(error)


def test_the_files_by_hand_are_what_others_read() -> None:
    """Where a second reader knows a format, it agrees with the samples."""
    assert np.array_equal(imagecodecs.png_decode(png(samples())), samples())
    assert np.array_equal(
        tifffile.imread(io.BytesIO(tiff(samples(), photometric="rgb"))), samples()
    )
