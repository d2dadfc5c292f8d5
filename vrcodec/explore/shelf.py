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

from vrcodec.bitstream.container import MAGIC, Extra, unpack
from vrcodec.bitstream.extras import stored_bytes
from vrcodec.codec.codec import Codec
from vrcodec.conditional.dials import Conditioning
from vrcodec.errors import VrcodecError
from vrcodec.pictures import CodedPicture, colour
from vrcodec.text import printable

MAX_PICTURES = 8
PREVIEW_PIXELS = 2_500_000
"""Larger pictures have no preview: their latents would fill the memory."""
RESULTS, LARGE_RESULTS = 8, 3
"""Our files kept of a picture, and of one that is too large for a preview. The page offers the
newest to be saved; those of other codecs, one of each, are kept apart and do not push it out."""
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
    """The last few of something by a name that nobody guesses; threads may share it.

    Args:
        most: how many are kept.
        limit: what they may weigh together, as `weigh` says; the newest is kept at any weight.
    """

    def __init__(
        self, most: int, limit: int = 0, weigh: Callable[[_Item], int] = lambda _: 0
    ) -> None:
        super().__init__()
        self._most, self._limit, self._weigh = most, limit, weigh
        self._lock = threading.Lock()

    def add(self, item: _Item) -> str:
        """Keep something, and forget the oldest."""
        return self.put(item)[0]

    def put(self, item: _Item) -> tuple[str, dict[str, _Item]]:
        """Keep something; its name, and what was forgotten for it, the oldest first."""
        name, forgotten = secrets.token_urlsafe(9), dict[str, _Item]()
        with self._lock:
            self[name] = item
            while len(self) > self._most or (len(self) > 1 and self._weight() > self._limit):
                oldest, gone = self.popitem(last=False)
                forgotten[oldest] = gone
        return name, forgotten

    def _weight(self) -> int:
        return sum(map(self._weigh, self.values()))

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
        file_name: what that one is found by, for as long as the picture is open.
        made: our files of it; the newest is the one that the page offers.
        previews: uint8 (H, W, 3), what was shown last.
    """

    def __init__(self, name: str, coded: CodedPicture, file: Made | None = None) -> None:
        self.name, self.coded, self.file = name, coded, file
        self.file_name = secrets.token_urlsafe(9)
        self.made: Kept[Made] = Kept(LARGE_RESULTS if self.is_large else RESULTS)
        self._others: dict[str, tuple[str, Made]] = {}
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

    def add_other(self, codec: str, made: Made) -> str:
        """Keep another codec's file in the place of its last one; the name that it gets."""
        name = secrets.token_urlsafe(9)
        with self._lock:
            self._others[codec] = name, made
        return name

    def find_made(self, name: str) -> Made:
        """A file by its name, whoever made it. Raises UnknownError."""
        if self.file and name == self.file_name:
            return self.file
        with self._lock:
            others = dict(self._others.values())
        return others[name] if name in others else self.made.find(name)

    def in_srgb(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Samples of this picture or of what was made of it, (H, W, 3), for screens of sRGB."""
        if not self._profile:
            return pixels
        return colour.to_srgb(pixels, self._profile, self.coded.grey)[0]

    @functools.cached_property
    def notes(self) -> tuple[str, ...]:
        """What people should be told of it, one line each."""
        if not self._profile:
            return self.coded.notes
        transform = colour.srgb_transform(self._profile, self.coded.grey)
        if transform is None:
            return (*self.coded.notes, "shown without its ICC profile, which cannot be used")
        shown = "shown in the colours of sRGB; files keep the ICC profile"
        return (*self.coded.notes, *[shown] * bool(transform))

    @property
    def _profile(self) -> bytes:
        return self.coded.extras.get(Extra.ICC, b"")

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
