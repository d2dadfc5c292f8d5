"""What callers hand in as a picture or as a file: paths, streams, bytes, arrays. No torch here."""

from __future__ import annotations

import io
import os
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vrcodec import pictures
from vrcodec.errors import ArgumentError, naming
from vrcodec.files import read_bytes, read_stream

FileSource = str | os.PathLike[str] | bytes | bytearray | memoryview | NDArray[np.uint8] | BinaryIO
"""A file: its path, its bytes (as an array: uint8 in one dimension), or a binary stream."""
PictureSource = Image.Image | NDArray[np.uint8] | FileSource
"""A picture: one of Pillow's, an array (H, W) or (H, W, 1 to 4) of uint8, or a picture file."""
_NAMED = "the bytes"


def as_bytes(source: FileSource, begins: bytes = b"") -> bytes:
    """The contents of a file.

    Args:
        source: path, bytes or stream.
        begins: what a path or stream has to begin with; no more is read where it does not.

    Raises:
        ArgumentError: the source is of no kind that could be one.
        NotVrcError: it begins otherwise.
        VrcodecError: it cannot be read.
    """
    if isinstance(source, (str, os.PathLike)):
        return read_bytes(Path(source), begins)
    if isinstance(source, (bytes, bytearray, memoryview)):
        return bytes(source)
    if isinstance(source, np.ndarray) and source.dtype == np.uint8 and source.ndim == 1:
        return source.tobytes()
    if isinstance(source, io.TextIOBase | np.ndarray) or not hasattr(source, "read"):
        raise ArgumentError(_no_file(source))
    try:
        with naming_source(source):
            return read_stream(source, begins)
    except TypeError as error:  # it gives something else than bytes
        raise ArgumentError(_no_file(source)) from error
    except ValueError as error:  # of a closed file
        raise ArgumentError(f"{_name(source)} cannot be read: {error}") from error


def naming_source(source: object) -> AbstractContextManager[None]:
    """Puts the name of a file, where it has one, before the text of errors; see `naming`."""
    named = isinstance(source, (str, os.PathLike)) or isinstance(getattr(source, "name", 0), str)
    return naming(_name(source)) if named else nullcontext()


def as_picture(source: PictureSource, max_pixels: int) -> Image.Image:
    """A picture as Pillow's.

    Raises:
        ArgumentError: the source is of no kind that could be one.
        PictureError: it cannot be read, or has more pixels than `max_pixels`.
    """
    if isinstance(source, Image.Image):
        return source
    if isinstance(source, np.ndarray):
        return _from_array(source)
    if isinstance(source, (str, os.PathLike)):
        return pictures.open_picture(Path(source), os.fspath(source), max_pixels)
    if isinstance(source, (bytes, bytearray, memoryview)) or hasattr(source, "read"):
        return pictures.open_picture(as_bytes(source), _name(source), max_pixels)
    raise ArgumentError(
        f"{_kind(source)} is no picture: pass a Pillow picture, a NumPy array of uint8, a path, "
        "bytes, or a file opened with 'rb'"
    )


def _from_array(array: NDArray[Any]) -> Image.Image:
    shape = array.shape
    plain = array.ndim == 2 or (array.ndim == 3 and 1 <= shape[2] <= 4)
    if array.dtype != np.uint8 or not plain:
        raise ArgumentError(
            f"an array of {array.dtype} {shape} is no picture: pass uint8, (height, width) or "
            "(height, width, 1 to 4)"
        )
    if not array.size:
        raise ArgumentError("an array without pixels is no picture")
    samples = array[..., 0] if array.ndim == 3 and shape[2] == 1 else array
    return Image.fromarray(np.ascontiguousarray(samples))


def _name(source: object) -> str:
    """What errors call it."""
    name = source if isinstance(source, (str, os.PathLike)) else getattr(source, "name", None)
    return os.fspath(name) if isinstance(name, (str, os.PathLike)) else _NAMED


def _no_file(source: object) -> str:
    return f"{_kind(source)} is no file: pass a path, bytes, or a file opened with 'rb'"


def _kind(source: object) -> str:
    return f"a {type(source).__name__}"
