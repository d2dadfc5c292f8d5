"""Evaluation of a folder of pictures: what is to be measured, by whom, and what is known already.

Everything measured is a `Task` with a key that names all it depends on. Results are kept line by
line in one file, so that an evaluation that was killed goes on where it was.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import json
import multiprocessing
import sys
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vrcodec import __version__
from vrcodec.batch.listing import PICTURES, list_folder
from vrcodec.batch.local_engine import start_worker
from vrcodec.errors import VrcodecError
from vrcodec.evaluation import other_codecs
from vrcodec.evaluation.rate_distortion import Coder, Point, mean_curve, measure, read_rgb
from vrcodec.files import os_error_text
from vrcodec.model.weights_file import default_weights, weights_id
from vrcodec.pictures.metrics import has_ssimulacra2

OWN = "vrcodec"
"""What our own codec is called among the others."""
_KODAK = "3b8bdd74ad21d83c"
"""Digest of the digests of the 24 Kodak pictures, sorted."""
_WARM_UP = 64


@dataclasses.dataclass(frozen=True)
class Setup:
    """How the codecs are run.

    Attributes:
        weights, device, max_pixels: as for `Codec`.
        jobs: number of processes that measure at the same time.
        threads: of each, where a codec lets one choose.
        effort: of our own encoder.
    """

    weights: Path | None
    device: str
    max_pixels: int
    jobs: int
    threads: int
    effort: int = 0


@dataclasses.dataclass(frozen=True)
class Subject:
    """A codec that is evaluated.

    Attributes:
        name: of files and keys.
        title: for people.
        settings, library: what was set, and which versions do the work, in words.
        qualities: of its own scale.
    """

    name: str
    title: str
    settings: str
    library: str
    qualities: tuple[float, ...]

    @property
    def identity(self) -> str:
        """All that decides about its files, in words."""
        return f"{self.library}; {self.settings}"


@dataclasses.dataclass(frozen=True)
class Picture:
    """A picture of the evaluation.

    Attributes:
        name: its path below the folder.
        path: where it is.
        width, height: pixels.
        digest: of its 8-bit RGB pixels, 16 hex digits.
    """

    name: str
    path: Path
    width: int
    height: int
    digest: str


@dataclasses.dataclass(frozen=True)
class Task:
    """Something to measure: `function(*arguments)`, a dict for JSON.

    Attributes:
        key: names everything that the result depends on.
    """

    key: str
    function: Callable[..., dict[str, Any]]
    arguments: tuple[Any, ...]


class Notebook:
    """Results by key, in a file of one JSON object per line; without a path in memory only.

    Raises:
        VrcodecError: the file cannot be read or written.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self.results: dict[str, dict[str, Any]] = {}
        if path is None:
            return
        try:
            with path.open("a+b") as file:
                file.seek(0)
                lines = file.read().split(b"\n")
                if lines[-1]:
                    file.write(b"\n")  # a killed run ended within a line
        except OSError as error:
            raise VrcodecError(f"{path}: {os_error_text(error)}") from error
        for line in lines:
            try:
                entry = json.loads(line)
                self.results[entry["key"]] = entry["result"]
            except (ValueError, KeyError, TypeError):
                continue

    def add(self, key: str, result: dict[str, Any]) -> None:
        """Keep a result, also on disk."""
        self.results[key] = result
        if self.path is None:
            return
        try:
            with self.path.open("ab") as file:
                file.write(json.dumps({"key": key, "result": result}).encode() + b"\n")
        except OSError as error:
            raise VrcodecError(f"{self.path}: {os_error_text(error)}") from error


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Codecs on pictures, and the results so far."""

    setup: Setup
    pictures: Sequence[Picture]
    subjects: Sequence[Subject]
    notebook: Notebook

    @property
    def own(self) -> Subject:
        """Our codec; the others follow it in `subjects`."""
        return self.subjects[0]

    def point_tasks(self) -> list[Task]:
        """Every picture by every codec at every quality."""
        return [
            Task(
                self._key("point", subject, picture, repr(quality)),
                code,
                (self.setup, subject.name, picture.path, quality),
            )
            for picture in self.pictures
            for subject in self.subjects
            for quality in subject.qualities
        ]

    def points(self, subject: Subject) -> list[list[Point]]:
        """A codec's points: for every quality those of all pictures, in their order."""
        return [
            [
                Point(**self.notebook.results[self._key("point", subject, picture, repr(quality))])
                for picture in self.pictures
            ]
            for quality in subject.qualities
        ]

    def curve(self, subject: Subject) -> dict[str, Any]:
        """A codec's means; see `rate_distortion.mean_curve`."""
        return mean_curve(self.points(subject))

    def memory_tasks(self) -> list[Task]:
        """Every codec's memory for the largest picture, at the middle of its qualities."""
        picture = self.largest
        return [
            Task(
                self._key("memory", subject, picture, repr(_middle(subject.qualities))),
                peak_memory,
                (self.setup, subject.name, picture.path, _middle(subject.qualities)),
            )
            for subject in self.subjects
        ]

    def memory(self) -> dict[str, dict[str, int | None]]:
        """By codec's name: `before` and `peak` in bytes; see `peak_memory`."""
        return {
            subject.name: self.notebook.results[task.key]
            for subject, task in zip(self.subjects, self.memory_tasks(), strict=True)
        }

    @property
    def largest(self) -> Picture:
        """The picture with most pixels, the first of several."""
        return max(self.pictures, key=lambda picture: picture.width * picture.height)

    @property
    def is_kodak(self) -> bool:
        """Whether the pictures are the 24 of the Kodak set, pixel by pixel."""
        digests = "".join(sorted(picture.digest for picture in self.pictures))
        return hashlib.sha256(digests.encode()).hexdigest()[:16] == _KODAK

    def run(self, tasks: Sequence[Task], done: Callable[[], object]) -> None:
        """Do those tasks that have no result yet; `done` is called for each task.

        Raises:
            VrcodecError: one failed; the results of the others are kept.
        """
        wanted = []
        for task in tasks:
            if task.key in self.notebook.results:
                done()
            else:
                wanted.append(task)
        with contextlib.closing(_results(wanted, self.setup.jobs)) as results:
            for key, result in results:
                self.notebook.add(key, result)
                done()

    def _key(self, kind: str, subject: Subject, picture: Picture, what: str) -> str:
        metrics = "ssimulacra2" if has_ssimulacra2() else ""
        return "|".join(
            (
                kind,
                subject.identity,
                what,
                picture.digest,
                metrics,
                f"{self.setup.jobs}x{self.setup.threads}",
            )
        )


