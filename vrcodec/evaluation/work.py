"""What is measured, and by whom: tasks that can be done in any process.

A `Task` has a key that names all that its result depends on. What it does is a function of this
module or of showcase.py, and its arguments can be sent to another process.
"""

from __future__ import annotations

import dataclasses
import functools
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vrcodec.codec.settings import EncodeSettings
from vrcodec.errors import VrcodecError, one_line
from vrcodec.evaluation import codecs
from vrcodec.evaluation.codecs import Coder
from vrcodec.evaluation.codecs.own import NAME as OWN
from vrcodec.evaluation.codecs.own import OwnCodec
from vrcodec.evaluation.machine import peak_bytes
from vrcodec.evaluation.rate_distortion import measure, read_rgb

_WARM_UP = 64


@dataclasses.dataclass(frozen=True)
class Setup:
    """How the codecs are run.

    Attributes:
        weights, device, max_pixels: as for `Codec`.
        jobs: number of processes that measure at the same time.
        threads: of each, where a codec lets one choose.
        settings: of our own encoder; the quality is chosen anew for every point.
    """

    weights: Path | None
    device: str
    max_pixels: int
    jobs: int
    threads: int
    settings: EncodeSettings = dataclasses.field(default_factory=EncodeSettings)


@dataclasses.dataclass(frozen=True)
class Task:
    """Something to measure: `function(*arguments)`, a dict for JSON.

    Attributes:
        key: names everything that the result depends on.
    """

    key: str
    function: Callable[..., dict[str, Any]]
    arguments: tuple[Any, ...]


def code(setup: Setup, spec: str, path: Path, quality: float) -> dict[str, Any]:
    """Measure one point; see `rate_distortion.measure`."""
    return dataclasses.asdict(measure(coder(setup, spec), _pixels(path, setup), quality))


def peak_memory(setup: Setup, spec: str, path: Path, quality: float) -> dict[str, Any]:
    """Resident memory of a fresh process that codes one picture once and decodes it.

    Returns:
        Bytes, `before`: the peak before the codec was loaded, with Python, NumPy, Pillow and the
        picture; `peak`: at the end. None where the system does not tell.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context, start_worker) as pool:
        return pool.submit(_peak_memory, setup, spec, path, quality).result()


@functools.lru_cache
def coder(setup: Setup, spec: str) -> Coder:
    """A codec by what `codecs.find` knows, used once so that nothing is measured cold."""
    found: Coder
    if spec == OWN:
        found, quality = own_codec(setup), 1.0
    else:
        (other,) = codecs.find([spec])
        found, quality = other.with_threads(setup.threads), other.qualities[0]
    found.decode(found.encode(Image.new("RGB", (_WARM_UP, _WARM_UP)), quality))
    return found


def own_codec(setup: Setup) -> OwnCodec:
    """Our codec. Raises VrcodecError: there are no such weights, or they lack a dial."""
    return OwnCodec(setup.weights, setup.device, setup.max_pixels, setup.settings, setup.threads)


def start_worker() -> None:
    """In a worker process: deaf to Ctrl-C, never longer there than the parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent
    parent.join()
    os._exit(1)


def _peak_memory(setup: Setup, spec: str, path: Path, quality: float) -> dict[str, Any]:
    image = Image.fromarray(read_rgb(path, setup.max_pixels))
    before = peak_bytes()
    subject = coder(setup, spec)
    subject.decode(subject.encode(image, quality))
    return {"before": before, "peak": peak_bytes()}


def results(tasks: Sequence[Task], jobs: int) -> Generator[tuple[str, dict[str, Any]], None, None]:
    """Keys and results, as tasks come to their end. Raises VrcodecError."""
    if jobs == 1 or len(tasks) < 2:
        for task in tasks:
            yield task.key, _do(task)
        return
    context = multiprocessing.get_context("spawn")
    waiting = deque(tasks)
    running: dict[Future[dict[str, Any]], str] = {}
    with ProcessPoolExecutor(jobs, context, start_worker) as pool:
        try:
            while waiting or running:
                while waiting and len(running) < jobs:  # no more, so that Ctrl-C has not to wait
                    task = waiting.popleft()
                    running[pool.submit(_do, task)] = task.key
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    yield running.pop(future), future.result()
        except BrokenProcessPool:
            raise VrcodecError(
                "a worker process died, perhaps for want of memory; the same command goes on"
            ) from None


def _do(task: Task) -> dict[str, Any]:
    try:
        return task.function(*task.arguments)
    except VrcodecError:
        raise
    except Exception as error:
        raise VrcodecError(f"{task.key.split('|')[1]}: {one_line(error)}") from error


@functools.lru_cache(2)
def _pixels(path: Path, setup: Setup) -> NDArray[np.uint8]:
    return read_rgb(path, setup.max_pixels)
