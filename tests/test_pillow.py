"""Pillow's plugin, tested as Pillow tests its own."""

from __future__ import annotations

import copy
import io
import os
import pickle
import subprocess
import sys
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import GOLDEN, golden_files, linux_only
from PIL import (
    ExifTags,
    Image,
    ImageCms,
    ImageDraw,
    ImageFile,
    ImageOps,
    UnidentifiedImageError,
)

import vrcodec
from vrcodec import pillow
from vrcodec.bitstream.extras import Extra
from vrcodec.conditional.dials import Dial, Dials
from vrcodec.pictures import to_coded

PHOTO = GOLDEN / "golden-v2-photo-0.5.vrc"
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"></x:xmpmeta>'


@pytest.fixture(autouse=True)
def tiny_model(monkeypatch: pytest.MonkeyPatch, tiny_weights: Path) -> None:
    """What Pillow opens and saves here is of the tiny model."""
    monkeypatch.setattr(pillow, "WEIGHTS", tiny_weights)
    monkeypatch.setattr(pillow, "DEVICE", "cpu")
    monkeypatch.setattr(pillow, "THREADS", 1)


@pytest.fixture
def photo(pictures: Path) -> Image.Image:
    with Image.open(pictures / "hibiscus.png") as image:
        return image.convert("RGB")


def saved(image: Image.Image, **options: Any) -> io.BytesIO:
    file = io.BytesIO()
    image.save(file, "VRC", **options)
    file.seek(0)
    return file


def pickled(image: Image.Image) -> Image.Image:
    again: Image.Image = pickle.loads(pickle.dumps(image))  # noqa: S301 (our own)
    return again


def exif(**tags: Any) -> Image.Exif:
    block = Image.Exif()
    block.update({ExifTags.Base[name]: value for name, value in tags.items()})
    return block


# Registration


@pytest.mark.parametrize(
    "imports",
    [
        "import vrcodec; assert 'PIL' not in sys.modules; from PIL import Image",
        "from PIL import Image; import vrcodec",
        "import vrcodec.pillow; from PIL import Image",
        "import vrcodec; import PIL.PngImagePlugin; from PIL import Image",
    ],
)
def test_importing_registers(imports: str) -> None:
    """In any order; and what is known before decoding needs no torch."""
    script = f"""
import sys
{imports}
import PIL
assert Image.__spec__.loader is Image.__loader__ and type(Image.__loader__) is type(PIL.__loader__)
with Image.open(sys.argv[1]) as image:
    print(image.format, image.size, image.mode)
assert not {{"torch", "onnxruntime"}} & set(sys.modules)
"""
    result = subprocess.run(
        [sys.executable, "-c", script, str(PHOTO)],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=GOLDEN.parents[2],
    )
    assert result.returncode == 0, result.stderr
    facts = vrcodec.info(PHOTO)
    assert result.stdout == f"VRC {(facts['width'], facts['height'])} RGB\n"


@pytest.mark.slow
def test_pixels_without_torch(tmp_path: Path, tiny_weights: Path) -> None:
    """Opened and saved by ONNX Runtime."""
    pytest.importorskip("onnxruntime")
    script = """
import sys
sys.modules["torch"] = None
import vrcodec.pillow
from PIL import Image
source, target, vrcodec.pillow.WEIGHTS = sys.argv[1:]
with Image.open(source) as image:
    image.crop((0, 0, 40, 30)).save(target, quality=0.2)
with Image.open(target) as image:
    print(image.convert("RGB").size)
"""
    command = [sys.executable, "-c", script, PHOTO, tmp_path / "a.vrc", tiny_weights]
    result = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, timeout=60, cwd=GOLDEN.parents[2]
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout == "(40, 30)\n"


def test_names() -> None:
    assert Image.registered_extensions()[".vrc"] == "VRC"
    assert Image.MIME["VRC"] == "image/x-vrc"
    desktop = (GOLDEN.parent / "desktop" / "vrcodec.xml").read_text()
    assert '<mime-type type="image/x-vrc">' in desktop and 'pattern="*.vrc"' in desktop
    with Image.open(PHOTO) as image:
        assert (image.format, image.format_description) == ("VRC", "vrcodec picture")
        assert image.get_format_mimetype() == "image/x-vrc"


