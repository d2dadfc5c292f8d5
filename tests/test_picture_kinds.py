"""Kinds of files that were once read wrong, or lost something unsaid: each with its siblings."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import struct
import subprocess
import sys
import threading
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageCms, PngImagePlugin

from vrcodec.bitstream.container import Extra
from vrcodec.errors import PictureError
from vrcodec.pictures import (
    FORMATS,
    formats,
    from_coded,
    notes,
    open_picture,
    read_pixels,
    save_picture,
    to_coded,
    to_file,
    xmp,
)
from vrcodec.pictures.exif import Block, Tree, packed

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
ADOBE = (0.3127, 0.329, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06)


@pytest.fixture(scope="module")
def photo(pictures: Path) -> Image.Image:
    with Image.open(pictures / "hibiscus.png") as file:
        return file.convert("RGB")


def saved(image: Image.Image, format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def with_chunks(data: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG file with further chunks before its pixels."""
    new = b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )
    return data[:33] + new + data[33:]


def exif_block(first: dict[int, tuple[int, bytes]], order: str = "<") -> bytes:
    return packed(Tree(order, first))


def jpeg_with(data: bytes, *segments: tuple[int, bytes]) -> bytes:
    new = b"".join(
        b"\xff" + bytes([marker]) + struct.pack(">H", 2 + len(body)) + body
        for marker, body in segments
    )
    return data[:2] + new + data[2:]


def kept(data: bytes, **options: Any) -> tuple[Image.Image, tuple[str, ...]]:
    """The picture after its way through the sections of a file, and what was said."""
    coded = to_coded(open_picture(data, "x"), **options)
    return from_coded(coded.pixels, coded.grey, coded.extras), coded.notes


@pytest.mark.parametrize("fill", [1, 2, 3, 100])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_fill_bytes_before_any_marker_of_a_jpeg(fill: int, mode: str, photo: Image.Image) -> None:
    """ITU-T T.81, B.1.1.2."""
    data = saved(photo.convert(mode), "JPEG", restart_marker_blocks=4)
    plain = np.asarray(open_picture(data, "x"))
    scan = data.index(b"\xff\xda")
    filled = data[:scan] + b"\xff" * fill + data[scan:-2] + b"\xff" * fill + data[-2:]
    strip = tiff_of_jpeg(filled, photo.size, len(mode))
    for file in (filled, strip):
        for image in (open_picture(file, "x"), Image.open(io.BytesIO(file))):
            coded = to_coded(image)
            assert np.abs(coded.pixels.astype(int) - np.atleast_3d(plain)).max() <= 1
    for cut in (filled[:-2], data[:-60] + b"\xff" * 60 + data[-2:]):
        with pytest.raises(PictureError):
            open_picture(tiff_of_jpeg(cut, photo.size, len(mode)), "x")


def tiff_of_jpeg(data: bytes, size: tuple[int, int], samples: int) -> bytes:
    """A TIFF file whose only strip is a JPEG file."""
    values = {256: size[0], 257: size[1], 258: 8, 259: 7, 262: 6 if samples == 3 else 1}
    values |= {273: 8 + 2 + 12 * 9 + 4, 277: samples, 278: size[1], 279: len(data)}
    rows = [struct.pack("<HHII", tag, 4, 1, value) for tag, value in values.items()]
    return b"II*\0\x08\0\0\0" + struct.pack("<H", 9) + b"".join(rows) + bytes(4) + data


# The one list of formats


def test_lists_of_suffixes_agree() -> None:
    assert tuple(dict.fromkeys(formats.WRITTEN_SUFFIXES.values())) == FORMATS
    assert set(formats.WRITTEN_SUFFIXES) <= formats.READ_SUFFIXES
    names = [suffix for format in formats.KNOWN for suffix in format.suffixes]
    assert len(names) == len(set(names))


def table_of_docs(first: str) -> list[list[str]]:
    text = (Path(__file__).parent.parent / "docs" / "pictures.md").read_text()
    lines = text[text.index(first) :].partition("\n\n")[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_docs_name_every_format_that_is_read() -> None:
    rows = table_of_docs("| format | names | read |")[2:]
    told = {row[0]: (tuple(row[1].split()), row[2]) for row in rows}
    assert told == {
        format.name: (format.suffixes, f"with {format.package}" if format.package else "yes")
        for format in formats.KNOWN
    }


def test_docs_say_what_every_written_format_holds() -> None:
    head, _, *rows = table_of_docs("| | PNG | JPEG |")
    told = {row[0]: dict(zip(head[1:], row[1:], strict=True)) for row in rows}
    lines = {"alpha": "alpha", "ICC profile": "icc", "EXIF": "exif", "XMP": "xmp"}
    for line, attribute in (lines | {"resolution": "dpi"}).items():
        for format in formats.WRITTEN.values():
            cell = told[line]["WebP" if format.name == "webp" else format.name.upper()]
            assert getattr(format, attribute) == (cell not in {"no", "refused"}), (
                line,
                format.name,
            )


def test_list_of_formats_needs_no_pillow() -> None:
    program = "import sys, vrcodec.pictures.formats; sys.exit('PIL' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


@pytest.mark.parametrize("format", FORMATS)
def test_format_holds_what_the_list_says(format: str, photo: Image.Image) -> None:
    kind = formats.WRITTEN[format]
    block = b"Exif\0\0" + exif_block({ExifTags.Base.Artist: (2, b"Somebody\0")})
    photo = photo.copy()
    photo.info = {"icc_profile": SRGB, "exif": block, "xmp": b"<x/>", "dpi": (300.0, 300.0)}
    written = to_file(photo, format)
    again = open_picture(written.data, "x")
    assert ("icc_profile" in again.info) == kind.icc
    assert (b"Somebody" in again.info.get("exif", b"")) == kind.exif
    assert (again.info.get("xmp") == b"<x/>") == kind.xmp
    assert (round(again.info.get("dpi", (0, 0))[0]) == 300) == kind.dpi
    for name, there in (("EXIF", kind.exif), ("XMP", kind.xmp), ("resolution", kind.dpi)):
        assert any(note.startswith(name) for note in written.notes) != there
    assert any("sRGB" in note for note in written.notes) != kind.icc
    stripped = to_file(photo, format, strip=True)
    assert not stripped.notes and b"Somebody" not in stripped.data


# The door


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "PostScript"),
        (b"\x1c\x03\x3c\0\2\1\0" + bytes(40), "IPTC"),
        (b"icns" + bytes(40), "ICNS"),
        (b"\0\0\1\0\1\0" + bytes(40), "ICO"),
        (b"\0\0\0\x18ftypcrx isom" + bytes(40), "CR3"),
        (b"\xd7\xcd\xc6\x9a" + bytes(40), "metafile"),
        (b"DDS " + bytes(140), "DDS"),
    ],
)
def test_what_is_not_on_the_list_is_named(data: bytes, what: str) -> None:
    with pytest.raises(PictureError, match=what) as caught:
        open_picture(data, "NAME")
    assert str(caught.value).startswith("NAME: ")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no such files here")
