"""What `scripts/fuzz.py` tries, one input at a time; `test_corpus.py` tries its corpus again.

A target takes bytes, and raises for nothing but a fault in the program. To add one, put a function
here and its name, valid inputs and way of changing them into `scripts/fuzz.py`.
"""

from __future__ import annotations

import contextlib
import functools
import io
import struct
import tempfile
import traceback
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import reference_decoder as reference
from PIL import Image

from vrcodec import selftest
from vrcodec.bitstream import container, range_coder, tables
from vrcodec.codec.codec import Codec
from vrcodec.errors import PictureError, VrcodecError
from vrcodec.pictures import (
    FORMATS,
    boxes,
    containers,
    jpeg,
    metadata,
    notes,
    open_picture,
    rasters,
    save_picture,
    tiff,
    to_coded,
    xmp,
)

ROOT = Path(__file__).resolve().parent.parent
CORPUS = ROOT / "tests" / "corpus"
GOLDEN = ROOT / "vrcodec" / "data" / "golden"
MODELS = selftest.WEIGHTS, selftest.TRELLIS_WEIGHTS
MAX_PIXELS = 1 << 14


def check_message(error: VrcodecError) -> None:
    """One line of printable text, not a page."""
    assert str(error).isprintable() and len(str(error)) < 600, str(error)


# container


def try_container(data: bytes) -> None:
    """A file is accepted if and only if the reference decoder accepts it, and means the same."""
    try:
        stream = container.unpack(data)
    except VrcodecError as error:
        check_message(error)
        stream = None
    try:
        file = reference.read_file(data)
    except reference.InvalidFile:
        assert stream is None, "accepted, but the reference decoder refuses it"
        return
    assert stream is not None, "refused, but the reference decoder accepts it"
    header = stream.header
    assert (file.version, file.source_kind) == (header.version, header.source_kind)
    assert file.weights_id.hex() == header.weights_id
    assert file.extras == stream.extras
    again = container.pack(stream)
    assert container.unpack(again) == stream
    if header.version == 1:  # where there is only one way of storing a section
        assert again == data
    bits = container.describe(data)["bits"]
    assert sum(bits.values()) == 8 * len(data) and min(bits.values()) >= 0


# entropy

ENTROPY_TABLES = tables.concatenate(
    [-2, 0, 5, -32767, -20],
    [
        np.array(counts, dtype=np.int32)
        for counts in (
            [1000, 20000, 30000, 14000, 500, 36],
            [65536, 0],
            [0, 0, 40000, 25000, 536],
            [0, 0, 65536],
            [1600] * 40 + [1536],
        )
    ],
)
REFERENCE_TABLES = reference.read_tables(
    {
        f"tables.t.{field}": getattr(ENTROPY_TABLES, field).astype(np.int64)
        for field in ("low", "size", "counts")
    },
    "t",
)


def try_entropy(data: bytes) -> None:
    """A count, which tables, and a section: decoded to what the reference decoder makes of it."""
    if len(data) < 2:
        return
    numbers = np.random.default_rng(data[1]).integers(0, len(ENTROPY_TABLES), 1 + data[0])
    section = data[2:]
    try:
        expected = reference.decode_section(section, numbers, REFERENCE_TABLES).tolist()
    except reference.InvalidFile:
        expected = None
    try:
        values = range_coder.decode(section, numbers, ENTROPY_TABLES)
    except VrcodecError:
        assert expected is None, "refused, but the reference decoder accepts it"
        return
    assert values.tolist() == expected, "other values than the reference decoder's"
    coded = range_coder.encode(values, numbers, ENTROPY_TABLES)
    assert range_coder.decode(coded, numbers, ENTROPY_TABLES).tolist() == expected


def valid_sections() -> list[bytes]:
    """Inputs of the target `entropy`: common symbols, rare ones, and escapes of every class."""
    inputs = []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        count = int(rng.integers(1, 257))
        numbers = np.random.default_rng(seed).integers(0, len(ENTROPY_TABLES), count)
        values = rng.integers(-3, 4, count) * 8 ** rng.integers(0, 5, count)
        section = range_coder.encode(values, numbers, ENTROPY_TABLES)
        inputs.append(bytes([count - 1, seed]) + section)
    return inputs


# decode


@functools.cache
def tiny_codec(weights: str = selftest.WEIGHTS) -> Codec:
    """A tiny model: without a trellis, or with one."""
    return Codec(GOLDEN / weights, "cpu", MAX_PIXELS)


def codec_of(data: bytes) -> Codec:
    """The tiny model that a file names, or else the one without a trellis."""
    chained = tiny_codec(selftest.TRELLIS_WEIGHTS)
    try:
        named = container.unpack(data).header.weights_id
    except VrcodecError:
        return tiny_codec()
    return chained if chained.weights_id == named else tiny_codec()


