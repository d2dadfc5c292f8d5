#!/usr/bin/env python3
"""Rate-distortion of the weights on a folder of pictures, beside other codecs' curves.

    scripts/measure.py --images kodak -o kodak.json

codes every picture at every quality through real files, prints the means and the BD-rate
against every curve in scripts/anchors (which hold for the 24 Kodak pictures, and say nothing
about others), and writes everything as JSON.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path

from vrcodec import Codec
from vrcodec.evaluation.bjontegaard import bd_rate, load_curves
from vrcodec.evaluation.rate_distortion import DIAL, rd_curve
from vrcodec.training.data import find_pictures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True, help="folder of pictures")
    parser.add_argument("--weights", type=Path, help="weights file (default: the released one)")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--qualities", help="comma-separated (default: 0, 0.1 ... 1)")
    parser.add_argument("--against", type=Path, help="JSON of an earlier run to compare with")
    parser.add_argument("-o", "--output", type=Path, help="write the results as JSON")
    arguments = parser.parse_args()
    qualities = DIAL
    if arguments.qualities:
        qualities = tuple(float(text) for text in arguments.qualities.split(","))
    codec = Codec(arguments.weights, arguments.device)
    paths = find_pictures([arguments.images])
    curve = rd_curve(codec, paths, qualities, progress=sys.stderr.isatty())
    curve["weights_id"] = codec.weights_id
    if arguments.output:
        arguments.output.write_text(json.dumps(curve) + "\n")

    print(f"weights {codec.weights_id}, {len(paths)} pictures")
    print("quality     bpp   PSNR dB  MS-SSIM  encode s  decode s  file vs estimate")
    per_image = curve["per_image"]
    for i, quality in enumerate(qualities):
        ms_ssim = curve["ms_ssim"][i]
        excess = sum(per_image["bytes"][i]) / sum(per_image["estimate"][i]) - 1
        print(f"{quality:7.3f}  {curve['bpp'][i]:6.4f}  {curve['psnr'][i]:7.3f}  "
              f"{'-' if ms_ssim is None else format(ms_ssim, '.5f'):>7}  "
              f"{curve['enc_s'][i]:8.3f}  {curve['dec_s'][i]:8.3f}  {100 * excess:+.2f} %")
    anchors = load_curves(Path(__file__).parent / "anchors")
    if arguments.against:
        anchors = {arguments.against.name: json.loads(arguments.against.read_text())} | anchors
    print("\nBD-rate against            PSNR  overlap dB      MS-SSIM  overlap dB")
    for name, anchor in anchors.items():
        cells = []
        for metric in ("psnr", "ms_ssim"):
            rate, low, high = bd_rate(curve, anchor, metric)
            cells.append(f"{rate:+8.2f} %  {low:5.2f}..{high:5.2f}" if math.isfinite(rate)
                         else f"{'-':>10}  {'':12}")
        print(f"{name:22}  {cells[0]}   {cells[1]}")


if __name__ == "__main__":
    main()
