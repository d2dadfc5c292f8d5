"""Optimisers: AdamW, and Muon for the matrices with AdamW for everything else."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

NAMES = ("adamw", "muon")
BETAS = (0.9, 0.98)
SMALLEST_SIDE = 8
"""Muon updates matrices with at least as many rows and columns."""


class MuonAdamW:
    """Muon (Jordan et al., 2024) on weight matrices, AdamW on the rest, as one optimiser.

    Muon replaces the momentum of a matrix by the nearest orthogonal matrix, so that a step is
    equally long in every direction. A convolution counts as the matrix (outputs, inputs x
    kernel); its updates are scaled to the size that AdamW's have (Liu et al., 2025), so that
    both share one learning rate. Depthwise kernels, biases, tables and FiLM stay with AdamW.
    """

    def __init__(self, model: nn.Module, lr: float, momentum: float = 0.95) -> None:
        self.weights, rest = split_parameters(model)
        self.matrices = [nn.Parameter(_as_matrix(w.data, w)) for w in self.weights]
        self.muon = torch.optim.Muon(
            self.matrices,
            lr=lr,
            momentum=momentum,
            weight_decay=0.0,
            adjust_lr_fn="match_rms_adamw",
        )
        self.adamw = torch.optim.AdamW(rest, lr=lr, betas=BETAS, weight_decay=0.0, fused=True)

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The groups of both, for a schedule to set "lr" in."""
        return self.muon.param_groups + self.adamw.param_groups

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients."""
        for weight in self.weights:
            weight.grad = None
        self.adamw.zero_grad(set_to_none)

    def step(self) -> None:
        """One update of every parameter that has a gradient."""
        for weight, matrix in zip(self.weights, self.matrices, strict=True):
            matrix.grad = None if weight.grad is None else _as_matrix(weight.grad, weight)
        self.muon.step()
        self.adamw.step()

    def state_dict(self) -> dict[str, Any]:
        """State of both."""
        return {"muon": self.muon.state_dict(), "adamw": self.adamw.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` gave."""
        self.muon.load_state_dict(state["muon"])
        self.adamw.load_state_dict(state["adamw"])


def split_parameters(model: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """The weights of convolutions that Muon suits, and all other parameters."""
    matrices: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for parameter in model.parameters():
        dense = parameter.ndim == 4 and parameter.shape[1] > 1
        suits = dense and min(len(parameter), parameter[0].numel()) >= SMALLEST_SIDE
        (matrices if suits else rest).append(parameter)
    return matrices, rest


def make_optimizer(name: str, model: nn.Module, lr: float) -> torch.optim.Optimizer | MuonAdamW:
    """The optimiser called `name`, one of NAMES, over all parameters of a model."""
    if name == "muon":
        return MuonAdamW(model, lr)
    return torch.optim.AdamW(model.parameters(), lr=lr, betas=BETAS, weight_decay=0.0, fused=True)


def _as_matrix(values: Tensor, weight: Tensor) -> Tensor:
    """(outputs, rest), of a convolution's weight itself a view, whichever way that is laid out."""
    return (values if weight.is_contiguous() else values.permute(0, 2, 3, 1)).flatten(1)
