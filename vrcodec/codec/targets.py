"""Targets instead of a quality: file size, bits per pixel, PSNR or MS-SSIM.

The dial is searched on its integer conditioning value, where the logarithm of the size and both
fidelities in dB are close to straight lines, so that a few secant steps are enough. Nothing is
estimated: every step makes the real file (entropy coding is a small part of the work), and for a
fidelity decodes it, so what is promised holds for the bytes that are returned.
"""

from __future__ import annotations

import dataclasses
import enum
import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from vrcodec.bitstream.container import CHECKSUM_BYTES, CONDITIONING_ONE
from vrcodec.errors import TargetError
from vrcodec.pictures.metrics import MS_SSIM_SIDE, ms_ssim, psnr

if TYPE_CHECKING:
    from vrcodec.codec.codec import Codec
    from vrcodec.pictures import CodedPicture

MAX_ENCODES = 8
"""Files made for one picture, at most."""
MAX_CORRECTIONS = 4
"""Files made with effort for one picture, at most, once the quality without it is known."""
SIZE_SLACK = 0.005
"""A file this share under its limit is taken as the largest that fits."""
FIDELITY_SLACK = 0.1
"""A picture this many dB over its target is taken as the smallest that reaches it."""
RATE_SLOPE = 3.3 / CONDITIONING_ONE
"""Expected rise of the logarithm of a file's size per position on the dial."""


class Measure(enum.Enum):
    """What a target is about; the value is its option's name."""

    SIZE = "size"
    BPP = "bpp"
    PSNR = "psnr"
    MS_SSIM = "ms-ssim"

    @property
    def is_rate(self) -> bool:
        """Whether the target is a limit of the file's size."""
        return self in {Measure.SIZE, Measure.BPP}


@dataclasses.dataclass(frozen=True)
class Target:
    """What a file has to keep to.

    Attributes:
        measure: of the size, never exceeded, or of the fidelity, always reached.
        value: bytes, bits per pixel of the whole file, dB, or MS-SSIM below 1.
    """

    measure: Measure
    value: float

    def __str__(self) -> str:
        return _UNITS[self.measure].format(self.value)


@dataclasses.dataclass(frozen=True)
class Result:
    """A file made for a target.

    Attributes:
        data: contents of the .vrc file.
        quality: where on the dial it is, 0 to 1.
        achieved: what the target measures, of this file.
        reached: False only for the nearest end of the dial, with `best_effort`.
        encodes: how often the picture was coded, with any effort.
    """

    data: bytes
    quality: float
    achieved: float
    reached: bool
    encodes: int


_UNITS = {
    Measure.SIZE: "{:,.0f} bytes",
    Measure.BPP: "{:.4g} bpp",
    Measure.PSNR: "{:.2f} dB",
    Measure.MS_SSIM: "MS-SSIM {:.4f}",
}
_DECIBELS_AT_ZERO = {Measure.PSNR: 28.0, Measure.MS_SSIM: 10.0}
"""Fidelity of an ordinary photograph at quality 0, from where the search starts."""


def encode_to_target(
    codec: Codec,
    picture: CodedPicture,
    target: Target,
    best_effort: bool = False,
    effort: int = 0,
) -> Result:
    """Code a picture at the largest quality within a size, or at the smallest of a fidelity.

    A size is met from below, to within `SIZE_SLACK` where the file is not so small that a byte is
    more; a fidelity from above, to within `FIDELITY_SLACK`. Where already quality 1 fits in the
    size, or quality 0 has the fidelity, that is the result. Fidelity is measured on the
    8-bit RGB pixels that are coded, alpha left out.

    Args:
        codec: the model.
        picture: from `pictures.to_coded`.
        target: what to keep to.
        best_effort: take quality 0 or 1 where the target cannot be reached.
        effort: of the final file, as for `Codec.encode`. The quality is found without it and then
            corrected; where that does not keep to the target, the file is one without effort.

    Raises:
        TargetError: it cannot be reached, or MS-SSIM is asked of a picture with a side of 160
            pixels or fewer.
    """
    trials = _SizeTrials if target.measure.is_rate else _FidelityTrials
    return trials(codec, picture, target, effort).search(best_effort)