def prepare(
    setup: Setup,
    folder: Path,
    report: Path | None,
    qualities: Sequence[float],
    compare: Sequence[str],
) -> Evaluation:
    """An evaluation of all pictures below a folder, ready to be run, with an empty notebook.

    Args:
        report: left out where it lies inside the folder.
        qualities: of vrcodec.
        compare: names of other codecs.

    Raises:
        VrcodecError: a codec is not installed, there are no weights or no pictures, or a picture
            cannot be read.
    """
    import torch

    weights = weights_id(setup.weights or default_weights())
    subjects = [
        Subject(
            OWN,
            f"vrcodec {weights}" + (f" effort {setup.effort}" if setup.effort else ""),
            f"weights {weights} on {setup.device}, effort {setup.effort}",
            f"vrcodec {__version__}, torch {torch.__version__}",
            tuple(sorted(set(qualities))),
        )
    ]
    for other in other_codecs.load(compare):
        subjects.append(
            Subject(other.name, other.title, other.settings, other.library, other.qualities)
        )
    listing = list_folder(folder, report or folder, PICTURES, "")
    if not listing.tasks:
        raise VrcodecError(f"{folder}: no pictures there")
    pictures = []
    for task in listing.tasks:
        path = Path(task.source)
        pictures.append(_picture(path.relative_to(folder).as_posix(), path, setup.max_pixels))
    return Evaluation(setup, pictures, subjects, Notebook())


def code(setup: Setup, name: str, path: Path, quality: float) -> dict[str, Any]:
    """Measure one point; see `rate_distortion.measure`."""
    return dataclasses.asdict(measure(coder(setup, name), _pixels(path, setup), quality))


def peak_memory(setup: Setup, name: str, path: Path, quality: float) -> dict[str, Any]:
    """Resident memory of a fresh process that codes one picture once and decodes it.

    Returns:
        Bytes, `before`: the peak before the codec was loaded, with Python, NumPy, Pillow and the
        picture; `peak`: at the end. None where the system does not tell.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context) as pool:
        return pool.submit(_peak_memory, setup, name, path, quality).result()


class _Own:
    """Our codec with its effort."""

    def __init__(self, setup: Setup) -> None:
        from vrcodec.codec.codec import Codec

        self.codec = Codec(setup.weights, setup.device, setup.max_pixels, setup.threads)
        self._effort = setup.effort

    def encode(self, image: Image.Image, quality: float, /) -> bytes:
        return self.codec.encode(image, quality, effort=self._effort)

    def decode(self, data: bytes, /) -> Image.Image:
        return self.codec.decode(data)


@functools.lru_cache
def coder(setup: Setup, name: str) -> Coder:
    """A codec by name, used once so that nothing is measured cold."""
    found: Coder
    if name == OWN:
        found = _Own(setup)
    else:
        found = other_codecs.load([name])[0].with_threads(setup.threads)
    found.decode(found.encode(Image.new("RGB", (_WARM_UP, _WARM_UP)), 1))
    return found


def _peak_memory(setup: Setup, name: str, path: Path, quality: float) -> dict[str, Any]:
    image = Image.fromarray(read_rgb(path, setup.max_pixels))
    before = _peak_bytes()
    subject = coder(setup, name)
    subject.decode(subject.encode(image, quality))
    return {"before": before, "peak": _peak_bytes()}


def _peak_bytes() -> int | None:
    """Most resident memory of this process so far.

    Linux: VmHWM, since ru_maxrss begins there with what the parent process had.
    """
    try:
        with open("/proc/self/status") as status:
            for line in status:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        import resource
    except ImportError:
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _results(tasks: Sequence[Task], jobs: int) -> Generator[tuple[str, dict[str, Any]], None, None]:
    """Keys and results, as tasks come to their end."""
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
        text = " ".join(str(error).split())
        raise VrcodecError(f"{task.key.split('|')[1]}: {type(error).__name__}: {text}") from error


def _picture(name: str, path: Path, max_pixels: int) -> Picture:
    pixels = read_rgb(path, max_pixels)
    height, width = pixels.shape[:2]
    digest = hashlib.sha256(f"{width}x{height}".encode())
    digest.update(np.ascontiguousarray(pixels).data)
    return Picture(name, path, width, height, digest.hexdigest()[:16])


@functools.lru_cache(2)
def _pixels(path: Path, setup: Setup) -> NDArray[np.uint8]:
    return read_rgb(path, setup.max_pixels)


def _middle(qualities: Sequence[float]) -> float:
    return qualities[len(qualities) // 2]
