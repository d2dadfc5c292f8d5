"""Rate and fidelity of a finished model where no entropy coder is at hand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from vrcodec.conditional.dials import QUALITY
from vrcodec.training.data import find_pictures, load_rgb
from vrcodec.training.export import Finished
from vrcodec.training.trellis_tables import TrellisEncoder

QUALITIES = tuple(i / 8 for i in range(9))
OVERHEAD = 32
"""Bytes of a plain picture's file beside its payload, at most, with two dials."""


def validation_pictures(folder: Path, count: int, crop: int) -> list[NDArray[np.uint8]]:
    """Pictures (H, W, 3) to measure on: `count` of a folder, spread evenly, the centre of each.

    Args:
        crop: side of the centre, 0 for whole pictures.

    Raises:
        VrcodecError: there are none, or one cannot be read.
    """
    paths = find_pictures([folder])
    step = max(1.0, len(paths) / count)
    chosen = [paths[int(i * step)] for i in range(min(count, len(paths)))]
    return [_centre(load_rgb(path).permute(1, 2, 0).numpy(), crop) for path in chosen]


def _centre(pixels: NDArray[np.uint8], crop: int) -> NDArray[np.uint8]:
    height, width = (min(length, crop or length) for length in pixels.shape[:2])
    top, left = (pixels.shape[0] - height) // 2, (pixels.shape[1] - width) // 2
    return pixels[top : top + height, left : left + width]


def estimated_curve(
    finished: Finished,
    pictures: Sequence[NDArray[np.uint8]],
    qualities: Sequence[float] = QUALITIES,
    progress: bool = False,
) -> dict[str, list[float]]:
    """Means over pictures of bits per pixel and PSNR; other dials than the quality's are at 0.

    Rates are the ideal code length of the symbols under the tables and OVERHEAD for the rest of a
    file; pixels are those that the file would decode to.

    Returns:
        Lists over the qualities: `quality`, `bpp`, `psnr` (dB).
    """
    curve: dict[str, list[float]] = {"quality": list(qualities), "bpp": [], "psnr": []}
    with tqdm(total=len(pictures) * len(qualities), unit="picture", disable=not progress) as bar:
        for quality in qualities:
            points = []
            for pixels in pictures:
                points.append(_point(finished, pixels, quality))
                bar.update()
            bpp, psnr = np.mean(points, axis=0).tolist()
            curve["bpp"].append(bpp)
            curve["psnr"].append(psnr)
    return curve


def _point(finished: Finished, pixels: NDArray[np.uint8], quality: float) -> tuple[float, float]:
    """Bits per pixel and PSNR of one picture."""
    height, width = pixels.shape[:2]
    model = finished.network
    names = model.config.dials.names
    conditioning = model.config.dials.conditioning(dict.fromkeys(names, 0.0) | {QUALITY: quality})
    condition = model.condition(conditioning)
    x = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255
    tables = finished.y_tables
    if model.config.trellis_at(conditioning):
        z, y, symbols, of = TrellisEncoder(model, finished.fixed, tables).quantise(x, conditioning)
    else:
        z, y = model.quantise(x, condition)
        indexes = finished.fixed.indexes(z[0], conditioning)[:, : y.shape[2], : y.shape[3]]
        symbols, of = y[0].numpy(), tables.numbers(indexes.numpy())
    at, size = (slice(y.shape[2]), slice(y.shape[3])), model.config.level_step_at(conditioning)
    bits = float(finished.z_tables.bits(z[0].numpy(), conditioning).sum())
    bits += tables.at(conditioning).bits(symbols, of)
    decoded = model.reconstruct(z, y, condition, at, size)[..., :height, :width]
    error = ((decoded.clamp(0, 1) * 255).round() / 255 - x).square().mean().item()
    return (bits + 8 * OVERHEAD) / (height * width), -10 * math.log10(max(error, 1e-10))
