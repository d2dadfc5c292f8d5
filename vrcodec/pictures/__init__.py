"""Pictures in and out of Pillow: what is kept of a source, and what is said about the rest.

Nothing heavy is imported until it is used: `pictures.formats` needs no Pillow.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from vrcodec.pictures.formats import FORMATS

if TYPE_CHECKING:
    from vrcodec.pictures.coded import CodedPicture, from_coded, notes, read_pixels, to_coded
    from vrcodec.pictures.reading import MAX_PIXELS, open_picture
    from vrcodec.pictures.writing import PictureFile, fitted, save_picture, to_file

__all__ = [
    "FORMATS",
    "MAX_PIXELS",
    "CodedPicture",
    "PictureFile",
    "fitted",
    "from_coded",
    "notes",
    "open_picture",
    "read_pixels",
    "save_picture",
    "to_coded",
    "to_file",
]

_HOMES = {
    "coded": ("CodedPicture", "from_coded", "notes", "read_pixels", "to_coded"),
    "reading": ("MAX_PIXELS", "open_picture"),
    "writing": ("PictureFile", "fitted", "save_picture", "to_file"),
}


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            value = getattr(importlib.import_module(f"{__name__}.{module}"), name)
            globals()[name] = value
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
