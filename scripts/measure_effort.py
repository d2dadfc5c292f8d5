#!/usr/bin/env python3
"""What --effort gains and costs: BD-rates and CPU time, as docs/effort.md's table.

    scripts/measure_effort.py --images val --limit 6 --write docs/effort.md

codes every picture with every effort at some qualities and without effort over the whole dial,
through real files. With --write the table in that file, between its two marks, is replaced. With
--tune it is the one whose first mark names that position.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from vrcodec import Codec
from vrcodec.errors import ending_in_a_line
from vrcodec.evaluation.bjontegaard import bd_rate
from vrcodec.evaluation.rate_distortion import DIAL
from vrcodec.extras import require
from vrcodec.pictures import MAX_PIXELS, open_picture
from vrcodec.pictures.metrics import psnr, ssimulacra2
from vrcodec.training.data import find_pictures

Point = tuple[float, ...]
"""Quality, bpp, PSNR, SSIMULACRA2, and CPU seconds per megapixel of encoding."""
MARKS = "<!-- table of scripts/measure_effort.py{} -->", "<!-- end of the table -->"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=Path, nargs="+", required=True, help="folders of pictures")
    parser.add_argument("--limit", type=int, help="only so many pictures, evenly spread")
    parser.add_argument("--weights", type=Path, help="weights file (default: the released one)")
    parser.add_argument("--efforts", default="3,6,9", help="comma-separated (%(default)s)")
    parser.add_argument("--qualities", default="0.2,0.5,0.8", help="comma-separated (%(default)s)")
    parser.add_argument("--tune", type=float, help="position of the second dial")
    parser.add_argument("--write", type=Path, metavar="FILE", help="replace the table in FILE")
    arguments = parser.parse_args()
    efforts = [int(text) for text in arguments.efforts.split(",")]
    qualities = [float(text) for text in arguments.qualities.split(",")]
    require("ssimulacra2")
    codec = Codec(arguments.weights, "cpu")
    paths = find_pictures(arguments.images)
    if arguments.limit and arguments.limit < len(paths):
        spread = np.linspace(0, len(paths) - 1, arguments.limit).round().astype(int)
        paths = [paths[i] for i in spread]
    pictures = [open_picture(path, str(path), MAX_PIXELS).convert("RGB") for path in paths]
    runs = [(0, quality) for quality in sorted({*DIAL, *qualities})]
    runs += [(effort, quality) for effort in efforts for quality in qualities]
    dials = {} if arguments.tune is None else {"tune": arguments.tune}
    curves: dict[int, list[Point]] = {}
    for effort, quality in tqdm(runs, unit="point", disable=not sys.stderr.isatty()):
        points = [
            _point(codec, picture, dials | {"quality": quality}, effort) for picture in pictures
        ]
        curves.setdefault(effort, []).append((quality, *np.mean(points, axis=0)))
    table = _table(curves, qualities)
    megapixels = sum(picture.width * picture.height for picture in pictures) / 1e6
    table = (
        f"Weights {codec.weights_id}; {len(paths)} pictures of {megapixels:.2f} megapixels in all "
        f"({', '.join(path.name for path in paths)}); {torch.get_num_threads()} thread(s).\n\n"
    ) + table
    print(table)
    if arguments.write:
        text = arguments.write.read_text()
        first = MARKS[0].format("" if arguments.tune is None else f" --tune {arguments.tune:g}")
        pattern = re.compile(f"({re.escape(first)}\n).*?({re.escape(MARKS[1])})", re.DOTALL)
        text, count = pattern.subn(lambda match: f"{match[1]}\n{table}\n{match[2]}", text)
        if not count:
            sys.exit(f"Error: {arguments.write}: no {first}")
        arguments.write.write_text(text)


def _point(
    codec: Codec, picture: Image.Image, dials: Mapping[str, float], effort: int
) -> tuple[float, float, float, float]:
    """bpp, PSNR, SSIMULACRA2, and CPU seconds per megapixel of encoding."""
    start = time.process_time()
    data = codec.encode(picture, dials=dials, effort=effort)
    seconds = time.process_time() - start
    pixels = picture.width * picture.height
    shown = np.asarray(picture), np.asarray(codec.decode(data).convert("RGB"))
    perceptual = ssimulacra2(*shown)
    assert perceptual is not None, "a side of less than 8 pixels"
    return 8 * len(data) / pixels, psnr(*shown), perceptual, 1e6 * seconds / pixels


def _table(curves: dict[int, list[Point]], qualities: Sequence[float]) -> str:
    def curve(effort: int) -> dict[str, list[float | None]]:
        return {
            "bpp": [point[1] for point in curves[effort]],
            "psnr": [point[2] for point in curves[effort]],
            "ssimulacra2": [point[3] for point in curves[effort]],
        }

    heads = [f"q {quality:g}: bpp, dB, SSIMULACRA2" for quality in qualities]
    lines = [
        f"| effort | BD-rate PSNR | SSIMULACRA2 | {' | '.join(heads)} | CPU s per megapixel |",
        "|--:|--:|--:|" + "--:|" * (len(heads) + 1),
    ]
    for effort in curves:
        points = [point for point in curves[effort] if point[0] in qualities]
        cells = ["0", "0"]
        if effort:
            pair = curve(effort), curve(0)
            cells = [f"{bd_rate(*pair, name)[0]:+.1f} %" for name in ("psnr", "ssimulacra2")]
        cells += [f"{bpp:.3f}, {db:.2f}, {score:.1f}" for _, bpp, db, score, _ in points]
        cells.append(f"{np.mean([point[-1] for point in points]):.2f}")
        lines.append(f"| {effort} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    with ending_in_a_line():
        main()
