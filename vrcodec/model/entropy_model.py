"""Entropy model, float view: what training differentiates through.

::

    y --hyper analysis--> z --round--> z_hat --scale path--> log sigma of every symbol of y
                                         |
                                         +--mean path--> features --> context passes --> means
                                                            |
                                                            +--> local steps

The symbols are ``r = round((y - mean) / step)``; their probabilities depend on sigma alone,
sigma on z_hat and the conditioning alone. So all of y is one entropy-coder call, and the
only arithmetic that has to be exact is the scale path (`fixed_point.py`), as in JPEG AI and
the video models of DCVC. Means are refined from what is decoded already, in parallel passes
(the quadtree order of DCVC-DC, Li et al., CVPR 2023): a float mismatch there moves a pixel by
a millionth and cannot desynchronise the coder. So does one in the local steps, which a model may
have: z_hat says where steps are to be coarser.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vrcodec.bitstream.grid import LATENT_CHANNELS
from vrcodec.conditional.film import (
    AnchoredTable,
    Condition,
    ConditionedConv,
    as_maps,
    stretched,
)
from vrcodec.model.config import LOG_SCALE_STEP, SCALE_LEVELS, SCALE_MIN, ModelConfig
from vrcodec.model.constants import HYPER_GAIN, LOCAL_FROM, LOCAL_LIMIT, SLOPE
from vrcodec.model.integer_path import (
    ACTIVATION_BITS,
    KERNELS,
    SHUFFLE,
    WEIGHT_BITS,
    layer_widths,
)
from vrcodec.model.transforms import MakeBlock, ResidualBlock, limit, residual_blocks

MIN_LIKELIHOOD = 2.0**-60


class HyperAnalysis(nn.Module):
    """y in deviations (B, 768, h, w) -> z (B, hyper, h/4, w/4), before rounding."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width = config.hyper_width
        self.core = config.core
        self.squeeze = ConditionedConv(config.core + LATENT_CHANNELS, width, config.film_width)
        self.down1 = nn.Conv2d(width, width, 3, stride=2, padding=1)
        self.mix = ConditionedConv(width, width, config.film_width)
        self.down2 = nn.Conv2d(width, config.hyper, 3, stride=2, padding=1)

    def forward(self, y: Tensor, condition: Condition) -> Tensor:
        embedding = condition.embedding
        magnitude = torch.log1p((y / stretched(condition.step, y)).abs())
        h = self.squeeze(torch.cat([limit(y[:, : self.core]), magnitude], dim=1), embedding)
        h = self.down1(F.leaky_relu(h, SLOPE))
        h = self.mix(F.leaky_relu(h, SLOPE), embedding)
        return self.down2(F.leaky_relu(h, SLOPE)).float()


