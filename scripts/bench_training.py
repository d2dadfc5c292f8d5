#!/usr/bin/env python3
"""How much of what the processor can do a training step uses.

    scripts/bench_training.py [--threads N] [--crops 16 32] [--optimizers adamw muon] [PICTURES]

A step is all of it: drawing the batch, forward, backward, optimiser, averaged weights. Its work is
counted as three times the multiplications of the forward pass, and its rate printed as a share of
that of a float32 product of 1536 x 1536 matrices, measured in between, on the same threads. Without
a folder of pictures, noise is trained on.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

from vrcodec.errors import ending_in_a_line
from vrcodec.model.config import ModelConfig
from vrcodec.training.checkpoints import TrainingState, new_state
from vrcodec.training.data import PictureStore
from vrcodec.training.loop import Budget, train
from vrcodec.training.options import TrainingOptions
from vrcodec.training.rate_distortion import RateDistortion
from vrcodec.training.run import keep_freed_memory

SIDE = 1536
CPU = torch.device("cpu")


def product_rate(clock: object) -> float:
    """Multiplications a second of a product of two matrices: the best of a few."""
    a, b = torch.randn(2, SIDE, SIDE)
    a @ b
    seconds = []
    for _ in range(4):
        start = clock()  # type: ignore[operator]
        a @ b
        seconds.append(clock() - start)  # type: ignore[operator]
    return SIDE**3 / min(seconds)


def forward_products(state: TrainingState, objective: RateDistortion, count: int) -> float:
    """Multiplications of one forward pass."""
    x, positions = objective.batch(count, 128)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        state.model(x, positions)
    return counter.get_total_flops() / 2


def noise(folder: Path) -> Path:
    """A folder of pictures of noise."""
    pixels = np.random.default_rng(0).integers(0, 256, (4, 384, 384, 3), np.uint8)
    for number, picture in enumerate(pixels):
        Image.fromarray(picture).save(folder / f"{number}.png")
    return folder


def measure(
    store: PictureStore, optimizer: str, crops: int, steps: int, cpu_time: bool
) -> dict[str, object]:
    """Seconds of the fastest step, and its share of the rate of a product."""
    clock = time.process_time if cpu_time else time.perf_counter
    options = TrainingOptions(
        max_steps=steps, batch=crops, patch=128, optimizer=optimizer, precision="float32"
    )
    objective = RateDistortion(ModelConfig(learned_linear=False), store, options)
    state = new_state(objective, options, CPU)
    work = 3 * forward_products(state, objective, crops)
    ticks: list[float] = []
    drawn = objective.batch

    def ticking(count: int, side: int) -> tuple[torch.Tensor, ...]:
        ticks.append(clock())
        return drawn(count, side)

    objective.batch = ticking  # type: ignore[method-assign]
    before = product_rate(clock)
    with tempfile.TemporaryDirectory() as run:
        train(state, objective, options, Path(run), budget=Budget(float("inf"), steps))
    rate = max(before, product_rate(clock))
    seconds = float(np.diff(ticks)[1:].min())
    return {
        "optimizer": optimizer,
        "crops": crops,
        "seconds": round(seconds, 4),
        "product GMAC/s": round(rate / 1e9, 1),
        "share": round(work / seconds / rate, 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pictures", nargs="?", type=Path)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--crops", type=int, nargs="+", default=[16, 32])
    parser.add_argument("--optimizers", nargs="+", default=["adamw", "muon"])
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument(
        "--cpu-time",
        action="store_true",
        help="count the seconds of the processor, on one thread of a busy machine",
    )
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as folder:
        store = PictureStore([arguments.pictures or noise(Path(folder))], 128, CPU)
    for crops in arguments.crops:
        for optimizer in arguments.optimizers:
            found = measure(store, optimizer, crops, arguments.steps, arguments.cpu_time)
            print(json.dumps(found), flush=True)


if __name__ == "__main__":
    with ending_in_a_line():
        main()
