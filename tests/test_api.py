"""The module's functions: what they take, what they refuse in plain words, what they show."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import vrcodec
from vrcodec import Codec, EncodeSettings, Measure, Target
from vrcodec.bitstream.container import unpack
from vrcodec.conditional.film import Condition

PICTURE = Path(__file__).parent / "pictures" / "hibiscus.png"


@pytest.fixture(scope="module")
def coded(tiny_weights: Path) -> bytes:
    return vrcodec.encode(Image.open(PICTURE), 0.5, weights=tiny_weights)


@pytest.mark.parametrize(
    "given",
    [
        lambda: PICTURE,
        lambda: str(PICTURE),
        PICTURE.read_bytes,
        lambda: bytearray(PICTURE.read_bytes()),
        lambda: memoryview(PICTURE.read_bytes()),
        lambda: io.BytesIO(PICTURE.read_bytes()),
        lambda: PICTURE.open("rb"),
        lambda: np.asarray(Image.open(PICTURE).convert("RGB")),
        lambda: np.asarray(Image.open(PICTURE).convert("RGB"))[::-1][::-1],
    ],
    ids=["path", "str", "bytes", "bytearray", "memoryview", "stream", "file", "array", "strided"],
)
def test_pictures_of_any_kind(given: Callable[[], Any], tiny_weights: Path) -> None:
    """But for the kind of the source, which an array has not."""
    files = [
        unpack(vrcodec.encode(source, 0.5, weights=tiny_weights, strip=True))
        for source in (given(), Image.open(PICTURE))
    ]
    assert files[0].z == files[1].z and files[0].y == files[1].y


@pytest.mark.parametrize("shape", [(40, 50), (40, 50, 1), (40, 50, 2), (40, 50, 3), (40, 50, 4)])
def test_arrays_of_any_channels(shape: tuple[int, ...], tiny_weights: Path) -> None:
    data = vrcodec.encode(np.full(shape, 99, np.uint8), 0.9, weights=tiny_weights)
    modes = {2: "L", 1: "L", 3: "RGB", 4: "RGBA"}
    channels = shape[2] if len(shape) == 3 else 1
    mode = "LA" if channels == 2 else modes[channels]
    assert vrcodec.decode(data, weights=tiny_weights).mode == mode


def as_array(data: bytes) -> np.ndarray:
    return np.frombuffer(data, np.uint8)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, io.BytesIO, as_array])
def test_files_of_any_kind(kind: Callable[[bytes], Any], coded: bytes, tiny_weights: Path) -> None:
    expected = np.asarray(vrcodec.decode(coded, weights=tiny_weights))
    shown = vrcodec.decode(kind(coded), weights=tiny_weights)
    np.testing.assert_array_equal(np.asarray(shown), expected)
    assert vrcodec.info(kind(coded)) == vrcodec.info(coded)
    codec = Codec(tiny_weights, "cpu")
    np.testing.assert_array_equal(np.asarray(codec.decode_pictures([kind(coded)])[0]), expected)


def test_files_by_name(coded: bytes, tiny_weights: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.vrc"
    path.write_bytes(coded)
    for source in (path, str(path)):
        assert vrcodec.info(source)["bytes"] == len(coded)
        assert vrcodec.decode(source, weights=tiny_weights).size == Image.open(PICTURE).size
    for function in (vrcodec.info, vrcodec.decode):
        with pytest.raises(vrcodec.VrcodecError, match=r"b\.vrc"):
            function(tmp_path / "b.vrc")


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        (None, "NoneType is no picture: pass a Pillow picture, a NumPy array of uint8, a path"),
        (7, "int is no picture"),
        ([[1, 2]], "list is no picture"),
        (torch.zeros(3, 8, 8), "Tensor is no picture"),
        (np.zeros((8, 8, 3), np.float32), r"float32 \(8, 8, 3\) is no picture: pass uint8"),
        (np.zeros((3, 8, 8), np.uint8), r"uint8 \(3, 8, 8\) is no picture"),
        (np.zeros((0, 8), np.uint8), "without pixels"),
        (io.StringIO("text"), "StringIO is no file: pass a path, bytes, or a file opened with"),
        (b"junk", "cannot be read"),
        (np.full((8, 8, 3), np.nan), r"float64 \(8, 8, 3\) is no picture: pass uint8"),
        (np.zeros((8, 8, 5), np.uint8), r"uint8 \(8, 8, 5\) is no picture"),
        (np.zeros(8, np.uint8), r"uint8 \(8,\) is no picture"),
        (Image.new("RGB", (0, 5)), "without pixels"),
        ("none.png", r"none\.png: no such file"),
    ],
)
def test_what_is_no_picture_is_said(wrong: Any, text: str, tiny_weights: Path) -> None:
    with pytest.raises(vrcodec.VrcodecError, match=text) as caught:
        vrcodec.encode(wrong, weights=tiny_weights)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        *(None, 7, [1], Image.new("L", (8, 8)), io.StringIO("VRC")),
        *(np.zeros((8, 8), np.uint8), np.zeros(8, np.float32)),
    ],
)
def test_what_is_no_file_is_said(wrong: Any, tiny_weights: Path) -> None:
    for function in (vrcodec.info, vrcodec.decode):
        with pytest.raises(vrcodec.VrcodecError, match="is no file: pass a path, bytes"):
            function(wrong)


@pytest.mark.slow
def test_a_file_in_text_mode_or_closed_is_said(coded: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.vrc"
    path.write_bytes(coded)
    with path.open() as text, pytest.raises(vrcodec.VrcodecError, match="opened with 'rb'"):
        vrcodec.info(text)  # type: ignore[arg-type]
    with path.open("rb") as closed:
        pass
    for function in (vrcodec.info, vrcodec.decode, vrcodec.encode):
        with pytest.raises(vrcodec.VrcodecError, match=r"a\.vrc.* cannot be read: .*closed file"):
            function(closed)


def test_errors_name_the_file(coded: bytes, tiny_weights: Path, tmp_path: Path) -> None:
    path = tmp_path / "cut.vrc"
    path.write_bytes(coded[:-1])
    for function in (vrcodec.info, vrcodec.decode, Codec(tiny_weights, "cpu").decode):
        for source in (path, str(path), path.open("rb")):
            with pytest.raises(vrcodec.TruncatedError, match=r"^.*cut\.vrc: truncated: needs"):
                function(source)


def test_a_coded_file_is_not_coded_again(coded: bytes, tiny_weights: Path, tmp_path: Path) -> None:
    """But for a picture that somebody has opened on purpose."""
    path = tmp_path / "a.vrc"
    path.write_bytes(coded)
    for source in (path, coded, io.BytesIO(coded)):
        with pytest.raises(vrcodec.PictureError, match=r"a \.vrc file, coded already"):
            vrcodec.encode(source, weights=tiny_weights)
    (tmp_path / "a.png").write_bytes(coded)
    with pytest.raises(vrcodec.PictureError, match=r"a\.png: .*coded already"):
        vrcodec.encode(tmp_path / "a.png", weights=tiny_weights)
    shown = vrcodec.decode(coded, weights=tiny_weights)
    assert vrcodec.info(vrcodec.encode(shown, 0.1, weights=tiny_weights))["bytes"] < len(coded)


@pytest.mark.slow
def test_every_setting_is_a_keyword(tiny_weights: Path) -> None:
    limit = Target(Measure.SIZE, 900)
    data = vrcodec.encode(
        PICTURE, target=limit, effort=1, strip=True, weights=tiny_weights, device="cpu", threads=1
    )
    assert len(data) <= 900
    codec = Codec(tiny_weights, "cpu", threads=1)
    assert data == codec.encode(PICTURE, EncodeSettings(target=limit, effort=1, strip=True))
    assert data == codec.encode(PICTURE, target=limit, effort=1, strip=True)
    by_name = vrcodec.encode(PICTURE, dials={"quality": 0.25}, weights=tiny_weights)
    assert by_name == codec.encode(PICTURE, 0.25) == codec.encode(PICTURE, quality=0.25)
    impossible = Target(Measure.SIZE, 30)
    with pytest.raises(vrcodec.TargetError, match="quality 0 gives"):
        vrcodec.encode(PICTURE, target=impossible, weights=tiny_weights)
    least = vrcodec.encode(PICTURE, target=impossible, best_effort=True, weights=tiny_weights)
    assert least == codec.encode(PICTURE, 0)


@pytest.mark.parametrize("number", [np.float32(0.25), np.float64(0.25), np.array(0.25)[()]])
def test_numbers_of_numpy_are_numbers(number: float, tiny_weights: Path) -> None:
    image = Image.new("RGB", (30, 20), "red")
    plain = vrcodec.encode(image, 0.25, weights=tiny_weights)
    assert vrcodec.encode(image, number, weights=tiny_weights) == plain
    assert vrcodec.encode(image, dials={"quality": number}, weights=tiny_weights) == plain


def test_the_limit_of_pixels_is_a_keyword(coded: bytes, tiny_weights: Path) -> None:
    """Of each call, by one model."""
    with Image.open(PICTURE) as image:
        pixels = image.width * image.height
        for source in (PICTURE, image, np.asarray(image.convert("RGB"))):
            with pytest.raises(vrcodec.PictureError, match=f"{pixels - 1:,}|{pixels - 1}"):
                vrcodec.encode(source, weights=tiny_weights, max_pixels=pixels - 1)
            assert vrcodec.encode(source, weights=tiny_weights, max_pixels=pixels)
    with pytest.raises(vrcodec.PictureError, match="exceed the limit"):
        vrcodec.decode(coded, weights=tiny_weights, max_pixels=pixels - 1)
    assert vrcodec.decode(coded, weights=tiny_weights, max_pixels=np.int64(pixels)).size
    codec = Codec(tiny_weights, "cpu")
    limited = codec.limited(9)
    assert (limited.max_pixels, limited.pipeline) == (9, codec.pipeline)
    assert codec.decode(coded).size and codec.max_pixels > pixels
    with pytest.raises(AttributeError, match="does not change"):
        limited.max_pixels = 10


def test_smaller_pictures_are_a_keyword(coded: bytes, tiny_weights: Path) -> None:
    width, height = vrcodec.decode(coded, weights=tiny_weights).size
    half = vrcodec.decode(coded, 2, weights=tiny_weights)
    assert half.size == (-(-width // 2), -(-height // 2))
    with pytest.raises(vrcodec.ArgumentError, match="reduce is one of 1, 2, 4 and 8, not 3"):
        vrcodec.decode(coded, reduce=3, weights=tiny_weights)


def test_the_runtime_is_a_keyword(coded: bytes, tiny_weights: Path) -> None:
    pytest.importorskip("onnxruntime")
    options = {"weights": tiny_weights, "device": "cpu", "runtime": "onnx"}
    shown = vrcodec.decode(coded, **options)
    other = vrcodec.decode(coded, **options | {"runtime": "torch"})
    assert np.abs(np.asarray(shown).astype(int) - np.asarray(other)).max() <= 1
    assert vrcodec.info(vrcodec.encode(PICTURE, **options))["width"] == shown.width


@pytest.mark.parametrize(
    ("keywords", "text"),
    [
        ({"weights": 5}, "weights are the path of a file, not a int"),
        ({"weights": ["a"]}, "weights are the path of a file, not a list"),
        ({"weights": "none"}, "none: not a weights file: no such file"),
        ({"device": 0}, "device is the name of one, not 0"),
        ({"device": None}, "device is the name of one, not None"),
        ({"device": "abacus"}, "device abacus is not available"),
        ({"threads": 0}, "threads are a number from 1 on"),
        ({"threads": "all"}, "threads are a number from 1 on"),
        ({"runtime": "tensorflow"}, "runtime 'tensorflow' is not one of auto, onnx, torch"),
        ({"runtime": ["onnx"]}, "runtime is the name of one"),
        ({"max_pixels": 0}, "max_pixels is a number from 1 on, not 0"),
        ({"max_pixels": "1e6"}, "max_pixels is a number from 1 on"),
        ({"max_pixels": 1e6}, "max_pixels is a number from 1 on"),
    ],
)
def test_wrong_models_are_said(
    keywords: dict[str, Any], text: str, coded: bytes, tiny_weights: Path
) -> None:
    keywords = {"weights": tiny_weights, **keywords}
    with pytest.raises(vrcodec.VrcodecError, match=text):
        vrcodec.decode(coded, **keywords)
    with pytest.raises(vrcodec.VrcodecError, match=text):
        vrcodec.encode(PICTURE, **keywords)
    with pytest.raises(vrcodec.VrcodecError, match=text):
        Codec(**keywords)


@pytest.mark.parametrize(
    ("keywords", "text"),
    [
        ({"quality": "0.5"}, "quality is a number from 0 to 1, not '0.5'"),
        ({"quality": 75}, r"quality 75 is not in \[0, 1\]: 0\.75\?"),
        ({"quality": float("nan")}, r"quality nan is not in \[0, 1\]"),
        ({"dials": [0.5]}, "dials are a mapping of names to positions"),
        ({"dials": {1: 0.5}}, "dials are a mapping of names to positions"),
        ({"dials": {"quality": None}}, "quality is a number from 0 to 1, not None"),
        ({"effort": "3"}, "effort '3' is not one of 0 to 9"),
        ({"effort": 3.0}, "effort 3.0 is not one of 0 to 9"),
        ({"effort": True}, "effort True is not one of 0 to 9"),
        ({"quality": 0.1, "dials": {"quality": 0.9}}, "a quality is given twice: 0.1 and 0.9"),
        ({"effort": 2.5}, "effort 2.5 is not one of 0 to 9"),
        ({"quality": 1.01}, r"quality 1.01 is not in \[0, 1\]"),
        ({"quality": True}, "quality is a number"),
        ({"dials": {"warmth": 0.5}}, "have no dial warmth; they have quality"),
        ({"effort": 10}, "effort 10 is not one of 0 to 9"),
        ({"target": 30_000}, "a target is a Target"),
        ({"quality": 0.5, "target": Target(Measure.PSNR, 30)}, "exclude each other"),
    ],
)
def test_wrong_settings_are_said(keywords: dict[str, Any], text: str, tiny_weights: Path) -> None:
    with pytest.raises(vrcodec.VrcodecError, match=text):
        vrcodec.encode(PICTURE, **keywords, weights=tiny_weights)
    with pytest.raises(ValueError, match=text):
        Codec(tiny_weights, "cpu").encode(PICTURE, **keywords)


@pytest.mark.parametrize(
    ("measure", "value", "text"),
    [
        ("sizes", 300, "a target is of size, bpp, psnr, ms-ssim, ssimulacra2, not 'sizes'"),
        (["size"], 300, "a target is of size"),
        ("size", "300", "a target's value is a number, not '300'"),
        (Measure.PSNR, None, "a target's value is a number"),
        (Measure.PSNR, True, "a target's value is a number"),
        (Measure.PSNR, float("nan"), "a target of nan cannot be reached"),
    ],
)
def test_wrong_targets_are_said(measure: Any, value: Any, text: str) -> None:
    with pytest.raises(vrcodec.VrcodecError, match=text):
        Target(measure, value)
    assert Target("size", 300) == Target(Measure.SIZE, 300)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("keywords", "text"),
    [
        ({"tile": 0}, "tile is a multiple of 4 from 4 on, not 0"),
        ({"tile": -4}, "tile is a multiple of 4"),
        ({"tile": "8"}, "tile is a multiple of 4"),
        ({"batch_pixels": -1}, "batch_pixels is a number from 0 on"),
        ({"batch_pixels": 1e6}, "batch_pixels is a number from 0 on"),
    ],
)
def test_wrong_pieces_are_said(keywords: dict[str, Any], text: str, tiny_weights: Path) -> None:
    with pytest.raises(vrcodec.ArgumentError, match=text):
        Codec(tiny_weights, "cpu", **keywords)


def test_other_wrong_arguments_are_said(coded: bytes, tiny_weights: Path) -> None:
    for reduce in (2.0, True, "2", 3):
        with pytest.raises(vrcodec.ArgumentError, match="reduce is one of 1, 2, 4 and 8"):
            vrcodec.decode(coded, reduce, weights=tiny_weights)  # type: ignore[arg-type]
    with pytest.raises(vrcodec.ArgumentError, match=r"preset .* is not one of"):
        vrcodec.encode(PICTURE, preset=["web"], weights=tiny_weights)  # type: ignore[arg-type]
    for call in (vrcodec.decode, vrcodec.encode):
        with pytest.raises(vrcodec.VrcodecError, match="null"):
            call("a\0b.vrc", weights=tiny_weights)


def test_settings_and_keywords_contradict(tiny_weights: Path) -> None:
    with pytest.raises(vrcodec.VrcodecError, match="strip would contradict"):
        Codec(tiny_weights, "cpu").encode(PICTURE, EncodeSettings(), strip=True)


def test_only_public_names_are_shown() -> None:
    assert set(dir(vrcodec)) == {*vrcodec.__all__, "__version__"}
    for name in vrcodec.__all__:
        assert getattr(vrcodec, name) is not None
    with pytest.raises(AttributeError, match="nonsense"):
        vrcodec.nonsense  # noqa: B018


@pytest.mark.slow
def test_the_model_takes_a_quality_as_such() -> None:
    model = vrcodec.load_model()
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        plain = model(x, 0.5)
        for conditioning in (
            torch.tensor([[0.5]]),
            model.config.dials.at(0.5),
            model.condition(0.5),
            np.float32(0.5),
            torch.tensor(0.5),
        ):
            torch.testing.assert_close(model(x, conditioning).x_hat, plain.x_hat, rtol=0, atol=0)
        assert model(x, 1).bpp > 1.5 * plain.bpp
        for wrong in (torch.tensor([0.5]), torch.zeros(1, 3), torch.zeros(1, 1, 1)):
            with pytest.raises(vrcodec.VrcodecError, match=r"conditioning of shape .* \(B, 2\)"):
                model(x, wrong)
        with pytest.raises(vrcodec.DialError, match=r"quality 1.5 is not in \[0, 1\]"):
            model(x, 1.5)


def test_a_map_of_qualities_conditions_every_position() -> None:
    """A map that is the same everywhere is a vector; where it differs, the rate follows it."""
    model = vrcodec.load_model()
    with Image.open(PICTURE.with_name("macaw.png")) as file:
        crop = np.asarray(file.convert("RGB"))[:128, :128].copy()
    x = torch.from_numpy(crop).permute(2, 0, 1)[None].float() / 255
    even, uneven = torch.full((2, 1, 1, 8, 8), 0.3)
    uneven[..., 4:] = 0.8
    with torch.no_grad():
        plain, mapped, split = (model(x, given) for given in (0.3, even, uneven))
    condition: Condition = model.condition(uneven)
    assert condition.step.shape == (1, 768, 8, 8)
    # Sums in another order: a symbol that lies just between two integers may become the other.
    assert (mapped.symbols != plain.symbols).sum() <= 5
    assert (mapped.x_hat - plain.x_hat).abs().mean() < 5e-4
    torch.testing.assert_close(mapped.y_bits.sum(), plain.y_bits.sum(), rtol=1e-3, atol=1)
    left, right = (split.y_bits[..., part].sum() for part in (slice(0, 4), slice(4, 8)))
    left_before, right_before = (
        plain.y_bits[..., part].sum() for part in (slice(0, 4), slice(4, 8))
    )
    assert right > 2 * right_before
    assert left < 1.5 * left_before


def test_info_needs_no_torch(coded: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.vrc"
    path.write_bytes(coded)
    code = f"import vrcodec; vrcodec.info({str(path)!r}); vrcodec.EncodeSettings.of(0.5)"
    check = code + "; import sys; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", check], check=True, timeout=60)
