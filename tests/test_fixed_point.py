"""The scale path in integers: against int64, against its float view, in every order of sums."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from reference_decoder import convolve, interpolate, pixel_shuffle
from reference_decoder import scale_indexes as reference_indexes
from torch import Tensor

from vrcodec.codec.onnx_session import Session
from vrcodec.conditional.dials import ONE, Conditioning, Dial, Dials
from vrcodec.conditional.folding import FoldedCondition
from vrcodec.errors import WeightsError
from vrcodec.model.config import LOG_SCALE_STEP, SCALE_LEVELS, SCALE_MIN, ModelConfig
from vrcodec.model.entropy_model import ScalePath
from vrcodec.model.fixed_point import FixedPointScalePath
from vrcodec.model.integer_path import EXACT, SHUFFLE, FixedPointLayer, IntegerScalePath
from vrcodec.model.onnx_builder import Network
from vrcodec.model.onnx_scale_path import scale_features, scale_indexes

CONFIG = ModelConfig(
    dials=Dials((Dial("quality", 0.001, 0.1), Dial("other", 0.01, 1.0))),
    width8=4,
    width16=4,
    core=4,
    hyper=12,
    hyper_width=8,
    context_width=4,
    film_width=4,
)
ANCHOR = ONE // 8
CONDITIONINGS = [
    Conditioning(values)
    for values in (
        (0, 0),
        (ONE, ONE),
        (3 * ANCHOR, 7 * ANCHOR),
        (ANCHOR - 1, 1),
        (12345, ONE - 1),
    )
]


def float_path(seed: int, gain: float, bias: float) -> ScalePath:
    """A random scale path; `gain` multiplies the usual random weights."""
    generator = torch.Generator().manual_seed(seed)
    path = ScalePath(CONFIG)
    with torch.no_grad():
        for conv, table in zip(path.convs, path.biases, strict=True):
            fan_in = conv.weight[0].numel()
            conv.weight.normal_(0, gain / math.sqrt(fan_in), generator=generator)
            table.values.normal_(0, bias, generator=generator)
    return path


def random_z(seed: int, spread: float, size: tuple[int, int] = (3, 5)) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(CONFIG.hyper, *size, generator=generator) * spread
    return z.round().to(torch.int32)


def arrays(path: FixedPointScalePath) -> dict[str, NDArray[np.int64]]:
    parts: dict[str, NDArray[np.int64]] = {}
    for i, layer in enumerate(path.layers):
        parts[f"fixed.{i}.weight"] = layer.weight
        parts[f"fixed.{i}.bias"] = layer.bias
    return parts


def without_torch(
    path: IntegerScalePath, z: Tensor, conditioning: Conditioning, threads: int = 1
) -> NDArray[np.uint8]:
    """What ONNX Runtime makes of it."""
    condition = FoldedCondition(conditioning, np.zeros(0), np.zeros(0))

    def run(network: Network, **inputs: NDArray[Any]) -> NDArray[Any]:
        feeds = inputs | network.inputs_at(condition)
        return Session(network.model, threads).run(feeds)[0]

    features = run(scale_features(path), z=z.numpy().astype(np.int16)[None])
    return run(scale_indexes(path), features=features)[0]


def totals(
    path: FixedPointScalePath, z: Tensor, conditioning: Conditioning
) -> list[NDArray[np.int64]]:
    """Every layer's sums before rounding and clamping."""
    parts = arrays(path)
    a = np.clip(z.numpy().astype(np.int64), -256, 256) << 8
    found = []
    for i in range(len(path.layers)):
        bias = interpolate(parts[f"fixed.{i}.bias"], list(conditioning.values))
        found.append(convolve(a, parts[f"fixed.{i}.weight"]) + bias[:, None, None])
        a = np.clip((found[-1] + 2048) >> 12, 0, 65536)
        if SHUFFLE[i]:
            a = pixel_shuffle(a)
    return found


@pytest.mark.parametrize("conditioning", CONDITIONINGS)
@pytest.mark.parametrize("seed", range(3))
def test_equals_int64(seed: int, conditioning: Conditioning) -> None:
    path = FixedPointScalePath.from_float(float_path(seed, gain=1.8, bias=3))
    z = random_z(seed, spread=100)
    z[0, 0, :3] = torch.tensor([32767, -32767, 257])

    sums = totals(path, z, conditioning)
    for t in sums[:4]:
        assert (t < -2048).mean() > 0.05
        assert (t > 65536 << 12).mean() > 0.005
    expected = reference_indexes(
        z.numpy().astype(np.int64), list(conditioning.values), arrays(path)
    )
    assert len(np.unique(expected)) == SCALE_LEVELS

    for dtype in (torch.int16, torch.int32, torch.int64):
        indexes = path.indexes(z.to(dtype), conditioning)
        assert indexes.dtype == torch.uint8
        assert np.array_equal(indexes.numpy(), expected)
    found = without_torch(path.exact, z, conditioning)
    assert found.dtype == np.uint8
    assert np.array_equal(found, expected)


