"""Bjontegaard delta rate (VCEG-M33, 2001), with piecewise cubic interpolation."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from vrcodec.errors import VrcodecError
from vrcodec.files import read_bytes

Curve = Mapping[str, Sequence[float | None]]
"""bpp with psnr (dB) and optionally ms_ssim and ssimulacra2, one element per quality."""
_COMPRESSAI_NAMES = {
    "bpp": "bpp",
    "psnr": "psnr-rgb",
    "ms_ssim": "ms-ssim-rgb",
    "ssimulacra2": "ssimulacra2",
}
ANCHORS = Path(__file__).resolve().parents[1] / "data" / "anchors"


def bd_rate(test: Curve, anchor: Curve, metric: str = "psnr") -> tuple[float, float, float]:
    """Rate that `test` needs more than `anchor` at equal quality, in percent.

    log(bpp) is interpolated over quality by pchip and averaged over the overlap of the two
    curves; nothing is extrapolated. Points that cost more without gaining quality are dropped.

    Args:
        metric: "psnr", "ssimulacra2", or "ms_ssim", which is compared as -10 log10(1 - value).

    Returns:
        percent (negative: test is better), and the overlap's ends (dB, or points of SSIMULACRA2);
        nan without overlap.
    """
    from scipy.interpolate import PchipInterpolator

    (x_test, y_test), (x_anchor, y_anchor) = _front(test, metric), _front(anchor, metric)
    if min(len(x_test), len(x_anchor)) < 2:
        return math.nan, math.nan, math.nan
    low, high = max(x_test[0], x_anchor[0]), min(x_test[-1], x_anchor[-1])
    if low >= high:
        return math.nan, low, high
    areas = [
        float(PchipInterpolator(x, y).integrate(low, high))
        for x, y in ((x_test, y_test), (x_anchor, y_anchor))
    ]
    return 100 * math.expm1((areas[0] - areas[1]) / (high - low)), low, high


def load_curves(path: Path) -> dict[str, Curve]:
    """Named curves of a .json file, or of all those in a folder.

    A file holds curves by name, or one result in CompressAI's layout.

    Raises:
        VrcodecError: it cannot be read, or holds something else.
    """
    curves: dict[str, Curve] = {}
    for file in sorted(path.glob("*.json")) if path.is_dir() else [path]:
        try:
            found = json.loads(read_bytes(file))
            if "results" in found:
                found = {
                    found.get("name", file.stem): {
                        ours: found["results"][theirs]
                        for ours, theirs in _COMPRESSAI_NAMES.items()
                        if theirs in found["results"]
                    }
                }
            if not all(len(curve["bpp"]) == len(curve["psnr"]) for curve in found.values()):
                raise ValueError
        except (ValueError, TypeError, KeyError, AttributeError):
            raise VrcodecError(f"{file}: holds no rate-distortion curves") from None
        curves |= found
    if not curves:
        raise VrcodecError(f"{path}: no rate-distortion curves there")
    return curves


def kodak_anchors() -> dict[str, Curve]:
    """Curves of other codecs on Kodak."""
    return load_curves(ANCHORS)


def _front(curve: Curve, metric: str) -> tuple[np.ndarray, np.ndarray]:
    """Quality in dB and log bpp, both strictly rising."""
    x: list[float] = []
    y: list[float] = []
    values = curve.get(metric) or [math.nan] * len(curve["bpp"])
    points = [
        (bpp, value)
        for bpp, value in zip(curve["bpp"], values, strict=True)
        if bpp is not None and value is not None
    ]
    for bpp, value in sorted(points):
        if metric == "ms_ssim":
            value = -10 * math.log10(1 - value) if value < 1 else math.nan
        if math.isfinite(value) and (not x or (value > x[-1] and math.log(bpp) > y[-1])):
            x.append(value)
            y.append(math.log(bpp))
    return np.array(x), np.array(y)