def quality_for_total(
    measure: Callable[[float], int], limit: int, best_effort: bool, start: float = 0.5
) -> tuple[float, bool]:
    """The largest quality at which many files together keep within a size, nearly.

    Args:
        measure: bytes of all files at a quality; called at most `MAX_ENCODES` times.
        limit: bytes, never exceeded.
        best_effort: take quality 0 where even that gives more.
        start: the quality to look at first.

    Returns:
        A quality that was measured, to within `SIZE_SLACK` where the files allow, and whether
        the limit is kept to.

    Raises:
        TargetError: it cannot be.
    """
    sizes: dict[int, int] = {}

    def level(position: int) -> float:
        sizes[position] = measure(position / CONDITIONING_ONE)
        return math.log(max(1, sizes[position]))

    position = largest_within(
        level,
        math.log(limit),
        math.log(limit * (1 - SIZE_SLACK)),
        round(start * CONDITIONING_ONE),
        RATE_SLOPE,
    )
    if position is not None:
        return position / CONDITIONING_ONE, True
    if best_effort:
        return 0.0, False
    raise TargetError(
        f"{limit:,} bytes in all cannot be reached: quality 0 gives {sizes[0]:,} bytes "
        "(--best-effort takes that)"
    )


def largest_within(
    measure: Callable[[int], float],
    limit: float,
    enough: float,
    start: int,
    slope: float,
    max_calls: int = MAX_ENCODES,
) -> int | None:
    """The largest position whose value is within a limit, nearly.

    Args:
        measure: value at a position, 0 to CONDITIONING_ONE; close to straight and rising, but
            not necessarily everywhere.
        limit: the value that must not be exceeded.
        enough: a position with a value from here to the limit ends the search.
        start: where to look first.
        slope: the expected rise of the value per position.
        max_calls: how often `measure` may be called, at least 2.

    Returns:
        A position at which `measure` has been called and gave at most `limit`; None if even
        position 0 gave more.
    """
    below: tuple[int, float] | None = None
    above: tuple[int, float] | None = None
    previous: tuple[int, float] | None = None
    aim = (limit + enough) / 2
    position = start
    for calls_left in reversed(range(max_calls)):
        here = position, measure(position)
        if here[1] <= limit:
            below = here
            if here[1] >= enough or position == CONDITIONING_ONE:
                break
        else:
            above = here
            if position == 0:
                break
        low = below[0] + 1 if below else 0
        high = above[0] - 1 if above else CONDITIONING_ONE
        if low > high:
            break
        rise = _slope(previous, here, slope) if previous else slope
        previous = here
        position += round((aim - here[1]) / rise)
        if below and above and not low <= position <= high:
            position = (low + high) // 2
        elif not below and calls_left == 1:
            position = 0
        position = min(max(position, low), high)
    return below[0] if below else None


def _slope(a: tuple[int, float], b: tuple[int, float], expected: float) -> float:
    """Rise per position between two points, but not so little that a step would go astray."""
    return max((b[1] - a[1]) / (b[0] - a[0]), expected / 3)


class _Trials:
    """Files of one picture by position on the dial, or on the reversed dial."""

    def __init__(self, codec: Codec, picture: CodedPicture, target: Target, effort: int) -> None:
        self.codec, self.picture, self.target = codec, picture, target
        self.effort = effort
        self.files: dict[tuple[int, int], tuple[bytes, float]] = {}

    def file(self, value: int, effort: int = 0) -> tuple[bytes, float]:
        """The file at a conditioning value, and its achievement."""
        if (value, effort) not in self.files:
            data = self.codec.encode_picture(
                self.picture, self.codec.conditioning(value / CONDITIONING_ONE), effort
            )
            self.files[value, effort] = data, self.achieved(data)
        return self.files[value, effort]

    def achieved(self, data: bytes) -> float:
        raise NotImplementedError

    def finish(
        self,
        position: int,
        measure: Callable[[int, int], float],
        limit: float,
        enough: float,
        slope: float,
    ) -> tuple[int, int]:
        """Where the result is, position and effort, from what was found without effort.

        Args:
            measure: value at a position, with an effort.
            limit, enough, slope: as for `largest_within`.
        """
        if not self.effort:
            return position, 0
        found = position, 0
        within = -math.inf
        for _ in range(MAX_CORRECTIONS):
            value = measure(position, self.effort)
            if within < value <= limit:
                found, within = (position, self.effort), value
            if enough <= value <= limit:
                break
            step = round(((limit + enough) / 2 - value) / slope)
            ahead = min(max(position + step, 0), CONDITIONING_ONE)
            if ahead == position:
                break
            position = ahead
        return found

    def result(self, value: int, reached: bool, effort: int = 0) -> Result:
        data, achieved = self.file(value, effort)
        return Result(data, value / CONDITIONING_ONE, achieved, reached, len(self.files))

    def unreachable(self, end: int, best_effort: bool) -> Result:
        result = self.result(end, reached=False)
        if best_effort:
            return self.result(end, False, self.effort)
        best = Target(self.target.measure, result.achieved)
        raise TargetError(
            f"{self.target} cannot be reached: quality {result.quality:.0f} gives {best} "
            "(--best-effort takes that)"
        )


