"""Standard input and output as files of a run."""

from __future__ import annotations

import sys
from typing import BinaryIO

from vrcodec.errors import VrcodecError, naming


class ReaderGone(VrcodecError):
    """Whoever read from stdout has enough."""


def stdin() -> BinaryIO:
    """Standard input. Raises VrcodecError if it is closed."""
    if sys.stdin is None:
        raise VrcodecError("is closed")
    return sys.stdin.buffer


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
