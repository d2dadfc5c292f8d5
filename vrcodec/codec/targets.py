"""Targets instead of a quality: file size, bits per pixel, or fidelity. Pure search. No torch here.

The dial is searched on its header values, where the logarithm of the size and the fidelities in dB
are close to straight lines, so that a few secant steps are enough. Nothing is estimated: every
step makes the real file (entropy coding is a small part of the work), and for a fidelity decodes
it, so what is promised holds for the bytes that are returned.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from vrcodec.bitstream.container import CHECKSUM_BYTES
from vrcodec.codec.settings import DEFAULT_QUALITY, Encoded, Measure, Target
from vrcodec.conditional.dials import ONE, Conditioning
from vrcodec.errors import TargetError
from vrcodec.extras import require
from vrcodec.pictures import metrics

MAX_ENCODES = 8
"""Files made for one picture, at most."""
MAX_CORRECTIONS = 4
"""Files made with effort for one picture, at most, once the quality without it is known."""
SIZE_SLACK = 0.005
"""A file this share under its limit is taken as the largest that fits."""
RATE_SLOPE = 3.3
"""Expected rise of the logarithm of a file's size over the dial."""
_BPP_AT_ZERO = 0.1
_LARGEST_SIZE = 1 << 62
_PRICE_REACH = 1 / 20
"""How far to either side on the dial the price of an error is measured."""

Encode = Callable[[Conditioning], bytes]
"""Makes the file of a picture."""


@dataclasses.dataclass(frozen=True)
class _Fidelity:
    """How a fidelity goes along the dial, for an ordinary photograph: in its own unit, or dB.

    A picture that is over its target by no more than `slack` is taken as the smallest.
    """

    at_zero: float
    rise: float
    slack: float


_FIDELITIES = {
    Measure.PSNR: _Fidelity(28.0, 16.0, 0.1),
    Measure.MS_SSIM: _Fidelity(10.0, 16.0, 0.1),
    Measure.SSIMULACRA2: _Fidelity(20.0, 70.0, 0.4),
}


@dataclasses.dataclass(frozen=True)
class Goal:
    """A target as the limit of a level that rises with the position on the dial.

    Attributes:
        target: what it is about.
        level: of a file, and of what the target measures of it.
        limit, enough: the level's limit, and from where on it is near enough.
        start: the position to look at first, 0 to ONE.
        slope: expected rise of the level over the dial.
        reversed: positions are counted from quality 1 downwards.
    """

    target: Target
    level: Callable[[bytes, float], float]
    limit: float
    enough: float
    start: int
    slope: float
    reversed: bool

    def conditioning(self, position: int, others: Conditioning) -> Conditioning:
        """Where a position is; the other dials as given."""
        return others.at_quality(ONE - position if self.reversed else position)

    @classmethod
    def of(cls, target: Target, pixels: int, fixed: int) -> Goal:
        """The goal of a target.

        Args:
            pixels: of the picture, width x height.
            fixed: bytes of the file that do not depend on the quality.
        """
        if target.measure.is_rate:
            return cls._of_rate(target, pixels, fixed + CHECKSUM_BYTES)
        about = _FIDELITIES[target.measure]
        scale = _decibels if target.measure is Measure.MS_SSIM else float
        wanted = scale(target.value)
        start = ONE - _kept((wanted - about.at_zero) / about.rise)

        def level(_: bytes, achieved: float) -> float:
            return -scale(achieved)

        return cls(target, level, -wanted, -wanted - about.slack, start, about.rise, True)

    @classmethod
    def _of_rate(cls, target: Target, pixels: int, fixed: int) -> Goal:
        """On the logarithm of what depends on the quality."""
        unit = pixels / 8 if target.measure is Measure.BPP else 1
        limit = math.floor(min(target.value * unit, _LARGEST_SIZE))

        def logarithm(size: float) -> float:
            return math.log(max(1.0, size - fixed))

        def level(data: bytes, _: float) -> float:
            return logarithm(len(data))

        if limit <= fixed:
            return cls(target, level, -math.inf, -math.inf, 0, RATE_SLOPE, False)
        most, enough = logarithm(limit), logarithm(limit * (1 - SIZE_SLACK))
        start = _kept((most - math.log(_BPP_AT_ZERO * pixels / 8)) / RATE_SLOPE)
        return cls(target, level, most, enough, start, RATE_SLOPE, False)


