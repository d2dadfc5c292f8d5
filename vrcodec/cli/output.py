"""Lines for people and programs: escaped, in any encoding, to streams that may be full or gone.

What cannot be written stops no work: it is told once, at the end, and by the exit code.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterator
from typing import Any, TextIO

from vrcodec.errors import one_line, reason
from vrcodec.text import printable

_HINTS = (
    ("ExistsError", "exists", "--overwrite", "use --overwrite to replace it"),
    ("TargetError", "cannot be reached", "--best-effort", "--best-effort takes that"),
    ("UnknownWeightsError", "", "--weights", "name the right ones with --weights FILE"),
)
"""By class of an error and words in it: an option, and what it can do about it."""

_broken: dict[str, OSError] = {}


def claim_streams() -> None:
    """See to it that no file opened later gets the number of a closed stdin, stdout or stderr."""
    _broken.clear()
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def say(text: str, err: bool = False, file: TextIO | None = None) -> None:
    """Print lines without tearing a progress bar, to stdout unless something else is given."""
    name = "stderr" if err else "stdout"
    stream = file or getattr(sys, name)
    if stream is None or name in _broken:
        return
    text = "".join(f"{printable(line)}\n" for line in text.split("\n"))
    with _beside_bars():
        try:
            _write(stream, text.encode(stream.encoding or "utf-8", "backslashreplace"))
        except OSError as error:
            give_up(name, stream, error)


def say_line(text: str, err: bool = False, file: TextIO | None = None) -> None:
    """As `say`, of text that is one line, whatever it holds."""
    say(printable(text), err, file)


def complain(error: BaseException | str, kind: str = "") -> None:
    """Print what has failed, in one line on stderr, with the option that helps if there is one.

    Args:
        error: itself, or its text.
        kind: the class of the error where `error` is its text.
    """
    text = error
    if isinstance(error, BaseException):
        text, kind = one_line(error), type(error).__name__
    for its_kind, words, option, hint in _HINTS:
        if kind == its_kind and words in str(text) and option not in str(text):
            text = f"{text} ({hint})"
    say_line(f"Error: {text}", err=True)


def give_up(name: str, stream: Any, error: OSError) -> None:
    """Write no more to a stream; whatever its buffers still hold goes nowhere."""
    _broken[name] = error
    with contextlib.suppress(OSError, ValueError, AttributeError):
        handle = os.open(os.devnull, os.O_WRONLY)
        os.dup2(handle, stream.fileno())
        os.close(handle)


def is_lost() -> bool:
    """Whether stdout takes no more; what it cannot take is given up."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        give_up("stdout", sys.stdout, error)
        return True
    return False


def tell_what_broke() -> bool:
    """Whether output was lost, which is said if it can be; a reader that has enough lost none."""
    lost = {
        name: error for name, error in _broken.items() if not isinstance(error, BrokenPipeError)
    }
    for name, error in lost.items():
        say_line(f"Error: {name}: {reason(error)}", err=True)
    return bool(lost)


def on_terminal() -> bool:
    """Whether somebody watches stderr."""
    return sys.stderr is not None and "stderr" not in _broken and sys.stderr.isatty()


@contextlib.contextmanager
def progress(total: int, unit: str, shown: bool, what: str = "") -> Iterator[Any]:
    """A bar on stderr, if it is to be shown and that is a terminal; its clock does not stand."""
    from tqdm import tqdm

    visible = shown and on_terminal()
    done = threading.Event()
    with tqdm(
        total=total,
        desc=what or None,
        unit=unit,
        file=sys.stderr or open(os.devnull, "w"),
        leave=False,
        disable=not visible,
    ) as bar:

        def tick() -> None:
            while not done.wait(1):
                bar.refresh()

        if visible:
            threading.Thread(target=tick, daemon=True).start()
        try:
            yield bar
        finally:
            done.set()


def _beside_bars() -> contextlib.AbstractContextManager[Any]:
    """Room between progress bars, if there are any."""
    tqdm = sys.modules.get("tqdm")
    if tqdm is None or not on_terminal():
        return contextlib.nullcontext()
    room: contextlib.AbstractContextManager[Any] = tqdm.tqdm.external_write_mode()
    return room


def _write(stream: TextIO, data: bytes) -> None:
    """All of it, past the stream's buffer, which would fail again at the end of the process."""
    stream.flush()
    try:
        handle = stream.fileno()
    except (OSError, ValueError):  # a stand-in, as in tests
        stream.write(data.decode(stream.encoding or "utf-8"))
        return
    while data:
        data = data[os.write(handle, data) :]
