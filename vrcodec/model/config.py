"""Shape of the network and meaning of its conditioning vector. No torch here.

A configuration comes out of a weights file, a checkpoint or a file of the user's, and is hostile
until it is checked: types, bounds and the number of parameters, before anything is allocated.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from vrcodec.bitstream.grid import BLOCK as BLOCK
from vrcodec.bitstream.grid import GROUP as GROUP
from vrcodec.bitstream.grid import LATENT_CHANNELS as LATENT_CHANNELS
from vrcodec.conditional.described import COEFFICIENT_RANGE as COEFFICIENT_RANGE
from vrcodec.conditional.described import MAX_TEXT as MAX_TEXT
from vrcodec.conditional.described import number, parse, parsed_dials, shown
from vrcodec.conditional.dials import ANCHORS as ANCHORS
from vrcodec.conditional.dials import ONE, QUALITY, Conditioning, Dial, Dials

if TYPE_CHECKING:
    from vrcodec.bitstream.trellis import Trellis

SCALE_LEVELS = 64
SCALE_MIN, SCALE_MAX = 0.04, 256.0
LOG_SCALE_STEP = math.log(SCALE_MAX / SCALE_MIN) / (SCALE_LEVELS - 1)
"""The scale tables: standard deviations in units of the quantisation step, log-spaced."""

MAX_WIDTH = 2048
"""Channels of any layer but the latent's."""
MAX_BLOCKS = 64
MAX_PARAMETERS = 1 << 26
MAX_DEAD_ZONE = 16
MIN_TRELLIS_STEP = 0.1

QUALITY_ALONE = Dials((Dial(QUALITY, 0.0006, 0.5),))
EARLIER_NAMES = (QUALITY, "ms-ssim-weight")
"""What the dials of weights are called whose configuration has ranges only."""


