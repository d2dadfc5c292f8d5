"""Shape of the network and meaning of its conditioning vector. No torch here."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

from vrcodec.bitstream.grid import BLOCK as BLOCK
from vrcodec.bitstream.grid import GROUP as GROUP

LATENT_CHANNELS = 3 * BLOCK * BLOCK
"""Channels of y: as many as a 16x16 RGB block has values, so that nothing is out of reach."""

ANCHORS = 9
"""Knots, evenly spaced over the dial, of every constant that depends on the conditioning."""

SCALE_LEVELS = 64
SCALE_MIN, SCALE_MAX = 0.04, 256.0
LOG_SCALE_STEP = math.log(SCALE_MAX / SCALE_MIN) / (SCALE_LEVELS - 1)
"""The scale tables: standard deviations in units of the quantisation step, log-spaced."""


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """Widths and depths; stored in the weights file, so that the file alone rebuilds the model."""

    lambda_ranges: tuple[tuple[float, float], ...] = ((0.0006, 0.5),)
    """Per loss coefficient the values at quality 0 and 1; D is 255^2 x MSE on [0, 1] RGB."""
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
        if not self.lambda_ranges or any(not 0 < lo < hi for lo, hi in self.lambda_ranges):
            raise ValueError("every lambda range needs 0 < low < high")

    @property
    def coefficients(self) -> int:
        """Length of the conditioning vector."""
        return len(self.lambda_ranges)

    def loss_coefficients(self, conditioning: tuple[float, ...]) -> tuple[float, ...]:
        """Loss coefficients (lambda first) of a conditioning vector in [0, 1]: log-linear."""
        return tuple(
            lo * (hi / lo) ** c
            for (lo, hi), c in zip(self.lambda_ranges, conditioning, strict=True)
        )

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> ModelConfig:
        """Inverse of `to_json`. Raises ValueError on unknown, missing or impossible values."""
        try:
            raw = json.loads(text)
            values: dict[str, Any] = {
                "lambda_ranges": tuple((float(lo), float(hi)) for lo, hi in raw["lambda_ranges"]),
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
        if set(raw) != set(values):
            raise ValueError(f"unknown configuration keys {sorted(set(raw) - set(values))}")
        return cls(**values)


def _pair(value: list[int]) -> tuple[int, int]:
    first, second = value
    return _count(first), _count(second)


def _count(value: int, largest: int = 64) -> int:
    if not 0 <= int(value) <= largest:
        raise ValueError(f"{value} is not in 0 to {largest}")
    return int(value)
