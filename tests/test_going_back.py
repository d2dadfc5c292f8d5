"""Back to the kind of file that a picture came from, through real commands."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from conftest import RunVrcodec, picture
from PIL import Image

from vrcodec.batch import CODED, list_folder
from vrcodec.batch.listing import Suffix
from vrcodec.bitstream.container import PEEK_BYTES, Extra, Header, SourceKind, Stream, pack, peek
from vrcodec.conditional.dials import MAX_DIALS, Conditioning
from vrcodec.errors import FormatError
from vrcodec.pictures import FORMATS
from vrcodec.pictures.formats import WRITTEN
from vrcodec.pictures.results import fitted_size, same_format


def formats_of(folder: Path) -> dict[str, str]:
    """What the pictures in a folder are, whatever they are called."""
    found = {}
    for path in sorted(folder.iterdir()):
        with Image.open(path) as image:
            found[path.name] = f"{image.format} {image.mode}"
    return found


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a picture of every kind that matters, and with names that clash."""
    folder = tmp_path_factory.mktemp("sources")
    plain = picture(1)
    clear = plain.convert("RGBA")
    clear.putalpha(plain.convert("L"))
    plain.save(folder / "photo.jpg", dpi=(72, 72))
    plain.save(folder / "other.jpeg")
    plain.save(folder / "photo.png")
    clear.save(folder / "clear.png")
    clear.save(folder / "clear.webp", lossless=True)
    plain.save(folder / "anim.gif")
    plain.convert("L").save(folder / "grey.tif")
    plain.save(folder / "raw.ppm")
    plain.save(folder / "old.bmp")
    return folder


@pytest.fixture(scope="module")
def coded(
    sources: Path,
    run_vrcodec: RunVrcodec,
    tiny_weights: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    out = tmp_path_factory.mktemp("coded") / "out"
    result = run_vrcodec(
        "encode", sources, "-o", out, "--jobs", "1", "--weights", tiny_weights, "--device", "cpu"
    )
    assert result.returncode == 0, result.stderr
    return out


def test_a_folder_of_all_kinds_comes_back_whole(
    coded: Path, tmp_path: Path, vrcodec: RunVrcodec
) -> None:
    """Each as what it was, under the name it had; PNG for what its format does not hold."""
    back = tmp_path / "back"
    command = ("decode", coded, "-o", back, "--format", "same", "--jobs", "1")
    result = vrcodec(*command, "--report", tmp_path / "r.csv")
    assert (result.returncode, result.stderr) == (0, b"")
    assert formats_of(back) == {
        "anim.png": "PNG RGB",
        "clear.png": "PNG RGBA",
        "clear.webp": "WEBP RGBA",
        "grey.tif": "TIFF L",
        "old.bmp": "BMP RGB",
        "other.jpg": "JPEG RGB",
        "photo.jpg": "JPEG RGB",
        "photo.png": "PNG RGB",
        "raw.ppm": "PPM RGB",
    }
    rows = (tmp_path / "r.csv").read_text().splitlines()
    assert sum(",done,jpeg," in row for row in rows) == 2
    again = vrcodec(*command)
    assert again.stdout == b"0 done, 9 finished before\n"
    other = vrcodec(*command, "--jpeg-quality", "20")
    assert other.stdout.startswith(b"9 done")


def test_single_files_and_streams_come_back_as_what_they_were(
    coded: Path, tmp_path: Path, vrcodec: RunVrcodec
) -> None:
    for name in ("photo.jpg.vrc", "clear.png.vrc"):
        (tmp_path / name).write_bytes((coded / name).read_bytes())
    same = ("--format", "same")
    assert vrcodec("decode", "photo.jpg.vrc", *same, cwd=tmp_path).returncode == 0
    result = vrcodec("decode", "photo.jpg.vrc", *same, cwd=tmp_path)
    assert result.stderr == b"photo.jpg.vrc: photo.jpg exists, writing photo.jpg.decoded.jpg\n"
    data = (tmp_path / "clear.png.vrc").read_bytes()
    piped = vrcodec("decode", "-", *same, input=data)
    assert piped.stdout.startswith(b"\x89PNG")
    usage = vrcodec("decode", "-", *same, "-o", f"{tmp_path}/", input=data)
    assert usage.returncode == 2 and b"name a file after -o" in usage.stderr

    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.vrc")
        usage = vrcodec("decode", "pipe.vrc", *same, cwd=tmp_path, timeout=60)
        assert usage.returncode == 2 and b"pipe.vrc is read only once" in usage.stderr


def test_quality_of_jpeg_and_stripping(coded: Path, tmp_path: Path, vrcodec: RunVrcodec) -> None:
    source, sizes = coded / "photo.jpg.vrc", []
    for quality in ("20", "95", "100"):
        target = tmp_path / f"{quality}.jpg"
        result = vrcodec("decode", source, target, "--jpeg-quality", quality, "--quiet")
        assert result.returncode == 0, result.stderr
        sizes.append(target.stat().st_size)
    assert sizes == sorted(set(sizes))
    vrcodec("decode", source, tmp_path / "usual.jpg")
    assert (tmp_path / "usual.jpg").read_bytes() == (tmp_path / "95.jpg").read_bytes()
    assert Image.open(tmp_path / "usual.jpg").info["dpi"] == (72, 72)
    vrcodec("decode", source, tmp_path / "bare.jpg", "--strip")
    assert "dpi" not in Image.open(tmp_path / "bare.jpg").info


def test_a_folder_for_results_may_have_any_name(
    coded: Path, tmp_path: Path, vrcodec: RunVrcodec
) -> None:
    """What ends the name of a file chooses its format, and of a folder nothing."""
    for name in ("restored.2024", "photos.jpg"):
        result = vrcodec(
            "decode", coded, "-o", tmp_path / name, "--include", "*.vrc", "--jobs", "1"
        )
        assert result.returncode == 0, result.stderr
        formats = formats_of(tmp_path / name).values()
        assert formats and all(format.startswith("PNG") for format in formats)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--jpeg-quality", "101"], "not in the range"),
        (["--jpeg-quality", "50"], "--jpeg-quality is for JPEG, and the result is png"),
        (["--scale", "1/3"], "'1/3' is not one of '1', '1/2', '1/4', '1/8'"),
        (["--scale", "1/2", "--fit", "9"], "--scale and --fit exclude each other"),
        (["--fit", "0"], "not in the range"),
    ],
)
def test_wrong_usage_of_decode(arguments: list[str], text: str, run_vrcodec: RunVrcodec) -> None:
    result = run_vrcodec("decode", "x.vrc", *arguments)
    assert result.returncode == 2 and text in result.stderr.decode()


