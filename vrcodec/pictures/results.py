"""What becomes of decoded pictures: their format and size. No Pillow, so that names cost little."""

from __future__ import annotations

from vrcodec.bitstream.container import SourceKind
from vrcodec.pictures.formats import WRITTEN

SAME = "same"
"""Instead of a format's name: that of the source."""
FALLBACK = "png"
"""Holds everything: for sources of kinds that are not written, or not known."""
JPEG_QUALITY = 95
"""Of JPEG, unless somebody wants another."""
_FORMATS = {
    SourceKind.AVIF: "avif",
    SourceKind.BMP: "bmp",
    SourceKind.JPEG: "jpeg",
    SourceKind.NETPBM: "ppm",
    SourceKind.PNG: "png",
    SourceKind.TIFF: "tiff",
    SourceKind.WEBP: "webp",
}


def same_format(kind: SourceKind, transparent: bool) -> str:
    """The format, one of `FORMATS`, for a picture of this source; PNG where that cannot hold it."""
    format = WRITTEN[_FORMATS.get(kind, FALLBACK)]
    return FALLBACK if transparent and not format.alpha else format.name


def reduced_size(size: tuple[int, int], reduce: int) -> tuple[int, int]:
    """Width and height of a picture that is so many times smaller along each side."""
    return -(-size[0] // reduce), -(-size[1] // reduce)


def fitted_size(size: tuple[int, int], side: int) -> tuple[int, int]:
    """Width and height of a picture, brought down so that none exceeds `side`."""
    factor = min(1.0, side / max(size))
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))
