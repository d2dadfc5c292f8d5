"""What the report shows of a picture: codecs at equal file sizes, and the whole dial.

Whatever is shown is coded on its own: of a picture larger than `SIDE_BY_SIDE_SIZE` a crop from
its middle, so that the sizes and metrics beside it are those of what is seen.
"""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vrcodec.evaluation import codecs
from vrcodec.evaluation.codecs import Coder, nearest_within
from vrcodec.evaluation.codecs.own import NAME as OWN
from vrcodec.evaluation.evaluate import Evaluation, Picture
from vrcodec.evaluation.metrics import measured_metrics
from vrcodec.evaluation.rate_distortion import DIAL, read_rgb
from vrcodec.evaluation.work import Setup, Task, coder

SIDE_BY_SIDE = (0.1, 0.3, 0.5)
"""Qualities of vrcodec at whose file sizes the other codecs are shown."""
SIDE_BY_SIDE_SIZE = (768, 512)
DIAL_SIZE = (512, 384)
"""Largest crops, long side and short side."""
SIZE_SLACK = 0.01
"""A compared file may be larger by this share."""
TRANSPORT: dict[str, Any] = {"quality": 93, "subsampling": "4:4:4", "optimize": True}
"""JPEG as which pictures are embedded that browsers cannot decode themselves."""


def showcase_task(evaluation: Evaluation, picture: Picture) -> Task:
    """What makes one picture's part of the report."""
    subjects = "|".join(subject.identity for subject in evaluation.subjects)
    metrics = " ".join(metric.name for metric in measured_metrics())
    specs = [subject.spec for subject in evaluation.subjects[1:]]
    return Task(
        f"shown|{subjects}|{picture.digest}|{metrics}",
        show,
        (evaluation.setup, specs, picture.path),
    )


def show(setup: Setup, specs: list[str], path: Path) -> dict[str, Any]:
    """One picture's part of the report.

    Args:
        setup: how to run the codecs.
        specs: of the other codecs.
        path: the picture.

    Returns:
        `side_by_side`: width, height, `original` (a data URI) and `rates`, one per quality of
        `SIDE_BY_SIDE` with `quality` and `shown`, by codec: `src` (a data URI), `quality`,
        `bytes`, `bpp`, `metrics` (by name), `fits` (False where the codec has no file as small).
        `dial`: width, height, original, and `positions` like the values of `shown`, for vrcodec
        at the qualities of `DIAL`.
    """
    pixels = read_rgb(path, setup.max_pixels)
    own = coder(setup, OWN)
    others = [other.with_threads(setup.threads) for other in codecs.find(specs)]
    view = _middle(pixels, SIDE_BY_SIDE_SIZE)
    rates = []
    for quality in SIDE_BY_SIDE:
        data = own.encode(Image.fromarray(view), quality)
        shown = {OWN: _shown(own, view, data, quality)}
        limit = round(len(data) * (1 + SIZE_SLACK))
        for other in others:
            found, file = nearest_within(other, Image.fromarray(view), limit)
            shown[other.name] = _shown(other, view, file, found, other.mime)
            shown[other.name]["fits"] = len(file) <= limit
        rates.append({"quality": quality, "shown": shown})
    small = _middle(pixels, DIAL_SIZE)
    positions = [
        _shown(own, small, own.encode(Image.fromarray(small), quality), quality) for quality in DIAL
    ]
    return {
        "side_by_side": _facts(view) | {"rates": rates},
        "dial": _facts(small) | {"positions": positions},
    }


def _facts(pixels: NDArray[np.uint8]) -> dict[str, Any]:
    height, width = pixels.shape[:2]
    return {"width": width, "height": height, "original": _embedded(Image.fromarray(pixels))}


def _shown(
    coder: Coder, pixels: NDArray[np.uint8], data: bytes, quality: float, mime: str | None = None
) -> dict[str, Any]:
    decoded = coder.decode(data)
    array = np.asarray(decoded)
    return {
        "src": _data_uri(data, mime) if mime else _embedded(decoded),
        "quality": quality,
        "bytes": len(data),
        "bpp": 8 * len(data) / (pixels.shape[0] * pixels.shape[1]),
        "metrics": {metric.name: metric.measure(pixels, array) for metric in measured_metrics()},
        "fits": True,
    }


def _middle(pixels: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """The middle of a picture, at most so large, the long side along that of the picture."""
    height, width = pixels.shape[:2]
    wide, high = size if width >= height else reversed(size)
    left, top = max(0, width - wide) // 2, max(0, height - high) // 2
    return np.ascontiguousarray(pixels[top : top + high, left : left + wide])


def _embedded(image: Image.Image) -> str:
    file = io.BytesIO()
    image.save(file, "JPEG", **TRANSPORT)
    return _data_uri(file.getvalue(), "image/jpeg")


def _data_uri(data: bytes, mime: str) -> str:
    return f"data:{mime};base64,{base64.b64encode(data).decode()}"
