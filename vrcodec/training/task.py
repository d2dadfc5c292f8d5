"""What most tasks have in common: an objective that lacks only model, batches and loss."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Generic

import numpy as np
from safetensors.torch import save
from torch import Tensor

from vrcodec.files import write_atomically
from vrcodec.training.objective import Batch, Model


class Task(ABC, Generic[Model]):
    """An `Objective` whose model is used as it is: exported by its parameters alone.

    Attributes:
        figures: names of what `loss` gives beside the loss.
        rng: all that is drawn for batches comes from here.
    """

    figures: tuple[str, ...] = ()
    rng: np.random.Generator

    @abstractmethod
    def fresh(self) -> Model:
        """The model at its beginning, on the CPU."""

    @abstractmethod
    def batch(self, count: int, side: int) -> Batch:
        """`count` samples of a size, drawn with `rng`."""

    @abstractmethod
    def loss(self, model: Callable[..., Any], batch: Batch) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The loss (scalar) of a batch, and figures (scalars, detached) for the log."""

    def empty(self) -> Model:
        """A model of the same shape."""
        return self.fresh()

    def describe(self) -> str:
        """The shape of the model, as JSON."""
        return "{}"

    def anneal(self, model: Model, annealing: bool) -> None:
        """Nothing changes in the last phase."""

    def finish(self, model: Model) -> Model:
        """The model by itself, on the CPU."""
        return copy.deepcopy(model).cpu().eval().requires_grad_(False)

    def export(self, finished: Model, path: Path) -> None:
        """Write its parameters, and what `describe` says, as safetensors. Raises VrcodecError."""
        state = {name: value.contiguous() for name, value in finished.state_dict().items()}
        data = save(state, {"config": self.describe()})
        write_atomically(path, data, overwrite=True, below=path.parent)

    def validate(self, finished: Model) -> dict[str, list[float]]:
        """Nothing."""
        return {}
