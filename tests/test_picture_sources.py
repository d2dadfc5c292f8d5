"""Source files of every kind against readers that are not Pillow: tifffile and imagecodecs."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from vrcodec.errors import PictureError
from vrcodec.pictures import open_picture, to_coded

tifffile = pytest.importorskip("tifffile")
imagecodecs = pytest.importorskip("imagecodecs")

MANY = settings(max_examples=250, deadline=None, derandomize=True)


def to_eight(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Samples of any type that is spanned, as 8 bits."""
    if values.dtype == np.bool_:
        return (values * 255).astype(np.uint8)
    if values.dtype.kind == "f":
        return np.rint(255 * values.clip(0, 1)).astype(np.uint8)
    top = np.iinfo(values.dtype).max
    return np.rint(values.astype(np.float64) / top * 255).astype(np.uint8)


def read(data: bytes, name: str = "x") -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None, bool]:
    """Pixels, alpha and greyness as they would be coded."""
    coded = to_coded(open_picture(data, name))
    return coded.pixels, coded.alpha, coded.grey


def near(ours: NDArray[Any], theirs: NDArray[Any], within: int = 1) -> bool:
    differences = abs(ours.astype(int) - theirs.astype(int))
    return ours.shape == theirs.shape and bool((differences <= within).all())


# TIFF


@st.composite
def tiff_files(draw: st.DrawFn) -> tuple[bytes, dict[str, Any], NDArray[Any]]:
    """A TIFF file written by tifffile, how it was asked for, and its samples."""
    random = np.random.default_rng(draw(st.integers(0, 999)))
    photometric = draw(st.sampled_from(["minisblack", "miniswhite", "rgb", "separated"]))
    types = ["u1", "u1", "u2", "u2", "u4", "u8", "i1", "i2", "i4", "f2", "f4", "f8"]
    dtype = np.dtype(draw(st.sampled_from(types)))
    extra = draw(st.sampled_from([None, "unassalpha", "assocalpha", "unspecified"]))
    count = {"rgb": 3, "separated": 4}.get(photometric, 1) + (extra is not None)
    planar = draw(st.sampled_from(["contig", "separate"])) if count > 1 else None
    height, width = draw(st.integers(1, 40)), draw(st.integers(2, 40))
    shape = (height, width, count) if count > 1 else (height, width)
    if dtype.kind == "f":
        values = random.random(shape).astype(dtype)
    else:
        bounds = np.iinfo(dtype)
        low = 0 if draw(st.booleans()) else bounds.min
        values = random.integers(low, bounds.max, shape, dtype=dtype, endpoint=True)
    if extra == "assocalpha":  # opaque: otherwise colours would have to be multiplied
        values[..., -1] = 1 if dtype.kind == "f" else np.iinfo(dtype).max
    options: dict[str, Any] = {
        "photometric": photometric,
        "compression": draw(st.sampled_from([None, "zlib", "lzw", "packbits"])),
        "byteorder": draw(st.sampled_from("<>")),
        "bigtiff": draw(st.booleans()),
    }
    if options["compression"] in {"zlib", "lzw"} and dtype.kind in "ui" and dtype.itemsize < 4:
        options["predictor"] = draw(st.booleans())
    if draw(st.booleans()):
        options["tile"] = (16, 16)
    else:
        options["rowsperstrip"] = draw(st.integers(1, height))
    if planar:
        options["planarconfig"] = planar
    if extra:
        options["extrasamples"] = [extra]
    buffer = io.BytesIO()
    written = np.moveaxis(values, -1, 0) if planar == "separate" else values
    tifffile.imwrite(buffer, written, metadata=None, **options)
    return buffer.getvalue(), options | {"dtype": dtype, "extra": extra}, values


