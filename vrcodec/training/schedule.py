"""Learning-rate schedule and distribution of the loss coefficients."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from vrcodec.conditional.dials import Dials


def learning_rate(progress: float, step: int, warmup_steps: int, decay: float) -> float:
    """Factor in [0, 1] of a warm-up-stable-decay schedule (Hu et al., MiniCPM, 2024).

    Args:
        progress: share of the run's budget that is used up, in [0, 1].
        step: optimiser steps so far, for the linear warm-up.
        warmup_steps: length of the warm-up.
        decay: last share of the budget, over which the rate falls to 1 % (as 1 - sqrt).
    """
    factor = min(1.0, (step + 1) / max(1, warmup_steps))
    start = 1 - decay
    if decay > 0 and progress > start:
        factor *= max(0.01, 1 - ((progress - start) / decay) ** 0.5)
    return factor


def sample_positions(
    rng: np.random.Generator, count: int, dials: Dials, held: Mapping[str, float] | None = None
) -> NDArray[np.float32]:
    """Positions (count, K) on every dial, drawn anew for every sample.

    Uniform in [0, 1], so that coefficients are log-uniform, but for 5 % of extra mass at each end,
    where the model has neighbours on one side only.

    Args:
        held: dials that stay at a position, where a model is trained for that alone.
    """
    drawn = np.clip(rng.uniform(-0.05, 1.05, (count, len(dials))), 0.0, 1.0)
    for name, position in (held or {}).items():
        drawn[:, dials.names.index(name)] = position
    return drawn.astype(np.float32)
