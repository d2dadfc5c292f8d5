"""Several processes as one run, started by `torchrun` (PyTorch DistributedDataParallel)."""

from __future__ import annotations

import dataclasses
import os

import torch
import torch.distributed as dist
from torch import Tensor, nn

from vrcodec.errors import VrcodecError
from vrcodec.model.precision import fastest_dtype


@dataclasses.dataclass(frozen=True)
class World:
    """The processes of a run and this one's place among them; one process is a world too."""

    rank: int = 0
    size: int = 1
    device: torch.device = dataclasses.field(default_factory=lambda: torch.device("cpu"))

    @classmethod
    def join(cls, device: torch.device) -> World:
        """The world that `torchrun` announces in the environment, or that of one process.

        Every process of a machine takes a CUDA device of its own if `device` is CUDA.
        """
        size = int(os.environ.get("WORLD_SIZE", "1"))
        if size == 1:
            return cls(device=device)
        if device.type == "cuda":
            device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
            torch.cuda.set_device(device)
        if not dist.is_initialized():
            dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
        return cls(dist.get_rank(), size, device)

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes files and messages."""
        return self.rank == 0

    def leave(self) -> None:
        """Wait for the others and part from them."""
        if self.size > 1:
            dist.barrier()
            dist.destroy_process_group()

    def share(self, batch: int) -> slice:
        """This process's part of a batch. Raises VrcodecError if it cannot be split evenly."""
        if batch % self.size:
            raise VrcodecError(f"a batch of {batch} cannot be split over {self.size} processes")
        part = batch // self.size
        return slice(self.rank * part, (self.rank + 1) * part)

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model with its gradients averaged over the world."""
        if self.size == 1:
            return model
        ids = [self.device.index] if self.device.type == "cuda" else None
        return nn.parallel.DistributedDataParallel(
            model, device_ids=ids, gradient_as_bucket_view=True
        )

    def largest(self, *values: float) -> list[float]:
        """The largest of every process's values: how all of them come to one decision."""
        return torch.stack(self._gathered(values)).amax(0).tolist()

    def dtype(self, precision: str) -> torch.dtype:
        """`fastest_dtype` for all: bfloat16 where any process found that faster."""
        (low,) = self.largest(fastest_dtype(self.device, precision) is not torch.float32)
        return torch.bfloat16 if low else torch.float32

    def mean(self, *values: float) -> list[float]:
        """The means over the processes."""
        return torch.stack(self._gathered(values)).mean(0).tolist()

    def _gathered(self, values: tuple[float, ...]) -> list[Tensor]:
        return self.gathered(torch.tensor(values, dtype=torch.float64, device=self.device))

    def gathered(self, own: Tensor) -> list[Tensor]:
        """Every process's tensor, by rank; they are of one shape and type."""
        if self.size == 1:
            return [own]
        everyone = [torch.empty_like(own) for _ in range(self.size)]
        # As bytes: not every library that carries them knows every type.
        dist.all_gather([x.view(torch.uint8) for x in everyone], own.view(torch.uint8))
        return everyone

    def check_equal(self, parameters: list[Tensor]) -> None:
        """Raises VrcodecError if the processes' parameters have come apart."""
        norm = float(torch.stack([p.detach().double().norm() for p in parameters]).sum())
        if self.largest(norm)[0] != norm:
            raise VrcodecError(f"parameters of process {self.rank} differ from the others'")
