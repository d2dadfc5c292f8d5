"""Numbers that are part of the networks, whatever computes them. No torch here."""

from __future__ import annotations

SLOPE = 0.1
"""Negative slope of the leaky ReLUs."""
LINEAR_GAIN = 0.25
"""Coefficients of PIXEL_GAIN x pixels."""
COEFFICIENT_LIMIT = 12.0
"""Standard deviations."""
TOLERATED_EXCESS = 0.4
"""Mean excess over the limit, in deviations, at which a branch counts half. Photographs stay
below 0.1 at 99.9 % of the positions, uniform noise is at 5."""
HYPER_GAIN = 0.25
"""Of z on its way into the mean path."""
LOCAL_LIMIT = 2.0
"""Of the logarithm of a local step, to either side."""
LOCAL_FROM = 0.5
"""Position of the second dial from which local steps differ as much as they ever do."""
MAX_SYMBOL = (1 << 15) - 1
"""Symbols are 16-bit: magnitudes up to this."""
