"""What travels beside the pixels: ICC profile, EXIF, XMP, resolution. Bytes, and never a veto.

What is damaged or cannot be true any more is left out, with a note; the rest stays as it was.
"""

from __future__ import annotations

import contextlib
import dataclasses
import struct
from collections.abc import Mapping
from typing import Any

from PIL import Image

from vrcodec.bitstream.container import Extra
from vrcodec.errors import CorruptError
from vrcodec.pictures import colour, exif, source, xmp
from vrcodec.pictures.containers import MAX_METADATA, raw_profile

SIDEWAYS = {5, 6, 7, 8}
"""Orientations that make width and height change places."""

_DPI = struct.Struct(">II")
_DPI_UNIT, _DPI_LIMIT = 1000, 65535
"""The DPI section: horizontal and vertical, in thousandths of a dot per inch."""


@dataclasses.dataclass(frozen=True)
class Metadata:
    """What a picture says beside its pixels, made ready to be kept.

    Attributes:
        extras: sections of the file.
        orientation: what to do to the pixels, 1 to 8.
        colours: what to do about their colours.
        notes: what was left out, one line each.
    """

    extras: dict[Extra, bytes]
    orientation: int
    colours: colour.Plan
    notes: tuple[str, ...]


def collect(image: Image.Image, grey: bool) -> Metadata:
    """All of a picture's metadata.

    Args:
        image: its `info` is looked at, and nothing else.
        grey: it is coded without colour.
    """
    known = source.of(image)
    notes: list[str] = []
    block = _block(_stored(image, "exif"), notes)
    packet, turned = _packet(image, notes)
    orientation = known.orientation
    if orientation is None:
        orientation = (block.orientation() if block else None) or turned or 1
    sideways = (orientation in SIDEWAYS) != known.turned.sideways
    dpi = _dpi(image, sideways) or _block_dpi(block, sideways)
    extras: dict[Extra, bytes] = {}
    if block:
        try:
            block.set_upright(orientation != 1 or known.turned.at_all, sideways)
            extras[Extra.EXIF] = bytes(block.data)
        except (struct.error, IndexError, OverflowError):
            notes.append("EXIF left out: it is damaged")
    if packet:
        extras[Extra.XMP] = packet
    if dpi:
        extras[Extra.DPI] = dpi
    colours = _colours(image, known, grey, notes)
    if colours.profile:
        extras[Extra.ICC] = colours.profile
    return Metadata(extras, orientation, colours, (*notes, *colours.notes))


def profile_of(image: Image.Image) -> bytes:
    """The picture's own ICC profile, whether it fits or not; empty if there is none."""
    return _stored(image, "icc_profile")


def info_of(extras: Mapping[Extra, bytes], grey: bool) -> dict[str, Any]:
    """What Pillow has in `info` of a file's sections, which are not to be trusted.

    Args:
        grey: whether the picture is; a profile for other pictures is left out.

    Raises:
        CorruptError: a section does not hold what it should.
    """
    info: dict[str, Any] = {}
    if fits(extras.get(Extra.ICC, b""), grey):
        info["icc_profile"] = extras[Extra.ICC]
    if Extra.EXIF in extras:
        info["exif"] = exif.PREFIX + extras[Extra.EXIF]
    if Extra.XMP in extras:
        info["xmp"] = extras[Extra.XMP]
    if Extra.DPI in extras:
        info["dpi"] = dpi_of(extras[Extra.DPI])
    return info


def fits(profile: bytes, grey: bool) -> bool:
    """Whether a colour profile is one for grey pictures, or else for RGB."""
    return profile[16:20] == (b"GRAY" if grey else b"RGB ")


def dpi_of(section: bytes) -> tuple[float, float]:
    """Dots per inch, horizontal and vertical. Raises CorruptError."""
    try:
        across, down = _DPI.unpack(section)
    except struct.error:
        raise CorruptError("resolution section of a wrong length") from None
    return across / _DPI_UNIT, down / _DPI_UNIT


