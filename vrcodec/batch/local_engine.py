"""Engines of this machine: the calling process itself, or worker processes."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Protocol

from vrcodec.batch import storage
from vrcodec.batch.listing import Task
from vrcodec.batch.worker import Do, Row, failed, quieten

MAX_DEFAULT_JOBS = 8
_QUEUED_PER_WORKER = 2


class Engine(Protocol):
    """What has tasks done by workers; `close` lets them go, and has to be called."""

    def work_through(self, tasks: Iterable[Task], do: Do) -> Generator[Row, None, None]:
        """A row for each task, as they come to an end.

        A KeyboardInterrupt, also one that is thrown in between two rows, is raised when the rows
        of all tasks at work have come; nothing further is begun.
        """
        ...

    def close(self) -> None:
        """Let the workers finish what they are at, and end them."""
        ...


class Here:
    """The engine in this process, one picture at a time."""

    def work_through(self, tasks: Iterable[Task], do: Do) -> Generator[Row, None, None]:
        """See `Engine`."""
        quieten()
        for task in tasks:
            yield from do([task])

    def close(self) -> None:
        """See `Engine`."""


class Processes:
    """Processes on this machine.

    Args:
        jobs: how many; by default one per usable core, at most MAX_DEFAULT_JOBS.
    """

    def __init__(self, jobs: int | None = None) -> None:
        self.jobs = jobs or default_jobs()
        self._pending: dict[Future[list[Row]], Task] = {}
        self._suspects: deque[Task] = deque()
        self._pool: ProcessPoolExecutor | None = None

    def work_through(self, tasks: Iterable[Task], do: Do) -> Generator[Row, None, None]:
        """See `Engine`."""
        source, stopped = iter(tasks), None
        self._do = do
        while True:
            try:
                if not stopped and not self._suspects and self._has_room:
                    task = next(source, None)
                    if task is not None:
                        self._begin(task)
                        continue
                if not self._pending and not self._suspects:
                    break
                yield from self._results()
            except KeyboardInterrupt as error:
                if stopped:
                    raise
                stopped = error
                self._forget_what_waits()
        if stopped:
            raise stopped

    def close(self) -> None:
        """See `Engine`."""
        if self._pool:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None

    @property
    def _has_room(self) -> bool:
        return len(self._pending) < _QUEUED_PER_WORKER * self.jobs

    def _begin(self, task: Task) -> None:
        """Hand a task out."""
        if not self._pool:
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(self.jobs, context, start_worker)
        try:
            self._pending[self._pool.submit(self._do, [task])] = task
        except BrokenProcessPool:
            self._suspects.append(task)

    def _forget_what_waits(self) -> None:
        self._suspects.clear()
        for future in list(self._pending):
            if future.cancel():
                del self._pending[future]

    def _results(self) -> Iterator[Row]:
        """Rows of tasks that have come to an end; waits for at least one.

        Where a worker has died, nobody knows over which task: all that were handed out are done
        again one at a time, and the one that kills its worker again has failed.
        """
        yield from self._collect(FIRST_COMPLETED)
        if not self._suspects:
            return
        yield from self._collect("ALL_COMPLETED")
        suspects, self._suspects = self._suspects, deque()
        self.close()
        for task in suspects:
            self._begin(task)
            yield from self._collect("ALL_COMPLETED")
            if self._suspects:
                self._suspects.clear()
                self.close()
                name = storage.shown(task.source)
                yield failed(task, f"{name}: its worker process died (out of memory?)")

    def _collect(self, when: str) -> Iterator[Row]:
        done, _ = wait(self._pending, return_when=when)
        for future in done:
            task = self._pending.pop(future)
            try:
                rows = future.result()
            except BrokenProcessPool:
                self._suspects.append(task)
            else:
                yield from rows


def default_jobs() -> int:
    """One worker per usable core, at most MAX_DEFAULT_JOBS."""
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    return min(cores, MAX_DEFAULT_JOBS)


def start_worker() -> None:
    """In a worker process: deaf to Ctrl-C, never longer there than the parent, Pillow quiet."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    quieten()


def rest_of(rows: Generator[Row, None, None], interrupt: KeyboardInterrupt) -> Iterator[Row]:
    """After an interrupt, the rows of what was at work."""
    with contextlib.suppress(KeyboardInterrupt, StopIteration):
        row = rows.throw(interrupt)
        while True:
            yield row
            row = next(rows)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent
    parent.join()
    os._exit(1)
