"""Pictures in and out: every mode, alpha, orientation, metadata, hostile files."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import threading
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageCms, ImageOps

from vrcodec.bitstream.container import Extra
from vrcodec.errors import CorruptError, PictureError
from vrcodec.pictures import (
    FORMATS,
    coded,
    from_coded,
    open_picture,
    samples,
    save_picture,
    to_coded,
    to_file,
)

ORIENTATION = ExifTags.Base.Orientation
RNG = np.random.default_rng(20)
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf tiff:Orientation="6"/></x:xmpmeta>'


def noise(mode: str, width: int = 29, height: int = 23) -> Image.Image:
    shape = (height, width, 4)
    return Image.fromarray(RNG.integers(0, 256, shape, dtype=np.uint8), "RGBA").convert(mode)


def fake_profile(space: bytes) -> bytes:
    """What tells an ICC profile's colour space, and nothing else."""
    return bytes(16) + space + bytes(108)


def round_trip(image: Image.Image, strip: bool = False) -> Image.Image:
    coded = to_coded(image, strip)
    return from_coded(coded.pixels, coded.grey, coded.extras)


def reopened(image: Image.Image, format: str) -> Image.Image:
    result = Image.open(io.BytesIO(save_picture(image, format)))
    result.load()
    return result


def png_bytes(colour_type: int, depth: int, samples: bytes, size: tuple[int, int]) -> bytes:
    """A PNG file of a kind that Pillow does not write; its rows may be fewer than it says."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        crc = zlib.crc32(kind + body)
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", crc)

    header = struct.pack(">IIBBBBB", *size, depth, colour_type, 0, 0, 0)
    row = size[0] * depth // 8 * {0: 1, 2: 3, 4: 2}[colour_type]
    lines = b"".join(b"\0" + samples[i : i + row] for i in range(0, len(samples), row))
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(lines)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in chunks)


@pytest.mark.parametrize(
    ("mode", "back"),
    [
        ("1", "L"),
        ("L", "L"),
        ("LA", "LA"),
        ("RGB", "RGB"),
        ("RGBA", "RGBA"),
        ("RGBX", "RGB"),
        ("CMYK", "RGB"),
        ("YCbCr", "RGB"),
        ("HSV", "RGB"),
        ("LAB", "RGB"),
        ("P", "RGB"),
        ("PA", "RGBA"),
        ("La", "LA"),
        ("RGBa", "RGBA"),
    ],
)
def test_every_mode_is_read_as_pillow_reads_it(
    mode: str, back: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(samples, "STRIP_PIXELS", 100)
    through = {"La": "LA", "LA": "LA", "RGBa": "RGBA", "RGBA": "RGBA", "PA": "P"}.get(mode, "RGB")
    image = noise(through).convert(mode)
    if mode == "PA":
        image.putalpha(noise("L"))
    if mode == "P":
        image.info.pop("transparency", None)
    before = image.tobytes()
    result = round_trip(image)
    assert result.mode == back
    expected, got = np.asarray(image.convert(back)), np.asarray(result)
    if back[-1] == "A":
        visible = expected[..., -1] > 0
        assert np.array_equal(got[..., -1], expected[..., -1])
        expected, got = expected[visible], got[visible]
    assert np.array_equal(got, expected)
    assert image.tobytes() == before and image.mode == mode


def test_grey_is_coded_as_three_equal_channels_and_averaged_back() -> None:
    coded = to_coded(noise("L"))
    assert coded.grey and coded.pixels.flags.c_contiguous
    assert (coded.pixels == coded.pixels[..., :1]).all()
    nearly = np.array([[[10, 10, 11], [10, 11, 11], [255, 255, 255], [0, 0, 1]]], np.uint8)
    assert np.asarray(from_coded(nearly, True, {})).tolist() == [[10, 11, 255, 0]]


def test_grey_palette_is_grey_unless_its_profile_is_for_colour() -> None:
    image = noise("L").convert("P")
    assert to_coded(image).grey
    image.info["icc_profile"] = SRGB
    coded = to_coded(image)
    assert not coded.grey and coded.extras[Extra.ICC] == SRGB


@pytest.mark.parametrize("mode", ["I;16", "I;16B", "I"])
def test_sixteen_bit_grey_is_rounded_to_eight(mode: str) -> None:
    values = RNG.integers(0, 65536, (5, 7)).astype(np.uint16)
    values[0, :4] = 0, 65535, 128, 129
    order = {"I;16": "<u2", "I;16B": ">u2", "I": "<i4"}[mode]
    image = Image.frombytes(mode, (7, 5), values.astype(order).tobytes())
    coded = to_coded(image)
    assert coded.grey and coded.sixteen_bit
    assert np.array_equal(coded.pixels[..., 0], np.rint(values / 257).astype(np.uint8))
    assert any("8 bits" in note for note in coded.notes)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0, 0.5, 1], [0, 128, 255]),
        ([0, 100.4, 255], [0, 100, 255]),
        ([0, 257, 65535], [0, 1, 255]),
        ([-100, 0, 100], [0, 128, 255]),
        ([float("nan"), float("inf"), 1], [0, 255, 255]),
        ([-7, -7, -7], [0, 0, 0]),
    ],
)
def test_floating_point_takes_the_smallest_usual_range(
    values: list[float], expected: list[int]
) -> None:
    image = Image.fromarray(np.array([values], np.float32))
    assert to_coded(image).pixels[0, :, 1].tolist() == expected


def test_depth_and_frames_of_files_are_noticed(pictures: Path) -> None:
    deep_rgb = b"P6 2 1 65535\n" + bytes(range(12))
    coded = to_coded(open_picture(deep_rgb, "deep.ppm"))
    assert coded.sixteen_bit and not coded.grey
    deep_grey_alpha = png_bytes(4, 16, bytes.fromhex("aaaa8000bbbb7fff"), (2, 1))
    coded = to_coded(open_picture(deep_grey_alpha, "deep.png"))
    assert coded.sixteen_bit and coded.grey and coded.alpha is not None
    assert coded.pixels.tolist() == [[[0xAA] * 3, [0xBB] * 3]]
    animated = pictures / "bad" / "apng_mode_16bit.png"
    coded = to_coded(open_picture(animated, animated.name))
    assert coded.sixteen_bit
    assert "first of 3 frames" in coded.notes


@pytest.mark.parametrize(
    ("image", "key", "transparent"),
    [
        (Image.fromarray(np.array([[5, 6, 7]], np.uint8)), 6, [1]),
        (Image.fromarray(np.array([[[5, 6, 7], [5, 6, 8]]], np.uint8)), (5, 6, 7), [0]),
        (Image.frombytes("I;16", (3, 1), struct.pack("<3H", 500, 501, 502)), 502, [2]),
        (Image.frombytes("P", (3, 1), bytes([1, 0, 1])), 1, [0, 2]),
        (Image.frombytes("P", (3, 1), bytes([1, 0, 2])), b"\0\xff\xff", [1]),
        (Image.frombytes("1", (3, 1), b"\x40"), 255, [1]),
    ],
)
def test_transparency_keys_become_alpha(
    image: Image.Image, key: object, transparent: list[int]
) -> None:
    image.info["transparency"] = key
    alpha = to_coded(image).alpha
    assert alpha is not None
    assert np.flatnonzero(alpha[0] == 0).tolist() == transparent


def test_alpha_comes_back_exactly_and_simple_alpha_is_cheap() -> None:
    image = noise("RGB", 200, 200)
    disc = np.hypot(*(np.mgrid[:200, :200] - 100)) < 80
    image.putalpha(Image.fromarray((255 * disc).astype(np.uint8)))
    coded = to_coded(image)
    assert len(coded.extras[Extra.ALPHA]) < 600
    result = np.asarray(from_coded(coded.pixels, coded.grey, coded.extras))
    assert np.array_equal(result[..., 3] == 255, disc)
    assert np.array_equal(coded.pixels[disc], np.asarray(image)[disc][:, :3])
    assert coded.pixels[~disc].std() < 0.5 * np.asarray(image)[~disc][:, :3].std()


def test_opaque_alpha_is_dropped() -> None:
    image = noise("RGB")
    image.putalpha(255)
    assert round_trip(image).mode == "RGB"


def test_wholly_transparent_picture_survives() -> None:
    result = round_trip(Image.new("RGBA", (5, 4), (9, 9, 9, 0)))
    assert result.getextrema()[3] == (0, 0)


@pytest.mark.parametrize(
    "section",
    [
        b"",
        b"garbage",
        coded._pack_alpha(np.zeros((8, 9), np.uint8)),
        coded._pack_alpha(np.asarray(noise("L", 8, 9)))[:80],
        png_bytes(2, 8, bytes(3 * 72), (8, 9)),
        png_bytes(0, 8, b"", (2_000_000_000, 2_000_000_000)),
    ],
    ids=["empty", "garbage", "turned", "truncated", "RGB", "huge"],
)
def test_bad_alpha_section_is_corrupt(section: bytes) -> None:
    with pytest.raises(CorruptError, match="alpha"):
        from_coded(np.zeros((9, 8, 3), np.uint8), False, {Extra.ALPHA: section})


def test_bad_resolution_section_is_corrupt() -> None:
    with pytest.raises(CorruptError):
        from_coded(np.zeros((1, 1, 3), np.uint8), False, {Extra.DPI: b"72"})


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("order", ["<", ">"])
def test_orientation_is_applied_once(orientation: int, order: str) -> None:
    image = noise("RGB")
    exif = Image.Exif()
    exif.endian = order
    exif[ExifTags.Base.Make] = "Box"
    exif[ORIENTATION] = orientation
    image.info["exif"] = exif.tobytes()
    result = round_trip(image)
    assert np.array_equal(np.asarray(result), np.asarray(ImageOps.exif_transpose(image)))
    kept = result.getexif()
    assert kept[ORIENTATION] == 1 and kept[ExifTags.Base.Make] == "Box"
    for format in ("png", "webp", "tiff"):
        again = ImageOps.exif_transpose(reopened(result, format))
        assert np.array_equal(np.asarray(again), np.asarray(result)), format


def test_orientation_in_xmp_alone_is_applied_once() -> None:
    image = noise("RGB")
    image.info["xmp"] = XMP
    result = round_trip(image)
    assert np.array_equal(np.asarray(result), np.asarray(image.transpose(Image.ROTATE_270)))
    assert b'tiff:Orientation="1"' in result.info["xmp"]


def test_other_bytes_of_exif_stay_as_they_are(pictures: Path) -> None:
    path = pictures / "bad" / "hopper_orientation_6.jpg"
    image = open_picture(path, path.name)
    before, after = image.info["exif"], round_trip(image).info["exif"]
    assert len(before) == len(after)
    assert sum(a != b for a, b in zip(before, after, strict=True)) == 1


@pytest.mark.parametrize("exif", [b"", b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"MM" * 40])
def test_damaged_exif_does_not_stop_a_picture(exif: bytes) -> None:
    image = noise("RGB")
    image.info["exif"] = exif
    assert np.array_equal(np.asarray(round_trip(image)), np.asarray(image))


@pytest.mark.parametrize(
    ("mode", "space", "kept"),
    [
        ("RGB", b"RGB ", True),
        ("RGBA", b"RGB ", True),
        ("L", b"GRAY", True),
        ("L", b"RGB ", False),
        ("RGB", b"GRAY", False),
        ("CMYK", b"CMYK", False),
        ("RGB", b"CMYK", False),
    ],
)
def test_profile_is_kept_only_where_it_fits(mode: str, space: bytes, kept: bool) -> None:
    image = noise(mode)
    image.info["icc_profile"] = fake_profile(space)
    coded = to_coded(image)
    assert (Extra.ICC in coded.extras) == kept
    assert any("ICC" in note for note in coded.notes) == (not kept)


@pytest.mark.parametrize("space", [b"RGB ", b"GRAY"])
def test_no_result_has_a_profile_that_does_not_fit(space: bytes) -> None:
    """Also where the pixels have become others than those that the profile came with."""
    pixels, extras = np.zeros((4, 4, 3), np.uint8), {Extra.ICC: fake_profile(space)}
    fits = {grey: "icc_profile" in from_coded(pixels, grey, extras).info for grey in (True, False)}
    assert fits == {True: space == b"GRAY", False: space == b"RGB "}


@pytest.mark.parametrize("format", ["png", "jpeg", "webp", "tiff", "avif"])
def test_metadata_reaches_the_written_picture(format: str, pictures: Path) -> None:
    path = pictures / "bad" / "rgb.jpg"
    source = open_picture(path, path.name)
    result = reopened(round_trip(source), format)
    assert result.info["icc_profile"] == source.info["icc_profile"]
    assert result.info["xmp"].startswith(source.info["xmp"][:200])
    for ifd in (None, ExifTags.IFD.Exif):
        before, after = source.getexif(), result.getexif()
        if ifd:
            before, after = before.get_ifd(ifd), after.get_ifd(ifd)
        for tag in (ExifTags.Base.Software, ExifTags.Base.DateTime, ExifTags.Base.ColorSpace):
            assert before.get(tag) == after.get(tag)
    if format in {"png", "jpeg", "tiff"}:
        assert result.info["dpi"] == pytest.approx((300, 300), rel=1e-4)


def test_strip_leaves_only_what_is_seen(pictures: Path) -> None:
    path = pictures / "bad" / "rgb.jpg"
    image = open_picture(path, path.name)
    assert not to_coded(image, strip=True).extras
    turned = pictures / "bad" / "hopper_orientation_6.jpg"
    image = open_picture(turned, turned.name)
    upright = np.asarray(image.transpose(Image.ROTATE_270))
    assert np.array_equal(to_coded(image, strip=True).pixels, upright)


def test_tiff_keeps_what_describes_the_picture_and_not_its_storage() -> None:
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif[ExifTags.Base.Artist] = "A. Nonymous"
    exif[ExifTags.IFD.Exif] = {ExifTags.Base.ExposureTime: 0.25}
    noise("RGB").save(buffer, "TIFF", exif=exif.tobytes(), dpi=(150, 150))
    result = round_trip(open_picture(buffer.getvalue(), "x.tif"))
    kept = result.getexif()
    assert kept[ExifTags.Base.Artist] == "A. Nonymous"
    assert kept.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.ExposureTime] == 0.25
    assert ExifTags.Base.ImageWidth not in kept and ExifTags.Base.StripOffsets not in kept
    assert result.info["dpi"] == (150, 150)


def test_size_in_exif_does_not_spoil_a_tiff() -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.ImageWidth] = 4000
    image = noise("RGB")
    image.info["exif"] = exif.tobytes()
    assert np.array_equal(np.asarray(reopened(round_trip(image), "tiff")), np.asarray(image))


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
def test_pictures_are_written_in_every_format(format: str, mode: str) -> None:
    image = noise(mode)
    if mode.endswith("A") and format in {"jpeg", "bmp", "ppm"}:
        with pytest.raises(PictureError, match="cannot hold transparency"):
            save_picture(image, format)
        return
    result = reopened(image, format).convert(mode)
    assert result.size == image.size
    if format not in {"jpeg", "avif"}:
        expected, got = np.asarray(image), np.asarray(result)
        if mode.endswith("A"):
            visible = expected[..., -1] > 0
            expected, got = expected[visible], got[visible]
        assert np.array_equal(got, expected)


def test_impossible_pictures_to_write_are_one_line() -> None:
    with pytest.raises(PictureError, match="unknown format 'gif'; known are png, jpeg"):
        save_picture(noise("L"), "gif")
    with pytest.raises(PictureError, match="too large for WEBP"):
        save_picture(Image.new("L", (16384, 1)), "webp")
    long_xmp = noise("L")
    long_xmp.info["xmp"] = bytes(70_000)
    written = to_file(long_xmp, "jpeg")
    assert written.notes == ("XMP left out: 70,000 bytes are too long for JPEG",)


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("broken.png", "not a picture"),
        ("broken_data_stream.png", "cannot be read"),
        ("truncated_jpeg.jpg", "truncated"),
        ("decompression_bomb.gif", "more than 200,000,000 pixels"),
        ("README.md", "not a picture"),
        ("missing.png", "no such file"),
        (".", "is a directory"),
    ],
)
def test_unreadable_pictures_are_one_line_with_their_name(
    name: str, what: str, pictures: Path
) -> None:
    with pytest.raises(PictureError, match=what) as caught:
        open_picture(pictures / "bad" / name, "NAME")
    text = str(caught.value)
    assert text.startswith("NAME: ") and "\n" not in text


def test_size_is_checked_before_pixels_are_decoded() -> None:
    declared = png_bytes(0, 8, b"", (30_000, 30_000))
    with pytest.raises(PictureError, match="30000x30000 is more than 800,000,000 pixels"):
        open_picture(declared, "x.png", max_pixels=800_000_000)
    picture = io.BytesIO()
    noise("L").save(picture, "PNG")
    with pytest.raises(PictureError, match="29x23 is more than 666 pixels"):
        open_picture(picture.getvalue(), "x.png", max_pixels=666)
    assert open_picture(picture.getvalue(), "x.png", max_pixels=667).size == (29, 23)
    assert Image.MAX_IMAGE_PIXELS == 89478485


def test_pictures_come_from_pipes_too(pictures: Path) -> None:
    data = (pictures / "bad" / "rgb.jpg").read_bytes()
    reading, writing = os.pipe()
    feeder = threading.Thread(target=lambda: (os.write(writing, data), os.close(writing)))
    feeder.start()
    with open(reading, "rb") as stream:
        assert open_picture(stream, "stdin").size == (100, 100)
    feeder.join()


def test_postscript_is_not_run() -> None:
    program = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"
    with pytest.raises(PictureError, match="PostScript"):
        open_picture(program, "x.eps")


def test_hostile_pictures_need_little_memory(
    pictures: Path, vrcodec_environment: dict[str, str]
) -> None:
    program = (
        "import resource, sys; from pathlib import Path;"
        "resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30));"
        "from vrcodec import VrcodecError; from vrcodec.pictures import open_picture, to_coded\n"
        "for path in map(Path, sys.argv[1:]):\n"
        "    try: to_coded(open_picture(path, path.name)); print('read')\n"
        "    except VrcodecError as error: print(error)\n"
    )
    paths = sorted(map(str, (pictures / "bad").iterdir()))
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program, *paths],
        env=vrcodec_environment | {"OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert len(lines) == len(paths)
    assert not any("memory" in line for line in lines)


def test_picture_without_pixels_is_refused() -> None:
    with pytest.raises(PictureError):
        to_coded(Image.new("RGB", (0, 5)))
