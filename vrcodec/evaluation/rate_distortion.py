"""Rate-distortion curves through real files."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from vrcodec import image_io
from vrcodec.codec import Codec
from vrcodec.container import unpack
from vrcodec.metrics import ms_ssim, psnr

DIAL = tuple(i / 10 for i in range(11))


def rd_curve(
    codec: Codec,
    paths: Sequence[Path],
    qualities: Sequence[float] = DIAL,
    with_ms_ssim: bool = True,
    progress: bool = False,
) -> dict[str, Any]:
    """Code every picture at every quality, through bytes and back.

    Raises:
        PictureError: a picture cannot be read.

    Returns:
        Lists over the qualities of the means over pictures: bpp (file bytes x 8 / pixels), psnr
        (dB), ms_ssim, enc_s and dec_s (seconds); `quality`; and `per_image` with the same lists
        for every picture, in addition `estimate` (ideal bytes of the latents) and `bytes`.
    """
    rows: dict[str, list[list[float | None]]] = {
        key: [] for key in ("bpp", "psnr", "ms_ssim", "enc_s", "dec_s", "bytes", "estimate")
    }
    pictures = [
        image_io.open_picture(path, str(path), image_io.MAX_PIXELS).convert("RGB")
        for path in paths
    ]
    with tqdm(total=len(paths) * len(qualities), unit="file", disable=not progress) as bar:
        for quality in qualities:
            for row in rows.values():
                row.append([])
            for picture in pictures:
                for key, value in _measure(codec, picture, quality, with_ms_ssim).items():
                    rows[key][-1].append(value)
                bar.update()
    result: dict[str, Any] = {"quality": list(qualities)}
    for key in ("bpp", "psnr", "ms_ssim", "enc_s", "dec_s"):
        result[key] = [_mean(row) for row in rows[key]]
    result["per_image"] = {"image": [path.name for path in paths], **rows}
    return result


def _measure(
    codec: Codec, picture: Image.Image, quality: float, with_ms_ssim: bool
) -> dict[str, float | None]:
    started = time.perf_counter()
    data = codec.encode(picture, quality)
    encoded = time.perf_counter()
    decoded = np.asarray(codec.decode(data))
    finished = time.perf_counter()
    source = np.asarray(picture)
    stream = unpack(data)
    estimate = codec.estimate_bits(codec.read_latents(stream), stream.header.conditioning) / 8
    return {
        "bpp": 8 * len(data) / (source.shape[0] * source.shape[1]),
        "psnr": psnr(source, decoded),
        "ms_ssim": ms_ssim(source, decoded) if with_ms_ssim else None,
        "enc_s": encoded - started,
        "dec_s": finished - encoded,
        "bytes": len(data),
        "estimate": estimate,
    }


def _mean(values: Sequence[float | None]) -> float | None:
    present = [value for value in values if value is not None]
    return sum(present) / len(present) if present else None
