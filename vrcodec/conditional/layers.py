"""FiLM behind layers of any kind, and instance norm for pictures that are computed in parts."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from vrcodec.conditional.film import per_position, stretched

EPSILON = 1e-3
"""Added to variances. With less, gradients of flat pictures explode: every layer divides by it."""

_Pair = tuple[Tensor, Tensor]


class Film(nn.Module):
    """(1 + s) x + t for every channel, s and t from the embedding and zero at first.

    For what dense layers give, (B, C), and for maps, (B, C, h, w), behind whatever made them.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, 2 * channels)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """x (B, C, ...) modulated by embedding (B or 1, width, ...)."""
        scale, shift = self.factors(x, embedding)
        return torch.addcmul(shift, x, 1 + scale)

    def factors(self, x: Tensor, embedding: Tensor) -> _Pair:
        """s and t of a shape that broadcasts over x."""
        film = per_position(self.linear, embedding)
        if x.ndim == 4:
            film = stretched(film if film.ndim == 4 else film[..., None, None], x)
        scale, shift = film.chunk(2, dim=1)
        return scale, shift


class Moments:
    """Means and deviations that the instance norms of a network divide by, one pair a layer.

    A part of a picture has to be normalised by what the whole has. So they are taken in one pass
    over the whole, or over a sample of it, and used `again` in passes over its parts.

    Args:
        pooled: taken over the whole batch, whose samples are parts of one picture, instead of
            for each sample.
    """

    def __init__(self, pooled: bool = False) -> None:
        self.pooled = pooled
        self.taken: list[_Pair] = []
        self._known: Iterator[_Pair] | None = None

    def of(self, x: Tensor) -> _Pair:
        """Mean and deviation (B or 1, C, 1, 1) for the next layer, whose input is x.

        As the mean of squares less the square of the mean, over rows: for channels-last maps on a
        CPU `torch.var_mean` takes ten times as long, about what the convolution before it takes.
        """
        if self._known is not None:
            return next(self._known)
        rows = x.float().permute(0, 2, 3, 1).flatten(0 if self.pooled else 1, 2)
        mean, square = rows.mean(-2), (rows * rows).mean(-2)
        deviation = ((square - mean * mean).clamp_min(0) + EPSILON).sqrt()
        shape = (-1, x.shape[1], 1, 1)
        self.taken.append((mean.view(shape), deviation.view(shape)))
        return self.taken[-1]

    def again(self) -> Moments:
        """The same, for another pass."""
        known = Moments()
        known._known = iter(self.taken)
        return known


class ConditionedInstanceNorm(nn.Module):
    """Instance norm (Ulyanov et al. 2016) followed by FiLM."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.film = Film(channels, width)

    def forward(self, x: Tensor, embedding: Tensor, moments: Moments) -> Tensor:
        """x (B, C, h, w) -> the same shape."""
        mean, deviation = moments.of(x)
        scale, shift = self.film.factors(x, embedding)
        gain = (1 + scale) / deviation
        return torch.addcmul(shift - mean * gain, x, gain)
