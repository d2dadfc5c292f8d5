"""What survives a round trip through the command line: the README's table, line by line."""

from __future__ import annotations

import io
import os
import resource
import stat
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from conftest import TESTS, RunVrcodec
from PIL import ExifTags, Image, ImageCms, ImageOps

ADDRESS_SPACE = 3 * 1000**3
FORMATS = ["png", "webp", "tiff", "jpeg", "avif"]
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><a tiff:Orientation="6"/></x:xmpmeta>'
WHEN = 1_000_000_000_123_456_789
VETOED_BY_METADATA = {"png_decompression_dos.png", "unknown_compression_method.png"}
"""Sound pictures that Pillow refuses for their metadata."""
Line = Callable[["Trip"], None]
LINES: dict[str, Line] = {}


def line(label: str) -> Callable[[Line], Line]:
    """Register the check of one line of the README's table."""

    def register(check: Line) -> Line:
        LINES[label] = check
        return check

    return register


@dataclass
class Trip:
    """A folder of sources, and one of what each is decoded to per format."""

    folder: Path
    said: str

    def source(self, name: str) -> Image.Image:
        with Image.open(self.folder / name) as image:
            image.load()
        return image

    def back(self, name: str, format: str = "png") -> Image.Image:
        (path,) = (self.folder / format).glob(f"{Path(name).stem}.*")
        with Image.open(path) as image:
            image.load()
        return image


def profile(space: bytes) -> bytes:
    return bytes(16) + space + bytes(108)


def make_sources(folder: Path, pictures: Path) -> None:
    with Image.open(pictures / "hibiscus.png") as file:
        photo = file.convert("RGB")
    ramp = Image.linear_gradient("L").resize(photo.size)
    clear = photo.copy()
    clear.putalpha(ramp.point(lambda value: 0 if value < 50 else value))
    exif = Image.Exif()
    exif[ExifTags.Base.Artist] = "A. Nonymous"
    exif[ExifTags.Base.Orientation] = 6
    exif[ExifTags.IFD.Exif] = {ExifTags.Base.ExposureTime: 0.25}
    facts = {"exif": exif, "xmp": XMP, "dpi": (300, 300)}
    photo.save(folder / "colour.jpg", icc_profile=SRGB, quality=95, **facts)
    photo.convert("L").save(
        folder / "grey.jpg", icc_profile=profile(b"GRAY"), quality=95, dpi=(72, 72)
    )
    photo.convert("1").save(folder / "bilevel.png")
    photo.convert("LA").save(folder / "grey_opaque.png")
    clear.convert("LA").save(folder / "grey_clear.png")
    clear.save(folder / "clear.png")
    photo.quantize(16).save(folder / "palette.png", transparency=3)
    photo.convert("CMYK").save(folder / "cmyk.jpg", icc_profile=profile(b"CMYK"), quality=95)
    photo.save(folder / "moving.png", save_all=True, append_images=[photo.rotate(90)])
    deep = np.asarray(photo.convert("L")).astype(np.uint16) * 257
    Image.fromarray(deep).save(folder / "deep_grey.tif")
    samples = (np.asarray(photo).astype(">u2") * 257).astype(">u2").tobytes()
    (folder / "deep_colour.ppm").write_bytes(b"P6 75 53 65535\n" + samples)
    (folder / "ten_bits.avif").write_bytes((pictures / "ten-bit.avif").read_bytes())
    (folder / "twelve_bits.avif").write_bytes((pictures / "twelve-bit.avif").read_bytes())


@pytest.fixture(scope="module")
def trip(
    tmp_path_factory: pytest.TempPathFactory,
    pictures: Path,
    run_vrcodec: RunVrcodec,
    tiny_weights: Path,
) -> Trip:
    folder = tmp_path_factory.mktemp("trip")
    make_sources(folder, pictures)
    sources = sorted(folder.iterdir())
    coded = run_vrcodec(
        "encode", *sources, "-q", "1", "-o", f"{folder}/coded/", "--weights", tiny_weights
    )
    assert coded.returncode == 0, coded.stderr
    files = sorted((folder / "coded").iterdir())
    assert len(files) == len(sources)
    for format in FORMATS:
        decoded = run_vrcodec(
            "decode",
            *files,
            "-o",
            f"{folder}/{format}/",
            "--format",
            format,
            "--weights",
            tiny_weights,
        )
        assert decoded.returncode == (1 if format == "jpeg" else 0), decoded.stderr
        if format == "jpeg":
            refused = decoded.stderr.decode().splitlines()
            assert len(refused) == 3
            assert all("JPEG cannot hold transparency" in text for text in refused)
    return Trip(folder, coded.stderr.decode())


