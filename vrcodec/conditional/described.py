"""What a network is, as the JSON text beside its numbers. No torch here.

Such a text comes out of a file from anywhere and is hostile until it is checked.
"""

from __future__ import annotations

import dataclasses
import json
import reprlib
from typing import Any

from vrcodec.conditional.dials import MAX_DIALS, Dial, Dials

MAX_TEXT = 1 << 16
"""Characters of a description."""
COEFFICIENT_RANGE = (1e-9, 1e9)
"""Every loss coefficient is within."""


def parse(text: str) -> dict[str, Any]:
    """The JSON object of a description. Raises ValueError."""
    if len(text) > MAX_TEXT:
        raise ValueError(f"{len(text):,} characters")
    raw = json.loads(text, parse_constant=_no_constant, object_pairs_hook=_unique)
    if not isinstance(raw, dict):
        raise ValueError("no JSON object")
    return raw


def parsed_dials(entries: Any) -> Dials:
    """Dials out of a description, as `dataclasses.asdict` gives each. Raises ValueError."""
    if not isinstance(entries, list) or not 0 < len(entries) <= MAX_DIALS:
        raise ValueError(f"dials = {shown(entries)}")
    return Dials(tuple(_dial(entry) for entry in entries))


def _dial(entry: Any) -> Dial:
    names = {field.name for field in dataclasses.fields(Dial)}
    if not isinstance(entry, dict) or entry.keys() != names:
        raise ValueError(f"dial {shown(entry)}")
    name = entry["name"]
    if not isinstance(name, str) or not is_name(name):
        raise ValueError(f"dial named {shown(name)}")
    return Dial(name, *(number(key, entry[key]) for key in ("low", "high", "default")))


def number(name: str, value: Any) -> float:
    """A number of a description, within what coefficients may be. Raises ValueError."""
    if type(value) not in (int, float) or not abs(value) <= COEFFICIENT_RANGE[1]:
        raise ValueError(f"{name} = {shown(value)}")
    return float(value)


def is_name(name: str) -> bool:
    """Lower-case ASCII letters, digits and hyphens, as they are typed on a command line."""
    plain = name.isascii() and name.replace("-", "a").isalnum() and name == name.lower()
    return plain and name[0].isalpha() and len(name) <= 32


def shown(value: object) -> str:
    """A value out of a hostile text, short and printable."""
    return reprlib.repr(value)[:60]


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no number")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a name twice in an object")
    return dict(pairs)