def test_conditioning_matters() -> None:
    path = FixedPointScalePath.from_float(float_path(0, gain=1, bias=1))
    z = random_z(0, spread=3)
    results = [path.indexes(z, conditioning) for conditioning in CONDITIONINGS]
    for one, other in itertools.combinations(results, 2):
        assert not torch.equal(one, other)


@pytest.mark.parametrize("conditioning", CONDITIONINGS)
def test_agrees_with_the_float_view(conditioning: Conditioning) -> None:
    floating = float_path(7, gain=1, bias=0.5)
    z = random_z(7, spread=3, size=(6, 6))
    position = torch.tensor([conditioning.positions])
    with torch.no_grad():
        log_sigma = floating(z[None].float(), position)[0]
    nearest = torch.round((log_sigma - math.log(SCALE_MIN)) / LOG_SCALE_STEP)
    nearest = nearest.clamp(0, SCALE_LEVELS - 1).to(torch.uint8)
    indexes = FixedPointScalePath.from_float(floating).indexes(z, conditioning)
    assert len(nearest.unique()) > 16
    assert (indexes == nearest).double().mean() > 0.99
    assert (indexes.int() - nearest.int()).abs().max() <= 1


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0, -3), (1, -3), (2047, -3), (2048, -2), (4096, -2), (6144, 0), (28672, 5), (32768, -8)],
)
def test_bias_is_rounded_half_up_between_anchors(value: int, expected: int) -> None:
    anchors = np.array([-3, -2, 1, 0, 0, 0, 0, 5, -8])
    layer = FixedPointLayer(np.ones((1, 1, 1, 1), dtype=np.int64), anchors[None, :, None])
    assert layer.bias_at(Conditioning((value,))).tolist() == [expected]


