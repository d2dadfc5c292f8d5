"""Safetensors files from anywhere: hostile until size, header, types and values are checked.

No torch here. What names and shapes there may be, only the kind of file knows.
"""

from __future__ import annotations

import json
import reprlib
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, deserialize

from vrcodec.errors import WeightsError
from vrcodec.model.identity import header_length
from vrcodec.model.identity import naming as naming
from vrcodec.model.identity import read_file as read_file

MAX_VALUE = 65504.0
"""Largest magnitude of a parameter, that of float16."""
_EXPONENT = np.uint16(0x7C00)
"""Bits of a float16 that are all 1 in what is not finite."""
DTYPES: dict[str, np.dtype[Any]] = {
    "F16": np.dtype("<f2"),
    "F32": np.dtype("<f4"),
    "I32": np.dtype("<i4"),
}
"""The types that there are, by their names in files."""


def parse_tensors(data: bytes) -> tuple[dict[str, str], dict[str, NDArray[Any]]]:
    """The metadata and the tensors of a safetensors file.

    Raises:
        WeightsError, ValueError: it is none, or a tensor is of another type
            than `DTYPES`.
    """
    length = header_length(data)
    tensors = {}
    try:
        entries: list[tuple[str, dict[str, Any]]] = deserialize(data)
    except SafetensorError as error:
        raise ValueError(str(error)) from error
    for name, entry in entries:
        dtype = DTYPES.get(entry["dtype"])
        if dtype is None:
            raise WeightsError(f"{shown(name)} is of a wrong type")
        tensors[name] = np.frombuffer(entry["data"], dtype).reshape(entry["shape"])
    return json.loads(data[8 : 8 + length]).get("__metadata__") or {}, tensors


def check_finite(name: str, tensor: NDArray[Any]) -> None:
    """Raise WeightsError for numbers that no training ends with."""
    if tensor.dtype == np.float16:  # no finite one is beyond, and arithmetic on them is slow
        sound = ((tensor.view(np.uint16) & _EXPONENT) != _EXPONENT).all()
    else:
        sound = (np.abs(tensor) <= MAX_VALUE).all()  # false for a NaN, too
    if not sound:
        raise WeightsError(f"{shown(name)} is not finite, or beyond {MAX_VALUE:g}")


def shown(name: str) -> str:
    """A name out of a hostile file, short and printable."""
    return name if name.isprintable() and len(name) < 80 else reprlib.repr(name)
