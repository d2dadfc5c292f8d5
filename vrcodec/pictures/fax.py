"""Fax data in TIFF (CCITT T.4 and T.6): whether they are as many rows as the picture has.

libtiff takes a mark of the end for the end, wherever it stands, and leaves the rest of a strip as
its buffer was. Each strip is therefore read after one that is white, and after one that is black:
rows that are not the same both times were never there.
"""

from __future__ import annotations

import io
import struct
from typing import BinaryIO

from PIL import Image, TiffImagePlugin

from vrcodec.errors import PictureError
from vrcodec.pictures import tiff

COMPRESSIONS = {2: "tiff_ccitt", 3: "group3", 4: "group4"}
"""Pillow's names of them."""
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def check(stream: BinaryIO, samples: tiff.Samples) -> None:
    """Read every strip of a fax twice.

    Args:
        stream: the file.
        samples: what `tiff.inspect` found in it.

    Raises:
        PictureError: a strip has fewer rows than it should.
    """
    if samples.tiled:
        raise PictureError("TIFF of fax data in tiles is not supported")
    (width, height), rows = samples.size, samples.piece[1]
    before = [_one_colour(samples, width, rows, colour) for colour in (0, 1)]
    for number, (place, length) in enumerate(samples.pieces):
        stream.seek(place)
        strip = stream.read(length)
        own = min(rows, height - number * rows)
        if len({_after(first, strip, samples, (width, rows, own)) for first in before}) > 1:
            raise PictureError("damaged TIFF: its fax data are not whole")


def _one_colour(samples: tiff.Samples, width: int, rows: int, colour: int) -> bytes:
    """A strip of white or black, in the order of bits and with the options of another."""
    buffer = io.BytesIO()
    name, options = COMPRESSIONS[samples.compression], samples.fax_options
    info = {278: rows} | ({292: options} if samples.compression == 3 else {})
    Image.new("1", (width, rows), colour).save(buffer, "TIFF", compression=name, tiffinfo=info)
    data = buffer.getvalue()
    ((place, length),) = tiff.inspect(buffer).pieces
    strip = data[place : place + length]
    return strip.translate(_REVERSED) if samples.reversed_bits else strip


def _after(first: bytes, strip: bytes, samples: tiff.Samples, sides: tuple[int, int, int]) -> int:
    """A hash of what a strip becomes that is read after another.

    Args:
        sides: width, rows of the first strip, and rows of the other.
    """
    width, rows, own = sides
    options = 293 if samples.compression == 4 else 292
    values = {
        256: width,
        257: rows + own,
        258: 1,
        259: samples.compression,
        262: 1,
        266: 2 if samples.reversed_bits else 1,
        277: 1,
        278: rows,
        options: samples.fax_options,
    }
    start = 14 + 12 * (len(values) + 2)
    entries = [(tag, 4, 1, value) for tag, value in values.items()]
    entries += [(273, 4, 2, start), (279, 4, 2, start + 8)]
    directory = b"".join(struct.pack("<HHII", *entry) for entry in sorted(entries))
    places = (start + 16, start + 16 + len(first), len(first), len(strip))
    head = b"II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + directory + bytes(4)
    data = head + struct.pack("<4I", *places) + first + strip
    with TiffImagePlugin.TiffImageFile(io.BytesIO(data)) as image:
        return hash(image.crop((0, rows, width, rows + own)).tobytes())
