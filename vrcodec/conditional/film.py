"""Conditioning on the loss coefficients (YOTO, Dosovitskiy & Djolonga, ICLR 2020).

The network is one for the whole distribution of losses. What it is told is the
*conditioning vector*: one number in [0, 1] per loss coefficient, the position of its
logarithm in the range the model was trained on. It enters in two ways:

* FiLM (Perez et al. 2018): a small MLP turns the vector into an embedding, and every
  conditioned layer maps the embedding to a scale and a shift per channel, near identity.
* `AnchoredTable`: constants that the bitstream depends on (quantisation steps, biases of
  the scale path, parameters of the prior of z) are piecewise linear between a few anchors,
  because linear interpolation can be done exactly in integers (see `fixed_point.py`).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vrcodec.model.config import ANCHORS

HARMONICS = 4


class ConditioningNet(nn.Module):
    """Conditioning vectors (B, K) in [0, 1] to embeddings (B, film_width); empty without FiLM."""

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
        phase = (
            torch.pi
            * conditioning[..., None]
            * torch.arange(1, HARMONICS + 1, device=conditioning.device, dtype=conditioning.dtype)
        )
        features = torch.cat([2 * conditioning - 1, torch.cos(phase).flatten(1)], dim=1)
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
        """x (B, inputs, h, w), embedding (B or 1, film_width) -> (B, outputs, h, w)."""
        if self.film is None:
            return F.conv2d(x, self.weight, self.bias)
        scale, shift = self.film(embedding).chunk(2, dim=1)
        if len(embedding) == 1:
            gain = 1 + scale[0]
            return F.conv2d(x, self.weight * gain[:, None, None, None], self.bias * gain + shift[0])
        y = F.conv2d(x, self.weight, self.bias)
        return torch.addcmul(shift[..., None, None], y, 1 + scale[..., None, None])


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
        """(B, K) -> (B, channels)."""
        return interpolate(self.anchors(), conditioning)


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
