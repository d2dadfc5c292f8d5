"""Weights files: safetensors with everything a decoder needs. No torch here.

A file holds the float parameters (`model.*`), the integer scale path (`fixed.*`), the
probability tables (`tables.z.*`, `tables.y.*`) and, as metadata, the model's configuration.
Its id is the start of a hash over all of that (docs/bitstream.md, section 6).
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from vrcodec.bitstream.tables import TableSet
from vrcodec.conditional.dials import ANCHORS
from vrcodec.errors import WeightsError
from vrcodec.model.config import SCALE_LEVELS, ModelConfig

ID_BYTES = 3
BUCKETS = ANCHORS - 1
"""Sets of tables for z: that of a picture is `Conditioning.bucket(BUCKETS)`."""
MAX_BYTES = 256 << 20
_DTYPES = {"F16": np.float16, "F32": np.float32, "I32": np.int32}


@dataclasses.dataclass(frozen=True)
class Weights:
    """A weights file, read and checked as far as that goes without torch."""

    config: ModelConfig
    tensors: Mapping[str, NDArray]
    z_tables: TableSet
    y_tables: TableSet
    id: str


def default_weights() -> Path:
    """The released weights: in the installed package, or in the checkout it runs from.

    Raises:
        WeightsError: there are none.
    """
    package = Path(__file__).resolve().parents[1]
    for path in (
        package / "weights_data" / "release.safetensors",
        package.parent / "weights" / "release.safetensors",
    ):
        if path.is_file():
            return path
    raise WeightsError("this installation has no weights; name some with --weights FILE")


def load_weights(path: Path) -> Weights:
    """Read a weights file. Raises WeightsError if it is missing, broken or impossible."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise WeightsError(f"{path}: too large for a weights file")
        with safe_open(path, framework="numpy") as file:
            config_text = (file.metadata() or {}).get("config", "")
            config = ModelConfig.from_json(config_text)
            tensors = {}
            for name in file.keys():  # noqa: SIM118 (not a dict)
                if file.get_slice(name).get_dtype() not in _DTYPES:
                    raise WeightsError(f"{path}: {name} has an unsupported type")
                tensors[name] = file.get_tensor(name)
    except (OSError, SafetensorError, ValueError) as error:
        raise WeightsError(f"{path}: not a weights file: {error}") from error
    try:
        for name, tensor in tensors.items():
            if tensor.dtype != np.int32 and not np.isfinite(tensor).all():
                raise WeightsError(f"{name} is not finite")
        z_tables, y_tables = (_table_set(tensors, kind) for kind in "zy")
        if len(z_tables) != BUCKETS * config.hyper or len(y_tables) != SCALE_LEVELS:
            raise WeightsError("wrong number of probability tables")
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from error
    return Weights(config, tensors, z_tables, y_tables, content_id(config_text, tensors))


def save_weights(path: Path, config: ModelConfig, tensors: Mapping[str, NDArray]) -> str:
    """Write a weights file; returns its id."""
    contiguous = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    config_text = config.to_json()
    path.write_bytes(save(contiguous, metadata={"config": config_text}))
    return content_id(config_text, contiguous)


def content_id(config: str, tensors: Mapping[str, NDArray]) -> str:
    """Six hex digits that name weights with this configuration (JSON as stored)."""
    spelled = {np.dtype(dtype): name for name, dtype in _DTYPES.items()}
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        shape = ",".join(map(str, tensor.shape))
        for text in (name, spelled[tensor.dtype], shape):
            digest.update(text.encode() + b"\0")
        digest.update(np.ascontiguousarray(tensor).tobytes())
    digest.update(config.encode())
    return digest.digest()[:ID_BYTES].hex()


def weights_id(path: Path) -> str:
    """The id of a weights file. Raises WeightsError."""
    return load_weights(path).id


def table_tensors(kind: str, tables: TableSet) -> dict[str, NDArray]:
    """The named arrays of a TableSet, for the weights file; kind is z or y."""
    return {
        f"tables.{kind}.{field.name}": getattr(tables, field.name)
        for field in dataclasses.fields(tables)
    }


def _table_set(tensors: Mapping[str, NDArray], kind: str) -> TableSet:
    parts = []
    for field in dataclasses.fields(TableSet):
        part = tensors.get(f"tables.{kind}.{field.name}")
        if part is None or part.dtype != np.int32:
            raise WeightsError(f"bad or missing tables.{kind}.{field.name}")
        parts.append(part)
    return TableSet(*parts)
