"""The one tree of exceptions that vrcodec raises on purpose, and their naming of files."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator


class VrcodecError(Exception):
    """Base of every error that a caller can meet; its text is one line for a person."""


class FormatError(VrcodecError):
    """The bytes are not a valid .vrc file."""


class NotVrcError(FormatError):
    """The bytes do not start like a .vrc file at all."""


class UnsupportedVersionError(FormatError):
    """A .vrc file of a version that this program does not know."""


class TruncatedError(FormatError):
    """The file ends before its contents do."""


class CorruptError(FormatError):
    """A checksum or an internal rule is violated."""


class WeightsError(VrcodecError):
    """A weights file is missing, broken or impossible."""


class UnknownWeightsError(WeightsError):
    """A .vrc file was made with weights other than the loaded ones."""


class PictureError(VrcodecError):
    """A picture cannot be read, is too large, or cannot be written."""


class DialError(VrcodecError, ValueError):
    """The weights have no such dial, or it has no such position."""


class ArgumentError(VrcodecError, ValueError):
    """A caller passed something of a wrong kind; the text says what to pass."""


class TargetError(VrcodecError):
    """No quality reaches the size or the fidelity that was asked for."""


class OutOfMemoryError(VrcodecError):
    """The machine or its limits have not enough memory for a picture."""


@contextlib.contextmanager
def naming(name: str) -> Iterator[None]:
    """Put a file's name before the text of errors that do not know it.

    Raises:
        OutOfMemoryError: memory ran out, however Python or torch said so.
    """
    try:
        yield
    except VrcodecError as error:
        raise type(error)(f"{name}: {error}") from error
    except (MemoryError, RuntimeError) as error:
        text = str(error).lower()
        told = any(words in text for words in ("allocate memory", "out of memory", "bad_alloc"))
        if not (told or isinstance(error, MemoryError)):
            raise
        raise OutOfMemoryError(f"{name}: out of memory") from error
