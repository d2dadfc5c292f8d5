"""What a style is: its name, its dials, the shape of its network. No torch here.

A configuration comes out of a weights file and is hostile until it is checked.
"""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from vrcodec.conditional.described import is_name, parse, parsed_dials, shown
from vrcodec.conditional.dials import Dial, Dials

CONTENT = "content"
STYLE_LAYERS = ("fine", "small", "medium", "large")
"""Dials of the style's statistics, by the size of what they describe."""
DIALS = Dials(
    (Dial(CONTENT, 0.02, 2.0), *(Dial(name, 0.02, 2.0) for name in STYLE_LAYERS)),
)
"""How much the content counts, and each of four layers of style; only proportions matter."""
MAX_WIDTH = 256
MAX_BLOCKS = 16
MAX_CREDIT = 300
"""Characters of what is said about a style picture's author and licence."""


@dataclasses.dataclass(frozen=True)
class StyleConfig:
    """A style's network; stored in its weights file, so that the file alone rebuilds it.

    Attributes:
        name: of the style.
        credit: author and licence of the style picture, one line; may be empty.
        dials: the loss coefficients.
        width: channels of the residual blocks, at a quarter of the picture's resolution.
        blocks: how many of them.
        film_width: width of the embedding behind FiLM.

    Raises:
        ValueError: a value is out of its bounds.
    """

    name: str
    credit: str = ""
    dials: Dials = DIALS
    width: int = 48
    blocks: int = 4
    film_width: int = 32

    def __post_init__(self) -> None:
        if not (self.name and is_name(self.name)):
            raise ValueError(f"style named {shown(self.name)}")
        if len(self.credit) > MAX_CREDIT or not self.credit.isprintable():
            raise ValueError(f"credit {shown(self.credit)}")
        if self.dials.names != DIALS.names:
            raise ValueError(f"dials {shown(self.dials.names)}, not {', '.join(DIALS.names)}")
        for name, most in (("width", MAX_WIDTH), ("blocks", MAX_BLOCKS), ("film_width", MAX_WIDTH)):
            if not 1 <= getattr(self, name) <= most:
                raise ValueError(f"{name} = {shown(getattr(self, name))} is not in 1 to {most}")
        if self.width % 2:
            raise ValueError(f"width = {self.width} is odd")

    def to_json(self) -> str:
        """The configuration as the text that a weights file holds."""
        values = dataclasses.asdict(self)
        return json.dumps(values | values["dials"], sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> StyleConfig:
        """Inverse of `to_json`. Raises ValueError, its message one short line."""
        try:
            return cls(**_checked(parse(text)))
        except RecursionError:
            raise ValueError("not a style: nested too deeply") from None
        except ValueError as error:
            raise ValueError(f"not a style: {error}") from error


def _checked(raw: dict[str, Any]) -> dict[str, Any]:
    """Arguments for StyleConfig, every one of its type."""
    fields = {field.name: field for field in dataclasses.fields(StyleConfig)}
    if raw.keys() != fields.keys():
        wrong = ", ".join(shown(name) for name in sorted(raw.keys() ^ fields.keys())[:3])
        raise ValueError(f"missing or unknown: {wrong}")
    values = dict(raw)
    values["dials"] = parsed_dials(raw["dials"])
    for name, value in values.items():
        kind = {"str": str, "int": int, "Dials": Dials}[str(fields[name].type)]
        if type(value) is not kind:
            raise ValueError(f"{name} = {shown(value)}")
    return values
