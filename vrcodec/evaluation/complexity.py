"""What a model costs to run: parameters, multiply-accumulates, CPU seconds."""

from __future__ import annotations

import dataclasses
import time
from collections import defaultdict
from collections.abc import Callable, Sequence

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

TOTAL = "total"
"""Key of `count_macs` for everything that was executed."""


@dataclasses.dataclass(frozen=True)
class Complexity:
    """Cost of one codec network.

    Attributes:
        name: what the network is called.
        parameters: number of trainable parameters.
        encode_kmac: thousand MACs per pixel of all that encoding executes, priors included.
        decode_kmac: the same for decoding.
        analysis_kmac: part of encode_kmac, the transform from picture to latents alone.
        synthesis_kmac: part of decode_kmac, the transform from latents to picture alone.
        analysis_seconds: CPU seconds of the analysis transform for one picture.
        synthesis_seconds: CPU seconds of the synthesis transform for one picture.
    """

    name: str
    parameters: int
    encode_kmac: float
    decode_kmac: float
    analysis_kmac: float
    synthesis_kmac: float
    analysis_seconds: float
    synthesis_seconds: float


def count_parameters(module: nn.Module) -> int:
    """Number of trainable parameters of a module, shared ones once."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


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


def cpu_seconds(call: Callable[[], object], *, threads: int = 1, repeats: int = 3) -> float:
    """CPU time of `call()` without gradients: the least of `repeats` runs after a warm-up.

    CPU time is that of the whole process, so a busy machine hardly disturbs it; with more than
    one thread it is their sum, waiting included.

    Args:
        call: what to measure.
        threads: number of torch threads while measuring; the old number is set again after.
        repeats: number of measured runs, at least 1.
    """
    threads_before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.no_grad():
            call()
            seconds = []
            for _ in range(repeats):
                start = time.process_time()
                call()
                seconds.append(time.process_time() - start)
    finally:
        torch.set_num_threads(threads_before)
    return min(seconds)


def complexity_table(rows: Sequence[Complexity]) -> str:
    """Complexities as a Markdown table, one line per network."""
    lines = [
        "| network | M parameters | kMAC/pixel encode | of which analysis | kMAC/pixel decode "
        "| of which synthesis | CPU-s analysis | CPU-s synthesis |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for row in rows:
        lines.append(
            f"| {row.name} | {row.parameters / 1e6:.1f} "
            f"| {row.encode_kmac:.1f} | {row.analysis_kmac:.1f} "
            f"| {row.decode_kmac:.1f} | {row.synthesis_kmac:.1f} "
            f"| {row.analysis_seconds:.2f} | {row.synthesis_seconds:.2f} |"
        )
    return "\n".join(lines)
