"""Pictures through the released weights: what comes back, and what it costs."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import vrcodec
from vrcodec import Codec
from vrcodec.bitstream.container import pack, unpack
from vrcodec.model.loading import build
from vrcodec.pictures.metrics import psnr

PICTURES = Path(__file__).parent / "pictures"


@pytest.fixture(scope="module")
def codec() -> Codec:
    return Codec(device="cpu")


def photo() -> Image.Image:
    with Image.open(PICTURES / "macaw.png") as file:
        return file.convert("RGB")


def odd_pictures() -> dict[str, Image.Image]:
    rng = np.random.default_rng(7)
    rows, columns = np.mgrid[:64, :96]
    checker = np.where((rows + columns) % 2, 255, 0).astype(np.uint8)
    return {
        "noise": Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)),
        "checkerboard": Image.fromarray(np.repeat(checker[..., None], 3, axis=2)),
        "flat": Image.new("RGB", (80, 50), (200, 30, 90)),
        "1x1": Image.new("RGB", (1, 1), (12, 200, 99)),
        "1x1000": photo().resize((1, 1000)),
        "1000x1": photo().resize((1000, 1)),
        "17x33": photo().crop((40, 40, 57, 73)),
    }


@pytest.mark.slow
def test_size_and_quality_grow_with_the_dial(codec: Codec) -> None:
    source = np.asarray(photo())
    sizes, qualities = [], []
    for i in range(11):
        data = codec.encode(photo(), i / 10)
        sizes.append(len(data))
        qualities.append(psnr(source, np.asarray(codec.decode(data))))
    assert sizes == sorted(sizes)
    assert qualities == sorted(qualities)
    assert sizes[-1] > 10 * sizes[0]
    assert qualities[-1] > 39


@pytest.mark.parametrize("name", odd_pictures())
@pytest.mark.parametrize("quality", [0, 0.5, 1])
def test_odd_pictures_come_back(codec: Codec, name: str, quality: float) -> None:
    picture = odd_pictures()[name]
    decoded = codec.decode(codec.encode(picture, quality))
    assert (decoded.size, decoded.mode) == (picture.size, "RGB")
    reached = psnr(np.asarray(picture), np.asarray(decoded))
    if name in ("flat", "1x1", "17x33", "1x1000", "1000x1"):
        assert reached > 20 + 12 * quality
    if quality == 1:
        assert reached > 30


def test_file_is_as_long_as_the_model_estimates(codec: Codec) -> None:
    for quality in (0.2, 0.5, 0.9):
        data = codec.encode(photo(), quality)
        stream = unpack(data)
        latents = codec.pipeline.read_latents(stream)
        estimate = codec.pipeline.estimate_bits(latents, stream.header.conditioning) / 8
        assert abs(len(data) - 29 - estimate) <= 0.01 * estimate + 8


def test_overhead_is_at_most_32_bytes(codec: Codec) -> None:
    data = codec.encode(photo(), 0.5)
    stream = unpack(data)
    assert len(data) - len(stream.z) - sum(map(len, stream.y)) <= 32


def test_grey_stays_grey_and_cheap(codec: Codec) -> None:
    grey = photo().convert("L")
    data = codec.encode(grey, 0.5)
    decoded = codec.decode(data)
    assert decoded.mode == "L"
    assert psnr(np.asarray(grey), np.asarray(decoded)) > 31
    assert len(data) < len(codec.encode(photo(), 0.5))


@pytest.mark.parametrize("name", ["macaw.png", "lighthouse.png"])
@pytest.mark.parametrize("quality", [0.1, 0.9, 1])
def test_grey_costs_at_most_2_percent_more_than_its_luma(
    codec: Codec, name: str, quality: float
) -> None:
    conditioning = codec.dials.at(quality)
    with Image.open(PICTURES / name) as file:
        grey = file.convert("L")
    pixels = np.repeat(np.asarray(grey)[..., None], 3, axis=2)
    latents = codec.pipeline.latents(pixels, conditioning, grey=True)
    colour = build(codec.weights)[0].basis.is_colour.numpy()
    assert colour.sum() == 512 and not latents.y[colour].any()
    tables = codec.weights.y_tables
    numbers = tables.numbers(latents.indexes)[colour]
    bits = tables.at(conditioning).bits(latents.y[colour], numbers)
    file_bits = 8 * len(codec.encode(grey, quality))
    assert bits < 0.02 * (file_bits - bits)
    assert file_bits <= 8 * len(codec.encode(Image.fromarray(pixels), quality)) + 8


def test_wrong_conditioning_hurts(codec: Codec) -> None:
    """The decoder uses the conditioning value: another one gives a worse picture."""
    source = np.asarray(photo())
    right, pipeline = codec.dials.at(0.5), codec.pipeline
    latents = pipeline.latents(source, right)
    reached = psnr(source, pipeline.pixels(latents, right)[: source.shape[0], : source.shape[1]])
    for other in (0.3, 0.7):
        wrong = pipeline.pixels(latents, codec.dials.at(other))
        assert psnr(source, wrong[: source.shape[0], : source.shape[1]]) < reached - 1
    header = dataclasses.replace(
        unpack(codec.encode(photo(), 0.5)).header, conditioning=codec.dials.at(0.8)
    )
    relabelled = pack(dataclasses.replace(unpack(codec.encode(photo(), 0.5)), header=header))
    with pytest.raises(vrcodec.CorruptError):
        codec.decode(relabelled)


def test_other_weights_are_refused_by_id(codec: Codec, tiny_weights: Path) -> None:
    tiny = Codec(tiny_weights, device="cpu")
    with pytest.raises(vrcodec.UnknownWeightsError, match=f"{tiny.weights_id}.*{codec.weights_id}"):
        codec.decode(tiny.encode(photo(), 0.5))


@pytest.mark.parametrize("quality", [-0.01, 1.01, float("nan")])
def test_quality_outside_the_dial_is_an_error(codec: Codec, quality: float) -> None:
    with pytest.raises(ValueError, match="quality"):
        codec.encode(photo(), quality)


def test_size_limit_holds_both_ways(codec: Codec, tiny_weights: Path) -> None:
    small = Codec(device="cpu", max_pixels=1000)
    with pytest.raises(vrcodec.PictureError, match="1000"):
        small.encode(photo())
    with pytest.raises(vrcodec.PictureError, match="1000"):
        small.decode(codec.encode(photo(), 0))


def test_a_picture_too_wide_for_the_format_is_refused(codec: Codec) -> None:
    with pytest.raises(vrcodec.PictureError, match="131073x1 is too large"):
        codec.encode(Image.new("L", (131073, 1)))


def test_module_functions_share_the_released_codec(codec: Codec) -> None:
    data = vrcodec.encode(photo(), quality=0.3)
    assert data == codec.encode(photo(), 0.3)
    assert vrcodec.decode(data).size == photo().size
    assert vrcodec.info(data)["weights_id"] == codec.weights_id


@pytest.mark.parametrize(
    "code",
    [
        "import vrcodec",
        "import vrcodec.bitstream.container, vrcodec.model.weights_file",
        "import vrcodec; vrcodec.info(open(r'{}', 'rb').read())",
    ],
)
def test_light_parts_need_no_torch(code: str, codec: Codec, tmp_path: Path) -> None:
    path = tmp_path / "a.vrc"
    path.write_bytes(codec.encode(photo(), 0))
    check = code.format(path) + "; import sys; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", check], check=True, timeout=60)