def test_other_files_do_not_reach_the_plugin(
    monkeypatch: pytest.MonkeyPatch, pictures: Path
) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("asked about a file of another format")

    monkeypatch.setitem(Image.OPEN, "VRC", (fail, Image.OPEN["VRC"][1]))
    with Image.open(pictures / "hibiscus.png") as image:
        assert image.format == "PNG"
    for data in (b"", b"VR", b"vrc" + bytes(20), b"\0VRC", b"GIF89a"):
        with pytest.raises(UnidentifiedImageError):
            Image.open(io.BytesIO(data))


# Opening


@pytest.mark.parametrize("path", golden_files(), ids=lambda path: path.stem)
def test_pixels_are_those_of_decode(path: Path, tiny_weights: Path) -> None:
    expected = vrcodec.decode(path, weights=tiny_weights, threads=1)
    with Image.open(path) as image:
        assert (image.size, image.mode) == (expected.size, expected.mode)
        assert image.info == expected.info
        np.testing.assert_array_equal(np.asarray(image), np.asarray(expected))


def test_pixels_are_decoded_when_they_are_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    real = pillow.shared_codec
    monkeypatch.setattr(pillow, "shared_codec", lambda *a, **k: calls.append(1) or real(*a, **k))
    with Image.open(PHOTO) as image:
        assert image.size and image.mode and image.getexif() == {} and not calls
        image.getpixel((0, 0))
        image.load()
        image.tobytes()
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("mode", "shown"),
    [
        *(("1", "L"), ("L", "L"), ("LA", "LA"), ("La", "LA"), ("P", "RGB"), ("PA", "RGBA")),
        *(("RGB", "RGB"), ("RGBA", "RGBA"), ("RGBa", "RGBA"), ("RGBX", "RGB"), ("CMYK", "RGB")),
        *(("YCbCr", "RGB"), ("HSV", "RGB"), ("LAB", "RGB"), ("I", "L"), ("F", "L"), ("I;16", "L")),
    ],
)
@pytest.mark.filterwarnings("ignore:.*converted to RGB", "ignore:coded at 8 bits")
def test_every_mode_can_be_saved(mode: str, shown: str, photo: Image.Image) -> None:
    source = photo.convert("RGBA")
    source.putalpha(Image.linear_gradient("L").resize(photo.size))
    steps = {"PA": ["P"], "RGBa": ["RGBA"], "La": ["LA"], "I;16": ["I"]}.get(mode, [])
    if mode == "LAB":
        lab, srgb = (ImageCms.createProfile(name) for name in ("LAB", "sRGB"))
        image = ImageCms.profileToProfile(photo, srgb, lab, outputMode="LAB")
        del image.info["icc_profile"]
    else:
        image = source if "a" in mode.lower() else photo
        for step in [*steps, mode]:
            image = image.convert(step)
    with Image.open(saved(image, quality=0.9)) as back:
        assert (back.mode, back.size) == (shown, photo.size)
        assert back.getextrema()


def test_reading_needs_no_seeking_and_no_name() -> None:
    reader, writer = os.pipe()
    os.write(writer, PHOTO.read_bytes())
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe, Image.open(pipe) as image:
        assert image.convert("RGB").size == image.size


def test_incremental_parser() -> None:
    parser = ImageFile.Parser()
    data = PHOTO.read_bytes()
    for start in range(0, len(data), 100):
        parser.feed(data[start : start + 100])
    with Image.open(PHOTO) as image:
        np.testing.assert_array_equal(np.asarray(parser.close()), np.asarray(image))


def test_there_is_one_frame() -> None:
    with Image.open(PHOTO) as image:
        assert image.tell() == 0
        image.seek(0)
        with pytest.raises(EOFError):
            image.seek(1)