def try_decode(data: bytes) -> None:
    """A whole file of a tiny model, decoded to a picture, and that written as a file."""
    try:
        picture = codec_of(data).decode(data)
    except VrcodecError as error:
        check_message(error)
        return
    header = container.unpack(data).header
    assert picture.size == (header.width, header.height)
    try:
        save_picture(picture, FORMATS[zlib.crc32(data) % len(FORMATS)])
    except VrcodecError as error:
        check_message(error)


def valid_files() -> list[bytes]:
    """Small files with everything that a file can have, of both versions."""
    picture = Image.open(ROOT / "tests" / "pictures" / "hibiscus.png")
    files = [
        path.read_bytes() for path in sorted(GOLDEN.glob("*.vrc")) if path.stat().st_size < 2000
    ]
    for number, size in enumerate([(1, 1), (16, 16), (17, 40), (75, 53)]):
        image = picture.crop((0, 0, *size))
        if number == 1:
            image = image.convert("L")
        if number > 1:
            image.putalpha(Image.linear_gradient("L").resize(size))
            image.info |= {"dpi": (72, 72), "exif": b"Exif\0\0II*\0\x08" + bytes(9), "xmp": b"<x/>"}
            image.info["icc_profile"] = bytes(16) + b"RGB " + bytes(108)
        files += [tiny_codec(name).encode(image, number / 3) for name in MODELS]
    return files


# weights


@functools.cache
def tiny_weights() -> tuple[bytes, bytes]:
    """Header and body of the tiny weights."""
    data = (GOLDEN / "tiny.safetensors").read_bytes()
    body = 8 + struct.unpack("<Q", data[:8])[0]
    return data[8:body], data[body:]


def weights_of(data: bytes) -> bytes:
    """A weights file of a short input.

    Args:
        data: a header, a zero byte, and any number of changes to the body of the tiny weights: a
            position and what is written there, four bytes each.
    """
    header, _, changes = data.partition(b"\0")
    body = bytearray(tiny_weights()[1])
    for at in range(0, len(changes) - 7, 8):
        (place,) = struct.unpack_from("<I", changes, at)
        place %= len(body) - 3
        body[place : place + 4] = changes[at + 4 : at + 8]
    return struct.pack("<Q", len(header)) + header + bytes(body)


def try_weights(data: bytes) -> None:
    """Weights are refused in one line, or code a picture."""
    with tempfile.NamedTemporaryFile(suffix=".safetensors") as file:
        file.write(weights_of(data))
        file.flush()
        picture = Image.linear_gradient("L").resize((9, 20)).convert("RGB")
        try:
            codec = Codec(file.name, "cpu", MAX_PIXELS)
            assert codec.decode(codec.encode(picture, 0.6)).size == picture.size
        except VrcodecError as error:
            check_message(error)


def valid_weights() -> list[bytes]:
    """The tiny weights, and with a change to their body."""
    header = tiny_weights()[0].rstrip()
    return [header, header + b"\0" + struct.pack("<If", 1000, 0.5)]


# metadata


def _collected(key: str) -> Callable[[bytes], object]:
    def read(data: bytes) -> object:
        image = Image.new("RGB", (3, 2))
        image.info[key] = data
        return metadata.collect(image, grey=False)

    return read


def _joined(data: bytes) -> object:
    half = len(data) // 2
    return xmp.joined(data[:half], [data[half:]])


METADATA: tuple[Callable[[bytes], object], ...] = (
    _collected("exif"),
    _collected("xmp"),
    _collected("icc_profile"),
    _joined,
    containers.png,
    jpeg.segments,
    boxes.heif,
    boxes.jpeg2000,
    boxes.jxl,
    lambda data: containers.webp(data.ljust(12, b"\0")),
    lambda data: tiff.inspect(io.BytesIO(data.ljust(16, b"\0"))),
    lambda data: rasters.check_netpbm(io.BytesIO(data)),
)
"""Readers of what surrounds the pixels, by the first byte of an input (modulo their number)."""


def try_metadata(data: bytes) -> None:
    """Metadata are read, or left out, or the file is refused: nothing else is raised."""
    if data:
        with contextlib.suppress(PictureError):
            METADATA[data[0] % len(METADATA)](data[1:])