def _kept(position: float) -> int:
    """Header value of a position, brought into the dial."""
    return round(min(max(position, 0.0), 1.0) * ONE)


def _decibels(similarity: float) -> float:
    return -10 * math.log10(max(1e-10, 1 - similarity))


def fidelity(measure: Measure, pixels: NDArray[np.uint8], decoded: NDArray[np.uint8]) -> float:
    """What a target of fidelity measures, of two RGB pictures (H, W, 3), alpha left out.

    Raises:
        TargetError: it is not defined for so small a picture.
        VrcodecError: its package is not installed.
    """
    if measure is Measure.PSNR:
        return metrics.psnr(pixels, decoded)
    if measure is Measure.SSIMULACRA2:
        require("ssimulacra2")
        value = metrics.ssimulacra2(pixels, decoded)
        if value is None:
            side = metrics.SSIMULACRA2_SIDE
            raise TargetError(f"SSIMULACRA2 needs at least {side} pixels on each side")
        return value
    similarity = _ms_ssim(pixels, decoded)
    if similarity is None:
        raise TargetError(f"MS-SSIM needs more than {metrics.MS_SSIM_SIDE} pixels on each side")
    return similarity


def _ms_ssim(pixels: NDArray[np.uint8], decoded: NDArray[np.uint8]) -> float | None:
    """As `metrics.ms_ssim`, which computes with torch, whatever the caller has set there."""
    require("torch", "pytorch_msssim")
    import torch

    from vrcodec.model.isolation import isolated

    with isolated(torch.device("cpu")):
        return metrics.ms_ssim(pixels, decoded)


def achieved(
    measure: Measure,
    data: bytes,
    pixels: NDArray[np.uint8],
    decode: Callable[[bytes], NDArray[np.uint8]],
) -> float:
    """What a target measures, of a file that was made of pixels (H, W, 3).

    Args:
        decode: gives the pixels that a file shows, where they are needed.

    Raises:
        TargetError: as `fidelity`.
    """
    if measure is Measure.SIZE:
        return len(data)
    if measure is Measure.BPP:
        return 8 * len(data) / (pixels.shape[0] * pixels.shape[1])
    return fidelity(measure, pixels, decode(data))


def encode_to_goal(
    goal: Goal,
    others: Conditioning,
    encode: Encode,
    achieved: Callable[[bytes], float],
    best_effort: bool = False,
    refined: Encode | None = None,
) -> Encoded:
    """Code a picture at the largest quality within a size, or at the smallest of a fidelity.

    A size is met from below, to within `SIZE_SLACK` where the file is not so small that a byte is
    more; a fidelity from above, to within its slack. Where already quality 1 fits in the size, or
    quality 0 has the fidelity, that is the result.

    Args:
        goal: what to keep to.
        others: where the dials are; their quality does not matter.
        encode: makes the file; called at most MAX_ENCODES times.
        achieved: what the target measures, of a file.
        best_effort: take quality 0 or 1 where the target cannot be reached.
        refined: makes the final file, with effort. The quality is found without it and then
            corrected; where that does not keep to the target, the file is one without effort.

    Raises:
        TargetError: it cannot be reached.
    """
    trials = _Trials(goal, others, encode, achieved, {})
    position = None
    if goal.limit > -math.inf:
        position = largest_within(trials.level, goal.limit, goal.enough, goal.start, goal.slope)
    if position is None:
        found = trials.result(0, reached=False)
        if not best_effort:
            best = Target(goal.target.measure, found.achieved or 0.0)
            end = goal.conditioning(0, others).quality
            raise TargetError(f"{goal.target} cannot be reached: quality {end:.0f} gives {best}")
        if refined:
            return _Trials(goal, others, refined, achieved, {}).result(0, reached=False)
        return found
    if refined:
        better = _corrected(goal, position, _Trials(goal, others, refined, achieved, {}))
        if better:
            return better
    return trials.result(position, reached=True)