@pytest.mark.parametrize("kind", SourceKind)
def test_every_kind_of_source_has_a_format(kind: SourceKind) -> None:
    for transparent in (False, True):
        format = same_format(kind, transparent)
        assert format in FORMATS
        assert WRITTEN[format].alpha or not transparent


def test_names_that_have_the_suffix_keep_it_unless_they_clash(tmp_path: Path) -> None:
    jpeg = Suffix(".jpg", frozenset({".jpg", ".jpeg"}))
    for name in ("a.JPG.vrc", "b.vrc", "b.jpg.vrc", "c.png.vrc"):
        (tmp_path / name).touch()
    tasks = list_folder(tmp_path, tmp_path / "out", CODED, lambda source: jpeg).tasks
    names = [Path(task.target).name for task in tasks]
    assert names == ["a.JPG", "b.jpg.vrc.jpg", "b.vrc.jpg", "c.png.jpg"]


def test_the_beginning_of_a_file_tells_its_kind() -> None:
    """Also of one with the longest header there can be."""
    header = Header(
        1 << 17,
        1 << 23,
        "0" * 16,
        Conditioning((1,) * MAX_DIALS),
        source_kind=SourceKind.OTHER_LOSSY,
    )
    extras = {tag: bytes(range(250)) * 400 for tag in Extra}
    data = pack(Stream(header, b"z", (b"",) * header.section_count, 0, extras))
    assert peek(data[:PEEK_BYTES]) == (header, frozenset(Extra))
    with pytest.raises(FormatError):
        peek(data[:20])


@pytest.mark.parametrize(
    ("size", "side", "expected"),
    [((640, 480), 128, (128, 96)), ((3, 3000), 100, (1, 100)), ((10, 20), 64, (10, 20))],
)
def test_fitted_pictures_keep_their_shape(
    size: tuple[int, int], side: int, expected: tuple[int, int]
) -> None:
    assert fitted_size(size, side) == expected