def error(expected: Image.Image, got: Image.Image) -> float:
    """Mean squared error per sample, of which those of invisible pixels are 0."""
    a, b = (np.asarray(image.convert("RGBA")).astype(float) for image in (expected, got))
    return float((((a - b)[..., :3]) ** 2 * (a[..., 3:] > 0)).mean())


@line("width, height")
def _(trip: Trip) -> None:
    for name in ("grey.jpg", "clear.png", "cmyk.jpg", "bilevel.png", "ten_bits.avif"):
        assert trip.back(name).size == trip.source(name).size


@line("colours")
def _(trip: Trip) -> None:
    for name in ("clear.png", "palette.png", "grey_clear.png"):
        assert error(trip.source(name), trip.back(name)) < 60, name


@line("grey")
def _(trip: Trip) -> None:
    for name in ("grey.jpg", "bilevel.png", "deep_grey.tif", "grey_opaque.png"):
        for format in ("png", "tiff", "jpeg"):
            assert trip.back(name, format).mode == "L", (name, format)
    assert trip.back("grey_clear.png").mode == "LA"


@line("transparency")
def _(trip: Trip) -> None:
    for name in ("clear.png", "grey_clear.png", "palette.png"):
        alpha = np.asarray(trip.source(name).convert("RGBA"))[..., 3]
        assert 0 < (alpha == 0).sum() < alpha.size
        for format in ("png", "webp", "tiff"):
            got = np.asarray(trip.back(name, format).convert("RGBA"))[..., 3]
            assert np.array_equal(alpha, got), (name, format)
        near = np.asarray(trip.back(name, "avif").convert("RGBA"))[..., 3].astype(int)
        assert abs(near - alpha).mean() < 3


@line("orientation")
def _(trip: Trip) -> None:
    upright = ImageOps.exif_transpose(trip.source("colour.jpg"))
    for format in FORMATS:
        back = trip.back("colour.jpg", format)
        assert back.size == upright.size == (53, 75)
        assert back.getexif().get(ExifTags.Base.Orientation, 1) == 1, format
        assert error(upright, back) < 100, format


@line("ICC profile")
def _(trip: Trip) -> None:
    for format in FORMATS:
        assert trip.back("colour.jpg", format).info["icc_profile"] == SRGB, format
        assert "icc_profile" not in trip.back("cmyk.jpg", format).info
    for format in ("png", "jpeg", "tiff"):
        assert trip.back("grey.jpg", format).info["icc_profile"] == profile(b"GRAY"), format
    assert "icc_profile" not in trip.back("grey.jpg", "webp").info
    assert "cmyk.jpg: ICC profile dropped: it is for CMYK pictures" in trip.said


@line("EXIF, XMP")
def _(trip: Trip) -> None:
    for format in FORMATS:
        back = trip.back("colour.jpg", format)
        assert back.getexif()[ExifTags.Base.Artist] == "A. Nonymous", format
        camera = back.getexif().get_ifd(ExifTags.IFD.Exif)
        assert camera[ExifTags.Base.ExposureTime] == 0.25, format
        assert back.info["xmp"] == XMP.replace(b'"6"', b'"1"'), format


@line("resolution (DPI)")
def _(trip: Trip) -> None:
    for format in ("png", "jpeg", "tiff"):
        for name, dpi in (("colour.jpg", 300), ("grey.jpg", 72)):
            assert trip.back(name, format).info["dpi"] == pytest.approx((dpi, dpi), rel=1e-3)


@line("more than 8 bits per sample")
def _(trip: Trip) -> None:
    for name, bits in (
        ("deep_grey.tif", 16),
        ("deep_colour.ppm", 16),
        ("ten_bits.avif", 10),
        ("twelve_bits.avif", 12),
    ):
        assert f"{name}: coded at 8 bits ({bits} in the source)\n" in trip.said
    grey = np.asarray(trip.source("deep_grey.tif")) / 257
    assert ((grey - np.asarray(trip.back("deep_grey.tif"))) ** 2).mean() < 60


