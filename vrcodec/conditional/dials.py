"""The dials of a loss-conditional model: what can be chosen after training. No torch here.

A model is trained on a distribution of losses L = R + sum of c_k D_k and told the coefficients c_k
("You Only Train Once", Dosovitskiy & Djolonga, ICLR 2020). Every coefficient is a *dial*: a name, a
range, and a default. Where on a dial one is, is said in three ways, and this is the one place that
knows how they hang together::

    position      0 to 1, what people and networks see; linear in the logarithm of the coefficient
    header value  0 to ONE, an integer, what files hold: position x ONE, rounded
    coefficient   low to high, what multiplies a loss in training
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

from vrcodec.errors import DialError

Number = TypeVar("Number")
"""A float, or an array or tensor of them."""

ONE = 1 << 15
"""Header value of position 1."""
ANCHORS = 9
"""Knots, evenly spaced over the dial, of every constant that depends on the conditioning."""
ANCHOR_BITS = 12
"""From one knot to the next it is 2^ANCHOR_BITS header values."""
assert ONE == (ANCHORS - 1) << ANCHOR_BITS
MAX_DIALS = 8
QUALITY = "quality"
"""Name of the first dial of every codec: lambda, the weight of distortion against rate."""
TUNE = "tune"
"""Name of the second dial, where a codec has one: what distortion is, from squared error (0) to a
perceptual loss (1)."""


@dataclasses.dataclass(frozen=True)
class Dial:
    """One loss coefficient.

    Attributes:
        name: lower case, as in `--dial NAME=X`.
        low, high: the coefficient at position 0 and 1.
        default: position where nothing else is said.
    """

    name: str
    low: float
    high: float
    default: float = 0.5

    def __post_init__(self) -> None:
        if not (0 < self.low < self.high and math.isfinite(self.high)):
            raise ValueError(f"dial {self.name}: needs 0 < low < high, both finite")
        if not 0 <= self.default <= 1:
            raise ValueError(f"dial {self.name}: default {self.default} is not in [0, 1]")

    def coefficient(self, position: Number) -> Number:
        """The loss coefficient at a position in [0, 1], or at each of many."""
        exponent: Any = position
        return self.low * (self.high / self.low) ** exponent


@dataclasses.dataclass(frozen=True)
class Conditioning:
    """Where on every dial a picture is coded; hashable, equal if files would say the same.

    Attributes:
        values: header values, one per dial, the quality first.
    """

    values: tuple[int, ...]

    def __post_init__(self) -> None:
        if not 0 < len(self.values) <= MAX_DIALS:
            raise ValueError(f"{len(self.values)} conditioning values")
        if any(not 0 <= value <= ONE for value in self.values):
            raise ValueError("conditioning value out of range")

    @property
    def positions(self) -> tuple[float, ...]:
        """Positions in [0, 1]."""
        return tuple(value / ONE for value in self.values)

    @property
    def quality(self) -> float:
        """Position of the first dial."""
        return self.values[0] / ONE

    @property
    def knots(self) -> tuple[tuple[int, int], ...]:
        """For every value a knot, from 0 to ANCHORS - 2, and how far it is beyond that knot.

        In header values, 0 to 2^ANCHOR_BITS, so that integers can interpolate exactly.
        """
        knots = (min(value >> ANCHOR_BITS, ANCHORS - 2) for value in self.values)
        return tuple(
            (knot, value - (knot << ANCHOR_BITS))
            for knot, value in zip(knots, self.values, strict=True)
        )

    def bucket(self, count: int) -> int:
        """In which of so many equal parts of its dial the quality lies, from 0."""
        return min(self.values[0] * count // ONE, count - 1)

    def at_quality(self, value: int) -> Conditioning:
        """The same but for the header value of the quality, which is kept within 0 to ONE."""
        return Conditioning((min(max(value, 0), ONE), *self.values[1:]))


@dataclasses.dataclass(frozen=True)
class Dials:
    """All dials of a model, in the order of its conditioning vector; the first is the quality."""

    dials: tuple[Dial, ...]

    def __post_init__(self) -> None:
        if not 0 < len(self.dials) <= MAX_DIALS:
            raise ValueError(f"a model has 1 to {MAX_DIALS} dials, not {len(self.dials)}")
        if len(set(self.names)) < len(self.dials):
            raise ValueError(f"two dials of one name in {', '.join(self.names)}")

    def __iter__(self) -> Iterator[Dial]:
        return iter(self.dials)

    def __len__(self) -> int:
        return len(self.dials)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(dial.name for dial in self.dials)

    def conditioning(self, positions: Mapping[str, float] | None = None) -> Conditioning:
        """The conditioning at these positions, and at the defaults of the dials not named.

        Raises:
            DialError: there is no such dial, or a position is not in [0, 1].
        """
        chosen = dict(positions or {})
        values = []
        for dial in self.dials:
            position = chosen.pop(dial.name, dial.default)
            if not 0 <= position <= 1:  # false for a NaN, too
                hint = f": {position / 100:g}?" if 1 < position <= 100 else ""
                raise DialError(f"{dial.name} {position:g} is not in [0, 1]{hint}")
            values.append(round(position * ONE))
        if chosen:
            raise DialError(
                f"these weights have no dial {', '.join(sorted(chosen))}; "
                f"they have {', '.join(self.names)}"
            )
        return Conditioning(tuple(values))

    def at(self, quality: float) -> Conditioning:
        """The conditioning of a quality, with the other dials at their defaults.

        Raises:
            DialError: it is not in [0, 1].
        """
        return self.conditioning({self.names[0]: quality})

    def positions(self, conditioning: Conditioning) -> dict[str, float]:
        """Position of every dial by name."""
        return dict(zip(self.names, conditioning.positions, strict=True))

    def coefficients(
        self, positions: Sequence[Number], normalised: bool = False
    ) -> tuple[Number, ...]:
        """Loss coefficients at positions in [0, 1], in the order of the dials.

        Args:
            positions: one number for every dial, or an array or tensor of them, by sample.
            normalised: divided by their sum, where only their proportions matter: the loss, and
                with it the length of the optimiser's steps, is then of one size all over the dials.
        """
        made: list[Any] = [
            dial.coefficient(position) for dial, position in zip(self.dials, positions, strict=True)
        ]
        if not normalised:
            return tuple(made)
        total = sum(made)
        return tuple(value / total for value in made)
