"""Pictures in and out of Pillow: what is kept of a source, and what is said about the rest."""

from vrcodec.pictures.coded import (
    FORMATS,
    MAX_PIXELS,
    CodedPicture,
    from_coded,
    notes,
    open_picture,
    save_picture,
    to_coded,
)

__all__ = [
    "FORMATS",
    "MAX_PIXELS",
    "CodedPicture",
    "from_coded",
    "notes",
    "open_picture",
    "save_picture",
    "to_coded",
]
