"""Curves from elsewhere, to compare with: hostile until checked.

A file holds curves by name, or one result in CompressAI's layout.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from vrcodec.errors import VrcodecError
from vrcodec.evaluation.bjontegaard import RATE, Curve
from vrcodec.evaluation.metrics import METRICS, PSNR
from vrcodec.files import read_bytes
from vrcodec.text import printable

ANCHORS = Path(__file__).resolve().parents[1] / "data" / "anchors"
MAX_POINTS = 10_000
MAX_BYTES = 64 << 20
"""No file of curves is longer."""
_MOST = 1e9
"""No number in a curve is larger."""


def load_curves(path: Path) -> dict[str, Curve]:
    """Named curves of a .json file, or of all those in a folder.

    Raises:
        VrcodecError: it cannot be read, or holds something else.
    """
    curves: dict[str, Curve] = {}
    for file in sorted(path.glob("*.json")) if path.is_dir() else [path]:
        try:
            more = _curves(json.loads(read_bytes(file, most=MAX_BYTES)), file.stem)
            if twice := curves.keys() & more.keys():
                raise _NoCurveError(f"there is another one called {min(twice)}")
            curves |= more
        except RecursionError:
            raise VrcodecError(f"{file}: nested too deeply for rate-distortion curves") from None
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
            reason = f": {error}" if isinstance(error, _NoCurveError) else ""
            raise VrcodecError(f"{file}: holds no rate-distortion curves{reason}") from None
    if not curves:
        raise VrcodecError(f"{path}: no rate-distortion curves there")
    return curves


def kodak_anchors() -> dict[str, Curve]:
    """Curves of other codecs on Kodak."""
    return load_curves(ANCHORS)


class _NoCurveError(ValueError):
    """The text says what is wrong with a curve."""


def _curves(found: Any, stem: str) -> dict[str, Curve]:
    if "results" in found:
        name, results = found.get("name", stem), found["results"]
        theirs = {metric.compressai: metric.name for metric in METRICS.values()} | {"bpp": "bpp"}
        theirs |= {metric.compressai + RATE: metric.name + RATE for metric in METRICS.values()}
        found = {name: {ours: results[key] for key, ours in theirs.items() if key in results}}
    return {printable(str(name)): _curve(str(name), raw) for name, raw in found.items()}


def _curve(name: str, raw: Any) -> Curve:
    """A checked curve: finite numbers, rates above zero, lists of one length."""
    curve = {
        key: [_number(name, key, value) for value in _list(raw[key])]
        for key in ("bpp", *METRICS, *(name + RATE for name in METRICS))
        if raw.get(key) is not None or key in ("bpp", PSNR.name)
    }
    count = len(curve["bpp"])
    if not 0 < count <= MAX_POINTS:
        raise _NoCurveError(f"{printable(name)} has {count} points")
    if any(len(values) != count for values in curve.values()):
        raise _NoCurveError(f"{printable(name)} has lists of different lengths")
    rates = [rate for key in curve if key.endswith("bpp") for rate in curve[key]]
    if any(rate is not None and rate <= 0 for rate in rates):
        raise _NoCurveError(f"{printable(name)} has a rate that is not above 0")
    return curve


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError
    return value


def _number(name: str, key: str, value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _NoCurveError(f"{printable(name)}: {key} is no number")
    number = float(value)
    if not math.isfinite(number) or abs(number) > _MOST:
        raise _NoCurveError(f"{printable(name)}: {key} {number} is out of range")
    return number
