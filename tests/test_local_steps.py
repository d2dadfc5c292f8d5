"""Quantisation steps that differ from place to place: the same files and pictures everywhere."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from reference_decoder import decode_symbols

from vrcodec import Codec
from vrcodec.bitstream.container import unpack
from vrcodec.conditional.dials import Conditioning
from vrcodec.conditional.folding import FoldedCondition
from vrcodec.errors import VrcodecError
from vrcodec.model.config import ModelConfig
from vrcodec.model.constants import LOCAL_LIMIT
from vrcodec.model.entropy_model import LocalSteps
from vrcodec.model.loading import build
from vrcodec.model.shapes import checked
from vrcodec.model.weights_file import load_weights, save_weights
from vrcodec.training.growing import grown

WEIGHT = "model.local_steps.conv.weight"
ENGINES = ("onnx", "torch")
PLACE = slice(0, 4), slice(0, 8)
MakeWeights = Callable[[str, float], Path]


@pytest.fixture(scope="module")
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> MakeWeights:
    """Weights of a fixture's name, with local steps whose weights deviate by so much from zero."""
    folder = tmp_path_factory.mktemp("local")

    def make(kind: str, deviation: float) -> Path:
        path = folder / f"{kind}-{deviation}.safetensors"
        if not path.exists():
            weights = load_weights(request.getfixturevalue(kind))
            shape = (768, weights.config.context_width, 1, 1)
            drawn = np.random.default_rng(7).normal(0, deviation, shape).astype(np.float32)
            config = dataclasses.replace(weights.config, local_steps=True)
            save_weights(path, config, dict(weights.tensors) | {WEIGHT: drawn})
        return path

    return make


@pytest.fixture(scope="module")
def photo(pictures: Path) -> Image.Image:
    with Image.open(pictures / "macaw.png") as file:
        return file.convert("RGB").crop((0, 0, 150, 100))


def analysed(
    codec: Codec, photo: Image.Image, at: Conditioning
) -> tuple[NDArray[np.float32], NDArray[np.int16]]:
    """y and z of the part of a photo that is at PLACE."""
    networks = codec.pipeline.networks
    y = networks.analysis(np.asarray(photo.crop((0, 0, 128, 64)))[None], at)
    return y, networks.hyper(y, at)


def factors(path: Path, z: NDArray[np.int16], at: Conditioning) -> NDArray[np.float32]:
    """By how much steps are multiplied at all positions that z is for, (768, 4 h, 4 w)."""
    model = build(load_weights(path))[0]
    condition, everywhere = model.condition(at), (slice(None), slice(None))
    with torch.no_grad():
        features = model.features(torch.from_numpy(z)[None], condition, everywhere)
        found: NDArray[np.float32] = (model.steps(features, condition) / condition.step)[0].numpy()
    return found


@pytest.mark.parametrize(
    "kind", ["tiny_weights", "zoned_weights", "trellis_weights", "weights_of_two_dials"]
)
def test_engines_agree(kind: str, made: MakeWeights, photo: Image.Image) -> None:
    path = made(kind, 0.6)
    codecs = {engine: Codec(path, "cpu", threads=1, runtime=engine) for engine in ENGINES}
    for codec in codecs.values():
        data = codec.encode(photo, 0.7)
        z, y = decode_symbols(data, path.read_bytes())
        shown = []
        for reader in codecs.values():
            latents = reader.pipeline.read_latents(unpack(data))
            np.testing.assert_array_equal(latents.z, z)
            np.testing.assert_array_equal(latents.y, y)
            shown.append(np.asarray(reader.decode(data)).astype(int))
        assert np.abs(shown[0] - shown[1]).max() <= 1
        assert np.mean(shown[0] != shown[1]) < 1e-2
        steps = factors(path, z, codec.dials.at(0.7))
        assert steps.min() < 0.8 and steps.max() > 1.25  # or else all this would say nothing


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("kind", ["tiny_weights", "weights_of_two_dials"])
def test_errors_are_half_a_local_step_at_most(
    engine: str, kind: str, made: MakeWeights, photo: Image.Image
) -> None:
    path = made(kind, 0.6)
    codec = Codec(path, "cpu", threads=1, runtime=engine)
    at, networks = codec.dials.at(0.6), codec.pipeline.networks
    y, z = analysed(codec, photo, at)
    errors = np.abs(networks.round_trip(y, z, at, PLACE, False)[1] - y)[0]
    step = FoldedCondition.of(at, checked(codec.weights.tensors, codec.weights.config)).step
    half = step[:, None, None] / 2
    assert (errors <= 1.0001 * half * factors(path, z[0], at) + 1e-5).all()
    assert (errors > 1.05 * half).any()  # with equal steps there are none


@pytest.mark.parametrize("kind", ["tiny_weights", "trellis_weights"])
def test_equal_steps_are_as_none(
    kind: str, made: MakeWeights, photo: Image.Image, request: pytest.FixtureRequest
) -> None:
    for engine in ENGINES:
        before = Codec(request.getfixturevalue(kind), "cpu", threads=1, runtime=engine)
        after = Codec(made(kind, 0.0), "cpu", threads=1, runtime=engine)
        one, two = (unpack(codec.encode(photo, 0.6)) for codec in (before, after))
        assert (one.z, one.y) == (two.z, two.y)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["tiny_weights", "trellis_weights"])
