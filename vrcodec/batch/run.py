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
from collections.abc import (
    Callable,
    Collection,
    Generator,
    Hashable,
    Iterable,
    Iterator,
    Sequence,
)
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vrcodec import __version__
from vrcodec.batch import marks as provenance
from vrcodec.batch import storage
from vrcodec.batch.marks import Mark
from vrcodec.bitstream import container
from vrcodec.bitstream.container import Extra
from vrcodec.codec.settings import EncodeSettings, Target
from vrcodec.codec.targets import MAX_ENCODES, quality_for_total
from vrcodec.conditional.dials import ONE
from vrcodec.errors import VrcodecError, WeightsError, naming
from vrcodec.files import os_error_text, remove_temporaries

if TYPE_CHECKING:
    from vrcodec.codec.codec import Codec

PICTURES = frozenset(
    {
        ".apng",
        ".avif",
        ".avifs",
        ".bmp",
        ".dib",
        ".gif",
        ".j2c",
        ".j2k",
        ".jfif",
        ".jp2",
        ".jpe",
        ".jpeg",
        ".jpf",
        ".jpg",
        ".jpx",
        ".pbm",
        ".pcx",
        ".pfm",
        ".pgm",
        ".png",
        ".pnm",
        ".ppm",
        ".psd",
        ".qoi",
        ".ras",
        ".sgi",
        ".tga",
        ".tif",
        ".tiff",
        ".webp",
        ".xbm",
        ".xpm",
    }
)
"""Names that end in one of these are taken for pictures to encode."""
CODED = frozenset({".vrc"})
"""Names that end in one of these are taken for files to decode."""
MAX_DEFAULT_JOBS = 8
_QUEUED_PER_WORKER = 2
_SAMPLE = 16
"""Pictures, at least, that the first guess for a total is made from."""


@dataclasses.dataclass(frozen=True)
class Task:
    """A file of the input folder, and what it becomes in the output folder: paths or URLs."""

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
        input, output: paths or URLs.
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
class Total:
    """A limit of all results of a run together.

    Attributes:
        bytes: never exceeded.
        sources: digest of all pictures and their names, on which the common quality depends.
    """

    bytes: int
    sources: str


Made = tuple[bytes, tuple[str, ...]]
"""A result, and notes about it."""


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A picture that is read and waits for the networks.

    Attributes:
        name: of the source.
        content: what the settings make of the source.
        kind: what all that pass through the networks together must have in common.
        room: how many those can be.
    """

    name: str
    content: Any
    kind: Hashable
    room: int


@dataclasses.dataclass(frozen=True)
class Encoding:
    """Settings of a run that encodes.

    Attributes:
        weights, device, max_pixels: as for `Codec`.
        weights_id: of those weights.
        choice: a quality or a target.
        best_effort, strip, effort: as for `EncodeSettings`.
        second: position of the dial ms-ssim-weight, if the weights have one.
        total: what `choice`, then a quality, was found for; see `fit_total`.
        trial: whether results are measured only, and not written.
    """

    weights: Path | None
    weights_id: str
    device: str
    max_pixels: int
    choice: float | Target
    best_effort: bool = False
    strip: bool = False
    effort: int = 0
    second: float | None = None
    total: Total | None = None
    trial: bool = False

    @property
    def how(self) -> EncodeSettings:
        """How each picture is coded."""
        target = self.choice if isinstance(self.choice, Target) else None
        quality = None if isinstance(self.choice, Target) else self.choice
        dials = {} if self.second is None else {"ms-ssim-weight": self.second}
        return EncodeSettings.of(quality, dials, target, self.best_effort, self.effort, self.strip)

    @functools.cached_property
    def digest(self) -> bytes:
        """Digest of all settings that decide about the results, 8 bytes."""
        if self.total:
            choice: list[Any] = ["total", *dataclasses.astuple(self.total), self.best_effort]
        elif isinstance(self.choice, Target):
            choice = [self.choice.measure.value, self.choice.value, self.best_effort]
        else:
            choice = ["quality", round(self.choice * ONE)]
        second = {} if self.second is None else {"second": self.second}
        return provenance.settings_digest(
            {
                "version": __version__,
                "weights": self.weights_id,
                "device": self.device,
                "strip": self.strip,
                "choice": choice,
                "effort": self.effort,
                **second,
            }
        )

    def mark_of(self, data: bytes) -> Mark | None:
        """The mark of an existing result."""
        return provenance.vrc_mark(data)

    def facts(self, source: bytes, result: bytes) -> dict[str, Any]:
        """Size in pixels, bpp and quality, for a Row."""
        return _facts(result)

    def prepare(self, codec: Codec, source: bytes, name: str) -> Prepared:
        """All that comes before the networks."""
        from vrcodec import pictures

        image = pictures.open_picture(source, name, self.max_pixels)
        with naming(name):
            picture = pictures.to_coded(image, self.strip)
        mark = Mark(provenance.source_digest(source), self.digest).pack()
        picture = dataclasses.replace(picture, extras=picture.extras | {Extra.SOURCE: mark})
        room = codec.batch_size(*image.size, self.how)
        return Prepared(name, picture, (image.size, picture.grey), room)

    def make(self, codec: Codec, together: Sequence[Prepared]) -> list[Made]:
        """The results of what was prepared, and notes about each."""
        pictures = [prepared.content for prepared in together]
        with naming(together[0].name):
            made = codec.encode_pictures(pictures, self.how)
        return [
            (one.data, picture.notes + (() if one.reached else (f"{self.choice} is out of reach",)))
            for one, picture in zip(made, pictures, strict=True)
        ]


@dataclasses.dataclass(frozen=True)
class Decoding:
    """Settings of a run that decodes.

    Attributes:
        weights, device, max_pixels: as for `Codec`.
        format: one of `pictures.FORMATS`.
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

    def prepare(self, codec: Codec, source: bytes, name: str) -> Prepared:
        """All that comes before the networks."""
        with naming(name):
            header = container.unpack(source).header
        size = header.width, header.height
        return Prepared(name, source, (size, header.conditioning), codec.batch_size(*size))

    def make(self, codec: Codec, together: Sequence[Prepared]) -> list[Made]:
        """The results of what was prepared, and notes about each."""
        from vrcodec import pictures

        made: list[Made] = []
        with naming(together[0].name):
            files = [prepared.content for prepared in together]
            for source, image in zip(files, codec.decode_pictures(files), strict=True):
                picture = pictures.save_picture(image, self.format)
                mark = Mark(provenance.source_digest(source), self.digest)
                made.append((provenance.mark_picture(picture, self.format, mark), ()))
        return made


