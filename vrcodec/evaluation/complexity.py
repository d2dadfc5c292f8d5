"""What a model costs to run: parameters, multiply-accumulates, CPU seconds."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence

import torch
from torch import nn

from vrcodec.model.macs import count_macs as count_macs


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
