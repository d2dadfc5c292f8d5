"""Rate and distortion of pictures coded through real files, and curves of them."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from vrcodec import pictures
from vrcodec.errors import VrcodecError
from vrcodec.evaluation.bjontegaard import RATE
from vrcodec.evaluation.codecs import Coder
from vrcodec.evaluation.metrics import METRICS, measured_metrics
from vrcodec.pictures.metrics import psnr

if TYPE_CHECKING:
    from vrcodec.codec.codec import Codec

DIAL = tuple(i / 10 for i in range(11))
"""Qualities that a curve of the whole dial is made of."""

OVERHEAD = 32
"""Bytes of a plain picture's file beside its payload, at most, with two dials."""


@dataclasses.dataclass(frozen=True)
class Point:
    """One picture, coded by one codec at one quality.

    Attributes:
        quality: on the codec's own scale.
        pixels: of the picture, width x height.
        bytes: size of the file.
        metrics: value by name of the metric; None where it is not defined for the picture.
        encode_seconds, decode_seconds: wall time, from pixels in memory to a file in memory and
            back.
        estimate: ideal code length of what was coded in bytes, where the codec can tell.
    """

    quality: float
    pixels: int
    bytes: int
    metrics: Mapping[str, float | None]
    encode_seconds: float
    decode_seconds: float
    estimate: float | None

    def checked(self) -> Point:
        """The same; for points that were read. Raises ValueError, TypeError for impossible ones."""
        numbers = [self.quality, self.encode_seconds, self.decode_seconds, self.bytes]
        numbers += [value for value in self.metrics.values() if value is not None]
        numbers += [] if self.estimate is None else [self.estimate]
        if not all(map(math.isfinite, numbers)):
            raise ValueError("not finite")
        if min(self.pixels, self.bytes, self.encode_seconds, self.decode_seconds) <= 0:
            raise ValueError("not positive")
        return self

    @property
    def bpp(self) -> float:
        """Bits of the file per pixel of the picture."""
        return 8 * self.bytes / self.pixels


def read_rgb(path: Path, max_pixels: int = pictures.MAX_PIXELS) -> NDArray[np.uint8]:
    """A picture file as it is coded: 8-bit RGB (H, W, 3), turned as EXIF says, without alpha.

    Raises:
        PictureError: it cannot be read.
    """
    image = pictures.open_picture(path, str(path), max_pixels)
    return pictures.to_coded(image, strip=True).pixels


def measure(
    coder: Coder, pixels: NDArray[np.uint8], quality: float, perceptual: bool = True
) -> Point:
    """Code a picture through the bytes of a file and back.

    Args:
        coder: the codec.
        pixels: uint8 RGB (H, W, 3).
        quality: on the codec's own scale.
        perceptual: measure more than PSNR.

    Raises:
        VrcodecError: the codec gives back a picture of another size.
    """
    picture = Image.fromarray(pixels)
    coder.prepare(quality)
    started = time.perf_counter()
    data = coder.encode(picture, quality)
    encoded = time.perf_counter()
    decoded = np.asarray(coder.decode(data))
    finished = time.perf_counter()
    if decoded.shape != pixels.shape:
        raise VrcodecError(f"a picture of {pixels.shape} came back as {decoded.shape}")
    return Point(
        quality=quality,
        pixels=pixels.shape[0] * pixels.shape[1],
        bytes=len(data),
        metrics={
            metric.name: metric.measure(pixels, decoded) for metric in measured_metrics(perceptual)
        },
        encode_seconds=encoded - started,
        decode_seconds=finished - encoded,
        estimate=coder.estimate(data),
    )


def mean_curve(points: Iterable[Sequence[Point]]) -> dict[str, Any]:
    """Means over pictures, quality by quality.

    Args:
        points: for every quality, the points of all pictures.

    Returns:
        Lists over the qualities: `quality`, and the means of bpp, every metric by its name (over
        the pictures that have it, None if none has; if not all have, the mean bpp of those is in
        its name and `RATE`), encode_seconds and decode_seconds;
        encode_mp_s and decode_mp_s, megapixels of all pictures by the seconds for all; `bytes`
        and `estimate`, sums over all pictures.
    """
    curve: dict[str, Any] = {"quality": []}
    for column in points:
        curve["quality"].append(column[0].quality)
        row = {
            name: _mean([getattr(point, name) for point in column])
            for name in ("bpp", "encode_seconds", "decode_seconds")
        }
        for name in METRICS:
            having = [point for point in column if point.metrics.get(name) is not None]
            row[name] = _mean([point.metrics[name] for point in having])
            row[name + RATE] = _mean([point.bpp for point in having or column])
        megapixels = sum(point.pixels for point in column) / 1e6
        for part in ("encode", "decode"):
            seconds = sum(getattr(point, f"{part}_seconds") for point in column)
            row[f"{part}_mp_s"] = megapixels / seconds
        row["bytes"] = sum(point.bytes for point in column)
        estimates = [point.estimate for point in column if point.estimate is not None]
        row["estimate"] = sum(estimates) if estimates else None
        for name, value in row.items():
            curve.setdefault(name, []).append(value)
    for name in METRICS:
        if curve[name + RATE] == curve["bpp"]:
            del curve[name + RATE]
    return curve


def estimated_curve(
    codec: Codec, paths: Sequence[Path], qualities: Sequence[float] = DIAL, progress: bool = False
) -> dict[str, list[float]]:
    """Means over picture files of bpp and PSNR without entropy coding, where no coder is at hand.

    Rates are the ideal code length of the symbols under the weights' tables and OVERHEAD for the
    rest of a file; pixels are those that the file would decode to.

    Returns:
        Lists over the qualities: `quality`, `bpp`, `psnr` (dB).

    Raises:
        PictureError: a picture cannot be read.
    """
    pictures = [read_rgb(path) for path in paths]
    curve: dict[str, list[float]] = {"quality": list(qualities), "bpp": [], "psnr": []}
    with tqdm(total=len(paths) * len(qualities), unit="picture", disable=not progress) as bar:
        for quality in qualities:
            values = codec.dials.at(quality)
            rates, fidelities = [], []
            for pixels in pictures:
                height, width = pixels.shape[:2]
                latents = codec.pipeline.latents(pixels, values)
                bits = codec.pipeline.estimate_bits(latents, values) + 8 * OVERHEAD
                rates.append(bits / (height * width))
                fidelities.append(
                    psnr(pixels, codec.pipeline.pixels(latents, values)[:height, :width])
                )
                bar.update()
            curve["bpp"].append(float(np.mean(rates)))
            curve["psnr"].append(float(np.mean(fidelities)))
    return curve


def _mean(values: Sequence[float | None]) -> float | None:
    present = [value for value in values if value is not None]
    return sum(present) / len(present) if present else None
