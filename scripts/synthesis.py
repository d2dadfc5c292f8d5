#!/usr/bin/env python3
"""Weights whose synthesis transform has learned from latents as files hold them.

All else of WEIGHTS stays as it is: files of a picture keep their bits. For example:

    scripts/synthesis.py WEIGHTS TRAIN -o RUN --steps 1000
    torchrun --nproc-per-node 2 scripts/synthesis.py WEIGHTS TRAIN -o RUN --threads 1 --steps 1000

RUN gets a log, checkpoints, and at the end weights.safetensors.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click
import torch
from click.core import ParameterSource

from vrcodec.errors import ending_in_a_line
from vrcodec.model.weights_file import load_weights
from vrcodec.training.checkpoints import Checkpoint
from vrcodec.training.data import PictureStore
from vrcodec.training.folder import run_task
from vrcodec.training.options import TrainingOptions
from vrcodec.training.run import keep_freed_memory
from vrcodec.training.synthesis import SynthesisTuning

FIXED = {
    "perceptual": "both",
    "optimizer": "muon",
    "warmup_steps": 50,
    "decay": 0.5,
    "ema": 0.995,
    "log_steps": 20,
    "precision": "float32",
}
"""Options of a run that nobody has wanted otherwise."""


@click.command()
@click.argument("weights", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("train", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), metavar="RUN")
@click.option("--resume", is_flag=True, help="go on from the run's checkpoint")
@click.option("--steps", "max_steps", default=1000, show_default=True)
@click.option("--batch", default=16, show_default=True, help="crops a step, over all processes")
@click.option("--patch", default=256, show_default=True, help="pixels along their sides")
@click.option("--lr", default=1e-3, show_default=True, help="falling over the second half")
@click.option("--seed", default=0, show_default=True)
@click.option("--threads", default=0, help="of a process; 0: what torch chooses")
def main(
    weights: Path,
    train: tuple[Path, ...],
    output: Path,
    resume: bool,
    **options: Any,
) -> None:
    """Leave in RUN the weights of WEIGHTS with a synthesis tuned on pictures in TRAIN."""
    context = click.get_current_context()
    known = load_weights(weights)
    given: dict[str, Any]
    if resume:  # what is not named stays as it is
        default = ParameterSource.DEFAULT
        given = {k: v for k, v in options.items() if context.get_parameter_source(k) != default}
    else:
        given = FIXED | {"loss": "tune" if len(known.config.dials) > 1 else "mse"} | options

    def begin(
        found: Checkpoint[TrainingOptions] | None, chosen: TrainingOptions
    ) -> SynthesisTuning:
        keep_freed_memory()
        store = PictureStore(train, chosen.patch, torch.device("cpu"))
        click.echo(store.summary(), err=True)
        return SynthesisTuning(known, store, chosen, found)

    if not run_task(begin, output, given, TrainingOptions, resume=resume, visible=True):
        sys.exit(130)  # interrupted, as `vrcodec train` says it


if __name__ == "__main__":
    with ending_in_a_line():
        main()
