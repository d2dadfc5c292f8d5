"""Pictures decoded smaller: near to the whole one made smaller, for a part of the work."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import RunVrcodec
from PIL import Image

from vrcodec import ArgumentError, Codec
from vrcodec.bitstream.container import unpack
from vrcodec.bitstream.grid import REDUCTIONS
from vrcodec.codec import runtime
from vrcodec.pictures.metrics import psnr

SMALLER = [reduce for reduce in REDUCTIONS if reduce > 1]
NEAR = {0.0: (27.0, 30.0, 34.0), 0.5: (38.5, 43.0, 48.0), 1.0: (52.0, 55.0, 58.0)}
"""dB between a picture decoded at 1/2, 1/4 and 1/8 and the whole one, averaged so far."""
LOST = 2.5
"""dB that a picture decoded smaller may be further from the source than the whole one, averaged."""


@pytest.fixture(scope="module")
def codec() -> Codec:
    """With the released weights: what they have learned decides how near it is."""
    return Codec(device="cpu")


@pytest.fixture(scope="module")
def tiny(tiny_weights: Path) -> Codec:
    return Codec(tiny_weights, "cpu")


def photo(pictures: Path, mode: str = "RGB", size: tuple[int, int] = (256, 192)) -> Image.Image:
    with Image.open(pictures / "macaw.png") as file:
        image = file.convert("RGB").resize(size)
    if mode.endswith("A"):
        image.putalpha(image.convert("L"))
    return image.convert(mode)


@pytest.mark.parametrize("quality", NEAR)
def test_small_pictures_are_near_to_the_whole_made_smaller(
    quality: float, codec: Codec, pictures: Path
) -> None:
    source = photo(pictures)
    data = codec.encode(source, quality)
    whole = codec.decode(data)
    for reduce, near in zip(SMALLER, NEAR[quality], strict=True):
        small, expected = codec.decode(data, reduce), whole.reduce(reduce)
        assert small.size == expected.size
        first, second, original = map(np.asarray, (small, expected, source.reduce(reduce)))
        assert psnr(first, second) > near
        assert psnr(first, original) > psnr(second, original) - LOST


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
@pytest.mark.parametrize("size", [(1, 1), (17, 33), (64, 48), (131, 50)])
def test_sizes_are_rounded_up_and_modes_stay(
    mode: str, size: tuple[int, int], tiny: Codec, pictures: Path
) -> None:
    source = photo(pictures, mode, size)
    source.info["dpi"] = (300, 300)
    data = tiny.encode(source, 0.5)
    for reduce in SMALLER:
        small = tiny.decode(data, reduce)
        assert (small.mode, small.size) == (mode, source.reduce(reduce).size)
        assert small.info["dpi"] == (300, 300)
        if mode.endswith("A"):
            alphas = (image.getchannel("A") for image in (small, source.reduce(reduce)))
            np.testing.assert_array_equal(*map(np.asarray, alphas))


def test_tiles_do_not_show(tiny_weights: Path, pictures: Path) -> None:
    data = Codec(tiny_weights, "cpu").encode(photo(pictures, size=(500, 300)), 0.5)
    for reduce in SMALLER:
        whole, tiled = (
            Codec(tiny_weights, "cpu", tile=side).decode(data, reduce) for side in (96, 8)
        )
        assert np.abs(np.asarray(whole).astype(int) - np.asarray(tiled)).max() <= 1


def work(codec: Codec, data: bytes, reduce: int) -> float:
    """Multiply-accumulates of the networks for a picture of this size."""
    latents, at = codec.pipeline.read_latents(unpack(data)), unpack(data).header.conditioning
    return codec.pipeline.networks.macs(lambda: codec.pipeline.pixels(latents, at, reduce))


@pytest.mark.slow
def test_runtimes_agree_and_need_a_third_of_the_work(codec: Codec, pictures: Path) -> None:
    data, found = codec.encode(photo(pictures, size=(160, 128)), 0.5), []
    for name in filter(runtime.is_installed, (runtime.ONNX, runtime.TORCH)):
        one = Codec(device="cpu", runtime=name)
        assert 0.25 < work(one, data, 8) / work(one, data, 1) < 0.35
        assert work(one, data, 8) < work(one, data, 2) < 0.4 * work(one, data, 1)
        found.append(np.asarray(one.decode(data, 4)).astype(int))
    assert np.abs(found[0] - found[-1]).max() <= 1


@pytest.mark.parametrize("reduce", [0, 3, 16, -2, "2"])
def test_other_factors_are_refused(reduce: int, tiny: Codec, pictures: Path) -> None:
    data = tiny.encode(photo(pictures, size=(16, 16)), 0.5)
    with pytest.raises(ArgumentError, match="reduce is one of 1, 2, 4 and 8"):
        tiny.decode(data, reduce)


def test_small_pictures_from_the_command_line(
    tmp_path: Path, pictures: Path, vrcodec: RunVrcodec
) -> None:
    photo(pictures, "RGBA").save(tmp_path / "a.png")
    assert vrcodec("encode", "a.png", cwd=tmp_path).returncode == 0
    for name, size, *options in (
        ("half.png", (128, 96), "--scale", "1/2"),
        ("eighth.webp", (32, 24), "--scale", "1/8"),
        ("fit.png", (100, 75), "--fit", "100"),
        ("whole.png", (256, 192), "--fit", "999"),
    ):
        result = vrcodec("decode", "a.vrc", name, *options, cwd=tmp_path)
        assert result.returncode == 0, result.stderr
        assert f"{size[0]}x{size[1]}, " in result.stdout.decode()
        with Image.open(tmp_path / name) as image:
            assert (image.size, image.mode) == (size, "RGBA")
