"""Analysis and synthesis transforms.

::

    x --unshuffle 16--> DCT basis --------------------------> + --> y  (768 channels, 1/16)
                            +--> learned linear correction -> +
    x --unshuffle 8 --> DCT basis --> blocks 1/8, 1/16 -----> +     (first `core` channels)

    y ------------------------------> + --> DCT basis --shuffle 16--> + --> x_hat
    +--> learned linear correction -> +                               |
    +--> blocks 1/16, 1/8 -------------> DCT basis --shuffle 8------> +

Everything learned starts at zero: before the first training step this is a plain transform
codec. What the blocks add is measured in quantisation steps, so that at any quality a small
change of their weights is a small change of the picture; and where the coefficients are far
from those of any photograph, `confidence` leaves the DCT alone.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from vrcodec.bitstream.grid import BLOCK, LATENT_CHANNELS
from vrcodec.conditional.film import Condition, ConditionedConv, stretched
from vrcodec.model.config import ModelConfig
from vrcodec.model.constants import COEFFICIENT_LIMIT, LINEAR_GAIN, SLOPE, TOLERATED_EXCESS
from vrcodec.model.linear_basis import PIXEL_GAIN, block_basis


def limit(coefficients: Tensor) -> Tensor:
    """Keep what a non-linear branch sees within what photographs contain.

    A fine checkerboard drives single coefficients to a hundred deviations, where no network
    was ever trained; the linear path alone carries what lies beyond the limit.
    """
    return coefficients.clamp(-COEFFICIENT_LIMIT, COEFFICIENT_LIMIT)


def confidence(coefficients: Tensor) -> Tensor:
    """How far the non-linear branches are to be trusted at each position, (B, 1, h, w).

    1 for photographs; towards 0 where coefficients (B, C, h, w) lie far beyond the limit, so
    that noise and test patterns are coded by the linear path alone, which cannot fail.
    """
    excess = (coefficients.abs() - COEFFICIENT_LIMIT).clamp_min(0).mean(dim=1, keepdim=True)
    return 1 / (1 + (excess / TOLERATED_EXCESS).square())


class ResidualBlock(nn.Module):
    """x + 1x1(depthwise 3x3(act(FiLM(1x1 x)))), then x + 1x1(act(FiLM(1x1 x))).

    The depthwise-separable block and feed-forward pair of DCVC-RT (Jia et al., CVPR 2025),
    with FiLM where it folds into a 1x1 convolution.
    """

    def __init__(self, width: int, film_width: int) -> None:
        super().__init__()
        self.mix_in = ConditionedConv(width, width, film_width)
        self.depthwise = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.mix_out = nn.Conv2d(width, width, 1)
        self.expand = ConditionedConv(width, 2 * width, film_width)
        self.contract = nn.Conv2d(2 * width, width, 1)
        with torch.no_grad():
            self.mix_out.weight.mul_(0.1)
            self.contract.weight.mul_(0.1)

    @torch.no_grad()
    def silence(self) -> None:
        """Make the block add nothing, until it is trained."""
        for conv in (self.mix_out, self.contract):
            conv.weight.zero_()
            if conv.bias is not None:
                conv.bias.zero_()

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        y = F.leaky_relu(self.mix_in(x, embedding), SLOPE)
        x = x + self.mix_out(self.depthwise(y))
        return x + self.contract(F.leaky_relu(self.expand(x, embedding), SLOPE))


MakeBlock = Callable[[int, int], nn.Module]
"""What makes a residual block of a width and a width of FiLM's embedding."""


def residual_blocks(
    width: int, count: int, film_width: int, block: MakeBlock = ResidualBlock
) -> nn.ModuleList:
    """`count` blocks in a row; what they add is small at first."""
    return nn.ModuleList(block(width, film_width) for _ in range(count))


def _zero_conv(inputs: int, outputs: int) -> nn.Conv2d:
    conv = nn.Conv2d(inputs, outputs, 1)
    for parameter in conv.parameters():
        nn.init.zeros_(parameter)
    return conv


class LinearPath(nn.Module):
    """The learned part of the linear transform, one direction: 768 x 768 weights.

    Maps coefficients in standard deviations to corrections in units of LINEAR_GAIN, about
    the finest quantisation step.
    """

    def __init__(self, learned: bool) -> None:
        super().__init__()
        self.correction = (
            nn.Parameter(torch.zeros(LATENT_CHANNELS, LATENT_CHANNELS)) if learned else None
        )

    def forward(self, y: Tensor) -> Tensor | float:
        """(B, 768, h, w) in deviations -> corrections of coefficients, same shape."""
        if self.correction is None:
            return 0.0
        return F.conv2d(limit(y), self.correction[..., None, None]) * LINEAR_GAIN


