"""Which float type the networks compute fastest in here: measured, not read off processor flags.

bfloat16 is fast on most GPUs and on CPUs that multiply matrices of it (AMX). Elsewhere it is
emulated, or at half the speed of float32, though the flags may name it. So both are timed for a
moment, on what most of the work is: a matrix product.
"""

from __future__ import annotations

import functools
import time
from typing import TYPE_CHECKING

from vrcodec.errors import ArgumentError

if TYPE_CHECKING:
    import torch

PRECISIONS = ("auto", "float32", "bfloat16")
SIDE = 384
"""Of the matrices that are multiplied."""
SECONDS = 0.05
"""Of trying each type, at least."""
ADVANTAGE = 1.15
"""How much faster bfloat16 has to be: what is gained in products is partly lost in casts."""


def check_precision(precision: str) -> None:
    """Raises ArgumentError if this is not one of PRECISIONS."""
    if precision not in PRECISIONS:
        raise ArgumentError(f"precision {precision!r} is not one of {', '.join(PRECISIONS)}")


def fastest_dtype(device: torch.device, precision: str = "auto") -> torch.dtype:
    """The type to compute in on a device: torch.float32 or torch.bfloat16.

    Args:
        precision: one of PRECISIONS; "auto" times both, once per process and device.

    Raises:
        ArgumentError: `precision` is something else.
    """
    import torch

    check_precision(precision)
    if precision == "auto":
        return _measured(device.type, device.index)
    return torch.bfloat16 if precision == "bfloat16" else torch.float32


@functools.cache
def _measured(kind: str, index: int | None) -> torch.dtype:
    import torch

    device = torch.device(kind, index) if index is not None else torch.device(kind)
    try:
        gain = _seconds(torch.float32, device) / _seconds(torch.bfloat16, device)
    except RuntimeError:  # a device without bfloat16
        return torch.float32
    return torch.bfloat16 if gain > ADVANTAGE else torch.float32


def _seconds(dtype: torch.dtype, device: torch.device) -> float:
    """The least time of a product, after a first one that is not counted."""
    import torch

    with torch.no_grad(), torch.autocast(device.type, enabled=False):
        a = torch.ones(SIDE, SIDE, dtype=dtype, device=device)
        b = torch.ones(SIDE, SIDE, dtype=dtype, device=device)
        least, end = float("inf"), None
        while end is None or time.perf_counter() < end:
            start = time.perf_counter()
            torch.mm(a, b)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            now = time.perf_counter()
            if end is None:
                end = now + SECONDS
            else:
                least = min(least, now - start)
    return least