def cancelling_path(seed: int) -> FixedPointScalePath:
    """A path whose first sums are small differences of terms of up to 2^49.

    Inputs 2i and 2i + 1 must be equal. float32 loses the differences in any order of
    summation, and so would float64 with terms 2^4 times as large.
    """
    path = FixedPointScalePath.from_float(float_path(seed, gain=1.5, bias=2))
    weight = path.layers[0].weight
    huge = np.random.default_rng(seed).integers(0, 1 << 33, (len(weight), CONFIG.hyper // 2))
    weight[:, 0::2, 0, 0] += huge
    weight[:, 1::2, 0, 0] -= huge
    return FixedPointScalePath(path.layers)


@pytest.fixture
def cancelling() -> tuple[FixedPointScalePath, Tensor, NDArray[np.int64]]:
    """A path, its input, and the indices by int64 (conditioning CONDITIONINGS[3])."""
    path = cancelling_path(11)
    z = random_z(11, spread=60, size=(9, 11))
    z[1::2] = z[0::2]
    expected = reference_indexes(
        z.numpy().astype(np.int64), list(CONDITIONINGS[3].values), arrays(path)
    )
    assert len(np.unique(expected)) == SCALE_LEVELS
    return path, z, expected


@pytest.fixture
def restored_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("threads", [1, 2])
def test_any_number_of_threads(
    threads: int,
    cancelling: tuple[FixedPointScalePath, Tensor, NDArray[np.int64]],
    restored_threads: None,
) -> None:
    path, z, expected = cancelling
    torch.set_num_threads(threads)
    assert np.array_equal(path.indexes(z, CONDITIONINGS[3]).numpy(), expected)
    assert np.array_equal(without_torch(path.exact, z, CONDITIONINGS[3], threads), expected)


def test_any_memory_layout(
    cancelling: tuple[FixedPointScalePath, Tensor, NDArray[np.int64]],
) -> None:
    path, z, expected = cancelling
    strided = z.permute(1, 2, 0).contiguous().permute(2, 0, 1)
    channels_last = FixedPointScalePath(
        [
            FixedPointLayer(
                np.ascontiguousarray(layer.weight.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2),
                layer.bias,
            )
            for layer in path.layers
        ]
    )
    assert not strided.is_contiguous()
    for variant, argument in ((path, strided), (channels_last, z), (channels_last, strided)):
        for found in (
            variant.indexes(argument, CONDITIONINGS[3]).numpy(),
            without_torch(variant.exact, argument, CONDITIONINGS[3]),
        ):
            assert np.array_equal(found, expected)


@pytest.mark.parametrize("seed", range(4))
def test_any_order_of_summation(
    seed: int, cancelling: tuple[FixedPointScalePath, Tensor, NDArray[np.int64]]
) -> None:
    """Permuting the channels between all layers permutes the terms of every sum."""
    path, z, expected = cancelling
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randperm(CONFIG.hyper, generator=generator)
    shuffled_z = z[inputs]
    layers = []
    for i, layer in enumerate(path.layers):
        outputs = torch.arange(len(layer.weight))
        following = outputs
        if i < len(path.layers) - 1:
            following = torch.randperm(CONFIG.hyper_width, generator=generator)
            outputs = following
            if SHUFFLE[i]:
                outputs = (4 * following[:, None] + torch.arange(4)).flatten()
        weight = layer.weight[outputs.numpy()][:, inputs.numpy()]
        layers.append(FixedPointLayer(weight, layer.bias[..., outputs.numpy()]))
        inputs = following
    permuted = FixedPointScalePath(layers)
    assert np.array_equal(permuted.indexes(shuffled_z, CONDITIONINGS[3]).numpy(), expected)
    assert np.array_equal(without_torch(permuted.exact, shuffled_z, CONDITIONINGS[3]), expected)


def single_layer(weights: list[int], anchors: list[list[int]]) -> FixedPointLayer:
    """One output channel; anchors[k] holds the first two anchors of coefficient k."""
    bias = np.zeros((len(anchors), 9, 1), dtype=np.int64)
    bias[:, :2, 0] = anchors
    return FixedPointLayer(np.array(weights)[None, :, None, None], bias)


LIMIT = (EXACT - (1 << 32)) >> 16
"""Sums of absolute weights must stay below this, if biases are zero."""


@pytest.mark.parametrize(
    ("weights", "anchors", "possible"),
    [
        ([LIMIT - 1], [[0, 0]], True),
        ([LIMIT], [[0, 0]], False),
        ([LIMIT // 2, LIMIT // 2 - 1], [[0, 0]], True),
        ([LIMIT // 2, -LIMIT // 2], [[0, 0]], False),
        ([LIMIT - 1], [[0, 65535]], True),
        ([LIMIT - 1], [[0, 65536]], False),
        ([LIMIT - 1], [[-65536, 5]], False),
        ([LIMIT - 1], [[-40000, 40000]], True),
        ([LIMIT - 1], [[-40000, 0], [0, 40000]], False),
        ([0], [[1 << 53, 0]], False),
    ],
)
def test_check_proves_the_bound(
    weights: list[int], anchors: list[list[int]], possible: bool
) -> None:
    layer = single_layer(weights, anchors)
    if possible:
        FixedPointScalePath([layer])
    else:
        with pytest.raises(WeightsError, match="layer 0 could exceed"):
            FixedPointScalePath([layer])


def test_weights_file_round_trip() -> None:
    path = FixedPointScalePath.from_float(float_path(3, gain=1.8, bias=3))
    tensors = path.tensors()
    assert {t.dtype for t in tensors.values()} == {np.dtype(np.int32)}
    loaded = FixedPointScalePath.from_tensors(tensors, CONFIG)
    z, at = random_z(3, spread=50), Conditioning((9, 99))
    assert torch.equal(loaded.indexes(z, at), path.indexes(z, at))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("fixed.0.weight", None),
        ("fixed.4.bias", None),
        ("fixed.1.weight", np.zeros((8, 8, 1, 1), np.int32)),
        ("fixed.2.bias", np.zeros((1, 9, 32), np.int32)),
        ("fixed.3.weight", np.zeros((8, 8, 3, 3), np.float32)),
        ("fixed.3.bias", np.zeros((2, 9, 8), np.int64)),
        ("fixed.1.weight", np.full((8, 8, 3, 3), -(1 << 31), np.int32)),
    ],
)
def test_bad_weights_files(name: str, value: NDArray | None) -> None:
    tensors = FixedPointScalePath.from_float(float_path(3, gain=1, bias=1)).tensors()
    if value is None:
        del tensors[name]
    else:
        tensors[name] = value
    with pytest.raises(WeightsError, match=f"layer {name[6]}"):
        FixedPointScalePath.from_tensors(tensors, CONFIG)


def test_weights_beyond_32_bits_are_not_exported() -> None:
    with pytest.raises(WeightsError, match="layer 0: weight exceeds 32 bits"):
        cancelling_path(0).tensors()
