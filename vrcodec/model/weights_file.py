"""Weights files: safetensors with everything a decoder needs. No torch here.

A file holds the float parameters (`model.*`), the integer scale path (`fixed.*`), the
probability tables (`tables.z.*`, `tables.y.*`) and, as metadata, the model's configuration.
Its id is the start of a hash over all of that (docs/bitstream.md, section 6).

A weights file comes from anywhere and is hostile until it is checked: here its size, header,
configuration, names, types, values and tables; in `loading.build` the shape of every parameter.
"""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from vrcodec.bitstream.tables import TableSet
from vrcodec.errors import ArgumentError, UnknownWeightsError, WeightsError
from vrcodec.files import write_atomically
from vrcodec.model.config import ModelConfig
from vrcodec.model.hyper_tables import HyperTables
from vrcodec.model.identity import ID_DIGITS as ID_DIGITS
from vrcodec.model.identity import default_weights as default_weights
from vrcodec.model.identity import id_of, naming, read_file
from vrcodec.model.latent_tables import LatentTables
from vrcodec.model.tensors_file import DTYPES, check_finite, parse_tensors, shown
from vrcodec.model.tensors_file import MAX_VALUE as MAX_VALUE

SHORT_ID_DIGITS = 6
"""Of an id as files of version 1 name it."""
DEVIATION_RANGE = (1e-4, 1e4)
MAX_LOG_STEP = 40.0
"""Quantisation steps are within e to the power of plus and minus this, in deviations."""
_LAYERS = 5
_INTEGERS = {
    *(f"fixed.{layer}.{kind}" for layer in range(_LAYERS) for kind in ("weight", "bias")),
    *(f"tables.{kind}.{field.name}" for kind in "zy" for field in dataclasses.fields(TableSet)),
}
"""All tensors that are integers; the others are the model's."""


@dataclasses.dataclass(frozen=True)
class Weights:
    """A weights file, read and checked as far as that goes without torch."""

    config: ModelConfig
    tensors: Mapping[str, NDArray[Any]]
    z_tables: HyperTables
    y_tables: LatentTables
    id: str


def chosen_weights(weights: object = None) -> Path:
    """The weights file that a caller names, or the released one.

    Raises:
        ArgumentError: it is no path.
        WeightsError: there are no released ones.
    """
    if weights is None:
        return default_weights()
    if not isinstance(weights, (str, os.PathLike)):
        raise ArgumentError(f"weights are the path of a file, not a {type(weights).__name__}")
    return Path(weights)


def load_weights(path: Path) -> Weights:
    """Read a weights file. Raises WeightsError if it is missing, broken or impossible."""
    with naming(path):
        data = read_file(path)
        config_text, tensors = _parse(data)
        config = ModelConfig.from_json(config_text)
        for name, tensor in tensors.items():
            _check_values(name, tensor)
        z_tables = HyperTables(_table_set(tensors, "z"), config)
        y_tables = LatentTables(_table_set(tensors, "y"), config)
        return Weights(config, tensors, z_tables, y_tables, content_id(config_text, tensors))


def save_weights(path: Path, config: ModelConfig, tensors: Mapping[str, NDArray[Any]]) -> str:
    """Write a weights file, all of it or nothing, and through no link; returns its id.

    Raises:
        VrcodecError: it cannot be written. What was there before still is.
    """
    contiguous = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    config_text = config.to_json()
    data = save(contiguous, metadata={"config": config_text})
    write_atomically(path, data, overwrite=True, below=path.parent)
    return content_id(config_text, contiguous)


def content_id(config: str, tensors: Mapping[str, NDArray[Any]]) -> str:
    """ID_DIGITS hex digits that name weights with this configuration (JSON as stored)."""
    spelled = {dtype: name for name, dtype in DTYPES.items()}
    return id_of(
        config,
        [
            (name, spelled[tensor.dtype], tensor.shape, np.ascontiguousarray(tensor).data)
            for name, tensor in tensors.items()
        ],
    )


def weights_id(path: Path) -> str:
    """The id of a weights file. Raises WeightsError."""
    return load_weights(path).id


def check_named(named: str, own: str) -> None:
    """Whether a file that names its weights so may be decoded with the weights of an id.

    Args:
        named: what the file says: a whole id, or its first SHORT_ID_DIGITS.
        own: the id of the weights at hand.

    Raises:
        UnknownWeightsError: it was made with others; or it has a short name that is also the
            start of the id of the released weights, and these are not they.
    """
    if not own.startswith(named):
        raise UnknownWeightsError(f"made with weights {named}, these are {own[: len(named)]}")
    released = _released_id() if len(named) < len(own) else own
    if own != released and released.startswith(named):
        raise UnknownWeightsError(
            f"made with weights {named}, which is short for {own} and for {released}"
        )


@functools.cache
def _released_id() -> str:
    try:
        return weights_id(default_weights())
    except WeightsError:
        return ""


def _parse(data: bytes) -> tuple[str, dict[str, NDArray[Any]]]:
    """The configuration as text, and the tensors, of a safetensors file."""
    metadata, tensors = parse_tensors(data)
    for name, tensor in tensors.items():
        if name not in _INTEGERS and not name.startswith("model."):
            raise WeightsError(f"{shown(name)} does not belong into a weights file")
        if (tensor.dtype == DTYPES["I32"]) != (name in _INTEGERS):
            raise WeightsError(f"{shown(name)} is of a wrong type")
    return metadata.get("config", ""), tensors


def _check_values(name: str, tensor: NDArray[Any]) -> None:
    """Raise WeightsError for numbers that no training ends with, and arithmetic fails with."""
    if tensor.dtype == DTYPES["I32"]:
        return
    check_finite(name, tensor)
    if name.startswith("model.basis.deviation"):
        lowest, highest = DEVIATION_RANGE
        if not ((tensor >= lowest) & (tensor <= highest)).all():
            raise WeightsError(f"{shown(name)} is not within {lowest:g} to {highest:g}")
    if name == "model.log_step.values" and tensor.ndim == 3 and tensor.size:
        first, others = tensor[0].astype(np.float64), np.abs(tensor[1:]).max(axis=1, initial=0)
        falling = first[0] - np.logaddexp(0, first[1:]).sum(axis=0)
        reach = np.maximum(np.abs(first[0]), np.abs(falling)) + others.sum(axis=0)
        if not (reach <= MAX_LOG_STEP).all():
            raise WeightsError(f"{name}: quantisation steps beyond e^{MAX_LOG_STEP:g}")


def table_tensors(kind: str, tables: TableSet) -> dict[str, NDArray[Any]]:
    """The named arrays of a TableSet, for the weights file; kind is z or y."""
    return {
        f"tables.{kind}.{field.name}": getattr(tables, field.name)
        for field in dataclasses.fields(tables)
    }


def _table_set(tensors: Mapping[str, NDArray[Any]], kind: str) -> TableSet:
    parts = []
    for field in dataclasses.fields(TableSet):
        part = tensors.get(f"tables.{kind}.{field.name}")
        if part is None:
            raise WeightsError(f"missing tables.{kind}.{field.name}")
        parts.append(part)
    return TableSet(*parts)
