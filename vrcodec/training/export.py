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
from vrcodec.model.latent_tables import BUCKETS, LatentTables
from vrcodec.model.loading import exported, model_tensors
from vrcodec.model.network import CompressionModel
from vrcodec.model.weights_file import save_weights, table_tensors
from vrcodec.training import trellis_tables
from vrcodec.training.data import CropSampler
from vrcodec.training.trellis_tables import PRIOR_COUNT, REACH, places

HYPER_PRIOR_COUNT = 20.0
MAX_HYPER_SYMBOLS = 400


@dataclasses.dataclass(frozen=True)
class Finished:
    """A trained model as it will be used.

    Attributes:
        network: rounded to its stored precision.
        fixed: the scale path in integers.
        z_tables: probabilities of z, by quality bucket and channel.
        y_tables: probabilities of y, by quality bucket, kind of channel and scale index.
        tensors: everything that a weights file holds.
    """

    network: CompressionModel
    fixed: FixedPointScalePath
    z_tables: TableSet
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
    z_tables, y_tables = count_tables(network, fixed, sampler, pictures, size, quality)
    if model.config.trellis:
        y_tables = trellis_tables.with_trellis(
            y_tables, network, fixed, sampler, pictures, size, quality
        )
    tensors = model_tensors(model)
    tensors |= fixed.tensors()
    tensors |= table_tensors("z", z_tables) | table_tensors("y", y_tables)
    latent_tables = LatentTables(y_tables, model.config)
    return Finished(network, fixed, z_tables, latent_tables, tensors)


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
) -> tuple[TableSet, TableSet]:
    """Frequency tables of z (by quality bucket and channel) and of y (see `LatentTables`)."""
    limits = [_reach(level) for level in range(SCALE_LEVELS)]
    kinds = slice(None, model.config.core), slice(model.config.core, None)
    y_counts = [[[np.zeros(2 * n + 2) for n in limits] for _ in kinds] for _ in range(BUCKETS)]
    z_seen: list[list[NDArray[np.int32]]] = [[] for _ in range(BUCKETS)]
    for conditioning in places(model.config.dials, pictures, quality):
        x = sampler.batch(1, size).cpu()
        z, y = (part[0] for part in model.quantise(x, model.condition(conditioning)))
        indexes = fixed.indexes(z, conditioning)[:, : y.shape[1], : y.shape[2]]
        bucket = conditioning.bucket(BUCKETS)
        z_seen[bucket].append(z.flatten(1).numpy())
        for kind, counts in zip(kinds, y_counts[bucket], strict=True):
            _count(y[kind].numpy().ravel(), indexes[kind].numpy().ravel(), limits, counts)
    y_tables = [
        _latent_table([of_kinds[kind][level] for of_kinds in y_counts], bucket, level)
        for bucket, kind, level in np.ndindex(BUCKETS, len(kinds), SCALE_LEVELS)
    ]
    z_low, z_tables = [], []
    for bucket, seen in enumerate(z_seen):
        prior_mean, prior_scale = _hyper_prior(model, (bucket + 0.5) / BUCKETS)
        values = np.concatenate(seen, axis=1) if seen else np.zeros((len(prior_mean), 0), int)
        for channel, mean, scale in zip(values, prior_mean, prior_scale, strict=True):
            low, table = _hyper_table(channel, float(mean), float(scale))
            z_low.append(low)
            z_tables.append(table)
    y_low = [-limit for limit in limits] * (BUCKETS * len(kinds))
    return concatenate(z_low, z_tables), concatenate(y_low, y_tables)


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


def _hyper_prior(
    model: CompressionModel, quality: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    vector = torch.tensor([model.config.dials.at(quality).positions])
    mean = model.hyper_prior.mean(vector)[0]
    return mean.numpy(), model.hyper_prior.log_scale(vector)[0].exp().numpy()


def _hyper_table(values: NDArray[Any], mean: float, sigma: float) -> tuple[int, NDArray[np.int32]]:
    spread = min(math.ceil(4 * sigma) + 1, MAX_HYPER_SYMBOLS // 4)
    low, high = round(mean) - spread, round(mean) + spread
    if len(values):
        middle = round(float(np.median(values)))
        half = MAX_HYPER_SYMBOLS // 2
        low = max(min(low, int(values.min())), middle - half)
        high = min(max(high, int(values.max())), middle + half)
    high = max(high, low + 1)
    inside = values[(values >= low) & (values <= high)] - low
    counts = np.bincount(inside, minlength=high - low + 2).astype(np.float64)
    counts[-1] += len(values) - len(inside)
    return low, quantise(counts + HYPER_PRIOR_COUNT * _logistic(low, high, sigma, mean))