@linux_only
def test_the_file_is_closed_after_loading(tmp_path: Path) -> None:
    path = tmp_path / "a.vrc"
    path.write_bytes(PHOTO.read_bytes())

    def is_open() -> bool:
        links = Path("/proc/self/fd").iterdir()
        return str(path) in [os.readlink(link) for link in links if link.is_symlink()]

    image = Image.open(path)
    assert is_open()
    image.load()
    assert not is_open()
    with Image.open(path):
        pass
    assert not is_open()
    with path.open("rb") as file:
        Image.open(file).load()
        assert not file.closed  # it is the caller's


def test_a_closed_picture_is_not_decoded() -> None:
    with Image.open(PHOTO) as left:
        pass
    image = Image.open(PHOTO)
    image.verify()
    for gone in (left, image):
        with pytest.raises(OSError):
            gone.load()
    image = Image.open(PHOTO)
    image.close()
    with pytest.raises(ValueError):
        image.load()


@pytest.mark.parametrize("load", [False, True], ids=["before loading", "after loading"])
@pytest.mark.parametrize(
    "copied",
    [Image.Image.copy, copy.copy, copy.deepcopy, pickled],
    ids=["copy", "copy.copy", "deepcopy", "pickle"],
)
def test_copies(copied: Callable[[Image.Image], Image.Image], load: bool) -> None:
    data = saved(Image.open(PHOTO), exif=exif(Artist="Somebody"))
    with Image.open(data) as image:
        if load:
            image.load()
        other = copied(image)
        assert other == image or np.array_equal(np.asarray(other), np.asarray(image))
        assert other.getexif()[ExifTags.Base.Artist] == "Somebody"


def test_many_threads_open_files_at_once() -> None:
    def pixels(_: int) -> bytes:
        with Image.open(PHOTO) as image:
            return image.tobytes()

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(pixels, range(16)))) == 1


