"""Checkpoints: everything a run needs to go on, in one file that is trusted in nothing."""

from __future__ import annotations

import dataclasses
import io
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Generic, overload

import numpy as np
import torch
from torch import Tensor, nn

from vrcodec.errors import VrcodecError, reason
from vrcodec.files import write_atomically
from vrcodec.model.config import ModelConfig
from vrcodec.training.objective import Model, Objective
from vrcodec.training.optimizers import Optimizer, make_optimizer
from vrcodec.training.options import LoopOptions, Options, TrainingOptions

CHECKPOINT = "checkpoint.pt"
TRUNK = "trunk.pt"
MAX_BYTES = 64 << 30
MAX_CONFIG = 1 << 16
MAX_NUMBER = 1 << 53


@dataclasses.dataclass
class TrainingState(Generic[Model]):
    """What a run is made of beside its objective; a checkpoint holds all of it.

    Attributes:
        model: what is trained.
        ema: averaged weights.
        patches: samples that were drawn, over all processes.
        seconds: that the run has taken so far.
        annealing: whether the last phase has begun.
        closing: seconds to keep for what comes after training.
    """

    model: Model
    ema: Model
    optimizer: Optimizer
    step: int = 0
    patches: int = 0
    seconds: float = 0.0
    annealing: bool = False
    closing: float = 0.0


@dataclasses.dataclass(frozen=True)
class Checkpoint(Generic[Options]):
    """A checkpoint, read and checked as far as that goes without its model.

    Attributes:
        options: those of the run; of checkpoints that hold none, the defaults and `optimizer`.
        sources: what the run learns from, by use: folders of pictures; empty if it holds none.
    """

    path: Path
    config: str
    options: Options
    sources: dict[str, list[str]]
    step: int
    patches: int
    seconds: float
    annealing: bool
    closing: float
    parts: Mapping[str, Any]

    def model_config(self) -> ModelConfig:
        """The shape of a codec's model. Raises VrcodecError if it describes none."""
        try:
            return ModelConfig.from_json(self.config)
        except (ValueError, RecursionError):
            raise VrcodecError(f"{self.path}: not a checkpoint of a model that I know") from None


def new_state(
    objective: Objective[Model],
    options: LoopOptions,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
) -> TrainingState[Model]:
    """A run at its beginning.

    Args:
        dtype: what is fastest on the device, for the optimiser's matrix products.
    """
    torch.manual_seed(options.seed)
    return _state(objective, objective.fresh(), options, device, dtype)


def _state(
    objective: Objective[Model],
    model: Model,
    options: LoopOptions,
    device: torch.device,
    dtype: torch.dtype,
) -> TrainingState[Model]:
    model, ema = (_placed(network, device) for network in (model, objective.empty()))
    ema.load_state_dict(model.state_dict())
    ema.requires_grad_(False)
    return TrainingState(model, ema, make_optimizer(options.optimizer, model, options.lr, dtype))


def _placed(model: Model, device: torch.device) -> Model:
    """The model on its device, weights laid out for channels-last convolutions."""
    return model.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def save(
    path: Path,
    state: TrainingState[Model],
    objective: Objective[Model],
    options: LoopOptions,
    sources: Mapping[str, list[str]] | None = None,
) -> None:
    """Write a checkpoint, whole or not at all. Raises VrcodecError, one line."""
    data = io.BytesIO()
    torch.save(
        {
            "config": objective.describe(),
            "options": options.to_dict(),
            "sources": dict(sources or {}),
            "model": state.model.state_dict(),
            "ema": state.ema.state_dict(),
            "optimizer": state.optimizer.state_dict(),
            "rng": objective.rng.bit_generator.state,
            "torch_rng": torch.get_rng_state(),
            "step": state.step,
            "patches": state.patches,
            "seconds": state.seconds,
            "annealing": state.annealing,
            "closing": state.closing,
        },
        data,
    )
    write_output(path, data.getvalue())


def write_output(path: Path, data: bytes) -> None:
    """Write or replace a file of the run's own folder, never through a link."""
    if path.is_symlink():
        raise VrcodecError(f"{path}: is a link, and would be written through")
    write_atomically(path, data, overwrite=True, below=path.parent)


@overload
def read(path: Path) -> Checkpoint[TrainingOptions]: ...


@overload
def read(path: Path, kind: type[Options]) -> Checkpoint[Options]: ...


def read(path: Path, kind: type[Any] = TrainingOptions) -> Checkpoint[Any]:
    """Read a checkpoint; nothing in it is run, and nothing is taken for granted.

    Args:
        kind: of the options that it holds: the codec's, or another task's.

    Raises:
        VrcodecError: it is missing, of another program, broken, or impossible; one line.
    """
    try:
        if not path.is_file():
            raise VrcodecError(f"{path}: no checkpoint to go on from")
        if path.stat().st_size > MAX_BYTES:
            raise VrcodecError(f"{path}: too large for a checkpoint")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd pickles, in many lines
            parts = torch.load(path, map_location="cpu", weights_only=True)
    except VrcodecError:
        raise
    except OSError as error:
        raise VrcodecError(f"{path}: {reason(error)}") from error
    except Exception:  # torch and pickle raise many kinds, with advice that is not ours
        raise VrcodecError(f"{path}: not a checkpoint, or a damaged one") from None
    try:
        return _checked(path, parts, kind)
    except VrcodecError as error:
        raise VrcodecError(f"{path}: not a usable checkpoint: {error}") from None


