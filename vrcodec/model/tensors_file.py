"""Safetensors files from anywhere: hostile until size, header, types and values are checked.

No torch here. What names and shapes there may be, only the kind of file knows.
"""

from __future__ import annotations

import json
import os
import reprlib
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, deserialize

from vrcodec.errors import WeightsError
from vrcodec.files import os_error_text

MAX_HEADER_BYTES = 2 << 20
"""Of the names, types and shapes; the largest configuration there is needs less."""
MAX_VALUE = 65504.0
"""Largest magnitude of a parameter, that of float16."""
DTYPES: dict[str, np.dtype[Any]] = {
    "F16": np.dtype("<f2"),
    "F32": np.dtype("<f4"),
    "I32": np.dtype("<i4"),
}
"""The types that there are, by their names in files."""


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """One line with the file's name, whatever is wrong with it."""
    try:
        yield
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from error
    except OSError as error:
        raise WeightsError(f"{path}: not a weights file: {os_error_text(error)}") from error
    except (SafetensorError, ValueError) as error:
        text = "".join(c if c.isprintable() else "?" for c in str(error)[:200])
        raise WeightsError(f"{path}: not a weights file: {text}") from error


def read_regular(path: Path, max_bytes: int) -> bytes:
    """The bytes of a file; nothing but a regular file is opened, or waited for.

    Raises:
        OSError: it cannot be read.
        WeightsError: it is special, or too large.
    """
    _check_file(path.stat(), max_bytes)
    with open(os.open(path, os.O_RDONLY | _NO_WAITING), "rb") as file:
        facts = os.fstat(file.fileno())
        _check_file(facts, max_bytes)
        return file.read(facts.st_size)


_NO_WAITING = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


def _check_file(facts: os.stat_result, max_bytes: int) -> None:
    if not stat.S_ISREG(facts.st_mode):
        raise WeightsError("not a weights file: not a regular file")
    if facts.st_size > max_bytes:
        raise WeightsError("too large for a weights file")


def parse_tensors(data: bytes) -> tuple[dict[str, str], dict[str, NDArray[Any]]]:
    """The metadata and the tensors of a safetensors file.

    Raises:
        WeightsError, ValueError, SafetensorError: it is none, or a tensor is of another type
            than `DTYPES`.
    """
    length = int.from_bytes(data[:8], "little")
    if length > MAX_HEADER_BYTES:
        raise WeightsError(f"not a weights file: a header of {length:,} bytes")
    tensors = {}
    entries: list[tuple[str, dict[str, Any]]] = deserialize(data)
    for name, entry in entries:
        dtype = DTYPES.get(entry["dtype"])
        if dtype is None:
            raise WeightsError(f"{shown(name)} is of a wrong type")
        tensors[name] = np.frombuffer(entry["data"], dtype).reshape(entry["shape"])
    return json.loads(data[8 : 8 + length]).get("__metadata__") or {}, tensors


def check_finite(name: str, tensor: NDArray[Any]) -> None:
    """Raise WeightsError for numbers that no training ends with."""
    if not (np.abs(tensor) <= MAX_VALUE).all():  # false for a NaN, too
        raise WeightsError(f"{shown(name)} is not finite, or beyond {MAX_VALUE:g}")


def shown(name: str) -> str:
    """A name out of a hostile file, short and printable."""
    return name if name.isprintable() and len(name) < 80 else reprlib.repr(name)
