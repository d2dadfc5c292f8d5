#!/usr/bin/env python3
"""What --tune does: BD-rates against AVIF at some positions of the second dial, as a table.

    scripts/measure_tune.py VAL --name "the validation pictures" --write docs/qualities.md

codes every picture at some qualities and positions, and with AVIF (speed 6, 4:4:4, its default
tuning), through real files and without effort. With --write the table in that document, between
its two marks, is replaced.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
from measure_qualities import replace
from numpy.typing import NDArray
from tqdm import tqdm

from vrcodec.codec.settings import EncodeSettings
from vrcodec.conditional.dials import TUNE
from vrcodec.errors import ending_in_a_line
from vrcodec.evaluation.bjontegaard import bd_rate
from vrcodec.evaluation.codecs import Coder, find
from vrcodec.evaluation.codecs.own import OwnCodec
from vrcodec.evaluation.metrics import METRICS
from vrcodec.evaluation.rate_distortion import mean_curve, measure, read_rgb
from vrcodec.extras import require
from vrcodec.training.data import find_pictures

MARKS = "<!-- table of scripts/measure_tune.py -->", "<!-- end of that table -->"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("images", type=Path, nargs="+", help="folders of pictures")
    parser.add_argument("--name", default="these pictures", help="what to call them")
    parser.add_argument("--limit", type=int, help="only so many pictures, evenly spread")
    parser.add_argument("--weights", type=Path, help="weights file (default: the released one)")
    parser.add_argument("--positions", default="0,0.25,0.5,0.75,1", help="comma-separated")
    parser.add_argument("--qualities", default="0,0.2,0.4,0.6,0.8,1", help="comma-separated")
    parser.add_argument("--write", type=Path, metavar="FILE", help="replace the table in FILE")
    arguments = parser.parse_args()
    require("ssimulacra2", "pytorch_msssim")
    paths = find_pictures(arguments.images)
    if arguments.limit and arguments.limit < len(paths):
        spread = np.linspace(0, len(paths) - 1, arguments.limit).round().astype(int)
        paths = [paths[i] for i in spread]
    pictures = [read_rgb(path) for path in paths]
    positions = [float(text) for text in arguments.positions.split(",")]
    qualities = [float(text) for text in arguments.qualities.split(",")]
    (avif,) = find(["avif"])
    anchor = curve(avif, pictures, avif.qualities, "AVIF")
    curves = {}
    for position in positions:
        settings = EncodeSettings.of(dials={TUNE: position})
        own = OwnCodec(arguments.weights, "cpu", settings=settings)
        curves[position] = curve(own, pictures, qualities, f"{TUNE} {position:g}")
    megapixels = sum(picture.shape[0] * picture.shape[1] for picture in pictures) / 1e6
    text = (
        f"Weights {own.codec.weights_id}, effort 0; {arguments.name}: {len(pictures)} pictures, "
        f"{megapixels:.1f} megapixels; BD-rates against AVIF (speed 6, 4:4:4, default tuning).\n\n"
    ) + table(curves, anchor)
    print(text)
    if arguments.write:
        replace(arguments.write, text, MARKS)


def curve(
    coder: Coder, pictures: list[NDArray[np.uint8]], qualities: Any, what: str
) -> dict[str, Any]:
    """Means over the pictures for every quality."""
    points = []
    for quality in tqdm(qualities, what, unit="point", disable=not sys.stderr.isatty()):
        points.append([measure(coder, picture, quality) for picture in pictures])
    return mean_curve(points)


def table(curves: dict[float, dict[str, Any]], anchor: dict[str, Any]) -> str:
    """A row for every position, a column for every metric."""
    titles = " | ".join(metric.title for metric in METRICS.values())
    lines = [f"| `--tune` | {titles} |", "|--:|" + "--:|" * len(METRICS)]
    for position, measured in curves.items():
        rates = [f"{bd_rate(measured, anchor, name)[0]:+.1f} %" for name in METRICS]
        lines.append(f"| {position:g} | {' | '.join(rates)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    with ending_in_a_line():
        main()