class AnalysisTransform(nn.Module):
    """Pictures to latents: x (B, 3, 16h, 16w) in [0, 1] -> y (B, 768, h, w).

    y is in units of each coefficient's standard deviation, before quantisation.
    """

    def __init__(self, config: ModelConfig, block: MakeBlock = ResidualBlock) -> None:
        super().__init__()
        self.core = config.core
        self.linear = LinearPath(config.learned_linear)
        self.stem = nn.Conv2d(192, config.width8, 1)
        nn.init.dirac_(self.stem.weight)
        at_8, at_16 = config.analysis_blocks
        self.blocks8 = residual_blocks(config.width8, at_8, config.film_width, block)
        self.down = nn.Conv2d(config.width8, config.width16, 2, stride=2)
        self.blocks16 = residual_blocks(config.width16, at_16, config.film_width, block)
        self.head = _zero_conv(config.width16, config.core)

    def forward(self, x: Tensor, condition: Condition, basis: TransformBasis) -> Tensor:
        x = (x - 0.5) * PIXEL_GAIN
        deviation = basis.deviation16[:, None, None]
        with torch.autocast(x.device.type, enabled=False):
            y = F.conv2d(F.pixel_unshuffle(x, BLOCK), basis.basis16[..., None, None]) / deviation
            trust = confidence(y)
            y = y + self.linear(y) / deviation * trust
            to_coefficients = basis.basis8 / basis.deviation8[:, None]
            h = F.conv2d(F.pixel_unshuffle(x, 8), to_coefficients[..., None, None])
        h = self.stem(limit(h))
        for block in self.blocks8:
            h = block(h, condition.embedding)
        h = self.down(h)
        for block in self.blocks16:
            h = block(h, condition.embedding)
        step = stretched(condition.step[:, : self.core], h)
        branch = self.head(h).float() * step * trust
        return torch.cat([y[:, : self.core] + branch, y[:, self.core :]], dim=1)


class SynthesisTransform(nn.Module):
    """Latents to pictures: y_hat (B, 768, h, w) -> x_hat (B, 3, 16h, 16w), not clamped."""

    def __init__(self, config: ModelConfig, block: MakeBlock = ResidualBlock) -> None:
        super().__init__()
        self.linear = LinearPath(config.learned_linear)
        self.stem = nn.Conv2d(LATENT_CHANNELS, config.width16, 1)
        at_16, at_8 = config.synthesis_blocks
        self.blocks16 = residual_blocks(config.width16, at_16, config.film_width, block)
        self.up = nn.Conv2d(config.width16, 4 * config.width8, 1)
        self.blocks8 = residual_blocks(config.width8, at_8, config.film_width, block)
        self.head = _zero_conv(config.width8, 192)

    def forward(self, y: Tensor, condition: Condition, basis: TransformBasis) -> Tensor:
        trust = confidence(y)
        with torch.autocast(y.device.type, enabled=False):
            coefficients = y * basis.deviation16[:, None, None] + self.linear(y) * trust
            linear = F.conv2d(coefficients, basis.basis16.T[..., None, None])
        h = self.stem(limit(y))
        for block in self.blocks16:
            h = block(h, condition.embedding)
        h = F.pixel_shuffle(self.up(h), 2)
        for block in self.blocks8:
            h = block(h, condition.embedding)
        branch = self.head(h) * stretched(basis.branch_scale(condition.step), h)
        branch = branch * trust.repeat_interleave(2, 2).repeat_interleave(2, 3)
        branch = F.conv2d(branch, basis.basis8.T[..., None, None])
        linear = F.pixel_shuffle(linear, BLOCK)
        return (linear + F.pixel_shuffle(branch.float(), 8)) / PIXEL_GAIN + 0.5


MakeBasis = Callable[[int], NDArray[np.float32]]
"""What makes an orthonormal basis of blocks of a side, as `block_basis` does."""


class TransformBasis(nn.Module):
    """The fixed DCT bases and the standard deviation of every coefficient (measured once)."""

    basis8: Tensor
    basis16: Tensor
    deviation8: Tensor
    deviation16: Tensor

    def __init__(self, basis: MakeBasis = block_basis) -> None:
        super().__init__()
        self.register_buffer("basis8", torch.from_numpy(basis(8)), persistent=False)
        self.register_buffer("basis16", torch.from_numpy(basis(BLOCK)), persistent=False)
        self.register_buffer("deviation8", torch.ones(192))
        self.register_buffer("deviation16", torch.ones(LATENT_CHANNELS))

    @property
    def is_colour(self) -> Tensor:
        """Whether each of the 768 coefficients is one of colour, 0 for every grey picture."""
        response_to_grey = self.basis16.unflatten(1, (3, -1)).sum(dim=1).abs().amax(dim=1)
        return response_to_grey < 1e-3

    def branch_scale(self, step: Tensor) -> Tensor:
        """Unit (B, 192, ...) of the synthesis branch's 8x8 coefficients, for steps (B, 768, ...).

        The typical quantisation step, or the coefficient's deviation where that is smaller.
        """
        logs = step.log() + self.deviation16.log()[:, None, None]
        typical, deviation = logs.mean(dim=1, keepdim=True).exp(), self.deviation8[:, None, None]
        return deviation * typical / (deviation + typical)

    @torch.no_grad()
    def measure(self, pictures: Tensor) -> None:
        """Set the deviations from pictures (B, 3, h, w) in [0, 1], sides multiples of 16."""
        x = (pictures - 0.5) * PIXEL_GAIN
        for size, basis, deviation in (
            (8, self.basis8, self.deviation8),
            (BLOCK, self.basis16, self.deviation16),
        ):
            blocks = F.conv2d(F.pixel_unshuffle(x, size), basis[..., None, None])
            deviation.copy_(blocks.square().mean(dim=(0, 2, 3)).sqrt().clamp_min(1e-3))
