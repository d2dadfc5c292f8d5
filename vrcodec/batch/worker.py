"""What every worker does, whoever runs it: tasks become files and rows."""

from __future__ import annotations

import dataclasses
import enum
import functools
import logging
import time
import warnings
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vrcodec.batch import marks, storage, streams
from vrcodec.batch.jobs import Job, Prepared
from vrcodec.batch.listing import Task
from vrcodec.batch.settings import RunSettings
from vrcodec.codec.settings import Encoded, EncodeSettings
from vrcodec.errors import ExistsError, VrcodecError, WeightsError, one_line
from vrcodec.text import masked

if TYPE_CHECKING:
    from PIL import Image

    from vrcodec.pictures import CodedPicture


class State(enum.Enum):
    """How things stand with a task before any work."""

    NEW = "new"
    CHANGED = "changed"
    FINISHED = "finished"
    FOREIGN = "exists"


@dataclasses.dataclass(frozen=True)
class Row:
    """What came of a task.

    Attributes:
        input, output: paths or URLs, without passwords and queries.
        status: "done", "finished" (by an earlier run), "left out" (larger than its source) or
            "failed".
        format: of the result.
        source_bytes, bytes: sizes of the two files.
        width, height: pixels.
        bpp: bits of the .vrc file per pixel.
        quality: where on the dial the .vrc file is.
        seconds: time in the worker.
        notes: what coding this picture left out, one line each.
        error: what failed, one line that begins with the file's name.
        error_type: the class of that error.
    """

    input: str
    output: str
    status: str
    format: str | None = None
    source_bytes: int | None = None
    bytes: int | None = None
    width: int | None = None
    height: int | None = None
    bpp: float | None = None
    quality: float | None = None
    seconds: float = 0.0
    notes: tuple[str, ...] = ()
    error: str | None = None
    error_type: str | None = None

    @property
    def has_grown(self) -> bool:
        """Whether this is a .vrc file larger than its source."""
        return self.format == "vrc" and (self.bytes or 0) > (self.source_bytes or 0)


Do = Callable[[Sequence[Task]], list[Row]]
"""What an engine has its workers do: `work` or `measure`, with all but their first argument."""


def work(tasks: Sequence[Task], job: Job, run: RunSettings) -> list[Row]:
    """Do tasks, but for those that are finished.

    Pictures that the codec takes together are collected until they are as many as it takes.

    Returns:
        A row for each.

    Raises:
        VrcodecError: the model cannot be loaded. All else ends in the rows.
    """
    return _through(tasks, job, run, write=True)


def measure(tasks: Sequence[Task], job: Job, run: RunSettings) -> list[Row]:
    """As `work`, but the results are only measured and written nowhere."""
    return _through(tasks, job, run, write=False)


def state(task: Task, job: Job, run: RunSettings) -> State:
    """Whether there is anything to do. Raises VrcodecError where a file cannot be read."""
    return _look(task, job, run)[0]


def failed(task: Task, error: BaseException | str) -> Row:
    """The row of a task that has failed."""
    if isinstance(error, str):
        text, kind = error, "VrcodecError"
    else:
        text, kind = one_line(error), type(error).__name__
        if not isinstance(error, VrcodecError):
            text = f"{storage.shown(task.source)}: {text}"
    if storage.is_url(task.source) or storage.is_url(task.target):
        text = masked(text)
    return _row(task, "failed", error=text, error_type=kind)


class Coder:
    """A model, behind the few things that jobs ask of it; the one place that knows `Codec`."""

    def __init__(self, run: RunSettings) -> None:
        from vrcodec.codec.codec import Codec

        self.codec = Codec(
            run.weights,
            run.device,
            run.max_pixels,
            run.threads,
            run.precision,
            runtime=run.runtime,
        )

    def batch_size(self, width: int, height: int, settings: EncodeSettings | None) -> int:
        """How many pictures pass through the networks together."""
        return self.codec.batch_size(width, height, settings)

    def encode(self, pictures: Sequence[CodedPicture], settings: EncodeSettings) -> list[Encoded]:
        """Pictures of one kind as .vrc files."""
        return self.codec.encode_pictures(pictures, settings)

    def decode(self, files: Sequence[bytes], reduce: int) -> list[Image.Image]:
        """Pictures of .vrc files of one kind, so many times smaller along each side."""
        return self.codec.decode_pictures(files, reduce)


def quieten() -> None:
    """Keep what Pillow has to say about single files out of a worker's output."""
    warnings.filterwarnings("ignore", module=r"PIL\.")
    logging.getLogger("PIL").addHandler(logging.NullHandler())


@dataclasses.dataclass(frozen=True)
class _Begun:
    """A task whose picture is prepared."""

    task: Task
    source: bytes | Path
    prepared: Prepared
    replace: bool
    outdated: bool
    seconds: float


def _through(tasks: Sequence[Task], job: Job, run: RunSettings, write: bool) -> list[Row]:
    rows: dict[Task, Row] = {}
    waiting: dict[Hashable, list[_Begun]] = {}
    for task in tasks:
        begun = _begin(task, job, run)
        if isinstance(begun, Row):
            rows[task] = begun
            continue
        kind = begun.prepared.kind
        waiting.setdefault(kind, []).append(begun)
        room = job.room(_coder(run), begun.prepared.size)
        if len(waiting[kind]) >= room:
            rows |= _finish(waiting.pop(kind), job, run, write)
    for together in waiting.values():
        rows |= _finish(together, job, run, write)
    return [rows[task] for task in tasks]


