"""The codecs that an evaluation compares with, found by name.

`pillow.py` has those that Pillow can use (`avif`), `compressai.py` the models of CompressAI's zoo
(`mbt2018-mean:3`), and `own.py` ours, which is evaluated and not named.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from PIL import Image

from vrcodec.errors import VrcodecError


class Coder(Protocol):
    """What can be measured."""

    def prepare(self, quality: float) -> None:
        """Load what coding at this quality needs, so that it is not timed."""

    def encode(self, image: Image.Image, quality: float) -> bytes:
        """The bytes of a file for an RGB picture."""

    def decode(self, data: bytes) -> Image.Image:
        """The RGB picture in a file."""

    def estimate(self, data: bytes) -> float | None:
        """Ideal code length in bytes of what is in a file, where the codec can tell."""


class OtherCodec(Coder, Protocol):
    """A codec to compare with."""

    @property
    def name(self) -> str:
        """What results and files call it."""

    @property
    def spec(self) -> str:
        """What `find` knows it by, its qualities included."""

    @property
    def title(self) -> str:
        """What people call it."""

    @property
    def settings(self) -> str:
        """What is not left to chance, in words."""

    @property
    def library(self) -> str:
        """Which versions do the work, in words."""

    @property
    def qualities(self) -> tuple[float, ...]:
        """Those of its own scale that make a curve."""

    @property
    def scale(self) -> Sequence[float]:
        """Every quality of its own scale that is worth a try, the smallest files first."""

    @property
    def mime(self) -> str | None:
        """Type of its files where browsers show them."""

    def check(self) -> None:
        """Raise VrcodecError where it cannot be used here; the text says what to do."""

    def with_threads(self, threads: int) -> OtherCodec:
        """The same with at most this many threads, where the codec lets one choose."""


def find(names: Sequence[str]) -> list[OtherCodec]:
    """Codecs by name, AVIF first, ready to use.

    A model of CompressAI's zoo is named with its quality (`mbt2018-mean:3`) or without (all
    of them); several qualities of one model make one curve.

    Raises:
        VrcodecError: one is unknown, or cannot be used here.
    """
    from vrcodec.evaluation.codecs import compressai, pillow

    codecs: dict[str, OtherCodec] = {}
    models: dict[str, list[str]] = {}
    for name in names:
        if name in pillow.CODECS:
            codecs[name] = pillow.CODECS[name]
        elif compressai.family(name) in compressai.FAMILIES:
            models.setdefault(compressai.family(name), []).append(name)
        else:
            known = ", ".join((*pillow.CODECS, *compressai.FAMILIES))
            raise VrcodecError(f"no codec is called {name!r}; known are {known}")
    for family, wanted in models.items():
        codecs[family] = compressai.ZooCodec.of(family, wanted)
    for codec in codecs.values():
        codec.check()
    return sorted(codecs.values(), key=lambda codec: codec.name != "avif")


def nearest_within(codec: OtherCodec, image: Image.Image, limit: int) -> tuple[float, bytes]:
    """The file of the highest quality that is at most so large, by bisection.

    Returns:
        Quality on the codec's own scale, and the file; where even the smallest file is larger,
        that.
    """
    files: dict[int, bytes] = {}
    scale = codec.scale

    def size(position: int) -> int:
        files[position] = codec.encode(image, scale[position])
        return len(files[position])

    low, high = 0, len(scale) - 1
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if size(middle) <= limit else (low, middle - 1)
    if low not in files:
        size(low)
    return scale[low], files[low]
