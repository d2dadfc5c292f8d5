"""CompressAI both ways: its zoo's models as codecs, our weights in its tools. All offline."""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TESTS, RunVrcodec
from PIL import Image

from vrcodec import Codec
from vrcodec.errors import VrcodecError
from vrcodec.evaluation import codecs
from vrcodec.evaluation.codecs import compressai
from vrcodec.pictures.metrics import psnr

needs_compressai = pytest.mark.skipif(
    importlib.util.find_spec("compressai") is None, reason="compressai is not installed"
)
SMALL = "bmshj2018-factorized"
"""The architecture whose random weights code something, and quickly."""


@functools.lru_cache
def random_network(name: str, quality: int) -> torch.nn.Module:
    torch.manual_seed(0)
    network = compressai.build(name, quality)
    network.update()
    return network


@pytest.fixture
def crop(pictures: Path) -> Image.Image:
    return Image.open(pictures / "macaw.png").convert("RGB").crop((60, 40, 161, 115))


@pytest.mark.slow
@needs_compressai
@pytest.mark.parametrize("name", ["mbt2018-mean", "cheng2020-anchor", SMALL])
def test_an_architecture_codes_through_a_file(name: str, crop: Image.Image) -> None:
    codec = compressai.ZooCodec(name, (1,), networks=random_network)
    data = codec.encode(crop, 1)
    decoded = codec.decode(data)
    assert decoded.size == crop.size and decoded.mode == "RGB"
    assert codec.encode(crop, 1) == data
    network = random_network(name, 1)
    x = torch.from_numpy(np.array(crop)).permute(2, 0, 1)[None] / 255
    x = torch.nn.functional.pad(x, (13, 14, 26, 27))  # 101x75 in the middle of 128x128
    strings = network.compress(x)["strings"]
    assert len(data) == 6 + 4 * (len(strings) - 1) + sum(len(string) for (string,) in strings)
    shape = network.compress(x)["shape"]
    with torch.no_grad():
        wanted = network.decompress(strings, shape)["x_hat"][..., 26:101, 13:114]
    wanted = (wanted[0].clamp(0, 1) * 255).round().permute(1, 2, 0)
    assert np.abs(np.asarray(decoded) - wanted.numpy()).max() <= 1


@needs_compressai
def test_families_are_those_that_the_zoo_has_weights_for() -> None:
    compressai.build(SMALL, 1)
    from compressai.zoo.image import model_urls

    wanted = {
        name + ("-ms-ssim" if loss == "ms-ssim" else ""): tuple(urls)
        for name, losses in model_urls.items()
        for loss, urls in losses.items()
    }
    assert wanted == compressai.FAMILIES


def test_names_say_which_qualities() -> None:
    of = compressai.ZooCodec.of
    assert of("mbt2018-mean", ["mbt2018-mean:5", "mbt2018-mean:3"]).spec == "mbt2018-mean:3+5"
    assert of("cheng2020-anchor", ["cheng2020-anchor"]).qualities == (1, 2, 3, 4, 5, 6)
    for wrong in ("mbt2018-mean:9", "mbt2018-mean:", "mbt2018-mean:x"):
        with pytest.raises(VrcodecError, match=f"^{wrong}: mbt2018-mean has qualities 1 to 8$"):
            of("mbt2018-mean", [wrong])


@needs_compressai
def test_eval_compares_with_a_model_of_the_zoo(
    run_vrcodec: RunVrcodec,
    vrcodec_environment: dict[str, str],
    tiny_weights: Path,
    pictures: Path,
    tmp_path: Path,
) -> None:
    """With random weights in the place of the downloaded ones."""
    compressai.build(SMALL, 1)
    from compressai.zoo.image import model_urls

    store = tmp_path / "torch" / "hub" / "checkpoints"
    store.mkdir(parents=True)
    name = model_urls[SMALL]["mse"][1].rpartition("/")[2]
    torch.save(random_network(SMALL, 1).state_dict(), store / name)
    (tmp_path / "pictures").mkdir()
    shutil.copy(pictures / "hibiscus.png", tmp_path / "pictures")
    environment = vrcodec_environment | {"TORCH_HOME": str(tmp_path / "torch")}
    options = ("--weights", tiny_weights, "--qualities", "0,1", "--compare", f"avif,{SMALL}:1")
    result = run_vrcodec(
        "eval", tmp_path / "pictures", *options, "-o", tmp_path / "report", env=environment
    )
    assert result.returncode == 0, result.stderr
    results = json.loads((tmp_path / "report" / "curves" / f"{SMALL}.json").read_text())["results"]
    image = Image.open(pictures / "hibiscus.png").convert("RGB")
    codec = compressai.ZooCodec(SMALL, (1,), networks=random_network)
    data = codec.encode(image, 1)
    assert results["quality"] == [1]
    assert results["bpp"] == pytest.approx([8 * len(data) / (image.width * image.height)])
    fidelity = psnr(np.asarray(image), np.asarray(codec.decode(data)))
    assert results["psnr-rgb"] == pytest.approx([fidelity], abs=0.01)

    (store / name).write_bytes(b"no weights")
    result = run_vrcodec("eval", tmp_path / "pictures", *options, env=environment)
    assert result.returncode == 1
    (line,) = result.stderr.decode().splitlines()
    assert line.startswith(f"Error: {store / name}: holds no weights of {SMALL}")


