"""Codec: pictures to bytes and back. The one place where all parts meet.

::

    encode: pictures -> analysis -> round -> range coder -> container
    decode: container -> z -> scale indices (integers) -> y -> synthesis -> pictures

What is between pictures and bytes is in pipeline.py; here are settings, batches and effort.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vrcodec import pictures
from vrcodec.arguments import whole_number
from vrcodec.bitstream import container
from vrcodec.bitstream.container import MAX_HEIGHT, MAX_WIDTH
from vrcodec.bitstream.grid import BLOCK, GROUP, Grid
from vrcodec.codec import tiling
from vrcodec.codec.networks import Networks
from vrcodec.codec.pipeline import Pipeline
from vrcodec.codec.runtime import make_networks
from vrcodec.codec.search import encode_alone
from vrcodec.codec.settings import Encoded, EncodeSettings
from vrcodec.codec.sources import FileSource, PictureSource, as_bytes, as_picture, naming_source
from vrcodec.codec.stages import READ, WRITE, stage
from vrcodec.conditional.dials import Dials
from vrcodec.errors import ArgumentError, PictureError
from vrcodec.model.weights_file import chosen_weights, load_weights
from vrcodec.pictures import CodedPicture

MAX_BATCH = 32
_Item = TypeVar("_Item")


class Codec:
    """A model on a device, ready to code any number of pictures. It never changes.

    Args:
        weights: a weights file; by default the released one.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        max_pixels: larger pictures are refused before anything is allocated for them.
        threads: how many to compute with on a CPU; by default as many as suit each picture.
        precision: of what need not be exact: "auto", "float32" or "bfloat16".
        tile: latent positions along the side of what is computed at a time, a multiple of 4; an
            encoder keeps to 96 where there is a trellis.
        batch_pixels: of small pictures that are computed together; by default as suits the device.
        runtime: what computes the networks: "auto", "onnx" or "torch"; see runtime.py.
        networks: these instead of the weights' own.

    Raises:
        WeightsError: the weights file is missing or broken.
        VrcodecError: there is no such device, or an argument is impossible.
    """

    def __init__(
        self,
        weights: str | os.PathLike[str] | None = None,
        device: str = "auto",
        max_pixels: int = pictures.MAX_PIXELS,
        threads: int | None = None,
        precision: str = "auto",
        tile: int = tiling.TILE,
        batch_pixels: int | None = None,
        runtime: str = "auto",
        networks: Networks | None = None,
    ) -> None:
        check_arguments(device, threads, runtime, precision)
        tile = whole_number("tile", tile, GROUP, multiple=GROUP)
        if batch_pixels is not None:
            batch_pixels = whole_number("batch_pixels", batch_pixels, 0)
        self.max_pixels = whole_number("max_pixels", max_pixels, 1)
        self.weights = load_weights(chosen_weights(weights))
        if networks is None:
            networks = make_networks(self.weights, runtime, device, precision, threads)
        self.pipeline = Pipeline(self.weights, networks, tile)
        self._tile_positions = tile**2
        self._batch_pixels = networks.batch_pixels if batch_pixels is None else batch_pixels
        self._made = True

    def __setattr__(self, name: str, value: object) -> None:
        if "_made" in vars(self):
            raise AttributeError(
                f"a Codec does not change: {name} is for its constructor, or a call"
            )
        super().__setattr__(name, value)

    def __repr__(self) -> str:
        names = ", ".join(self.dials.names)
        where = f"{self.device}, {self.runtime}"
        return f"<vrcodec.Codec: weights {self.weights_id}, {where}, dials {names}>"

    @property
    def dials(self) -> Dials:
        """What can be chosen, and how it is called."""
        return self.weights.config.dials

    @property
    def weights_id(self) -> str:
        """Hex digits that name the weights: all of their id, 16."""
        return self.weights.id

    @property
    def device(self) -> str:
        """Where the networks run."""
        return self.pipeline.networks.device

    @property
    def runtime(self) -> str:
        """The library that computes the networks, with its version."""
        return self.pipeline.networks.runtime

    def limited(self, max_pixels: int) -> Codec:
        """The same model with another limit. Raises ArgumentError."""
        other = copy.copy(self)
        vars(other)["max_pixels"] = whole_number("max_pixels", max_pixels, 1)
        return other

    def batch_size(self, width: int, height: int, settings: EncodeSettings | None = None) -> int:
        """How many pictures of this size pass through the networks together.

        On a GPU a small picture leaves most of it idle, and costs more than its share on a CPU. A
        batch that is not full is filled up where what becomes of a picture would depend on its
        company. With an effort or a target every picture goes alone.
        """
        rows, columns = Grid(width, height).latent_size
        alone = settings is not None and (settings.effort or settings.target)
        if alone or rows * columns > self._tile_positions:
            return 1
        return min(max(1, self._batch_pixels // (rows * columns * BLOCK**2)), MAX_BATCH)

    def encode(
        self,
        image: PictureSource,
        settings: EncodeSettings | float | None = None,
        **keywords: Any,
    ) -> bytes:
        """Compress a picture to the contents of a .vrc file.

        Args:
            image: a Pillow picture, an array of uint8, a path, bytes or a binary stream; see
                pictures/ for what is kept of each mode.
            settings: what to do, or a quality from 0 (smallest) to 1 (best).
            keywords: instead of settings; those of `EncodeSettings.of`: quality, dials, target,
                best_effort, effort, strip.

        Raises:
            PictureError: the picture cannot be read or exceeds `max_pixels`.
            TargetError: the target cannot be reached.
            ArgumentError, DialError: a value is not one of those there are.
        """
        if not isinstance(settings, EncodeSettings):
            if settings is not None:
                keywords["quality"] = settings
            settings = EncodeSettings.of(**keywords)
        elif keywords:
            raise ArgumentError(f"settings are given: {', '.join(keywords)} would contradict them")
        coded = self.prepared(image, settings.strip)
        return self.encode_pictures([coded], settings)[0].data

    def prepared(self, image: PictureSource, strip: bool = False) -> CodedPicture:
        """A picture as `encode_pictures` takes it, with notes on what is lost.

        Raises:
            PictureError, ArgumentError: as `encode`.
        """
        with stage(READ):
            picture = as_picture(image, self.max_pixels)
            _check_size(*picture.size, self.max_pixels)
            return pictures.to_coded(picture, strip)

    def encode_pictures(
        self, pictures: Sequence[CodedPicture], settings: EncodeSettings
    ) -> list[Encoded]:
        """What `encode` makes of prepared pictures, `batch_size` of them at a time.

        What `pictures.to_coded` prepares serves all settings: prepare once, code often.

        Raises:
            TargetError, DialError: as `encode`.
            ValueError: they differ in size, or in having colour.
        """
        if len({(picture.pixels.shape, picture.grey) for picture in pictures}) > 1:
            raise ValueError("pictures of a batch must be of one size, and all grey or none")
        if settings.target or settings.effort:
            return [encode_alone(self.pipeline, picture, settings) for picture in pictures]
        conditioning, made = settings.conditioning(self.dials), []
        for part, size in _batches(self, pictures, _size):
            made += self.pipeline.files(part, conditioning, size)
        return [Encoded(data, conditioning) for data in made]

    def decode(self, data: FileSource, reduce: int = 1) -> Image.Image:
        """Decompress a .vrc file: its contents, a path, or a binary stream.

        With 2, 4 or 8 as `reduce` the picture comes so many times smaller along each side, its
        size rounded up, for a part of the work.

        Returns:
            A picture of mode L, LA, RGB or RGBA with the kept metadata in `info`.

        Raises:
            FormatError: not a .vrc file, truncated, corrupt, of an unknown version.
            UnknownWeightsError: made with other weights than these.
            PictureError: more pixels than `max_pixels`.
            ArgumentError: there is no such `reduce`.
        """
        with naming_source(data):
            return self.decode_pictures([as_bytes(data, container.MAGIC)], reduce)[0]

    def decode_pictures(self, files: Sequence[bytes], reduce: int = 1) -> list[Image.Image]:
        """What `decode` gives of each, `batch_size` of them at a time.

        Raises what `decode` raises for any of them, and ValueError if they differ in size or
        conditioning.
        """
        with stage(READ):
            streams = [container.unpack(as_bytes(data, container.MAGIC)) for data in files]
        if len({(s.header.grid, s.header.conditioning) for s in streams}) > 1:
            raise ValueError("files of a batch must be of one size and quality")
        images = []
        for part, size in _batches(self, streams, lambda stream: stream.header.grid.size):
            decoded = self.pipeline.decoded(part, size, reduce)
            for stream, pixels in zip(part, decoded, strict=False):
                with stage(WRITE):
                    images.append(_shown(stream, pixels, reduce))
        return images

    def summary(self) -> dict[str, Any]:
        """Dials, size and cost of the model; see `Pipeline.summary`."""
        return self.pipeline.summary()


def _batches(
    codec: Codec, items: Sequence[_Item], size_of: Callable[[_Item], tuple[int, int]]
) -> Iterator[tuple[Sequence[_Item], int]]:
    """Items of one width and height in parts, and how many go together. Raises PictureError."""
    if not items:
        return
    width, height = size_of(items[0])
    _check_size(width, height, codec.max_pixels)
    together = codec.batch_size(width, height)
    for start in range(0, len(items), together):
        part = items[start : start + together]
        yield part, together if codec.pipeline.networks.needs_full_batches else len(part)


def _size(picture: CodedPicture) -> tuple[int, int]:
    height, width = picture.pixels.shape[:2]
    return width, height


def _shown(stream: container.Stream, pixels: NDArray[np.uint8], reduce: int) -> Image.Image:
    header = stream.header
    return pictures.from_coded(pixels, header.grey, stream.extras, header.grid.size, reduce)


def check_arguments(device: object, threads: object, runtime: object, precision: object) -> None:
    """Raise ArgumentError for what is not even of the right type."""
    names = {"device": device, "runtime": runtime, "precision": precision}
    for name, value in names.items():
        if not isinstance(value, str):
            raise ArgumentError(f"{name} is the name of one, not {value!r}")
    if threads is not None and (not isinstance(threads, int) or threads < 1):
        raise ArgumentError(f"threads are a number from 1 on, not {threads!r}")


def _check_size(width: int, height: int, max_pixels: int) -> None:
    """Raise PictureError for a picture that no file holds, or that has too many pixels."""
    if width > MAX_WIDTH or height > MAX_HEIGHT:
        raise PictureError(
            f"{width}x{height} is too large for a .vrc file "
            f"(at most {MAX_WIDTH} wide and {MAX_HEIGHT} high)"
        )
    if width * height > max_pixels:
        raise PictureError(f"{width}x{height} pixels exceed the limit of {max_pixels}")
