#!/usr/bin/env python3
"""Measure whether the memory of `vrcodec encode FOLDER` grows with the number of pictures.

Makes small pictures of noise, encodes the folder with the tiny model of the tests, and prints one
JSON object per tenth of the run: results so far, and resident memory in MB (10^6 bytes) of the
command and of each of its workers. Linux only: reads /proc.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
TINY = ROOT / "vrcodec" / "data" / "golden" / "tiny.safetensors"
PER_FOLDER = 1000


def resident_mb(pid: int) -> float:
    """Resident memory of a process, 0 if it has gone."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return round(pages * os.sysconf("SC_PAGE_SIZE") / 1e6, 1)


def descendants(pid: int) -> list[int]:
    """A process's children, and theirs."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except (FileNotFoundError, ProcessLookupError):
        return []
    return [found for child in map(int, children) for found in (child, *descendants(child))]


def is_worker(pid: int) -> bool:
    """Whether this process codes pictures, for either engine."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return b"spawn_main" in command or b"ray::_Coder" in command


def make_pictures(folder: Path, count: int, side: int) -> None:
    """Square PNG files, a thousand to a folder."""
    random = np.random.default_rng(0)
    for number in range(count):
        place = folder / f"{number // PER_FOLDER:03}"
        place.mkdir(exist_ok=True)
        pixels = random.integers(0, 256, (side, side, 3), np.uint8)
        Image.fromarray(pixels).save(place / f"{number}.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=10_000)
    parser.add_argument("--side", type=int, default=32, help="pixels")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--engine", choices=["local", "ray"], default="local")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(folder, "in"), Path(folder, "out")
        source.mkdir()
        make_pictures(source, arguments.pictures, arguments.side)
        command = [
            sys.executable,
            "-m",
            "vrcodec",
            "encode",
            str(source),
            "-o",
            str(out),
            "--device",
            "cpu",
            "--weights",
            str(TINY),
            "--jobs",
            str(arguments.jobs),
            "--engine",
            arguments.engine,
            "--json",
        ]
        process = subprocess.Popen(
            command, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE
        )
        assert process.stdout
        start = time.perf_counter()
        for done, _ in enumerate(process.stdout, 1):
            if done % (arguments.pictures // 10) == 0:
                workers = [pid for pid in descendants(process.pid) if is_worker(pid)]
                print(
                    json.dumps(
                        {
                            "pictures": done,
                            "seconds": round(time.perf_counter() - start, 1),
                            "command_mb": resident_mb(process.pid),
                            "workers_mb": [resident_mb(pid) for pid in workers],
                        }
                    ),
                    flush=True,
                )
        if process.wait():
            raise SystemExit(f"{' '.join(command)}: exit status {process.returncode}")


if __name__ == "__main__":
    main()
