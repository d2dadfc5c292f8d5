"""What is computed for a page: previews, files, searches, comparisons, curves.

Everything here blocks and is called in threads of its own. What takes long is told something at
every step, and ends where that raises an exception: nobody waits for it any longer.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vrcodec.bitstream.container import CHECKSUM_BYTES
from vrcodec.bitstream.grid import Grid
from vrcodec.bitstream.trellis import Part
from vrcodec.codec import tiling
from vrcodec.codec.codec import Codec
from vrcodec.codec.latents import Latents
from vrcodec.codec.settings import MAX_EFFORT, EncodeSettings
from vrcodec.codec.stages import ANALYSIS, REFINEMENT, listening
from vrcodec.codec.targets import MAX_ENCODES
from vrcodec.conditional.dials import ONE, Conditioning
from vrcodec.evaluation.codecs import OtherCodec, nearest_within
from vrcodec.evaluation.metrics import PSNR, Metric, measured_metrics
from vrcodec.evaluation.showcase import SIZE_SLACK
from vrcodec.explore.shelf import Made, OpenPicture
from vrcodec.extras import require
from vrcodec.pictures import from_coded

CURVE = tuple(position / 8 for position in range(9))
"""Qualities of a picture's own curve."""
_KNOTS = 8
_HEADER_BYTES = 24
Line = dict[str, Any]
EFFORTS = range(MAX_EFFORT + 1)


class Tell(Protocol):
    """What is told about the progress of work; raises where nobody listens any longer."""

    def __call__(self, line: Line | None = None) -> None:
        """A line for the page, or none: then only the question whether to go on."""


def preview(codec: Codec, picture: OpenPicture, at: Conditioning) -> tuple[NDArray[np.uint8], Line]:
    """What a picture will look like, and about how large it will be, without any file.

    The analysis is that of the nearest of nine knots on every dial, made once; all else is at the
    place itself.

    Returns:
        Pixels (H, W, 3), and `bytes`, `bpp` and `psnr`, and as `preview` what `measure` wants.
    """
    networks, coder, coded = codec.pipeline.networks, codec.pipeline.coder, picture.coded
    height, width = picture.pixels.shape[:2]
    rows, columns = Grid(width, height).latent_size
    knot = Conditioning(tuple(_nearest_knot(value) for value in at.values))
    y = picture.analysis(knot, lambda: networks.analysis(picture.pixels[None], knot))
    everywhere = slice(0, rows), slice(0, columns)
    z = networks.hyper(y, at)
    indexes = networks.scale_indexes(z[0], at, everywhere)
    part = Part.whole(rows, columns)
    symbols, y_hat = networks.round_trip(y, z, at, everywhere, coded.grey, indexes[None], part=part)
    pixels = networks.synthesis(y_hat, at)[0, :height, :width]
    shown = np.asarray(from_coded(pixels, coded.grey, {}).convert("RGB"))
    latents = Latents(z[0], symbols[0], indexes)
    beside = picture.stored_bytes + _HEADER_BYTES + CHECKSUM_BYTES
    size = round(coder.estimate_bits(latents, at) / 8) + beside
    facts = _rate(size, picture) | {PSNR.name: PSNR.measure(picture.pixels, shown)}
    return shown, facts | {"preview": picture.previews.add(shown)}


def measure(picture: OpenPicture, shown: NDArray[np.uint8], tell: Tell) -> None:
    """Measure what takes longer than PSNR on a preview, and tell of it."""
    for metric in measured_metrics():
        if metric is not PSNR:
            tell({metric.name: metric.measure(picture.pixels, shown)})


def code(
    codec: Codec,
    picture: OpenPicture,
    settings: EncodeSettings,
    tell: Tell,
) -> None:
    """Make a file, and tell of it: first its size and PSNR, then what takes longer to measure."""
    with listening(_progress(codec, picture, settings, tell)):
        (encoded,) = codec.encode_pictures([picture.coded], settings)
    image = codec.decode(encoded.data)
    shown = np.asarray(image.convert("RGB"))
    made = Made(encoded.data, shown, encoded.conditioning)
    facts = {"made": picture.made.add(made), "dials": _positions(codec, made)}
    _tell_of(picture, made, tell, facts)


