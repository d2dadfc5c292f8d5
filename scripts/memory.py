#!/usr/bin/env python3
"""Measure peak memory and time of `vrcodec encode` and `vrcodec decode` on large pictures.

Prints one JSON object per run. The picture is an enlarged test picture with noise, a JPEG
file; it is decoded to PNG. Peak RSS is the whole process's, Pillow and Python included.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MAKE_PICTURE = """
import sys
import numpy as np
from PIL import Image
source, target, width, height = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
image = Image.open(source).convert("RGB").resize((width, height), Image.Resampling.BICUBIC)
rng = np.random.default_rng(0)
grain = rng.integers(-6, 7, (256, width, 3), dtype=np.int8)
for top in range(0, height, 256):
    strip = np.asarray(image.crop((0, top, width, min(top + 256, height))))
    strip = (strip + grain[: len(strip)].astype(np.int16)).clip(0, 255).astype(np.uint8)
    image.paste(Image.fromarray(strip), (0, top))
image.save(target, quality=95)
"""


def peak_of(command: list[str]) -> dict[str, float]:
    """Run a command to its end: {"seconds", "peak_mb"}, megabytes of 10^6 bytes.

    The caller must be small: a process counts as its own what its parent had when it began.
    """
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    start = time.perf_counter()
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}: exit status {process.returncode}")
    unit = 1 if sys.platform == "darwin" else 1024
    return {
        "seconds": round(time.perf_counter() - start, 1),
        "peak_mb": round(usage.ru_maxrss * unit / 1e6),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megapixels", type=float, nargs="+", default=[24, 100])
    parser.add_argument("--aspect", type=float, default=1.5, help="width / height")
    parser.add_argument("--quality", type=float, default=0.5)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--format", default="png", help="of the decoded picture")
    arguments = parser.parse_args()
    options = ["--device", "cpu"]
    if arguments.weights:
        options += ["--weights", str(arguments.weights)]
    with tempfile.TemporaryDirectory() as folder:
        for megapixels in arguments.megapixels:
            width = round(math.sqrt(megapixels * 1e6 * arguments.aspect))
            height = round(megapixels * 1e6 / width)
            source, coded, decoded = (
                os.path.join(folder, name) for name in ("a.jpg", "a.vrc", f"b.{arguments.format}")
            )
            picture = ROOT / "tests" / "pictures" / "lighthouse.png"
            subprocess.run(
                [sys.executable, "-c", MAKE_PICTURE, picture, source, str(width), str(height)],
                check=True,
            )
            for action, command in (
                ("encode", ["encode", source, "-o", coded, "-q", str(arguments.quality)]),
                ("decode", ["decode", coded, "-o", decoded]),
            ):
                facts = {"action": action, "width": width, "height": height}
                facts |= peak_of(
                    [sys.executable, "-m", "vrcodec", *command, *options, "--overwrite"]
                )
                print(json.dumps(facts | {"vrc_bytes": os.path.getsize(coded)}), flush=True)


if __name__ == "__main__":
    main()
