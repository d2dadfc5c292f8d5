"""What an evaluation has measured so far, kept line by line as results come."""

from __future__ import annotations

import contextlib
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from vrcodec.errors import VrcodecError, naming

_FLAGS = os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
_FLAGS |= getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)


class Notebook:
    """Results by key, in a file of one JSON object per line; without a path in memory only.

    The file is only ever added to. A link or a device under its name is refused.

    Raises:
        VrcodecError: the file cannot be read or written.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self.results: dict[str, dict[str, Any]] = {}
        if path is None:
            return
        with self._open() as file:
            file.seek(0)
            lines = file.read().split(b"\n")
            if lines[-1]:
                file.write(b"\n")  # a killed run ended within a line
        for line in lines:
            try:
                entry = json.loads(line)
                if isinstance(entry["key"], str) and isinstance(entry["result"], dict):
                    self.results[entry["key"]] = entry["result"]
            except (ValueError, KeyError, TypeError, RecursionError):
                continue

    def add(self, key: str, result: dict[str, Any]) -> None:
        """Keep a result, also on disk."""
        self.results[key] = result
        if self.path is not None:
            with self._open() as file:
                file.write(json.dumps({"key": key, "result": result}).encode() + b"\n")

    @contextlib.contextmanager
    def _open(self) -> Iterator[IO[bytes]]:
        """The file, to read and add to; an OSError inside becomes a VrcodecError that names it."""
        assert self.path is not None
        flags = _FLAGS
        with naming(str(self.path)), os.fdopen(os.open(self.path, flags, 0o666), "r+b") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise VrcodecError("not a regular file")
            yield file
