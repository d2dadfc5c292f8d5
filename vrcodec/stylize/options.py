"""Options of training a style, beside those of any run. No torch here."""

from __future__ import annotations

import dataclasses

from vrcodec.errors import VrcodecError
from vrcodec.stylize.config import CONTENT, DIALS
from vrcodec.training.options import DISABLED, LoopOptions, option


@dataclasses.dataclass(frozen=True)
class StyleOptions(LoopOptions):
    """Everything about a run but the pictures, the name of the style and the device.

    Raises:
        VrcodecError: a value is of the wrong kind or out of its bounds.
    """

    batch: int = option(4, "Crops a step, over all processes.", least=1, most=65536, free=True)
    lr: float = option(
        2e-3, "Learning rate before the decay.", metavar="RATE", above=0, most=10, free=True
    )
    final_patch: int = option(
        192,
        "Side of the crops while the learning rate falls; 0: as before.",
        metavar="SIDE",
        least=0,
        most=4096,
        free=True,
    )
    style_side: int = option(
        256,
        "Shorter side that the style picture is brought to: the larger, the larger its texture.",
        metavar="SIDE",
        least=32,
        most=4096,
    )
    only_content: float = option(
        DISABLED,
        "Train for one position of content, with the style's dials at their defaults, instead of "
        "all, to compare with.",
        metavar="X",
        least=0,
        none="all",
    )

    @property
    def held(self) -> dict[str, float]:
        """Dials that stay at a position."""
        if self.only_content == DISABLED:
            return {}
        positions = {dial.name: dial.default for dial in DIALS}
        return positions | {CONTENT: self.only_content}

    def __post_init__(self) -> None:
        super().__post_init__()
        if any(position > 1 for position in self.held.values()):
            raise VrcodecError(f"only-content: {self.only_content:g} must be at most 1")