def test_special_files_are_not_opened(tmp_path: Path) -> None:
    pipe = tmp_path / "a.png"
    os.mkfifo(pipe)
    for path in (pipe, Path("/dev/zero")):
        with pytest.raises(PictureError, match="not a regular file"):
            open_picture(path, "x")


def test_pages_are_counted_in_a_moment() -> None:
    entries = [(256, 4, 8), (257, 4, 8), (258, 3, 8), (259, 3, 1), (262, 3, 1), (273, 4, 8)]
    entries += [(277, 3, 1), (278, 4, 8), (279, 4, 64)]
    body = struct.pack("<H", len(entries))
    body += b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries)
    count = 60_000
    places = [8 + (len(body) + 4) * i for i in range(1, count)] + [0]
    data = b"II*\0\x08\0\0\0" + b"".join(body + struct.pack("<I", at) for at in places)
    image = open_picture(data + bytes(64), "x")
    assert notes(image) == ("first of more than 1000 frames",)


def test_pillows_limit_is_not_touched_for_ordinary_pictures(photo: Image.Image) -> None:
    data, seen, done = saved(photo, "PNG"), set(), threading.Event()

    def watch() -> None:
        while not done.is_set():
            seen.add(Image.MAX_IMAGE_PIXELS)

    watcher = threading.Thread(target=watch)
    watcher.start()
    for _ in range(20):
        open_picture(data, "x", max_pixels=10_000)
    done.set()
    watcher.join()
    assert seen == {Image.MAX_IMAGE_PIXELS}


def test_libtiff_says_nothing(photo: Image.Image, vrcodec_environment: dict[str, str]) -> None:
    damaged = bytearray(saved(photo, "TIFF", compression="tiff_lzw"))
    damaged[3000:3100] = bytes(100)
    program = (
        "import sys; from vrcodec.pictures import open_picture\n"
        "try: open_picture(sys.stdin.buffer, 'x')\n"
        "except Exception as error: print(error)\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program],
        input=bytes(damaged),
        capture_output=True,
        env=vrcodec_environment,
    )
    assert ran.stdout.startswith(b"x: cannot be read") and ran.stderr == b""


@pytest.mark.parametrize("package", ["heic", "jxl"])
def test_formats_of_other_packages(package: str, photo: Image.Image) -> None:
    if package == "heic":
        heif = pytest.importorskip("pillow_heif")
        buffer = io.BytesIO()
        heif.from_pillow(photo).save(buffer, quality=95)
        data = buffer.getvalue()
    else:
        pytest.importorskip("pillow_jxl")
        data = saved(photo, "JXL")
    pixels = read_pixels(data, "x")
    assert abs(pixels.astype(int) - np.asarray(photo)).mean() < 6


def test_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(PictureError, match="HEIC pictures need the package pillow-heif"):
        open_picture(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(40), "x")


# Never half a picture


