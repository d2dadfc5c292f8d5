#!/usr/bin/env python3
"""Compare ways to train at equal budgets, with the spread of two or more seeds.

    scripts/ablate.py PLAN.json --train DIR... --val DIR -o OUT [--jobs N] [--plot FILE.png]

PLAN.json names the variants, the first being what the others are compared with:

    {
      "options": {"max_steps": 3000, "batch": 8, "decay": 0.3},
      "seeds": [0, 1],
      "config": {"width8": 128},
      "variants": {
        "as released": {},
        "Muon": {"options": {"optimizer": "muon"}},
        "Muon, as long": {"options": {"optimizer": "muon"}, "as_long_as": "as released"},
        "deeper context": {"config": {"context_blocks": 1}},
        "other blocks": {"model": "other_blocks.py"},
        "longer": {"from": "as released", "options": {"max_steps": 9000}, "seeds": [0]}
      }
    }

`options` are fields of `TrainingOptions` (vrcodec train --help has them as options of the command
line); `config` changes single values of the model's shape; `model` is a Python file beside the plan
with a function `model(config)` that makes the network; `from` goes on with what another variant was
before its learning rate fell; `as_long_as` trains for as many seconds as another variant's run of
the same seed took for its steps, instead of for a number of steps: equal time, where the variants
differ in speed; `init` starts from weights or a checkpoint, named relative to the plan; `seeds` are
the variant's own. Every variant is trained once per seed into OUT/VARIANT/SEED and measured on
the validation pictures (--val-crop: the centre of each); what is there is not done again. Prints a
Markdown table: BD-rate (PSNR) over the dial against the first variant of the same seed, its mean
and its range over the seeds. An effect within the range of the first variant's seeds against each
other counts as none.

For twins trained for one quality (`only_quality`) a curve is one point: the table says by how many
percent of rate it is off the first variant's curve at its own PSNR. `--plot` draws that difference
along the dial: a line for each curve, a point for each twin.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import runpy
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from scipy.interpolate import PchipInterpolator

from vrcodec.errors import ending_in_a_line
from vrcodec.evaluation.bjontegaard import bd_rate
from vrcodec.model.config import ModelConfig
from vrcodec.model.network import CompressionModel
from vrcodec.training.checkpoints import CHECKPOINT, TRUNK
from vrcodec.training.run import CURVES, RECORD, run_training

EXPORT_PICTURES = 64
"""Crops that tables are counted on: weights before and after training are exported."""


def folder(arguments: argparse.Namespace, name: str, seed: int) -> Path:
    """Where a variant's run lies."""
    return Path(arguments.output) / name.replace(" ", "-").replace("/", "-") / str(seed)


def seeds_of(plan: dict[str, Any], name: str) -> list[int]:
    """The seeds that a variant is trained with."""
    return list(plan["variants"][name].get("seeds", plan["seeds"]))


def done(run: Path) -> bool:
    """Whether a variant is trained and measured."""
    return (run / CURVES).exists() and "final" in json.loads((run / CURVES).read_text())


