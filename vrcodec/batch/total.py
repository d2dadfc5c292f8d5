"""One quality for all pictures of a run, so that their files together keep within a size."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
from collections.abc import Callable, Iterable, Sequence

from vrcodec.batch import marks, storage, worker
from vrcodec.batch.jobs import Encoding
from vrcodec.batch.listing import Task
from vrcodec.batch.local_engine import Engine
from vrcodec.batch.settings import RunSettings, Total
from vrcodec.bitstream import container
from vrcodec.codec.targets import MAX_ENCODES, quality_for_total
from vrcodec.errors import VrcodecError

_SAMPLE = 16
"""Pictures, at least, that the first guess is made from."""


def fit_total(
    tasks: Sequence[Task],
    job: Encoding,
    run: RunSettings,
    total: int,
    engine: Engine,
    measured: Callable[[], object] = lambda: None,
) -> tuple[Encoding, bool]:
    """Choose one quality for all pictures, so that their files together keep within a size.

    Results of an earlier run with the same pictures and settings decide it at once; otherwise all
    pictures are coded at several qualities, by the engine's workers, without writing anything. The
    first guess comes from some of them, and with an effort the search is done without it first.
    Pictures that fail, and files that may not be replaced, do not count.

    Args:
        tasks, run, engine: as for `run.run`.
        job: of the run; its quality does not matter.
        total: the limit in bytes.
        measured: called after every picture.

    Returns:
        The job at that quality, and whether the limit is kept to.

    Raises:
        TargetError: it cannot be.
        VrcodecError: the model cannot be loaded.
    """
    job = with_total(tasks, job, total)
    effort = job.settings.effort
    decided = _quality_of_earlier_run(tasks, job, run) if run.marked else None
    if decided is not None:
        return job.at_quality(decided, effort), True

    def bytes_of(some: Sequence[Task], effort: int) -> Callable[[float], int]:
        def measure(quality: float) -> int:
            do = functools.partial(worker.measure, job=job.at_quality(quality, effort), run=run)
            size = 0
            for row in engine.work_through(some, do):
                if row.status in {"done", "finished"}:  # others are not written
                    size += row.bytes or 0
                measured()
            return size

        return measure

    def search(
        some: Sequence[Task], limit: int, start: float, effort: int = 0, nearest: bool = True
    ) -> tuple[float, bool]:
        return quality_for_total(bytes_of(some, effort), limit, nearest, start)

    quality = 0.5
    if len(tasks) >= _SAMPLE * MAX_ENCODES:
        sample = tasks[:: len(tasks) // _SAMPLE]
        share = _source_bytes(sample) / max(1, _source_bytes(tasks))
        quality, _ = search(sample, max(1, round(total * share)), quality)
    if effort:
        quality, _ = search(tasks, total, quality)
    quality, kept = search(tasks, total, quality, effort, job.settings.best_effort)
    return job.at_quality(quality, effort), kept


def with_total(tasks: Iterable[Task], job: Encoding, total: int) -> Encoding:
    """The job for these pictures with a limit of their total; its quality is yet to be found."""
    return dataclasses.replace(job, total=Total(total, _sources_digest(tasks)))


def _quality_of_earlier_run(tasks: Iterable[Task], job: Encoding, run: RunSettings) -> float | None:
    wanted = job.digest(run)
    for task in tasks:
        result = storage.read_if_there(task.target, job.begins)
        mark = job.mark_of(result) if result else None
        if result and mark and mark.settings == wanted:
            quality: float = container.describe(result)["quality"]
            return quality
    return None


def _sources_digest(tasks: Iterable[Task]) -> str:
    """Digest of the names and contents of all sources that can be read."""
    digests = {}
    for task in tasks:
        with contextlib.suppress(VrcodecError):
            source = storage.read_or_name(task.source)
            name = storage.unsecret(task.target)
            digests[os.fsencode(name).hex()] = marks.source_digest(source).hex()
    return marks.settings_digest(digests).hex()


def _source_bytes(tasks: Iterable[Task]) -> int:
    size = 0
    for task in tasks:
        with contextlib.suppress(VrcodecError):
            size += storage.size(task.source)
    return size
