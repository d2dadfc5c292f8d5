"""Which weights a file holds: its id and its configuration, without NumPy, in some hundredths of a
second. Whether they are sound is not looked at here; see weights_file.py."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vrcodec.errors import WeightsError, reason
from vrcodec.model.config import ModelConfig

ID_DIGITS = 16
"""64 bits of the hash, as hexadecimal digits."""
MAX_BYTES = 256 << 20
MAX_HEADER_BYTES = 2 << 20
"""Of the names, types and shapes; the largest configuration there is needs less."""
_NO_WAITING = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)

Part = tuple[str, str, Sequence[int], Any]
"""A tensor: its name, its type as safetensors spells it, its shape, and its bytes."""


def default_weights() -> Path:
    """The released weights: in the installed package, or in the checkout it runs from.

    Raises:
        WeightsError: there are none.
    """
    package = Path(__file__).resolve().parents[1]
    for path in (
        package / "weights_data" / "release.safetensors",
        package.parent / "weights" / "release.safetensors",
    ):
        if path.is_file():
            return path
    raise WeightsError("this installation has no weights; name some with --weights FILE")


def identify(path: Path) -> tuple[str, ModelConfig]:
    """Id and configuration of a weights file. Raises WeightsError: it is none."""
    with naming(path):
        data = memoryview(read_file(path))
        end = 8 + header_length(data)
        try:
            entries = json.loads(bytes(data[8:end]))
            config = (entries.pop("__metadata__", None) or {}).get("config", "")
            parts = [
                (name, entry["dtype"], entry["shape"], data[end:][slice(*entry["data_offsets"])])
                for name, entry in entries.items()
            ]
            if sum(len(part) for _, _, _, part in parts) > len(data) - end:
                raise WeightsError("not a weights file: its tensors overlap")
            return id_of(config, parts), ModelConfig.from_json(config)
        except (AttributeError, KeyError, RecursionError, TypeError) as error:
            raise WeightsError("not a weights file: strange header") from error


def id_of(config: str, parts: Iterable[Part]) -> str:
    """ID_DIGITS hex digits that name weights of these tensors with this configuration."""
    digest = hashlib.sha256()
    for name, dtype, shape, data in sorted(parts, key=lambda part: part[0]):
        for text in (name, dtype, ",".join(map(str, shape))):
            digest.update(text.encode() + b"\0")
        digest.update(data)
    digest.update(config.encode())
    return digest.hexdigest()[:ID_DIGITS]


def header_length(data: bytes | memoryview) -> int:
    """Bytes of the names, types and shapes. Raises WeightsError: too many."""
    length = int.from_bytes(data[:8], "little")
    if length > MAX_HEADER_BYTES:
        raise WeightsError(f"not a weights file: a header of {length:,} bytes")
    return length


def read_file(path: Path, max_bytes: int = MAX_BYTES) -> bytes:
    """The bytes of a weights file; nothing but a regular file is opened, or waited for.

    Raises:
        WeightsError, OSError: it is none, or cannot be read.
    """
    _check_file(path.stat(), max_bytes)
    with open(os.open(path, os.O_RDONLY | _NO_WAITING), "rb") as file:
        facts = os.fstat(file.fileno())
        _check_file(facts, max_bytes)
        return file.read(facts.st_size)


def _check_file(facts: os.stat_result, max_bytes: int) -> None:
    if not stat.S_ISREG(facts.st_mode):
        raise WeightsError("not a weights file: not a regular file")
    if facts.st_size > max_bytes:
        raise WeightsError("too large for a weights file")


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """One line with the file's name, whatever is wrong with it."""
    try:
        yield
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from error
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path}: not a weights file: {reason(error)[:200]}") from error
