"""A small convolutional VAE of pictures of 32 x 32, conditioned on beta in every layer."""

from __future__ import annotations

import dataclasses

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vrcodec.conditional.film import ConditioningNet
from vrcodec.conditional.layers import Film

SIDE = 32
"""Of the pictures."""
_SMALLEST = SIDE // 8


@dataclasses.dataclass(frozen=True)
class Shape:
    """Widths of the network.

    Attributes:
        width: channels at half the resolution; twice and four times as many below.
        dense: width of the layer between maps and latents.
        latents: dimensions of the code.
        film_width: width of the embedding behind FiLM.
    """

    width: int = 16
    dense: int = 128
    latents: int = 32
    film_width: int = 32


@dataclasses.dataclass(frozen=True)
class Coded:
    """What becomes of a batch.

    Attributes:
        x_hat: (B, 3, SIDE, SIDE), the means of the pictures given a drawn code.
        mean, log_variance: (B, latents), of the normal distribution that the code is drawn from.
    """

    x_hat: Tensor
    mean: Tensor
    log_variance: Tensor

    @property
    def kl(self) -> Tensor:
        """Divergence of that distribution from the standard normal one, (B,), in nats."""
        excess = self.mean.square() + self.log_variance.exp() - 1 - self.log_variance
        return excess.sum(1) / 2


class _Layer(nn.Module):
    """A layer, FiLM and SiLU."""

    def __init__(self, layer: nn.Module, channels: int, film_width: int) -> None:
        super().__init__()
        self.layer = layer
        self.film = Film(channels, film_width)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        return F.silu(self.film(self.layer(x), embedding))


class BetaVae(nn.Module):
    """One VAE for all beta."""

    def __init__(self, shape: Shape | None = None) -> None:
        super().__init__()
        self.shape = shape or Shape()
        s, film = self.shape, self.shape.film_width
        self.widths = widths = (s.width, 2 * s.width, 4 * s.width)
        flat = widths[2] * _SMALLEST**2
        self.conditioning = ConditioningNet(1, film)
        self.down = nn.ModuleList(
            _Layer(nn.Conv2d(i, o, 4, stride=2, padding=1), o, film)
            for i, o in zip((3, *widths), widths, strict=False)
        )
        self.inner = _Layer(nn.Linear(flat, s.dense), s.dense, film)
        self.posterior = nn.Linear(s.dense, 2 * s.latents)
        self.code = _Layer(nn.Linear(s.latents, s.dense), s.dense, film)
        self.outer = _Layer(nn.Linear(s.dense, flat), flat, film)
        self.up = nn.ModuleList(
            _Layer(nn.ConvTranspose2d(i, o, 4, stride=2, padding=1), o, film)
            for i, o in zip(widths[::-1], (*widths[-2::-1], s.width), strict=True)
        )
        self.last = nn.Conv2d(s.width, 3, 3, padding=1)

    def forward(self, x: Tensor, positions: Tensor) -> Coded:
        """Code pictures, draw codes and decode them.

        Args:
            x: (B, 3, SIDE, SIDE) in [0, 1].
            positions: (B or 1, 1) in [0, 1], on the dial of beta.
        """
        embedding = self.conditioning(positions)
        y = 2 * x - 1
        for layer in self.down:
            y = layer(y, embedding)
        mean, log_variance = self.posterior(self.inner(y.flatten(1), embedding)).chunk(2, dim=1)
        log_variance = log_variance.clamp(-20, 10)
        drawn = mean + torch.randn_like(mean) * (log_variance / 2).exp()
        return Coded(self.decode(drawn, positions), mean, log_variance)

    def decode(self, codes: Tensor, positions: Tensor) -> Tensor:
        """Pictures (B, 3, SIDE, SIDE) of codes (B, latents)."""
        embedding = self.conditioning(positions)
        y = self.outer(self.code(codes, embedding), embedding)
        y = y.view(-1, self.widths[2], _SMALLEST, _SMALLEST)
        for layer in self.up:
            y = layer(y, embedding)
        return torch.sigmoid(self.last(y))
