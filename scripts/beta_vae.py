#!/usr/bin/env python3
"""One beta-VAE for every beta, beside twins that are trained for one beta each.

    scripts/beta_vae.py --train DIR... --val DIR -o OUT [--steps 600] [--plot FILE.svg]

Trains the conditioned network (beta log-uniform from 0.125 to 512) for N steps, twins at three
betas for N steps each, and twins for N / 3 steps each: together as many as the conditioned one.
Every run is a folder in OUT with log and checkpoint; what is there is not done again, and an
interrupted run goes on. Measures both terms, in nats a picture, on crops of the validation pictures
that are the same for all, and prints a Markdown table; `--plot` draws the terms against each other.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vrcodec.beta_vae.network import SIDE, BetaVae
from vrcodec.beta_vae.objective import BETA, DIALS, REDUCED, BetaVaeLoss, measured
from vrcodec.errors import ending_in_a_line
from vrcodec.training import checkpoints
from vrcodec.training.checkpoints import CHECKPOINT
from vrcodec.training.data import CropSampler, PictureStore
from vrcodec.training.folder import RESULT, run_task
from vrcodec.training.options import LoopOptions

TWINS = (0.0, 0.5, 1.0)
"""Positions on the dial."""
CURVE = tuple(i / 8 for i in range(9))
CPU = torch.device("cpu")


def trained(store: PictureStore, run: Path, steps: int, beta_position: float | None) -> BetaVae:
    """The averaged network of a run, which is made, or gone on with, where it is not finished."""
    options = {
        "max_steps": steps,
        "batch": 32,
        "patch": SIDE,
        "lr": 2e-3,
        "warmup_steps": 50,
        "ema": 0.995,
        "precision": "float32",
    }
    task = BetaVaeLoss(store, beta_position=beta_position)
    resume = (run / CHECKPOINT).exists()
    if not (run / RESULT).exists():
        finished = run_task(lambda *_: task, run, options, LoopOptions, resume=resume, visible=True)
        if not finished:
            raise SystemExit(130)
    saved = checkpoints.read(run / CHECKPOINT, LoopOptions)
    return task.finish(checkpoints.averaged(saved, task.empty()))


def beta(position: float) -> float:
    """The coefficient at a position on the dial."""
    (value,) = DIALS.coefficients([position])
    return value


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Train what is missing; the terms of everything by beta."""
    store = PictureStore(arguments.train, SIDE, CPU, progress=True)
    val = PictureStore([arguments.val], SIDE, CPU)
    crops = CropSampler(val, REDUCED, seed=1).batch(arguments.crops, SIDE)
    steps, out = arguments.steps, arguments.output

    def terms(run: Path, count: int, held: float | None, at: tuple[float, ...]) -> Terms:
        network = trained(store, run, count, held)
        return {f"{beta(p):g}": measured(network, crops, p) for p in at}

    found: dict[str, Any] = {"steps": steps, "conditioned": terms(out / "all", steps, None, CURVE)}
    for name, count in (("equal steps", steps), ("equal compute", steps // len(TWINS))):
        found[name] = {}
        for position in TWINS:
            run = out / f"{BETA}-{beta(position):g}-{count}"
            found[name] |= terms(run, count, position, (position,))
    found["mean picture"] = mean_picture(crops)
    return found


Terms = Mapping[str, tuple[float, float]]


def mean_picture(crops: Tensor) -> float:
    """Reconstruction by the mean of all crops, in nats: what a code of no information gives."""
    from vrcodec.beta_vae.objective import reconstruction

    mean = crops.mean(0, keepdim=True)
    return float(reconstruction(mean.expand_as(crops), crops).mean())


def table(found: Mapping[str, Any]) -> str:
    """Both terms, and the loss, of conditioned and twins, as Markdown."""
    head = ("beta", "model", "steps", "reconstruction", "KL", "loss", "against conditioned")
    rows = [head, ("--:", "---", *["--:"] * 5)]
    for name in found["equal steps"]:
        weight = float(name)
        own = None
        for model, steps in (
            ("conditioned", found["steps"]),
            ("equal steps", found["steps"]),
            ("equal compute", found["steps"] // len(TWINS)),
        ):
            error, kl = found[model][name]
            loss = error + weight * kl
            own = own or loss
            said = "" if model == "conditioned" else f"{100 * (loss / own - 1):+.1f} %"
            title = model if model == "conditioned" else f"twin, {model}"
            numbers = (f"{error:.1f}", f"{kl:.2f}", f"{loss:.1f}", said)
            rows.append((name, title, str(steps), *numbers))
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def plot(found: Mapping[str, Any], path: Path) -> None:
    """Reconstruction against KL: a line for the conditioned network, points for twins."""
    import matplotlib
    from matplotlib.figure import Figure

    from vrcodec.evaluation.plots import COLOURS, plain

    with matplotlib.rc_context({"svg.hashsalt": BETA, "svg.fonttype": "none", "font.size": 10}):
        figure = Figure(figsize=(7.2, 4.6))
        axes = figure.add_subplot()
        lines = []
        for (name, style), colour in zip(
            (("conditioned", "o-"), ("equal steps", "s"), ("equal compute", "^")),
            COLOURS,
            strict=False,
        ):
            errors, kls = zip(*found[name].values(), strict=True)
            (line,) = axes.plot(kls, errors, style, color=colour, markersize=6, alpha=0.9)
            title = name if name == "conditioned" else f"twins for one beta, {name}"
            lines.append((line, title))
        for name, (error, kl) in list(found["conditioned"].items())[::2]:
            axes.annotate(
                f"{float(name):.3g}",
                (kl, error),
                xytext=(4, 6),
                fontsize=8,
                textcoords="offset points",
            )
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_major_formatter("{x:g}")
        plain(axes, "KL, nats a picture", "reconstruction, nats a picture", lines)
        axes.get_legend().set_loc("upper right")
        figure.savefig(path, facecolor="white", bbox_inches="tight", metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--train", type=Path, nargs="+", required=True)
    parser.add_argument("--val", type=Path, required=True)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=600, help="of the conditioned network")
    parser.add_argument("--crops", type=int, default=2048, help="of --val, to measure on")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the terms")
    arguments = parser.parse_args()
    found = measure(arguments)
    (arguments.output / "terms.json").write_text(json.dumps(found, indent=1) + "\n")
    print(table(found))
    print(f"\nThe mean picture alone: {found['mean picture']:.1f} nats.")
    if arguments.plot:
        plot(found, arguments.plot)


if __name__ == "__main__":
    with ending_in_a_line():
        main()