def compare(picture: OpenPicture, other: OtherCodec, size: int, tell: Tell) -> None:
    """Make a file by another codec that is as large as one of ours, as reports do."""
    image, limit = Image.fromarray(picture.pixels), round(size * (1 + SIZE_SLACK))
    quality, data = nearest_within(_Telling(other, tell), image, limit)
    made = Made(data, np.asarray(other.decode(data)))
    facts = {"quality": quality, "fits": len(data) <= limit, "title": other.title}
    _tell_of(picture, made, tell, facts | {"made": picture.add_other(other.name, made)})


def curve(
    codec: Codec, picture: OpenPicture, dials: Sequence[tuple[str, float]], tell: Tell
) -> None:
    """Code a picture over the whole dial, and tell of each point its rate and fidelity."""
    at = EncodeSettings(tuple(dials))
    for number, quality in enumerate(CURVE):
        tell({"progress": number / len(CURVE)})
        settings = at.at_quality(quality)
        with listening(lambda *_: tell()):
            (encoded,) = codec.encode_pictures([picture.coded], settings)
        shown = np.asarray(codec.decode(encoded.data).convert("RGB"))
        values = {metric.name: metric.measure(picture.pixels, shown) for metric in _on_curves()}
        tell({"point": {"quality": quality, **_rate(len(encoded.data), picture), **values}})


def facts_of(codec: Codec, made: Made, picture: OpenPicture) -> Line:
    """What is known at once about a .vrc file."""
    return _rate(len(made.data), picture) | {"dials": _positions(codec, made)}


def _on_curves() -> list[Metric]:
    return [metric for metric in measured_metrics() if metric.name != "ms_ssim"]


def _tell_of(picture: OpenPicture, made: Made, tell: Tell, facts: Line) -> None:
    tell(_rate(len(made.data), picture) | facts)
    for metric in measured_metrics():
        tell({metric.name: metric.measure(picture.pixels, made.pixels)})


def _rate(size: int, picture: OpenPicture) -> Line:
    return {"bytes": size, "bpp": 8 * size / picture.count}


def _positions(codec: Codec, made: Made) -> Line | None:
    return None if made.conditioning is None else codec.dials.positions(made.conditioning)


def _nearest_knot(value: int) -> int:
    return round(value * _KNOTS / ONE) * ONE // _KNOTS


def _progress(
    codec: Codec, picture: OpenPicture, settings: EncodeSettings, tell: Tell
) -> Callable[[str, float], None]:
    """Hears of stages and tells how far the work is: steps of an effort, or files of a search."""
    height, width = picture.pixels.shape[:2]
    grid = tiling.tiles(*Grid(width, height).latent_size, codec.pipeline.runner.side)
    tiles = len(grid[0]) * len(grid[1])
    heard, count = ANALYSIS, tiles * MAX_ENCODES
    if settings.effort:
        require("torch")
        from vrcodec.codec.refinement import STEPS

        heard, count = REFINEMENT, tiles * (STEPS[settings.effort] + 2)
    done = 0

    def hear(name: str, seconds: float) -> None:
        nonlocal done
        done += name == heard
        worth = name == heard and (settings.effort or settings.target)
        tell({"progress": min(done / count, 1)} if worth else None)

    return hear


@dataclasses.dataclass(frozen=True)
class _Telling:
    """Another codec; every file that it makes asks whether to go on."""

    codec: OtherCodec
    tell: Tell

    def __getattr__(self, name: str) -> Any:
        return getattr(self.codec, name)

    def encode(self, image: Image.Image, quality: float) -> bytes:
        self.tell()
        return self.codec.encode(image, quality)