class ScalePath(nn.Module):
    """z_hat -> log sigma of y's symbols, in steps: the float view of `FixedPointScalePath`.

    Five convolutions with ReLUs and two pixel shuffles; the conditioning enters only as
    biases that are piecewise linear in it. Nothing here may be anything that integer
    arithmetic cannot do exactly.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        widths = layer_widths(config)
        self.convs = nn.ModuleList(
            nn.Conv2d(i, o, k, padding=k // 2, bias=False)
            for (i, o), k in zip(widths, KERNELS, strict=True)
        )
        self.biases = nn.ModuleList(AnchoredTable(config.coefficients, o) for _, o in widths)
        self.fixed_point = False
        """Whether training sees the rounding of `FixedPointScalePath`."""

    def layers(self) -> list[tuple[nn.Conv2d, AnchoredTable]]:
        """Every convolution with its biases, in order."""
        return list(zip(self.convs, self.biases, strict=True))  # type: ignore[arg-type]

    def forward(self, z_hat: Tensor, conditioning: Tensor) -> Tensor:
        """(B, hyper, h, w), (B, K, ...) -> (B, 768, 4h, 4w)."""
        conditioning = as_maps(conditioning)
        if self.fixed_point:
            with torch.autocast(z_hat.device.type, enabled=False):
                return self._rounded(z_hat, conditioning)
        h = z_hat
        last = len(self.convs) - 1
        for i, (conv, bias) in enumerate(self.layers()):
            h = conv(h)
            h = h + stretched(bias(conditioning), h)
            if i < last:
                h = F.relu(h)
            if SHUFFLE[i]:
                h = F.pixel_shuffle(h, 2)
        return h.float()

    def _rounded(self, z_hat: Tensor, conditioning: Tensor) -> Tensor:
        """`forward` with the roundings of the integer path, as good as float32 can do them.

        Gradients pass every rounding unchanged.
        """
        h = z_hat.float()
        last = len(self.convs) - 1
        for i, (conv, bias) in enumerate(self.layers()):
            unit = LOG_SCALE_STEP if i == last else 1.0
            weight = unit * round_to_bits(conv.weight / unit, WEIGHT_BITS)
            h = F.conv2d(h, weight, padding=KERNELS[i] // 2)
            h = h + stretched(bias(conditioning), h)
            if i < last:
                h = round_to_bits(F.relu(h), ACTIVATION_BITS)
            if SHUFFLE[i]:
                h = F.pixel_shuffle(h, 2)
        low = math.log(SCALE_MIN)
        return low + LOG_SCALE_STEP * round_to_bits((h - low) / LOG_SCALE_STEP, 0)


def round_to_bits(x: Tensor, bits: int) -> Tensor:
    """x at so many fractional bits, with the gradient of x."""
    return x + (torch.round(x * 2.0**bits) * 2.0**-bits - x).detach()


class HyperPrior(nn.Module):
    """Logistic density of every channel of z, its parameters piecewise linear in the dial.

    Only training sees it: the exported tables are counted on pictures (`training/export.py`).
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.mean = AnchoredTable(config.coefficients, config.hyper)
        self.log_scale = AnchoredTable(config.coefficients, config.hyper)

    def bits(self, z: Tensor, conditioning: Tensor) -> Tensor:
        """Bits of every (noisy or rounded) element of z (B, C, h, w), at (B, K, ...)."""
        conditioning = as_maps(conditioning)
        mean = stretched(self.mean(conditioning), z)
        return logistic_bits(z - mean, stretched(self.log_scale(conditioning), z))


def logistic_bits(x: Tensor, log_sigma: Tensor) -> Tensor:
    """Bits of x under a zero-mean logistic density integrated over unit bins.

    Heavier-tailed than a Gaussian of the same standard deviation, as the symbols are, and
    with a gradient that an outlier does not lose in float32.
    """
    inverse_scale = torch.exp(-log_sigma) * (math.pi / math.sqrt(3))
    distance = x.abs()
    # On the far side of zero the difference of two sigmoids keeps its precision.
    upper = torch.sigmoid((0.5 - distance) * inverse_scale)
    lower = torch.sigmoid((-0.5 - distance) * inverse_scale)
    return -torch.log2((upper - lower).clamp_min(MIN_LIKELIHOOD))


def symbol_bits(symbols: Tensor, log_sigma: Tensor) -> Tensor:
    """Bits of (noisy or rounded) symbols of y.

    sigma is limited to the range of the scale tables; the gradient passes the limit only
    where it would lead back inside.
    """
    low = math.log(SCALE_MIN)
    log_sigma = _Clamp.apply(log_sigma, low, low + LOG_SCALE_STEP * (SCALE_LEVELS - 1))
    return logistic_bits(symbols, log_sigma)


class _Clamp(torch.autograd.Function):
    """clamp whose gradient survives outside the limits when it points back inside."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, low: float, high: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.limits = (low, high)
        return x.clamp(low, high)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (x,) = ctx.saved_tensors
        low, high = ctx.limits
        leads_out = ((x < low) & (grad > 0)) | ((x > high) & (grad < 0))
        return grad.masked_fill(leads_out, 0.0), None, None


class MeanPath(nn.Module):
    """z_hat -> features (B, context_width, 4h, 4w) that every mean is predicted from."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        h, out = config.hyper_width, config.context_width
        self.up1 = nn.Conv2d(config.hyper, 4 * h, 1)
        self.mix1 = nn.Conv2d(h, h, 3, padding=1)
        self.up2 = nn.Conv2d(h, 4 * h, 1)
        self.mix2 = nn.Conv2d(h, h, 3, padding=1)
        self.out = ConditionedConv(h, out, config.film_width)

    def forward(self, z_hat: Tensor, embedding: Tensor) -> Tensor:
        h = F.pixel_shuffle(F.leaky_relu(self.up1(z_hat * HYPER_GAIN), SLOPE), 2)
        h = F.leaky_relu(self.mix1(h), SLOPE)
        h = F.pixel_shuffle(F.leaky_relu(self.up2(h), SLOPE), 2)
        h = F.leaky_relu(self.mix2(h), SLOPE)
        return F.leaky_relu(self.out(h, embedding), SLOPE)


