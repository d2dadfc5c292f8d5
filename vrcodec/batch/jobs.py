"""What is done with each file of a run: coded, or decoded."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vrcodec import __version__
from vrcodec.batch import marks, storage
from vrcodec.batch.marks import Mark
from vrcodec.batch.settings import DecodeSettings, RunSettings, Total
from vrcodec.bitstream import container
from vrcodec.bitstream.container import MAGIC, Extra
from vrcodec.codec.runtime import choose
from vrcodec.codec.settings import EncodeSettings
from vrcodec.conditional.dials import QUALITY
from vrcodec.errors import VrcodecError, naming

if TYPE_CHECKING:
    from vrcodec.batch.worker import Coder

Made = tuple[bytes, tuple[str, ...]]
"""A result, and notes about it."""


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A picture that is read and waits for the networks.

    Attributes:
        name: of the source.
        content: what the job makes of the source.
        size: width and height in pixels.
        kind: what all that pass through the networks together must have in common.
    """

    name: str
    content: Any
    size: tuple[int, int]
    kind: Hashable


@dataclasses.dataclass(frozen=True)
class Encoding:
    """Pictures become .vrc files.

    Attributes:
        settings: how they are coded.
        total: what the quality in `settings` was found for, or is yet to be; see total.py.
    """

    settings: EncodeSettings
    total: Total | None = None

    begins = MAGIC
    """What a result begins with."""
    shrinks = True
    """Whether results are meant to be smaller than their sources."""

    def at_quality(self, position: float, effort: int) -> Encoding:
        """The same at another quality and with another effort."""
        settings = dataclasses.replace(self.settings.at_quality(position), effort=effort)
        return dataclasses.replace(self, settings=settings)

    def digest(self, run: RunSettings) -> bytes:
        """Digest of all that decides about the results beside the sources, 8 bytes."""
        settings = self.settings
        if self.total:  # which decides about the quality, with the pictures
            others = tuple((name, at) for name, at in settings.dials if name != QUALITY)
            settings = dataclasses.replace(settings, dials=others)
        total = dataclasses.asdict(self.total) if self.total else None
        return settings.digest(total=total, weights=run.weights_id, **_about(run))

    def mark_of(self, result: bytes) -> Mark | None:
        """The mark of an existing result."""
        return marks.vrc_mark(result)

    def facts(self, source: bytes | Path, result: bytes) -> dict[str, Any]:
        """Format, size in pixels, bpp and quality, for a Row."""
        return {"format": "vrc"} | _facts(result)

    def read(self, name: str) -> bytes | Path:
        """A source; a large one only by name. Raises VrcodecError, `NAME: what`."""
        return storage.read_or_name(name)

    def prepare(self, source: bytes | Path, name: str, run: RunSettings, mark: bool) -> Prepared:
        """All that comes before the networks. Raises VrcodecError, `NAME: what`."""
        from vrcodec import pictures

        if isinstance(source, bytes) and source.startswith(MAGIC):
            raise VrcodecError(f"{name}: is a .vrc file already")
        image = pictures.open_picture(source, name, run.max_pixels)
        with naming(name):
            picture = pictures.to_coded(image, self.settings.strip)
        if mark:
            packed = Mark(marks.source_digest(source), self.digest(run)).pack()
            picture = dataclasses.replace(picture, extras=picture.extras | {Extra.SOURCE: packed})
        height, width = picture.pixels.shape[:2]
        return Prepared(name, picture, (width, height), (width, height, picture.grey))

    def room(self, coder: Coder, size: tuple[int, int]) -> int:
        """How many pictures of a size pass through the networks together."""
        return coder.batch_size(*size, self.settings)

    def make(self, coder: Coder, together: Sequence[Prepared], run: RunSettings) -> list[Made]:
        """The results of what was prepared, and notes about each."""
        coded = [prepared.content for prepared in together]
        with naming(together[0].name):
            results = coder.encode(coded, self.settings)
        return [
            (
                result.data,
                picture.notes
                if result.reached
                else (*picture.notes, f"{self.settings.target} is out of reach"),
            )
            for picture, result in zip(coded, results, strict=True)
        ]


@dataclasses.dataclass(frozen=True)
class Decoding:
    """.vrc files become pictures.

    Attributes:
        settings: what pictures.
    """

    settings: DecodeSettings

    begins = b""
    shrinks = False

    def digest(self, run: RunSettings) -> bytes:
        """Digest of all that decides about the results beside the sources, 8 bytes."""
        return marks.settings_digest({"decode": dataclasses.asdict(self.settings)} | _about(run))

    def mark_of(self, result: bytes) -> Mark | None:
        """The mark of an existing result."""
        return marks.picture_mark(result)

    def facts(self, source: bytes | Path, result: bytes) -> dict[str, Any]:
        """Format, size in pixels, bpp and quality, for a Row."""
        assert isinstance(source, bytes)
        facts, format = _facts(source), self.settings.format_of(*container.peek(source))
        width, height = self.settings.size_of(facts["width"], facts["height"])
        return facts | {"format": format, "width": width, "height": height}

    def read(self, name: str) -> bytes | Path:
        """A source. Raises VrcodecError, `NAME: what`."""
        return storage.read(name, MAGIC)

    def prepare(self, source: bytes | Path, name: str, run: RunSettings, mark: bool) -> Prepared:
        """All that comes before the networks. Raises VrcodecError, `NAME: what`."""
        assert isinstance(source, bytes)
        with naming(name):
            stream = container.unpack(source)
        header = stream.header
        format = self.settings.format_of(header, stream.extras)
        return Prepared(
            name, (source, format, mark), header.grid.size, (header.grid, header.conditioning)
        )

    def room(self, coder: Coder, size: tuple[int, int]) -> int:
        """How many files of a size pass through the networks together."""
        return coder.batch_size(*size, None)

    def make(self, coder: Coder, together: Sequence[Prepared], run: RunSettings) -> list[Made]:
        """The results of what was prepared, and notes about each."""
        from vrcodec import pictures

        settings, made = self.settings, list[Made]()
        reduce = settings.reduction(*together[0].size)
        with naming(together[0].name):
            images = coder.decode([prepared.content[0] for prepared in together], reduce)
            for prepared, image in zip(together, images, strict=True):
                source, format, mark = prepared.content
                if settings.fit:
                    image = pictures.fitted(image, settings.fit)
                file = pictures.to_file(image, format, settings.strip, settings.jpeg_quality)
                data = file.data
                if mark:
                    own = Mark(marks.source_digest(source), self.digest(run))
                    data = marks.mark_picture(data, format, own)
                made.append((data, file.notes))
        return made


Job = Encoding | Decoding


def _about(run: RunSettings) -> dict[str, Any]:
    """What decides about results, of where they are made."""
    return {
        "version": __version__,
        "device": run.device,
        "precision": run.precision,
        "threads": run.threads,
        "runtime": choose(run.runtime, run.device),
    }


def _facts(coded: bytes) -> dict[str, Any]:
    facts = container.describe(coded)
    return {key: facts[key] for key in ("width", "height", "bpp", "quality")}
