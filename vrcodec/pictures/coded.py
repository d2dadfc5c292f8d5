"""Pictures in and out of Pillow: modes, alpha, orientation, metadata, size limits. No torch.

A picture is coded as 8-bit RGB. What does not fit in that (alpha, ICC profile, EXIF, XMP,
resolution) travels beside it in the file's optional sections, or is named in `notes`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import math
import re
import struct
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, PngImagePlugin, UnidentifiedImageError

from vrcodec.bitstream.container import Extra
from vrcodec.errors import CorruptError, PictureError
from vrcodec.files import PICTURE_SUFFIXES, os_error_text

MAX_PIXELS = 200_000_000
"""Largest picture, width x height, that is opened or decoded unless the caller says otherwise."""

FORMATS = tuple(dict.fromkeys(PICTURE_SUFFIXES.values()))
"""Formats that `save_picture` writes: Pillow's names for them in lower case."""

_METADATA_KEYS = ("icc_profile", "exif", "xmp", "dpi")
_SAVE_OPTIONS: dict[str, dict[str, Any]] = {
    "PNG": {"compress_level": 3},  # 2 % larger than 6, the usual one, in 40 % of the time
    "JPEG": {"quality": 95, "subsampling": "4:4:4"},
    "WEBP": {"lossless": True},
    "AVIF": {"quality": 90, "subsampling": "4:4:4"},
}
_WITHOUT_ALPHA = {"JPEG", "BMP", "PPM"}
_LONGEST_SIDE = {"JPEG": 65500, "WEBP": 16383, "AVIF": 65536}

_EXIF_PREFIX = b"Exif\0\0"
_EXIF_INTEGERS = {1: "B", 3: "H", 4: "I"}
_TIFF_XMP = 700
_ORIENTATION = ExifTags.Base.Orientation
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
_DESCRIPTIVE_TAGS = (
    ExifTags.Base.ImageDescription,
    ExifTags.Base.Make,
    ExifTags.Base.Model,
    ExifTags.Base.Software,
    ExifTags.Base.DateTime,
    ExifTags.Base.Artist,
    ExifTags.Base.HostComputer,
    ExifTags.Base.Copyright,
)
"""The EXIF tags that mean the same in any TIFF file; the others describe how one is stored."""

_GREY_MODES = {"1", "L", "LA", "La", "I", "F", "I;16", "I;16L", "I;16B", "I;16N"}
_DEEP_SAMPLES = re.compile(r"(RGB[AXa]?|LA?|CMYK)(;A)?;16[BLN]")
"""Pillow's raw modes of samples that it cuts to 8 bits while it reads."""
_AVIF_HEAD = 1 << 16
_STRIP_PIXELS = 1 << 22
_FILL_BLOCK = 16
"""Blocks as the model sees them: on each of these squares stands one latent position."""
_SOURCE_KEY = "vrcodec source"
_DPI = struct.Struct(">II")
_DPI_UNIT, _DPI_LIMIT = 1000, 65535
"""The DPI section: horizontal and vertical, in thousandths of a dot per inch."""

_pillow_limit_lock = threading.Lock()

