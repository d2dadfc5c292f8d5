"""What is said of a run: a line for a file, failures, the report, a summary."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import click

from vrcodec.batch import storage
from vrcodec.cli import common, output
from vrcodec.cli.inputs import Plan
from vrcodec.errors import VrcodecError

if TYPE_CHECKING:
    from vrcodec.batch.listing import Listing
    from vrcodec.batch.worker import Row
    from vrcodec.cli.runs import Options


class Teller:
    """Says what comes of every file, and keeps what is said at the end."""

    def __init__(self, plan: Plan, options: Options, line: Callable[[Row], str]) -> None:
        from vrcodec.batch.report import Report

        self.plan, self.options, self.line = plan, options, line
        self.is_folder = plan.source is not None
        self.stdout = sys.stdout
        self.streams = any(task.target == "-" for task in plan.listing.tasks)
        self.counts: Counter[str] = Counter()
        self.failures: list[tuple[str, str]] = []
        self.start = time.perf_counter()
        sources = (task.source for task in plan.listing.tasks)
        self.report = Report(options.report, options.overwrite, sources) if options.report else None

    @contextlib.contextmanager
    def told(self) -> Iterator[None]:
        """Around the run: begins with what is known before, ends with the report and a summary."""
        from vrcodec.batch.worker import Row

        for failure in self.plan.listing.failures:
            row = Row(failure.rpartition(": ")[0], "", "failed", error=failure)
            self.take(row)
        try:
            yield
        except BaseException:
            self._close_report()
            raise
        saved = self._close_report()
        if self.is_folder:
            for text, kind in self.failures:
                output.complain(text, kind)
            if not self.options.quiet:
                common.say(self._summary(), err=self.options.as_json)
        elif not self.options.quiet:
            skipped = say_skipped(self.plan.listing, self.options.verbose)
            if not (self.plan.listing.tasks or self.failures):
                common.say_line(f"nothing to do{skipped}", err=True)
        if self.failures or not saved:
            raise click.exceptions.Exit(1)

    def take(self, row: Row) -> None:
        """Take note of a row, and print what is to be printed at once."""
        self.counts[row.status] += 1
        self.counts["notes"] += bool(row.notes)
        if row.status == "done":
            self.counts["grown"] += row.has_grown
            self.counts["pixels"] += (row.width or 0) * (row.height or 0)
            self.counts["source"] += row.source_bytes or 0
            self.counts["result"] += row.bytes or 0
        if row.error:
            self.failures.append((row.error, row.error_type or ""))
            if not self.is_folder:
                output.complain(*self.failures[-1])
        if self.report:
            self.report.add(row)
        if self.options.as_json:
            stream = sys.stderr if self.streams else self.stdout
            output.say(json.dumps(dataclasses.asdict(row)), err=self.streams, file=stream)
        elif not self.options.quiet:
            self._print(row)

    def speed(self) -> str:
        """Megapixels per second, and source bytes for one byte of result; so far."""
        if not self.counts["result"]:
            return ""
        seconds = time.perf_counter() - self.start
        ratio = self.counts["source"] / self.counts["result"]
        return f"{self.counts['pixels'] / seconds / 1e6:.2f} MP/s, ratio {ratio:.2f}"

    def _print(self, row: Row) -> None:
        detailed = self.options.verbose or not self.is_folder
        name = storage.shown(row.input)
        if row.status == "done" and row.input in self.plan.remarks:
            common.say_line(f"{name}: {self.plan.remarks[row.input]}", err=True)
        if detailed:
            for note in row.notes:
                common.say_line(f"{name}: {note}", err=True)
        if detailed and not row.error and row.output != "-":
            said = self.line(row) if row.status in {"done", "left out"} else row.status
            if row.has_grown:
                said += ", larger than its source" + ": left out" * (row.status == "left out")
            common.say_line(f"{name} -> {row.output}: {said}", err=self.streams)

    def _close_report(self) -> bool:
        """Whether there is none, or it is written; what is wrong with it is said."""
        try:
            if self.report:
                self.report.close()
        except VrcodecError as error:
            output.complain(error)
            return False
        return True

    def _summary(self) -> str:
        counts, seconds = self.counts, time.perf_counter() - self.start
        parts = [f"{counts['done']:,} done"]
        for status, words in (
            ("finished", "finished before"),
            ("left out", "left out, larger than their sources"),
            ("failed", "failed"),
        ):
            if counts[status]:
                parts.append(f"{counts[status]:,} {words}")
        text = ", ".join(parts) + say_skipped(self.plan.listing, self.options.verbose)
        if counts["grown"]:
            text += f"; {counts['grown']:,} larger than their sources"
        if counts["notes"]:
            text += f"; {counts['notes']:,} with notes (see --report, or -v)"
        if counts["done"]:
            text += (
                f"; {counts['source']:,} -> {counts['result']:,} bytes, {seconds:.1f} s, "
                f"{counts['done'] / seconds:.1f} pictures/s, {self.speed()}"
            )
        return text


def say_skipped(listing: Listing, verbose: bool) -> str:
    """What the end of a summary says about files that are not worked on."""
    from vrcodec.batch.listing import missing_plugins

    missing = missing_plugins(listing.skipped)
    if verbose:
        for name in listing.skipped:
            package = missing.get(os.path.splitext(name)[1].lower())
            reason = f"needs {package}" if package else "by its name"
            common.say_line(f"{storage.unsecret(name)}: skipped, {reason}", err=True)
        for name in listing.left_out:
            common.say_line(f"{storage.unsecret(name)}: left out by pattern", err=True)
    text = f"; other files skipped: {len(listing.skipped):,}" if listing.skipped else ""
    if missing:
        needs = ", ".join(f"{suffix} needs {package}" for suffix, package in missing.items())
        text += f" ({needs})"
    return text + (f"; left out by pattern: {len(listing.left_out):,}" if listing.left_out else "")
