"""What a run says while it goes on: a CSV file, TensorBoard if asked, a bar or plain lines."""

from __future__ import annotations

import contextlib
import csv
import io
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from tqdm import tqdm

from vrcodec.errors import VrcodecError, naming, reason

LOG = "log.csv"
TENSORBOARD = "tensorboard"
LINE_EVERY = 60.0
"""Seconds between plain lines, where there is no terminal for a bar."""


class Log:
    """Figures of a run as it goes: one row at a time.

    Args:
        folder: of the run; None: nothing is written (another process writes).
        figures: names of the objective's figures, between the loss and the learning rate.
        visible: show them on stderr, too: a bar in a terminal, a line a minute elsewhere.
        tensorboard: write TensorBoard's events beside the rows.
        step: where the run goes on; what the log has of later steps, which were taken back with
            the checkpoint, is cut off.

    Raises:
        VrcodecError: the log cannot be opened.
    """

    def __init__(
        self,
        folder: Path | None,
        figures: tuple[str, ...],
        visible: bool = False,
        tensorboard: bool = False,
        step: int = 0,
    ) -> None:
        self.columns = ("step", "patches", "seconds", "loss", *figures, "lr", "grad_norm")
        self.path = folder / LOG if folder else None
        self.visible = visible and folder is not None
        self.terminal = self.visible and sys.stderr.isatty()
        self._file = _append(self.path, step) if self.path else None
        self._events = (
            event_writer()(folder / TENSORBOARD, step) if folder and tensorboard else None
        )
        self._bar = tqdm(unit="step", disable=not self.terminal)
        self._said = self._complained = 0.0

    def __enter__(self) -> Log:
        if self._file and os.fstat(self._file.fileno()).st_size == 0:
            self._write(self.columns)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._bar.close()
        if self._file:
            with contextlib.suppress(OSError):
                self._file.close()
        if self._events:
            self._events.close()

    def row(self, values: Mapping[str, float], left: float) -> None:
        """Write a row. Where the disk is full the run goes on, and says so.

        Args:
            values: by column.
            left: seconds until the budget is spent, as far as one can tell.
        """
        texts = [_text(name, values[name]) for name in self.columns]
        self._write(texts)
        if self._events:
            for name in self.columns[2:]:
                self._events.add_scalar(name, values[name], int(values["step"]))
        shown = "  ".join(
            f"{name} {values[name]:.4g}" for name in self.columns[3:-2] if name in values
        )
        speed = f"{values['rate']:.1f} crops/s, {_duration(left)} left"
        if self.terminal:
            self._bar.set_postfix_str(f"{shown}  {speed}", refresh=False)
        elif self.visible and time.monotonic() - self._said > LINE_EVERY:
            self._said = time.monotonic()
            self.say(f"step {texts[0]}: {shown}  {speed}")

    def progress(self, step: int, total: int) -> None:
        """Move the bar to a step; `total` may be 0, for unknown."""
        self._bar.total = total or None
        self._bar.update(step - self._bar.n)

    def say(self, line: str) -> None:
        """A line for people, on stderr, if there is anybody to see it."""
        if self.visible:
            with tqdm.external_write_mode(file=sys.stderr):
                print(line, file=sys.stderr, flush=True)

    def _write(self, row: object) -> None:
        if not self._file:
            return
        line = io.StringIO()
        csv.writer(line).writerow(row)  # type: ignore[arg-type]
        try:
            self._file.write(line.getvalue().encode())
        except OSError as error:
            if not self._complained:
                self.say(f"{self.path}: {reason(error)}; the run goes on")
            self._complained = 1.0


def event_writer() -> Callable[[Path, int], Any]:
    """TensorBoard's writer for a folder, from a step on. Raises VrcodecError if it is missing."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise VrcodecError("logging for TensorBoard needs the package tensorboard") from None
    return lambda folder, step: SummaryWriter(str(folder), purge_step=step)


def _append(path: Path, step: int) -> io.FileIO:
    """A log to be gone on with behind its rows up to a step, unbuffered; not through a link."""
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0)
    with naming(str(path)):
        file = io.FileIO(os.open(path, flags, 0o666), "a+")
        file.seek(0)
        file.truncate(_kept(file.readall(), step))
        return file


def _kept(log: bytes, step: int) -> int:
    """How many bytes of a log to keep: its first line, and whole rows up to a step."""
    header, *rows = log.splitlines(keepends=True) or [b""]
    kept = 0 if step == 0 else len(header)
    for row in rows if kept else []:
        number = row.partition(b",")[0]
        if not (row.endswith(b"\n") and number.isdigit() and int(number) <= step):
            break
        kept += len(row)
    return kept


def _text(name: str, value: float) -> str:
    if name in ("step", "patches"):
        return str(int(value))
    if name == "seconds":
        return f"{value:.1f}"
    return f"{value:.3g}" if name in ("lr", "grad_norm") else f"{value:.5g}"


def _duration(seconds: float) -> str:
    if seconds >= 1e8:
        return "years"
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}"