class LocalSteps(nn.Module):
    """features (B, context_width, h, w) -> by how much steps are multiplied, (B, 768, h, w).

    Squared error wants equal steps everywhere; the eye, and every distortion that follows it,
    coarser ones where contrast is high (adaptive quantisation). So the second dial, if there is
    one, turns them on: at 0 steps are equal. A model begins with equal ones.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.conv = nn.Conv2d(config.context_width, LATENT_CHANNELS, 1, bias=False)
        nn.init.zeros_(self.conv.weight)

    def forward(self, features: Tensor, vector: Tensor) -> Tensor:
        """vector (B or 1, K, ...), as in `Condition`."""
        if vector.shape[1] > 1:
            features = features * stretched((vector[:, 1:2] / LOCAL_FROM).clamp_max(1), features)
        return torch.exp(self.conv(features).float().clamp(-LOCAL_LIMIT, LOCAL_LIMIT))


class ContextPass(nn.Module):
    """Means for one pass from the hyper features and the latents decoded so far."""

    def __init__(
        self,
        config: ModelConfig,
        outputs: int,
        context: bool,
        block: MakeBlock = ResidualBlock,
    ) -> None:
        super().__init__()
        width = config.context_width
        self.features = ConditionedConv(width, width, config.film_width)
        self.decoded = nn.Conv2d(config.core, width, 3, padding=1, bias=False) if context else None
        self.blocks = residual_blocks(width, config.context_blocks, config.film_width, block)
        self.mix = nn.Conv2d(width, width + width // 2, 1)
        self.out = nn.Conv2d(width + width // 2, outputs, 1)
        with torch.no_grad():
            self.out.weight.mul_(0.01)

    def forward(self, features: Tensor, decoded: Tensor | None, embedding: Tensor) -> Tensor:
        h = self.features(features, embedding)
        if self.decoded is not None and decoded is not None:
            h = h + self.decoded(limit(decoded))
        for block in self.blocks:
            h = block(h, embedding)
        h = self.mix(F.leaky_relu(h, SLOPE))
        return self.out(F.leaky_relu(h, SLOPE)).float()


class ContextModel(nn.Module):
    """The means of y in parallel passes: `context_passes` over the core channels, one for the rest.

    With n = 4 passes core channel c at row i, column j belongs to pass
    ``(order[i % 2][j % 2] + c) % n``: each pass covers a quarter of the channels at every
    position, so later passes see each channel's neighbours and each position's other channels.
    The detail channels follow, predicted from the finished core.
    """

    pass_of: Tensor

    def __init__(self, config: ModelConfig, block: MakeBlock = ResidualBlock) -> None:
        super().__init__()
        self.core = config.core
        self.passes = nn.ModuleList(
            ContextPass(config, config.core, context=k > 0, block=block)
            for k in range(config.context_passes)
        )
        self.detail = ContextPass(config, LATENT_CHANNELS - config.core, True, block)
        order = torch.tensor([[0, 2], [3, 1]], device="cpu")
        channels = torch.arange(config.core, device="cpu")[:, None, None]
        pass_of = (order + channels) % config.context_passes
        self.register_buffer("pass_of", pass_of, persistent=False)

    def masks(self, height: int, width: int) -> list[Tensor]:
        """For every pass a boolean (1, core, height, width): what it decodes."""
        tiled = self.pass_of.repeat(1, -(-height // 2), -(-width // 2))[None, :, :height, :width]
        return [tiled == k for k in range(len(self.passes))]

    def means(self, number: int, features: Tensor, decoded: Tensor, embedding: Tensor) -> Tensor:
        """Means predicted by pass `number` (the last is the detail pass) from `decoded`.

        decoded: (B, core, h, w), zero where not decoded yet; all in deviations.
        """
        network = self.detail if number == len(self.passes) else self.passes[number]
        return network(features, decoded, embedding)
