"""Colour spaces other than sRGB: kept as an ICC profile, or converted, and never lost unsaid.

Pictures are coded as they are shown by somebody who takes them for sRGB. What says otherwise is an
ICC profile, PNG's gAMA and cHRM, or code points (CICP, ITU-T H.273) in PNG, AVIF and HEIC. A plain
tone curve is converted; other primaries become a small profile (ICC.1:2010, matrix and curves),
since wide colours do not fit into sRGB.
"""

from __future__ import annotations

import dataclasses
import functools
import io
import struct
from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from vrcodec.pictures.samples import Pixels

Floats = NDArray[np.float64]
Curve = Callable[[Floats], Floats]
Primaries = tuple[float, ...]
"""x and y of white, red, green and blue."""

_D65 = (0.3127, 0.3290)
SRGB_PRIMARIES: Primaries = (*_D65, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
_PRIMARIES: dict[int, tuple[str, Primaries]] = {
    4: ("BT.470 M", (0.310, 0.316, 0.67, 0.33, 0.21, 0.71, 0.14, 0.08)),
    5: ("BT.470 B/G", (*_D65, 0.64, 0.33, 0.29, 0.60, 0.15, 0.06)),
    6: ("BT.601", (*_D65, 0.630, 0.340, 0.310, 0.595, 0.155, 0.070)),
    7: ("SMPTE 240M", (*_D65, 0.630, 0.340, 0.310, 0.595, 0.155, 0.070)),
    8: ("film", (0.310, 0.316, 0.681, 0.319, 0.243, 0.692, 0.145, 0.049)),
    9: ("BT.2020", (*_D65, 0.708, 0.292, 0.170, 0.797, 0.131, 0.046)),
    11: ("DCI-P3", (0.314, 0.351, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060)),
    12: ("Display P3", (*_D65, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060)),
    22: ("EBU 3213", (*_D65, 0.630, 0.340, 0.295, 0.605, 0.155, 0.077)),
}
_LIKE_SRGB = {1, 2, 3, 0, 6, 11, 12, 13, 14, 15}
"""Transfer functions that are shown with the curve of sRGB: its own, and those of television."""
_GAMMAS = {4: 2.2, 5: 2.8, 8: 1.0, 17: 2.6}
_PQ, _HLG = 16, 18
_PQ_WHITE = 203 / 10000
"""Diffuse white in PQ, of 10,000 cd/m2 (ITU-R BT.2408)."""
_HLG_WHITE = 0.265
"""The same in HLG, of its peak."""
_NEAR_GAMMA, _NEAR_PRIMARIES = 0.05, 0.005
_CURVE_POINTS = 1024


def _parametric(kind: int, *values: float) -> bytes:
    """The tag of a curve given by a formula: kind 0 is a power, kind 3 has a linear part."""
    fixed = struct.pack(f">{len(values)}i", *(round(value * 65536) for value in values))
    return b"para\0\0\0\0" + struct.pack(">HH", kind, 0) + fixed


SRGB_TONE = _parametric(3, 2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
"""The curve of IEC 61966-2-1."""
_D50 = (0.9642, 1.0, 0.8249)
_BRADFORD = np.array(
    [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
)


@dataclasses.dataclass(frozen=True)
class Plan:
    """What to do about a picture's colours.

    Attributes:
        profile: the ICC profile to keep, empty for sRGB.
        table: levels to put in the place of 0 to 255, None to leave them.
        notes: what to tell.
    """

    profile: bytes = b""
    table: Pixels | None = None
    notes: tuple[str, ...] = ()


def plan(
    profile: bytes,
    cicp: tuple[int, int] | None,
    gamma: float | None,
    chromaticity: Primaries | None,
    grey: bool,
) -> Plan:
    """What a picture's colours need that has these facts; a profile comes before all others."""
    if profile:
        hdr = (_hdr_note(cicp),) if cicp and cicp[1] in {_PQ, _HLG} else ()
        return Plan(profile, notes=hdr)
    if cicp is not None:
        return _by_code_points(*cicp, grey)
    if gamma is None and chromaticity is None:
        return Plan()
    return _by_png(gamma, chromaticity, grey)


def to_srgb(pixels: Pixels, profile: bytes, grey: bool) -> tuple[Pixels, str]:
    """Pixels (height, width, 3) as sRGB, and a note if they could not be converted."""
    transform = srgb_transform(profile, grey)
    if transform is None:
        return pixels, "ICC profile cannot be used: colours stay as stored"
    if not transform:
        return pixels, ""
    result = np.empty_like(pixels)
    step = max(1, (1 << 22) // pixels.shape[1])
    for top in range(0, len(pixels), step):
        strip = pixels[top : top + step]
        image = Image.fromarray(np.ascontiguousarray(strip[..., 0] if grey else strip))
        changed = ImageCms.applyTransform(image, transform)
        result[top : top + step] = np.asarray(changed)[..., None] if grey else changed
    return result, ""


def srgb_transform(
    profile: bytes, grey: bool
) -> ImageCms.ImageCmsTransform | Literal[False] | None:
    """What converts to sRGB: None if there is none, False if it would change nothing."""
    try:
        mode = "L" if grey else "RGB"
        ours = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        target = io.BytesIO(grey_profile(SRGB_TONE)) if grey else _srgb_profile()
        theirs = ImageCms.ImageCmsProfile(target)
        transform = ImageCms.buildTransform(
            ours, theirs, mode, mode, ImageCms.Intent.RELATIVE_COLORIMETRIC
        )
        probe = Image.fromarray(_probe(grey))
        changed = np.asarray(ImageCms.applyTransform(probe, transform)).astype(int)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None
    return transform if abs(changed - np.asarray(probe)).max() > 1 else False


def _srgb_profile() -> io.BytesIO:
    return io.BytesIO(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())


@functools.cache
def _probe(grey: bool) -> Pixels:
    levels = np.linspace(0, 255, 9).astype(np.uint8)
    if grey:
        return np.arange(256, dtype=np.uint8)[None]
    return np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(1, -1, 3)


def _by_code_points(primaries: int, transfer: int, grey: bool) -> Plan:
    name, places = _PRIMARIES.get(primaries, ("sRGB", SRGB_PRIMARIES))
    if transfer in {_PQ, _HLG}:
        tone = _sampled(_pq if transfer == _PQ else _hlg)
        kept = grey_profile(tone) if grey else rgb_profile(places, tone, name)
        return Plan(kept, notes=(_hdr_note((primaries, transfer)),))
    table = _table(_GAMMAS[transfer]) if transfer in _GAMMAS else None
    if table is None and transfer not in _LIKE_SRGB:
        unknown = f"colour space of transfer function {transfer} (CICP) taken for sRGB"
        return Plan(notes=(unknown,))
    if grey or places == SRGB_PRIMARIES or _near(places):
        return Plan(table=table)
    return Plan(rgb_profile(places, SRGB_TONE, name), table)


def _by_png(gamma: float | None, chromaticity: Primaries | None, grey: bool) -> Plan:
    exponent = 1 / gamma if gamma else 2.2
    if not 0.1 <= exponent <= 10:
        return Plan(notes=(f"gamma of {gamma} (gAMA) left out: impossible",))
    usual = abs(exponent / 2.2 - 1) < _NEAR_GAMMA
    table = None if usual else _table(exponent)
    if grey or chromaticity is None or _near(chromaticity):
        return Plan(table=table)
    tone = _parametric(0, exponent) if usual and gamma else SRGB_TONE
    try:
        return Plan(rgb_profile(chromaticity, tone, "by cHRM"), table)
    except (ZeroDivisionError, np.linalg.LinAlgError, ValueError, struct.error):
        return Plan(table=table, notes=("primaries (cHRM) left out: impossible",))


def _near(primaries: Primaries) -> bool:
    pairs = zip(primaries, SRGB_PRIMARIES, strict=True)
    return all(abs(ours - theirs) <= _NEAR_PRIMARIES for ours, theirs in pairs)


def _hdr_note(cicp: tuple[int, int]) -> str:
    name = _PRIMARIES.get(cicp[0], ("BT.709", ()))[0]
    curve = "PQ" if cicp[1] == _PQ else "HLG"
    return f"high dynamic range ({name}, {curve} by CICP) is not tone-mapped"


def _table(exponent: float) -> Pixels:
    """Levels of sRGB for those of a plain power."""
    linear = (np.arange(256) / 255) ** exponent
    level = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.rint(255 * level).astype(np.uint8)


def _pq(level: Floats) -> Floats:
    """SMPTE ST 2084, diffuse white as 1, what is brighter clipped."""
    root = level ** (1 / 78.84375)
    linear = (np.maximum(root - 0.8359375, 0) / (18.8515625 - 18.6875 * root)) ** (
        1 / 0.1593017578125
    )
    return np.minimum(linear / _PQ_WHITE, 1)


def _hlg(level: Floats) -> Floats:
    """ITU-R BT.2100 hybrid log-gamma, scene light, diffuse white as 1, the rest clipped."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    linear = np.where(level <= 0.5, level**2 / 3, (np.exp((level - c) / a) + b) / 12)
    return np.minimum(linear / _HLG_WHITE, 1)


def rgb_profile(primaries: Primaries, tone: bytes, name: str) -> bytes:
    """A small ICC profile of a display with these primaries and this curve for all three.

    Raises:
        ValueError, LinAlgError: there is no such display.
    """
    columns = _to_d50(primaries)
    if not np.isfinite(columns).all() or abs(columns).max() > 30000:
        raise ValueError("impossible primaries")
    tags = {tag: _xyz(columns[:, i]) for i, tag in enumerate((b"rXYZ", b"gXYZ", b"bXYZ"))}
    tags |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), tone)
    return _profile(b"RGB ", tags, name)


def grey_profile(tone: bytes) -> bytes:
    """A small ICC profile of a grey display with this curve."""
    return _profile(b"GRAY", {b"kTRC": tone}, "grey")


def _to_d50(primaries: Primaries) -> Floats:
    """XYZ of red, green and blue as columns, adapted to D50 (Bradford)."""
    white, *rgb = (
        np.array([x / y, 1, (1 - x - y) / y])
        for x, y in np.array(primaries, dtype=np.float64).reshape(4, 2).tolist()
    )
    columns = np.transpose(rgb)
    columns = columns * np.linalg.solve(columns, white)
    gain = (_BRADFORD @ np.array(_D50)) / (_BRADFORD @ white)
    adapted: Floats = np.linalg.solve(_BRADFORD, gain[:, None] * (_BRADFORD @ columns))
    return adapted


def _xyz(value: Floats) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(part * 65536) for part in value))


def _sampled(curve: Curve) -> bytes:
    """The tag of a curve given by points."""
    body = np.rint(65535 * curve(np.linspace(0, 1, _CURVE_POINTS))).astype(">u2").tobytes()
    return b"curv\0\0\0\0" + struct.pack(">I", _CURVE_POINTS) + body


def _text(text: str) -> bytes:
    body = text.encode("utf-16-be")
    return b"mluc\0\0\0\0" + struct.pack(">II4sII", 1, 12, b"enUS", len(body), 28) + body


def _profile(space: bytes, tags: dict[bytes, bytes], name: str) -> bytes:
    tags = {
        b"desc": _text(name),
        b"cprt": _text("CC0"),
        b"wtpt": b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(part * 65536) for part in _D50)),
        **tags,
    }
    table, bodies, places = b"", b"", dict[bytes, int]()
    start = 132 + 12 * len(tags)
    for tag, body in tags.items():
        if body not in places:
            places[body] = start + len(bodies)
            bodies += body + bytes(-len(body) % 4)
        table += tag + struct.pack(">II", places[body], len(body))
    head = struct.pack(">I4sI4s4s4s", start + len(bodies), b"", 0x04300000, b"mntr", space, b"XYZ ")
    head += struct.pack(">6H4s", 2024, 1, 1, 0, 0, 0, b"acsp") + bytes(28)
    head += struct.pack(">3i", *(round(part * 65536) for part in _D50))
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + bodies
