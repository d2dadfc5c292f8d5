"""A batch on a Ray cluster: the engine behind `--engine ray`.

Workers are Ray actors, each with a model that is loaded once, in a pool of Ray's own
(`ray.util.ActorPool`) which gives each one picture at a time; on a GPU a handful, of which those of
one size pass through the networks together. What a worker does with it is the same function as on
one machine, `worker.work`. All that can go wrong below that is Ray's business: an actor whose
process or machine is lost is started again, wherever there is room (`max_restarts=-1`), and does
its pictures once more, at most twice (`max_task_retries=2`). Of a handful that kills its worker
three times each picture is tried alone; a picture that does so has failed, and the others go on. As
a result is written in one piece and depends on nothing but its source and the settings, doing it
twice does no harm.

ray.data was the alternative. It brings pyarrow and pandas along, hands out blocks of rows, so that
one deadly picture fails its whole block, and would stream pixels through Ray's object store; here
only names and rows pass between the machines, and pictures go straight from store to worker.

An actor has one CPU and one thread. For `--device cuda` (or auto, where the cluster has GPUs) it
has an equal share of a GPU as well: one computes while others read, code symbols and write.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import math
import os
import re
import socket
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any

from vrcodec import __version__
from vrcodec.batch import storage
from vrcodec.batch.listing import Task
from vrcodec.batch.local_engine import default_jobs
from vrcodec.batch.worker import Do, Row, failed, quieten
from vrcodec.errors import VrcodecError, reason
from vrcodec.text import masked

RETRIES = 2
WORKERS_PER_GPU = 4
"""At most, unless the number of workers is given."""
HANDFUL = 32
"""Pictures that a worker on a GPU gets at a time."""
_CONNECT_SECONDS = 10
_OBJECT_STORE_BYTES = 100 << 20


class Ray:
    """An engine (see `local_engine`): by default a worker for each CPU, at most four for a GPU.

    Inputs and outputs must have the same names on all its machines: URLs, or paths in a shared
    file system. So must a weights file, if it is not the one that comes with vrcodec.

    Args:
        address: of a running cluster, as for `ray.init`; by default that in RAY_ADDRESS, or else a
            new one on this machine, until `close`. A program that is already connected stays so.
        jobs: number of workers.
        device: as for `Codec`; decides whether workers have a share of a GPU.

    Raises:
        VrcodecError: Ray is not installed, or deals out the GPUs itself.
    """

    def __init__(
        self, address: str | None = None, jobs: int | None = None, device: str = "auto"
    ) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            import ray  # noqa: F401
        except ImportError:
            raise VrcodecError("the engine ray needs Ray: pip install 'vrcodec[ray]'") from None
        if device.startswith("cuda:"):
            raise VrcodecError(f"device {device}: Ray deals out the GPUs; say cuda")
        self.address, self.jobs, self.device = address, jobs, device
        self._stack = contextlib.ExitStack()
        self._is_connected = False

    def work_through(self, tasks: Iterable[Task], do: Do) -> Generator[Row, None, None]:
        """See `Engine`."""
        if not self._is_connected:
            self._stack.enter_context(_connected(self.address, self.jobs))
            self._is_connected = True
        on_gpu = self._on_gpu()
        handful = HANDFUL if on_gpu else 1
        crew = _Crew(self.jobs, on_gpu)
        lost: list[Task] = []
        yield from _handed_out(crew, tasks, do, handful, lost)
        if handful > 1 and lost:
            again, lost = lost, []
            yield from _handed_out(crew, again, do, 1, lost)
        for task in lost:
            name = storage.shown(task.source)
            yield failed(task, f"{name}: its worker died {RETRIES + 1} times (out of memory?)")

    def close(self) -> None:
        """See `Engine`."""
        self._stack.close()
        self._is_connected = False

    def _on_gpu(self) -> bool:
        import ray

        if self.device == "auto":
            return "GPU" in ray.cluster_resources()
        return self.device == "cuda"


def _handed_out(
    crew: _Crew, tasks: Iterable[Task], do: Do, handful: int, lost: list[Task]
) -> Generator[Row, None, None]:
    """Rows of tasks, so many at a time; those that cost workers' lives go to `lost`."""
    handed_out: dict[str, list[Task]] = {}

    def send(coder: Any, some: list[Task]) -> Any:
        handed_out[some[0].source] = some
        return coder.work.remote(do, some)

    source, stopped = iter(tasks), None
    while True:
        try:
            while not stopped and crew.has_room():
                some = list(itertools.islice(source, handful))
                if not some:
                    break
                crew.submit(send, some)
            if not crew.is_at_work():
                break
            crew.let_the_idle_go()
            yield from _results(crew, handed_out)
        except KeyboardInterrupt as error:
            if stopped:
                raise
            stopped = error
    if stopped:
        raise stopped
    for some in handed_out.values():
        lost += some


