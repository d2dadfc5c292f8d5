"""Pictures in the form that the model codes, and back. No torch.

A picture is coded as 8-bit RGB. What does not fit in that (alpha, ICC profile, EXIF, XMP,
resolution) travels beside it in the file's optional sections, or is named in `notes`.
"""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, PngImagePlugin

from vrcodec.bitstream.container import Extra, SourceKind
from vrcodec.errors import CorruptError, PictureError
from vrcodec.pictures import colour, metadata, reading, samples, source
from vrcodec.pictures.reading import MAX_PIXELS, open_picture, pillow_errors
from vrcodec.pictures.samples import Pixels

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What EXIF orientation asks for before a picture is shown."""
_KINDS = {
    "AVIF": SourceKind.AVIF,
    "BMP": SourceKind.BMP,
    "GIF": SourceKind.GIF,
    "HEIF": SourceKind.HEIF,
    "JPEG": SourceKind.JPEG,
    "JPEG2000": SourceKind.JPEG_2000,
    "JXL": SourceKind.JPEG_XL,
    "MPO": SourceKind.JPEG,
    "PNG": SourceKind.PNG,
    "PPM": SourceKind.NETPBM,
    "TIFF": SourceKind.TIFF,
    "WEBP": SourceKind.WEBP,
}
"""By Pillow's name of the format."""


@dataclasses.dataclass(frozen=True)
class CodedPicture:
    """A picture in the form that the model codes.

    Attributes:
        pixels: uint8, height x width x 3, C-contiguous; three equal channels if `grey`.
        grey: the source has no colour, and the decoder shall give a grey picture.
        sixteen_bit: the source has more than 8 bits per sample.
        alpha: uint8, height x width, or None for an opaque picture.
        extras: optional sections of the file; ALPHA holds `alpha` as a PNG file.
        notes: what the user should be told, one line each.
        source_kind: what kind of file it came from.
    """

    pixels: Pixels
    grey: bool
    sixteen_bit: bool
    alpha: Pixels | None
    extras: dict[Extra, bytes]
    notes: tuple[str, ...]
    source_kind: SourceKind = SourceKind.UNKNOWN


def read_pixels(source: Path | bytes | BinaryIO, name: str, max_pixels: int = MAX_PIXELS) -> Pixels:
    """A picture file as it is coded: 8-bit sRGB (height, width, 3), upright, without alpha.

    Raises:
        PictureError: as `open_picture`; the text starts with `name`.
    """
    image = open_picture(source, name, max_pixels)
    with pillow_errors(name):
        return to_coded(image, strip=True).pixels


def notes(image: Image.Image, strip: bool = False) -> tuple[str, ...]:
    """What coding this picture leaves out, one line each.

    Args:
        image: of `open_picture`; of others less is known until they are coded.
        strip: metadata will be left behind on purpose, and is not spoken of.
    """
    beside = metadata.collect(image, samples.is_grey(image, metadata.profile_of(image)))
    return _lines(image, beside, strip)


def _lines(image: Image.Image, beside: metadata.Metadata, strip: bool) -> tuple[str, ...]:
    known = source.of(image)
    lines = []
    if known.frames > 1:
        more = "more than " if known.frames >= source.MAX_FRAMES else ""
        lines.append(f"first of {more}{known.frames} frames")
    if known.bits > 8:
        lines.append(f"coded at 8 bits ({known.bits} in the source)")
    if image.mode in {"CMYK", "LAB"}:
        lines.append(f"{image.mode} converted to RGB")
    if samples.is_invisible(image):
        lines.append("wholly transparent: its colours are not kept")
    lines += beside.colours.notes if strip else (*known.notes, *beside.notes)
    return tuple(dict.fromkeys(lines))


def to_coded(image: Image.Image, strip: bool = False) -> CodedPicture:
    """Bring a picture of any mode into the form that the model codes.

    EXIF orientation is applied to the pixels and its tag set to 1. An ICC profile is kept only
    where it fits the pixels: RGB on colour, GRAY on grey.

    Args:
        image: any Pillow picture; it is not changed.
        strip: leave ICC profile, EXIF, XMP and resolution behind; colours become those of sRGB.

    Raises:
        PictureError: Pillow cannot convert it, or it has no pixels.
    """
    if not image.width or not image.height:
        raise PictureError("a picture without pixels")
    with pillow_errors("cannot be converted"):
        image = reading.load(image)
        grey = samples.is_grey(image, metadata.profile_of(image))
        known = metadata.collect(image, grey)
        lines = list(_lines(image, known, strip))
        deep = source.of(image).bits > 8
        if known.orientation in _TURNS:
            image = image.transpose(_TURNS[known.orientation])
        pixels, alpha = samples.pixels_and_alpha(image)
        if known.colours.table is not None:
            pixels = known.colours.table[pixels]
        extras = {} if strip else dict(known.extras)
        if strip and known.colours.profile:
            pixels, note = colour.to_srgb(pixels, known.colours.profile, grey)
            lines += [note] * bool(note)
    if alpha is not None:
        samples.fill_invisible(pixels, alpha)
        extras[Extra.ALPHA] = _pack_alpha(alpha)
    kind = _KINDS.get(source.of(image).format, SourceKind.UNKNOWN)
    return CodedPicture(pixels, grey, deep, alpha, extras, tuple(lines), kind)


def from_coded(
    pixels: Pixels,
    grey: bool,
    extras: Mapping[Extra, bytes],
    size: tuple[int, int] | None = None,
    reduce: int = 1,
) -> Image.Image:
    """The picture that a decoded file shows.

    Args:
        pixels: uint8, height x width x 3.
        grey: give a grey picture, of the channels' rounded mean.
        extras: optional sections of the file, not to be trusted.
        size: width and height of the whole picture, if not those of `pixels`.
        reduce: how many times smaller along each side `pixels` are.

    Returns:
        A picture of mode L, LA, RGB or RGBA; its `info` holds icc_profile, exif, xmp and dpi
        where the file has them, but no profile for grey on colour or the other way round.

    Raises:
        CorruptError: a section does not hold what it should.
    """
    if grey:
        total = pixels.sum(axis=2, dtype=np.uint16)
        image = Image.fromarray(((total + 1) // 3).astype(np.uint8))
    else:
        image = Image.fromarray(np.ascontiguousarray(pixels))
    if Extra.ALPHA in extras:
        alpha = _unpack_alpha(extras[Extra.ALPHA], size or image.size)
        image.putalpha(alpha.reduce(reduce) if reduce > 1 else alpha)
    image.info.update(metadata.info_of(extras, grey))
    return image


def _pack_alpha(alpha: Pixels) -> bytes:
    image = Image.fromarray(alpha)
    if ((alpha == 0) | (alpha == 255)).all():
        image = image.convert("1", dither=Image.Dither.NONE)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _unpack_alpha(data: bytes, size: tuple[int, int]) -> Image.Image:
    try:
        image = PngImagePlugin.PngImageFile(io.BytesIO(data))
        fits = image.size == size and image.mode in {"1", "L"}
        if fits:
            image.load()
    except Exception as error:
        raise CorruptError("alpha section cannot be read") from error
    if not fits:
        raise CorruptError("alpha section does not fit the picture")
    return image.convert("L")
