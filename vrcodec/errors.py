"""The one tree of exceptions that vrcodec raises on purpose, and any exception in one line."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator

_LONGEST = 300
"""Characters of what a library says, which may have it from a hostile file."""


class VrcodecError(Exception):
    """Base of every error that a caller can meet; `str` of it is one line for a person.

    Attributes:
        name: of the file that it is about, which leads the line; None where nobody has said it.
    """

    name: str | None = None

    def __str__(self) -> str:
        text = super().__str__()
        return f"{self.name}: {text}" if self.name else text


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


class ExistsError(VrcodecError):
    """A file would be replaced, and nobody has allowed that."""


def one_line(error: BaseException) -> str:
    """Any exception in one line for a person, with the file's name where the error knows it."""
    text, kind = reason(error), type(error).__name__
    if isinstance(error, OSError) and error.filename and not is_out_of_memory(error):
        return f"{error.filename}: {text}"
    foreseen = isinstance(error, VrcodecError | OSError) or is_out_of_memory(error)
    return text if foreseen or text == kind else f"{kind}: {text}"


def reason(error: BaseException) -> str:
    """What went wrong, in one line without the kind of exception; of others' its first line.

    All that people read of exceptions comes from here.
    """
    if isinstance(error, VrcodecError):
        return str(error)
    if is_out_of_memory(error):
        return "out of memory"
    if isinstance(error, OSError):
        return _os_error_text(error)
    said = error.args[0] if error.args and isinstance(error.args[0], bytes) else error
    text = said.decode("ascii", "backslashreplace") if isinstance(said, bytes) else str(said)
    first, _, _ = text.strip().partition("\n")  # what follows is advice about a library
    first = " ".join(first.split())[:_LONGEST]
    shown = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in first)
    return shown or type(error).__name__


def _os_error_text(error: OSError) -> str:
    """What went wrong with a file, in a few words without its name."""
    missing = error.errno is None and isinstance(error, FileNotFoundError)
    cause = error.__cause__
    if missing and isinstance(cause, OSError):  # a store that does not answer, as its driver has it
        return _os_error_text(cause)
    if missing or error.errno == errno.ENOENT:
        return "no such file or folder"
    text = error.strerror or " ".join(str(error).split()) or type(error).__name__
    return text[:1].lower() + text[1:]


@contextlib.contextmanager
def ending_in_a_line() -> Iterator[None]:
    """For small programs: end with exit code 1 and a line on stderr, not with a traceback.

    Raises:
        SystemExit: instead of a VrcodecError, or of an OSError.
    """
    try:
        yield
    except (VrcodecError, OSError) as error:
        raise SystemExit(f"Error: {one_line(error)}") from error


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, however Python or torch said so."""
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    text = str(error).lower()
    told = any(words in text for words in ("allocate memory", "out of memory", "bad_alloc"))
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and told)


@contextlib.contextmanager
def naming(
    name: str, everything: bool = False, kind: type[VrcodecError] = VrcodecError
) -> Iterator[None]:
    """Put a file's name before the text of errors that do not know it.

    Args:
        name: of the file.
        everything: turn whatever is raised into an error of ours, as is right around the drivers
            of stores and formats; otherwise what nobody foresaw keeps its type.
        kind: of the errors that they become.

    Raises:
        OutOfMemoryError: memory ran out.
        VrcodecError: the system refused something (OSError); of that kind.
    """
    try:
        yield
    except VrcodecError as error:
        if error.name is None:
            error.args = (str(error).removeprefix(f"{name}: "),)
            error.name = name
        raise
    except Exception as error:
        memory = is_out_of_memory(error)
        if not (memory or everything or isinstance(error, OSError)):
            raise
        ours = (OutOfMemoryError if memory else kind)(reason(error))
        ours.name = name
        raise ours from error
