"""Picture files from decoded pictures: what a format cannot hold is left out, and said."""

from __future__ import annotations

import dataclasses
import io
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image, PngImagePlugin

from vrcodec.errors import PictureError
from vrcodec.pictures import colour, exif
from vrcodec.pictures.formats import FORMATS, WRITTEN, Format
from vrcodec.pictures.reading import pillow_errors
from vrcodec.pictures.results import JPEG_QUALITY, fitted_size

_SAVE_OPTIONS: dict[str, dict[str, Any]] = {
    "PNG": {"compress_level": 3},  # 2 % larger than 6, the usual one, in 40 % of the time
    "JPEG": {"subsampling": "4:4:4"},
    "WEBP": {"lossless": True},
    "AVIF": {"quality": 90, "subsampling": "4:4:4"},
}
_METADATA = {"icc_profile": "ICC profile", "exif": "EXIF", "xmp": "XMP", "dpi": "resolution"}
_JPEG_SEGMENT = 65533
_JPEG_LIMITS = {"exif": _JPEG_SEGMENT - 6, "xmp": _JPEG_SEGMENT - 29, "icc_profile": 255 * 65519}
_TIFF_XMP_KIND = 1


@dataclasses.dataclass(frozen=True)
class PictureFile:
    """A picture in a file's bytes, and what did not fit in, one line each."""

    data: bytes
    notes: tuple[str, ...]


def fitted(image: Image.Image, side: int) -> Image.Image:
    """The picture, made smaller where a side has more pixels than this, with its metadata."""
    size = fitted_size(image.size, side)
    if size == image.size:
        return image
    small = image.resize(size, Image.Resampling.LANCZOS)
    small.info = dict(image.info)
    return small


def save_picture(image: Image.Image, format: str, strip: bool = False) -> bytes:
    """The bytes of a picture file; `to_file` says what was left out as well."""
    return to_file(image, format, strip).data


def to_file(
    image: Image.Image, format: str, strip: bool = False, jpeg_quality: int = JPEG_QUALITY
) -> PictureFile:
    """A picture file with the metadata in `image.info` as far as it has a place.

    Lossless but for JPEG and AVIF (quality 90), both with full chroma resolution.

    Args:
        image: of mode L, LA, RGB or RGBA.
        format: one of `FORMATS`.
        strip: write no metadata; colours are converted to sRGB.
        jpeg_quality: of JPEG, 1 to 100.

    Raises:
        PictureError: the format is unknown or cannot hold this picture.
    """
    if format not in WRITTEN:
        raise PictureError(f"unknown format {format!r}; known are {', '.join(FORMATS)}")
    kind = WRITTEN[format]
    if not kind.alpha and image.mode in {"LA", "RGBA"}:
        holders = [other.name for other in WRITTEN.values() if other.alpha]
        raise PictureError(
            f"{kind.plugin} cannot hold transparency; "
            f"{', '.join(holders[:-1])} and {holders[-1]} can"
        )
    if max(image.size) > kind.longest_side:
        raise PictureError(
            f"{image.width}x{image.height} is too large for {kind.plugin} "
            f"(at most {kind.longest_side} on a side)"
        )
    facts, notes = _facts(image, kind, strip)
    if not strip and image.info.get("icc_profile") and "icc_profile" not in facts:
        image, note = _in_srgb(image, kind)
        notes.append(note)
    elif strip and image.info.get("icc_profile"):
        image, note = _in_srgb(image, kind)
        notes += [note] * ("converted" not in note)
    with pillow_errors(f"cannot be written as {kind.plugin}"):
        return PictureFile(_written(image, kind, facts, jpeg_quality), tuple(notes))


def _facts(image: Image.Image, kind: Format, strip: bool) -> tuple[dict[str, Any], list[str]]:
    """The metadata that a format holds, and notes on what it does not."""
    facts: dict[str, Any] = {}
    notes: list[str] = []
    if strip:
        return facts, notes
    held = {"icc_profile": kind.icc, "exif": kind.exif, "xmp": kind.xmp, "dpi": kind.dpi}
    if not _holds_grey(image, kind) and image.mode in {"L", "LA"}:
        held["icc_profile"] = False  # a profile for grey fits no colour
    for key, name in _METADATA.items():
        value = image.info.get(key)
        if not value:
            continue
        limit = _JPEG_LIMITS.get(key) if kind.plugin == "JPEG" else None
        if limit and len(value) > limit:
            notes.append(f"{name} left out: {len(value):,} bytes are too long for JPEG")
        elif held[key]:
            facts[key] = value
        elif key != "icc_profile":  # whose colours are converted, which is said then
            notes.append(f"{name} left out: {kind.plugin} has no place for it")
    if "exif" in facts and (problem := _mended(facts)):
        notes.append(problem)
    return facts, notes