def train_variant(
    plan: dict[str, Any], name: str, seed: int, arguments: argparse.Namespace
) -> None:
    """Train a variant in a process of its own, and measure it, unless that is done."""
    variant = plan["variants"][name]
    run = folder(arguments, name, seed)
    if done(run):
        return
    run.mkdir(parents=True, exist_ok=True)
    options = {"export_pictures": EXPORT_PICTURES, "val_crop": arguments.val_crop}
    options |= plan["options"] | variant.get("options", {}) | {"seed": seed}
    if "as_long_as" in variant:
        record = json.loads((folder(arguments, variant["as_long_as"], seed) / RECORD).read_text())
        options |= {"max_time": record["seconds"] + record["closing"], "max_steps": 0}
    if "from" in variant and not (run / CHECKPOINT).exists():
        shutil.copyfile(folder(arguments, variant["from"], seed) / TRUNK, run / CHECKPOINT)
    beside = arguments.plan.parent
    job = {
        "folders": [str(path) for path in arguments.train],
        "run": str(run),
        "val": str(arguments.val),
        "options": options,
        "config": json.loads(ModelConfig().to_json()) | plan.get("config", {}),
        "model": str(beside / variant["model"]) if "model" in variant else None,
        "init": str(beside / variant["init"]) if "init" in variant else None,
    }
    job["config"] |= variant.get("config", {})
    print(f"{name}, seed {seed}: {json.dumps(options)}", file=sys.stderr, flush=True)
    threads = max(1, (os.cpu_count() or 1) // arguments.jobs)
    subprocess.run(
        [sys.executable, __file__, "--one", json.dumps(job)],
        check=True,
        env=os.environ | {"OMP_NUM_THREADS": str(threads)},
    )


def train_and_measure(job: dict[str, Any]) -> None:
    """What the process of one variant does: the run's folder gets its validation curve."""
    run = Path(job["run"])
    resume = (run / CHECKPOINT).exists()
    starts = {
        "config": ModelConfig.from_json(json.dumps(job["config"])),
        "init": Path(job["init"]) if job["init"] else None,
    }
    make = runpy.run_path(job["model"])["model"] if job["model"] else CompressionModel
    finished = run_training(
        [Path(path) for path in job["folders"]],
        run,
        job["options"],
        resume=resume,
        val=Path(job["val"]),
        make=make,
        visible=True,
        **({} if resume else starts),
    )
    sys.exit(0 if finished else 130)


def train_all(plan: dict[str, Any], arguments: argparse.Namespace) -> None:
    """Train what is missing, `--jobs` runs at a time; what needs another run comes after it."""
    wanted = [(name, seed) for name in plan["variants"] for seed in seeds_of(plan, name)]
    needy = {
        name for name, variant in plan["variants"].items() if {"from", "as_long_as"} & set(variant)
    }
    later = [run for run in wanted if run[0] in needy]
    for runs in ([run for run in wanted if run not in later], later):
        with ThreadPoolExecutor(arguments.jobs) as pool:
            list(pool.map(lambda run: train_variant(plan, run[0], run[1], arguments), runs))


def only_quality(plan: dict[str, Any], name: str) -> float | None:
    """The one quality that a variant is trained for."""
    quality: float | None = plan["variants"][name].get("options", {}).get("only_quality")
    return quality


def difference(
    test: dict[str, list[float]], base: dict[str, list[float]], quality: float | None
) -> float:
    """Percent of rate that `test` needs more than `base`."""
    if quality is None:
        return bd_rate(test, base)[0]
    return dict(along_the_dial(test, base))[nearest(test["quality"], quality)]


def nearest(qualities: list[float], quality: float) -> float:
    return min(qualities, key=lambda candidate: abs(candidate - quality))


def along_the_dial(
    test: dict[str, list[float]], base: dict[str, list[float]]
) -> list[tuple[float, float]]:
    """Quality, and percent of rate that `test` needs there beyond `base` at the same PSNR."""
    usual = PchipInterpolator(base["psnr"], np.log(base["bpp"]), extrapolate=False)
    return [
        (quality, 100 * math.expm1(math.log(bpp) - float(usual(psnr))))
        for quality, bpp, psnr in zip(test["quality"], test["bpp"], test["psnr"], strict=True)
    ]


def plot(
    plan: dict[str, Any], curves: dict[str, dict[int, dict[str, list[float]]]], path: Path
) -> None:
    """Draw every variant's difference from the first one, seed by seed."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4), layout="constrained")
    names = list(curves)
    axes.axhline(0, color="black", linewidth=1, label=names[0])
    for number, name in enumerate(names[1:]):
        quality = only_quality(plan, name)
        for which, (seed, test) in enumerate(curves[name].items()):
            points = along_the_dial(test, curves[names[0]][seed])
            if quality is not None:
                at = nearest(test["quality"], quality)
                points = [point for point in points if point[0] == at]
            axes.plot(
                *zip(*points, strict=True),
                "-" if quality is None else "o",
                color=f"C{number}",
                label=None if which else name,
            )
    axes.set(xlabel="quality", ylabel="bits at equal PSNR, %", xlim=(0, 1))
    axes.grid(alpha=0.3)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False)
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("plan", type=Path)
    parser.add_argument("--train", type=Path, nargs="+", required=True)
    parser.add_argument("--val", type=Path, required=True)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument(
        "--val-crop", type=int, default=512, metavar="SIDE", help="measure on centres of this side"
    )
    parser.add_argument(
        "--jobs",
        type=int,
        default=1,
        metavar="N",
        help="runs at a time, each with its share of the threads",
    )
    parser.add_argument("--against", metavar="VARIANT", help="what to compare with [the first]")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the differences")
    arguments = parser.parse_args()
    plan = json.loads(arguments.plan.read_text())
    train_all(plan, arguments)
    names = list(plan["variants"])
    usual = arguments.against or names[0]
    names.insert(0, names.pop(names.index(usual)))
    curves = {
        name: {
            seed: json.loads((folder(arguments, name, seed) / CURVES).read_text())["final"]
            for seed in seeds_of(plan, name)
            if seed in seeds_of(plan, usual)
        }
        for name in names
    }
    base = curves[usual]
    first, *others = base.values()
    spread = ", ".join(f"{bd_rate(curve, first)[0]:+.2f} %" for curve in others)
    print(f"seeds {list(base)}; {json.dumps(plan['options'])}")
    print(f"{usual}: other seeds against the first: {spread or 'none'}\n")
    print("| variant | seeds | BD-rate, mean | least | most |\n|---|--:|--:|--:|--:|")
    for name in names[1:]:
        found = [
            difference(test, base[seed], only_quality(plan, name))
            for seed, test in curves[name].items()
        ]
        print(
            f"| {name} | {len(found)} | {np.mean(found):+.2f} % "
            f"| {min(found):+.2f} % | {max(found):+.2f} % |"
        )
    if arguments.plot:
        plot(plan, curves, arguments.plot)


if __name__ == "__main__":
    with ending_in_a_line():
        if sys.argv[1:2] == ["--one"]:
            train_and_measure(json.loads(sys.argv[2]))
        else:
            main()
