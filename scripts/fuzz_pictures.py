"""Fuzz the readers of metadata and the door for pictures with atheris.

    python scripts/fuzz_pictures.py CORPUS [options of libFuzzer, such as -max_total_time=3600]

`test_one` is the target: a first byte chooses the reader, the rest is its input. Whatever is not
a PictureError, and every input that takes long, is a finding.
"""

from __future__ import annotations

import contextlib
import io
import sys
import warnings
from collections.abc import Callable

from PIL import Image

from vrcodec.errors import PictureError
from vrcodec.pictures import (
    boxes,
    containers,
    jpeg,
    metadata,
    notes,
    open_picture,
    tiff,
    to_coded,
    xmp,
)

MAX_PIXELS = 1 << 16


def _metadata(key: str) -> Callable[[bytes], object]:
    def read(data: bytes) -> object:
        image = Image.new("RGB", (3, 2))
        image.info[key] = data
        return metadata.collect(image, grey=False)

    return read


def _picture(data: bytes) -> object:
    image = open_picture(data, "x", MAX_PIXELS)
    return notes(image), to_coded(image)


def _xmp(data: bytes) -> object:
    half = len(data) // 2
    xmp.joined(data[:half], [data[half:]])
    return xmp.without_promises(xmp.upright(data))


READERS: tuple[Callable[[bytes], object], ...] = (
    _picture,
    _metadata("exif"),
    _metadata("xmp"),
    _metadata("icc_profile"),
    _xmp,
    containers.png,
    jpeg.segments,
    boxes.heif,
    boxes.jpeg2000,
    boxes.jxl,
    containers.raw_profile,
    lambda data: tiff.inspect(io.BytesIO(data.ljust(16, b"\0"))),
)
"""By the first byte of an input, modulo their number."""


def test_one(data: bytes) -> None:
    """Give an input to the reader that it asks for."""
    if data:
        with contextlib.suppress(PictureError):
            READERS[data[0] % len(READERS)](data[1:])


def main() -> None:
    """Run libFuzzer."""
    import atheris

    warnings.simplefilter("ignore")
    atheris.instrument_all()
    atheris.Setup(sys.argv, test_one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