@needs_compressai
def test_weights_that_cannot_be_had_are_one_line(
    run_vrcodec: RunVrcodec, vrcodec_environment: dict[str, str], pictures: Path, tmp_path: Path
) -> None:
    environment = vrcodec_environment | {
        "TORCH_HOME": str(tmp_path / "torch"),
        "https_proxy": "http://127.0.0.1:9",
    }
    result = run_vrcodec("eval", pictures, "--compare", "mbt2018-mean:3", env=environment)
    assert result.returncode == 1
    (line,) = result.stderr.decode().splitlines()
    assert line.startswith("Error: mbt2018-mean:3: its weights cannot be had (")
    assert line.endswith(f"pth.tar into {tmp_path}/torch/hub/checkpoints")


def test_without_compressai_it_is_one_line(
    run_vrcodec: RunVrcodec, vrcodec_environment: dict[str, str], pictures: Path, tmp_path: Path
) -> None:
    (tmp_path / "compressai.py").write_text(
        "raise ModuleNotFoundError('no module', name='compressai')"
    )
    path = os.pathsep.join((str(tmp_path), vrcodec_environment["PYTHONPATH"]))
    environment = vrcodec_environment | {"PYTHONPATH": path}
    result = run_vrcodec("eval", pictures, "--compare", "mbt2018-mean:3", env=environment)
    assert result.returncode == 1
    line = b"Error: compressai is not installed: pip install 'vrcodec[eval]'\n"
    assert result.stderr == line


@needs_compressai
def test_the_tools_of_compressai_evaluate_our_weights(
    tiny_weights: Path, vrcodec_environment: dict[str, str], pictures: Path, tmp_path: Path
) -> None:
    image = Image.open(pictures / "macaw.png").convert("RGB").crop((0, 0, 192, 192))
    image.save(tmp_path / "a.png")
    command = [sys.executable, "-m", "vrcodec.evaluation.codecs.compressai"]
    result = subprocess.run(
        [*command, "--weights", tiny_weights, tmp_path, "-q", "1,6,11"],
        env=vrcodec_environment,
        cwd=TESTS,
        capture_output=True,
        check=True,
        timeout=300,
    )
    found = json.loads(result.stdout)
    assert found["name"] == "vrcodec-mse"
    codec, pixels = Codec(tiny_weights, "cpu"), np.asarray(image)
    files = [codec.encode(image, quality) for quality in (0, 0.5, 1)]
    assert found["results"]["bpp"] == pytest.approx([8 * len(data) / 192**2 for data in files])
    fidelity = [psnr(pixels, np.asarray(codec.decode(data))) for data in files]
    assert found["results"]["psnr-rgb"] == pytest.approx(fidelity, abs=0.01)


@needs_compressai
def test_our_codec_is_in_the_registry(tiny_weights: Path) -> None:
    compressai.register(tiny_weights)
    from compressai.registry import MODELS

    model = MODELS["vrcodec"](11, tiny_weights)
    x = torch.rand(2, 3, 64, 128)
    out = model.compress(x)
    x_hat = model.decompress(out["strings"], out["shape"])["x_hat"]
    assert x_hat.shape == x.shape
    with pytest.raises(ValueError, match="quality 12 is not one of 1 to 11"):
        MODELS["vrcodec"](12, tiny_weights)


def test_unknown_names_are_refused() -> None:
    with pytest.raises(VrcodecError, match=r"'mbt2019'; known are jpeg, .*, cheng2020-attn"):
        codecs.find(["mbt2019"])
