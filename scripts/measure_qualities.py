#!/usr/bin/env python3
"""What qualities look like: the table beside a weights file, which presets and --help read.

    scripts/measure_qualities.py VAL --name "the validation pictures" --write docs/qualities.md

codes every picture at some qualities, through real files and without effort, and writes means of
bits per pixel, PSNR and SSIMULACRA2 to NAME.qualities.json beside the weights (--save elsewhere).
With --write the table in that document, between its two marks, is replaced. --show measures
nothing, and writes the document from the table that is there.
"""

from __future__ import annotations

import argparse
import datetime
import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from vrcodec.codec.presets import PRESETS, Look, read_qualities, table_of
from vrcodec.errors import ending_in_a_line
from vrcodec.evaluation.codecs.own import OwnCodec
from vrcodec.evaluation.rate_distortion import mean_curve, measure, read_rgb
from vrcodec.extras import require
from vrcodec.model.identity import default_weights
from vrcodec.training.data import find_pictures

MARKS = "<!-- table of scripts/measure_qualities.py -->", "<!-- end of the table -->"
QUALITIES = "0,0.1,0.2,0.3,0.4,0.5,0.6,0.7,0.8,0.9,1"
SHOWN = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
FIELDS = ("quality", "bpp", "psnr", "ssimulacra2")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("images", type=Path, nargs="*", help="folders of pictures")
    parser.add_argument("--name", default="", help="what to call them")
    parser.add_argument("--limit", type=int, help="only so many pictures, evenly spread")
    parser.add_argument("--weights", type=Path, help="weights file (default: the released one)")
    parser.add_argument("--qualities", default=QUALITIES, help="comma-separated (%(default)s)")
    parser.add_argument("--save", type=Path, help="the table (default: beside the weights)")
    parser.add_argument("--write", type=Path, metavar="FILE", help="replace the table in FILE")
    parser.add_argument("--show", action="store_true", help="measure nothing")
    arguments = parser.parse_args()
    path = arguments.save or table_of(arguments.weights or default_weights())
    if not arguments.show:
        if not arguments.images:
            parser.error("name folders of pictures")
        path.write_text(json.dumps(measured(arguments), indent=1) + "\n")
    text = document(path)
    print(text)
    if arguments.write:
        replace(arguments.write, text)


def measured(arguments: argparse.Namespace) -> dict[str, Any]:
    """The table: means over the pictures for every quality."""
    require("ssimulacra2")
    qualities = sorted(float(text) for text in arguments.qualities.split(","))
    codec = OwnCodec(arguments.weights, "cpu")
    paths = find_pictures(arguments.images)
    if arguments.limit and arguments.limit < len(paths):
        spread = np.linspace(0, len(paths) - 1, arguments.limit).round().astype(int)
        paths = [paths[i] for i in spread]
    points: dict[float, list[Any]] = {quality: [] for quality in qualities}
    pixels = 0
    for path in tqdm(paths, unit="picture", disable=not sys.stderr.isatty()):
        rgb = read_rgb(path)
        pixels += rgb.shape[0] * rgb.shape[1]
        for quality in qualities:
            points[quality].append(measure(codec, rgb, quality))
    curve = mean_curve(points.values())
    called = f"{arguments.name}: " if arguments.name else ""
    return {
        "weights": codec.codec.weights_id,
        "measured": datetime.date.today().isoformat(),
        "pictures": f"{called}{len(paths)} pictures, {pixels / 1e6:.1f} megapixels",
        "looks": [
            {name: round(curve[name][number], 4) for name in FIELDS}
            for number in range(len(qualities))
        ],
    }


def document(path: Path) -> str:
    """The table for people."""
    found = read_qualities(path)
    about = f"Weights {found.weights}, effort 0; {found.pictures}; means over pictures"
    lines = [f"{about}; measured {found.measured}.", ""]
    lines += _table("quality", [(f"{quality:.1f}", found.at(quality)) for quality in SHOWN])
    lines += ["", *_table("preset", [(name, found.preset(name)) for name in PRESETS], True)]
    return "\n".join(lines) + "\n"


def _table(head: str, rows: list[tuple[str, Look]], with_quality: bool = False) -> list[str]:
    extra = " quality |" * with_quality
    lines = [f"| {head} |{extra} PSNR, dB | SSIMULACRA2 | bits per pixel |"]
    lines.append("|--:|" + "--:|" * (3 + with_quality))
    for name, look in rows:
        where = f" {look.quality:.2f} |" * with_quality
        numbers = f"{look.psnr:.1f} | {look.ssimulacra2:.0f} | {look.bpp:.2f}"
        lines.append(f"| {name} |{where} {numbers} |")
    return lines


def replace(path: Path, table: str, marks: tuple[str, str] = MARKS) -> None:
    """Put a table into a document, between its marks."""
    pattern = re.compile(f"({re.escape(marks[0])}\n).*?({re.escape(marks[1])})", re.DOTALL)
    text, count = pattern.subn(lambda match: f"{match[1]}\n{table}\n{match[2]}", path.read_text())
    if not count:
        sys.exit(f"Error: {path}: no {marks[0]}")
    path.write_text(text)


if __name__ == "__main__":
    with ending_in_a_line():
        main()
