"""The networks as ONNX graphs do what they do in torch, whatever their configuration."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from vrcodec.bitstream.grid import LATENT_CHANNELS
from vrcodec.codec.torch_networks import TorchNetworks
from vrcodec.conditional.dials import Conditioning, Dial, Dials
from vrcodec.conditional.folding import FoldedCondition
from vrcodec.errors import WeightsError
from vrcodec.model.config import ModelConfig
from vrcodec.model.fixed_point import FixedPointScalePath
from vrcodec.model.loading import model_tensors
from vrcodec.model.network import CompressionModel
from vrcodec.model.onnx_graph import NETWORKS
from vrcodec.model.shapes import checked, float_shapes
from vrcodec.model.weights_file import Weights, load_weights

pytest.importorskip("onnxruntime")
from vrcodec.codec.onnx_networks import OnnxNetworks

SMALL = ModelConfig(
    width8=8, width16=12, core=16, hyper=8, hyper_width=8, context_width=8, film_width=8
)
CONFIGS = {
    "small": SMALL,
    "two dials": dataclasses.replace(
        SMALL, dials=Dials((Dial("quality", 0.001, 0.1), Dial("ms-ssim-weight", 0.01, 1)))
    ),
    "without FiLM": dataclasses.replace(SMALL, film_width=0),
    "context blocks": dataclasses.replace(SMALL, context_blocks=2, context_passes=2),
    "one pass": dataclasses.replace(SMALL, context_passes=1, learned_linear=False),
    "dead zone": dataclasses.replace(SMALL, dead_zone=(0.2, 0.5)),
    "local steps": dataclasses.replace(SMALL, local_steps=True, context_passes=2),
    "few blocks": dataclasses.replace(SMALL, analysis_blocks=(0, 1), synthesis_blocks=(1, 0)),
}
ODD = (2, 83, 134, 3)
"""Pixels of two pictures whose sides are no multiples of anything."""


def random_weights(config: ModelConfig, tiny_weights: Path) -> Weights:
    """Weights where nothing is zero, and quantisation steps are as usual."""
    torch.manual_seed(1)
    model = CompressionModel(config)
    with torch.no_grad():
        for parameter in model.parameters():
            scale = parameter[0].numel() ** -0.5 if parameter.ndim > 1 else 0.1
            parameter.copy_(torch.randn_like(parameter) * scale)
        model.log_step.initialise(torch.zeros(LATENT_CHANNELS), torch.full((LATENT_CHANNELS,), -2))
        model.basis.deviation16.uniform_(0.5, 2)
        model.basis.deviation8.uniform_(0.5, 2)
    fixed = FixedPointScalePath.from_float(model.scale_path)
    tensors = model_tensors(model) | fixed.tensors()
    return dataclasses.replace(load_weights(tiny_weights), config=config, tensors=tensors)


@pytest.fixture(scope="module", params=CONFIGS)
def weights(request: pytest.FixtureRequest, tiny_weights: Path) -> Weights:
    return random_weights(CONFIGS[request.param], tiny_weights)


def conditionings(config: ModelConfig) -> list[Conditioning]:
    """Both ends of the first dial, and a place that is no knot of any."""
    names = config.dials.names
    return [
        config.dials.conditioning(dict(zip(names, positions, strict=False)))
        for positions in ((0, 1), (0.377, 0.21), (1, 0))
    ]


def pixels() -> NDArray[np.uint8]:
    random = np.random.default_rng(3)
    smooth = np.cumsum(random.normal(0, 6, ODD), axis=2) + 128
    smooth[1, :20, :20] = 255 * random.integers(0, 2, (20, 20, 3))  # beyond all coefficients
    return smooth.clip(0, 255).astype(np.uint8)


def differing(a: NDArray, b: NDArray) -> float:
    """Share of elements that differ, by 1 at most."""
    assert a.shape == b.shape
    assert a.dtype == b.dtype
    assert np.abs(a.astype(int) - b).max() <= 1
    return float((a != b).mean())


@pytest.mark.slow
def test_networks_agree(weights: Weights) -> None:
    ours, theirs = OnnxNetworks(weights, 1), TorchNetworks(weights, "cpu", threads=1)
    x = pixels()
    for at in conditionings(weights.config):
        y = theirs.analysis(x, at)
        np.testing.assert_allclose(ours.analysis(x, at), y, atol=2e-4)
        z = theirs.hyper(y, at)
        assert differing(ours.hyper(y, at), z) < 1e-2
        rows, columns = slice(1, y.shape[2]), slice(0, y.shape[3])
        part = np.ascontiguousarray(y[:, :, 1:])
        place = z, at, (rows, columns)
        tables = np.stack([theirs.scale_indexes(one, at, (rows, columns)) for one in z])
        for grey, indexes in ((False, tables), (True, tables), (True, None)):
            symbols = theirs.quantise(part, *place, grey, indexes)
            assert differing(ours.quantise(part, *place, grey, indexes), symbols) < 1e-3
        y_hat = theirs.dequantise(symbols, z, at, (rows, columns))
        mine = ours.dequantise(symbols, z, at, (rows, columns))
        np.testing.assert_allclose(mine, y_hat, atol=2e-4)
        for networks in (ours, theirs):
            both = networks.round_trip(part, *place, True, tables)
            alone = networks.quantise(part, *place, True, tables)
            back = networks.dequantise(alone, z, at, (rows, columns))
            assert (both[0] == alone).all() and (both[1] == back).all()
        assert differing(ours.synthesis(y_hat, at), theirs.synthesis(y_hat, at)) < 1e-3
        indexes = [n.scale_indexes(z[0], at, (rows, columns)) for n in (ours, theirs)]
        assert differing(*indexes) == 0


@pytest.mark.slow
def test_parameters_and_cost_agree(weights: Weights) -> None:
    ours, theirs = OnnxNetworks(weights, 1), TorchNetworks(weights, "cpu", threads=1)
    assert ours.parameters == theirs.parameters
    at, x = weights.config.dials.at(0.5), np.zeros((1, 512, 512, 3), dtype=np.uint8)
    y = theirs.analysis(x, at)
    counted = [n.macs(lambda n=n: (n.analysis(x, at), n.hyper(y, at))) for n in (ours, theirs)]
    assert counted[0] == pytest.approx(counted[1], rel=1e-3)


def test_conditions_agree(weights: Weights) -> None:
    model = TorchNetworks(weights, "cpu").model
    for at in conditionings(weights.config):
        folded = FoldedCondition.of(at, checked(weights.tensors, weights.config))
        condition = model.condition(at)
        np.testing.assert_allclose(folded.step, condition.step[0, :, 0, 0], rtol=1e-5)
        np.testing.assert_allclose(folded.embedding, condition.embedding[0, :, 0, 0], atol=1e-5)


def test_graphs_are_sound(weights: Weights) -> None:
    onnx = pytest.importorskip("onnx")
    tensors = checked(weights.tensors, weights.config)
    for build in NETWORKS.values():
        onnx.checker.check_model(build(tensors, weights.config).model, full_check=True)


@pytest.mark.parametrize("name", CONFIGS)
def test_shapes_are_those_of_the_model(name: str) -> None:
    with torch.device("meta"):
        state = CompressionModel(CONFIGS[name]).state_dict()
    shapes = {n: tuple(v.shape) for n, v in state.items() if not n.startswith("scale_path.")}
    assert float_shapes(CONFIGS[name]) == shapes


@pytest.mark.parametrize("change", ["missing", "superfluous", "other shape", "scale path"])
def test_impossible_weights_are_refused(change: str, tiny_weights: Path) -> None:
    weights = load_weights(tiny_weights)
    tensors = dict(weights.tensors)
    name = "fixed.1.weight" if change == "scale path" else "model.synthesis.up.bias"
    if change == "superfluous":
        tensors["model.synthesis.down.bias"] = tensors[name]
    elif change == "other shape":
        tensors[name] = tensors[name][:-1]
    else:
        del tensors[name]
    broken = dataclasses.replace(weights, tensors=tensors)
    for networks in (OnnxNetworks, TorchNetworks):
        with pytest.raises(WeightsError, match=r"synthesis\.(up|down)\.bias|layer 1"):
            networks(broken)