def test_tiles_change_nothing(kind: str, made: MakeWeights, pictures: Path) -> None:
    with Image.open(pictures / "macaw.png") as file:
        large = file.convert("RGB").resize((700, 430))
    path = made(kind, 0.3)
    codecs = [Codec(path, "cpu", tile=side, threads=1) for side in (96, 20)]
    data = codecs[0].encode(large, 0.6)
    whole, tiled = (np.asarray(codec.decode(data)).astype(int) for codec in codecs)
    assert np.abs(whole - tiled).max() <= 1
    assert len(codecs[1].encode(large, 0.6)) == pytest.approx(len(data), rel=2e-3)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("kind", ["zoned_weights", "trellis_weights"])
def test_latents_as_decoded_are_their_own_nearest(
    engine: str, kind: str, made: MakeWeights, photo: Image.Image
) -> None:
    """So refinement can hand on latents, and an ordinary encoder finds its symbols again."""
    codec = Codec(made(kind, 0.3), "cpu", threads=1, runtime=engine)
    at, networks = codec.dials.at(0.6), codec.pipeline.networks
    y, z = analysed(codec, photo, at)
    indexes = networks.scale_indexes(z[0], at, PLACE)[None]
    symbols, y_hat = networks.round_trip(y, z, at, PLACE, False, indexes)
    again = networks.quantise(y_hat, z, at, PLACE, False, indexes, nearest=True)
    np.testing.assert_array_equal(again, symbols)


@pytest.mark.parametrize("engine", ENGINES)
def test_squared_error_has_equal_steps(
    engine: str, made: MakeWeights, photo: Image.Image, weights_of_two_dials: Path
) -> None:
    path = made("weights_of_two_dials", 0.3)
    local, plain = (
        Codec(p, "cpu", threads=1, runtime=engine) for p in (path, weights_of_two_dials)
    )
    for tune in (0.0, 0.02):
        one, two = (
            unpack(codec.encode(photo, 0.6, dials={"tune": tune})) for codec in (local, plain)
        )
        assert ((one.z, one.y) == (two.z, two.y)) == (tune == 0)


def test_the_second_dial_turns_them_on() -> None:
    steps = LocalSteps(ModelConfig(local_steps=True, context_width=8))
    torch.nn.init.normal_(steps.conv.weight, std=0.05)
    features, tunes = torch.randn(5, 8, 3, 2), torch.tensor([0, 0.125, 0.25, 0.5, 1])
    features = features[:1].expand(5, -1, -1, -1)
    vector = torch.stack([torch.rand(5), tunes], dim=1)[..., None, None]
    with torch.no_grad():
        found, alone = steps(features, vector).log(), steps(features, vector[:, :1]).log()
    for factors, share in zip(found, (0, 0.25, 0.5, 1, 1), strict=True):
        torch.testing.assert_close(factors, share * alone[0])
    whole = vector.expand(-1, -1, 3, 2)
    torch.testing.assert_close(steps(features, whole).log(), found)


def test_effort(made: MakeWeights, photo: Image.Image) -> None:
    codec = Codec(made("zoned_weights", 0.3), "cpu", threads=1, runtime="torch")
    (quality, *_) = codec.dials
    costs = []
    for effort in (0, 2):
        data = codec.encode(photo, 0.5, effort=effort)
        difference = np.asarray(codec.decode(data)).astype(float) - np.asarray(photo)
        bits = 8 * len(data) / (photo.width * photo.height)
        costs.append(bits + quality.coefficient(0.5) * np.mean(difference**2))
    assert costs[1] < 0.997 * costs[0]


@pytest.mark.parametrize("engine", ENGINES)
def test_absurd_weights_stay_within_bounds(
    engine: str, made: MakeWeights, photo: Image.Image
) -> None:
    """Warnings are errors here."""
    path = made("tiny_weights", 1e4)
    codec = Codec(path, "cpu", threads=1, runtime=engine)
    data = codec.encode(photo, 0.5)
    assert codec.decode(data).size == photo.size
    z, _ = decode_symbols(data, path.read_bytes())
    steps = factors(path, z, codec.dials.at(0.5))
    np.testing.assert_allclose(steps.max(), np.exp(LOCAL_LIMIT), rtol=1e-5)
    np.testing.assert_allclose(steps.min(), np.exp(-LOCAL_LIMIT), rtol=1e-5)


def test_a_trained_model_gets_them_and_is_the_same_at_first(tiny_weights: Path) -> None:
    model = build(load_weights(tiny_weights))[0]
    larger = grown(model, dataclasses.replace(model.config, local_steps=True))
    torch.manual_seed(0)
    x, quality = torch.rand(2, 3, 64, 96), torch.tensor([[0.2], [0.9]])
    with torch.no_grad():
        before, after = model.eval()(x, quality), larger.eval()(x, quality)
    torch.testing.assert_close(after.x_hat, before.x_hat)
    torch.testing.assert_close(after.y_bits, before.y_bits)
    seen = larger.train()(x, quality)
    (seen.bpp + 500 * (seen.x_hat - x).square().mean(dim=(1, 2, 3))).sum().backward()
    assert larger.local_steps is not None
    assert larger.local_steps.conv.weight.grad.abs().max() > 0
    with pytest.raises(VrcodecError, match=r"local_steps .* is True, it cannot become False"):
        grown(larger, model.config)


@pytest.mark.parametrize("wrong", [1, 0, "true", None, [True]])
def test_impossible_configurations_are_refused(wrong: object) -> None:
    values = json.loads(ModelConfig(local_steps=True).to_json())
    assert ModelConfig.from_json(json.dumps(values)).local_steps
    with pytest.raises(ValueError, match="local_steps"):
        ModelConfig.from_json(json.dumps(values | {"local_steps": wrong}))
    del values["local_steps"]
    assert not ModelConfig.from_json(json.dumps(values)).local_steps
