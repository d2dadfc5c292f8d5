"""Conditioning on the loss coefficients (YOTO, Dosovitskiy & Djolonga, ICLR 2020).

The network is one for the whole distribution of losses. What it is told is the
*conditioning vector*: one number in [0, 1] per loss coefficient, the position of its
logarithm in the range the model was trained on. It enters in two ways:

* FiLM (Perez et al. 2018): a small MLP turns the vector into an embedding, and every
  conditioned layer maps the embedding to a scale and a shift per channel, near identity.
* `AnchoredTable`: constants that the bitstream depends on (quantisation steps, biases of
  the scale path, parameters of the prior of z) are piecewise linear between a few anchors,
  because linear interpolation can be done exactly in integers (see `fixed_point.py`).

Everything here takes vectors (B, K), one for a whole picture, or maps (B, K, h, w), one for every
position; a map of 1 x 1 is a vector. `Condition` holds what follows from one of either kind.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vrcodec.conditional.dials import ANCHORS
from vrcodec.conditional.folding import HARMONICS


@dataclasses.dataclass(frozen=True)
class Condition:
    """What networks are told about where on the dials they are, computed once.

    Attributes:
        vector: (B or 1, K, 1 or h, 1 or w) in [0, 1], the positions on the dials.
        embedding: (B or 1, film_width, ...), for FiLM.
        step: (B or 1, channels, ...), quantisation steps of the latents.
    """

    vector: Tensor
    embedding: Tensor
    step: Tensor


def as_maps(vectors: Tensor) -> Tensor:
    """Vectors (B, K) as maps (B, K, 1, 1); maps as they are."""
    return vectors[..., None, None] if vectors.ndim == 2 else vectors


def per_position(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Apply a function of vectors, (N, K) -> (N, C), to vectors or to every position of maps."""
    if x.ndim == 2:
        return function(x)
    count, width, rows, columns = x.shape
    result = function(x.movedim(1, -1).reshape(-1, width))
    return result.reshape(count, rows, columns, -1).movedim(-1, 1)


def stretched(maps: Tensor, over: Tensor) -> Tensor:
    """Maps (B, C, h, w) with their nearest values on the grid of another tensor.

    What is the same everywhere, 1 x 1, stays so: it broadcasts.
    """
    size = over.shape[-2:]
    if maps.shape[-2:] in ((1, 1), size):
        return maps
    return F.interpolate(maps, size=size, mode="nearest")


class ConditioningNet(nn.Module):
    """Positions (B, K, ...) in [0, 1] to embeddings (B, film_width, ...); empty without FiLM."""

    def __init__(self, coefficients: int, width: int) -> None:
        super().__init__()
        self.width = width
        if not width:
            return
        self.hidden = nn.Linear(coefficients * (1 + HARMONICS), width)
        self.out = nn.Linear(width, width)

    def forward(self, conditioning: Tensor) -> Tensor:
        if not self.width:
            return conditioning[:, :0]
        return per_position(self._embed, conditioning)

    def _embed(self, vectors: Tensor) -> Tensor:
        harmonics = torch.arange(1, HARMONICS + 1, device=vectors.device, dtype=vectors.dtype)
        phase = torch.pi * vectors[..., None] * harmonics
        features = torch.cat([2 * vectors - 1, torch.cos(phase).flatten(1)], dim=1)
        return F.silu(self.out(F.silu(self.hidden(features))))


class ConditionedConv(nn.Module):
    """A 1x1 convolution followed by FiLM: (1 + s) x conv(x) + t, with s = t = 0 at first.

    With a single conditioning vector for the whole batch the modulation is folded into
    weight and bias, so that it costs nothing per pixel.
    """

    def __init__(self, inputs: int, outputs: int, film_width: int) -> None:
        super().__init__()
        conv = nn.Conv2d(inputs, outputs, 1)
        assert conv.bias is not None
        self.weight, self.bias = conv.weight, conv.bias
        self.film = nn.Linear(film_width, 2 * outputs) if film_width else None
        if self.film is not None:
            nn.init.zeros_(self.film.weight)
            nn.init.zeros_(self.film.bias)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """x (B, inputs, h, w) -> (B, outputs, h, w).

        Args:
            embedding: (B or 1, film_width, ...); a map of another size is stretched over x.
        """
        if self.film is None:
            return F.conv2d(x, self.weight, self.bias)
        film = per_position(self.film, as_maps(embedding))
        if film.shape[0] == 1 and film.shape[-2:] == (1, 1):
            scale, shift = film[0, :, 0, 0].chunk(2)
            gain = 1 + scale
            return F.conv2d(x, self.weight * gain[:, None, None, None], self.bias * gain + shift)
        y = F.conv2d(x, self.weight, self.bias)
        scale, shift = stretched(film, y).chunk(2, dim=1)
        return torch.addcmul(shift, y, 1 + scale)


class AnchoredTable(nn.Module):
    """Per-channel constants, piecewise linear in each conditioning coefficient.

    The values of the coefficients add up: value(c) = sum over k of interp(table_k, c_k).
    """

    def __init__(self, coefficients: int, channels: int) -> None:
        super().__init__()
        self.values = nn.Parameter(torch.zeros(coefficients, ANCHORS, channels))

    def anchors(self) -> Tensor:
        """(K, ANCHORS, channels)."""
        return self.values

    def forward(self, conditioning: Tensor) -> Tensor:
        """(B, K, ...) -> (B, channels, ...)."""
        anchors = self.anchors()
        return per_position(lambda vectors: interpolate(anchors, vectors), conditioning)


class StepTable(AnchoredTable):
    """log of the quantisation step of every latent channel, falling as lambda rises.

    Along the first coefficient the anchors are a free start and strictly positive
    decrements, so the step is monotone whatever training does.
    """

    def anchors(self) -> Tensor:
        first = self.values[0]
        falling = torch.cat([first[:1], -F.softplus(first[1:])]).cumsum(0)
        return torch.cat([falling[None], self.values[1:]])

    @torch.no_grad()
    def initialise(self, log_step_low: Tensor, log_step_high: Tensor) -> None:
        """Set a straight line between the log steps (channels,) at quality 0 and 1."""
        decrement = (log_step_low - log_step_high) / (ANCHORS - 1)
        self.values.zero_()
        self.values[0, 0] = log_step_low
        self.values[0, 1:] = torch.log(torch.expm1(decrement))


def interpolate(anchors: Tensor, conditioning: Tensor) -> Tensor:
    """Sum over k of the piecewise linear interpolation of anchors[k] (ANCHORS, channels).

    Args:
        anchors: (K, ANCHORS, channels).
        conditioning: (B, K) in [0, 1].

    Returns:
        (B, channels).
    """
    knots = torch.arange(ANCHORS, device=anchors.device, dtype=anchors.dtype)
    position = conditioning.to(anchors.dtype) * (ANCHORS - 1)
    hat = (1 - (position[..., None] - knots).abs()).clamp_min(0)  # (B, K, ANCHORS)
    return torch.einsum("bka,kac->bc", hat, anchors)
