"""The feed-forward network of a style: a picture to a picture, conditioned on five coefficients.

After Johnson et al. (ECCV 2016), with two changes for speed: pictures are folded to a quarter of
their resolution before the first layer, and what the network makes is added to the picture. How
much of the picture is kept for that, FiLM says: behind instance norm nothing knows its colours any
more, so that what is too much of them could not be taken away.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vrcodec.conditional.film import ConditioningNet
from vrcodec.conditional.layers import ConditionedInstanceNorm, Film, Moments
from vrcodec.stylize.config import StyleConfig

FOLD = 4
"""Pixels of a side that the network takes as one position."""


class _Conv(nn.Module):
    """A convolution 3x3 that goes on beyond the border as at it, instance norm and FiLM."""

    def __init__(self, inputs: int, outputs: int, film_width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, bias=False)
        self.norm = ConditionedInstanceNorm(outputs, film_width)

    def forward(self, x: Tensor, embedding: Tensor, moments: Moments) -> Tensor:
        return self.norm(self.conv(_framed(x)), embedding, moments)


class _Block(nn.Module):
    def __init__(self, width: int, film_width: int) -> None:
        super().__init__()
        self.first = _Conv(width, width, film_width)
        self.second = _Conv(width, width, film_width)

    def forward(self, x: Tensor, embedding: Tensor, moments: Moments) -> Tensor:
        y = F.relu(self.first(x, embedding, moments), inplace=True)
        return x + self.second(y, embedding, moments)


class StyleNet(nn.Module):
    """One style under all proportions of its loss terms."""

    def __init__(self, config: StyleConfig) -> None:
        super().__init__()
        self.config = config
        width, half, film = config.width, config.width // 2, config.film_width
        self.conditioning = ConditioningNet(len(config.dials), film)
        self.kept = Film(3, film)
        self.stem = _Conv(3 * FOLD**2, width, film)
        self.blocks = nn.ModuleList(_Block(width, film) for _ in range(config.blocks))
        self.widen = nn.Conv2d(width, 4 * half, 1)
        self.detail = _Conv(half, half, film)
        self.last = nn.Conv2d(half, 12, 3)
        with torch.no_grad():
            self.last.weight.mul_(0.1)
            for conv in (self.widen, self.last):  # no checkerboard to begin with
                for parameter in conv.parameters():
                    parameter.copy_(parameter[::4].repeat_interleave(4, dim=0))

    @property
    def reach(self) -> int:
        """Pixels that a pixel of the result depends on to every side, in whole folds."""
        return FOLD * (1 + 2 * self.config.blocks) + 2 * FOLD

    def forward(self, x: Tensor, positions: Tensor, moments: Moments | None = None) -> Tensor:
        """Pictures in [0, 1] to pictures, which may go a little beyond.

        Args:
            x: (B, 3, h, w), h and w multiples of FOLD.
            positions: (B or 1, 5) in [0, 1], on the dials.
            moments: of the picture that x is a part of; None: of each sample.
        """
        moments = moments or Moments()
        embedding = self.conditioning(positions)
        y = F.pixel_unshuffle(x, FOLD).contiguous(memory_format=torch.channels_last)
        y = F.relu(self.stem(y, embedding, moments), inplace=True)
        for block in self.blocks:
            y = block(y, embedding, moments)
        y = F.relu(F.pixel_shuffle(self.widen(y), 2), inplace=True)
        y = F.relu(self.detail(y, embedding, moments), inplace=True)
        return self.kept(x, embedding) + F.pixel_shuffle(self.last(_framed(y)), 2)


def _framed(x: Tensor) -> Tensor:
    """With one position more to every side, as at the border."""
    return F.pad(x, (1, 1, 1, 1), mode="replicate")
