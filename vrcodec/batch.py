"""Folders of pictures: what becomes what, worker processes, and going on after an interruption.

A run leaves nothing but its results in the output folder. Each carries a mark (provenance.py)
with digests of its source and of the settings, is written atomically, and does not depend on the
number of workers. So a run that was killed is simply started again: marked results that are
still up to date are kept, the rest is made, and the folder ends as if nothing had happened.
"""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import errno
import fnmatch
import functools
import multiprocessing
import os
import signal
import threading
import time
from collections import Counter, deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vrcodec import __version__, container, provenance
from vrcodec.container import CONDITIONING_ONE, Extra
from vrcodec.errors import VrcodecError, naming
from vrcodec.files import os_error_text, read_bytes, remove_temporaries, write_atomically
from vrcodec.provenance import Mark
from vrcodec.rate_control import Target

if TYPE_CHECKING:
    from vrcodec.codec import Codec

PICTURES = frozenset({
    ".apng", ".avif", ".avifs", ".bmp", ".dib", ".gif", ".j2c", ".j2k", ".jfif", ".jp2", ".jpe",
    ".jpeg", ".jpf", ".jpg", ".jpx", ".pbm", ".pcx", ".pfm", ".pgm", ".png", ".pnm", ".ppm",
    ".psd", ".qoi", ".ras", ".sgi", ".tga", ".tif", ".tiff", ".webp", ".xbm", ".xpm",
})
"""Names that end in one of these are taken for pictures to encode."""
CODED = frozenset({".vrc"})
"""Names that end in one of these are taken for files to decode."""
_QUEUED_PER_WORKER = 2


@dataclasses.dataclass(frozen=True)
class Task:
    """A file of the input folder, and what it becomes in the output folder."""

    source: str
    target: str


