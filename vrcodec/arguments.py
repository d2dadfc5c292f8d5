"""Numbers that callers pass, NumPy's included and truth values not. No torch here."""

from __future__ import annotations

from numbers import Integral, Real

from vrcodec.errors import ArgumentError


def is_whole(value: object) -> bool:
    """Whether this is a whole number."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def is_real(value: object) -> bool:
    """Whether this is a number, whole or not; one that is not finite is one, too."""
    return isinstance(value, Real) and not isinstance(value, bool)


def real_number(name: str, value: object, where: str) -> float:
    """A number as a float. Raises ArgumentError, which says `where` it is to be."""
    if isinstance(value, Real) and is_real(value):
        return float(value)
    raise ArgumentError(f"{name} is a number {where}, not {value!r:.60}")


def whole_number(name: str, value: object, least: int, multiple: int = 1) -> int:
    """A whole number from `least` on. Raises ArgumentError, by the argument's name."""
    if isinstance(value, Integral) and is_whole(value):
        number = int(value)
        if number >= least and number % multiple == 0:
            return number
    kind = f"a multiple of {multiple}" if multiple > 1 else "a number"
    raise ArgumentError(f"{name} is {kind} from {least} on, not {value!r:.60}")
