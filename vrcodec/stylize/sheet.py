"""A sheet of one picture under moving coefficients: a row a dial, a column a position."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from vrcodec.stylize.stylizer import Pixels, Stylizer

POSITIONS = (0.0, 0.25, 0.5, 0.75, 1.0)
SIDE = 256
"""The longest side of a picture on the sheet."""
_GAP = 4
_LABEL = 16
"""Height of the line above every row."""


def sheet(stylizer: Stylizer, pixels: Pixels, positions: Sequence[float] = POSITIONS) -> Pixels:
    """The sheet; dials that do not move are at their defaults."""
    scale = min(1.0, SIDE / max(pixels.shape[:2]))
    height, width = (max(1, round(length * scale)) for length in pixels.shape[:2])
    small = np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS))
    width, height = width + _GAP, height + _GAP + _LABEL
    page = Image.new("RGB", (width * len(positions) - _GAP, height * len(stylizer.dials)), "white")
    draw = ImageDraw.Draw(page)
    for row, dial in enumerate(stylizer.dials):
        for column, position in enumerate(positions):
            place = (column * width, row * height)
            draw.text((place[0] + 2, place[1] + 2), f"{dial.name} {position:g}", fill="black")
            made = Image.fromarray(stylizer.apply(small, {dial.name: position}))
            page.paste(made, (place[0], place[1] + _LABEL))
    return np.asarray(page)
