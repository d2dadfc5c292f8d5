"""What a training run needs to know of its task; it knows nothing of bits, pictures or PSNR.

A task is a model, a way to draw batches, and a loss. `loop.train` gives it steps, a learning rate,
averaged weights, checkpoints and a log. The codec's is `rate_distortion.RateDistortion`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from torch import Tensor, nn

Model = TypeVar("Model", bound=nn.Module)
Batch = tuple[Tensor, ...]
"""Tensors of one length; several processes split them between them."""


class Objective(Protocol[Model]):
    """A task to be trained, and the kind of model that is trained for it.

    Attributes:
        rng: all that is drawn for batches comes from here; checkpoints hold its state.
        figures: names of what `loss` gives beside the loss, in the order of the log's columns.
    """

    rng: np.random.Generator
    figures: tuple[str, ...]

    def fresh(self) -> Model:
        """The model at its beginning, on the CPU."""

    def empty(self) -> Model:
        """A model of the same shape whose values do not matter."""

    def describe(self) -> str:
        """The shape of the model, as JSON; the key of a checkpoint to a model."""

    def batch(self, count: int, side: int) -> Batch:
        """`count` samples of a size, drawn with `rng`."""

    def loss(self, model: Callable[..., Any], batch: Batch) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The loss (scalar) of a batch, and figures (scalars, detached) for the log.

        Args:
            model: called like the model's `forward`; it may be wrapped or compiled.
        """

    def anneal(self, model: Model, annealing: bool) -> None:
        """Make the model ready for the last phase, in which the learning rate falls, or not."""

    def finish(self, model: Model) -> Any:
        """A model as others use it; what that is, only the objective needs to know."""

    def export(self, finished: Any, path: Path) -> None:
        """Write what `finish` gave."""

    def validate(self, finished: Any) -> dict[str, list[float]]:
        """Figures of what `finish` gave, on data that it was not trained on."""
