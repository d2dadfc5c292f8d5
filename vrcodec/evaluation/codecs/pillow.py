"""Other codecs to compare with, through the libraries that their users have.

Each is used as such a user would: Pillow writes the file into memory and reads it back. Settings
are fixed here and stated in every report; the ranges of their own quality scales span the same
sizes as the whole dial of vrcodec, as far as they reach.
"""

from __future__ import annotations

import dataclasses
import importlib
import io
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from typing import Any

from PIL import Image, features

from vrcodec.errors import VrcodecError


@dataclasses.dataclass(frozen=True)
class PillowCodec:
    """A codec that Pillow can use.

    Attributes:
        name: what the command line calls it.
        title: what people call it.
        settings: what is not left to chance, in words.
        format, options: what Pillow calls it, and the options of `Image.save`.
        qualities: of its own scale, for a curve.
        best: upper end of its own scale.
        step: smallest difference on its own scale that is worth a try.
        thread_option: option of `Image.save` that limits its threads, if there is one.
        decoding_threads: module and variable of it that say with how many threads it decodes.
        threads: with how many it works; None: as it likes.
        mime: type of its files where browsers show them, else None.
        package: what to install for it.
        module: what to import for it, if not Pillow's own.
    """

    name: str
    title: str
    settings: str
    format: str
    options: Mapping[str, Any]
    qualities: tuple[float, ...]
    package: str
    module: str | None = None
    best: float = 100
    step: float = 1
    thread_option: str | None = None
    decoding_threads: tuple[str, str] | None = None
    threads: int | None = None
    mime: str | None = None

    @property
    def spec(self) -> str:
        """Its name says all."""
        return self.name

    @property
    def scale(self) -> Sequence[float]:
        """Every quality that is worth a try, from 0 up."""
        return [position * self.step for position in range(round(self.best / self.step) + 1)]

    def check(self) -> None:
        """Raise VrcodecError where it is not installed; the text says what to install."""
        if not _installed(self):
            raise VrcodecError(
                f"{self.title} is not installed: pip install '{self.package}'"
                + ("" if self.module else " (this Pillow was built without it)")
            )

    def prepare(self, quality: float) -> None:
        """Nothing to load."""

    def estimate(self, data: bytes) -> None:
        """Such codecs do not tell."""

    def encode(self, image: Image.Image, quality: float) -> bytes:
        """The bytes of a file for an RGB picture, at a quality of the codec's own scale."""
        file, options = io.BytesIO(), dict(self.options)
        if self.thread_option and self.threads:
            options[self.thread_option] = self.threads
        image.save(file, self.format, quality=quality, **options)
        return file.getvalue()

    def decode(self, data: bytes) -> Image.Image:
        """The RGB picture of a file."""
        if self.decoding_threads and self.threads:  # it is the module's for all that it opens
            module, name = self.decoding_threads
            setattr(importlib.import_module(module), name, self.threads)
        with Image.open(io.BytesIO(data)) as file:
            image: Image.Image = file.convert("RGB")
        return image

    def with_threads(self, threads: int) -> PillowCodec:
        """The same with at most this many threads, where the codec lets one choose."""
        return dataclasses.replace(self, threads=threads) if self.thread_option else self

    @property
    def library(self) -> str:
        """Which versions do the work, in words."""
        name = self.package.split(">")[0]
        return f"{name} {version(name)}{_LIBRARIES.get(self.name, str)()}"


def _heif_library() -> str:
    heif = importlib.import_module("pillow_heif").libheif_info()
    return f", libheif {heif['libheif']}, {heif['HEIF']}"


_LIBRARIES: dict[str, Callable[[], str]] = {
    "jpeg": lambda: f", libjpeg-turbo {features.version('libjpeg_turbo')}",
    "webp": lambda: f", libwebp {features.version('webp')}",
    "avif": lambda: f", libavif {features.version('avif')}",
    "heic": _heif_library,
}

CODECS = {
    codec.name: codec
    for codec in (
        PillowCodec(
            "jpeg",
            "JPEG",
            "4:2:0, baseline, optimised Huffman tables",
            "JPEG",
            {"subsampling": "4:2:0", "optimize": True},
            (5, 10, 20, 35, 50, 65, 75, 85, 92, 96),
            "pillow",
            mime="image/jpeg",
        ),
        PillowCodec(
            "webp",
            "WebP",
            "lossy, method 6",
            "WEBP",
            {"method": 6},
            (1, 5, 15, 30, 45, 60, 75, 85, 92, 97),
            "pillow",
            mime="image/webp",
        ),
        PillowCodec(
            "avif",
            "AVIF",
            "aom at speed 6, 4:4:4, default tuning",
            "AVIF",
            {"speed": 6, "subsampling": "4:4:4", "codec": "aom"},
            (10, 20, 30, 40, 50, 60, 70, 80, 88),
            "pillow>=11.3",
            thread_option="max_threads",
            decoding_threads=("PIL.AvifImagePlugin", "DEFAULT_MAX_THREADS"),
            mime="image/avif",
        ),
        PillowCodec(
            "jxl",
            "JPEG XL",
            "lossy VarDCT, effort 7",
            "JXL",
            {"effort": 7},
            (1, 10, 20, 35, 50, 65, 80, 88, 93, 96),
            "pillow-jxl-plugin",
            "pillow_jxl",
            best=99.5,
            step=0.5,
            thread_option="num_threads",
            decoding_threads=("pillow_jxl.JpegXLImagePlugin", "DECODE_THREADS"),
        ),
        PillowCodec(
            "heic",
            "HEIC",
            "x265 with libheif's defaults, 4:4:4",
            "HEIF",
            {"chroma": 444},
            (4, 10, 16, 22, 29, 36, 43, 50, 58, 66),
            "pillow-heif",
            "pillow_heif",
        ),
    )
}


def _installed(codec: PillowCodec) -> bool:
    if codec.module is None:
        return codec.format not in {"AVIF", "WEBP"} or bool(features.check(codec.name))
    try:
        module = importlib.import_module(codec.module)
    except ImportError:
        return False
    if codec.name == "heic":
        module.register_heif_opener()
    return True
