"""The metrics of an evaluation, one object each: add one to `METRICS`, and it is everywhere.

What an object says is all that measuring, means, BD-rates, plots, tables, CSV and JSON know of a
metric. No torch here: a metric imports what it needs when it is first called.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from vrcodec.pictures.metrics import ms_ssim, psnr, ssimulacra2

Measure = Callable[[NDArray[np.uint8], NDArray[np.uint8]], "float | None"]


def identity(value: float) -> float:
    """The value itself."""
    return value


def decibels_of_similarity(value: float) -> float:
    """-10 log10(1 - value), as MS-SSIM is compared; nan for 1 and more."""
    return -10 * math.log10(1 - value) if value < 1 else math.nan


@dataclasses.dataclass(frozen=True)
class Metric:
    """How far a decoded picture is from its source.

    Attributes:
        name: in results, CSV and curves of our own.
        title: for people.
        measure: of two uint8 RGB pictures (H, W, 3), the source first; None where it is not
            defined for their size.
        compressai: its name in result files of CompressAI.
        unit: of what is plotted and compared, "" for none.
        scale: from a value to what is plotted and compared, e.g. decibels.
        higher_is_better: whether more of it is better.
        perceptual: whether it may be left out where only rate and PSNR are wanted.
        package: which has to be installed for it, if not with vrcodec itself.
        places: decimals worth showing.
        note: what a reader has to know, a sentence.
    """

    name: str
    title: str
    measure: Measure
    compressai: str
    unit: str = ""
    scale: Callable[[float], float] = identity
    higher_is_better: bool = True
    perceptual: bool = True
    package: str | None = None
    places: int = 2
    note: str = ""

    @property
    def available(self) -> bool:
        """Whether it can be measured here."""
        return self.package is None or importlib.util.find_spec(self.package) is not None

    @property
    def axis(self) -> str:
        """What a plot writes beside its axis."""
        if self.scale is decibels_of_similarity:
            return f"{self.title} ({self.unit}: -10 log₁₀(1 - x))"
        return f"{self.title} ({self.unit})" if self.unit else self.title

    def compared(self, value: float) -> float:
        """What BD-rates compare: scaled, and more is better."""
        scaled = self.scale(value)
        return scaled if self.higher_is_better else -scaled


PSNR = Metric(
    "psnr",
    "PSNR",
    psnr,
    "psnr-rgb",
    unit="dB",
    perceptual=False,
    note="over all pixels and channels of a picture, in dB",
)
MS_SSIM = Metric(
    "ms_ssim",
    "MS-SSIM",
    ms_ssim,
    "ms-ssim-rgb",
    unit="dB",
    scale=decibels_of_similarity,
    package="pytorch_msssim",
    places=5,
    note="on RGB, by pytorch-msssim; not defined for a side of 160 pixels or less",
)
SSIMULACRA2 = Metric(
    "ssimulacra2",
    "SSIMULACRA2",
    ssimulacra2,
    "ssimulacra2",
    package="ssimulacra2",
    note="by the Python package ssimulacra2; about 30 is low, 50 medium, 70 high quality, "
    "90 visually lossless",
)

METRICS = {metric.name: metric for metric in (PSNR, MS_SSIM, SSIMULACRA2)}


def measured_metrics(perceptual: bool = True) -> list[Metric]:
    """The metrics that can be measured here, with or without the perceptual ones."""
    return [
        metric
        for metric in METRICS.values()
        if metric.available and (perceptual or not metric.perceptual)
    ]
