"""What `encode` and `decode` share about whole folders: options, progress, report."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import io
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from vrcodec.batch.storage import is_url, plain
from vrcodec.cli import common
from vrcodec.files import check_target, write_atomically

if TYPE_CHECKING:
    from vrcodec.batch.run import Encoding, Engine, Listing, Row, Settings

_REPORTS = {".csv", ".json"}

Command = TypeVar("Command", bound=Callable[..., Any])


def options(command: Command) -> Command:
    """Add the options that only folders have."""
    for option in reversed(
        (
            click.option(
                "--include",
                metavar="GLOB",
                multiple=True,
                help="Folder: only files with such a name (with a /: such a path). Repeatable.",
            ),
            click.option(
                "--exclude",
                metavar="GLOB",
                multiple=True,
                help="Folder: no files with such a name (with a /: such a path). Repeatable.",
            ),
            click.option(
                "--jobs",
                metavar="N",
                type=click.IntRange(1, 1024),
                help="Folder: workers (default: one per core, at most 8; with Ray, all it has).",
            ),
            click.option(
                "--report",
                metavar="FILE",
                type=click.Path(path_type=Path),
                help="Folder: write a table of all files, as .csv or .json.",
            ),
            click.option(
                "--dry-run",
                is_flag=True,
                help="Folder: only show what would be done.",
            ),
            click.option(
                "--engine",
                type=click.Choice(["local", "ray"]),
                help="Folder: where workers run, here (the default) or on a Ray cluster.",
            ),
            click.option(
                "--ray-address",
                metavar="ADDR",
                help="Folder: the Ray cluster (default: $RAY_ADDRESS, or one of its own, here).",
            ),
        )
    ):
        command = option(command)
    return command


@dataclasses.dataclass(frozen=True)
class Folder:
    """A folder to work through, and the options about that; paths or URLs."""

    source: str
    out: str
    include: tuple[str, ...]
    exclude: tuple[str, ...]
    jobs: int | None
    report: Path | None
    dry_run: bool
    engine: str | None
    ray_address: str | None

    def list(self, kinds: Collection[str], suffix: str) -> Listing:
        """The files of some kinds in it; see batch.list_folder."""
        from vrcodec.batch.run import list_folder

        return list_folder(self.source, self.out, kinds, suffix, self.include, self.exclude)

    def workers(self) -> Engine:
        """What does the work."""
        if self.engine == "ray":
            from vrcodec.batch.ray_engine import on_ray

            return on_ray(self.ray_address)
        from vrcodec.batch.run import processes

        return processes


def asked_for(
    inputs: Sequence[str], output: str | None, folder_options: dict[str, Any]
) -> Folder | None:
    """The folder that the command line is about; None if it is about files.

    Raises:
        click.UsageError: options that do not go together.
    """
    if not any(is_url(source) or os.path.isdir(source) for source in inputs):
        for name, value in folder_options.items():
            if value:
                raise click.UsageError(f"--{name.replace('_', '-')} is for a folder as the INPUT")
        if output and is_url(output):
            raise click.UsageError(f"-o {output}: URLs are for folders only")
        return None
    if len(inputs) > 1:
        raise click.UsageError("a folder must be the only INPUT")
    if not output or output == "-":
        raise click.UsageError(f"{inputs[0]} is a folder: name one for the results with -o")
    report = folder_options["report"]
    if report and report.suffix.lower() not in _REPORTS:
        raise click.UsageError(f"--report {report}: the name must end in .csv or .json")
    if folder_options["ray_address"] and folder_options["engine"] != "ray":
        raise click.UsageError("--ray-address goes with --engine ray")
    return Folder(plain(inputs[0]), plain(output), **folder_options)


def fit_total(
    folder: Folder, listing: Listing, settings: Encoding, total: int, overwrite: bool
) -> Encoding:
    """Settings with the quality at which all results together have at most `total` bytes."""
    from tqdm import tqdm

    from vrcodec.batch import run as batch

    if folder.dry_run:
        return batch.with_total(listing.tasks, settings, total)
    with tqdm(
        desc="looking for the quality",
        unit="picture",
        file=sys.stderr,
        leave=False,
        disable=not sys.stderr.isatty(),
    ) as bar:
        settings, kept = batch.fit_total(
            listing.tasks,
            settings,
            total,
            folder.jobs,
            overwrite,
            folder.workers() if folder.engine == "ray" else None,
            bar.update,
        )
    if not kept:
        common.say(f"{total:,} bytes in all is out of reach", err=True)
    return settings


def work_through(
    folder: Folder, listing: Listing, settings: Settings, overwrite: bool, as_json: bool
) -> None:
    """Run over a folder and say what came of it; exit code 1 if anything failed."""
    if folder.dry_run:
        _show_plan(listing, settings, overwrite)
        return
    from tqdm import tqdm

    from vrcodec.batch.run import run

    if folder.report:
        check_target(folder.report, overwrite=True)
    totals: Counter[str] = Counter()
    rows: list[Row] = []
    failures: list[str] = []
    start = time.perf_counter()
    stdout = sys.stdout
    try:
        made = run(listing.tasks, folder.out, settings, folder.jobs, overwrite, folder.workers())
        with (
            contextlib.redirect_stdout(sys.stderr),  # Ray prints notices
            contextlib.closing(made),
            tqdm(
                total=len(listing.tasks),
                unit="picture",
                file=sys.stderr,
                leave=False,
                disable=not sys.stderr.isatty(),
            ) as bar,
        ):
            for row in made:
                totals[row.status] += 1
                if row.error:
                    failures.append(row.error)
                if row.notes:
                    totals["notes"] += 1
                if row.status == "done":
                    totals["pixels"] += (row.width or 0) * (row.height or 0)
                    totals["source"] += row.source_bytes or 0
                    totals["result"] += row.bytes or 0
                if folder.report:
                    rows.append(row)
                if as_json:
                    common.say(json.dumps(dataclasses.asdict(row)), file=stdout)
                bar.set_postfix_str(_speed(totals, time.perf_counter() - start), refresh=False)
                bar.update()
    finally:
        if folder.report:
            write_atomically(folder.report, _report(rows, folder.report.suffix), overwrite=True)
    for failure in failures:
        common.say(_printable(f"Error: {failure}"), err=True)
    common.say(_summary(listing, totals, time.perf_counter() - start), err=as_json)
    if failures:
        raise click.exceptions.Exit(1)


def _show_plan(listing: Listing, settings: Settings, overwrite: bool) -> None:
    from vrcodec.batch.run import State, state

    counts: Counter[str] = Counter()
    for task in listing.tasks:
        found = state(task, settings)
        word = "replaced" if found is State.FOREIGN and overwrite else found.value
        counts[word] += 1
        common.say(_printable(f"{task.source} -> {task.target}: {word}"))
    parts = [f"{count:,} {word}" for word, count in counts.items()] or ["nothing to do"]
    common.say(", ".join(parts) + _skipped(listing))


def _summary(listing: Listing, totals: Counter[str], seconds: float) -> str:
    parts = [f"{totals['done']:,} done"]
    if totals["finished"]:
        parts.append(f"{totals['finished']:,} finished before")
    if totals["failed"]:
        parts.append(f"{totals['failed']:,} failed")
    text = ", ".join(parts) + _skipped(listing)
    if totals["notes"]:
        text += f"; {totals['notes']:,} with notes (see --report)"
    if totals["done"]:
        rate = totals["done"] / seconds
        text += (
            f"; {totals['source']:,} -> {totals['result']:,} bytes, {seconds:.1f} s, "
            f"{rate:.1f} pictures/s, {_speed(totals, seconds)}"
        )
    return text


def _skipped(listing: Listing) -> str:
    text = f"; other files skipped: {listing.others:,}" if listing.others else ""
    return text + (f"; left out by pattern: {listing.left_out:,}" if listing.left_out else "")


def _speed(totals: Counter[str], seconds: float) -> str:
    if not totals["result"]:
        return ""
    ratio = totals["source"] / totals["result"]
    return f"{totals['pixels'] / seconds / 1e6:.2f} MP/s, ratio {ratio:.2f}"


def _report(rows: list[Row], suffix: str) -> bytes:
    """The table of all rows, by input."""
    from vrcodec.batch.run import Row

    records = [dataclasses.asdict(row) for row in sorted(rows, key=lambda row: row.input)]
    if suffix.lower() == ".json":
        return (json.dumps(records, indent=1) + "\n").encode()
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in dataclasses.fields(Row)])
    writer.writeheader()
    writer.writerows(record | {"notes": "; ".join(record["notes"])} for record in records)
    return text.getvalue().encode(errors="surrogateescape")


def _printable(text: str) -> str:
    """Text for a terminal, in one line: what is no character in names becomes an escape."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)
