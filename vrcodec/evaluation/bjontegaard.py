"""Bjontegaard delta rate (VCEG-M33, 2001), with piecewise cubic interpolation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from vrcodec.evaluation.metrics import METRICS

Curve = Mapping[str, Sequence[float | None]]
"""bpp, psnr (dB) and optionally other metrics by name, one element per quality."""

RATE = "_bpp"
"""Behind a metric's name: bpp of the pictures that have it, where not all have."""

Line = tuple[NDArray[np.float64], NDArray[np.float64]]


def bd_rate(test: Curve, anchor: Curve, metric: str = "psnr") -> tuple[float, float, float]:
    """Rate that `test` needs more than `anchor` at equal quality, in percent.

    log(bpp) is interpolated over quality by pchip and averaged over the overlap of the two
    curves; nothing is extrapolated. Points that cost more without gaining quality are dropped.

    Args:
        metric: name of one of `METRICS`, compared on its scale: MS-SSIM as -10 log10(1 - value).

    Returns:
        percent (negative: test is better), and the overlap's ends (dB, or points of SSIMULACRA2);
        nan without overlap.
    """
    from scipy.interpolate import PchipInterpolator

    (x_test, y_test), (x_anchor, y_anchor) = front(test, metric), front(anchor, metric)
    if min(len(x_test), len(x_anchor)) < 2:
        return math.nan, math.nan, math.nan
    low, high = max(x_test[0], x_anchor[0]), min(x_test[-1], x_anchor[-1])
    if low >= high:
        return math.nan, low, high
    areas = [
        float(PchipInterpolator(x, y).integrate(low, high))
        for x, y in ((x_test, y_test), (x_anchor, y_anchor))
    ]
    return 100 * math.expm1((areas[0] - areas[1]) / (high - low)), float(low), float(high)


def smooth(curve: Curve, metric: str, count: int = 200) -> Line:
    """bpp and quality along the line through a curve's front that `bd_rate` integrates.

    Returns:
        `count` points of it, fewer where the front has less than two.
    """
    from scipy.interpolate import PchipInterpolator

    x, y = front(curve, metric)
    if len(x) < 2:
        return np.exp(y), x
    along = np.union1d(np.linspace(x[0], x[-1], count), x)
    return np.exp(PchipInterpolator(x, y)(along)), along


def front(curve: Curve, metric: str) -> Line:
    """Quality on the metric's scale and log bpp, both strictly rising."""
    x: list[float] = []
    y: list[float] = []
    for bpp, value in points(curve, metric):
        if not x or (value > x[-1] and math.log(bpp) > y[-1]):
            x.append(value)
            y.append(math.log(bpp))
    return np.array(x), np.array(y)


def rates_of(curve: Curve, metric: str) -> Sequence[float | None]:
    """bpp of the pictures that a metric is of."""
    return curve.get(metric + RATE) or curve["bpp"]


def points(curve: Curve, metric: str) -> list[tuple[float, float]]:
    """bpp and quality of the points that have both, the smallest rate first."""
    rates = rates_of(curve, metric)
    values = curve.get(metric) or [None] * len(rates)
    points = [
        (bpp, METRICS[metric].compared(value))
        for bpp, value in zip(rates, values, strict=True)
        if bpp is not None and value is not None and bpp > 0
    ]
    return sorted((bpp, value) for bpp, value in points if math.isfinite(value))