def early_end(data: bytes, progressive: bool = False) -> bytes:
    return data[: len(data) * 2 // 3].rstrip(b"\xff") + b"\xff\xd9"


@pytest.mark.parametrize(
    "options",
    [{}, {"progressive": True}, {"restart_marker_rows": 1}, {"subsampling": 0, "optimize": True}],
    ids=["baseline", "progressive", "restarts", "optimised"],
)
def test_jpeg_that_ends_too_soon(options: dict[str, Any], pictures: Path) -> None:
    with Image.open(pictures / "macaw.png") as file:
        data = saved(file.convert("RGB"), "JPEG", **options)
    assert open_picture(data, "x").size == (256, 192)
    with pytest.raises(PictureError, match="damaged JPEG"):
        open_picture(early_end(data), "x")


def test_flat_jpeg_is_whole() -> None:
    for options in ({}, {"progressive": True}, {"restart_marker_rows": 1}):
        data = saved(Image.new("RGB", (100, 70), (9, 99, 200)), "JPEG", **options)
        assert open_picture(data, "x").size == (100, 70)


@pytest.mark.parametrize("where", ["short", "checksum", "adler"])
def test_damaged_png(where: str, photo: Image.Image) -> None:
    width, height = photo.size
    rows = np.asarray(photo).reshape(height, -1)
    lines = np.concatenate([np.zeros((height, 1), np.uint8), rows], axis=1).tobytes()
    packed_lines = zlib.compress(lines if where != "short" else lines[: len(lines) // 2])
    if where == "adler":
        packed_lines = packed_lines[:-1] + bytes([packed_lines[-1] ^ 1])
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = [(b"IHDR", head), (b"IDAT", packed_lines), (b"IEND", b"")]
    data = bytearray(with_chunks(b"\x89PNG\r\n\x1a\n".ljust(33), *parts))
    del data[8:33]
    if where == "checksum":
        data[200] ^= 1
    with pytest.raises(PictureError, match="damaged PNG"):
        open_picture(bytes(data), "x")


@pytest.mark.parametrize("compression", ["tiff_adobe_deflate", "jpeg", "tiff_lzw", "packbits"])
def test_damaged_tiff(compression: str, photo: Image.Image) -> None:
    data = bytearray(saved(photo, "TIFF", compression=compression))
    image = Image.open(io.BytesIO(data))
    start, length = image.tag_v2[273][0], image.tag_v2[279][0]
    data[start + length // 2 : start + length] = bytes(length - length // 2)
    with pytest.raises(PictureError, match="cannot be read"):
        open_picture(bytes(data), "x")


@pytest.mark.parametrize("format", ["GIF", "WEBP", "BMP", "PPM", "TGA", "QOI", "SGI", "PCX"])
def test_cut_pictures(format: str, photo: Image.Image) -> None:
    data = saved(photo, format)
    with pytest.raises(PictureError, match="cannot be read"):
        open_picture(data[: len(data) * 2 // 3], "x")


# Never another picture


@pytest.mark.parametrize("suffix", ["DNG", "EP", "CR2", "mask", "reduced", "larger SubIFD"])
def test_raw_photographs_and_thumbnails_are_refused(suffix: str, photo: Image.Image) -> None:
    small = photo.resize((16, 12))
    image = Image.open(io.BytesIO(saved(small, "TIFF")))
    extra = {
        "DNG": {50706: (1, b"\1\4\0\0")},
        "EP": {37398: (1, b"\1\0\0\0")},
        "reduced": {254: (4, b"\1\0\0\0")},
        "mask": {254: (4, b"\4\0\0\0")},
        "larger SubIFD": {330: (4, struct.pack("<I", 8))},
        "CR2": {},
    }[suffix]
    own = {tag: image.tag_v2._tagdata[tag] for tag in image.tag_v2._tagdata}
    kinds = {tag: image.tag_v2.tagtype[tag] for tag in own}
    first = {tag: (kinds[tag], value) for tag, value in own.items()} | extra
    larger = {256: (4, struct.pack("<I", 64)), 257: (4, struct.pack("<I", 48))}
    inner = packed(Tree("<", larger))[8:]
    block = packed(Tree("<", first))
    if suffix == "CR2":
        data = b"II*\0\x10\0\0\0CR\2\0\0\0\0\0" + block[8:]
    else:
        moved = packed(Tree("<", first | ({330: (4, b"\x08\0\0\0")} if 330 in first else {})))
        data = b"II*\0" + struct.pack("<I", 8 + len(inner)) + inner + moved[8:]
    with pytest.raises(PictureError, match=r"raw photograph|thumbnail|mask"):
        open_picture(data, "x")


@pytest.mark.parametrize(
    ("bits", "white"), [(0, False), (1, True), (8, True)], ids=["none", "one", "eight"]
)
def test_tga_alpha_bits(bits: int, white: bool, photo: Image.Image) -> None:
    clear = photo.convert("RGBA")
    clear.putalpha(0)
    data = bytearray(saved(clear, "TGA"))
    data[17] = data[17] & 0xF0 | bits
    coded = to_coded(open_picture(bytes(data), "x.tga"))
    assert (coded.alpha is not None) == white
    assert any("transparent" in note for note in coded.notes) == white
    if not white:
        assert np.array_equal(coded.pixels, np.asarray(photo))


def test_first_frame_of_a_gif_on_its_canvas() -> None:
    frame = Image.new("P", (3, 2), 1)
    frame.putpalette([9, 9, 9, 200, 0, 0] + [0] * 762)
    data = bytearray(saved(frame, "GIF"))
    data[6:10] = struct.pack("<HH", 8, 6)
    place = data.index(b"\x2c", 13 + (3 << (data[10] & 7) + 1))
    data[place + 1 : place + 5] = struct.pack("<HH", 4, 3)
    coded = to_coded(open_picture(bytes(data), "x"))
    assert coded.pixels.shape == (6, 8, 3)
    assert coded.alpha is not None and (coded.alpha > 0).sum() == 6
    assert (coded.alpha[3:5, 4:7] == 255).all()
    assert (coded.pixels[3:5, 4:7] == (200, 0, 0)).all()


def test_a_loaded_picture_is_as_its_file_says(photo: Image.Image, tmp_path: Path) -> None:
    """What Pillow forgets when it has loaded a picture: the frame, depths, greyness."""
    frame = bytearray(saved(photo.convert("P"), "GIF"))
    frame[6:10] = struct.pack("<HH", photo.width + 9, photo.height + 5)
    random = np.random.default_rng(3)
    deep = random.integers(0, 65536, (7, 9, 3), dtype=np.uint16)
    files = {
        "gif": bytes(frame),
        "ppm": b"P6 9 7 1023\n" + (deep >> 6).astype(">u2").tobytes(),
        "png": png_of(9, 7, 16, 2, deep),
        "grey": png_of(9, 7, 16, 4, deep[..., :2]),
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
        whole, loaded = to_coded(open_picture(data, name)), Image.open(tmp_path / name)
        loaded.load()
        again = to_coded(loaded)
        assert np.array_equal(again.pixels, whole.pixels), name
        assert np.array_equal(again.alpha, whole.alpha), name
        for fact in ("grey", "sixteen_bit", "notes"):
            assert getattr(again, fact) == getattr(whole, fact), (name, fact)
    drawn = Image.open(io.BytesIO(bytes(frame)))
    drawn.putpixel((photo.width + 8, 0), 7)  # outside of the file's frame
    assert to_coded(drawn).alpha is None


def png_of(width: int, height: int, bits: int, kind: int, samples: np.ndarray[Any, Any]) -> bytes:
    head = struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0)
    lines = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    parts = [(b"IHDR", head), (b"IDAT", zlib.compress(lines)), (b"IEND", b"")]
    data = bytearray(with_chunks(b"\x89PNG\r\n\x1a\n".ljust(33), *parts))
    del data[8:33]
    return bytes(data)


def psd_of(mode: int, planes: list[bytes], depth: int = 8, layers: bytes = b"") -> bytes:
    """Four pixels wide and two high; eight wide where samples are bits."""
    width = 8 if depth == 1 else 4
    head = b"8BPS" + struct.pack(">H6xHIIHH", 1, len(planes), 2, width, depth, mode)
    inner = struct.pack(">I", len(layers)) + layers if layers else b""
    return head + bytes(8) + struct.pack(">I", len(inner)) + inner + b"\0\0" + b"".join(planes)


def test_further_channels_of_psd(photo: Image.Image) -> None:
    """The same through Pillow, which counts frames of PSD from 1, and through our own door."""
    spot = psd_of(3, [bytes([n]) * 8 for n in (10, 20, 30, 40)])
    for image in (open_picture(spot, "x"), Image.open(io.BytesIO(spot))):
        coded = to_coded(image)
        assert coded.alpha is None and coded.pixels[0, 0].tolist() == [10, 20, 30]
    bitmap = psd_of(0, [b"\xf0\x0f"], depth=1)
    assert to_coded(open_picture(bitmap, "x")).pixels[0, :, 0].tolist() == [0] * 4 + [255] * 4
    clear = psd_of(1, [bytes(8), bytes(8)], layers=struct.pack(">h", -1) + bytes(2))
    with pytest.raises(PictureError, match="grey PSD with transparency"):
        open_picture(clear, "x")
    with pytest.raises(PictureError, match="multichannel"):
        open_picture(psd_of(7, [bytes(8)] * 3), "x")


@pytest.mark.parametrize("text", [b"P1\n# c\n3 2\n101\n010\n", b"P4\n3 2\n\xa0\x40"])
def test_bitmaps(text: bytes) -> None:
    coded = to_coded(open_picture(text, "x"))
    assert coded.grey and coded.pixels[..., 0].tolist() == [[0, 255, 0], [255, 0, 255]]


def test_what_pillow_reads_askew_is_refused() -> None:
    pixels = bytes(range(48))
    for depth, kind, text in ((32, 1, "32 bits"), (8, 2, "odd length"), (24, 2, "odd length")):
        head = struct.pack(">8I", 0x59A66A95, 3, 2, depth, len(pixels), kind, 0, 0)
        with pytest.raises(PictureError, match=f"Sun raster .*{text}"):
            open_picture(head + pixels, "x")
    for colour in (b"#FFFF00008080", b"#f08", b"#001002003"):
        text = b'/* XPM */\nstatic char * a[] = {\n"1 1 1 1",\n"a c %b",\n"a",\n};\n' % colour
        with pytest.raises(PictureError, match="XPM with colours of other than six digits"):
            open_picture(text, "x")


ARITHMETIC = (
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAAYEBQYFBAYGBQYHBwYIChAKCgkJChQODwwQFxQYGBcUFhYaHSUfGhsjHBYW"
    "ICwgIyYnKSopGR8tMC0oMCUoKSj/2wBDAQcHBwoIChMKChMoGhYaKCgoKCgoKCgoKCgoKCgoKCgoKCgoKCgoKCgoKCgo"
    "KCgoKCgoKCgoKCgoKCgoKCgoKCj/yQARCAAIAAgDASIAAhEBAxEB/8wACgAQEAUBEBEF/9oADAMBAAIRAxEAPwD9ZxeP"
    "YJ1iETpR1rLCla85/9k="
)
"""A JPEG of 8x8, arithmetic-coded."""


def test_arithmetic_jpeg_is_read() -> None:
    """Its decoder looks beyond the end of whole data, and so no bytes there tell of a cut."""
    data = base64.b64decode(ARITHMETIC)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    for image in (open_picture(data, "x"), Image.open(io.BytesIO(data))):
        np.testing.assert_array_equal(to_coded(image).pixels, expected)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_deep_jpeg2000_is_grey_or_refused(channels: int) -> None:
    """Pillow rounds white up to what no longer fits, which is black."""
    codecs = pytest.importorskip("imagecodecs")
    white = np.full((8, 8, channels)[: 2 + (channels > 1)], 4095, np.uint16)
    data = codecs.jpeg2k_encode(white, codecformat="jp2", bitspersample=12, reversible=True)
    if channels == 1:
        assert to_coded(open_picture(data, "x")).pixels.min() == 255
    else:
        with pytest.raises(PictureError, match="JPEG 2000 of 12 bits per sample with"):
            open_picture(data, "x")


@pytest.mark.parametrize("bits", [8, 10, 16])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_depth_of_jpeg_xl_is_said(bits: int, channels: int) -> None:
    pytest.importorskip("pillow_jxl")
    codecs = pytest.importorskip("imagecodecs")
    kind = np.uint8 if bits == 8 else np.uint16
    samples = np.zeros((9, 12, channels)[: 2 + (channels > 1)], kind)
    coded = to_coded(
        open_picture(codecs.jpegxl_encode(samples, lossless=True, bitspersample=bits), "x")
    )
    assert coded.sixteen_bit == any("8 bits" in note for note in coded.notes) == (bits > 8)


def test_depth_of_sgi_is_said() -> None:
    head = struct.pack(">HBBHHHHII", 474, 0, 2, 3, 2, 2, 3, 0, 65535).ljust(512, b"\0")
    coded = to_coded(open_picture(head + bytes(24), "x"))
    assert coded.sixteen_bit and coded.notes == ("coded at 8 bits (16 in the source)",)


@pytest.mark.parametrize("mode", ["L", "LA"])
def test_grey_avif_is_grey_or_has_no_profile_for_it(mode: str, photo: Image.Image) -> None:
    image = photo.convert(mode)
    if mode == "LA":
        image.putalpha(100)
    image.info["icc_profile"] = b"\0" * 16 + b"GRAY" + bytes(200)
    opened = Image.open(io.BytesIO(to_file(image, "avif").data))
    if mode == "L":
        assert opened.mode == "L" and opened.info["icc_profile"][16:20] == b"GRAY"
        difference = np.asarray(opened).astype(int) - np.asarray(photo.convert("L"))
        assert abs(difference).max() < 40
    else:
        assert opened.mode == "RGBA" and "icc_profile" not in opened.info


def test_sixteen_bit_key_is_compared_at_sixteen_bits() -> None:
    samples = np.full((2, 3, 3), 0x1234, ">u2")
    samples[0, 1] = 0x1235  # the same in its high byte
    lines = b"".join(b"\0" + row.tobytes() for row in samples)
    head = struct.pack(">IIBBBBB", 3, 2, 16, 2, 0, 0, 0)
    parts = [(b"IHDR", head), (b"tRNS", b"\x12\x34" * 3), (b"IDAT", zlib.compress(lines))]
    data = bytearray(with_chunks(b"\x89PNG\r\n\x1a\n".ljust(33), *parts, (b"IEND", b"")))
    del data[8:33]
    alpha = to_coded(open_picture(bytes(data), "x")).alpha
    assert alpha is not None and np.argwhere(alpha).tolist() == [[0, 1]]


def test_loaded_copied_and_cropped_pictures_are_the_same(tmp_path: Path) -> None:
    values = np.arange(256, dtype=np.float32).reshape(16, 16)
    Image.fromarray(values).save(tmp_path / "float.tif")
    key = PngImagePlugin.PngInfo()
    levels = np.tile(np.arange(16, dtype=np.uint8), (16, 1))
    head = struct.pack(">IIBBBBB", 16, 16, 4, 0, 0, 0, 0)
    lines = b"".join(b"\0" + bytes(row[::2] << 4 | row[1::2]) for row in levels)
    parts = [(b"IHDR", head), (b"tRNS", b"\0\x0f"), (b"IDAT", zlib.compress(lines))]
    data = bytearray(with_chunks(b"\x89PNG\r\n\x1a\n".ljust(33), *parts, (b"IEND", b"")))
    del data[8:33], key
    (tmp_path / "key.png").write_bytes(data)
    for name in ("float.tif", "key.png"):
        whole = to_coded(open_picture(tmp_path / name, name))
        lazy = Image.open(tmp_path / name)
        loaded = Image.open(tmp_path / name)
        loaded.load()
        opened = open_picture(tmp_path / name, name)
        for image in (lazy, loaded, opened.copy(), loaded.copy()):
            again = to_coded(image)
            assert np.array_equal(again.pixels, whole.pixels), name
            assert np.array_equal(again.alpha, whole.alpha), name
        part = to_coded(opened.crop((2, 3, 9, 12)))
        shown = slice(None) if part.alpha is None else part.alpha > 0
        assert np.array_equal(part.pixels[shown], whole.pixels[3:12, 2:9][shown]), name


# Colour


def linear(photo: Image.Image) -> bytes:
    level = np.asarray(photo) / 255
    light = np.where(level <= 0.04045, level / 12.92, ((level + 0.055) / 1.055) ** 2.4)
    return saved(Image.fromarray(np.rint(255 * light).astype(np.uint8)), "PNG")


@pytest.mark.parametrize("mode", ["RGB", "L", "LA", "P"])
def test_gamma_is_converted(mode: str, photo: Image.Image) -> None:
    image = photo.convert("L") if mode in {"L", "LA"} else photo
    data = linear(image)
    if mode != image.mode:
        other = Image.open(io.BytesIO(data))
        data = saved(other.quantize(256) if mode == "P" else other.convert(mode), "PNG")
    data = with_chunks(data, (b"gAMA", struct.pack(">I", 100_000)))
    result = read_pixels(data, "x").astype(int)
    assert abs(result - np.asarray(image.convert("RGB"))).mean() < (12 if mode == "P" else 4)


@pytest.mark.parametrize("gamma", [45455, 45470, 44000])
def test_gamma_like_that_of_srgb_changes_nothing(gamma: int, photo: Image.Image) -> None:
    data = with_chunks(saved(photo, "PNG"), (b"gAMA", struct.pack(">I", gamma)))
    coded = to_coded(open_picture(data, "x"))
    assert np.array_equal(coded.pixels, np.asarray(photo)) and not coded.extras


@pytest.mark.parametrize(
    ("cicp", "words", "profile"),
    [
        ((1, 13), "", False),
        ((1, 1), "", False),
        ((12, 13), "", True),
        ((9, 1), "", True),
        ((9, 16), "PQ", True),
        ((9, 18), "HLG", True),
        ((1, 99), "transfer function 99", False),
    ],
)
@pytest.mark.parametrize("grey", [False, True])
def test_code_points(
    cicp: tuple[int, int], words: str, profile: bool, grey: bool, photo: Image.Image
) -> None:
    image = photo.convert("L") if grey else photo
    data = with_chunks(saved(image, "PNG"), (b"cICP", bytes([*cicp, 0, 1])))
    result, said = kept(data)
    assert words in " ".join(said) and bool(said) == bool(words)
    if grey and not words:
        profile = False
    assert ("icc_profile" in result.info) == profile
    if profile:
        space = ImageCms.ImageCmsProfile(io.BytesIO(result.info["icc_profile"]))
        ImageCms.profileToProfile(result, space, space)


def shown(image: Image.Image) -> np.ndarray[Any, Any]:
    profile = io.BytesIO(image.info["icc_profile"])
    target = ImageCms.createProfile("sRGB")
    return np.asarray(ImageCms.profileToProfile(image.convert("RGB"), profile, target)).astype(int)


def test_wide_primaries_become_a_profile_that_shows_the_same(photo: Image.Image) -> None:
    chrm = struct.pack(">8I", *(round(100_000 * part) for part in ADOBE))
    chunks = (b"gAMA", struct.pack(">I", 45470)), (b"cHRM", chrm)
    result, _ = kept(with_chunks(saved(photo, "PNG"), *chunks))
    assert np.array_equal(np.asarray(result), np.asarray(photo))
    seen = shown(result)
    stored = np.asarray(photo).astype(int)
    assert seen[..., 0].std() > stored[..., 0].std()  # more saturated than taken for sRGB
    stripped, said = kept(with_chunks(saved(photo, "PNG"), *chunks), strip=True)
    assert abs(np.asarray(stripped).astype(int) - seen).max() <= 2 and not said
    for format in ("bmp", "ppm"):
        written = to_file(result, format)
        assert abs(np.asarray(open_picture(written.data, "x")).astype(int) - seen).max() <= 2
        assert "sRGB" in written.notes[0]


@pytest.mark.parametrize("values", [(0,) * 8, (100_000,) * 8, (31270, 0, 1, 0, 1, 0, 1, 0)])
def test_impossible_primaries_are_said(values: tuple[int, ...], photo: Image.Image) -> None:
    data = with_chunks(saved(photo, "PNG"), (b"cHRM", struct.pack(">8I", *values)))
    _, said = kept(data)
    assert said == ("primaries (cHRM) left out: impossible",)


def test_unusable_profile_is_said_when_stripped(photo: Image.Image) -> None:
    photo = photo.copy()
    photo.info["icc_profile"] = bytes(16) + b"RGB " + bytes(108)
    assert to_coded(photo, strip=True).notes == (
        "ICC profile cannot be used: colours stay as stored",
    )
    assert "cannot be used" in to_file(photo, "bmp").notes[0]


# Metadata


@pytest.mark.parametrize("kind", [1, 3, 4, 5, 6, 8, 9, 10, 11, 12, 13])
@pytest.mark.parametrize("order", ["<", ">"])
def test_orientation_of_any_numeric_type(kind: int, order: str, photo: Image.Image) -> None:
    form = {1: "B", 3: "H", 4: "I", 5: "II", 6: "b", 8: "h", 9: "i", 10: "ii", 11: "f"}.get(kind)
    form = form or {12: "d", 13: "I"}[kind]
    value = struct.pack(order + form, *([6, 1] if len(form) > 1 else [6]))
    block = exif_block({274: (kind, value), 315: (2, b"me\0")}, order)
    for data in (
        jpeg_with(saved(photo, "JPEG", quality=95), (0xE1, b"Exif\0\0" + block)),
        with_chunks(saved(photo, "PNG"), (b"eXIf", block)),
        saved(photo, "WEBP", lossless=True, exif=block),
    ):
        result, said = kept(data)
        assert result.size == (53, 75) and not said
        again = Block(result.info["exif"])
        assert again.orientation() == 1
        assert len(again.data) == len(block)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -6.0, 6.5, 1e300])
@pytest.mark.parametrize("tag", [274, 282, 296, 513])
def test_odd_numbers_in_exif_stop_no_picture(tag: int, value: float, photo: Image.Image) -> None:
    sides = {key: (12, struct.pack("<d", 300.0)) for key in (282, 283)}
    block = exif_block({274: (3, b"\6\0"), **sides, tag: (12, struct.pack("<d", value))})
    assert kept(with_chunks(saved(photo, "PNG"), (b"eXIf", block)))[0].size[0] in {53, 75}


TURNED = [
    '<x tiff:Orientation="6"/>',
    "<x tiff:Orientation = '6' />",
    "<tiff:Orientation>6</tiff:Orientation>",
    "<tiff:Orientation> 6\n</tiff:Orientation>",
    '<y xmlns:t="http://ns.adobe.com/tiff/1.0/" t:Orientation="6"/>',
    '<Orientation xmlns="http://ns.adobe.com/tiff/1.0/">6</Orientation>',
    '<tiff:Orientation xml:lang="x">&#54;</tiff:Orientation>',
    '<tiff:Orientation rdf:value="6"/>',
    "<tiff:Orientation><rdf:value>6</rdf:value></tiff:Orientation>",
]


@pytest.mark.parametrize("codec", ["utf-8", "utf-16", "utf-16-be"])
@pytest.mark.parametrize("text", TURNED)
def test_orientation_in_xmp_of_any_spelling(text: str, codec: str) -> None:
    packet = text.encode(codec)
    assert xmp.orientation(packet) == 6
    once = xmp.upright(packet)
    assert xmp.orientation(once) == 1
    assert len(packet.decode(codec)) >= len(once.decode(codec)) >= len(text) - 5
    assert xmp.upright(once) == once


def test_promises_of_several_prefixes_are_taken_out() -> None:
    gain, container, camera = (
        'xmlns:g="http://ns.adobe.com/hdr-gain-map/1.0/"',
        "xmlns:c = 'http://ns.google.com/photos/1.0/container/'",
        'xmlns:k="http://ns.google.com/photos/1.0/camera/"',
    )
    packet = (
        f"<x {gain} {container} {camera} g:Version='1.0' k:MotionPhoto = \"1\" k:Other='2' a:b='3'>"
        "<c:Directory><c:Item/></c:Directory><k:Kept>it's 5\"</k:Kept><g:Map><a:li/></g:Map></x>"
    )
    kept = f"<x {camera} k:Other='2' a:b='3'><k:Kept>it's 5\"</k:Kept></x>"
    assert xmp.without_promises(packet.encode()) == kept.encode()
    assert xmp.without_promises(kept.encode()) == kept.encode()
    endless = kept.replace("<k:Kept>", "<k:MotionPhotoX><k:Kept>")
    assert xmp.without_promises(endless.encode()) == endless.encode()


def test_tiff_is_turned_once(photo: Image.Image) -> None:
    packet = TURNED[0].encode()
    for info in ({274: 6}, {700: packet}, {274: 6, 700: packet}, {274: 1, 700: packet}):
        data = saved(photo, "TIFF", tiffinfo=info)
        for image in (open_picture(data, "x"), Image.open(io.BytesIO(data))):
            coded = to_coded(image)
            upright = info.get(274) != 1
            assert coded.pixels.shape == ((75, 53, 3) if upright else (53, 75, 3)), info
            if Extra.XMP in coded.extras:
                assert xmp.orientation(coded.extras[Extra.XMP]) in {None, 1}


def test_resolution_goes_with_the_sides(photo: Image.Image) -> None:
    block = exif_block(
        {
            274: (3, struct.pack("<H", 6)),
            282: (5, struct.pack("<II", 300, 1)),
            283: (5, struct.pack("<II", 150, 1)),
            296: (3, struct.pack("<H", 2)),
        }
    )
    coded = to_coded(
        open_picture(with_chunks(saved(photo, "PNG", dpi=(300, 150)), (b"eXIf", block)), "x")
    )
    back = from_coded(coded.pixels, coded.grey, coded.extras)
    assert [round(side) for side in back.info["dpi"]] == [150, 300]
    assert Block(back.info["exif"]).resolution() == (150, 300)
    only = to_coded(open_picture(with_chunks(saved(photo, "PNG"), (b"eXIf", block)), "x"))
    assert struct.unpack(">II", only.extras[Extra.DPI]) == (150_000, 300_000)


def test_thumbnail_of_a_turned_picture_is_dropped(photo: Image.Image) -> None:
    small = saved(photo.resize((40, 28)), "JPEG")
    head = struct.pack("<HHHI4s", 1, 274, 3, 1, b"\6\0\0\0")
    second = struct.pack("<HHHIIHHII", 2, 513, 4, 1, 56, 514, 4, 1, len(small))
    block = b"II*\0\x08\0\0\0" + head + struct.pack("<I", 26) + second + bytes(4) + small
    assert block.index(small) == 56
    data = jpeg_with(saved(photo, "JPEG"), (0xE1, b"Exif\0\0" + block))
    result, _ = kept(data)
    assert small not in result.info["exif"] and len(result.info["exif"]) < 100
    assert not result.getexif().get_ifd(ExifTags.IFD.IFD1)
    upright = block.replace(b"\6\0\0\0", b"\1\0\0\0", 1)
    result, _ = kept(jpeg_with(saved(photo, "JPEG"), (0xE1, b"Exif\0\0" + upright)))
    assert small in result.info["exif"]


@pytest.mark.parametrize("cut", [0, 5, 13, 20, 25])
def test_truncated_exif_is_left_out_and_said(cut: int, photo: Image.Image) -> None:
    block = exif_block({274: (3, b"\6\0"), 315: (2, b"A. Nonymous\0")})[:cut]
    for data in (
        jpeg_with(saved(photo, "JPEG"), (0xE1, b"Exif\0\0" + block)),
        with_chunks(saved(photo, "PNG"), (b"eXIf", block)),
        saved(photo, "WEBP", exif=b"Exif\0\0" + block) if cut else saved(photo, "WEBP"),
    ):
        result, said = kept(data)
        assert result.size == (75, 53) and "exif" not in result.info
        assert bool(said) == bool(cut) and all("EXIF left out" in note for note in said)


def test_damaged_entries_are_left_out_and_others_stay(photo: Image.Image) -> None:
    block = bytearray(exif_block({271: (2, b"Maker\0"), 315: (2, b"A. Nonymous\0")}))
    struct.pack_into("<I", block, 10 + 8, 1 << 30)  # where the maker lies
    result, said = kept(with_chunks(saved(photo, "PNG"), (b"eXIf", bytes(block))))
    assert said == ("EXIF: 1 damaged entries left out",)
    assert dict(result.getexif()) == {315: "A. Nonymous"}


@pytest.mark.parametrize("format", ["tiff", "png", "jpeg", "webp", "avif"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_raw_entries_reach_every_format(format: str, order: str, photo: Image.Image) -> None:
    text = "Übung © 2020\0".encode()
    first = {270: (2, text), 315: (5, struct.pack(order + "II", 5, 1))}
    inner = {33434: (5, struct.pack(order + "II", 1, 4)), 37500: (7, b"maker's own \xff bytes")}
    block = packed(Tree(order, first, {34665: inner, 34853: {1: (2, b"N\0")}}))
    image = photo.copy()
    image.info["exif"] = b"Exif\0\0" + block
    again = open_picture(save_picture(image, format), "x").info["exif"]
    found = Block(again)
    assert found.read(found.first)[270] == (2, text)
    artist = found.read(found.first)[315]
    assert struct.unpack(found.order + "II", artist[1]) == (5, 1)
    places = list(found.directories())
    camera = found.read(places[1])
    assert camera[37500] == (7, b"maker's own \xff bytes")
    assert struct.unpack(found.order + "II", camera[33434][1]) == (1, 4)
    assert found.read(places[2])[1] == (2, b"N\0")


RAW = {
    "P4": b"P4 9 2\n" + b"\xaa\x80" * 2,
    "P5": b"P5\n# P5 1 1 255\n3 2 255\n" + b"P5 1 1",
    "P5 of 16 bits": b"P5 3 1 1000\n" + struct.pack(">3H", 0, 500, 1000),
    "P6": b"P6 1 2 255\n" + b"P6 1 1",
    "Pf": b"Pf 2 1 -1.0\n" + struct.pack("<2f", 0, 1),
}


@pytest.mark.parametrize("name", RAW)
@pytest.mark.parametrize("between", [b"", b"\n"])
def test_further_pictures_of_netpbm_are_spoken_of(
    name: str, between: bytes, tmp_path: Path
) -> None:
    one = RAW[name]
    path = tmp_path / "a.pnm"
    rest = between + b"P6 1 1 255\nabc"
    for data, said in (
        (one, ""),
        (one + b"\n", ""),
        (one + b"rubbish", ""),
        (one + rest, "first of 2 frames"),
        (one + rest * 4, "first of 5 frames"),
        (one + rest + b"P2 1 1 9 5 P2 1 1 9 5", "first of 3 frames"),
        (one + rest * 2000, "first of more than 1000 frames"),
    ):
        path.write_bytes(data)
        for source in (data, path):
            assert " ".join(notes(open_picture(source, "x"))).startswith(said), data[:50]
            assert said or "frames" not in " ".join(notes(open_picture(source, "x")))
        assert said in to_coded(Image.open(io.BytesIO(data))).notes or not said


DESCRIBED = (269, 270, 271, 272, 285, 305, 306, 315, 316, 33432)
WINDOWS = (40091, 40092, 40093, 40094, 40095)


def test_what_describes_the_picture_stays_from_and_to_tiff(photo: Image.Image) -> None:
    first = {tag: (2, b"%d\0" % tag) for tag in DESCRIBED}
    first |= {tag: (1, f"{tag}\0".encode("utf-16-le")) for tag in WINDOWS}
    first |= {tag: (3, struct.pack("<H", tag % 100)) for tag in (18246, 18249)}
    photo.info["exif"] = b"Exif\0\0" + exif_block(first)
    file = save_picture(photo, "tiff")
    del photo.info["exif"]
    with Image.open(io.BytesIO(file)) as image:
        assert {tag: image.tag_v2[tag] for tag in DESCRIBED} == {tag: str(tag) for tag in DESCRIBED}
        assert image.tag_v2[18246] == 46
    coded = to_coded(open_picture(file, "x"))
    found = Block(coded.extras[Extra.EXIF])
    assert {tag: raw for tag, raw in found.read(found.first).items() if tag in first} == first


def test_tags_of_big_tiff_that_exif_has_no_type_for(photo: Image.Image) -> None:
    entry = struct.pack("<HHQ", 270, 2, 4)
    data = saved(photo, "TIFF", tiffinfo={270: "abc"}, big_tiff=True)
    assert entry in data
    coded = to_coded(open_picture(data.replace(entry, struct.pack("<HHQ", 270, 16, 1)), "x"))
    assert Extra.EXIF not in coded.extras


@pytest.mark.parametrize("name", ["exif", "APP1", "xmp", "icc", "icm"])
def test_profiles_in_text(name: str, photo: Image.Image) -> None:
    body = {
        "exif": b"Exif\0\0" + exif_block({315: (2, b"Someone\0")}),
        "APP1": b"http://ns.adobe.com/xap/1.0/\0<x/>",
        "xmp": b"<x/>",
    }.get(name, SRGB)
    digits = "\n".join(body.hex()[i : i + 72] for i in range(0, 2 * len(body), 72))
    info = PngImagePlugin.PngInfo()
    info.add_text(f"Raw profile type {name}", f"\n{name}\n{len(body):8}\n{digits}\n", zip=True)
    data = saved(photo, "PNG", pnginfo=info)
    for image in (open_picture(data, "x"), Image.open(io.BytesIO(data))):
        extras = to_coded(image).extras
        if name == "exif":
            assert b"Someone" in extras[Extra.EXIF]
        elif name in {"APP1", "xmp"}:
            assert extras[Extra.XMP] == b"<x/>"
        else:
            assert extras[Extra.ICC] == SRGB


def extended(inner: bytes) -> tuple[bytes, list[bytes]]:
    head = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="r" xmlns:D="d">'
    whole = head + b"<rdf:Description " + inner + b"/></rdf:RDF></x:xmpmeta>"
    name = hashlib.md5(whole).hexdigest().upper().encode()
    packet = head + b'<rdf:Description xmlns:xmpNote="http://ns.adobe.com/xmp/note/" '
    packet += b'xmpNote:HasExtendedXMP="' + name + b'"/></rdf:RDF></x:xmpmeta>'
    half = len(whole) // 2
    pieces = [(half, whole[half:]), (0, whole[:half])]
    mark = b"http://ns.adobe.com/xmp/extension/\0" + name
    return packet, [mark + struct.pack(">II", len(whole), at) + part for at, part in pieces]


@pytest.mark.parametrize("sound", [True, False])
def test_extended_xmp_is_joined(sound: bool, photo: Image.Image) -> None:
    packet, pieces = extended(b'D:Data="' + bytes(range(97, 123)) * 50 + b'"')
    segments = [(0xE1, xmp.JPEG_MARK + packet), *((0xE1, piece) for piece in pieces)]
    result, said = kept(jpeg_with(saved(photo, "JPEG"), *segments[: None if sound else 2]))
    assert (b"D:Data" in result.info["xmp"]) == sound
    assert (b"HasExtendedXMP" in result.info["xmp"]) != sound
    assert bool(said) != sound
    if sound:
        from xml.etree import ElementTree

        ElementTree.fromstring(result.info["xmp"])


def test_promises_of_other_pictures_are_taken_out(photo: Image.Image) -> None:
    packet = (
        b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="r"><rdf:Description '
        b'xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/" xmlns:dc="d" hdrgm:Version="1.0" '
        b'xmlns:Container="http://ns.google.com/photos/1.0/container/" dc:title="kept">'
        b"<Container:Directory><rdf:Seq><rdf:li><Container:Item/></rdf:li></rdf:Seq>"
        b"</Container:Directory><hdrgm:GainMapMax>4</hdrgm:GainMapMax></rdf:Description>"
        b"</rdf:RDF></x:xmpmeta>"
    )
    result, said = kept(jpeg_with(saved(photo, "JPEG"), (0xE1, xmp.JPEG_MARK + packet)))
    left = result.info["xmp"]
    assert b"hdrgm" not in left and b"Container" not in left and b'dc:title="kept"' in left
    assert any("gain map" in note for note in said)
    from xml.etree import ElementTree

    ElementTree.fromstring(left)


@pytest.mark.parametrize("size", [70_000, 100_000_000])
def test_metadata_never_vetoes_a_written_picture(size: int, photo: Image.Image) -> None:
    image = photo.copy()
    image.info["xmp"] = bytes(size)
    image.info["exif"] = b"Exif\0\0" + exif_block({270: (2, b"x" * 70_000 + b"\0")})
    written = to_file(image, "jpeg")
    assert len(written.data) < 10_000
    assert sorted(note.split()[0] for note in written.notes) == ["EXIF", "XMP"]


@pytest.mark.parametrize("kind", [b"zTXt", b"iTXt", b"iCCP", b"eXIf", b"gAMA", b"pHYs", b"tEXt"])
def test_damaged_chunks_do_not_veto(kind: bytes, photo: Image.Image) -> None:
    for body in (b"", b"x", b"Raw profile type exif\0\0garbage", bytes(1000)):
        pixels = read_pixels(with_chunks(saved(photo, "PNG"), (kind, body)), "x")
        assert np.array_equal(pixels, np.asarray(photo))


@pytest.mark.slow
def test_large_text_does_not_veto(photo: Image.Image) -> None:
    info = PngImagePlugin.PngInfo()
    info.add_itxt("XML:com.adobe.xmp", b"<x>" + b" " * 2_000_000 + b"</x>", zip=True)
    info.add_text("Comment", "c" * 3_000_000, zip=True)
    result, said = kept(saved(photo, "PNG", pnginfo=info))
    assert len(result.info["xmp"]) == 2_000_007 and not said
    bomb = PngImagePlugin.PngInfo()
    bomb.add_itxt("XML:com.adobe.xmp", bytes(50_000_000), zip=True)
    result, said = kept(saved(photo, "PNG", pnginfo=bomb))
    assert "xmp" not in result.info and "XMP left out" in said[0]
