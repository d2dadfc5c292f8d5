"""What a source file is, learnt before Pillow scales its samples, and put right when it has.

A `Source` is computed once and travels in the picture's `info`, so that a picture that was
loaded, copied or cropped is still the same picture.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
import re
import stat
import struct
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, ImageChops, ImageFile

from vrcodec.errors import PictureError
from vrcodec.pictures import boxes, containers, exif, rasters, tiff
from vrcodec.pictures.containers import AS_STORED, Found, Turned

KEY = "vrcodec source"
"""Under this key of `info` a picture carries its Source."""

_DEEP_SAMPLES = re.compile(r"(RGB[AXa]?|LA?|CMYK)(;A)?;16[BLN]")
"""Pillow's raw modes of samples that it cuts to 8 bits while it reads."""
_KEY_SCALE = {"L;2": 85, "L;4": 17}
"""What Pillow multiplies samples of 2 and 4 bits with, but not the key that is compared to them."""
_LOW_BYTES = {"RGB;16B": "RGB;16L"}
_ALPHA_MODES = {"LA": "L", "RGBA": "RGB", "PA": "P"}
MAX_FRAMES = 1000
_GIF_FRAME_HEAD = 10
_PSD_GREY, _PSD_MULTICHANNEL = 1, 7
_MAX_BLOCKS = 1_000_000


@dataclasses.dataclass(frozen=True)
class Source:
    """What only the file knows and the loaded picture has forgotten.

    Attributes:
        mode: Pillow's mode of the loaded picture; bits, grey and scale are about it.
        bits: per sample of the file.
        grey: has no colour, though its mode could hold some.
        scale: sample values of black and white, of pictures with more than 8 bits.
        frames: how many pictures the file has, counted up to 1000.
        cicp: colour primaries and transfer function (ITU-T H.273).
        orientation: what is still to do to the pixels, whatever EXIF and XMP say; None: as those
            say.
        turned: what the decoder has done to them, and metadata may not know.
        notes: what was left out while reading.
        format: of the file, as Pillow calls it.
    """

    mode: str = ""
    bits: int = 8
    grey: bool = False
    scale: tuple[float, float] | None = None
    frames: int = 1
    cicp: tuple[int, int] | None = None
    orientation: int | None = None
    turned: Turned = AS_STORED
    notes: tuple[str, ...] = ()
    format: str = ""


@dataclasses.dataclass
class Facts:
    """What is needed to put a picture right once it is loaded."""

    source: Source
    stream: BinaryIO | None = None
    samples: tiff.Samples | None = None
    raw_mode: str = ""
    box: tuple[int, int, int, int] | None = None
    opaque: bool = False


def of(image: Image.Image) -> Source:
    """What is known of a picture's source; of one that Pillow opened and nobody loaded, all."""
    found = image.info.get(KEY)
    return found if isinstance(found, Source) else Source(image.mode, _bits(image, set()))


def describe(image: Image.Image, stream: BinaryIO | None, found: Found) -> Facts:
    """Look at a picture that is open and not loaded.

    Raises:
        PictureError: it is of a kind that would be read wrong; the text names it.
    """
    raw_modes = _raw_modes(image)
    facts = Facts(Source(), stream, raw_mode=next(iter(raw_modes), ""))
    bits = found.bits or _bits(image, raw_modes)
    frames = found.frames or 1
    orientation = None
    if image.format == "TIFF" and stream is not None:
        facts.samples = samples = tiff.inspect(stream)
        bits, frames = samples.bits if samples.bits > 8 else 8, samples.pages
        orientation, found.turned = samples.orientation, samples.turned
    elif image.format == "GIF":
        tiles = getattr(image, "tile", ())
        facts.box = tiles[0][1] if tiles else None
        frames = _gif_frames(stream) if stream else 1
    elif image.format == "TGA" and stream is not None:
        stream.seek(17)
        facts.opaque = (stream.read(1) or b"\0")[0] & 15 == 0
    elif image.format == "PSD" and stream is not None:
        facts.opaque = not _psd_alpha(stream)
        _check_psd(stream, facts.opaque)
    elif image.format in {"HEIF", "JXL"}:
        bits = found.bits or image.info.get("bit_depth", bits)
        orientation = 1  # their decoders turn pictures themselves
        frames = getattr(image, "n_frames", 1)
    elif image.format in {"WEBP", "AVIF"}:
        frames = getattr(image, "n_frames", 1)
        if image.format == "AVIF":  # its own boxes count, as Pillow has written them into EXIF
            orientation = _block_orientation(image.info.get("exif", b""))
    facts.source = Source(
        image.mode,
        bits,
        grey=any(mode.startswith("LA;16") for mode in raw_modes),
        frames=min(frames, MAX_FRAMES),
        cicp=found.cicp,
        orientation=orientation,
        turned=found.turned if image.format != "AVIF" else AS_STORED,
        notes=tuple(found.notes),
        format=image.format or "",
    )
    return facts


