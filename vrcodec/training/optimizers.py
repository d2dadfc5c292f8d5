"""Optimisers: AdamW, and Muon for the matrices with AdamW for everything else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from vrcodec.training.distributed import World

NAMES = ("adamw", "muon")
BETAS = (0.9, 0.98)
SMALLEST_SIDE = 8
"""Muon updates matrices with at least as many rows and columns."""
MOMENTUM = 0.95
POLYNOMIALS = (
    (7.2033, -20.9994, 15.5049),
    (3.4320, -3.2238, 0.8000),
    (3.0979, -3.1836, 1.0181),
)
"""a, b, c of x -> a x + b x^3 + c x^5, one after the other: they bring every singular value of
0.01 to 1 to between 0.7 and 1.3. Fitted for that range (least largest error), as in Polar Express
(Amsel et al., 2025); five steps of Muon's one polynomial leave 0.68 to 1.13 of about the same."""


class Muon(torch.optim.Optimizer):
    """Momentum whose matrices are replaced by nearly orthogonal ones (Jordan et al., 2024).

    So a step is equally long in every direction. Updates are scaled to the size that AdamW's have
    (Liu et al., 2025). Matrices of one shape are orthogonalised together, and each by one process
    of `world` alone.

    Args:
        matrices: parameters of two dimensions.
        lr: learning rate, as for AdamW.
        dtype: what the orthogonalisation computes in: the faster type of the device.
    """

    def __init__(
        self, matrices: list[nn.Parameter], lr: float, dtype: torch.dtype = torch.float32
    ) -> None:
        super().__init__(matrices, {"lr": lr})
        self.dtype = dtype
        self.world = World()

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        """One update of every matrix that has a gradient."""
        for group in self.param_groups:
            matrices = [matrix for matrix in group["params"] if matrix.grad is not None]
            if not matrices:
                continue
            gradients = [matrix.grad for matrix in matrices]
            momenta = [self._momentum(matrix) for matrix in matrices]
            torch._foreach_lerp_(momenta, gradients, 1 - MOMENTUM)
            ahead = torch._foreach_lerp(gradients, momenta, MOMENTUM)  # Nesterov's
            for matrix, update in zip(matrices, self._orthogonal(list(ahead)), strict=True):
                matrix.add_(update, alpha=-0.2 * group["lr"] * max(matrix.shape) ** 0.5)

    def _orthogonal(self, matrices: list[Tensor]) -> list[Tensor]:
        """All of them made nearly orthogonal, every process doing its share."""
        world = self.world
        owners = shares([matrix.shape for matrix in matrices], world.size)
        mine = [k for k, owner in enumerate(owners) if owner == world.rank]
        made = orthogonal_each([matrices[k] for k in mine], self.dtype)
        if world.size == 1:
            return made
        lengths = [0] * world.size
        for matrix, owner in zip(matrices, owners, strict=True):
            lengths[owner] += matrix.numel()
        flat = torch.zeros(max(lengths), dtype=self.dtype, device=matrices[0].device)
        if made:
            flat[: lengths[world.rank]] = torch.cat([matrix.flatten() for matrix in made])
        rest, updates = world.gathered(flat), []
        for matrix, owner in zip(matrices, owners, strict=True):
            here, rest[owner] = rest[owner].split(
                [matrix.numel(), len(rest[owner]) - matrix.numel()]
            )
            updates.append(here.view(matrix.shape))
        return updates

    def _momentum(self, matrix: nn.Parameter) -> Tensor:
        state = self.state[matrix]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(matrix)
        momentum: Tensor = state["momentum_buffer"]
        return momentum


def shares(shapes: Sequence[tuple[int, ...]], size: int) -> list[int]:
    """Which of `size` processes makes each matrix of these shapes orthogonal: all work as long."""
    owners, busy = [0] * len(shapes), [0] * size
    work = [min(shape) ** 2 * max(shape) for shape in shapes]
    for k in sorted(range(len(shapes)), key=lambda k: -work[k]):
        owners[k] = min(range(size), key=busy.__getitem__)
        busy[owners[k]] += work[k]
    return owners


def orthogonal_each(matrices: list[Tensor], dtype: torch.dtype) -> list[Tensor]:
    """Matrices with their singular values brought near 1; those of one shape together."""
    places: dict[torch.Size, list[int]] = {}
    for k, matrix in enumerate(matrices):
        places.setdefault(matrix.shape, []).append(k)
    made = list(matrices)
    for together in places.values():
        stack = orthogonal(torch.stack([matrices[k] for k in together]), dtype)
        for k, matrix in zip(together, stack.unbind(), strict=True):
            made[k] = matrix
    return made


def orthogonal(matrices: Tensor, dtype: torch.dtype) -> Tensor:
    """Matrices (n, rows, columns) with their singular values brought near 1."""
    wide = matrices.shape[1] <= matrices.shape[2]
    x = (matrices if wide else matrices.mT).to(dtype)
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp_min(1e-7)
    for a, b, c in POLYNOMIALS:
        gram = torch.bmm(x, x.mT)
        gram = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        x = torch.baddbmm(x, gram, x, beta=a)
    return x if wide else x.mT


class MuonAdamW:
    """Muon on weight matrices, AdamW on the rest, as one optimiser.

    A convolution counts as the matrix (outputs, inputs x kernel). Depthwise kernels, biases, tables
    and FiLM stay with AdamW; both share one learning rate.
    """

    def __init__(self, model: nn.Module, lr: float, dtype: torch.dtype = torch.float32) -> None:
        self.weights, rest = split_parameters(model)
        self.matrices = [nn.Parameter(_as_matrix(w.data, w)) for w in self.weights]
        self.muon = Muon(self.matrices, lr, dtype)
        self.adamw = torch.optim.AdamW(rest, lr=lr, betas=BETAS, weight_decay=0.0, fused=True)

    def spread(self, world: World) -> None:
        """Let the processes of a world, whose gradients are the same, divide Muon's work."""
        self.muon.world = world

    @property
    def state(self) -> dict[Any, Any]:
        """State of every parameter that has been updated."""
        return {**self.muon.state, **self.adamw.state}

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


Optimizer = torch.optim.Optimizer | MuonAdamW


def split_parameters(model: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """The weights of convolutions that Muon suits, and all other parameters."""
    matrices: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for parameter in model.parameters():
        dense = parameter.ndim == 4 and parameter.shape[1] > 1
        suits = dense and min(len(parameter), parameter[0].numel()) >= SMALLEST_SIDE
        (matrices if suits else rest).append(parameter)
    return matrices, rest


def make_optimizer(
    name: str, model: nn.Module, lr: float, dtype: torch.dtype = torch.float32
) -> Optimizer:
    """The optimiser called `name`, one of NAMES, over all parameters of a model.

    AdamW also where a model has no convolutions for Muon.
    """
    if name == "muon" and split_parameters(model)[0]:
        return MuonAdamW(model, lr, dtype)
    return torch.optim.AdamW(model.parameters(), lr=lr, betas=BETAS, weight_decay=0.0, fused=True)


def _as_matrix(values: Tensor, weight: Tensor) -> Tensor:
    """(outputs, rest), of a convolution's weight itself a view, whichever way that is laid out."""
    return (values if weight.is_contiguous() else values.permute(0, 2, 3, 1)).flatten(1)
