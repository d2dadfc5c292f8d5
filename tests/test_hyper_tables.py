"""Tables of z: by place on the dials, here and by the specification."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import picture
from reference_decoder import InvalidFile, decode_symbols, z_place

from vrcodec import Codec
from vrcodec.bitstream.container import unpack
from vrcodec.bitstream.tables import TableSet, concatenate, quantise
from vrcodec.conditional.dials import ANCHORS, ONE, Conditioning
from vrcodec.errors import WeightsError
from vrcodec.model.config import ModelConfig
from vrcodec.model.hyper_tables import HyperTables
from vrcodec.model.loading import build
from vrcodec.model.weights_file import load_weights, save_weights, table_tensors
from vrcodec.training.export import hyper_tables
from vrcodec.training.rate_distortion import with_tune

ONE_DIAL = ModelConfig(hyper=3)
TWO_DIALS = with_tune(ONE_DIAL, (0.01, 100.0))


def numbered(count: int) -> TableSet:
    """Tables that differ: the n-th has values from n on."""
    return concatenate(list(range(count)), [quantise(np.array([2.0, 1.0, 0.1]))] * count)


@pytest.mark.parametrize(
    ("config", "count", "values", "place"),
    [
        (ONE_DIAL, 8, (0,), 0),
        (ONE_DIAL, 8, (ONE,), 7),
        (ONE_DIAL, 33, (511,), 0),
        (ONE_DIAL, 33, (512,), 1),
        (ONE_DIAL, 33, (ONE - 513,), 31),
        (ONE_DIAL, 33, (ONE,), 32),
        (TWO_DIALS, 8, (4096, ONE), 1),
        (TWO_DIALS, 165, (0, 0), 0),
        (TWO_DIALS, 165, (0, 4096), 1),
        (TWO_DIALS, 165, (512, 4095), 5),
        (TWO_DIALS, 165, (ONE // 2, ONE // 2), 82),
        (TWO_DIALS, 165, (ONE, ONE), 164),
    ],
)
def test_place(config: ModelConfig, count: int, values: tuple[int, ...], place: int) -> None:
    tables = HyperTables(numbered(3 * count), config)
    numbers = tables.numbers((2, 5), Conditioning(values)).reshape(3, 2, 5)
    assert [np.unique(channel).tolist() for channel in numbers] == [
        [3 * place + channel] for channel in range(3)
    ]
    assert z_place(list(values), count) == place


@pytest.mark.parametrize(("config", "count"), [(ONE_DIAL, 165), (TWO_DIALS, 33), (ONE_DIAL, 9)])
def test_other_numbers_are_refused(config: ModelConfig, count: int) -> None:
    with pytest.raises(WeightsError, match="number of probability tables"):
        HyperTables(numbered(3 * count), config)
    if count != 9:
        with pytest.raises(InvalidFile):
            z_place([5] * config.coefficients, count)


def with_density(path: Path, tiny_weights: Path, means: list[float], deviation: float) -> Path:
    """Weights whose z has these means at quality 0, and twice as large ones at 1."""
    weights = load_weights(tiny_weights)
    model = build(weights)[0]
    with torch.no_grad():
        mean = torch.tensor(means)
        model.hyper_prior.mean.values[0] = mean * torch.linspace(1, 2, ANCHORS)[:, None]
        model.hyper_prior.log_scale.values.fill_(math.log(deviation))
    tables = hyper_tables(model)
    save_weights(path, weights.config, dict(weights.tensors) | table_tensors("z", tables))
    return path


def test_tables_are_the_learned_density(tiny_weights: Path, tmp_path: Path) -> None:
    means = [float(mean) for mean in np.linspace(-20, 20, 8)]
    weights = load_weights(with_density(tmp_path / "w.safetensors", tiny_weights, means, 1.5))
    for quality in (0.0, 0.25, 0.5, 1.0):
        at, middle = weights.config.dials.at(quality), np.array(means) * (1 + quality)
        for distance in (0, 3, -6):
            z = np.round(middle + distance).astype(np.int16)
            edges = (z[:, None] - middle[:, None] + [-0.5, 0.5]) * math.pi / (1.5 * math.sqrt(3))
            expected = -np.log2(np.diff(1 / (1 + np.exp(-edges)))[:, 0])
            bits = weights.z_tables.bits(z[:, None, None], at).ravel()
            np.testing.assert_allclose(bits, expected, atol=0.15)


@pytest.mark.parametrize("mean", [0.0, 1e9, -1e9])
@pytest.mark.parametrize("deviation", [1e-6, 3.0, 1e6])
def test_files_of_any_density(
    mean: float, deviation: float, tiny_weights: Path, tmp_path: Path
) -> None:
    """What no table expects is an escape; the specification's decoder reads the same."""
    path = with_density(tmp_path / "w.safetensors", tiny_weights, [mean] * 8, deviation)
    codec = Codec(path, "cpu", threads=1)
    for quality in (0.0, 0.35, 1.0):
        data = codec.encode(picture(3, 100, 70), quality)
        z, y = decode_symbols(data, path.read_bytes())
        latents = codec.pipeline.read_latents(unpack(data))
        np.testing.assert_array_equal(latents.z, z)
        np.testing.assert_array_equal(latents.y, y)
        bits = codec.weights.z_tables.bits(z, codec.dials.at(quality)).sum()
        assert abs(8 * len(unpack(data).z) - bits) < 64
