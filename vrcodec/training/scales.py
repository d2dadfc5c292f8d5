"""The scale path taught by symbols as they are coded: the last of a run, all else stays as it is.

While the networks learn, the rate is that of latents with uniform noise, outside of any dead zone
(docs/experiments.md says what becomes of a model that learns from rounded ones). The symbols of
files are rounded, and drawn towards zero; how widely those spread the scale path can still learn.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from vrcodec.model.entropy_model import symbol_bits
from vrcodec.model.network import CompressionModel
from vrcodec.training.objective import Batch

RATE = 5e-4
WARMUP = 30


def settle_scales(
    model: CompressionModel,
    draw: Callable[[], Batch],
    steps: int,
    lambda_weight: float = 0.5,
    dtype: torch.dtype = torch.float32,
) -> list[float]:
    """Train the scale path of a model on R / lambda^weight, R being bits per pixel of y's symbols.

    With AdamW, a rate that falls to zero, and the roundings of the integer scale path.

    Args:
        model: changed in place.
        draw: gives crops (B, 3, H, W), sides multiples of 64, and positions (B, K) on the dials.
        dtype: what the other networks compute in.

    Returns:
        The loss of every step.
    """
    path, losses = model.scale_path, []
    parameters = list(path.parameters())
    was_training, was_rounding = model.training, path.fixed_point
    needed = [parameter.requires_grad for parameter in parameters]
    model.eval()
    path.fixed_point = True
    path.requires_grad_(True)
    optimizer = torch.optim.AdamW(parameters, lr=RATE, betas=(0.9, 0.98), weight_decay=0)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1, (step + 1) / WARMUP) * (1 - step / steps)
        x, positions = draw()
        lam = model.config.dials.coefficients(positions.unbind(1))[0]
        with torch.no_grad(), _autocast(x.device, dtype):
            condition = model.condition(positions)
            y = model.latents(x.contiguous(memory_format=torch.channels_last), condition)
            z = model.hyper_symbols(y, condition)
        log_sigma = model.log_sigma(z.float(), condition.vector)
        rows, columns = y.shape[-2:]
        with torch.no_grad(), _autocast(x.device, dtype):
            at = slice(0, rows), slice(0, columns)
            symbols, _ = model.round_trip(y, z, condition, at, log_sigma=log_sigma.detach())
        bits = symbol_bits(symbols.float(), log_sigma).sum(dim=(1, 2, 3))
        loss = (bits / (x.shape[-2] * x.shape[-1]) / lam**lambda_weight).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        losses.append(float(loss.detach()))
    model.train(was_training)
    path.fixed_point = was_rounding
    for parameter, before in zip(parameters, needed, strict=True):
        parameter.requires_grad_(before)
    return losses


def _autocast(device: torch.device, dtype: torch.dtype) -> torch.autocast:
    return torch.autocast(device.type, torch.bfloat16, enabled=dtype == torch.bfloat16)
