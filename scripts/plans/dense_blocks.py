"""For scripts/ablate.py: residual bottlenecks with dense 3x3 convolutions (as in ELIC, CVPR 2022).

Two of them take the place of a block: 6.5 C^2 multiplications a position instead of 6 C^2 + 9 C.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from vrcodec.conditional.film import ConditionedConv
from vrcodec.model.config import ModelConfig
from vrcodec.model.constants import SLOPE
from vrcodec.model.network import CompressionModel


class Bottleneck(nn.Module):
    """x + 1x1(act(3x3(act(FiLM(1x1 x))))), half as wide inside."""

    def __init__(self, width: int, film_width: int) -> None:
        super().__init__()
        self.narrow = ConditionedConv(width, width // 2, film_width)
        self.middle = nn.Conv2d(width // 2, width // 2, 3, padding=1)
        self.widen = nn.Conv2d(width // 2, width, 1)
        self.widen.weight.data.mul_(0.1)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        y = F.leaky_relu(self.narrow(x, embedding), SLOPE)
        return x + self.widen(F.leaky_relu(self.middle(y), SLOPE))


class TwoBottlenecks(nn.Module):
    def __init__(self, width: int, film_width: int) -> None:
        super().__init__()
        self.parts = nn.ModuleList(Bottleneck(width, film_width) for _ in range(2))

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        for part in self.parts:
            x = part(x, embedding)
        return x


def model(config: ModelConfig) -> CompressionModel:
    return CompressionModel(config, block=TwoBottlenecks)
