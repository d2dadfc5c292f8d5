"""What a run is told beside `EncodeSettings`: about decoding, about totals, and about running."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from pathlib import Path

from vrcodec.bitstream.container import Extra, Header
from vrcodec.bitstream.grid import REDUCTIONS
from vrcodec.conditional.dials import Dials
from vrcodec.pictures.results import JPEG_QUALITY, SAME, fitted_size, reduced_size, same_format


@dataclasses.dataclass(frozen=True)
class RunSettings:
    """What only concerns running: where, with what, and what may be replaced.

    Attributes:
        weights, device, max_pixels, precision, runtime: as for `Codec`.
        threads: of each worker; None leaves it to torch.
        weights_id: of the weights that workers must have; None where it does not matter.
        marked: results carry marks, and those of earlier runs are kept where they are up to date.
        overwrite: replace also files that no such run has made.
        preserve: give results the permissions and times of their sources.
        skip_larger: leave out .vrc files that are larger than their sources.
        source: the folder of the sources, if there is one; a link to below it is never replaced.
        out: the folder of the results, if there is one; nothing is written through links below it.
    """

    max_pixels: int
    weights: Path | None = None
    device: str = "auto"
    precision: str = "auto"
    runtime: str = "auto"
    threads: int | None = None
    weights_id: str | None = None
    marked: bool = False
    overwrite: bool = False
    preserve: bool = False
    skip_larger: bool = False
    source: str | None = None
    out: str | None = None


@dataclasses.dataclass(frozen=True)
class DecodeSettings:
    """What decides about a decoded picture.

    Attributes:
        format: one of `pictures.FORMATS`, or SAME for that of its source.
        strip: leave ICC profile, EXIF, XMP and resolution out.
        jpeg_quality: of JPEG, 1 to 100.
        reduce: how many times smaller along each side; see `Codec.decode`.
        fit: pixels that no side may exceed; the least work that allows it decides `reduce`.
    """

    format: str
    strip: bool = False
    jpeg_quality: int = JPEG_QUALITY
    reduce: int = 1
    fit: int | None = None

    def format_of(self, header: Header, extras: Collection[Extra]) -> str:
        """The format of the picture in a file."""
        if self.format != SAME:
            return self.format
        return same_format(header.source_kind, Extra.ALPHA in extras)

    def reduction(self, width: int, height: int) -> int:
        """How many times smaller a picture of this size is decoded."""
        if self.fit is None:
            return self.reduce
        enough = (n for n in REDUCTIONS if max(width, height) >= n * self.fit)
        return max(enough, default=1)

    def size_of(self, width: int, height: int) -> tuple[int, int]:
        """Width and height of the result for a picture of this size."""
        size = reduced_size((width, height), self.reduction(width, height))
        return fitted_size(size, self.fit) if self.fit else size


@dataclasses.dataclass(frozen=True)
class Total:
    """A limit of all results of a run together.

    Attributes:
        bytes: never exceeded.
        sources: digest of all pictures and their names, on which the common quality depends.
    """

    bytes: int
    sources: str


def dials_of(weights: Path | None) -> tuple[str, Dials]:
    """Id and dials of a weights file, by default of the released one; no torch.

    Raises:
        WeightsError: it is missing or broken.
    """
    from vrcodec.model.weights_file import default_weights, load_weights

    found = load_weights(weights or default_weights())
    return found.id, found.config.dials
