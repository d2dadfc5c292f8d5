"""vrcodec train: new weights from folders of pictures."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import click

from vrcodec.errors import VrcodecError


@click.command()
@click.argument("folders", metavar="DIR...", nargs=-1, required=True, type=Path)
@click.option(
    "-o",
    "--output",
    "run",
    metavar="RUN",
    required=True,
    type=Path,
    help="Folder of the run: checkpoints, log, weights and record.",
)
@click.option(
    "--max-time",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="Training time in all, earlier parts of a resumed run included.",
)
@click.option("--steps", type=click.IntRange(min=1), help="Optimiser steps in all.")
@click.option("--resume", is_flag=True, help="Go on from the checkpoint in RUN.")
@click.option("--init", metavar="WEIGHTS", type=Path, help="Start from these weights.")
@click.option(
    "--config",
    metavar="JSON",
    type=Path,
    help="Shape of the model, a JSON file; with --init it may have more blocks.",
)
@click.option(
    "--val",
    metavar="DIR",
    type=Path,
    help="Measure the result, and the weights the run began with, on these pictures.",
)
@click.option("--batch", type=click.IntRange(min=1), default=8, show_default=True)
@click.option(
    "--patch",
    type=click.IntRange(min=64),
    default=128,
    show_default=True,
    help="Side of the square crops, a multiple of 64.",
)
@click.option(
    "--final-patch",
    type=click.IntRange(min=64),
    metavar="SIDE",
    help="Side of the crops while the learning rate falls [as before].",
)
@click.option(
    "--final-batch",
    type=click.IntRange(min=1),
    metavar="N",
    help="Crops a step then [as many pixels as before].",
)
@click.option(
    "--loss",
    type=click.Choice(["mse", "ms-ssim", "mix"]),
    default="mse",
    show_default=True,
    help="Distortion; a mix has a second loss coefficient, for encode --ms-ssim-weight.",
)
@click.option(
    "--only-quality",
    type=click.FloatRange(0, 1),
    metavar="Q",
    help="Train for one quality instead of the whole dial, to compare with.",
)
@click.option(
    "--lambda-weight",
    type=click.FloatRange(0, 1),
    default=0.5,
    show_default=True,
    metavar="A",
    help="Loss (R + lambda D) / lambda^A: 0 favours high rates, 1 low ones.",
)
@click.option(
    "--lr",
    type=click.FloatRange(min=0, min_open=True),
    default=1e-3,
    show_default=True,
    help="Learning rate before the decay.",
)
@click.option(
    "--optimizer",
    type=click.Choice(["adamw", "muon"]),
    default="adamw",
    show_default=True,
    help="Muon updates the matrices, AdamW the rest.",
)
@click.option(
    "--warmup",
    type=click.IntRange(min=0),
    default=200,
    show_default=True,
    help="Steps over which the learning rate rises.",
)
@click.option(
    "--decay",
    type=click.FloatRange(0, 1),
    default=0.3,
    show_default=True,
    help="Last share of the budget, over which the learning rate falls to 1 %.",
)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda[:N].")
@click.option("--compile", "compile_", is_flag=True, help="Use torch.compile.")
def train(
    folders: tuple[Path, ...],
    run: Path,
    max_time: float | None,
    steps: int | None,
    resume: bool,
    init: Path | None,
    val: Path | None,
    config: Path | None,
    batch: int,
    patch: int,
    final_patch: int | None,
    final_batch: int | None,
    loss: str,
    only_quality: float | None,
    lambda_weight: float,
    lr: float,
    optimizer: str,
    warmup: int,
    decay: float,
    seed: int,
    device: str,
    compile_: bool,
) -> None:
    """Train one model for every quality on all pictures below DIR...

    The run ends when --max-time or --steps is spent; Ctrl-C ends it early, with a checkpoint
    that --resume goes on from. RUN/weights.safetensors is what --weights of the other
    commands accepts. Several GPUs or machines work together under torchrun:

        torchrun --nproc-per-node 8 -m vrcodec train DIR... -o RUN ...
    """
    if max_time is None and steps is None:
        raise click.UsageError("one of --max-time and --steps is needed")
    for name, side in (("--patch", patch), ("--final-patch", final_patch or 0)):
        if side % 64:
            raise click.BadParameter("must be a multiple of 64", param_hint=name)
    if resume and (init or config):
        raise click.UsageError("--resume goes on with the run's own model: no --init, no --config")
    finished = _train(
        folders,
        run,
        device,
        resume,
        init,
        val,
        config,
        {
            "max_time": max_time or float("inf"),
            "max_steps": steps or 0,
            "batch": batch,
            "patch": patch,
            "final_patch": final_patch or 0,
            "final_batch": final_batch or 0,
            "loss": loss,
            "lr": lr,
            "only_quality": only_quality,
            "lambda_weight": lambda_weight,
            "optimizer": optimizer,
            "warmup_steps": warmup,
            "decay": decay,
            "seed": seed,
            "compile": compile_,
        },
    )
    if not finished:
        click.echo(f"stopped; go on with --resume -o {run}", err=True)
        sys.exit(130)


def _train(
    folders: tuple[Path, ...],
    run: Path,
    device: str,
    resume: bool,
    init: Path | None,
    val: Path | None,
    config: Path | None,
    options: dict[str, Any],
) -> bool:
    from vrcodec.evaluation.bjontegaard import bd_rate
    from vrcodec.model.config import ModelConfig
    from vrcodec.model.loading import select_device
    from vrcodec.training.loop import TrainingOptions
    from vrcodec.training.run import INITIAL, WEIGHTS, run_training, validate

    for folder in folders:
        if not folder.is_dir():
            raise VrcodecError(f"{folder}: no such folder")
    try:
        shape = ModelConfig.from_json(config.read_text()) if config else None
    except (OSError, ValueError) as error:
        raise VrcodecError(f"{config}: {error}") from error
    progress = sys.stderr.isatty()
    finished = run_training(
        folders,
        run,
        TrainingOptions(**options),
        shape,
        select_device(device),
        resume,
        init,
        progress,
    )
    if int(os.environ.get("RANK", "0")):
        return finished  # the first process of `torchrun` speaks for all
    click.echo(f"{run / WEIGHTS}")
    if finished and val:
        before = validate(run / INITIAL, val, device, progress)
        after = validate(run / WEIGHTS, val, device, progress)
        (run / "val.json").write_text(json.dumps({"initial": before, "final": after}) + "\n")
        for quality, bpp, psnr in zip(after["quality"], after["bpp"], after["psnr"], strict=True):
            click.echo(f"quality {quality:.3f}  {bpp:.4f} bpp  {psnr:.3f} dB")
        try:
            rate, low, high = bd_rate(after, before)
        except ImportError:
            return finished  # a machine with nothing but what training needs: no scipy
        click.echo(f"BD-rate against the start: {rate:+.2f} % ({low:.1f} to {high:.1f} dB)")
    return finished
