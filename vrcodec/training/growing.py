"""Larger models that begin as a smaller one: further blocks, and dials that it did not have."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from vrcodec.conditional.film import AnchoredTable, ConditioningNet
from vrcodec.conditional.folding import HARMONICS
from vrcodec.errors import VrcodecError
from vrcodec.model.config import ModelConfig
from vrcodec.model.network import CompressionModel


def grown(
    trained: CompressionModel,
    config: ModelConfig | None,
    make: Callable[[ModelConfig], CompressionModel] = CompressionModel,
) -> CompressionModel:
    """A model of another shape that computes what `trained` does, ready to be trained on.

    It may have more residual blocks, which begin by adding nothing, and further dials, which turn
    nothing at first: their columns of the conditioning network and their tables are zero.

    Raises:
        VrcodecError: the other shape differs in more than that, or is smaller.
    """
    if config is None or config == trained.config:
        return trained.requires_grad_(True)
    old, new = trained.config.lambda_ranges, config.lambda_ranges
    if new[: len(old)] != old:
        raise VrcodecError("the model to begin with has other dials, or ranges of them")
    torch.manual_seed(0)
    model = make(config)
    for module in model.modules():
        silence = getattr(module, "silence", None)
        if silence:
            silence()
    known = trained.state_dict()
    for name, value in _widened(model, known, len(old), len(new)).items():
        known[name] = value
    own = model.state_dict()
    if any(name not in own or own[name].shape != value.shape for name, value in known.items()):
        raise VrcodecError("a model can be grown to one with more blocks or dials only")
    model.load_state_dict(known, strict=False)
    return model


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
