"""The table of a run's rows, as .csv or .json."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import os
import time
from collections.abc import Iterable
from pathlib import Path

from vrcodec.batch import storage
from vrcodec.batch.worker import Row
from vrcodec.errors import VrcodecError
from vrcodec.files import check_target, write_atomically
from vrcodec.text import cell

SUFFIXES = frozenset({".csv", ".json"})
_SECONDS = 5
_SHARE = 20
"""Writing takes at most one part in so many of a run's time."""


class Report:
    """A file that holds all rows so far, sorted by input; written anew while they come.

    Every version of it is whole. One that cannot be written stops nothing: `close` tells.

    Args:
        path: its name ends in one of `SUFFIXES`.
        overwrite: replace a file that is there.
        sources: inputs of the run, which it must not replace.

    Raises:
        VrcodecError: it could not be written, as far as that can be known before.
    """

    def __init__(self, path: Path, overwrite: bool, sources: Iterable[str]) -> None:
        self.path, self.rows = path, list[Row]()
        self._replace, self._due, self._unsaved = overwrite, 0.0, True
        own = storage.identity(str(path))
        if own and any(own == storage.identity(source) for source in sources):
            raise VrcodecError(f"{path}: is an input, and would be replaced")
        if os.path.islink(path):
            raise VrcodecError(f"{path}: is a link, and nothing is written through it")
        check_target(path, overwrite)

    def add(self, row: Row) -> None:
        """Take a row."""
        self.rows.append(row)
        self._unsaved = True
        start = time.monotonic()
        if start >= self._due:
            try:
                self._write()
            except VrcodecError:
                self._due = start + _SECONDS
            else:
                self._due = max(start + _SECONDS, start + _SHARE * (time.monotonic() - start))

    def close(self) -> None:
        """Write what is not written yet. Raises VrcodecError."""
        if self._unsaved:
            self._write()

    def _write(self) -> None:
        rows = sorted(self.rows, key=lambda row: row.input)
        data = _json(rows) if self.path.suffix.lower() == ".json" else _csv(rows)
        write_atomically(self.path, data, self._replace, below=self.path.parent)
        self._replace, self._unsaved = True, False


def _json(rows: Iterable[Row]) -> bytes:
    return (json.dumps([dataclasses.asdict(row) for row in rows], indent=1) + "\n").encode()


def _csv(rows: Iterable[Row]) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in dataclasses.fields(Row)])
    writer.writeheader()
    for row in rows:
        record = dataclasses.asdict(row) | {"notes": "; ".join(row.notes)}
        writer.writerow({key: cell(value) for key, value in record.items()})
    return text.getvalue().encode()
