"""The loss that training samples: R + lambda D, for every picture with its own coefficients."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from vrcodec.errors import VrcodecError
from vrcodec.model.config import ModelConfig
from vrcodec.model.network import ForwardOutput

DISTORTIONS = ("mse", "ms-ssim", "mix")
MIX_RANGES = ((0.0006, 0.5), (0.1, 10.0))
"""Loss coefficients of a mix: lambda, and the weight of MS-SSIM beside MSE."""
MS_SSIM_UNIT = 1300.0
"""D of 1 - MS-SSIM, so that one range of lambda serves both (the ratio of the coefficients of
CompressAI's models for MSE and for MS-SSIM at equal rates)."""
MS_SSIM_PATCH = 192
"""Five scales of an 11-pixel window need sides above 160."""
LOSS_LIMIT = 50.0
"""A sample's gradient is scaled down as far as its loss exceeds this (usual: 5 to 30)."""


def check_distortion(kind: str, config: ModelConfig, patch: int) -> None:
    """Raises VrcodecError if a model or crops of this size cannot be trained on the distortion."""
    needed = 2 if kind == "mix" else 1
    if config.coefficients != needed:
        raise VrcodecError(
            f"--loss {kind} needs a model of {needed} loss coefficients, "
            f"this one has {config.coefficients}"
        )
    if kind != "mse" and patch < MS_SSIM_PATCH:
        raise VrcodecError(f"--loss {kind} needs crops of {MS_SSIM_PATCH} or more (--patch)")


def rate_distortion_loss(
    model: Callable[[Tensor, Tensor], ForwardOutput],
    x: Tensor,
    conditioning: Tensor,
    config: ModelConfig,
    weight: float,
    kind: str = "mse",
) -> tuple[Tensor, Tensor, Tensor]:
    """Mean over the batch of (R + lambda D) / lambda^weight, each sample with its own lambda.

    R is bits per pixel. D is 255^2 x MSE; or MS_SSIM_UNIT x (1 - MS-SSIM); or, as a mix, the
    first plus the second times the second loss coefficient. High rates would dominate the
    gradient without the division.

    Args:
        x: pictures (B, 3, H, W) in [0, 1].
        conditioning: (B, K) in [0, 1].
        kind: one of DISTORTIONS.

    Returns:
        loss (scalar), bits per pixel (B,), MSE (B,) on [0, 1].
    """
    lam, *others = (
        low * (high / low) ** conditioning[:, k]
        for k, (low, high) in enumerate(config.lambda_ranges)
    )
    out = model(x, conditioning)
    x_hat = out.x_hat.float()
    mse = (x_hat - x).square().mean(dim=(1, 2, 3))
    distortion = 255**2 * mse if kind != "ms-ssim" else torch.zeros_like(mse)
    if kind != "mse":
        share = others[0] if kind == "mix" else 1.0
        distortion = distortion + share * MS_SSIM_UNIT * _one_minus_ms_ssim(x_hat, x)
    bpp = out.bpp
    losses = (bpp + lam * distortion) / lam**weight
    # A sample far off (a checkerboard early on) must not drown the others of its batch.
    trust = (LOSS_LIMIT / losses.detach()).clamp_max(1.0)
    return (losses * trust).mean(), bpp.detach(), mse.detach()


def _one_minus_ms_ssim(x_hat: Tensor, x: Tensor) -> Tensor:
    from pytorch_msssim import ms_ssim

    with torch.autocast(x.device.type, enabled=False):
        similarity: Tensor = ms_ssim(x_hat.contiguous(), x.contiguous(), 1.0, size_average=False)
    return 1 - similarity