def _holds_grey(image: Image.Image, kind: Format) -> bool:
    """Whether a grey picture stays one; Pillow writes AVIF with alpha in colour."""
    return kind.grey and not (kind.plugin == "AVIF" and image.mode == "LA")


def _mended(facts: dict[str, Any]) -> str:
    """See to it that EXIF from a file made elsewhere can be read; what was done about it."""
    try:
        block = exif.Block(facts["exif"])
        damaged = block.mend()
        facts["exif"] = exif.PREFIX + bytes(block.data)
        return f"EXIF: {damaged} damaged entries left out" if damaged else ""
    except (exif.ExifError, struct.error):
        del facts["exif"]
        return "EXIF left out: it is damaged"


def _in_srgb(image: Image.Image, kind: Format) -> tuple[Image.Image, str]:
    """The picture in the colours of sRGB, and what to say about it."""
    grey = image.mode in {"L", "LA"}
    alpha = image.getchannel("A") if image.mode.endswith("A") else None
    plain = np.asarray(image.convert("L" if grey else "RGB"))
    pixels = np.repeat(plain[..., None], 3, axis=2) if grey else plain
    pixels, problem = colour.to_srgb(pixels, image.info["icc_profile"], grey)
    if problem:
        return image, problem.replace("cannot be used", "left out, cannot be used")
    result = Image.fromarray(np.ascontiguousarray(pixels[..., 0] if grey else pixels))
    if alpha is not None:
        result.putalpha(alpha)
    result.info = dict(image.info)
    return result, f"colours converted to sRGB: no place for the ICC profile in {kind.plugin}"


def _written(image: Image.Image, kind: Format, facts: dict[str, Any], jpeg_quality: int) -> bytes:
    options = dict(_SAVE_OPTIONS.get(kind.plugin, {}))
    if kind.plugin == "JPEG":
        options["quality"] = jpeg_quality
    if kind.icc:
        options["icc_profile"] = None
    if kind.plugin == "AVIF" and image.mode == "L":
        options["subsampling"] = "4:0:0"
    plain = {key: value for key, value in facts.items() if key != "exif"}
    block = facts.get("exif")
    if kind.plugin == "TIFF":
        plain.pop("xmp", None)
    elif block:
        plain["exif"] = _without_orientation(block) if kind.plugin == "AVIF" else block
    if kind.plugin == "PNG" and "xmp" in plain:
        options["pnginfo"] = PngImagePlugin.PngInfo()
        options["pnginfo"].add_itxt("XML:com.adobe.xmp", plain.pop("xmp"))
    buffer = io.BytesIO()
    bare = image.copy()
    bare.info = {}
    bare.save(buffer, kind.plugin, **options | plain)
    data = buffer.getvalue()
    if kind.plugin == "TIFF" and ("xmp" in facts or block):
        return _tiff_with(data, block, facts.get("xmp"))
    return data


def _without_orientation(data: bytes) -> bytes:
    """An EXIF block without the tag that says 1: Pillow would write all of it anew for AVIF."""
    block = exif.Block(data)
    block.remove(exif.ORIENTATION)
    return exif.PREFIX + bytes(block.data)


def _tiff_with(data: bytes, block: bytes | None, packet: bytes | None) -> bytes:
    """A TIFF file with EXIF and XMP as raw entries: a new first directory at its end."""
    order = "<" if data[:2] == b"II" else ">"
    (start,) = struct.unpack_from(order + "I", data, 4)
    own = dict(_entries(data, order, start))
    tree = exif.tree(block).in_order(order) if block else exif.Tree(order, {})
    first = {tag: raw for tag, raw in tree.first.items() if tag not in own} | own
    if packet:
        first[exif.XMP] = (_TIFF_XMP_KIND, packet)
    end = len(data) + len(data) % 2
    body = exif.laid_out(exif.Tree(order, first, tree.below), end)
    head = data[:4] + struct.pack(order + "I", end)
    return head + data[8:] + bytes(len(data) % 2) + body


def _entries(data: bytes, order: str, start: int) -> Iterator[tuple[int, exif.Raw]]:
    (count,) = struct.unpack_from(order + "H", data, start)
    for at in range(start + 2, start + 2 + 12 * count, 12):
        tag, kind, values, where = struct.unpack_from(order + "HHII", data, at)
        size = values * exif.KIND_SIZES[kind]
        place = at + 8 if size <= 4 else where
        yield tag, (kind, data[place : place + size])