Pixels = NDArray[np.uint8]


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
    """

    pixels: Pixels
    grey: bool
    sixteen_bit: bool
    alpha: Pixels | None
    extras: dict[Extra, bytes]
    notes: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class _Source:
    """What only the file knows and the loaded picture has forgotten."""

    bits: int = 8
    grey: bool = False
    frames: int = 1


def open_picture(
    source: Path | bytes | BinaryIO, name: str, max_pixels: int = MAX_PIXELS
) -> Image.Image:
    """Read a picture file of any kind that Pillow knows, completely.

    Args:
        source: a path, the file's bytes, or a binary stream (read to its end).
        name: what to call it in errors.
        max_pixels: largest width x height; checked before any pixel is decoded.

    Raises:
        PictureError: the file is missing, not a picture, damaged or too large; the text starts
            with `name`.
    """
    with contextlib.ExitStack() as stack:
        try:
            if isinstance(source, Path):
                source = stack.enter_context(source.open("rb"))
            stream = io.BytesIO(source) if isinstance(source, bytes) else source
            if not stream.seekable():
                stream = io.BytesIO(stream.read())
        except OSError as error:
            raise PictureError(f"{name}: {os_error_text(error)}") from error
        with _pillow_errors(f"{name}: cannot be read"):
            with _pillow_limit(max_pixels):
                image = _open(stream, name, max_pixels)
                try:
                    frames = getattr(image, "n_frames", 1)
                except Exception:  # a damaged later frame: the first may be sound
                    image, frames = _open(stream, name, max_pixels), 1
            image.info[_SOURCE_KEY] = dataclasses.replace(_inspect(image), frames=frames)
            image.load()
    return image


def notes(image: Image.Image) -> tuple[str, ...]:
    """What coding this picture leaves out, one line each; cheap, looks at no pixel."""
    source = _source(image)
    lines = []
    if source.frames > 1:
        lines.append(f"first of {source.frames} frames")
    if source.bits > 8:
        lines.append(f"coded at 8 bits ({source.bits} in the source)")
    if image.mode in {"CMYK", "LAB"}:
        lines.append(f"{image.mode} converted to RGB")
    profile = _info_bytes(image, "icc_profile")
    if profile and not _profile_fits(profile, _is_grey(image)):
        colours = profile[16:20].decode("ascii", "replace").strip()
        lines.append(f"ICC profile dropped: it is for {colours} pictures")
    return tuple(lines)


def to_coded(image: Image.Image, strip: bool = False) -> CodedPicture:
    """Bring a picture of any mode into the form that the model codes.

    EXIF orientation is applied to the pixels and its tag set to 1. An ICC profile is kept only
    where it fits the pixels: RGB on colour, GRAY on grey.

    Args:
        image: any Pillow picture; it is not changed.
        strip: leave ICC profile, EXIF, XMP and resolution behind.

    Raises:
        PictureError: Pillow cannot convert it, or it has no pixels.
    """
    if not image.width or not image.height:
        raise PictureError("a picture without pixels")
    with _pillow_errors("cannot be converted"):
        source = _source(image)
        image.load()
        grey, lines = _is_grey(image), notes(image)
        extras = {} if strip else _metadata(image, grey)
        orientation = _orientation(image)
        if orientation in _TURNS:
            image = image.transpose(_TURNS[orientation])
        pixels, alpha = _samples(image, source.bits)
    if alpha is not None:
        _fill_invisible(pixels, alpha)
        extras[Extra.ALPHA] = _pack_alpha(alpha)
    return CodedPicture(pixels, grey, source.bits > 8, alpha, extras, lines)


def from_coded(pixels: Pixels, grey: bool, extras: Mapping[Extra, bytes]) -> Image.Image:
    """The picture that a decoded file shows.

    Args:
        pixels: uint8, height x width x 3.
        grey: give a grey picture, of the channels' rounded mean.
        extras: optional sections of the file, not to be trusted.

    Returns:
        A picture of mode L, LA, RGB or RGBA; its `info` holds icc_profile, exif, xmp and dpi
        where the file has them.

    Raises:
        CorruptError: a section does not hold what it should.
    """
    if grey:
        total = pixels.sum(axis=2, dtype=np.uint16)
        image = Image.fromarray(((total + 1) // 3).astype(np.uint8))
    else:
        image = Image.fromarray(np.ascontiguousarray(pixels))
    if Extra.ALPHA in extras:
        image.putalpha(_unpack_alpha(extras[Extra.ALPHA], image.size))
    if Extra.ICC in extras:
        image.info["icc_profile"] = extras[Extra.ICC]
    if Extra.EXIF in extras:
        image.info["exif"] = _EXIF_PREFIX + extras[Extra.EXIF]
    if Extra.XMP in extras:
        image.info["xmp"] = extras[Extra.XMP]
    if Extra.DPI in extras:
        try:
            dpi = _DPI.unpack(extras[Extra.DPI])
        except struct.error:
            raise CorruptError("resolution section of a wrong length") from None
        image.info["dpi"] = tuple(value / _DPI_UNIT for value in dpi)
    return image


def save_picture(image: Image.Image, format: str) -> bytes:
    """The bytes of a picture file, with the metadata in `image.info` as far as it has a place.

    Lossless but for JPEG (quality 95) and AVIF (quality 90), both with full chroma resolution.

    Args:
        image: of mode L, LA, RGB or RGBA.
        format: one of `FORMATS`.

    Raises:
        PictureError: the format is unknown or cannot hold this picture.
    """
    if format not in FORMATS:
        raise PictureError(f"unknown format {format!r}; known are {', '.join(FORMATS)}")
    plugin = format.upper()
    if plugin in _WITHOUT_ALPHA and image.mode in {"LA", "RGBA"}:
        raise PictureError(f"{plugin} cannot hold transparency; png, webp, tiff and avif can")
    if max(image.size) > _LONGEST_SIDE.get(plugin, max(image.size)):
        raise PictureError(
            f"{image.width}x{image.height} is too large for {plugin} "
            f"(at most {_LONGEST_SIDE[plugin]} on a side)"
        )
    options = dict(_SAVE_OPTIONS.get(plugin, {}))
    options |= {key: image.info[key] for key in _METADATA_KEYS if key in image.info}
    if plugin == "WEBP" and image.mode in {"L", "LA"}:
        options.pop("icc_profile", None)  # WebP has no grey, and a GRAY profile fits no colour
    if plugin == "PNG" and "xmp" in options:
        options["pnginfo"] = PngImagePlugin.PngInfo()
        options["pnginfo"].add_itxt("XML:com.adobe.xmp", options["xmp"])
    buffer = io.BytesIO()
    with _pillow_errors(f"cannot be written as {plugin}"):
        if plugin == "TIFF":
            exif = _descriptive_exif(_parse_exif(options.get("exif", b"")))
            if "xmp" in options:
                exif[_TIFF_XMP] = options["xmp"]
            options["exif"] = exif.tobytes()
        image.save(buffer, plugin, **options)
    return buffer.getvalue()


@contextlib.contextmanager
def _pillow_errors(what: str) -> Iterator[None]:
    """Turn whatever Pillow raises, which on hostile files is anything, into a PictureError."""
    try:
        yield
    except PictureError:
        raise
    except UnidentifiedImageError:
        raise PictureError(f"{what}: not a picture of a known kind") from None
    except MemoryError:
        raise PictureError(f"{what}: out of memory") from None
    except Exception as error:
        text = " ".join(str(error).split()) or type(error).__name__
        raise PictureError(f"{what}: {text}") from error


@contextlib.contextmanager
def _pillow_limit(max_pixels: int) -> Iterator[None]:
    """Let Pillow warn above this size, and fail above twice this size, instead of its own."""
    with _pillow_limit_lock:
        own, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, max_pixels
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = own


def _open(stream: BinaryIO, name: str, max_pixels: int) -> Image.Image:
    """Image.open for pictures within the limit; reads no pixels."""
    stream.seek(0)
    try:
        image = Image.open(stream)
    except Image.DecompressionBombError:
        raise PictureError(f"{name}: more than {max_pixels:,} pixels") from None
    if image.width * image.height > max_pixels:
        raise PictureError(
            f"{name}: {image.width}x{image.height} is more than {max_pixels:,} pixels"
        )
    if image.format == "EPS":
        raise PictureError(f"{name}: PostScript is a program, not a picture")
    return image


def _source(image: Image.Image) -> _Source:
    return image.info.get(_SOURCE_KEY) or _inspect(image)


def _inspect(image: Image.Image) -> _Source:
    """Depth and kind of the samples, from how Pillow would read them; before it does."""
    raw_modes, bits = set(), 8
    for codec_name, _, _, args in getattr(image, "tile", ()):
        args = args if isinstance(args, tuple) else (args,)
        raw_modes |= {part for part in args if isinstance(part, str)}
        if codec_name in {"ppm", "ppm_plain"} and args[-1] > 255:
            bits = 16
    if "I;12" in raw_modes:
        bits = 12
    elif image.mode.startswith("I;16") or any(map(_DEEP_SAMPLES.fullmatch, raw_modes)):
        bits = 16
    elif image.mode in {"I", "F"} and bits == 8:
        bits = 16 if any(";16" in mode for mode in raw_modes) else 32
    elif image.format == "AVIF" and raw_modes:
        bits = _avif_bits(image)
    return _Source(bits, grey=any(mode.startswith("LA;16") for mode in raw_modes))


def _avif_bits(image: Image.Image) -> int:
    """Bits per sample of an AVIF file that is open but not loaded; Pillow does not say.

    They stand in the third byte of its AV1 configuration box (AV1-ISOBMFF, section 2.3.3).
    """
    file = getattr(image, "fp", None)
    if file is None:
        return 8
    file.seek(0)
    _, found, configuration = file.read(_AVIF_HEAD).partition(b"av1C")
    if not found or len(configuration) < 3 or not configuration[2] & 0x40:
        return 8
    return 12 if configuration[2] & 0x20 else 10


def _is_grey(image: Image.Image) -> bool:
    if image.mode in {"P", "PA"}:
        palette = np.array(image.getpalette("RGB") or [0, 0, 0]).reshape(-1, 3)
        profile = _info_bytes(image, "icc_profile")
        return bool((palette == palette[:, :1]).all()) and profile[16:20] != b"RGB "
    return image.mode in _GREY_MODES or _source(image).grey


def _samples(image: Image.Image, bits: int) -> tuple[Pixels, Pixels | None]:
    """Colour and alpha (None if opaque), in strips so that no second whole copy is needed."""
    width, height = image.size
    pixels = np.empty((height, width, 3), np.uint8)
    alpha = np.empty((height, width), np.uint8)
    scale = _value_range(image, bits) if image.mode in _GREY_MODES else (0.0, 255.0)
    for rows, strip in _strips(image):
        pixels[rows], alpha[rows] = _strip_samples(strip, scale)
    return pixels, (None if alpha.min() == 255 else alpha)


def _strips(image: Image.Image) -> Iterator[tuple[slice, Image.Image]]:
    step = max(1, _STRIP_PIXELS // image.width)
    for top in range(0, image.height, step):
        bottom = min(top + step, image.height)
        yield slice(top, bottom), image.crop((0, top, image.width, bottom))


def _value_range(image: Image.Image, bits: int) -> tuple[float, float]:
    """The sample values of a grey picture that stand for black and white.

    16-bit samples span their type. For wider ones the smallest usual range is taken that holds
    them all (0..1 and 0..255 for floating point, 0..65535), or else their own.
    """
    if image.mode.startswith("I;16"):
        return 0, 2**bits - 1
    if image.mode not in {"I", "F"}:
        return 0, 255
    low, high = math.inf, -math.inf
    for _, strip in _strips(image):
        values = np.asarray(strip)
        values = values[np.isfinite(values)]
        if values.size:
            low, high = min(low, values.min()), max(high, values.max())
    for white in (65535,) if image.mode == "I" else (1, 255, 65535):
        if low >= 0 and high <= white:
            return 0, white
    return float(low), float(max(high, low + 1))


def _strip_samples(strip: Image.Image, scale: tuple[float, float]) -> tuple[Pixels, Pixels | int]:
    """Colour (grey with a last axis of length 1) and alpha of a picture."""
    key = strip.info.get("transparency")
    if strip.mode in {"I", "F"} or strip.mode.startswith("I;16"):
        values = np.asarray(strip)
        black, white = scale
        level = (np.nan_to_num(values.astype(np.float64), nan=black) - black) / (white - black)
        grey = np.rint(255 * level.clip(0, 1)).astype(np.uint8)
        return grey[..., None], _keyed(values[..., None], key)
    if strip.mode in {"1", "L"}:
        values = np.asarray(strip.convert("L"))[..., None]
        return values, _keyed(values, key)
    if strip.mode in {"LA", "La"}:
        values = np.asarray(strip.convert("LA"))
        return values[..., :1], values[..., 1]
    if strip.mode == "RGB":
        values = np.asarray(strip)
        if isinstance(key, tuple) and max(key) > 255:
            key = tuple(part >> 8 for part in key)  # as Pillow cut the samples
        return values, _keyed(values, key)
    if strip.has_transparency_data:
        values = np.asarray(strip.convert("RGBA"))
        return values[..., :3], values[..., 3]
    return np.asarray(strip.convert("RGB")), 255


def _keyed(values: NDArray[Any], key: Any) -> Pixels | int:
    """Alpha where one sample value (PNG's tRNS) stands for transparent."""
    if key is None:
        return 255
    return np.where((values == key).all(axis=-1), np.uint8(0), np.uint8(255))


def _fill_invisible(pixels: Pixels, alpha: Pixels) -> None:
    """Give fully transparent pixels a colour that is cheap to code.

    It is the mean of the other pixels in their block, or in the picture where the block has none.
    """
    height, width = alpha.shape
    starts = np.arange(0, width, _FILL_BLOCK)
    bands = [slice(top, top + _FILL_BLOCK) for top in range(0, height, _FILL_BLOCK)]
    counts = np.zeros((len(bands), len(starts), 1), np.int64)
    sums = np.zeros((len(bands), len(starts), 3), np.int64)
    for index, band in enumerate(bands):
        visible = (alpha[band] > 0)[..., None]
        counts[index] = np.add.reduceat(visible.sum(axis=0), starts)
        sums[index] = np.add.reduceat((pixels[band] * visible).sum(axis=0), starts)
    mean = sums.sum(axis=(0, 1)) / counts.sum() if counts.any() else 128
    means = np.rint(np.where(counts, sums / np.maximum(counts, 1), mean)).astype(np.uint8)
    for index, band in enumerate(bands):
        columns = np.repeat(means[index], _FILL_BLOCK, axis=0)[:width]
        np.copyto(pixels[band], columns, where=(alpha[band] == 0)[..., None])


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


def _metadata(image: Image.Image, grey: bool) -> dict[Extra, bytes]:
    extras = {}
    profile = _info_bytes(image, "icc_profile")
    if profile and _profile_fits(profile, grey):
        extras[Extra.ICC] = profile
    if exif := _exif_bytes(image):
        extras[Extra.EXIF] = exif
    if xmp := _info_bytes(image, "xmp"):
        extras[Extra.XMP] = re.sub(rb'(tiff:Orientation(?:="|>))[2-8]', rb"\g<1>1", xmp)
    with contextlib.suppress(KeyError, TypeError, ValueError, ArithmeticError):
        horizontal, vertical = (round(float(part) * _DPI_UNIT) for part in image.info["dpi"])
        if min(horizontal, vertical) > 0 and max(horizontal, vertical) <= _DPI_LIMIT * _DPI_UNIT:
            extras[Extra.DPI] = _DPI.pack(horizontal, vertical)
    return extras


def _info_bytes(image: Image.Image, key: str) -> bytes:
    value = image.info.get(key)
    if isinstance(value, str):
        return value.encode()
    return value if isinstance(value, bytes) else b""


def _profile_fits(profile: bytes, grey: bool) -> bool:
    return profile[16:20] == (b"GRAY" if grey else b"RGB ")


def _orientation(image: Image.Image) -> int:
    """EXIF (or XMP) orientation; 1 where it is missing or its container is damaged."""
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:
        return 1


def _exif_bytes(image: Image.Image) -> bytes:
    """EXIF of a picture as a TIFF structure, its orientation set to 1; empty if there is none.

    Other bytes stay as they are: maker notes and thumbnails would not survive rewriting.
    """
    raw = _info_bytes(image, "exif")
    if not raw and image.format == "TIFF":
        kept = _descriptive_exif(image.getexif())
        raw = kept.tobytes() if kept else b""
    exif = bytearray(raw.removeprefix(_EXIF_PREFIX))
    order = {b"II": "<", b"MM": ">"}.get(bytes(exif[:2]))
    if order is None:
        return b""
    with contextlib.suppress(struct.error):
        (start,) = struct.unpack_from(f"{order}I", exif, 4)
        (count,) = struct.unpack_from(f"{order}H", exif, start)
        for entry in range(start + 2, start + 2 + 12 * count, 12):
            tag, kind = struct.unpack_from(f"{order}HH", exif, entry)
            if tag == _ORIENTATION and kind in _EXIF_INTEGERS:
                struct.pack_into(order + _EXIF_INTEGERS[kind], exif, entry + 8, 1)
    probe = Image.new("L", (1, 1))
    probe.info["exif"] = bytes(exif)
    return b"" if _orientation(probe) in _TURNS else bytes(exif)


def _parse_exif(data: bytes) -> Image.Exif:
    exif = Image.Exif()
    exif.load(data)
    return exif


def _descriptive_exif(exif: Image.Exif) -> Image.Exif:
    """The part of EXIF that means the same in any file: without how this one is stored."""
    result = Image.Exif()
    for tag in _DESCRIPTIVE_TAGS:
        if tag in exif:
            result[tag] = exif[tag]
    for ifd in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo):
        if values := exif.get_ifd(ifd):
            result[ifd] = values
    return result