Settings = Encoding | Decoding
Engine = Callable[[Iterable[Task], Settings, int | None, bool], Iterator[Row]]
"""What has tasks done by workers, as `processes` does; see there."""


def list_folder(
    folder: str | Path,
    out: str | Path,
    kinds: Collection[str],
    suffix: str,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
) -> Listing:
    """Find the files of some kind below a folder, and name what they become.

    The tree is mirrored, and each file's suffix is replaced; files that would collide, in any mix
    of upper and lower case, keep their whole names instead, with the new suffix after it. The
    patterns do not change those names, so that runs with other patterns do not collide either. The
    output folder is left out where it lies inside.

    Args:
        folder: the input, a path or URL; links to folders in it are not followed.
        out: the output, likewise.
        kinds: suffixes of the wanted files, in lower case.
        suffix: of the results, with its dot.
        include: shell patterns of which a file must match one, if there are any. A pattern
            with a / is matched with the path below `folder`, otherwise with the name.
        exclude: shell patterns of which a file must match none.

    Raises:
        VrcodecError: a folder cannot be read.
    """
    folder, out = str(folder), str(out)
    tasks: list[Task] = []
    others = left_out = 0
    for below, names in storage.walk(folder, out):
        wanted = [
            name
            for name in names
            if os.path.splitext(name)[1].lower() in kinds
            and not name.startswith("._")
            and not storage.is_special(storage.join(folder, below, name))
        ]
        others += len(names) - len(wanted)
        for name, result in zip(wanted, _result_names(wanted, suffix), strict=True):
            path = name if below == "." else f"{below}/{name}"
            if (include and not _matches(path, include)) or _matches(path, exclude):
                left_out += 1
                continue
            source, target = storage.join(folder, below, name), storage.join(out, below, result)
            tasks.append(Task(source, target))
    return Listing(tasks, others, left_out)


def state(task: Task, settings: Settings) -> State:
    """Whether there is anything to do. Raises VrcodecError where a file cannot be read."""
    return _look(task, settings)[0]