def unnamed_dials(ranges: Sequence[tuple[float, float]]) -> Dials:
    """Dials of ranges of loss coefficients, called as in the first weights.

    Raises:
        ValueError: there are more of them than names, or a range is impossible.
    """
    if len(ranges) > len(EARLIER_NAMES):
        raise ValueError(f"{len(ranges)} loss coefficients without names")
    pairs = zip(EARLIER_NAMES, ranges, strict=False)
    return Dials(tuple(Dial(name, *pair) for name, pair in pairs))


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """Widths and depths; stored in the weights file, so that the file alone rebuilds the model.

    Raises:
        ValueError: a value is out of its bounds, or the model would have too many parameters.
    """

    dials: Dials = QUALITY_ALONE
    """The loss coefficients, lambda first; D is 255^2 x MSE on [0, 1] RGB."""
    width8: int = 128
    """Channels of the residual blocks at 1/8 of the picture's resolution."""
    width16: int = 256
    """Channels of the residual blocks at 1/16."""
    analysis_blocks: tuple[int, int] = (2, 2)
    """Residual blocks of the analysis transform at 1/8, then at 1/16."""
    synthesis_blocks: tuple[int, int] = (2, 3)
    """Residual blocks of the synthesis transform at 1/16, then at 1/8."""
    core: int = 192
    """Latent channels that the non-linear analysis writes and the context passes refine."""
    hyper: int = 64
    """Channels of the hyper-latent z, at 1/64."""
    hyper_width: int = 96
    context_width: int = 128
    context_blocks: int = 0
    """Residual blocks of every context pass."""
    context_passes: int = 4
    """Passes over the core channels: 4, 2 or 1; the detail channels follow in one more."""
    film_width: int = 64
    """Width of the embedding behind FiLM; 0: no FiLM, steps and biases alone follow the dial."""
    dead_zone: tuple[float, float] = (0.15, 0.4)
    """How strongly an encoder draws symbols towards zero (dead_zone.py), those of core channels and
    the others; 0: not at all."""
    trellis_step: float = 0.0
    """Distance of the levels of trellis-coded quantisation (bitstream/trellis.py), in quantisation
    steps; 0: symbols are plain integers, a step apart."""
    trellis_level: int = 15
    """The lowest scale index of symbols that are in chains; others are even levels."""
    trellis_reach: int = ONE
    """The highest header value of the second dial where there are chains, if there is that dial."""
    learned_linear: bool = True
    """Whether the linear path has a learned correction (768 x 768 weights each way)."""
    local_steps: bool = False
    """Whether quantisation steps are finer or coarser from place to place, as the hyper-latent
    says (entropy_model.py)."""

    def __post_init__(self) -> None:
        for name in ("width8", "width16", "hyper", "hyper_width", "context_width"):
            _within(name, getattr(self, name), 1, MAX_WIDTH)
        for name in ("analysis_blocks", "synthesis_blocks"):
            for count in getattr(self, name):
                _within(name, count, 0, MAX_BLOCKS)
        _within("context_blocks", self.context_blocks, 0, MAX_BLOCKS)
        _within("film_width", self.film_width, 0, MAX_WIDTH)
        _within("core", self.core, 4, LATENT_CHANNELS - 4)  # the last pass needs channels, too
        for strength in self.dead_zone:
            if not 0 <= strength <= MAX_DEAD_ZONE:  # so is a NaN
                raise ValueError(f"dead_zone = {shown(strength)} is not in 0 to {MAX_DEAD_ZONE}")
        if self.trellis_step and not MIN_TRELLIS_STEP <= self.trellis_step <= 1:  # so is a NaN
            lowest = MIN_TRELLIS_STEP
            raise ValueError(
                f"trellis_step = {shown(self.trellis_step)} is neither 0 nor in {lowest} to 1"
            )
        _within("trellis_level", self.trellis_level, 0, SCALE_LEVELS)
        _within("trellis_reach", self.trellis_reach, 0, ONE)
        if self.core % 4:
            raise ValueError("core must be a multiple of 4")
        if self.context_passes not in (1, 2, 4):
            raise ValueError("context_passes must be 1, 2 or 4")
        if self.dials.names[0] != QUALITY:
            raise ValueError(f"the first dial must be {QUALITY}")
        lowest, highest = COEFFICIENT_RANGE
        for dial in self.dials:
            if not lowest <= dial.low < dial.high <= highest:
                raise ValueError(f"dial {dial.name} is not within {lowest:g} to {highest:g}")
        if self.parameters > MAX_PARAMETERS:
            raise ValueError(
                f"a model of {self.parameters:,} parameters (at most {MAX_PARAMETERS:,})"
            )

    @property
    def trellis(self) -> Trellis | None:
        """Where chains of symbols are, if there are any."""
        if not self.trellis_step:
            return None
        from vrcodec.bitstream.trellis import Trellis  # NumPy, which `--help` does without

        return Trellis(self.trellis_level, self.core, self.context_passes, self.trellis_step)

    def trellis_at(self, conditioning: Conditioning) -> Trellis | None:
        """The same for pictures coded at a conditioning."""
        others = conditioning.values[1:2]
        return self.trellis if not others or others[0] <= self.trellis_reach else None

    def level_step_at(self, conditioning: Conditioning) -> float:
        """What the integers of y are multiples of there, in quantisation steps."""
        trellis = self.trellis_at(conditioning)
        return trellis.step if trellis else 1.0

    @property
    def coefficients(self) -> int:
        """Length of the conditioning vector."""
        return len(self.dials)

    @property
    def lambda_ranges(self) -> tuple[tuple[float, float], ...]:
        """Per loss coefficient the values at position 0 and 1."""
        return tuple((dial.low, dial.high) for dial in self.dials)

    @property
    def parameters(self) -> int:
        """How many numbers the model learns."""
        return _Count(self).total()

    def to_json(self) -> str:
        """The configuration as the text that a weights file holds."""
        values = dataclasses.asdict(self)
        return json.dumps(values | values["dials"], sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> ModelConfig:
        """Inverse of `to_json`, also of what older versions wrote.

        Raises:
            ValueError: anything else; its message is one short line.
        """
        try:
            return cls(**_checked(parse(text)))
        except RecursionError:
            raise ValueError("not a model configuration: nested too deeply") from None
        except ValueError as error:
            raise ValueError(f"not a model configuration: {error}") from error


def _checked(raw: dict[str, Any]) -> dict[str, Any]:
    """Arguments for ModelConfig, every one of its type."""
    # Earlier weights do not name all of these.
    first: dict[str, Any] = {"context_blocks": 0, "context_passes": 4, "dead_zone": [0, 0]}
    first |= {"trellis_step": 0, "trellis_level": 15, "trellis_reach": ONE, "local_steps": False}
    raw = first | raw
    values: dict[str, Any] = {"dials": _dials(raw)}
    fields = {field.name for field in dataclasses.fields(ModelConfig)} - values.keys()
    if raw.keys() != fields:
        wrong = ", ".join(shown(name) for name in sorted(raw.keys() ^ fields)[:3])
        raise ValueError(f"missing or unknown: {wrong}")
    for name, value in raw.items():
        if name in ("analysis_blocks", "synthesis_blocks"):
            values[name] = _pair(name, value)
            continue
        if name == "dead_zone":
            pair = value if isinstance(value, list) and len(value) == 2 else (None, None)
            values[name] = number(name, pair[0]), number(name, pair[1])
            continue
        if name == "trellis_step":
            values[name] = number(name, value)
            continue
        if type(value) is not (bool if name in ("learned_linear", "local_steps") else int):
            raise ValueError(f"{name} = {shown(value)}")
        values[name] = value
    return values


def _pair(name: str, value: Any) -> tuple[int, int]:
    if not isinstance(value, list) or [type(count) for count in value] != [int, int]:
        raise ValueError(f"{name} = {shown(value)}")
    first, second = value
    return first, second


def _dials(raw: dict[str, Any]) -> Dials:
    """The dials of a configuration; takes what says them out of it."""
    if "dials" in raw:
        return parsed_dials(raw.pop("dials"))
    ranges = raw.pop("lambda_ranges", None)  # the first weights name no dials
    if not isinstance(ranges, list) or not all(
        isinstance(pair, list) and len(pair) == 2 for pair in ranges
    ):
        raise ValueError(f"dials, lambda_ranges = {shown(ranges)}")
    return unnamed_dials([(number("low", low), number("high", high)) for low, high in ranges])


def _within(name: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise ValueError(f"{name} = {shown(value)} is not in {low} to {high}")


class _Count:
    """Parameters of the parts of a model, counted without making one."""

    def __init__(self, config: ModelConfig) -> None:
        self.config = config

    def total(self) -> int:
        c, k = self.config, self.config.coefficients
        net = c.film_width * (5 * k + 1) + c.film_width * (c.film_width + 1)
        tables = k * ANCHORS * (LATENT_CHANNELS + 2 * c.hyper)
        return net + tables + self.transforms() + self.hyper_paths() + self.context()

    def transforms(self) -> int:
        c, latent = self.config, LATENT_CHANNELS
        count = 2 * latent**2 * c.learned_linear
        for at_8, at_16 in (c.analysis_blocks, c.synthesis_blocks[::-1]):
            count += at_8 * self.block(c.width8) + at_16 * self.block(c.width16)
        count += conv(192, c.width8) + conv(c.width8, c.width16, 2) + conv(c.width16, c.core)
        return count + conv(latent, c.width16) + conv(c.width16, 4 * c.width8) + conv(c.width8, 192)

    def hyper_paths(self) -> int:
        c, h, latent = self.config, self.config.hyper_width, LATENT_CHANNELS
        analysis = self.film(c.core + latent, h) + self.film(h, h) + conv(h, h, 3)
        analysis += conv(h, c.hyper, 3)
        widths = ((c.hyper, 4 * h, 1), (h, h, 3), (h, 4 * h, 1), (h, h, 3), (h, latent, 1))
        scales = sum(i * o * k * k + c.coefficients * ANCHORS * o for i, o, k in widths)
        means = sum(conv(i, o, k) for i, o, k in widths[:-1]) + self.film(h, c.context_width)
        return analysis + scales + means + latent * c.context_width * c.local_steps

    def context(self) -> int:
        c, width = self.config, self.config.context_width
        wide = width + width // 2
        one = self.film(width, width) + c.context_blocks * self.block(width) + conv(width, wide)
        count = (c.context_passes + 1) * one + c.context_passes * 9 * c.core * width
        return count + c.context_passes * conv(wide, c.core) + conv(wide, LATENT_CHANNELS - c.core)

    def block(self, width: int) -> int:
        """A residual block."""
        layers = self.film(width, width) + conv(width, width) + self.film(width, 2 * width)
        return layers + 10 * width + conv(2 * width, width)

    def film(self, inputs: int, outputs: int) -> int:
        """A 1x1 convolution followed by FiLM."""
        width = self.config.film_width
        return conv(inputs, outputs) + (width + 1) * 2 * outputs * bool(width)


def conv(inputs: int, outputs: int, side: int = 1) -> int:
    """Parameters of a convolution with bias."""
    return (inputs * side * side + 1) * outputs
