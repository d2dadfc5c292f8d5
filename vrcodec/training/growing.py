"""Larger models that begin as a smaller one: further blocks, dials, local steps."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from vrcodec.conditional.film import AnchoredTable, ConditioningNet
from vrcodec.conditional.folding import HARMONICS
from vrcodec.errors import VrcodecError
from vrcodec.model.config import ModelConfig
from vrcodec.model.network import CompressionModel

LARGER = ("analysis_blocks", "synthesis_blocks", "context_blocks", "learned_linear", "local_steps")
"""Values of a configuration that may grow."""
FREE = ("dead_zone", "trellis_step", "trellis_level", "trellis_reach")
"""Those that an encoder and the coder go by, and no network."""


def grown(
    trained: CompressionModel,
    config: ModelConfig | None,
    make: Callable[[ModelConfig], CompressionModel] = CompressionModel,
) -> CompressionModel:
    """A model of another shape that computes what `trained` does, ready to be trained on.

    It may have more residual blocks, which begin by adding nothing, further dials, which turn
    nothing at first (their columns of the conditioning network and their tables are zero), and
    local steps, which begin by being equal. What an encoder or the coder alone goes by may differ.

    Raises:
        VrcodecError: the other shape differs in more than that, or is smaller.
    """
    if config is None or config == trained.config:
        return trained.requires_grad_(True)
    _check_growth(trained.config, config)
    old, new = len(trained.config.dials), len(config.dials)
    torch.manual_seed(0)
    model = make(config)
    for module in model.modules():
        silence = getattr(module, "silence", None)
        if silence:
            silence()
    known = trained.state_dict()
    known.update(_widened(model, known, old, new))
    model.load_state_dict(known, strict=False)
    return model


def _check_growth(old: ModelConfig, new: ModelConfig) -> None:
    """Raises VrcodecError, which names the first value that cannot become another."""
    ranges = [[(dial.name, dial.low, dial.high) for dial in c.dials] for c in (old, new)]
    if ranges[1][: len(ranges[0])] != ranges[0]:
        was, asked = (", ".join(f"{n} {low:g} to {high:g}" for n, low, high in r) for r in ranges)
        raise VrcodecError(f"the model to begin with has other dials: {was}, not {asked}")
    for field in dataclasses.fields(ModelConfig):
        name, before, after = field.name, getattr(old, field.name), getattr(new, field.name)
        grows = name in LARGER and np.all(np.greater_equal(after, before))
        if name != "dials" and before != after and not grows and name not in FREE:
            raise VrcodecError(
                f"{name} of the model to begin with is {before}, it cannot become {after}: "
                "models grow by more blocks, dials or local_steps"
            )


def _widened(
    model: CompressionModel, known: dict[str, Tensor], old: int, new: int
) -> dict[str, Tensor]:
    """What depends on the number of dials, with zeros for those that are new."""
    if old == new:
        return {}
    wide = {}
    for place, module in model.named_modules():
        if isinstance(module, AnchoredTable):
            name = f"{place}.values"
            rest = known[name].new_zeros(new - old, *known[name].shape[1:])
            wide[name] = torch.cat([known[name], rest])
        elif isinstance(module, ConditioningNet) and module.width:
            name = f"{place}.hidden.weight"
            # Columns: the position of every dial, then the harmonics of every dial.
            linear, waves = known[name].split([old, old * HARMONICS], dim=1)
            columns = (linear, new - old), (waves, (new - old) * HARMONICS)
            parts = [torch.cat([w, w.new_zeros(len(w), more)], dim=1) for w, more in columns]
            wide[name] = torch.cat(parts, dim=1)
    return wide
