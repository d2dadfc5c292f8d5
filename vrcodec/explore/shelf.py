"""The pictures that are open, and what was made of them: the oldest make room for new ones."""

from __future__ import annotations

import dataclasses
import functools
import io
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from vrcodec.bitstream.container import MAGIC, unpack
from vrcodec.bitstream.extras import stored_bytes
from vrcodec.codec.codec import Codec
from vrcodec.conditional.dials import Conditioning
from vrcodec.errors import VrcodecError
from vrcodec.pictures import CodedPicture
from vrcodec.text import printable

MAX_PICTURES = 8
PREVIEW_PIXELS = 2_500_000
"""Larger pictures have no preview: their latents would fill the memory."""
RESULTS, LARGE_RESULTS = 12, 4
"""Files kept of a picture, and of one that is too large for a preview."""
ANALYSES = 3
"""Places on the dials whose analysis is kept of the largest pictures; more of smaller ones."""
PREVIEWS = 3
"""Kept of a picture until they are measured."""
NAME_LENGTH = 120
_Item = TypeVar("_Item")


class UnknownError(VrcodecError):
    """What a page asks for is not there any more."""


@dataclasses.dataclass(frozen=True)
class Made:
    """A file of a picture, by vrcodec or another codec.

    Attributes:
        data: the file.
        pixels: uint8 (H, W, 3), what it shows.
        conditioning: of ours, where on the dials; of others None.
    """

    data: bytes
    pixels: NDArray[np.uint8]
    conditioning: Conditioning | None = None


class Kept(OrderedDict[str, _Item]):
    """The last few of something by a name that nobody guesses; threads may share it."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most, self._lock = most, threading.Lock()

    def add(self, item: _Item) -> str:
        """Keep something, and forget the oldest."""
        with self._lock:
            name = secrets.token_urlsafe(9)
            self[name] = item
            while len(self) > self._most:
                self.popitem(last=False)
        return name

    def find(self, name: str) -> _Item:
        """What has this name, which is the youngest now. Raises UnknownError."""
        with self._lock:
            if name not in self:
                raise UnknownError("no longer there: open the picture again")
            self.move_to_end(name)
            return self[name]


class OpenPicture:
    """A picture that somebody looks at.

    Attributes:
        name: for people.
        coded: what is coded of it.
        file: the .vrc file that it was opened from, if it was.
        made: files of it.
        previews: uint8 (H, W, 3), what was shown last.
    """

    def __init__(self, name: str, coded: CodedPicture, file: Made | None = None) -> None:
        self.name, self.coded, self.file = name, coded, file
        self.made: Kept[Made] = Kept(LARGE_RESULTS if self.is_large else RESULTS)
        self.previews: Kept[NDArray[np.uint8]] = Kept(PREVIEWS)
        self._analyses: OrderedDict[Conditioning, NDArray[np.float32]] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def pixels(self) -> NDArray[np.uint8]:
        """uint8 (H, W, 3)."""
        return self.coded.pixels

    @property
    def count(self) -> int:
        """How many pixels."""
        return self.pixels.shape[0] * self.pixels.shape[1]

    @property
    def is_large(self) -> bool:
        """Whether it is too large for a preview."""
        return self.count > PREVIEW_PIXELS

    @functools.cached_property
    def stored_bytes(self) -> int:
        """Bytes of its files that do not depend on the dials: metadata and alpha."""
        return stored_bytes(self.coded.extras)

    def analysis(
        self, at: Conditioning, make: Callable[[], NDArray[np.float32]]
    ) -> NDArray[np.float32]:
        """The latents of an analysis at some place of the dials, made once."""
        with self._lock:
            known = self._analyses.get(at)
        if known is None:
            known = make()
        with self._lock:
            self._analyses[at] = known
            self._analyses.move_to_end(at)
            while len(self._analyses) > ANALYSES * max(1, PREVIEW_PIXELS // self.count):
                self._analyses.popitem(last=False)
        return known


def open_picture(codec: Codec, data: bytes, name: str) -> OpenPicture:
    """A picture of somebody's file, or what a .vrc file shows.

    Raises:
        VrcodecError: it is neither, is too large, or was made with other weights.
    """
    name = printable(name)[:NAME_LENGTH] or "picture"
    stream = io.BytesIO(data)
    stream.name = name
    if data[: len(MAGIC)] != MAGIC:
        return OpenPicture(name, codec.prepared(stream))
    image = codec.decode(stream)
    made = Made(data, np.asarray(image.convert("RGB")), unpack(data).header.conditioning)
    return OpenPicture(name, codec.prepared(image), made)