@pytest.mark.parametrize(
    ("size", "reduce"), [((40, 30), 1), ((38, 5), 1), ((37, 26), 2), ((12, 12), 4), ((1, 1), 8)]
)
def test_a_draft_is_decoded_smaller(
    size: tuple[int, int], reduce: int, photo: Image.Image, tiny_weights: Path
) -> None:
    file = saved(photo)
    with Image.open(file) as image:
        assert image.size == (75, 53)
        drafted = image.draft(None, size)
        if reduce == 1:
            assert drafted is None and image.size == (75, 53)
            return
        assert drafted == ("RGB", (0, 0, 75 / reduce, 53 / reduce))
        assert image.draft(None, (1, 1)) is None  # once
        assert image.size == (-(-75 // reduce), -(-53 // reduce))
        wanted = vrcodec.decode(file.getvalue(), reduce, weights=tiny_weights, threads=1)
        np.testing.assert_array_equal(np.asarray(image), np.asarray(wanted))
    assert image.draft(None, (1, 1)) is None  # it is loaded


def test_thumbnails_are_made_from_drafts(
    monkeypatch: pytest.MonkeyPatch, photo: Image.Image
) -> None:
    """Of twice their size at least, for quality's sake."""
    large = photo.resize((400, 280))
    with Image.open(saved(large, quality=0.9)) as image:
        wanted = image.resize((70, 49), Image.Resampling.BOX)
    with Image.open(saved(large, quality=0.9)) as image:
        image.thumbnail((70, 70))
        assert image.size == (70, 49) and image._reduce == 2
        apart = np.asarray(image).astype(float) - np.asarray(wanted)
    assert np.abs(apart).mean() < 12


# Files that are not sound


def test_another_format_is_a_syntax_error(pictures: Path) -> None:
    with pytest.raises(SyntaxError, match=r"not a \.vrc file"):
        pillow.VrcImageFile(str(pictures / "hibiscus.png"))


def test_truncated_files_are_unidentified() -> None:
    data = PHOTO.read_bytes()
    for length in (*range(3, 40), len(data) // 2, len(data) - 1):
        with pytest.raises(UnidentifiedImageError, match=r"truncated|version|cannot identify"):
            Image.open(io.BytesIO(data[:length]))


def test_truncated_files_are_never_filled_up(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    path = tmp_path / "cut.vrc"
    path.write_bytes(PHOTO.read_bytes()[:-30])
    with pytest.raises(OSError, match=r"cannot read '.*cut\.vrc': truncated: needs \d+ bytes"):
        Image.open(path)


def test_changed_bytes_are_an_oserror() -> None:
    data = bytearray(PHOTO.read_bytes())
    for place in range(3, len(data), 5):
        data[place] ^= 0x41
        with pytest.raises(OSError), Image.open(io.BytesIO(data)) as image:
            image.load()
        data[place] ^= 0x41


@pytest.mark.parametrize("name", ["container", "decode"])
def test_hostile_files_end_as_pillow_users_expect(name: str) -> None:
    """The corpus of the fuzzer: pictures, or an OSError."""
    corpus = sorted((Path(__file__).parent / "corpus" / name).iterdir())
    assert len(corpus) > 20
    opened = 0
    for path in corpus:
        try:
            with Image.open(path) as image:
                image.load()
                opened += 1
        except (OSError, Image.DecompressionBombError):
            continue
    assert opened < len(corpus)


def test_other_weights_are_named_when_pixels_are_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pillow, "WEIGHTS", None)
    with Image.open(PHOTO) as image:
        assert image.size
        for _ in range(2):
            with pytest.raises(OSError, match=r"cannot decode '.*': made with weights"):
                image.load()


def test_pillows_limit_of_pixels_holds_before_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    with Image.open(PHOTO) as image:
        pixels = image.width * image.height
    monkeypatch.setattr(pillow, "shared_codec", None)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", pixels // 2 - 1)
    with pytest.raises(Image.DecompressionBombError):
        Image.open(PHOTO)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", pixels - 1)
    with pytest.warns(Image.DecompressionBombWarning):
        Image.open(PHOTO)


# Saving


def test_a_saved_file_is_that_of_encode(
    photo: Image.Image, tmp_path: Path, tiny_weights: Path
) -> None:
    path = tmp_path / "a.vrc"
    photo.save(path, quality=0.3, effort=1)
    wanted = vrcodec.encode(photo, 0.3, effort=1, weights=tiny_weights, device="cpu", threads=1)
    assert path.read_bytes() == wanted
    assert saved(photo, dials={"quality": 0.3}, effort=1).getvalue() == wanted
    assert saved(photo, quality=None).getvalue() == saved(photo).getvalue() != wanted
    limit = vrcodec.Target(vrcodec.Measure.SIZE, 800)
    assert len(saved(photo, target=limit).getvalue()) <= 800


def test_dials_are_keywords(monkeypatch: pytest.MonkeyPatch, photo: Image.Image) -> None:
    """By the names that the weights have for them."""
    seen = []

    class Codec:
        dials = Dials((Dial("quality", 0.1, 1.0), Dial("film-grain", 0.1, 1.0)))

        def prepared(self, image: Image.Image, strip: bool) -> Any:
            return type("Picture", (), {"notes": (), "extras": {}})

        def encode_pictures(self, pictures: Any, settings: vrcodec.EncodeSettings) -> Any:
            seen.append(dict(settings.dials))
            return [vrcodec.Encoded(b"VRC", None)]  # type: ignore[arg-type]

    monkeypatch.setattr(pillow, "shared_codec", lambda **_: Codec())
    saved(photo, quality=0.3, film_grain=0.9, optimize=True)
    saved(photo, dials={"quality": 0.2, "film-grain": 0.1})
    assert seen == [{"quality": 0.3, "film-grain": 0.9}, {"quality": 0.2, "film-grain": 0.1}]


def test_metadata_comes_back_under_pillows_names(photo: Image.Image) -> None:
    block = exif(Artist="Somebody")
    given = {"exif": block, "icc_profile": SRGB, "xmp": XMP, "dpi": (300, 150)}
    for options in (given, given | {"exif": block.tobytes()}):
        with Image.open(saved(photo, **options)) as image:
            assert image.info["icc_profile"] == SRGB
            assert image.info["xmp"] == XMP
            assert image.info["dpi"] == (300, 150)
            assert image.info["exif"].startswith(b"Exif\0\0")
            assert image.getexif()[ExifTags.Base.Artist] == "Somebody"


def test_metadata_is_kept_replaced_or_left_out(tmp_path: Path, photo: Image.Image) -> None:
    """Of pictures that Pillow opened as of new ones; what shows is upright in any case."""
    path = tmp_path / "a.jpg"
    photo.save(path, exif=exif(Artist="Somebody", Orientation=6), icc_profile=SRGB, dpi=(72, 72))
    upright = photo.size[::-1]
    with Image.open(path) as image:
        kept = Image.open(saved(image))
        assert kept.info["icc_profile"] == SRGB and kept.size == upright
        assert kept.getexif()[ExifTags.Base.Artist] == "Somebody"
        assert kept.getexif().get(ExifTags.Base.Orientation, 1) == 1
        replaced = Image.open(saved(image, exif=exif(Artist="Another", Orientation=6)))
        assert replaced.getexif()[ExifTags.Base.Artist] == "Another" and replaced.size == upright
        bare = Image.open(saved(image, exif=b"", icc_profile=None))
        assert set(bare.info) == {"dpi"} and bare.size == upright
        stripped = Image.open(saved(image, strip=True))
        assert stripped.info == {} and stripped.size == upright
        assert image.info["icc_profile"] == SRGB  # the source is as before


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "AVIF", "TIFF"])
@pytest.mark.parametrize("load", [False, True])
def test_what_a_caller_has_done_to_metadata_holds(
    format: str, load: bool, photo: Image.Image
) -> None:
    """Turned in place, a picture is not turned again; what was taken out does not come back."""
    block, stream = exif(Artist="Somebody", Orientation=6, Software="Secret"), io.BytesIO()
    photo.save(stream, format, exif=block)

    def opened() -> Image.Image:
        image = Image.open(io.BytesIO(stream.getvalue()))
        if load:
            image.load()
        return image

    kept = to_coded(opened())
    assert kept.pixels.shape[:2] == photo.size
    assert b"Somebody" in kept.extras[Extra.EXIF] and b"Secret" in kept.extras[Extra.EXIF]
    turned = opened()
    ImageOps.exif_transpose(turned, in_place=True)
    np.testing.assert_array_equal(to_coded(turned).pixels, kept.pixels)
    changed = opened()
    if format == "TIFF":
        del changed.tag_v2[ExifTags.Base.Software]  # type: ignore[attr-defined]
    else:
        less = changed.getexif()
        del less[ExifTags.Base.Software]
        changed.info["exif"] = less.tobytes()
    assert b"Secret" not in b"".join(to_coded(changed).extras.values())


def test_alpha_put_where_the_file_has_none_is_kept(photo: Image.Image) -> None:
    stream = io.BytesIO()
    photo.convert("RGBA").save(stream, "TGA")
    data = bytearray(stream.getvalue())
    data[17] &= 0xF0  # the file says that its fourth samples mean nothing
    image = Image.open(io.BytesIO(data))
    assert Extra.ALPHA not in to_coded(image).extras
    image.putalpha(128)
    assert set(to_coded(image).alpha.ravel()) == {128}  # type: ignore[union-attr]


def test_losses_are_warnings_at_the_line_that_saves(photo: Image.Image) -> None:
    with pytest.warns(UserWarning, match="CMYK converted to RGB") as caught:
        photo.convert("CMYK").save(io.BytesIO(), "VRC")
    assert caught[0].filename == __file__
    with pytest.warns(UserWarning, match=r"coded at 8 bits \(16 in the source\)"):
        saved(Image.new("I;16", (20, 20)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        saved(photo)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"quality": 75}, r"quality 75 is not in \[0, 1\]: 0.75\?"),
        ({"quality": "high"}, "quality is a number from 0 to 1"),
        ({"effort": 11}, "effort 11 is not one of 0 to 9"),
        ({"dials": {"warmth": 1}}, "no dial warmth"),
        ({"threads": 0}, "threads are a number"),
        ({"dials": [1]}, "dials are a mapping"),
        ({"dpi": 72}, "dpi is two numbers above zero, across and down, not 72"),
        ({"dpi": (72, 0)}, "dpi is two numbers above zero"),
        ({"icc_profile": object()}, "icc_profile is the bytes of a profile"),
        ({"exif": {274: 1}}, "exif is bytes or an Image.Exif"),
        ({"xmp": 5}, "xmp is bytes"),
        ({"max_pixels": "many"}, "max_pixels is a number"),
        ({"save_all": True, "append_images": [Image.new("L", (9, 9))]}, "holds one picture"),
        ({"append_images": [Image.new("L", (9, 9))]}, "holds one picture"),
    ],
)
def test_wrong_arguments_are_a_valueerror_and_leave_no_file(
    options: dict[str, Any], text: str, photo: Image.Image, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=text):
        photo.save(tmp_path / "a.vrc", **options)
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_saved_is_an_oserror(photo: Image.Image, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="cannot save as VRC: 131073x1 is too large"):
        Image.new("L", (131073, 1)).save(tmp_path / "a.vrc")
    with pytest.raises(OSError, match="exceed the limit of 10"):
        photo.save(tmp_path / "a.vrc", max_pixels=10)
    with pytest.raises(OSError, match="no such file"):
        photo.save(tmp_path / "a.vrc", weights=tmp_path / "none")
    with pytest.raises(OSError, match="quality 0 gives"):
        photo.save(tmp_path / "a.vrc", target=vrcodec.Target(vrcodec.Measure.SIZE, 20))
    assert list(tmp_path.iterdir()) == []


