"""Symbols are drawn towards zero where that costs less than it gains; no decoder knows of it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vrcodec import Codec
from vrcodec.bitstream.container import unpack
from vrcodec.codec.onnx_networks import OnnxNetworks
from vrcodec.codec.torch_networks import TorchNetworks
from vrcodec.model.config import ModelConfig
from vrcodec.model.dead_zone import BITS_BY_DEVIATION, dead_zones
from vrcodec.model.linear_basis import PIXEL_GAIN
from vrcodec.model.network import CompressionModel
from vrcodec.model.weights_file import load_weights, save_weights

ENGINES = ["onnx", "torch"]


def test_strength_1_takes_the_cheaper_neighbour() -> None:
    """For bits in proportion to the magnitude, and errors as they are without a synthesis."""
    lam, step, deviation, sigma = 0.02, np.array([0.7]), np.array([1.3]), 0.8
    worth = lam / 3 * (255 / PIXEL_GAIN * step * deviation) ** 2
    zone = dead_zones(1.0, lam, step, deviation) / sigma
    assert 0.01 < zone < 0.5
    values = np.linspace(-4, 4, 1601)
    low = np.floor(values)
    costs = [
        BITS_BY_DEVIATION / sigma * np.abs(integer) + worth * (values - integer) ** 2
        for integer in (low, low + 1)
    ]
    best = np.where(costs[1] < costs[0], low + 1, low)
    drawn = np.sign(values) * np.maximum(np.abs(values) - zone, 0)
    ties = np.isclose(costs[0], costs[1], atol=1e-6)
    np.testing.assert_array_equal(np.round(drawn)[~ties], best[~ties])


@pytest.mark.parametrize("engine", ENGINES)
def test_files_get_smaller_and_decode(
    engine: str, tiny_weights: Path, zoned_weights: Path, pictures: Path
) -> None:
    image = Image.open(pictures / "macaw.png").convert("RGB")
    sizes = []
    for path in (tiny_weights, zoned_weights):
        made = OnnxNetworks if engine == "onnx" else TorchNetworks
        codec = Codec(path, networks=made(load_weights(path), threads=1))
        data = codec.encode(image, 0.3)
        decoded = np.asarray(codec.decode(data)).astype(float)
        assert np.mean((decoded - np.asarray(image)) ** 2) < 300
        sizes.append(len(data))
    assert sizes[1] < 0.98 * sizes[0]


@pytest.mark.parametrize("engine", ENGINES)
def test_refined_latents_stay_where_they_are(
    engine: str, zoned_weights: Path, pictures: Path
) -> None:
    """What effort has decided is no longer drawn anywhere: without tables, the nearest symbols."""
    weights = load_weights(zoned_weights)
    made = OnnxNetworks if engine == "onnx" else TorchNetworks
    networks = made(weights, threads=1)
    pixels = np.asarray(Image.open(pictures / "macaw.png").convert("RGB"))[None, :64, :64]
    at = weights.config.dials.at(0.5)
    y = networks.analysis(pixels, at)
    z, everywhere = networks.hyper(y, at), (slice(0, 4), slice(0, 4))
    symbols, y_hat = networks.round_trip(y, z, at, everywhere, False)
    assert (networks.quantise(y_hat, z, at, everywhere, False) == symbols).all()
    indexes = networks.scale_indexes(z[0], at, everywhere)[None]
    drawn = networks.quantise(y_hat, z, at, everywhere, False, indexes)
    assert np.abs(drawn).sum() < np.abs(symbols).sum()


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("extreme", ["fine", "coarse"])
@pytest.mark.parametrize("kind", ["zoned_weights", "trellis_weights"])
def test_absurd_steps_are_silent(
    engine: str, extreme: str, kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """Warnings are errors here: zones and prices beyond every number end at the limit."""
    weights = load_weights(request.getfixturevalue(kind))
    tensors = {name: tensor.copy() for name, tensor in weights.tensors.items()}
    steps = tensors["model.log_step.values"]
    steps[:, 1:] = -40  # the same at all qualities
    steps[:, 0] = -39 if extreme == "fine" else 39
    tensors["model.basis.deviation16"][:] = 1e-4 if extreme == "fine" else 1e4
    save_weights(tmp_path / "w.safetensors", weights.config, tensors)
    made = OnnxNetworks if engine == "onnx" else TorchNetworks
    absurd = load_weights(tmp_path / "w.safetensors")
    codec = Codec(tmp_path / "w.safetensors", networks=made(absurd, threads=1))
    picture = Image.effect_noise((40, 33), 60).convert("RGB")
    assert codec.decode(codec.encode(picture, 0.5)).size == picture.size


def test_effort_does_not_meet_the_dead_zone(zoned_weights: Path, pictures: Path) -> None:
    image = Image.open(pictures / "macaw.png").convert("RGB").crop((0, 0, 64, 64))
    codec = Codec(zoned_weights, runtime="torch", device="cpu", threads=1)
    plain, refined = (codec.encode(image, 0.5, effort=effort) for effort in (0, 1))
    assert unpack(refined).header == unpack(plain).header
    errors = []
    for data in (plain, refined):
        decoded = np.asarray(codec.decode(data)).astype(float)
        errors.append(np.mean((decoded - np.asarray(image)) ** 2))
    assert errors[1] < 1.1 * errors[0]


def test_training_sees_what_an_encoder_does(zoned_weights: Path) -> None:
    torch.manual_seed(0)
    config = dataclasses.replace(load_weights(zoned_weights).config, dead_zone=(0.5, 1.0))
    model = CompressionModel(config).eval()
    x = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        seen = model(x, 0.3)
        z, symbols = model.quantise(x, model.condition(0.3))
    assert torch.equal(z, seen.z_hat.int())
    assert torch.equal(symbols, seen.symbols.int())
    plain = CompressionModel(dataclasses.replace(config, dead_zone=(0.0, 0.0))).eval()
    plain.load_state_dict(model.state_dict())
    with torch.no_grad():
        assert plain(x, 0.3).bpp.sum() > seen.bpp.sum()


@pytest.mark.parametrize("wrong", [-0.1, 17, float("nan"), float("inf"), True, "1", [0.1]])
def test_impossible_strengths_are_refused(wrong: object) -> None:
    import json

    text = json.dumps(json.loads(ModelConfig().to_json()) | {"dead_zone": [0.1, wrong]})
    with pytest.raises(ValueError, match=r"dead_zone|is no number"):
        ModelConfig.from_json(text)
