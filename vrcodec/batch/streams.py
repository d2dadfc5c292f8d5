"""Standard input and output as files of a run, and streams of unknown length."""

from __future__ import annotations

import os
import stat
import sys
from typing import BinaryIO

from vrcodec.errors import NotVrcError, VrcodecError, naming

MAX_STREAM = 1 << 30
"""Bytes that are read from a pipe, whose length nobody knows."""
_PIECE = 1 << 20


class ReaderGone(VrcodecError):
    """Whoever read from stdout has enough."""


def stdin() -> BinaryIO:
    """Standard input. Raises VrcodecError if it is closed."""
    if sys.stdin is None:
        raise VrcodecError("is closed")
    return sys.stdin.buffer


def read_stream(file: BinaryIO, begins: bytes) -> bytes:
    """A stream to its end; a pipe or device not beyond all bounds.

    Raises:
        NotVrcError: it does not begin like this.
        VrcodecError: it has no end.
    """
    head = file.read(len(begins))
    if head != begins:
        raise NotVrcError("not a .vrc file")
    if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        return head + file.read()
    pieces = [head]
    length = 0
    while piece := file.read(_PIECE):
        pieces.append(piece)
        length += len(piece)
        if length > MAX_STREAM:
            raise VrcodecError(f"more than {MAX_STREAM >> 30} GiB from a pipe or device")
    return b"".join(pieces)


def write_stdout(data: bytes) -> None:
    """All of it. Raises ReaderGone, or VrcodecError, `stdout: what`."""
    with naming("stdout"):
        if sys.stdout is None:
            raise VrcodecError("is closed")
        try:
            with open(sys.stdout.fileno(), "wb", closefd=False) as file:
                file.write(data)
        except BrokenPipeError as error:
            raise ReaderGone from error
