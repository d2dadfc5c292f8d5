"""Weights files <-> networks."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vrcodec.errors import WeightsError, naming
from vrcodec.model.config import LOG_SCALE_STEP, SCALE_MIN, ModelConfig
from vrcodec.model.fixed_point import FixedPointScalePath
from vrcodec.model.integer_path import ACTIVATION_BITS, WEIGHT_BITS
from vrcodec.model.isolation import is_forked
from vrcodec.model.network import CompressionModel
from vrcodec.model.weights_file import Weights, chosen_weights, load_weights

PREFIX = "model."
SCALE_PATH = "scale_path."
HALF_PRECISION_SIZE = 1024
"""Tensors of at least this many values are stored as float16, smaller ones as float32."""


def model_tensors(model: CompressionModel) -> dict[str, NDArray[Any]]:
    """The float parameters as stored in a weights file.

    The scale path is left out: it is stored as integers, which are as exact as it was.
    """
    tensors = {}
    for name, value in model.state_dict().items():
        if not name.startswith(SCALE_PATH):
            array = value.detach().float().cpu().numpy()
            dense = array.ndim >= 2 and array.size >= HALF_PRECISION_SIZE and "values" not in name
            tensors[PREFIX + name] = array.astype(np.float16) if dense else array
    return tensors


def build(weights: Weights) -> tuple[CompressionModel, FixedPointScalePath]:
    """The networks of a weights file, in evaluation mode on the CPU.

    Raises:
        WeightsError: a tensor is missing, superfluous, of the wrong shape or out of bounds.
    """
    with torch.device("meta"):  # shapes alone, until they are known to be those of the file
        model = CompressionModel(weights.config)
    expected = model.state_dict()
    wanted = {PREFIX + n: v.shape for n, v in expected.items() if not n.startswith(SCALE_PATH)}
    present = {n: v.shape for n, v in weights.tensors.items() if n.startswith(PREFIX)}
    for name in wanted.keys() | present.keys():
        if wanted.get(name) != present.get(name):
            raise WeightsError(f"{name}: shape {present.get(name)}, expected {wanted.get(name)}")
    fixed = FixedPointScalePath.from_tensors(weights.tensors, weights.config)
    state = {
        name: torch.from_numpy(weights.tensors[PREFIX + name].astype(np.float32))
        for name in expected
        if not name.startswith(SCALE_PATH)
    }
    model.load_state_dict(state | _float_scale_path(fixed), assign=True)
    return model.eval().requires_grad_(False), fixed


def select_device(name: str) -> torch.device:
    """The device of a name; "auto" is CUDA if there is one. Raises VrcodecError."""
    if name == "auto":
        name = "cuda" if not is_forked() and torch.cuda.is_available() else "cpu"
    with naming(f"device {name} is not available", everything=True):
        device = torch.device(name)
        torch.empty(0, device=device)
    return device


def exported(
    model: CompressionModel, make: Callable[[ModelConfig], CompressionModel] = CompressionModel
) -> CompressionModel:
    """A copy of a model as it will be after a round trip through a weights file.

    Args:
        make: what makes a network of its shape.
    """
    copy = make(model.config)
    state = {
        name.removeprefix(PREFIX): torch.from_numpy(array).float()
        for name, array in model_tensors(model).items()
    }
    copy.load_state_dict(
        state | _float_scale_path(FixedPointScalePath.from_float(model.scale_path))
    )
    return copy.eval().requires_grad_(False)


def _float_scale_path(fixed: FixedPointScalePath) -> dict[str, torch.Tensor]:
    state = {}
    last = len(fixed.layers) - 1
    for i, layer in enumerate(fixed.layers):
        unit = LOG_SCALE_STEP if i == last else 1.0
        bias = layer.bias * (unit * 2.0 ** -(WEIGHT_BITS + ACTIVATION_BITS))
        if i == last:
            bias[0] += float(np.log(SCALE_MIN))
        weight = layer.weight * (unit * 2.0**-WEIGHT_BITS)
        state[f"{SCALE_PATH}convs.{i}.weight"] = torch.from_numpy(weight.astype(np.float32))
        state[f"{SCALE_PATH}biases.{i}.values"] = torch.from_numpy(bias.astype(np.float32))
    return state


def load_model(weights: str | os.PathLike[str] | None = None) -> CompressionModel:
    """The released network (or that of another weights file), for research.

    `forward(x, conditioning)` of the result gives the reconstruction, the bits of every
    latent and the latents; see `CompressionModel.forward`.

    Raises:
        WeightsError: the file is missing or broken.
        ArgumentError: it is no path.
    """
    return build(load_weights(chosen_weights(weights)))[0]