@dataclasses.dataclass(frozen=True)
class Listing:
    """What a folder holds.

    Attributes:
        tasks: in the order of their names, folder by folder.
        others: number of files that are none of the wanted kind.
        left_out: number of those that are, but that the patterns leave out.
    """

    tasks: list[Task]
    others: int
    left_out: int


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
        input, output: paths.
        status: "done", "finished" (by an earlier run) or "failed".
        source_bytes, bytes: sizes of the two files.
        width, height: pixels.
        bpp: bits of the .vrc file per pixel.
        quality: where on the dial the .vrc file is.
        seconds: time in the worker.
        notes: what coding this picture left out, one line each.
        error: what failed, one line that begins with the file's name.
    """

    input: str
    output: str
    status: str
    source_bytes: int | None = None
    bytes: int | None = None
    width: int | None = None
    height: int | None = None
    bpp: float | None = None
    quality: float | None = None
    seconds: float = 0.0
    notes: tuple[str, ...] = ()
    error: str | None = None


@dataclasses.dataclass(frozen=True)
class Encoding:
    """Settings of a run that encodes.

    Attributes:
        weights, device, max_pixels: as for `Codec`.
        weights_id: of those weights.
        choice: a quality or a target.
        best_effort: as for `rate_control.encode_to_target`.
        strip: as for `Codec.encode`.
    """

    weights: Path | None
    weights_id: str
    device: str
    max_pixels: int
    choice: float | Target
    best_effort: bool = False
    strip: bool = False

    @functools.cached_property
    def digest(self) -> bytes:
        """Digest of all settings that decide about the results, 8 bytes."""
        if isinstance(self.choice, Target):
            choice: list[Any] = [self.choice.measure.value, self.choice.value, self.best_effort]
        else:
            choice = ["quality", round(self.choice * CONDITIONING_ONE)]
        return provenance.settings_digest({
            "version": __version__, "weights": self.weights_id, "device": self.device,
            "strip": self.strip, "choice": choice,
        })

    def mark_of(self, data: bytes) -> Mark | None:
        """The mark of an existing result."""
        return provenance.vrc_mark(data)

    def facts(self, source: bytes, result: bytes) -> dict[str, Any]:
        """Size in pixels, bpp and quality, for a Row."""
        return _facts(result)

    def make(self, codec: Codec, source: bytes, name: str) -> tuple[bytes, tuple[str, ...]]:
        """A result, and notes about it."""
        from vrcodec import image_io
        from vrcodec.codec import conditioning_values
        from vrcodec.rate_control import encode_to_target

        image = image_io.open_picture(source, name, self.max_pixels)
        with naming(name):
            picture = image_io.to_coded(image, self.strip)
            mark = Mark(provenance.source_digest(source), self.digest).pack()
            picture = dataclasses.replace(picture, extras=picture.extras | {Extra.SOURCE: mark})
            if not isinstance(self.choice, Target):
                data = codec.encode_picture(picture, conditioning_values(self.choice))
                return data, picture.notes
            result = encode_to_target(codec, picture, self.choice, self.best_effort)
            missed = () if result.reached else (f"{self.choice} is out of reach",)
            return result.data, picture.notes + missed


@dataclasses.dataclass(frozen=True)
class Decoding:
    """Settings of a run that decodes.

    Attributes:
        weights, device, max_pixels: as for `Codec`.
        format: one of `image_io.FORMATS`.
    """

    weights: Path | None
    device: str
    max_pixels: int
    format: str

    @functools.cached_property
    def digest(self) -> bytes:
        """Digest of all settings that decide about the results, 8 bytes."""
        return provenance.settings_digest(
            {"version": __version__, "device": self.device, "format": self.format}
        )

    def mark_of(self, data: bytes) -> Mark | None:
        """The mark of an existing result."""
        return provenance.picture_mark(data)

    def facts(self, source: bytes, result: bytes) -> dict[str, Any]:
        """Size in pixels, bpp and quality, for a Row."""
        return _facts(source)

    def make(self, codec: Codec, source: bytes, name: str) -> tuple[bytes, tuple[str, ...]]:
        """A result, and notes about it."""
        from vrcodec import image_io

        with naming(name):
            picture = image_io.save_picture(codec.decode(source), self.format)
        mark = Mark(provenance.source_digest(source), self.digest)
        return provenance.mark_picture(picture, self.format, mark), ()


Settings = Encoding | Decoding


def list_folder(
    folder: Path,
    out: Path,
    kinds: Collection[str],
    suffix: str,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
) -> Listing:
    """Find the files of some kind below a folder, and name what they become.

    The tree is mirrored, and each file's suffix is replaced; files that would collide, in any mix
    of upper and lower case, keep their whole names instead, with the new suffix after it. The
    output folder is left out where it lies inside.

    Args:
        folder: the input; links to folders in it are not followed.
        out: the output.
        kinds: suffixes of the wanted files, in lower case.
        suffix: of the results, with its dot.
        include: shell patterns of which a file must match one, if there are any. A pattern
            with a / is matched with the path below `folder`, otherwise with the name.
        exclude: shell patterns of which a file must match none.

    Raises:
        VrcodecError: a folder cannot be read.
    """

    def fail(error: OSError) -> None:
        raise VrcodecError(f"{error.filename}: {os_error_text(error)}") from error

    tasks: list[Task] = []
    others = left_out = 0
    own = os.path.realpath(out)
    inside = own != os.path.realpath(folder)
    for place, folders, names in os.walk(folder, onerror=fail):
        folders[:] = sorted(
            name for name in folders
            if not (inside and os.path.realpath(os.path.join(place, name)) == own)
        )
        below = os.path.relpath(place, folder)
        wanted = []
        for name in sorted(names):
            if name.startswith("._") or os.path.splitext(name)[1].lower() not in kinds:
                others += 1
                continue
            path = Path(below, name).as_posix()
            if (include and not _matches(path, include)) or _matches(path, exclude):
                left_out += 1
                continue
            wanted.append(name)
        for name, result in zip(wanted, _result_names(wanted, suffix), strict=True):
            target = os.path.normpath(os.path.join(out, below, result))
            tasks.append(Task(os.path.join(place, name), target))
    return Listing(tasks, others, left_out)


def state(task: Task, settings: Settings) -> State:
    """Whether there is anything to do. Raises VrcodecError where a file cannot be read."""
    return _look(task, settings)[0]


def run(
    tasks: Iterable[Task], out: Path, settings: Settings, jobs: int, overwrite: bool = False
) -> Iterator[Row]:
    """Make all results that are not there yet, in worker processes of one thread each.

    A task that fails, even by the death of its worker, does not stop the others. Memory does not
    grow with the number of tasks.

    Args:
        tasks: from `list_folder`.
        out: the output folder; made if it is missing.
        settings: of the run.
        jobs: number of worker processes.
        overwrite: replace also files that no such run has made.

    Yields:
        One row per task, as they come to an end.

    Raises:
        VrcodecError: the output folder cannot be made, another run is at work in it, or the model
            cannot be loaded.
    """
    try:
        os.makedirs(out, exist_ok=True)
    except OSError as error:
        raise VrcodecError(f"{out}: {os_error_text(error)}") from error
    with alone_in(out):
        remove_temporaries(out)
        workers = _Workers(settings, jobs, overwrite)
        try:
            for task in tasks:
                while workers.full:
                    yield from workers.results()
                yield from workers.begin(task)
            while workers.busy:
                yield from workers.results()
        finally:
            workers.close()
            remove_temporaries(out)


class _Workers:
    """The processes, and what they are at."""

    def __init__(self, settings: Settings, jobs: int, overwrite: bool) -> None:
        self.settings, self.jobs, self.overwrite = settings, jobs, overwrite
        self.pending: dict[Future[Row], Task] = {}
        self.suspects: deque[Task] = deque()
        self.pool = self._new_pool()

    @property
    def full(self) -> bool:
        return bool(self.suspects) or len(self.pending) >= _QUEUED_PER_WORKER * self.jobs

    @property
    def busy(self) -> bool:
        return bool(self.pending or self.suspects)

    def begin(self, task: Task) -> Iterator[Row]:
        """Hand a task out; a row at once where that needs no worker."""
        try:
            found, facts = _look(task, self.settings)
        except VrcodecError as error:
            yield Row(task.source, task.target, "failed", error=str(error))
            return
        if found is State.FINISHED:
            yield Row(task.source, task.target, "finished", **facts)
        elif found is State.FOREIGN and not self.overwrite:
            error_text = f"{task.target}: exists (use --overwrite to replace it)"
            yield Row(task.source, task.target, "failed", error=error_text)
        else:
            try:
                future = self.pool.submit(_work, task, self.settings, found is not State.NEW)
            except BrokenProcessPool:
                self.suspects.append(task)
            else:
                self.pending[future] = task

    def results(self) -> Iterator[Row]:
        """Rows of tasks that have come to an end; waits for at least one.

        Where a worker has died, nobody knows over which task: all that were handed out are done
        again one at a time, and the one that kills its worker again has failed.
        """
        yield from self._collect(FIRST_COMPLETED)
        if not self.suspects:
            return
        yield from self._collect("ALL_COMPLETED")
        suspects, self.suspects = self.suspects, deque()
        self._renew_pool()
        for task in suspects:
            yield from self.begin(task)
            yield from self._collect("ALL_COMPLETED")
            if self.suspects:
                self.suspects.clear()
                self._renew_pool()
                yield Row(
                    task.source, task.target, "failed",
                    error=f"{task.source}: its worker process died (out of memory?)",
                )

    def close(self) -> None:
        """Let the workers finish what they are at, and end them."""
        self.pool.shutdown(cancel_futures=True)

    def _collect(self, when: str) -> Iterator[Row]:
        done, _ = wait(self.pending, return_when=when)
        for future in done:
            task = self.pending.pop(future)
            try:
                yield future.result()
            except BrokenProcessPool:
                self.suspects.append(task)

    def _renew_pool(self) -> None:
        self.close()
        self.pool = self._new_pool()

    def _new_pool(self) -> ProcessPoolExecutor:
        context = multiprocessing.get_context("spawn")
        return ProcessPoolExecutor(self.jobs, context, start_worker)


def _look(task: Task, settings: Settings) -> tuple[State, dict[str, Any]]:
    """The state of a task, and what a row says about a finished one."""
    if not os.path.exists(task.target):
        return State.NEW, {}
    if os.path.realpath(task.source) == os.path.realpath(task.target):
        raise VrcodecError(f"{task.target}: is an input, and would be replaced")
    result = read_bytes(Path(task.target))
    mark = settings.mark_of(result)
    if mark is None:
        return State.FOREIGN, {}
    if mark.settings != settings.digest:
        return State.CHANGED, {}
    source = read_bytes(Path(task.source))
    if mark.source != provenance.source_digest(source):
        return State.CHANGED, {}
    return State.FINISHED, _row_facts(settings, source, result)


def start_worker() -> None:
    """In a worker process: one thread, deaf to Ctrl-C, never longer there than the parent."""
    import logging
    import warnings

    import torch

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", module=r"PIL\.")
    logging.getLogger("PIL").addHandler(logging.NullHandler())


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent
    parent.join()
    os._exit(1)


@functools.lru_cache(1)
def _codec(weights: Path | None, device: str, max_pixels: int) -> Codec:
    from vrcodec.codec import Codec

    return Codec(weights, device, max_pixels)


def _work(task: Task, settings: Settings, replace: bool) -> Row:
    """Do a task, in a worker. Raises VrcodecError only where the model cannot be loaded."""
    codec = _codec(settings.weights, settings.device, settings.max_pixels)
    start = time.perf_counter()
    try:
        source = read_bytes(Path(task.source))
        result, notes = settings.make(codec, source, task.source)
        os.makedirs(os.path.dirname(task.target), exist_ok=True)
        write_atomically(Path(task.target), result, replace)
        facts = _row_facts(settings, source, result)
    except VrcodecError as error:
        return Row(task.source, task.target, "failed", error=str(error))
    except Exception as error:
        text = " ".join(str(error).split())
        text = f"{task.source}: {type(error).__name__}: {text}"
        return Row(task.source, task.target, "failed", error=text)
    seconds = round(time.perf_counter() - start, 3)
    return Row(task.source, task.target, "done", **facts, seconds=seconds, notes=notes)


def _row_facts(settings: Settings, source: bytes, result: bytes) -> dict[str, Any]:
    sizes = {"source_bytes": len(source), "bytes": len(result)}
    return sizes | settings.facts(source, result)


def _facts(coded: bytes) -> dict[str, Any]:
    facts = container.describe(coded)
    return {key: facts[key] for key in ("width", "height", "bpp", "quality")}


@contextlib.contextmanager
def alone_in(out: Path) -> Iterator[None]:
    """Keep a second run out of the folder, where the system can; leaves no file."""
    try:
        import fcntl
    except ImportError:
        yield
        return
    handle = os.open(out, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in {errno.EWOULDBLOCK, errno.EAGAIN}:
                raise VrcodecError(f"{out}: another run is at work in this folder") from None
        yield
    finally:
        os.close(handle)


def _matches(path: str, patterns: Iterable[str]) -> bool:
    name = path.rpartition("/")[2]
    return any(
        fnmatch.fnmatchcase(path if "/" in pattern else name, pattern) for pattern in patterns
    )


def _result_names(names: Sequence[str], suffix: str) -> list[str]:
    """What the files of one folder become; all different."""
    full: set[str] = set()
    while True:
        results = [
            (name if name in full else os.path.splitext(name)[0]) + suffix for name in names
        ]
        counts = Counter(result.casefold() for result in results)
        clashing = {
            name for name, result in zip(names, results, strict=True)
            if counts[result.casefold()] > 1
        }
        if clashing <= full:
            return results
        full |= clashing
