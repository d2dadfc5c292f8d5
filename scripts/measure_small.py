#!/usr/bin/env python3
"""How near pictures decoded smaller are to whole ones made smaller, as docs/pictures.md's table.

    scripts/measure_small.py VAL --limit 5 --write docs/pictures.md

With --write the table in that document, between its two marks, is replaced.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from measure_qualities import replace
from PIL import Image

from vrcodec import Codec
from vrcodec.bitstream.grid import REDUCTIONS
from vrcodec.errors import ending_in_a_line
from vrcodec.evaluation.rate_distortion import read_rgb
from vrcodec.pictures.metrics import psnr
from vrcodec.training.data import find_pictures

MARKS = "<!-- table of scripts/measure_small.py -->", "<!-- end of the table -->"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("images", type=Path, nargs="+", help="folders of pictures")
    parser.add_argument("--limit", type=int, help="only so many pictures, evenly spread")
    parser.add_argument("--weights", type=Path, help="weights file (default: the released one)")
    parser.add_argument("--qualities", default="0,0.5,1", help="comma-separated (%(default)s)")
    parser.add_argument("--write", type=Path, metavar="FILE", help="replace the table in FILE")
    arguments = parser.parse_args()
    codec = Codec(arguments.weights, "cpu")
    paths = find_pictures(arguments.images)
    if arguments.limit and arguments.limit < len(paths):
        spread = np.linspace(0, len(paths) - 1, arguments.limit).round().astype(int)
        paths = [paths[i] for i in spread]
    qualities = [float(text) for text in arguments.qualities.split(",")]
    pictures = [Image.fromarray(read_rgb(path)) for path in paths]
    names = ", ".join(path.name for path in paths)
    lines = [f"Weights {codec.weights_id}; {names}; PSNR in dB, means over pictures.", ""]
    lines += ["| scale | quality | to the whole | the whole to the source | to the source |"]
    lines += ["|--:|--:|--:|--:|--:|"]
    for quality in qualities:
        files = [codec.encode(picture, quality) for picture in pictures]
        wholes = [codec.decode(data) for data in files]
        for reduce in REDUCTIONS[1:]:
            rows = [
                distances(codec.decode(data, reduce), whole.reduce(reduce), source.reduce(reduce))
                for data, whole, source in zip(files, wholes, pictures, strict=True)
            ]
            cells = " | ".join(f"{value:.1f}" for value in np.mean(rows, axis=0))
            lines.append(f"| 1/{reduce} | {quality:g} | {cells} |")
    table = "\n".join(lines) + "\n"
    print(table)
    if arguments.write:
        replace(arguments.write, table, MARKS)


def distances(
    small: Image.Image, whole: Image.Image, source: Image.Image
) -> tuple[float, float, float]:
    """PSNR of a small picture to the whole one, of that to the source, and of the small one."""
    a, b, c = (np.asarray(image.convert("RGB")) for image in (small, whole, source))
    return psnr(b, a), psnr(c, b), psnr(c, a)


if __name__ == "__main__":
    with ending_in_a_line():
        main()