def settle(image: Image.Image, facts: Facts) -> Image.Image:
    """The loaded picture with right samples; its Source is in its `info`."""
    info = image.info
    samples = facts.samples
    if samples and samples.inverted:
        values = 65535 - np.asarray(image)
        image = Image.frombytes("I;16", image.size, values.astype("<u2").tobytes())
    elif samples and samples.whole and image.mode == "I":
        levels = np.asarray(image).view(np.uint32)
        if levels.max() > samples.whole:
            raise PictureError("TIFF with samples below zero is not supported")
        white = 65535 if levels.max() <= 65535 else samples.whole
        image = Image.fromarray((levels / white).astype(np.float32))
    elif image.format == "XBM" or (image.format == "PSD" and image.mode == "1"):
        # Their ones are black, which Pillow passes over.
        image = ImageChops.invert(image)
    elif facts.opaque and image.mode in _ALPHA_MODES:
        image = image.convert(_ALPHA_MODES[image.mode])
    elif facts.opaque and image.mode == "P":
        image = image.convert("RGB")
    elif facts.box and facts.box != (0, 0, *image.size):
        image = _on_canvas(image, facts.box)
        info = {key: value for key, value in info.items() if key != "transparency"}
    elif "transparency" in info and facts.raw_mode in _KEY_SCALE:
        scale = _KEY_SCALE[facts.raw_mode]
        info = info | {"transparency": info["transparency"] % (255 // scale + 1) * scale}
    elif isinstance(info.get("transparency"), tuple) and facts.raw_mode in _LOW_BYTES:
        image = _with_deep_key(image, facts)
        info = {key: value for key, value in info.items() if key != "transparency"}
    image.info = info
    scale_of = value_range(image) if image.mode in {"I", "F"} else None
    bits = facts.source.bits
    if image.mode.startswith("I;16"):
        white = (2**bits - 1) << (16 - bits) if image.format == "JPEG2000" else 65535
        scale_of = (0, white if bits != 12 or image.format == "JPEG2000" else 4095)
    source = dataclasses.replace(facts.source, mode=image.mode, scale=scale_of)
    image.info = image.info | {KEY: source}
    return image


def value_range(image: Image.Image) -> tuple[float, float]:
    """The sample values of a picture of mode I or F that stand for black and white.

    The smallest usual range is taken that holds them all (0..1 and 0..255 for floating point,
    0..65535), or else their own.
    """
    low, high = np.inf, -np.inf
    step = max(1, (1 << 22) // image.width)
    for top in range(0, image.height, step):
        strip = image.crop((0, top, image.width, min(top + step, image.height)))
        values = np.asarray(strip)
        values = values[np.isfinite(values)]
        if values.size:
            low, high = min(low, values.min()), max(high, values.max())
    for white in (65535,) if image.mode == "I" else (1, 255, 65535):
        if low >= 0 and high <= white:
            return 0, white
    return float(low), float(max(high, low + 1))


@contextlib.contextmanager
def stream_of(image: Image.Image) -> Iterator[BinaryIO | None]:
    """The file of a picture that the caller opened with Pillow, None if it is out of reach.

    Its position is as before afterwards.
    """
    file = getattr(image, "fp", None) or getattr(image, "_fp", None)
    if not isinstance(image, ImageFile.ImageFile) or not image.format:
        yield None
    elif isinstance(file, io.IOBase) and not file.closed and file.seekable():
        place = file.tell()
        try:
            yield file  # type: ignore[misc]
        finally:
            file.seek(place)
    else:
        with contextlib.ExitStack() as stack:
            opened = None
            with contextlib.suppress(OSError, TypeError, ValueError):
                if image.filename and stat.S_ISREG(os.stat(image.filename).st_mode):
                    opened = stack.enter_context(open(image.filename, "rb"))
            yield opened


def containing(format: str | None, stream: BinaryIO) -> Found:
    """What the container of a file of this format (Pillow's name) says.

    Raises:
        PictureError: the file is damaged.
    """
    if format == "TIFF":
        return _tiff_container(stream)
    if format == "PPM":
        return Found(frames=rasters.netpbm_pictures(stream, MAX_FRAMES))
    readers = {
        "PNG": containers.png,
        "WEBP": containers.webp,
        "BMP": containers.bmp,
        "SGI": rasters.sgi,
        "SUN": rasters.sun,
        "XPM": rasters.xpm,
        "AVIF": boxes.heif,
        "HEIF": boxes.heif,
        "JPEG2000": boxes.jpeg2000,
        "JXL": boxes.jxl,
    }
    if format not in readers:
        return Found()
    stream.seek(0)
    return readers[format](stream.read())


def _tiff_container(stream: BinaryIO) -> Found:
    samples = tiff.inspect(stream)
    return Found(icc=samples.icc, xmp=samples.xmp, exif=packed_exif(samples))


def packed_exif(samples: tiff.Samples) -> bytes:
    """The EXIF block of a TIFF file, empty if nothing describes the picture."""
    described = samples.tree.first or any(samples.tree.below.values())
    return exif.packed(samples.tree) if described else b""


def _block_orientation(data: bytes) -> int:
    try:
        return exif.Block(data).orientation() or 1
    except exif.ExifError:
        return 1


def _raw_modes(image: Image.Image) -> set[str]:
    """How Pillow is going to read the samples; empty once it has."""
    modes = set[str]()
    for _, _, _, args in getattr(image, "tile", ()):
        args = args if isinstance(args, tuple) else (args,)
        modes |= {part for part in args if isinstance(part, str)}
    return modes


def _bits(image: Image.Image, raw_modes: set[str]) -> int:
    for codec_name, _, _, args in getattr(image, "tile", ()):
        if codec_name in {"ppm", "ppm_plain"} and isinstance(args, tuple):
            largest = args[-1]
            if isinstance(largest, int) and largest > 255:
                return largest.bit_length()
    if "I;12" in raw_modes:
        return 12
    if image.mode.startswith("I;16") or any(map(_DEEP_SAMPLES.fullmatch, raw_modes)):
        return 16
    if image.mode in {"I", "F"}:
        return 16 if any(";16" in mode for mode in raw_modes) else 32
    return 8


def _gif_frames(stream: BinaryIO) -> int:
    """Pictures in a GIF file, counted up to 1000 without decoding any."""
    stream.seek(0)
    head = stream.read(13)
    if len(head) == 13 and head[10] & 128:
        stream.seek(3 << (head[10] & 7) + 1, os.SEEK_CUR)
    frames = blocks = 0
    while frames < MAX_FRAMES:
        kind = stream.read(1)
        if kind == b",":
            frames += 1
            head = stream.read(_GIF_FRAME_HEAD - 1)
            if len(head) == _GIF_FRAME_HEAD - 1 and head[8] & 128:
                stream.seek(3 << (head[8] & 7) + 1, os.SEEK_CUR)
            stream.seek(1, os.SEEK_CUR)
        elif kind == b"!":
            stream.seek(1, os.SEEK_CUR)
        else:
            break
        while (size := stream.read(1)) not in {b"", b"\0"}:
            stream.seek(size[0], os.SEEK_CUR)
            blocks += 1
            if blocks > _MAX_BLOCKS:
                return max(1, frames)
    return max(1, frames)


def _psd_alpha(stream: BinaryIO) -> bool:
    """Whether the first channel after the colours is the picture's transparency.

    Adobe's specification: then the count of layers is negative.
    """
    stream.seek(26)
    for _ in range(2):  # colour map, image resources
        stream.seek(int.from_bytes(stream.read(4), "big"), os.SEEK_CUR)
    length = int.from_bytes(stream.read(4), "big")
    inner = int.from_bytes(stream.read(4), "big")
    count = int.from_bytes(stream.read(2), "big", signed=True)
    return bool(length and inner) and count < 0


def _check_psd(stream: BinaryIO, opaque: bool) -> None:
    """Raise PictureError for what Pillow leaves out without a word."""
    stream.seek(12)
    channels, _, _, _, mode = struct.unpack(">HIIHH", stream.read(14))
    if mode == _PSD_MULTICHANNEL:
        raise PictureError("PSD in multichannel mode is not supported")
    if mode == _PSD_GREY and channels > 1 and not opaque:
        raise PictureError("grey PSD with transparency is not supported")


def _on_canvas(image: Image.Image, box: tuple[int, int, int, int]) -> Image.Image:
    """A first frame that leaves some of its canvas free, which is then transparent."""
    mode = "LA" if image.mode == "L" else "RGBA"
    result = Image.new(mode, image.size)
    result.paste(image.convert(mode).crop(box), box)
    return result


def _with_deep_key(image: Image.Image, facts: Facts) -> Image.Image:
    """A 16-bit RGB picture whose colour key was compared at 16 bits: its low bytes read again."""
    key = image.info["transparency"]
    if facts.stream is None:
        image.info.pop("transparency")
        return image
    facts.stream.seek(0)
    from PIL import PngImagePlugin

    with PngImagePlugin.PngImageFile(facts.stream) as again:
        again.tile = [again.tile[0]._replace(args=_LOW_BYTES[facts.raw_mode])]
        low = np.asarray(again)
    high = np.asarray(image)
    same = (high == [part >> 8 for part in key]) & (low == [part & 255 for part in key])
    result = image.convert("RGB")
    result.info.pop("transparency", None)
    result.putalpha(Image.fromarray(np.where(same.all(axis=2), 0, 255).astype(np.uint8)))
    return result


def guessed_key(image: Image.Image) -> Any:
    """The colour key of a picture of mode L whose depth nobody knows any more.

    Samples of 2 and 4 bits were multiplied by 85 and 17 and their key was not: a small key that
    no sample can have is one of those.
    """
    key = image.info.get("transparency")
    if image.mode != "L" or not isinstance(key, int) or not 0 < key < 16:
        return key
    levels = [level for _, level in image.getcolors(256) or () if isinstance(level, int)]
    for scale in (85, 17):
        if key <= 255 // scale and all(level % scale == 0 for level in levels):
            return key * scale
    return key
