"""Weights files of styles: safetensors with the network's parameters, its configuration beside.

One comes from anywhere and is hostile until it is checked: size, header, configuration, names,
types, values and the shape of every parameter.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save

from vrcodec.errors import WeightsError
from vrcodec.files import write_atomically
from vrcodec.model.tensors_file import (
    DTYPES,
    check_finite,
    naming,
    parse_tensors,
    read_file,
    shown,
)
from vrcodec.stylize.config import StyleConfig
from vrcodec.stylize.network import StyleNet

MAX_BYTES = 64 << 20
KEY = "style"
"""Of the configuration in a file's metadata."""
HALF_PRECISION_SIZE = 1024
"""Tensors of at least this many values are stored as float16, smaller ones as float32."""
SUFFIX = ".safetensors"


def folder() -> Path:
    """Where the released styles are: in the installed package, or in the checkout."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "weights_data" / "styles"
    return installed if installed.is_dir() else package.parent / "weights" / "styles"


def names() -> list[str]:
    """The released styles, sorted."""
    return sorted(path.stem for path in folder().glob(f"*{SUFFIX}"))


def find(style: str) -> Path:
    """The weights file of a released style, or the file of this name.

    Raises:
        WeightsError: there is neither.
    """
    if style in names():
        return folder() / f"{style}{SUFFIX}"
    if style.endswith(SUFFIX) or Path(style).is_file():
        return Path(style)
    known = ", ".join(names()) or "none here"
    raise WeightsError(f"there is no style {shown(style)}; there are {known}, and files of weights")


def save_style(path: Path, network: StyleNet) -> None:
    """Write a style's weights file, all of it or nothing. Raises VrcodecError."""
    tensors = {}
    for name, value in network.state_dict().items():
        array = np.ascontiguousarray(value.detach().float().cpu().numpy())
        half = array.ndim >= 2 and array.size >= HALF_PRECISION_SIZE
        tensors[name] = array.astype(np.float16) if half else array
    data = save(tensors, metadata={KEY: network.config.to_json()})
    write_atomically(path, data, overwrite=True, below=path.parent)


def load_style(path: Path) -> StyleNet:
    """The network of a style, ready to be used on the CPU.

    Raises:
        WeightsError: the file is missing, broken or impossible; one line.
    """
    with naming(path):
        metadata, tensors = parse_tensors(read_file(path, MAX_BYTES))
        config = StyleConfig.from_json(metadata.get(KEY, ""))
        with torch.device("meta"):  # shapes alone, until they are known to be those of the file
            network = StyleNet(config)
        wanted = {name: tuple(value.shape) for name, value in network.state_dict().items()}
        for name in wanted.keys() | tensors.keys():
            found = tensors[name].shape if name in tensors else None
            if found != wanted.get(name):
                raise WeightsError(f"{shown(name)}: shape {found}, expected {wanted.get(name)}")
        for name, tensor in tensors.items():
            if tensor.dtype == DTYPES["I32"]:
                raise WeightsError(f"{shown(name)} is of a wrong type")
            check_finite(name, tensor)
        state = {n: torch.from_numpy(tensor.astype(np.float32)) for n, tensor in tensors.items()}
        network.load_state_dict(state, assign=True)
    network = network.eval().requires_grad_(False)
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