def valid_metadata() -> list[bytes]:
    """For every reader something that it takes."""
    exif, packet, profile = some_metadata()
    halves = [
        b'<x xmpNote:HasExtendedXMP="%s"></x>' % bytes(32),
        bytes(32) + struct.pack(">II", 8, 0) + b"<y></y>",
    ]
    bodies: list[list[bytes]] = [[exif], [packet], [profile], [b"".join(halves)]]
    pictures = {kind: [data for at, data in valid_kinds() if at == kind] for kind, _ in SAVED}
    bodies += [pictures[kind] for kind in ("PNG", "JPEG", "AVIF", "JPEG2000")]
    bodies += [[b"\0\0\0\x0cJXL \r\n\x87\n\0\0\0\x10Exif\0\0\0\0II*\0"], pictures["WEBP"]]
    bodies += [pictures["TIFF"], pictures["PPM"]]
    return [bytes([at]) + body for at, some in enumerate(bodies) for body in some]


# pictures

SAVED: tuple[tuple[str, dict[str, Any]], ...] = (
    ("PNG", {}),
    ("JPEG", {"quality": 30}),
    ("JPEG", {"progressive": True}),
    ("WEBP", {"lossless": True}),
    ("WEBP", {"quality": 10}),
    ("TIFF", {}),
    ("TIFF", {"compression": "tiff_adobe_deflate"}),
    ("TIFF", {"compression": "jpeg"}),
    ("TIFF", {"compression": "tiff_lzw"}),
    ("AVIF", {"quality": 10}),
    ("BMP", {}),
    ("PPM", {}),
    ("GIF", {}),
    ("JPEG2000", {}),
    ("JPEG2000", {"no_jp2": True}),
    ("TGA", {}),
    ("PCX", {}),
    ("SGI", {}),
    ("QOI", {}),
)
"""Formats that Pillow writes, and how."""
_HOLD_METADATA = {"PNG", "JPEG", "WEBP", "AVIF"}


@functools.cache
def some_metadata() -> tuple[bytes, bytes, bytes]:
    """EXIF with directories below the first, XMP with orientation and a promise, a profile."""
    exif = Image.Exif()
    exif[274], exif[315] = 6, "me"
    exif.get_ifd(34665)[36867] = "2020:01:01 00:00:00"
    exif.get_ifd(34853)[1] = "N"
    packet = (
        b'<x xmlns:h="http://ns.adobe.com/hdr-gain-map/1.0/" h:Version="1.0">'
        b"<tiff:Orientation>6</tiff:Orientation></x>"
    )
    return exif.tobytes(), packet, bytes(16) + b"RGB " + bytes(108)


@functools.cache
def valid_kinds() -> tuple[tuple[str, bytes], ...]:
    """Small pictures of many kinds: Pillow's name of the format, and the file."""
    picture = Image.open(ROOT / "tests" / "pictures" / "hibiscus.png").convert("RGB")
    exif, packet, profile = some_metadata()
    files = []
    for kind, options in SAVED:
        beside = {"exif": exif, "icc_profile": profile} if kind in _HOLD_METADATA else {}
        if kind in {"JPEG", "WEBP", "AVIF"}:
            beside["xmp"] = packet
        buffer = io.BytesIO()
        picture.crop((0, 0, 24, 17)).save(buffer, kind, **options | beside)
        files.append((kind, buffer.getvalue()))
    one = picture.crop((0, 0, 24, 17)).convert("1")
    for options in ({"compression": "group3"}, {"compression": "group4"}):
        buffer = io.BytesIO()
        one.save(buffer, "TIFF", **options)
        files.append(("TIFF", buffer.getvalue()))
    return tuple(files)


def valid_pictures() -> list[bytes]:
    """The files of `valid_kinds`."""
    return [data for _, data in valid_kinds()]


def try_pictures(data: bytes) -> None:
    """A picture file is prepared for coding, or refused for a reason that is in the file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            image = open_picture(data, "x", MAX_PIXELS)
            notes(image)
            coded = to_coded(image)
        except PictureError as error:
            check_message(error)
            _check_cause(error)
            return
    height, width = coded.pixels.shape[:2]
    assert 0 < width * height <= MAX_PIXELS
    assert coded.alpha is None or coded.alpha.shape == (height, width)


def _check_cause(error: BaseException) -> None:
    """No reader of ours has stumbled: what is wrong with a file is said, or comes from Pillow."""
    while error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, VrcodecError):
        return
    last = traceback.extract_tb(error.__traceback__)[-1]
    assert "vrcodec/pictures" not in last.filename, f"{last.filename}:{last.lineno}: {error!r}"


TARGETS = {
    "container": (try_container, valid_files),
    "entropy": (try_entropy, valid_sections),
    "decode": (try_decode, valid_files),
    "weights": (try_weights, valid_weights),
    "metadata": (try_metadata, valid_metadata),
    "pictures": (try_pictures, valid_pictures),
}
"""Every target: what is tried, and valid inputs to begin with."""