def _results(crew: _Crew, handed_out: dict[str, list[Task]]) -> Iterator[Row]:
    """Rows of one handful that has come to its end."""
    from ray.exceptions import RayActorError, RayError, RayTaskError

    try:
        first, rows = crew.next_result()
    except RayTaskError as error:  # raised by _Coder.work
        raise error.cause from None
    except RayError as error:  # its worker died too often; it does not say over which task
        if isinstance(error, RayActorError) and error.actor_init_failed:
            last = str(error).rstrip().rpartition("\n")[2]  # after all of a traceback
            raise VrcodecError(f"a Ray worker cannot be started: {last}") from None
        # Ray's frames hold the error, and the worker: the one keeps the other's room taken.
        error.__traceback__ = None
        return
    del handed_out[first]
    yield from rows


class _Crew:
    """Actors in a pool of Ray's: each is made when there is work for it, and there is no idle one.

    Ray can lose the room of an actor that is let go while it is being started. So none is made
    that may never be needed, and those that are there serve until there is nothing more to do.

    Raises:
        VrcodecError: the cluster has no CPU, or no GPU that is needed.
    """

    def __init__(self, jobs: int | None, on_gpu: bool) -> None:
        import ray
        from ray.util import ActorPool

        resources = ray.cluster_resources()
        cpus, gpus = int(resources.get("CPU", 0)), int(resources.get("GPU", 0))
        self._most = jobs or (min(cpus, WORKERS_PER_GPU * gpus) if on_gpu else cpus)
        if not self._most:
            raise VrcodecError(
                "the Ray cluster has no room for workers yet (use --jobs to wait for N)"
            )
        # Whole workers fit on every GPU; without GPUs yet, one each on those that will come.
        per_gpu = math.ceil(self._most / gpus) if gpus else 1
        self._coder = ray.remote(_Coder).options(
            num_cpus=1,
            num_gpus=1 / per_gpu if on_gpu else 0,
            max_restarts=-1,
            max_task_retries=RETRIES,
        )
        self._pool = ActorPool([])  # nobody else holds the actors: what is let go makes room
        self._size = 0

    def has_room(self) -> bool:
        """Whether a handful can be submitted now."""
        return self._pool.has_free() or self._size < self._most

    def submit(self, send: Callable[[Any, list[Task]], Any], some: list[Task]) -> None:
        """Give a handful to an actor."""
        if not self._pool.has_free():
            self._pool.push(self._coder.remote(__version__, os.getcwd()))
            self._size += 1
        self._pool.submit(send, some)

    def is_at_work(self) -> bool:
        """Whether there are results to come."""
        return bool(self._pool.has_next())

    def let_the_idle_go(self) -> None:
        """End the actors that have nothing to do."""
        while self._pool.has_free():
            self._pool.pop_idle()
            self._size -= 1

    def next_result(self) -> tuple[str, list[Row]]:
        """What an actor has given; waits for it. Raises what its work raised, or Ray's errors."""
        result: tuple[str, list[Row]] = self._pool.get_next_unordered()
        return result


class _Coder:
    """The actor."""

    def __init__(self, version: str, folder: str) -> None:
        self.version = version
        quieten()
        with contextlib.suppress(OSError):  # only relative paths need it
            os.chdir(folder)

    def work(self, do: Do, tasks: list[Task]) -> tuple[str, list[Row]]:
        """The first source, and the rows of all."""
        if self.version != __version__:
            raise VrcodecError(f"a worker has vrcodec {__version__}, not {self.version}")
        return tasks[0].source, do(tasks)


@contextlib.contextmanager
def _connected(address: str | None, jobs: int | None) -> Iterator[None]:
    import ray

    if ray.is_initialized():
        yield
        return
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address == "local":
        options |= {
            "num_cpus": jobs or default_jobs(),
            "include_dashboard": False,
            "object_store_memory": _OBJECT_STORE_BYTES,
        }
    try:
        if re.fullmatch(r"[^/]+:\d+", address):  # Ray would wait for an absent one for minutes
            host, _, port = address.rpartition(":")
            socket.create_connection((host.strip("[]"), int(port)), _CONNECT_SECONDS).close()
        ray.init(address, **options)
    except Exception as error:
        raise VrcodecError(f"Ray at {masked(address)}: {masked(reason(error))}") from error
    try:
        yield
    finally:
        ray.shutdown()
