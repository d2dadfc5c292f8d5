#!/usr/bin/env python3
"""Compare ways to train at equal budgets, with the spread of two or more seeds.

    scripts/ablate.py PLAN.json --train DIR... --val DIR -o OUT [--plot FILE.png]

PLAN.json names the variants, the first being what the others are compared with:

    {
      "options": "--steps 3000 --batch 8 --patch 128 --decay 0.3",
      "seeds": [0, 1],
      "config": {"width8": 128},
      "variants": {
        "as released": {},
        "Muon": {"options": "--optimizer muon"},
        "deeper context": {"config": {"context_blocks": 1}}
      }
    }

`options` are those of `vrcodec train`; `config` changes single values of the model's shape. Every
variant is trained once per seed into OUT/VARIANT/SEED and measured on the validation pictures;
what is there already is not done again. Prints a Markdown table: BD-rate (PSNR) over the dial
against the first variant of the same seed, its mean and its range over the seeds. An effect
within the range of the first variant's seeds against each other counts as none.

For twins trained for one quality (`--only-quality Q`) a curve is one point: the table says by how
many percent of rate it is off the first variant's curve at its own PSNR. `--plot` draws that
difference along the dial: a line for each curve, a point for each twin.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from scipy.interpolate import PchipInterpolator

from vrcodec.evaluation.bjontegaard import bd_rate
from vrcodec.model.config import ModelConfig
from vrcodec.training.run import WEIGHTS, validate


def trained(
    plan: dict[str, Any], name: str, seed: int, arguments: argparse.Namespace
) -> dict[str, list[float]]:
    """The validation curve of a variant, trained first if it is not there."""
    variant = plan["variants"][name]
    run = arguments.output / name.replace(" ", "-").replace("/", "-") / str(seed)
    curve = run / "curve.json"
    if not curve.exists():
        run.mkdir(parents=True, exist_ok=True)
        shape = dataclasses.asdict(ModelConfig()) | plan.get("config", {})
        (run / "config.json").write_text(json.dumps(shape | variant.get("config", {})))
        command = [sys.executable, "-m", "vrcodec", "train", *map(str, arguments.train)]
        command += ["-o", str(run), "--seed", str(seed)]
        command += shlex.split(plan["options"]) + shlex.split(variant.get("options", ""))
        if (run / "checkpoint.pt").exists():
            command.append("--resume")
        elif "--init" not in command:
            command += ["--config", str(run / "config.json")]
        print(shlex.join(command), file=sys.stderr)
        subprocess.run(command, check=True)
        curve.write_text(json.dumps(validate(run / WEIGHTS, arguments.val, "cpu")))
    result: dict[str, list[float]] = json.loads(curve.read_text())
    return result


def only_quality(plan: dict[str, Any], name: str) -> float | None:
    """The one quality that a variant is trained for."""
    options = shlex.split(plan["variants"][name].get("options", ""))
    if "--only-quality" not in options:
        return None
    return float(options[options.index("--only-quality") + 1])


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
    plan: dict[str, Any], curves: dict[str, list[dict[str, list[float]]]], path: Path
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
        for seed, (test, base) in enumerate(zip(curves[name], curves[names[0]], strict=True)):
            points = along_the_dial(test, base)
            if quality is not None:
                at = nearest(test["quality"], quality)
                points = [point for point in points if point[0] == at]
            axes.plot(*zip(*points, strict=True), "-" if quality is None else "o",
                      color=f"C{number}", label=None if seed else name)
    axes.set(xlabel="quality", ylabel="bits at equal PSNR, %", xlim=(0, 1))
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("plan", type=Path)
    parser.add_argument("--train", type=Path, nargs="+", required=True)
    parser.add_argument("--val", type=Path, required=True)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the differences")
    arguments = parser.parse_args()
    plan = json.loads(arguments.plan.read_text())
    seeds = plan["seeds"]
    names = list(plan["variants"])
    curves = {
        name: [trained(plan, name, seed, arguments) for seed in seeds] for name in names
    }
    base = curves[names[0]]
    spread = [bd_rate(curve, base[0])[0] for curve in base[1:]]
    print(f"seeds {seeds}; {plan['options']}")
    print(f"{names[0]}: other seeds against the first {', '.join(f'{s:+.2f} %' for s in spread)}\n")
    print("| variant | BD-rate, mean | least | most |\n|---|--:|--:|--:|")
    for name in names[1:]:
        found = [
            difference(test, usual, only_quality(plan, name))
            for test, usual in zip(curves[name], base, strict=True)
        ]
        print(f"| {name} | {np.mean(found):+.2f} % | {min(found):+.2f} % | {max(found):+.2f} % |")
    if arguments.plot:
        plot(plan, curves, arguments.plot)


if __name__ == "__main__":
    main()
