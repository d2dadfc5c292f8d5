"""From a trained network to a weights file: fixed-point scale path and counted tables."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vrcodec.bitstream.tables import TableSet, concatenate, quantise
from vrcodec.model.config import LOG_SCALE_STEP, SCALE_LEVELS, SCALE_MIN, ModelConfig
from vrcodec.model.fixed_point import FixedPointScalePath
from vrcodec.model.hyper_tables import HyperTables, places_of
from vrcodec.model.latent_tables import BUCKETS, LatentTables
from vrcodec.model.loading import exported, model_tensors
from vrcodec.model.network import CompressionModel
from vrcodec.model.weights_file import save_weights, table_tensors
from vrcodec.training import trellis_tables
from vrcodec.training.data import CropSampler
from vrcodec.training.trellis_tables import PRIOR_COUNT, REACH, places

HYPER_REACH = 7.0
"""Half-width of a table of z, in standard deviations."""
MAX_HYPER_SPREAD = 200
MOST_HYPER = 30_000
"""What z is expected to be at most: all of a table is within 16 bits."""


@dataclasses.dataclass(frozen=True)
class Finished:
    """A trained model as it will be used.

    Attributes:
        network: rounded to its stored precision.
        fixed: the scale path in integers.
        z_tables: probabilities of z, by place on the dials and channel.
        y_tables: probabilities of y, by quality bucket, kind of channel and scale index.
        tensors: everything that a weights file holds.
    """

    network: CompressionModel
    fixed: FixedPointScalePath
    z_tables: HyperTables
    y_tables: LatentTables
    tensors: dict[str, NDArray[Any]]

    def save(self, path: Path) -> str:
        """Write the weights file; returns the id of the weights. Raises VrcodecError."""
        return save_weights(path, self.network.config, self.tensors)


def finish(
    model: CompressionModel,
    sampler: CropSampler,
    pictures: int,
    size: int,
    quality: float | None = None,
    make: Callable[[ModelConfig], CompressionModel] = CompressionModel,
) -> Finished:
    """Round a trained model (it comes to the CPU) and count its tables.

    The tables are counted on `pictures` crops of size x size, spread evenly over the dials or, for
    a model of a single quality, all there; through the network as it will be after rounding to
    its stored precision.

    Raises:
        WeightsError: the scale path could overflow.
    """
    network = exported(model.cpu(), make)
    fixed = FixedPointScalePath.from_float(model.scale_path)
    y_tables = count_tables(network, fixed, sampler, pictures, size, quality)
    z_tables = hyper_tables(network)
    if model.config.trellis:
        y_tables = trellis_tables.with_trellis(
            y_tables, network, fixed, sampler, pictures, size, quality
        )
    tensors = model_tensors(model)
    tensors |= fixed.tensors()
    tensors |= table_tensors("z", z_tables) | table_tensors("y", y_tables)
    known = HyperTables(z_tables, model.config), LatentTables(y_tables, model.config)
    return Finished(network, fixed, *known, tensors)


def export(
    model: CompressionModel,
    sampler: CropSampler,
    path: Path,
    pictures: int,
    size: int,
    quality: float | None = None,
) -> str:
    """Write the weights file of a trained model, made by `finish`; returns its id."""
    return finish(model, sampler, pictures, size, quality).save(path)


def count_tables(
    model: CompressionModel,
    fixed: FixedPointScalePath,
    sampler: CropSampler,
    pictures: int,
    size: int,
    quality: float | None = None,
) -> TableSet:
    """Frequency tables of y without a trellis (see `LatentTables`)."""
    limits = [_reach(level) for level in range(SCALE_LEVELS)]
    kinds = slice(None, model.config.core), slice(model.config.core, None)
    y_counts = [[[np.zeros(2 * n + 2) for n in limits] for _ in kinds] for _ in range(BUCKETS)]
    for conditioning in places(model.config.dials, pictures, quality):
        x = sampler.batch(1, size).cpu()
        z, y = (part[0] for part in model.quantise(x, model.condition(conditioning)))
        indexes = fixed.indexes(z, conditioning)[:, : y.shape[1], : y.shape[2]]
        bucket = conditioning.bucket(BUCKETS)
        for kind, counts in zip(kinds, y_counts[bucket], strict=True):
            _count(y[kind].numpy().ravel(), indexes[kind].numpy().ravel(), limits, counts)
    y_tables = [
        _latent_table([of_kinds[kind][level] for of_kinds in y_counts], bucket, level)
        for bucket, kind, level in np.ndindex(BUCKETS, len(kinds), SCALE_LEVELS)
    ]
    y_low = [-limit for limit in limits] * (BUCKETS * len(kinds))
    return concatenate(y_low, y_tables)


def hyper_tables(model: CompressionModel) -> TableSet:
    """Tables of z (see `HyperTables`): its learned density.

    Counted near every place they would be no better (docs/experiments.md).
    """
    places = places_of(model.config)
    others = [dial.default for dial in model.config.dials][len(places) :]
    low, tables = [], []
    for index in np.ndindex(*places):
        at = [number / (count - 1) for number, count in zip(index, places, strict=True)]
        vector = torch.tensor([[*at, *others]])
        means = model.hyper_prior.mean(vector)[0].tolist()
        deviations = model.hyper_prior.log_scale(vector)[0].exp().tolist()
        for mean, deviation in zip(means, deviations, strict=True):
            middle = round(max(-MOST_HYPER, min(mean, MOST_HYPER)))
            spread = min(math.ceil(HYPER_REACH * deviation) + 1, MAX_HYPER_SPREAD)
            low.append(middle - spread)
            tables.append(quantise(_logistic(middle - spread, middle + spread, deviation, mean)))
    return concatenate(low, tables)


def _latent_table(
    by_bucket: list[NDArray[np.float64]], bucket: int, level: int
) -> NDArray[np.int32]:
    """Counts in a bucket; where they are few, those of all; and where those are, a logistic."""
    limit = _reach(level)
    everywhere = _symmetric(np.sum(by_bucket, axis=0))
    everywhere += PRIOR_COUNT * _logistic(-limit, limit, level_sigma(level))
    return quantise(_symmetric(by_bucket[bucket]) + PRIOR_COUNT * everywhere / everywhere.sum())


def level_sigma(level: int) -> float:
    """Standard deviation that a scale index stands for, in quantisation steps."""
    return SCALE_MIN * math.exp(LOG_SCALE_STEP * level)


def _reach(level: int) -> int:
    return 2 + math.ceil(REACH * level_sigma(level))


def _count(
    values: NDArray[Any],
    indexes: NDArray[Any],
    limits: list[int],
    counts: list[NDArray[np.float64]],
) -> None:
    for level in np.unique(indexes).tolist():
        limit = limits[level]
        symbols = values[indexes == level].astype(np.int64) + limit
        symbols[(symbols < 0) | (symbols > 2 * limit)] = 2 * limit + 1
        counts[level] += np.bincount(symbols, minlength=2 * limit + 2)


def _symmetric(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    regular = counts[:-1]
    return np.append((regular + regular[::-1]) / 2, counts[-1])


def _logistic(low: int, high: int, sigma: float, mean: float = 0.0) -> NDArray[np.float64]:
    """Probabilities of low..high, then of everything else."""
    edges = (np.arange(low, high + 2) - 0.5 - mean) / (sigma * math.sqrt(3) / math.pi)
    cumulative = 0.5 * (1 + np.tanh(edges / 2))
    inside = np.diff(cumulative)
    return np.append(inside, max(1 - inside.sum(), 0.0))
