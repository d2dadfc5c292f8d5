"""The samples of a Pillow picture as 8-bit RGB and alpha, strip by strip."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vrcodec.pictures import source

Pixels = NDArray[np.uint8]
Scale = tuple[float, float]

STRIP_PIXELS = 1 << 22
GREY_MODES = {"1", "L", "LA", "La", "I", "F", "I;16", "I;16L", "I;16B", "I;16N"}
_FILL_BLOCK = 16
"""Blocks as the model sees them: on each of these squares stands one latent position."""


def is_grey(image: Image.Image, profile: bytes = b"") -> bool:
    """Whether a picture has no colour: of its kind, not of its pixels."""
    if image.mode in {"P", "PA"}:
        palette = np.array(image.getpalette("RGB") or [0, 0, 0]).reshape(-1, 3)
        return bool((palette == palette[:, :1]).all()) and profile[16:20] != b"RGB "
    known = source.of(image)
    return image.mode in GREY_MODES or (known.grey and known.mode == image.mode)


def pixels_and_alpha(image: Image.Image) -> tuple[Pixels, Pixels | None]:
    """Colour (height, width, 3) and alpha (height, width), None for an opaque picture.

    In strips, so that no second whole copy is needed.
    """
    width, height = image.size
    pixels = np.empty((height, width, 3), np.uint8)
    alpha: Pixels | None = None
    scale, key = _scale(image), source.guessed_key(image)
    if source.KEY in image.info:
        key = image.info.get("transparency")
    for rows, strip in _strips(image):
        pixels[rows], values = _strip_samples(strip, scale, key)
        if isinstance(values, int) or values.min() == 255:
            continue
        if alpha is None:
            alpha = np.full((height, width), 255, np.uint8)
        alpha[rows] = values
    return pixels, alpha


def is_invisible(image: Image.Image) -> bool:
    """Whether a picture with an alpha channel, or a palette with alpha, is wholly transparent."""
    if not image.width or not image.height:
        return False
    if image.mode in {"LA", "La", "RGBA", "RGBa", "PA"}:
        return bool(image.getchannel(image.getbands()[-1]).getextrema()[1] == 0)
    if image.mode == "P" and "transparency" in image.info:
        key = image.info["transparency"]
        used = [index for _, index in image.getcolors(256) or () if isinstance(index, int)]
        if not isinstance(key, bytes):
            return used == [key]
        return bool(used) and all(key[index : index + 1] == b"\0" for index in used)
    return False


def fill_invisible(pixels: Pixels, alpha: Pixels) -> None:
    """Give fully transparent pixels a colour that is cheap to code.

    It is the mean of the other pixels in their block, or in the picture where the block has none.
    """
    height, width = alpha.shape
    starts = np.arange(0, width, _FILL_BLOCK)
    bands = [slice(top, top + _FILL_BLOCK) for top in range(0, height, _FILL_BLOCK)]
    counts = np.zeros((len(bands), len(starts), 1), np.int64)
    sums = np.zeros((len(bands), len(starts), 3), np.int64)
    for index, band in enumerate(bands):
        visible = (alpha[band] > 0)[..., None]
        counts[index] = np.add.reduceat(visible.sum(axis=0), starts)
        sums[index] = np.add.reduceat((pixels[band] * visible).sum(axis=0), starts)
    mean = sums.sum(axis=(0, 1)) / counts.sum() if counts.any() else 128
    means = np.rint(np.where(counts, sums / np.maximum(counts, 1), mean)).astype(np.uint8)
    for index, band in enumerate(bands):
        columns = np.repeat(means[index], _FILL_BLOCK, axis=0)[:width]
        np.copyto(pixels[band], columns, where=(alpha[band] == 0)[..., None])


def _strips(image: Image.Image) -> Iterator[tuple[slice, Image.Image]]:
    step = max(1, STRIP_PIXELS // image.width)
    for top in range(0, image.height, step):
        bottom = min(top + step, image.height)
        yield slice(top, bottom), image.crop((0, top, image.width, bottom))


def _scale(image: Image.Image) -> Scale:
    """The sample values of a grey picture that stand for black and white."""
    known = source.of(image)
    if known.scale and known.mode == image.mode:
        return known.scale
    if image.mode.startswith("I;16"):
        return 0, 65535
    return source.value_range(image) if image.mode in {"I", "F"} else (0, 255)


def _strip_samples(strip: Image.Image, scale: Scale, key: Any) -> tuple[Pixels, Pixels | int]:
    """Colour (grey with a last axis of length 1) and alpha of a picture."""
    if strip.mode in {"I", "F"} or strip.mode.startswith("I;16"):
        values = np.asarray(strip)
        black, white = scale
        level = (np.nan_to_num(values.astype(np.float64), nan=black) - black) / (white - black)
        grey = np.rint(255 * level.clip(0, 1)).astype(np.uint8)
        return grey[..., None], _keyed(values[..., None], key)
    if strip.mode in {"1", "L"}:
        values = np.asarray(strip.convert("L"))[..., None]
        return values, _keyed(values, key)
    if strip.mode in {"LA", "La"}:
        values = np.asarray(strip.convert("LA"))
        return values[..., :1], values[..., 1]
    if strip.mode == "RGB":
        values = np.asarray(strip)
        if isinstance(key, tuple) and max(key) > 255:
            key = tuple(part >> 8 for part in key)  # as Pillow cut the samples
        return values, _keyed(values, key)
    if strip.has_transparency_data:
        values = np.asarray(strip.convert("RGBA"))
        return values[..., :3], values[..., 3]
    return np.asarray(strip.convert("RGB")), 255


def _keyed(values: NDArray[Any], key: Any) -> Pixels | int:
    """Alpha where one sample value (PNG's tRNS) stands for transparent."""
    if key is None:
        return 255
    return np.where((values == key).all(axis=-1), np.uint8(0), np.uint8(255))
