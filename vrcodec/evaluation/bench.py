"""How fast the codec is: by stage, and beside yardsticks timed in the same run.

Seconds of one machine on one day say little. So every run also times a plain matrix product and
another codec, and what can be compared are the ratios.
"""

from __future__ import annotations

import contextlib
import functools
import io
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import AvifImagePlugin, Image, features

from vrcodec import files, pictures
from vrcodec.bitstream import container
from vrcodec.codec.codec import Codec
from vrcodec.codec.stages import DECODE_STAGES, ENCODE_STAGES, READ, WRITE, listening, stage

MATRIX = 1024
BARE = "import numpy and Pillow"
"""What any program that opens a picture does first: the yardstick of a cold command."""
_NEIGHBOUR = "while True: pass"
AVIF = {"quality": 75, "speed": 6}


def warm(
    codec: Codec, picture: bytes, quality: float, repeat: int, product: float
) -> dict[str, Any]:
    """Encode and decode a picture file again and again, from file to file.

    Args:
        product: multiply-accumulates per second of `matrix_product`.

    Returns:
        For "encode" and "decode": seconds of each stage and "other" (medians), their sum as
        "total", and megapixels per second: "mp_per_s" from file to file, "coding_mp_per_s"
        without reading and writing, from memory to memory; and as "products" the time of the
        latter in units of what its multiply-accumulates take in a matrix product.
    """
    with tempfile.TemporaryDirectory() as folder:
        coded, decoded = Path(folder, "a.vrc"), Path(folder, "a.png")

        def encode() -> None:
            with stage(READ):
                image = pictures.open_picture(picture, "picture", codec.max_pixels)
            data = codec.encode(image, quality)
            with stage(WRITE):
                files.write_atomically(coded, data, overwrite=True)

        def decode() -> None:
            with stage(READ):
                data = files.read_bytes(coded)
            image = codec.decode(data)
            with stage(WRITE):
                content = pictures.save_picture(image, "png")
                files.write_atomically(decoded, content, overwrite=True)

        encode()
        facts = container.describe(coded.read_bytes())
        megapixels = facts["width"] * facts["height"] / 1e6
        results: dict[str, Any] = {"megapixels": megapixels, "bpp": facts["bpp"]}
        for action, work, stages in (
            ("encode", encode, ENCODE_STAGES),
            ("decode", decode, DECODE_STAGES),
        ):
            work()
            runs = [_one_run(codec.device, work, stages) for _ in range(repeat)]
            medians = {name: statistics.median(run[name] for run in runs) for name in runs[0]}
            medians["mp_per_s"] = megapixels / medians["total"]
            coding_seconds = medians["total"] - medians["read"] - medians["write"]
            medians["coding_mp_per_s"] = megapixels / coding_seconds
            macs = 1e9 * megapixels * codec.summary()[f"{action}_kmac_per_pixel"]
            medians["products"] = coding_seconds * product / macs
            results[action] = medians
    return results


def _one_run(device: str, work: Callable[[], None], stages: Sequence[str]) -> dict[str, float]:
    """Seconds of the stages, of what is outside of them, and of all."""
    clock = functools.partial(_seconds_on, torch.device(device))
    heard: dict[str, float] = defaultdict(float)

    def hear(name: str, own: float) -> None:
        heard[name] += own

    start = clock()
    with listening(hear, clock):
        work()
    total = clock() - start
    seconds = {name: heard[name] for name in stages}
    return {**seconds, "other": total - sum(seconds.values()), "total": total}


def _seconds_on(device: torch.device) -> float:
    """A clock that lets a GPU come to the end of what it has been given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


@contextlib.contextmanager
def busy_neighbour() -> Iterator[None]:
    """Meanwhile, another process keeps one core busy."""
    process = subprocess.Popen([sys.executable, "-c", _NEIGHBOUR])
    try:
        time.sleep(0.2)  # until it is at work
        yield
    finally:
        process.kill()
        process.wait()


def cold(picture: bytes, quality: float, options: list[str], repeat: int) -> dict[str, float]:
    """Seconds of whole commands, and of processes that do no more than import something.

    Args:
        options: for both commands.
    """
    root = str(Path(__file__).parents[2])
    environment = os.environ | {
        "OMP_NUM_THREADS": str(torch.get_num_threads()),
        "PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")])),
    }
    with tempfile.TemporaryDirectory() as folder:
        source, coded, decoded = (f"{folder}/{name}" for name in ("a", "a.vrc", "b.png"))
        Path(source).write_bytes(picture)
        command = [sys.executable, "-m", "vrcodec"]
        commands = {
            BARE: [sys.executable, "-c", "import numpy, PIL.Image"],
            "import torch": [sys.executable, "-c", "import torch"],
            "encode": [*command, "encode", source, "-o", coded, "-q", str(quality)],
            "decode": [*command, "decode", coded, "-o", decoded],
        }
        seconds = {}
        for name, arguments in commands.items():
            if name in ("encode", "decode"):
                arguments += ["--overwrite", *options]
            run = functools.partial(
                subprocess.run, arguments, env=environment, check=True, stdout=subprocess.DEVNULL
            )
            seconds[name] = statistics.median(_seconds(run) for _ in range(repeat))
    return seconds


def matrix_product(device: str, repeat: int) -> float:
    """Multiply-accumulates per second of a float32 matrix product, 1024 x 1024 by 1024 x 1024."""
    a = torch.rand(MATRIX, MATRIX, device=device)

    def multiply() -> None:
        (a @ a)[0, 0].item()

    multiply()
    return MATRIX**3 / min(_seconds(multiply) for _ in range(max(repeat, 5)))


def avif(picture: bytes, repeat: int) -> dict[str, Any] | None:
    """Megapixels per second of AVIF through Pillow in memory, on as many threads as torch has."""
    if not features.check("avif"):
        return None
    threads = AvifImagePlugin.DEFAULT_MAX_THREADS = torch.get_num_threads()
    with Image.open(io.BytesIO(picture)) as file:
        image = file.convert("RGB")
    buffer = io.BytesIO()

    def encode() -> None:
        buffer.seek(0)
        buffer.truncate()
        image.save(buffer, "AVIF", max_threads=threads, **AVIF)

    def decode() -> None:
        with Image.open(io.BytesIO(buffer.getvalue())) as file:
            file.load()

    megapixels = image.width * image.height / 1e6
    speeds = {}
    for name, work in (("encode", encode), ("decode", decode)):
        work()
        speeds[name] = megapixels / statistics.median(_seconds(work) for _ in range(repeat))
    bpp = 8 * len(buffer.getvalue()) / (image.width * image.height)
    return {
        "encode_mp_per_s": speeds["encode"],
        "decode_mp_per_s": speeds["decode"],
        "bpp": bpp,
        **AVIF,
    }


def standard_picture(width: int = 768, height: int = 512) -> bytes:
    """A PNG file with about the detail of a photograph: noise of all sizes, always the same."""
    rng = np.random.default_rng(0)
    total = np.zeros((height, width, 3), dtype=np.float32)
    for size in (4, 16, 64, 256):
        shape = (-(-height // (256 // size)), -(-width // (256 // size)), 3)
        layer = rng.integers(0, 256, shape, dtype=np.uint8)
        scaled = Image.fromarray(layer).resize((width, height), Image.Resampling.BICUBIC)
        total += (np.asarray(scaled, dtype=np.float32) - 128) / size**0.7 * 2
    buffer = io.BytesIO()
    Image.fromarray((total + 128).clip(0, 255).astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