def _corrected(goal: Goal, position: int, trials: _Trials) -> Encoded | None:
    """The result nearest to the limit that is within it, looked for from a position on."""
    found, within = None, -math.inf
    for _ in range(MAX_CORRECTIONS):
        level = trials.level(position)
        if within < level <= goal.limit:
            found, within = position, level
        if goal.enough <= level <= goal.limit:
            break
        step = round(((goal.limit + goal.enough) / 2 - level) / goal.slope * ONE)
        ahead = min(max(position + step, 0), ONE)
        if ahead == position:
            break
        position = ahead
    return None if found is None else trials.result(found, reached=True)


@dataclasses.dataclass(frozen=True)
class _Trials:
    """Files of one picture by position."""

    goal: Goal
    others: Conditioning
    encode: Encode
    achieved: Callable[[bytes], float]
    files: dict[int, tuple[bytes, float]]

    def level(self, position: int) -> float:
        return self.goal.level(*self._file(position))

    def _file(self, position: int) -> tuple[bytes, float]:
        if position not in self.files:
            data = self.encode(self.goal.conditioning(position, self.others))
            self.files[position] = data, self.achieved(data)
        return self.files[position]

    def result(self, position: int, reached: bool) -> Encoded:
        data, achieved = self._file(position)
        return Encoded(data, self.goal.conditioning(position, self.others), reached, achieved)


def quality_for_total(
    measure: Callable[[float], int],
    limit: int,
    best_effort: bool,
    start: float = DEFAULT_QUALITY,
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
    limit = min(limit, _LARGEST_SIZE)

    def level(position: int) -> float:
        sizes[position] = measure(position / ONE)
        return math.log(max(1, sizes[position]))

    position = largest_within(
        level,
        math.log(limit),
        math.log(limit * (1 - SIZE_SLACK)),
        round(start * ONE),
        RATE_SLOPE,
    )
    if position is not None:
        return position / ONE, True
    if best_effort:
        return 0.0, False
    raise TargetError(
        f"{limit:,} bytes in all cannot be reached: quality 0 gives {sizes[0]:,} bytes"
    )


def price_of_error(
    measure: Callable[[Conditioning], tuple[float, float]],
    conditioning: Conditioning,
    usual: float,
) -> float:
    """What the dial pays, in bits, for one squared error less on a picture.

    The slope of the picture's own rate-distortion curve, measured between a little less and a
    little more quality, with errors in 8-bit levels. By trading at this price latents improve on
    the curve; with lambda, the price in training, they would only slide along it wherever the
    weights' dial is steeper.

    Args:
        measure: bits of the file at a conditioning, and its sum of squared errors.
        usual: the price in training, from which this one is not allowed to stray far.
    """
    reach, value = round(_PRICE_REACH * ONE), conditioning.values[0]
    fewer, larger = measure(conditioning.at_quality(value - reach))
    more, smaller = measure(conditioning.at_quality(value + reach))
    if more <= fewer or larger <= smaller:
        return usual
    return min(max((more - fewer) / (larger - smaller), usual / 4), usual * 4)


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
        measure: value at a position, 0 to ONE; close to straight and rising, but
            not necessarily everywhere.
        limit: the value that must not be exceeded.
        enough: a position with a value from here to the limit ends the search.
        start: where to look first.
        slope: the expected rise of the value from position 0 to ONE.
        max_calls: how often `measure` may be called, at least 2.

    Returns:
        A position at which `measure` has been called and gave at most `limit`; None if even
        position 0 gave more.
    """
    below: tuple[int, float] | None = None
    above: tuple[int, float] | None = None
    previous: tuple[int, float] | None = None
    aim, slope = (limit + enough) / 2, slope / ONE
    position = start
    for calls_left in reversed(range(max_calls)):
        here = position, measure(position)
        if here[1] <= limit:
            below = here
            if here[1] >= enough or position == ONE:
                break
        else:
            above = here
            if position == 0:
                break
        low = below[0] + 1 if below else 0
        high = above[0] - 1 if above else ONE
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