@pytest.mark.slow
@MANY
@given(tiff_files())
def test_tiff_is_read_as_tifffile_reads_it_or_refused(
    case: tuple[bytes, dict[str, Any], NDArray[Any]],
) -> None:
    data, how, values = case
    own = np.squeeze(tifffile.imread(io.BytesIO(data)))
    if how.get("planarconfig") == "separate":
        own = np.moveaxis(tifffile.imread(io.BytesIO(data)), 0, -1)
    assert np.array_equal(np.squeeze(own), np.squeeze(values))
    try:
        pixels, alpha, grey = read(data)
    except PictureError as error:
        assert must_be_refused(how) or may_be_refused(how), f"{error}: {how}"
        return
    assert not must_be_refused(how), how
    assert how["dtype"].kind != "i" or values.min() >= 0
    if how["photometric"] == "separated":
        return  # CMYK is converted, with a note
    expected = to_eight(values).reshape(*pixels.shape[:2], -1)
    if how["photometric"] == "miniswhite":
        expected = np.concatenate([255 - expected[..., :1], expected[..., 1:]], axis=2)
    colours = expected[..., : 1 if grey else 3]
    shown = slice(None) if alpha is None else alpha > 0
    if how["extra"] != "assocalpha":
        assert near(pixels[shown], np.broadcast_to(colours, pixels.shape)[shown]), how
    if how["extra"] == "unassalpha":
        assert alpha is not None or expected[..., -1].min() >= 254
        assert alpha is None or near(alpha, expected[..., -1]), how
    if how["extra"] in {None, "unspecified"}:
        assert alpha is None, how


def must_be_refused(how: dict[str, Any]) -> bool:
    return how["dtype"].str[1:] in {"i1", "i2"} or how["dtype"].itemsize == 8


def may_be_refused(how: dict[str, Any]) -> bool:
    """What is too rare for more than an error; everything else has to be read."""
    plain = how["extra"] is None and how["photometric"] in {"minisblack", "rgb"}
    if not plain or how.get("planarconfig") == "separate":
        return True
    if how["bigtiff"] and how["byteorder"] == ">":
        return True
    if how["photometric"] == "rgb":
        return how["dtype"].str[1:] not in {"u1", "u2"}
    return how["dtype"].str[1:] not in {"u1", "u2", "f4"}


# PNG


def png(colour: int, depth: int, samples: NDArray[Any], chunks: list[tuple[bytes, bytes]]) -> bytes:
    """A PNG file of samples (height, width, channels) that fit in `depth` bits."""
    height, width, _ = samples.shape
    if depth == 16:
        rows = samples.astype(">u2").reshape(height, -1).view(np.uint8)
    else:
        bits = np.unpackbits(samples.astype(np.uint8)[..., None], axis=-1)[..., 8 - depth :]
        rows = np.packbits(bits.reshape(height, -1), axis=1)
    lines = np.concatenate([np.zeros((height, 1), np.uint8), rows], axis=1).tobytes()
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    parts = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(lines)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in parts
    )


@st.composite
def png_files(draw: st.DrawFn) -> tuple[bytes, int, int, NDArray[Any], Any]:
    kinds = [(0, d) for d in (1, 2, 4, 8, 16)] + [(c, d) for c in (2, 4, 6) for d in (8, 16)]
    colour, depth = draw(st.sampled_from([*kinds, (3, 1), (3, 2), (3, 4), (3, 8)]))
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    random = np.random.default_rng(draw(st.integers(0, 999)))
    height, width = draw(st.integers(1, 20)), draw(st.integers(1, 20))
    samples = random.integers(0, 2**depth, (height, width, channels))
    chunks, key = [], None
    if colour == 3:
        palette = random.integers(0, 256, (2**depth, 3), dtype=np.uint8)
        chunks.append((b"PLTE", palette.tobytes()))
        if draw(st.booleans()):
            key = random.integers(0, 256, draw(st.integers(1, 2**depth)), dtype=np.uint8)
            chunks.append((b"tRNS", key.tobytes()))
        alphas = np.full(2**depth, 255)
        alphas[: 0 if key is None else len(key)] = [] if key is None else key
        truth = palette[samples[..., 0]], alphas[samples[..., 0]]
        return png(colour, depth, samples, chunks), colour, depth, truth[0], truth[1]
    alpha = np.full((height, width), 255)
    if colour in {0, 2} and draw(st.booleans()):
        key = samples[draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))]
        if draw(st.booleans()):
            samples[0, 0] = key ^ 1  # next to the key, and not it
        chunks.append((b"tRNS", key.astype(">u2").tobytes()))
        alpha = np.where((samples == key).all(axis=2), 0, 255)
    top = 2**depth - 1
    levels = np.rint(samples / top * 255)
    if colour in {4, 6}:
        levels, alpha = levels[..., :-1], levels[..., -1]
    return png(colour, depth, samples, chunks), colour, depth, levels, alpha


