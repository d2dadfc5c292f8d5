"""What qualities look like with some weights, as measured, and presets chosen by that. No NumPy.

Beside a weights file NAME.safetensors lies NAME.qualities.json, which scripts/measure_qualities.py
makes: means of a folder of pictures over the dial. It is the only place where such numbers stand;
a preset is an aim, and its quality follows from them. So a preset costs nothing when it is used,
and means the same with the next weights.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import os
from pathlib import Path
from typing import Any

from vrcodec.errors import ArgumentError, WeightsError
from vrcodec.model.identity import default_weights, identify

PRESETS = {"thumbnail": 30.0, "web": 60.0, "photo": 80.0, "archive": 90.0}
"""Mean SSIMULACRA2 of each: in the words of its authors low quality, between medium (50) and high
(70), very high, visually lossless."""
MAX_BYTES = 1 << 20


@dataclasses.dataclass(frozen=True)
class Look:
    """What a quality looks like, on average.

    Attributes:
        quality: where on the dial.
        bpp: bits of the file per pixel.
        psnr: in dB.
        ssimulacra2: by the package ssimulacra2.
    """

    quality: float
    bpp: float
    psnr: float
    ssimulacra2: float


@dataclasses.dataclass(frozen=True)
class Qualities:
    """What was measured of a dial.

    Attributes:
        weights: id.
        pictures: what on, in words.
        looks: by rising quality, two or more.
        measured: on which day.
    """

    weights: str
    pictures: str
    looks: tuple[Look, ...]
    measured: str = ""

    def at(self, quality: float) -> Look:
        """What a quality looks like, between its neighbours if it was not measured."""
        return self._between("quality", quality)

    def preset(self, name: str) -> Look:
        """Where the aim of a preset is met, in hundredths, or the nearest end of the dial."""
        return self.at(round(self._between("ssimulacra2", PRESETS[name]).quality, 2))

    def _between(self, field: str, value: float) -> Look:
        """The look at which a field, which rises with the quality, has some value."""
        known = [getattr(look, field) for look in self.looks]
        place = sum(low <= value for low in known[1:-1])
        low, high = self.looks[place : place + 2]
        part = (value - known[place]) / (known[place + 1] - known[place])
        part = min(max(part, 0.0), 1.0)
        mixed = (a + part * (b - a) for a, b in zip(_values(low), _values(high), strict=True))
        return Look(*mixed)


def _values(look: Look) -> tuple[float, ...]:
    return dataclasses.astuple(look)


def table_of(weights: Path) -> Path:
    """Where the qualities of a weights file stand."""
    return weights.with_suffix(".qualities.json")


def measured_qualities(weights: Path | None = None) -> Qualities:
    """What qualities look like with a weights file, by default the released one.

    Raises:
        WeightsError: there is no such file, or nothing was measured with it.
    """
    weights = weights or default_weights()
    name, path = identify(weights)[0], table_of(weights)
    if not path.is_file():
        raise WeightsError(f"{path}: not there: nobody has measured what qualities look like")
    found = read_qualities(path)
    if found.weights != name:
        raise WeightsError(f"{path}: measured with weights {found.weights}, these are {name}")
    return found


def read_qualities(path: Path) -> Qualities:
    """What such a table says, whatever weights are at hand. Raises WeightsError."""
    try:
        with path.open("rb") as file:
            found = json.loads(file.read(MAX_BYTES))
        looks = tuple(_look(one) for one in found["looks"])
        for field in ("quality", "ssimulacra2"):
            if not _is_rising([getattr(look, field) for look in looks]):
                raise ValueError("no dial")
        day = str(found.get("measured", ""))
        return Qualities(str(found["weights"]), str(found["pictures"]), looks, day)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"{path}: no table of measured qualities") from error


def preset_quality(preset: str, weights: Path | None = None) -> float:
    """The position on the dial that a preset stands for with some weights.

    Raises:
        WeightsError: nothing was measured with these.
    """
    return measured_qualities(weights).preset(preset).quality


def chosen_quality(
    quality: float | None, preset: str | None, weights: str | os.PathLike[str] | None = None
) -> float | None:
    """The quality that a caller says, as such or by a preset; None for neither.

    Raises:
        ArgumentError: both are said, or there is no such preset.
        WeightsError: nothing was measured with these weights.
    """
    if preset is None:
        return quality
    if quality is not None:
        raise ArgumentError("a quality and a preset exclude each other")
    if not isinstance(preset, str) or preset not in PRESETS:
        raise ArgumentError(f"preset {preset!r} is not one of {', '.join(PRESETS)}")
    return preset_quality(preset, Path(weights) if weights is not None else None)


def _look(raw: dict[str, Any]) -> Look:
    look = Look(**{field.name: float(raw[field.name]) for field in dataclasses.fields(Look)})
    if not all(map(math.isfinite, _values(look))) or not 0 <= look.quality <= 1:
        raise ValueError("not a quality")
    return look


def _is_rising(values: list[float]) -> bool:
    return len(values) > 1 and all(a < b for a, b in itertools.pairwise(values))
