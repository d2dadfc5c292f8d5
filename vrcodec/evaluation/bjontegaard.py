"""Bjontegaard delta rate (VCEG-M33, 2001), with piecewise cubic interpolation."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

Curve = Mapping[str, Sequence[float | None]]
"""bpp with psnr (dB) and optionally ms_ssim, one element per quality."""


def bd_rate(test: Curve, anchor: Curve, metric: str = "psnr") -> tuple[float, float, float]:
    """Rate that `test` needs more than `anchor` at equal quality, in percent.

    log(bpp) is interpolated over quality by pchip and averaged over the overlap of the two
    curves; nothing is extrapolated. Points that cost more without gaining quality are dropped.

    Args:
        metric: "psnr", or "ms_ssim", which is compared as -10 log10(1 - value).

    Returns:
        percent (negative: test is better), and the overlap's ends in dB; nan without overlap.
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


def load_curves(folder: Path) -> dict[str, Curve]:
    """All named curves of the .json files of a folder."""
    curves: dict[str, Curve] = {}
    for path in sorted(folder.glob("*.json")):
        curves |= json.loads(path.read_text())
    return curves


def _front(curve: Curve, metric: str) -> tuple[np.ndarray, np.ndarray]:
    """Quality in dB and log bpp, both strictly rising."""
    x: list[float] = []
    y: list[float] = []
    values = curve.get(metric) or [math.nan] * len(curve["bpp"])
    points = [
        (bpp, value) for bpp, value in zip(curve["bpp"], values, strict=True)
        if bpp is not None and value is not None
    ]
    for bpp, value in sorted(points):
        if metric == "ms_ssim":
            value = -10 * math.log10(1 - value) if value < 1 else math.nan
        if math.isfinite(value) and (not x or (value > x[-1] and math.log(bpp) > y[-1])):
            x.append(value)
            y.append(math.log(bpp))
    return np.array(x), np.array(y)