@pytest.mark.slow
@MANY
@given(png_files())
def test_png_of_every_depth_and_key(case: tuple[bytes, int, int, NDArray[Any], Any]) -> None:
    data, colour, depth, levels, alphas = case
    pixels, alpha, grey = read(data)
    assert grey == (colour in {0, 4}) or colour == 3
    alpha = np.full(pixels.shape[:2], 255) if alpha is None else alpha
    assert near(alpha, alphas, 1 if depth == 16 and colour > 3 else 0)
    shown = alpha > 0
    assert near(pixels[shown], np.broadcast_to(levels, pixels.shape)[shown], depth == 16)
    if depth == 8 and colour in {2, 6}:  # the reader agrees that this is what the file says
        theirs = imagecodecs.png_decode(data)
        assert np.array_equal(theirs[..., :3][shown], pixels[shown])


# What Pillow writes, read by others


READERS = {
    "PNG": imagecodecs.png_decode,
    "JPEG": imagecodecs.jpeg8_decode,
    "WEBP": imagecodecs.webp_decode,
    "QOI": imagecodecs.qoi_decode,
    "BMP": imagecodecs.bmp_decode,
    "JPEG2000": imagecodecs.jpeg2k_decode,
    "AVIF": imagecodecs.avif_decode,
    "GIF": imagecodecs.gif_decode,
}
MODES = ["1", "L", "LA", "I;16", "P", "RGB", "RGBA"]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("format", READERS)
def test_what_pillow_writes_is_what_others_read(format: str, mode: str) -> None:
    random = np.random.default_rng(3)
    small = Image.fromarray(random.integers(0, 256, (5, 7, 4), dtype=np.uint8))
    image = small.resize((40, 30), Image.Resampling.BICUBIC)
    if mode == "I;16":
        values = np.asarray(image.convert("L")).astype("<u2") * 257
        image = Image.frombytes("I;16", image.size, values.tobytes())
    elif mode in {"L", "LA", "RGBA"}:
        image = image.convert(mode)
    else:
        image = image.convert("RGB").convert(mode)
    buffer = io.BytesIO()
    try:
        image.save(buffer, format)
    except (OSError, ValueError):
        pytest.skip(f"Pillow does not write {mode} as {format}")
    data = buffer.getvalue()
    try:
        theirs = READERS[format](data)
    except Exception:
        pytest.skip(f"imagecodecs does not read {mode} in {format}")
    theirs = to_eight(np.squeeze(theirs))
    pixels, alpha, _ = read(data)
    if theirs.ndim == 2:
        theirs = theirs[..., None]
    colours = theirs[..., :3] if theirs.shape[2] >= 3 else theirs[..., :1]
    shown = slice(None) if alpha is None else alpha > 0
    within = 3 if format in {"JPEG", "AVIF"} else 1
    assert near(pixels[shown], np.broadcast_to(colours, pixels.shape)[shown], within)
    if alpha is not None and theirs.shape[2] in {2, 4}:
        assert near(alpha, theirs[..., -1])


# Orientation


def turned(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """What EXIF 2.32 says of the eight orientations: where row 0 and column 0 are on the screen."""
    pixels = pixels.swapaxes(0, 1) if orientation >= 5 else pixels
    rows = -1 if orientation in {3, 4, 7, 8} else 1
    columns = -1 if orientation in {2, 3, 6, 7} else 1
    return pixels[::rows, ::columns]


@pytest.mark.slow
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "P", "1", "I;16"])
@pytest.mark.parametrize("name", ["JPEG", "PNG", "TIFF", "WEBP", "AVIF"])
def test_orientation_turns_every_mode_of_every_format(
    name: str, mode: str, orientation: int
) -> None:
    colours = np.array([[250, 20, 20], [20, 250, 20], [20, 20, 250], [250, 250, 20]], np.uint8)
    quarters = np.repeat(np.repeat(colours.reshape(2, 2, 3), 16, axis=0), 24, axis=1)
    image = Image.fromarray(quarters)
    if mode.endswith("A"):
        image.putalpha(Image.fromarray(quarters[..., 0]))
    image = image.convert("L").convert("I;16") if mode == "I;16" else image.convert(mode)
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image) * np.uint16(257))
    plain, buffer = io.BytesIO(), io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if name == "WEBP" else {"quality": 95} if name == "AVIF" else {}
    try:
        image.save(plain, name, **options)
        image.save(buffer, name, exif=exif, **options)
    except (OSError, KeyError):
        pytest.skip(f"Pillow does not write {mode} as {name}")
    pixels, alpha, grey = read(plain.getvalue())
    found = read(buffer.getvalue())
    assert near(found[0], turned(pixels, orientation), 0) and found[2] == grey
    assert (found[1] is None) == (alpha is None)
    if alpha is not None and found[1] is not None:
        assert near(found[1], turned(alpha, orientation), 0)