def fit_total(
    tasks: Sequence[Task],
    settings: Encoding,
    total: int,
    jobs: int | None,
    overwrite: bool = False,
    engine: Engine | None = None,
    measured: Callable[[], object] = lambda: None,
) -> tuple[Encoding, bool]:
    """Choose one quality for all pictures, so that their files together keep within a size.

    Results of an earlier run with the same pictures and settings decide it at once; otherwise all
    pictures are coded at several qualities, by the engine's workers, without writing anything. The
    first guess comes from some of them, and with an effort the search is done without it first.
    Pictures that fail, and files that may not be replaced, do not count.

    Args:
        tasks, jobs, overwrite, engine: as for `run`.
        settings: of the run; their choice does not matter.
        total: the limit in bytes.
        measured: called after every picture.

    Returns:
        Settings with the quality, and whether the limit is kept to.

    Raises:
        TargetError: it cannot be.
        VrcodecError: the model cannot be loaded.
    """
    settings = with_total(tasks, settings, total)
    decided = _quality_of_earlier_run(tasks, settings)
    if decided is not None:
        return dataclasses.replace(settings, choice=decided), True
    workers = _Workers(jobs or default_jobs(), overwrite)

    def through(some: Sequence[Task], trial: Encoding) -> Iterator[Row]:
        if engine:
            return engine(some, trial, jobs, overwrite)
        return workers.work_through(some, trial)  # one set of processes for all qualities

    def bytes_of(some: Sequence[Task], effort: int) -> Callable[[float], int]:
        def measure(quality: float) -> int:
            trial = dataclasses.replace(settings, choice=quality, effort=effort, trial=True)
            size = 0
            for row in through(some, trial):
                size += row.bytes or 0
                measured()
            return size

        return measure

    def search(
        some: Sequence[Task], limit: int, start: float, effort: int = 0, nearest: bool = True
    ) -> tuple[float, bool]:
        return quality_for_total(bytes_of(some, effort), limit, nearest, start)

    try:
        quality, best_effort = 0.5, settings.best_effort
        if len(tasks) >= _SAMPLE * MAX_ENCODES:
            sample = tasks[:: len(tasks) // _SAMPLE]
            share = _source_bytes(sample) / max(1, _source_bytes(tasks))
            quality, _ = search(sample, max(1, round(total * share)), quality)
        if settings.effort:
            quality, _ = search(tasks, total, quality)
        quality, kept = search(tasks, total, quality, settings.effort, best_effort)
    finally:
        workers.close()
    return dataclasses.replace(settings, choice=quality), kept


def with_total(tasks: Iterable[Task], settings: Encoding, total: int) -> Encoding:
    """Settings for these pictures with a limit of their total; their quality is yet to be found."""
    return dataclasses.replace(settings, total=Total(total, _sources_digest(tasks)))


def _quality_of_earlier_run(tasks: Iterable[Task], settings: Encoding) -> float | None:
    for task in tasks:
        result = storage.read_if_there(task.target)
        if result is not None:
            mark = settings.mark_of(result)
            if mark and mark.settings == settings.digest:
                quality: float = container.describe(result)["quality"]
                return quality
    return None


def _sources_digest(tasks: Iterable[Task]) -> str:
    """Digest of the names and contents of all sources that can be read."""
    digests = {}
    for task in tasks:
        with contextlib.suppress(VrcodecError):
            source = storage.read(task.source)
            digests[os.fsencode(task.target).hex()] = provenance.source_digest(source).hex()
    return provenance.settings_digest(digests).hex()


def _source_bytes(tasks: Iterable[Task]) -> int:
    size = 0
    for task in tasks:
        with contextlib.suppress(VrcodecError):
            size += storage.size(task.source)
    return size


def run(
    tasks: Iterable[Task],
    out: str | Path,
    settings: Settings,
    jobs: int | None,
    overwrite: bool = False,
    engine: Engine | None = None,
) -> Generator[Row, None, None]:
    """Make all results that are not there yet, in workers of one thread each.

    A task that fails, even by the death of its worker, does not stop the others. Memory does not
    grow with the number of tasks.

    Args:
        tasks: from `list_folder`.
        out: the output folder, a path or URL; made if it is missing.
        settings: of the run.
        jobs: number of workers; by default what the engine finds.
        overwrite: replace also files that no such run has made.
        engine: what runs the workers; by default `processes`.

    Yields:
        One row per task, as they come to an end.

    Raises:
        VrcodecError: the output folder cannot be made, another run is at work in it, or the model
            cannot be loaded.
    """
    with alone_in(str(out)):
        yield from (engine or processes)(tasks, settings, jobs, overwrite)


def work(tasks: Sequence[Task], settings: Settings, overwrite: bool) -> list[Row]:
    """Do tasks, but for those that are finished; what every engine has its workers do.

    Pictures that the codec takes together are collected until they are as many as it takes.

    Returns:
        A row for each.

    Raises:
        VrcodecError: the model cannot be loaded. All else ends in the rows.
    """
    rows: dict[Task, Row] = {}
    waiting: dict[Hashable, list[_Begun]] = {}
    for task in tasks:
        begun = _begin(task, settings, overwrite)
        if isinstance(begun, Row):
            rows[task] = begun
            continue
        kind, room = begun.prepared.kind, begun.prepared.room
        waiting.setdefault(kind, []).append(begun)
        if len(waiting[kind]) >= room:
            rows |= _finish(waiting.pop(kind), settings)
    for together in waiting.values():
        rows |= _finish(together, settings)
    return [rows[task] for task in tasks]


@dataclasses.dataclass(frozen=True)
class _Begun:
    """A task whose picture is prepared."""

    task: Task
    source: bytes
    prepared: Prepared
    replace: bool
    seconds: float


def _begin(task: Task, settings: Settings, overwrite: bool) -> _Begun | Row:
    start = time.perf_counter()
    try:
        found, facts = _look(task, settings)
        if found is State.FOREIGN and not overwrite:
            raise VrcodecError(f"{task.target}: exists (use --overwrite to replace it)")
    except Exception as error:
        return _failed(task, error)
    if found is State.FINISHED:
        return Row(task.source, task.target, "finished", **facts)
    codec = _codec(settings)
    try:
        source = storage.read(task.source)
        prepared = settings.prepare(codec, source, task.source)
    except Exception as error:
        return _failed(task, error)
    seconds = time.perf_counter() - start
    return _Begun(task, source, prepared, found is not State.NEW, seconds)


def _finish(together: Sequence[_Begun], settings: Settings) -> dict[Task, Row]:
    start = time.perf_counter()
    try:
        made = settings.make(_codec(settings), [begun.prepared for begun in together])
    except Exception as error:
        if len(together) == 1:
            return {together[0].task: _failed(together[0].task, error)}
        rows: dict[Task, Row] = {}
        for begun in together:  # to find out whose fault it is
            rows |= _finish([begun], settings)
        return rows
    share = (time.perf_counter() - start) / len(together)
    return {
        begun.task: _write(begun, settings, *result, share)
        for begun, result in zip(together, made, strict=True)
    }


def _write(
    begun: _Begun, settings: Settings, result: bytes, notes: tuple[str, ...], share: float
) -> Row:
    start, task = time.perf_counter(), begun.task
    try:
        if not (isinstance(settings, Encoding) and settings.trial):
            storage.write(task.target, result, replace=begun.replace)
        facts = _row_facts(settings, begun.source, result)
    except Exception as error:
        return _failed(task, error)
    seconds = round(begun.seconds + share + time.perf_counter() - start, 3)
    return Row(task.source, task.target, "done", **facts, seconds=seconds, notes=notes)


def processes(
    tasks: Iterable[Task], settings: Settings, jobs: int | None, overwrite: bool
) -> Iterator[Row]:
    """Have tasks done by processes on this machine; by default one per usable core, at most 8.

    Yields:
        A row for each, as they come to an end.
    """
    workers = _Workers(jobs or default_jobs(), overwrite)
    try:
        yield from workers.work_through(tasks, settings)
    finally:
        workers.close()


def default_jobs() -> int:
    """One worker per usable core, at most MAX_DEFAULT_JOBS."""
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    return min(cores, MAX_DEFAULT_JOBS)


class _Workers:
    """The processes, and what they are at."""

    settings: Settings

    def __init__(self, jobs: int, overwrite: bool) -> None:
        self.jobs, self.overwrite = jobs, overwrite
        self.pending: dict[Future[list[Row]], Task] = {}
        self.suspects: deque[Task] = deque()
        self.pool = self._new_pool()

    @property
    def full(self) -> bool:
        return bool(self.suspects) or len(self.pending) >= _QUEUED_PER_WORKER * self.jobs

    @property
    def busy(self) -> bool:
        return bool(self.pending or self.suspects)

    def work_through(self, tasks: Iterable[Task], settings: Settings) -> Iterator[Row]:
        """One row per task, as they come to an end."""
        self.settings = settings
        for task in tasks:
            while self.full:
                yield from self.results()
            self.begin(task)
        while self.busy:
            yield from self.results()

    def begin(self, task: Task) -> None:
        """Hand a task out."""
        try:
            self.pending[self.pool.submit(work, [task], self.settings, self.overwrite)] = task
        except BrokenProcessPool:
            self.suspects.append(task)

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
            self.begin(task)
            yield from self._collect("ALL_COMPLETED")
            if self.suspects:
                self.suspects.clear()
                self._renew_pool()
                yield Row(
                    task.source,
                    task.target,
                    "failed",
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
                yield from future.result()
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
    result = storage.read_if_there(task.target)
    if result is None:
        return State.NEW, {}
    if storage.is_same(task.source, task.target):
        raise VrcodecError(f"{task.target}: is an input, and would be replaced")
    mark = settings.mark_of(result)
    if mark is None:
        return State.FOREIGN, {}
    source = storage.read(task.source)
    if mark.source != provenance.source_digest(source):
        # A source that is older than the result cannot have changed since: it is another one.
        changed = storage.changed_since(task.source, task.target)
        return (State.CHANGED if changed else State.FOREIGN), {}
    if mark.settings != settings.digest:
        return State.CHANGED, {}
    return State.FINISHED, _row_facts(settings, source, result)


def quieten() -> None:
    """Keep what Pillow has to say about single files out of a worker's output."""
    import logging
    import warnings

    warnings.filterwarnings("ignore", module=r"PIL\.")
    logging.getLogger("PIL").addHandler(logging.NullHandler())


def start_worker() -> None:
    """In a worker process: deaf to Ctrl-C, never longer there than the parent, Pillow quiet."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    quieten()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent
    parent.join()
    os._exit(1)


def _codec(settings: Settings) -> Codec:
    """This worker's model, of one thread."""
    codec = _load_codec(settings.weights, settings.device, settings.max_pixels)
    if isinstance(settings, Encoding) and codec.weights_id != settings.weights_id:
        raise WeightsError(f"a worker has weights {codec.weights_id}, not {settings.weights_id}")
    return codec


@functools.lru_cache(1)
def _load_codec(weights: Path | None, device: str, max_pixels: int) -> Codec:
    from vrcodec.codec.codec import Codec

    return Codec(weights, device, max_pixels, threads=1)


def _failed(task: Task, error: Exception) -> Row:
    text = str(error)
    if not isinstance(error, VrcodecError):
        text = f"{task.source}: {type(error).__name__}: {' '.join(text.split())}"
    return Row(task.source, task.target, "failed", error=text)


def _row_facts(settings: Settings, source: bytes, result: bytes) -> dict[str, Any]:
    sizes = {"source_bytes": len(source), "bytes": len(result)}
    return sizes | settings.facts(source, result)


def _facts(coded: bytes) -> dict[str, Any]:
    facts = container.describe(coded)
    return {key: facts[key] for key in ("width", "height", "bpp", "quality")}


@contextlib.contextmanager
def alone_in(out: str) -> Iterator[None]:
    """Make a folder, keep a second run out of it where the system can, and leave it clean."""
    if storage.is_url(out):
        yield
        return
    with contextlib.ExitStack() as stack:
        try:
            os.makedirs(out, exist_ok=True)
            with contextlib.suppress(ImportError):
                import fcntl

                handle = os.open(out, os.O_RDONLY)
                stack.callback(os.close, handle)
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in {errno.EWOULDBLOCK, errno.EAGAIN}:
                raise VrcodecError(f"{out}: another run is at work in this folder") from None
            if error.errno not in {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}:
                raise VrcodecError(f"{out}: {os_error_text(error)}") from error
        remove_temporaries(Path(out))
        try:
            yield
        finally:
            remove_temporaries(Path(out))


def _matches(path: str, patterns: Iterable[str]) -> bool:
    name = path.rpartition("/")[2]
    return any(
        fnmatch.fnmatchcase(path if "/" in pattern else name, pattern) for pattern in patterns
    )


def _result_names(names: Sequence[str], suffix: str) -> list[str]:
    """What the files of one folder become; all different."""
    full: set[str] = set()
    while True:
        results = [(name if name in full else os.path.splitext(name)[0]) + suffix for name in names]
        counts = Counter(result.casefold() for result in results)
        clashing = {
            name
            for name, result in zip(names, results, strict=True)
            if counts[result.casefold()] > 1
        }
        if clashing <= full:
            return results
        full |= clashing