def _colours(image: Image.Image, known: source.Source, grey: bool, notes: list[str]) -> colour.Plan:
    profile = _small(profile_of(image), "ICC profile", notes)
    if profile and not fits(profile, grey):
        space = profile[16:20].decode("ascii", "backslashreplace").strip()
        space = "".join(c if c.isprintable() else repr(c)[1:-1] for c in space)
        notes.append(f"ICC profile dropped: it is for {space or 'unknown'} pictures")
        return colour.Plan()
    gamma, places = image.info.get("gamma"), image.info.get("chromaticity")
    if image.info.get("srgb") is not None or not isinstance(gamma, float | int | None):
        gamma = places = None
    if not (isinstance(places, tuple) and len(places) == 8):
        places = None
    return colour.plan(profile, known.cicp, gamma, places, grey)


def _stored(image: Image.Image, key: str) -> bytes:
    """Bytes from `info`, be they under Pillow's own key or in a text of ImageMagick's."""
    value = image.info.get(key)
    names = {"exif": ("exif", "APP1"), "xmp": ("xmp", "APP1"), "icc_profile": ("icc", "icm")}
    if not value:
        for name in names[key]:
            text: Any = image.info.get(f"Raw profile type {name}")
            value = (
                raw_profile(text.encode("latin-1", "replace")) if isinstance(text, str) else None
            )
            value = value or b""
            if value and value.startswith(xmp.JPEG_MARK) == (key == "xmp" and name == "APP1"):
                break
            value = b""
    if isinstance(value, Image.Exif):
        value = value.tobytes()
    if isinstance(value, str):
        value = value.encode("utf-8", "replace")
    return value.removeprefix(xmp.JPEG_MARK) if isinstance(value, bytes) else b""


def _small(value: bytes, name: str, notes: list[str]) -> bytes:
    if len(value) <= MAX_METADATA:
        return value
    notes.append(f"{name} left out: more than {MAX_METADATA:,} bytes")
    return b""


def _packet(image: Image.Image, notes: list[str]) -> tuple[bytes, int | None]:
    """The XMP packet to keep, upright and without promises; and the orientation that it had."""
    packet = _small(_stored(image, "xmp"), "XMP", notes)
    try:
        turned = xmp.orientation(packet)
        kept = xmp.without_promises(packet)
        upright = xmp.upright(kept)
    except xmp.XmpError as error:
        notes.append(f"XMP left out: too many {error} in it")
        return b"", None
    if kept != packet:
        notes.append("gain map or video left out, with what XMP says of it")
    return upright, turned


def _block(data: bytes, notes: list[str]) -> exif.Block | None:
    data = _small(data, "EXIF", notes)
    if not data.removeprefix(exif.PREFIX):
        return None
    try:
        block = exif.Block(data)
        if damaged := block.mend():
            notes.append(f"EXIF: {damaged} damaged entries left out")
        return block
    except (exif.ExifError, struct.error):
        notes.append("EXIF left out: it is damaged or truncated")
        return None


def _dpi(image: Image.Image, sideways: bool) -> bytes:
    with contextlib.suppress(KeyError, TypeError, ValueError, ArithmeticError):
        across, down = image.info["dpi"]
        return _packed_dpi(float(across), float(down), sideways)
    return b""


def _block_dpi(block: exif.Block | None, sideways: bool) -> bytes:
    found = block.resolution() if block else None
    return _packed_dpi(*found, sideways) if found else b""


def _packed_dpi(across: float, down: float, sideways: bool) -> bytes:
    with contextlib.suppress(ValueError, OverflowError):
        sides = [round(side * _DPI_UNIT) for side in (across, down)]
        if min(sides) > 0 and max(sides) <= _DPI_LIMIT * _DPI_UNIT:
            return _DPI.pack(*(reversed(sides) if sideways else sides))
    return b""
