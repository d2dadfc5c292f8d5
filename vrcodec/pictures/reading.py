"""The one door through which every picture file is opened.

Only formats of the list in formats.py, only regular files where a path is given, no more pixels
than the caller allows, inner pictures included: none of these formats opens another one.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import random
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from PIL import Image, ImageChops, ImageFile, JpegImagePlugin

from vrcodec.errors import PictureError, reason
from vrcodec.files import read_stream
from vrcodec.pictures import exif, fax, jpeg, rasters, source, tiff
from vrcodec.pictures.containers import Found
from vrcodec.pictures.formats import Format, by_head, refusal
from vrcodec.pictures.quiet import libtiff_heard, quiet, raised_limit

MAX_PIXELS = 200_000_000
"""Largest picture, width x height, that is opened or decoded unless the caller says otherwise."""

_HEAD = 32
_WHOLE = {"PNG", "JPEG", "WEBP", "BMP", "AVIF", "HEIF", "JPEG2000", "JXL", "SGI", "SUN", "XPM"}
"""Formats whose files are read at once; the others are read where they lie."""
_AT_ONCE = {"JPEG", "MPO", "WEBP", "BMP", "GIF"}
"""Formats of which Pillow knows all metadata before it has loaded the pixels."""
_LARGE = 16_000_000
_USUAL_TILE = 1 << 22
"""Pixels that a tile of a small TIFF file may have all the same."""
_FILLER = bytes(byte for byte in random.Random(1).randbytes(300) if byte != 0xFF)  # noqa: S311

Factory = Callable[[BinaryIO, str], Image.Image]


def open_picture(
    source: Path | bytes | BinaryIO, name: str, max_pixels: int = MAX_PIXELS
) -> Image.Image:
    """Read a picture file of a known kind, completely.

    Args:
        source: a path, the file's bytes, or a binary stream (read to its end).
        name: what to call it in errors.
        max_pixels: largest width x height; checked before any pixel is decoded.

    Returns:
        The picture with its metadata in `info`; what only the file knew of it travels there, too.

    Raises:
        PictureError: the file is missing, special, not a picture, of a kind that is not read
            right, damaged or too large; the text starts with `name`.
    """
    with contextlib.ExitStack() as stack:
        with pillow_errors(name):
            if isinstance(source, Path):
                source = stack.enter_context(_regular_file(source))
            stream = io.BytesIO(source) if isinstance(source, bytes) else source
            if not stream.seekable():
                stream = io.BytesIO(read_stream(stream))
            head = _head(stream)
        with pillow_errors(f"{name}: cannot be read"):
            return _open_any(stream, head, max_pixels)


@contextlib.contextmanager
def pillow_errors(what: str) -> Iterator[None]:
    """Turn whatever Pillow raises, which on hostile files is anything, into a PictureError."""
    try:
        yield
    except Exception as error:
        raise PictureError(f"{what}: {reason(error)}") from error


def load(image: Image.Image) -> Image.Image:
    """A picture that the caller opened with Pillow, loaded, and right as `open_picture` has it.

    The caller's picture stays as it is, but for being loaded. What is not opened by Pillow, or
    was opened by `open_picture`, comes back unchanged.

    Raises:
        PictureError: it is of a kind that would be read wrong.
    """
    if source.KEY in image.info or not isinstance(image, ImageFile.ImageFile):
        image.load()
        return image
    with source.stream_of(image) as stream:
        if stream is None or image.tell() > (image.format == "PSD"):  # which counts from 1
            image.load()
            return image
        data = io.BytesIO(stream.read()) if not stream.seek(0) else None
    assert data is not None
    found, scan = _contained(image, data)
    was_loaded, fresh = not image.tile, _opened_again(image, data)
    facts = source.describe(fresh if was_loaded and fresh else image, data, found)
    is_own = fresh is None or _is_as_read(image, fresh, facts, was_loaded)
    with libtiff_heard(image.format):
        image.load()
    if scan is not None and found.clean and not image.decoderconfig:
        untouched = JpegImagePlugin.JpegImageFile(io.BytesIO(found.clean)) if was_loaded else image
        _check_scan(found.clean, scan, untouched)
    elif facts.samples:
        _check_pieces(data, facts.samples, image)
    result = image.copy()
    result.format = image.format
    if found.exif and is_own and (image.format == "TIFF" or "exif" in image.info):
        result.info["exif"] = found.exif  # Pillow's is written anew for AVIF, and no key of TIFF
    return source.settle(result, facts)


def _opened_again(image: ImageFile.ImageFile, data: io.BytesIO) -> ImageFile.ImageFile | None:
    """The picture as Pillow opens it, not loaded; None where that is not to be had."""
    with quiet(), contextlib.suppress(Exception):
        return type(image)(io.BytesIO(data.getvalue()))
    return None


def _is_as_read(
    image: ImageFile.ImageFile, fresh: ImageFile.ImageFile, facts: source.Facts, loaded: bool
) -> bool:
    """Whether the caller has left EXIF as it was; corrects facts of pixels that are the caller's.

    Who turns a picture in place, or takes something out of its EXIF, changes that.
    """

    def exif_of(image: ImageFile.ImageFile) -> object:
        return image.info.get("exif"), dict(getattr(image, "tag_v2", {}))

    # Some formats have metadata behind the pixels.
    late = loaded and (image.format not in _AT_ONCE or exif_of(fresh) != exif_of(image))
    if late or (loaded and (facts.opaque or facts.box)):
        with libtiff_heard(image.format), contextlib.suppress(Exception):
            fresh.load()
    if loaded and facts.opaque:
        facts.opaque = _alpha(fresh) == _alpha(image)
    if loaded and facts.box and fresh.tobytes() != image.tobytes():
        facts.box = None
    return exif_of(fresh) == exif_of(image)


def _alpha(image: Image.Image) -> bytes:
    """Its transparency, if it has any."""
    return image.getchannel("A").tobytes() if "A" in image.getbands() else b""


def _contained(image: ImageFile.ImageFile, data: BinaryIO) -> tuple[Found, jpeg.Scan | None]:
    """What surrounds a picture that the caller opened; its pixels are looked at as well."""
    if image.format in {"JPEG", "MPO"}:
        return jpeg.segments(data.read())
    found = source.containing(image.format, data)
    if found.check:
        found.check()
    return found, None


def _regular_file(path: Path) -> BinaryIO:
    """Open a file for reading that is neither a folder nor a device, pipe or socket."""
    mode = os.stat(path).st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "not a regular file")
    return path.open("rb")


def _head(stream: BinaryIO) -> bytes:
    stream.seek(0)
    head = stream.read(_HEAD)
    stream.seek(0)
    return head


def _open_any(stream: BinaryIO, head: bytes, max_pixels: int) -> Image.Image:
    """Try the formats that a file beginning like this may be of."""
    refused: Exception | None = None
    for format in by_head(head):
        if not format.magic and refusal(head):
            continue
        try:
            factory = _factory(format)
        except ImportError:
            refused = refused or PictureError(
                f"{format.name.upper()} pictures need the package {format.package}"
            )
            continue
        try:
            return _read(stream, format, factory, max_pixels)
        except SyntaxError as error:  # Pillow's word for: none of this kind
            if format.magic and str(error):
                refused = refused or PictureError(
                    f"not a picture, or a {format.name.upper()} file of an unknown kind: {error}"
                )
    if words := refusal(head):
        raise PictureError(f"{words}: such files are not opened")
    raise refused or PictureError("not a picture of a known kind")


def _factory(format: Format) -> Factory:
    """What opens a format. Raises ImportError if its package is not installed."""
    if format.plugin == "HEIF":
        from pillow_heif import HeifImageFile

        return HeifImageFile
    if format.plugin == "JXL":
        from pillow_jxl.JpegXLImagePlugin import JXLImageFile

        return JXLImageFile
    Image.init()
    factory, accept = Image.OPEN[format.plugin]

    def open_accepted(stream: BinaryIO, name: str) -> Image.Image:
        if accept is not None:
            stream.seek(0)
            answer = accept(stream.read(16))
            if answer is not True:
                raise SyntaxError(answer or "")
        stream.seek(0)
        return factory(stream, name)

    return open_accepted


def _read(stream: BinaryIO, format: Format, factory: Factory, max_pixels: int) -> Image.Image:
    found, scan = Found(), None
    if format.plugin in _WHOLE:
        stream.seek(0)
        data = stream.read()
        if format.plugin == "JPEG":
            found, scan = jpeg.segments(data)
        else:
            found = source.containing(format.plugin, io.BytesIO(data))
        stream = io.BytesIO(found.clean or data)
    elif format.plugin == "PPM":
        rasters.check_netpbm(stream)
        found = source.containing("PPM", stream)
        stream.seek(0)
    elif format.plugin == "TIFF":
        across, down = tiff.inspect(stream).piece  # whose refusals say more than Pillow's
        _check_size((across, down), max(max_pixels, _USUAL_TILE))
        stream.seek(0)
    _check_size(found.size or (1, 1), max_pixels)
    image = _opened(stream, factory, max_pixels)
    _check_size(image.size, max_pixels)
    if found.check:
        found.check()
    facts = source.describe(image, stream, found)
    if facts.samples:
        found.icc, found.xmp = facts.samples.icc, facts.samples.xmp
        found.exif = source.packed_exif(facts.samples)
        image.info.pop("xmp", None)  # whose orientation Pillow would apply as well
    with raised_limit(max_pixels, image.width * image.height), libtiff_heard(image.format):
        image.load()
    _check_size(image.size, max_pixels)
    if scan is not None and found.clean:
        _check_scan(found.clean, scan, image)
    elif facts.samples:
        _check_pieces(stream, facts.samples, image)
    _keep_metadata(image, found)
    return source.settle(image, facts)


def _opened(stream: BinaryIO, factory: Factory, max_pixels: int) -> Image.Image:
    with quiet():
        try:
            return factory(stream, "")
        except Image.DecompressionBombError:
            pass
        try:
            with raised_limit(max_pixels, max_pixels):
                return factory(stream, "")
        except Image.DecompressionBombError:
            raise PictureError(f"more than {max_pixels:,} pixels") from None


def _check_size(size: tuple[int, int], max_pixels: int) -> None:
    width, height = size
    if width * height > max_pixels:
        raise PictureError(f"{width}x{height} is more than {max_pixels:,} pixels")


def _keep_metadata(image: Image.Image, found: Found) -> None:
    """Put what the container says in the place of what Pillow says."""
    if image.format in {"PNG", "JPEG", "MPO", "WEBP", "TIFF", "AVIF", "HEIF", "JPEG2000", "BMP"}:
        for key in ("exif", "xmp", "icc_profile"):
            image.info.pop(key, None)
    block = found.exif and exif.PREFIX + found.exif.removeprefix(exif.PREFIX)
    for key, value in (("exif", block), ("xmp", found.xmp), ("icc_profile", found.icc)):
        if value:
            image.info[key] = value
    if found.dpi:
        image.info["dpi"] = found.dpi
    for key, fact in (("gamma", found.gamma), ("chromaticity", found.chromaticity)):
        if fact:
            image.info[key] = fact
    if found.srgb:
        image.info["srgb"] = 0


def _check_pieces(stream: BinaryIO, samples: tiff.Samples, image: Image.Image) -> None:
    """Raise PictureError for a TIFF file of which some strip or tile is damaged."""
    if samples.compression in fax.COMPRESSIONS:
        pixels = 2 * image.width * image.height
        with libtiff_heard("TIFF"), raised_limit(pixels, pixels):
            fax.check(stream, samples)
    if samples.compression in {8, 32946}:
        tiled = 2 * (image.width + 4096) * (image.height + 4096) * 8
        tiff.check_deflated(stream, samples, tiled * max(1, samples.bits // 8))
    if samples.compression == 7:
        for place, length in samples.pieces:
            stream.seek(place)
            piece = stream.read(length)
            data = (samples.jpeg_tables[:-2] or piece[:2]) + piece[2:]
            found, scan = jpeg.segments(data)
            if not found.clean or not found.clean.endswith(b"\xff\xd9"):
                raise PictureError("damaged TIFF: a part of it is truncated")
            part = JpegImagePlugin.JpegImageFile(io.BytesIO(found.clean))
            _check_size(part.size, max(4 * samples.piece[0] * samples.piece[1], _USUAL_TILE))
            part.load()
            _check_scan(found.clean, scan, part)


def _check_scan(data: bytes, scan: jpeg.Scan, image: Image.Image) -> None:
    """Raise PictureError for a JPEG file whose data end before its picture does.

    libjpeg fills what is missing with grey. Bytes are put where each run of data ends: they
    change the picture only if it wanted more.
    """
    jpeg.check_restarts(scan)
    if scan.arithmetic:  # whose decoder looks beyond the end of a whole picture as well
        return
    parts, last = [], 0
    for end in scan.ends:
        parts += [data[last:end], _FILLER]
        last = end
    other = JpegImagePlugin.JpegImageFile(io.BytesIO(b"".join([*parts, data[last:]])))
    if image.width * image.height > _LARGE:  # compared when reduced, to save memory
        size = tuple(side // (2 if scan.progressive else 8) or 1 for side in image.size)
        image = JpegImagePlugin.JpegImageFile(io.BytesIO(data))
        for each in (image, other):
            each.draft(None, size)  # type: ignore[arg-type]
    other.load()
    if ImageChops.difference(image, other).getbbox(alpha_only=False):
        raise PictureError("damaged JPEG: its data end before the picture does")