def _begin(task: Task, job: Job, run: RunSettings) -> _Begun | Row:
    start = time.perf_counter()
    try:
        found, facts = _look(task, job, run)
        if found is State.FOREIGN and not run.overwrite:
            error = ExistsError("exists")
            error.name = storage.shown(task.target)
            raise error
        if found is State.FINISHED:
            return _row(task, "finished", **facts)
        replace = found is not State.NEW
        storage.check(task.target, replace, run.out)
        source = job.read(task.source)
        prepared = job.prepare(source, storage.shown(task.source), run, run.marked)
    except Exception as error:
        return failed(task, error)
    outdated = found is State.CHANGED
    return _Begun(task, source, prepared, replace, outdated, time.perf_counter() - start)


def _finish(together: Sequence[_Begun], job: Job, run: RunSettings, write: bool) -> dict[Task, Row]:
    start = time.perf_counter()
    try:
        made = job.make(_coder(run), [begun.prepared for begun in together], run)
    except Exception as error:
        if len(together) == 1:
            return {together[0].task: failed(together[0].task, error)}
        rows: dict[Task, Row] = {}
        for begun in together:  # to find out whose fault it is
            rows |= _finish([begun], job, run, write)
        return rows
    share = (time.perf_counter() - start) / len(together)
    return {
        begun.task: _deliver(begun, job, run, write, *result, share)
        for begun, result in zip(together, made, strict=True)
    }


def _deliver(
    begun: _Begun,
    job: Job,
    run: RunSettings,
    write: bool,
    result: bytes,
    notes: tuple[str, ...],
    share: float,
) -> Row:
    start, task, status = time.perf_counter(), begun.task, "done"
    try:
        facts = _row_facts(job, begun.source, result)
        if run.skip_larger and job.shrinks and facts["bytes"] > facts["source_bytes"]:
            status = "left out"
            _check_left_out(begun)
        if write and status == "done":
            like = storage.facts(task.source) if run.preserve else None
            storage.write(task.target, result, begun.replace, like, run.out)
    except streams.ReaderGone:
        pass  # whoever read from stdout has enough, which is no fault
    except Exception as error:
        return failed(task, error)
    seconds = round(begun.seconds + share + time.perf_counter() - start, 3)
    return _row(task, status, **facts, seconds=seconds, notes=notes)


def _check_left_out(begun: _Begun) -> None:
    """Raises VrcodecError where nothing must not stand for a result: an older one would, or all
    that somebody reads from a pipe."""
    if begun.task.target == storage.STDIO:
        raise VrcodecError(f"{storage.shown(begun.task.source)}: the result is larger")
    if begun.outdated:
        raise VrcodecError(
            f"{storage.shown(begun.task.target)}: is outdated, and what should replace it would be "
            "larger than its source (remove it)"
        )


def _look(task: Task, job: Job, run: RunSettings) -> tuple[State, dict[str, Any]]:
    """The state of a task, and what a row says about a finished one."""
    if not run.marked:
        return (State.FOREIGN if storage.exists(task.target) else State.NEW), {}
    result = storage.read_if_there(task.target, job.begins)
    if result is None:
        return State.NEW, {}
    if storage.is_same(task.source, task.target) or storage.links_below(task.target, run.source):
        raise VrcodecError(f"{storage.shown(task.target)}: is an input, and would be replaced")
    mark = job.mark_of(result)
    if mark is None:
        return State.FOREIGN, {}
    source = job.read(task.source)
    if mark.source != marks.source_digest(source):
        # A source that is older than the result cannot have changed since: it is another one.
        changed = storage.changed_since(task.source, task.target)
        return (State.CHANGED if changed else State.FOREIGN), {}
    if mark.settings != job.digest(run):
        return State.CHANGED, {}
    return State.FINISHED, _row_facts(job, source, result)


def _coder(run: RunSettings) -> Coder:
    """This worker's model."""
    coder = _load(run.weights, run.device, run.max_pixels, run.threads, run.precision, run.runtime)
    found = coder.codec.weights_id
    if run.weights_id and found != run.weights_id:
        raise WeightsError(f"a worker has weights {found}, not {run.weights_id}")
    return coder


@functools.lru_cache(1)
def _load(
    weights: Path | None,
    device: str,
    max_pixels: int,
    threads: int | None,
    precision: str,
    runtime: str,
) -> Coder:
    return Coder(RunSettings(max_pixels, weights, device, precision, runtime, threads))


def _row_facts(job: Job, source: bytes | Path, result: bytes) -> dict[str, Any]:
    size = len(source) if isinstance(source, bytes) else source.stat().st_size
    return {"source_bytes": size, "bytes": len(result)} | job.facts(source, result)


def _row(task: Task, status: str, **facts: Any) -> Row:
    return Row(storage.unsecret(task.source), storage.unsecret(task.target), status, **facts)
