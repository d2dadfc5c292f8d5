"""Shape of the network and meaning of its conditioning vector. No torch here."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from typing import Any

from vrcodec.bitstream.grid import LATENT_CHANNELS
from vrcodec.conditional.dials import QUALITY, Dial, Dials

SCALE_LEVELS = 64
SCALE_MIN, SCALE_MAX = 0.04, 256.0
LOG_SCALE_STEP = math.log(SCALE_MAX / SCALE_MIN) / (SCALE_LEVELS - 1)
"""The scale tables: standard deviations in units of the quantisation step, log-spaced."""


EARLIER_NAMES = (QUALITY, "ms-ssim-weight")
"""What the dials of weights are called whose configuration has ranges only."""


def unnamed_dials(ranges: Sequence[tuple[float, float]]) -> Dials:
    """Dials of ranges of loss coefficients, called as in the first weights.

    Raises:
        ValueError: there are more of them than names, or a range is impossible.
    """
    if len(ranges) > len(EARLIER_NAMES):
        raise ValueError(f"{len(ranges)} loss coefficients without names")
    named = zip(EARLIER_NAMES, ranges, strict=False)
    return Dials(tuple(Dial(name, low, high) for name, (low, high) in named))


QUALITY_ALONE = Dials((Dial(QUALITY, 0.0006, 0.5),))
"""One dial: lambda, for D = 255^2 x MSE on [0, 1] RGB."""


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """Widths and depths; stored in the weights file, so that the file alone rebuilds the model."""

    dials: Dials = QUALITY_ALONE
    """The loss coefficients, lambda first."""
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
    learned_linear: bool = True
    """Whether the linear path has a learned correction (768 x 768 weights each way)."""

    def __post_init__(self) -> None:
        if self.core % 4 or not 0 < self.core <= LATENT_CHANNELS:
            raise ValueError(f"core must be a multiple of 4 up to {LATENT_CHANNELS}")
        if self.context_passes not in (1, 2, 4):
            raise ValueError("context_passes must be 1, 2 or 4")

    @property
    def coefficients(self) -> int:
        """Length of the conditioning vector."""
        return len(self.dials)

    @property
    def lambda_ranges(self) -> tuple[tuple[float, float], ...]:
        """Per loss coefficient the values at position 0 and 1."""
        return tuple((dial.low, dial.high) for dial in self.dials)

    def to_json(self) -> str:
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        values["dials"] = [dataclasses.asdict(dial) for dial in self.dials]
        return json.dumps(values, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> ModelConfig:
        """Inverse of `to_json`. Raises ValueError on unknown, missing or impossible values."""
        try:
            raw = json.loads(text)
            values: dict[str, Any] = {
                "dials": _dials(raw),
                "analysis_blocks": _pair(raw["analysis_blocks"]),
                "synthesis_blocks": _pair(raw["synthesis_blocks"]),
            }
            values["learned_linear"] = bool(raw["learned_linear"])
            raw.setdefault("context_blocks", 0)  # the first released weights do not name it
            values["context_blocks"] = _count(raw["context_blocks"])
            raw.setdefault("context_passes", 4)  # the same
            values["context_passes"] = int(raw["context_passes"])
            values["film_width"] = _count(raw["film_width"], 4096)
            for name in ("width8", "width16", "core", "hyper", "hyper_width", "context_width"):
                value = int(raw[name])
                if not 0 < value <= 4096:
                    raise ValueError(f"{name} = {value}")
                values[name] = value
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"not a model configuration: {error}") from error
        if {*raw, "dials"} != set(values):
            raise ValueError(f"unknown configuration keys {sorted(set(raw) - set(values))}")
        return cls(**values)


def _dials(raw: dict[str, Any]) -> Dials:
    """The dials of a configuration; takes what says them out of it."""
    if "dials" in raw:
        return Dials(tuple(Dial(**dial) for dial in raw["dials"]))
    ranges = raw.pop("lambda_ranges")  # the first weights name no dials
    return unnamed_dials([(float(low), float(high)) for low, high in ranges])


def _pair(value: list[int]) -> tuple[int, int]:
    first, second = value
    return _count(first), _count(second)


def _count(value: int, largest: int = 64) -> int:
    if not 0 <= int(value) <= largest:
        raise ValueError(f"{value} is not in 0 to {largest}")
    return int(value)