def _checked(path: Path, parts: Any, kind: type[Options]) -> Checkpoint[Options]:
    if not isinstance(parts, dict):
        raise VrcodecError("it holds no parts")
    for name, right in _KINDS.items():
        if name not in parts:
            raise VrcodecError(f"{name} is missing")
        if type(parts[name]) is not right and not isinstance(parts[name], right):
            raise VrcodecError(f"{name} is of the wrong kind")
    if isinstance(parts["step"], bool) or isinstance(parts["patches"], bool):
        raise VrcodecError("step is of the wrong kind")
    closing = parts.get("closing", 0.0)
    for number in (parts["step"], parts["patches"], parts["seconds"], closing):
        if not isinstance(number, (int, float)) or not 0 <= number < MAX_NUMBER:  # so is a NaN
            raise VrcodecError("step, patches or seconds are impossible")
    if len(parts["config"]) > MAX_CONFIG:
        raise VrcodecError("config is too long")
    return Checkpoint(
        path,
        parts["config"],
        _options(parts, kind),
        _sources(parts.get("sources", {})),
        parts["step"],
        parts["patches"],
        float(parts["seconds"]),
        parts["annealing"],
        float(closing),
        parts,
    )


_KINDS: dict[str, Any] = {
    "config": str,
    "model": dict,
    "ema": dict,
    "optimizer": dict,
    "rng": dict,
    "torch_rng": Tensor,
    "step": int,
    "patches": int,
    "seconds": (int, float),
    "annealing": bool,
}


def _options(parts: Mapping[str, Any], kind: type[Options]) -> Options:
    if "options" not in parts:  # as written before checkpoints held them
        return kind(optimizer="muon" if "muon" in parts["optimizer"] else "adamw")
    if not isinstance(parts["options"], dict):
        raise VrcodecError("options are of the wrong kind")
    return kind.from_dict(parts["options"])


def _sources(sources: Any) -> dict[str, list[str]]:
    if not isinstance(sources, dict) or not all(
        isinstance(name, str)
        and isinstance(paths, list)
        and all(isinstance(path, str) for path in paths)
        for name, paths in sources.items()
    ):
        raise VrcodecError("sources are of the wrong kind")
    return sources


def restore(
    checkpoint: Checkpoint[Any],
    objective: Objective[Model],
    options: LoopOptions,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
) -> TrainingState[Model]:
    """The run that a checkpoint holds; `objective` goes on drawing where it stopped.

    Args:
        objective: of the model that the checkpoint describes.
        options: of the run as it goes on.

    Raises:
        VrcodecError: the checkpoint does not fit the objective, or holds impossible values.
    """
    state = _state(objective, objective.empty(), options, device, dtype)
    parts = checkpoint.parts
    try:
        for name, network in (("model", state.model), ("ema", state.ema)):
            _load_network(network, name, parts[name])
        _load_optimizer(state.optimizer, parts["optimizer"])
        _load_generators(objective.rng, parts)
    except VrcodecError as error:
        raise VrcodecError(f"{checkpoint.path}: not a usable checkpoint: {error}") from None
    state.step, state.patches = checkpoint.step, checkpoint.patches
    state.seconds, state.annealing = checkpoint.seconds, checkpoint.annealing
    state.closing = checkpoint.closing
    return state


def averaged(checkpoint: Checkpoint[Any], model: Model) -> Model:
    """A model with the averaged weights of a checkpoint. Raises VrcodecError if they do not fit."""
    try:
        _load_network(model, "ema", checkpoint.parts["ema"])
    except VrcodecError as error:
        raise VrcodecError(f"{checkpoint.path}: not a usable checkpoint: {error}") from None
    return model


def _load_network(network: nn.Module, part: str, values: Mapping[str, Any]) -> None:
    own = network.state_dict()
    for name in [*own, *values]:
        value = values.get(name)
        if name not in own:
            raise VrcodecError(f"{part} has {name!r:.60}, the model has not")
        if not isinstance(value, Tensor) or value.shape != own[name].shape:
            raise VrcodecError(f"{part}: {name} is missing or of the wrong shape")
        if not value.is_floating_point() or not torch.isfinite(value).all():
            raise VrcodecError(f"{part}: {name} is not finite")
    network.load_state_dict(dict(values))


def _load_optimizer(optimizer: Optimizer, values: Mapping[str, Any]) -> None:
    try:
        optimizer.load_state_dict(dict(values))
        for parameter, state in optimizer.state.items():
            for value in state.values():
                if isinstance(value, Tensor) and value.ndim and value.shape != parameter.shape:
                    raise ValueError
    except Exception:
        raise VrcodecError("optimizer is not that of the model") from None


def _load_generators(rng: np.random.Generator, parts: Mapping[str, Any]) -> None:
    try:
        rng.bit_generator.state = parts["rng"]
        torch.set_rng_state(parts["torch_rng"].cpu())
    except Exception:
        raise VrcodecError("rng is no state of a random generator") from None
