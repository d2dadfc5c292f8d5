"""ONNX Runtime beside PyTorch: time, start and memory, in ratios of one run.

    python scripts/compare_engines.py PICTURE [--threads 1 2] [--repeat 10]

Warm times alternate between the runtimes in one process, and are processor time where there is
one thread, so that a busy machine disturbs both alike; a matrix product of as many
multiply-accumulates stands beside them. Starts and memory are those of whole commands.
"""

from __future__ import annotations

import argparse
import functools
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from vrcodec import Codec
from vrcodec.errors import ending_in_a_line

RUNTIMES = ("torch", "onnx")
PRODUCT = 2048, 768, 768
COMMAND = """
import sys
from vrcodec import Codec
runtime, picture, data = sys.argv[1:]
codec = Codec(runtime=runtime, threads=1)
codec.decode(data) if data else codec.encode(picture)
(line,) = (line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(int(line.split()[1]) / 1e3)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("picture", type=Path)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--repeat", type=int, default=10)
    arguments = parser.parse_args()
    with Image.open(arguments.picture) as file:
        image = file.convert("RGB")
    for threads in arguments.threads:
        warm(image, threads, arguments.repeat)
    cold(arguments.picture, max(1, arguments.repeat // 3))


def warm(image: Image.Image, threads: int, repeat: int) -> None:
    """Print the least and the median seconds of both runtimes, coding the same picture."""
    codecs = {name: Codec(runtime=name, threads=threads) for name in RUNTIMES}
    data = codecs["torch"].encode(image)
    same = codecs["onnx"].encode(image) == data
    verdict = "are equal" if same else "differ"
    print(f"{threads} thread(s), load {os.getloadavg()[0]:.1f}, the two files {verdict}")
    jobs: dict[str, Callable[[Codec], object]] = {
        "encode": lambda codec: codec.encode(image),
        "decode": lambda codec: codec.decode(data),
    }
    clock = time.thread_time if threads == 1 else time.perf_counter
    macs = codecs["torch"].summary()
    for job, run in jobs.items():
        seconds: dict[str, list[float]] = {name: [] for name in (*RUNTIMES, "product")}
        for _ in range(repeat):
            for name, codec in codecs.items():
                seconds[name].append(timed(functools.partial(run, codec), clock))
            share = macs[f"{job}_kmac_per_pixel"] * 1e3 * image.width * image.height
            seconds["product"].append(product(threads, clock) * share / np.prod(PRODUCT))
        least = {name: min(values) for name, values in seconds.items()}
        middle = {name: float(np.median(values)) for name, values in seconds.items()}
        print(f"  {job}: " + ", ".join(f"{n} {least[n]:.3f} ({middle[n]:.3f}) s" for n in least))
        for kind, values in (("least", least), ("median", middle)):
            ratios = values["onnx"] / values["torch"], values["onnx"] / values["product"]
            print(f"    {kind}: onnx / torch {ratios[0]:.2f}, onnx / product {ratios[1]:.2f}")


def timed(call: Callable[[], object], clock: Callable[[], float]) -> float:
    start = clock()
    call()
    return clock() - start


def product(threads: int, clock: Callable[[], float]) -> float:
    """Seconds of one float32 matrix product of PRODUCT multiply-accumulates."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    rows, inner, columns = PRODUCT
    a, b = torch.ones(rows, inner), torch.ones(inner, columns)
    torch.mm(a, b)
    seconds = timed(lambda: torch.mm(a, b), clock)
    torch.set_num_threads(before)
    return seconds


def cold(picture: Path, repeat: int) -> None:
    """Print wall and processor seconds and the memory of processes that code one picture."""
    with tempfile.TemporaryDirectory() as folder:
        coded = Path(folder) / "a.vrc"
        coded.write_bytes(Codec().encode(picture))
        bare = [command(["-c", "import numpy, PIL.Image; print(0)"]) for _ in range(repeat)]
        print(f"cold: import numpy and Pillow {shown(bare)}")
        for job, data in (("encode", ""), ("decode", str(coded))):
            runs: dict[str, list[tuple[float, float, float]]] = {name: [] for name in RUNTIMES}
            for _ in range(repeat):
                for name in RUNTIMES:
                    runs[name].append(command(["-c", COMMAND, name, str(picture), data]))
            for name in RUNTIMES:
                print(f"  {job} in {name}: {shown(runs[name])}")


def command(arguments: list[str]) -> tuple[float, float, float]:
    """Wall seconds and processor seconds of a Python, and what it printed last."""
    before, start = os.times(), time.perf_counter()
    result = subprocess.run([sys.executable, *arguments], capture_output=True, check=True)
    wall, after = time.perf_counter() - start, os.times()
    used = after.children_user + after.children_system
    used -= before.children_user + before.children_system
    return wall, used, float(result.stdout.split()[-1])


def shown(runs: list[tuple[float, float, float]]) -> str:
    wall, used, memory = (min(values) for values in zip(*runs, strict=True))
    return f"{wall:.2f} s, {used:.2f} CPU s" + (f", {memory:.0f} MB" if memory else "")


if __name__ == "__main__":
    with ending_in_a_line():
        main()
