"""Evaluation of a folder of pictures: what is to be measured, by whom, and what is known already.

Results are kept line by line in one file (notebook.py), so that an evaluation that was killed goes
on where it was.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from vrcodec import __version__
from vrcodec.conditional.dials import QUALITY
from vrcodec.errors import VrcodecError, one_line
from vrcodec.evaluation import codecs
from vrcodec.evaluation.codecs.own import NAME as OWN
from vrcodec.evaluation.machine import Load
from vrcodec.evaluation.metrics import measured_metrics
from vrcodec.evaluation.notebook import Notebook
from vrcodec.evaluation.rate_distortion import Point, mean_curve, read_rgb
from vrcodec.evaluation.work import Setup, Task, code, own_codec, peak_memory, results
from vrcodec.pictures.formats import READ_SUFFIXES
from vrcodec.text import printable

_KODAK = "3b8bdd74ad21d83c"
"""Digest of the digests of the 24 Kodak pictures, sorted."""


@dataclasses.dataclass(frozen=True)
class Subject:
    """A codec that is evaluated.

    Attributes:
        name: of files and keys.
        title: for people.
        settings, library: what was set, and which versions do the work, in words.
        qualities: of its own scale.
        spec: what `codecs.find` knows it by.
        dials: of our own codec: by name of the dial the positions at every quality.
        coefficients: likewise the loss coefficients; that of the quality is lambda.
    """

    name: str
    title: str
    settings: str
    library: str
    qualities: tuple[float, ...]
    spec: str = ""
    dials: Mapping[str, tuple[float, ...]] = dataclasses.field(default_factory=dict)
    coefficients: Mapping[str, tuple[float, ...]] = dataclasses.field(default_factory=dict)

    @property
    def identity(self) -> str:
        """All that decides about its files, in words; no other codec of a run has the same."""
        return f"{self.name}; {self.library}; {self.settings}"


@dataclasses.dataclass(frozen=True)
class Picture:
    """A picture of the evaluation.

    Attributes:
        name: its path below the folder, fit for people.
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
                self._key("measured", subject, picture, repr(quality)),
                code,
                (self.setup, subject.spec, picture.path, quality),
            )
            for picture in self.pictures
            for subject in self.subjects
            for quality in subject.qualities
        ]

    def points(self, subject: Subject) -> list[list[Point]]:
        """A codec's points: for every quality those of all pictures, in their order.

        Raises:
            VrcodecError: the notebook holds something else.
        """
        return [
            [self._point(subject, picture, quality) for picture in self.pictures]
            for quality in subject.qualities
        ]

    def _point(self, subject: Subject, picture: Picture, quality: float) -> Point:
        found = self.notebook.results[self._key("measured", subject, picture, repr(quality))]
        try:
            return Point(**found).checked()
        except (TypeError, ValueError, AttributeError) as error:
            raise VrcodecError(
                f"{self.notebook.path}: holds something that was not measured; "
                "name a new folder for the report"
            ) from error

    def curve(self, subject: Subject) -> dict[str, Any]:
        """A codec's means; see `rate_distortion.mean_curve`."""
        return mean_curve(self.points(subject))

    def incomplete(self) -> dict[str, int]:
        """By title of a metric, of how many pictures it is not defined; none where of all is."""
        (points, *_) = self.points(self.own)
        counts = {
            metric.title: sum(point.metrics.get(metric.name) is None for point in points)
            for metric in measured_metrics()
        }
        return {title: count for title, count in counts.items() if count}

    @property
    def so_far(self) -> Evaluation:
        """The same with those pictures only that every codec has coded at every quality."""
        done = [
            picture
            for picture in self.pictures
            if all(
                self._key("measured", subject, picture, repr(quality)) in self.notebook.results
                for subject in self.subjects
                for quality in subject.qualities
            )
        ]
        return dataclasses.replace(self, pictures=done)

    def keep_load(self, load: Load) -> None:
        """Note how busy the machine was while this run measured."""
        self.notebook.add(f"load|{time.time():.0f}|{os.getpid()}", dataclasses.asdict(load))

    @property
    def loads(self) -> list[Load]:
        """How busy the machine was in the runs that measured."""
        loads = []
        for key, found in self.notebook.results.items():
            if key.startswith("load|"):
                with contextlib.suppress(TypeError):
                    loads.append(Load(**found))
        return loads

    def memory_tasks(self) -> list[Task]:
        """Every codec's memory for the largest picture, at the middle of its qualities."""
        picture = self.largest
        return [
            Task(
                self._key("memory", subject, picture, repr(_middle(subject.qualities))),
                peak_memory,
                (self.setup, subject.spec, picture.path, _middle(subject.qualities)),
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

    def missing(self, tasks: Sequence[Task]) -> list[Task]:
        """Those that have no result yet."""
        return [task for task in tasks if task.key not in self.notebook.results]

    def run(self, tasks: Sequence[Task], done: Callable[[], object]) -> None:
        """Do those tasks that have no result yet; `done` is called for each task.

        Raises:
            VrcodecError: one failed; the results of the others are kept.
        """
        wanted = self.missing(tasks)
        for _ in range(len(tasks) - len(wanted)):
            done()
        with contextlib.closing(results(wanted, self.setup.jobs)) as found:
            for key, result in found:
                self.notebook.add(key, result)
                done()

    def _key(self, kind: str, subject: Subject, picture: Picture, what: str) -> str:
        metrics = " ".join(metric.name for metric in measured_metrics())
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
        compare: names of other codecs; AVIF comes first among them.

    Raises:
        VrcodecError: a codec is not installed, there are no weights or no pictures, or a picture
            cannot be read.
    """
    subjects = [own_subject(setup, qualities)]
    for other in codecs.find(compare):
        facts = other.name, other.title, other.settings, other.library, other.qualities
        subjects.append(Subject(*facts, other.spec))
    paths = sorted(_find_pictures(folder, report))
    if not paths:
        raise VrcodecError(f"{folder}: no pictures there")
    pictures = [_picture(path.relative_to(folder), path, setup.max_pixels) for path in paths]
    return Evaluation(setup, pictures, subjects, Notebook())


def own_subject(setup: Setup, qualities: Sequence[float]) -> Subject:
    """Our codec as it is evaluated. Raises VrcodecError: no weights, or no such dial."""
    own = own_codec(setup)
    dials, weights, effort = own.dials, own.codec.weights_id, setup.settings.effort
    chosen = tuple(sorted(set(qualities)))
    where = [setup.settings.at_quality(quality).conditioning(dials) for quality in chosen]
    positions = [dials.positions(one) for one in where]
    coefficients = [dials.coefficients(one.positions) for one in where]
    others = [f"{name} {at:g}" for name, at in positions[0].items() if name != QUALITY]
    named = [f"{name} {at:g}" for name, at in setup.settings.dials if name != QUALITY]
    runtimes = [own.codec.runtime]
    if effort and not runtimes[0].startswith("PyTorch"):  # which has the gradients
        runtimes.append(f"PyTorch {version('torch')}")
    return Subject(
        OWN,
        " ".join([f"vrcodec {weights}", *[f"effort {effort}"] * bool(effort), *named]),
        ", ".join([f"weights {weights} on {setup.device}", f"effort {effort}", *others]),
        ", ".join([f"vrcodec {__version__}", *runtimes]),
        chosen,
        OWN,
        {name: tuple(one[name] for one in positions) for name in dials.names},
        {name: tuple(one[i] for one in coefficients) for i, name in enumerate(dials.names)},
    )


def _find_pictures(folder: Path, report: Path | None) -> Iterator[Path]:
    """Files below a folder that are pictures by name; links to folders are not followed."""
    avoided = report and os.path.realpath(report)

    def failed(error: OSError) -> None:
        raise VrcodecError(one_line(error)) from error

    for place, below, names in os.walk(folder, onerror=failed):
        below[:] = [name for name in below if os.path.realpath(Path(place, name)) != avoided]
        for name in names:
            if Path(name).suffix.lower() in READ_SUFFIXES:
                yield Path(place, name)


def _picture(name: Path, path: Path, max_pixels: int) -> Picture:
    pixels = read_rgb(path, max_pixels)
    height, width = pixels.shape[:2]
    digest = hashlib.sha256(f"{width}x{height}".encode())
    digest.update(np.ascontiguousarray(pixels).data)
    return Picture(printable(name.as_posix()), path, width, height, digest.hexdigest()[:16])


def _middle(qualities: Sequence[float]) -> float:
    return qualities[len(qualities) // 2]