def test_an_animation_is_refused_or_saved_frame_by_frame(tmp_path: Path) -> None:
    path = tmp_path / "a.gif"
    frames = [Image.new("L", (30, 20), grey) for grey in (0, 120, 255)]
    frames[0].save(path, save_all=True, append_images=frames[1:])
    with Image.open(path) as image:
        with pytest.raises(ValueError, match="save the frames one by one"):
            image.save(tmp_path / "a.vrc", save_all=True)
        with pytest.warns(UserWarning, match="first of 3 frames"):
            image.save(tmp_path / "0.vrc")
        image.seek(1)
        image.save(tmp_path / "1.vrc")
    with Image.open(tmp_path / "1.vrc") as second:
        assert abs(np.asarray(second.convert("L")).astype(int) - 120).max() < 30


def test_one_frame_may_be_saved_as_all(photo: Image.Image) -> None:
    assert saved(photo, save_all=True).getvalue() == saved(photo).getvalue()


@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF"])
def test_a_picture_is_saved_as_it_was_changed(
    format: str, photo: Image.Image, tmp_path: Path
) -> None:
    """Drawn into after it was opened, or made smaller: not as its file still has it."""
    path = tmp_path / f"a.{format.lower()}"
    photo.save(path)
    with Image.open(path) as image:
        ImageDraw.Draw(image).rectangle((0, 0, *image.size), fill=(250, 0, 0))
        back = np.asarray(Image.open(saved(image, quality=1)))
    assert back[..., 0].min() > 200 and back[..., 1].max() < 60
    with Image.open(path) as image:
        image.load()
        image.thumbnail((20, 20))
        assert Image.open(saved(image)).size == image.size


def test_saving_over_the_file_that_was_opened(tmp_path: Path) -> None:
    path = tmp_path / "a.vrc"
    path.write_bytes(PHOTO.read_bytes())
    with Image.open(path) as image:
        size = image.size
        image.save(path, quality=0.1)
    with Image.open(path) as image:
        image.load()
        assert image.size == size
    assert path.stat().st_size < PHOTO.stat().st_size
