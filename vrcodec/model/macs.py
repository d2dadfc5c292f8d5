"""Multiply-accumulates that a network executes, counted while it does."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

TOTAL = "total"
"""Key of `count_macs` for everything that was executed."""


def count_macs(module: nn.Module, call: Callable[[], object]) -> dict[str, float]:
    """Run `call()` once without gradients and count its multiply-accumulates.

    Counted is what torch executes (convolutions and matrix products, also through
    torch.nn.functional, taps on the padding included); element-wise work is not.

    Args:
        module: the network; its submodules are what the counts are attributed to.
        call: runs the network, or parts of it, on some input.

    Returns:
        MACs under the key "total", and under the qualified name of every submodule of `module`
        whose forward ran (its own submodules included, repeated runs added up).
    """
    counter = FlopCounterMode(display=False)
    flops_at_entry: list[int] = []
    macs: defaultdict[str, float] = defaultdict(float)

    def enter(_module: nn.Module, _args: object) -> None:
        flops_at_entry.append(counter.get_total_flops())

    def leave_as(name: str) -> Callable[[nn.Module, object, object], None]:
        def leave(_module: nn.Module, _args: object, _output: object) -> None:
            macs[name] += (counter.get_total_flops() - flops_at_entry.pop()) / 2

        return leave

    hooks = []
    for name, submodule in module.named_modules():
        if name:
            hooks.append(submodule.register_forward_pre_hook(enter))
            hooks.append(submodule.register_forward_hook(leave_as(name)))
    try:
        with torch.no_grad(), counter:
            call()
    finally:
        for hook in hooks:
            hook.remove()
    return {TOTAL: counter.get_total_flops() / 2, **macs}