@line("CMYK, LAB")
def _(trip: Trip) -> None:
    assert "cmyk.jpg: CMYK converted to RGB\n" in trip.said
    assert error(trip.source("cmyk.jpg").convert("RGB"), trip.back("cmyk.jpg")) < 60


@line("animation, pages")
def _(trip: Trip) -> None:
    assert "moving.png: first of 2 frames\n" in trip.said
    assert error(trip.source("moving.png"), trip.back("moving.png")) < 60


def test_the_table_of_the_readme_is_all_of_this() -> None:
    text = (TESTS.parent / "README.md").read_text()
    table = text.partition("## What survives a round trip")[2].partition("\n## ")[0]
    rows = [row.split("|")[1].strip() for row in table.splitlines() if row.startswith("|")]
    assert rows[2:] == [*LINES, "permissions, times"]


@pytest.mark.parametrize("label", LINES)
def test_line_of_the_readme(label: str, trip: Trip) -> None:
    LINES[label](trip)


def test_strip_and_preserve_on_the_command_line(
    trip: Trip, run_vrcodec: RunVrcodec, tiny_weights: Path, tmp_path: Path
) -> None:
    """The table's last line, and the option that empties three of the others."""
    source = tmp_path / "a.jpg"
    source.write_bytes((trip.folder / "colour.jpg").read_bytes())
    source.chmod(0o604)
    os.utime(source, ns=(WHEN, WHEN))
    options = ("--weights", tiny_weights, "--preserve")
    for command in (["encode", source, "--strip"], ["decode", tmp_path / "a.vrc"]):
        done = run_vrcodec(*command, *options)
        assert done.returncode == 0, done.stderr
    result = tmp_path / "a.png"
    assert (stat.S_IMODE(result.stat().st_mode), result.stat().st_mtime_ns) == (0o604, WHEN)
    with Image.open(result) as image:
        assert image.size == (53, 75)
        assert not {"exif", "xmp", "icc_profile", "dpi"} & set(image.info)


# Hostile and odd files


@pytest.mark.skipif(sys.platform != "linux", reason="needs RLIMIT_AS")
def test_odd_files_give_what_pillow_sees_or_one_error_in_3_gb(
    pictures: Path, run_vrcodec: RunVrcodec, tiny_weights: Path, tmp_path: Path
) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))

    files = sorted(path for path in (pictures / "bad").iterdir() if path.suffix != ".md")
    run = {"preexec_fn": limit}
    options = ("--weights", tiny_weights)
    encoded = run_vrcodec("encode", *files, "-q", "1", "-o", f"{tmp_path}/a/", *options, **run)
    coded = sorted((tmp_path / "a").iterdir())
    decoded = run_vrcodec("decode", *coded, "-o", f"{tmp_path}/b/", *options, **run)
    assert (decoded.returncode, decoded.stderr) == (0, b"")
    errors = [text for text in encoded.stderr.decode().splitlines() if text.startswith("Error: ")]
    assert "Traceback" not in encoded.stderr.decode()
    refused = []
    for path in files:
        seen = as_pillow_sees(path)
        result = tmp_path / "b" / f"{path.stem}.png"
        if path.name in VETOED_BY_METADATA:
            assert seen is None and result.exists()
            continue
        if seen is None:
            refused.append(path)
            assert not result.exists()
            continue
        with Image.open(result) as image:
            assert image.size == seen.size, path.name
            alphas = [np.asarray(each.convert("RGBA"))[..., 3] for each in (image, seen)]
            assert np.array_equal(*alphas), path.name
            assert error(seen, image) < 150, path.name
    assert len(refused) == len(errors) == 5
    for path, text in zip(refused, errors, strict=True):
        assert text.startswith(f"Error: {path}: ")


def as_pillow_sees(path: Path) -> Image.Image | None:
    """The picture, upright and in 8 bits; None for what Pillow refuses."""
    try:
        with Image.open(io.BytesIO(path.read_bytes())) as file:
            image = ImageOps.exif_transpose(file)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    if image.mode == "I;16":
        key = image.info.get("transparency")
        values = np.asarray(image)
        image = Image.fromarray((values / 257).round().astype(np.uint8))
        if key is not None:
            image.putalpha(Image.fromarray(np.where(values == key, 0, 255).astype(np.uint8)))
    return image