class _SizeTrials(_Trials):
    """Searches on the logarithm of what depends on the quality: all but the extra sections."""

    _BPP_AT_ZERO, _SLOPE = 0.1, RATE_SLOPE

    def achieved(self, data: bytes) -> float:
        return 8 * len(data) / self._pixels if self.target.measure is Measure.BPP else len(data)

    @property
    def _pixels(self) -> int:
        height, width = self.picture.pixels.shape[:2]
        return height * width

    def search(self, best_effort: bool) -> Result:
        limit = self.target.value
        if self.target.measure is Measure.BPP:
            limit = limit * self._pixels / 8
        limit = math.floor(limit)
        fixed = sum(map(len, self.picture.extras.values())) + CHECKSUM_BYTES
        if limit <= fixed:
            return self.unreachable(0, best_effort)

        def level(size: float) -> float:
            return math.log(max(1.0, size - fixed))

        start: float = (level(limit) - math.log(self._BPP_AT_ZERO * self._pixels / 8)) / self._SLOPE

        def measure(value: int, effort: int = 0) -> float:
            return level(len(self.file(value, effort)[0]))

        within = level(limit), level(limit * (1 - SIZE_SLACK))
        start = round(min(max(start, 0.0), CONDITIONING_ONE))
        value = largest_within(measure, *within, start, self._SLOPE)
        if value is None:
            return self.unreachable(0, best_effort)
        value, effort = self.finish(value, measure, *within, self._SLOPE)
        return self.result(value, True, effort)


class _FidelityTrials(_Trials):
    """Searches on decibels, from quality 1 down for the last position that does not fall short."""

    _SLOPE = 16 / CONDITIONING_ONE

    def achieved(self, data: bytes) -> float:
        decoded = np.asarray(self.codec.decode(data).convert("RGB"))
        if self.target.measure is Measure.PSNR:
            return psnr(self.picture.pixels, decoded)
        similarity = ms_ssim(self.picture.pixels, decoded)
        if similarity is None:
            raise TargetError(f"MS-SSIM needs more than {MS_SSIM_SIDE} pixels on each side")
        return similarity

    def _decibels(self, fidelity: float) -> float:
        if self.target.measure is Measure.PSNR:
            return fidelity
        return -10 * math.log10(max(1e-10, 1 - fidelity))

    def search(self, best_effort: bool) -> Result:
        wanted = self._decibels(self.target.value)
        start = (wanted - _DECIBELS_AT_ZERO[self.target.measure]) / self._SLOPE

        def measure(position: int, effort: int = 0) -> float:
            return -self._decibels(self.file(CONDITIONING_ONE - position, effort)[1])

        within = -wanted, -wanted - FIDELITY_SLACK
        first = CONDITIONING_ONE - round(min(max(start, 0.0), CONDITIONING_ONE))
        position = largest_within(measure, *within, first, self._SLOPE)
        if position is None:
            return self.unreachable(CONDITIONING_ONE, best_effort)
        position, effort = self.finish(position, measure, *within, self._SLOPE)
        return self.result(CONDITIONING_ONE - position, True, effort)
