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
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import AvifImagePlugin, Image, features

from vrcodec import files, pictures
from vrcodec.bitstream import container, range_coder
from vrcodec.codec import codec as codec_module
from vrcodec.codec.codec import Codec

MATRIX = 1024
AVIF = {"quality": 75, "speed": 6}

Stages = dict[str, list[tuple[Any, str]]]


def encode_stages(codec: Codec) -> Stages:
    """The functions that make up each stage of encoding."""
    model = codec.model
    return {
        "read": [(pictures, "open_picture"), (pictures, "to_coded")],
        "analysis": [(model, "latents")],
        "entropy model": [(model, "hyper_symbols"), (model, "symbols"), (codec, "_indexes")],
        "entropy coding": [
            (range_coder, "encode"),
            (container.SymbolsCrc, "update"),
            (container, "pack"),
        ],
        "write": [(files, "write_atomically")],
    }


def decode_stages(codec: Codec) -> Stages:
    """The functions that make up each stage of decoding; `reconstruct` calls the synthesis."""
    model = codec.model
    return {
        "read": [(files, "read_bytes"), (container, "unpack")],
        "entropy coding": [(range_coder, "decode"), (container.SymbolsCrc, "update")],
        "entropy model": [(model, "reconstruct"), (codec, "_indexes")],
        "synthesis": [(model.synthesis, "forward")],
        "write": [(pictures, "save_picture"), (files, "write_atomically")],
    }


class Stopwatch:
    """Time spent in functions, each one's without that of watched ones that it calls."""

    def __init__(self, device: torch.device) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._device = device
        self._inner: list[float] = []

    @contextlib.contextmanager
    def watching(self, stages: Stages) -> Iterator[None]:
        """Count calls of these functions, until the end of the context."""
        with contextlib.ExitStack() as stack:
            for stage, functions in stages.items():
                for owner, name in functions:
                    own = name in vars(owner)
                    original = getattr(owner, name)
                    setattr(owner, name, self._watched(stage, original))
                    stack.callback(setattr if own else _delete, owner, name, *([original] * own))
            yield

    def _watched(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any, **options: Any) -> Any:
            self._inner.append(0.0)
            start = self._now()
            try:
                return function(*arguments, **options)
            finally:
                whole = self._now() - start
                self.seconds[stage] += whole - self._inner.pop()
                if self._inner:
                    self._inner[-1] += whole

        return timed

    def _now(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter()


def _delete(owner: Any, name: str) -> None:
    delattr(owner, name)


def warm(codec: Codec, picture: bytes, quality: float, repeat: int) -> dict[str, Any]:
    """Encode and decode a picture file again and again, from file to file.

    Returns:
        For "encode" and "decode": seconds of each stage and "other" (medians), their sum as
        "total", and megapixels per second: "mp_per_s" from file to file, "coding_mp_per_s"
        without reading and writing, from memory to memory.
    """
    with tempfile.TemporaryDirectory() as folder:
        coded, decoded = Path(folder, "a.vrc"), Path(folder, "a.png")

        def encode() -> None:
            image = pictures.open_picture(picture, "picture", codec.max_pixels)
            files.write_atomically(coded, codec.encode(image, quality), overwrite=True)

        def decode() -> None:
            image = codec.decode(files.read_bytes(coded))
            files.write_atomically(decoded, pictures.save_picture(image, "png"), overwrite=True)

        encode()
        facts = container.describe(coded.read_bytes())
        megapixels = facts["width"] * facts["height"] / 1e6
        results: dict[str, Any] = {"megapixels": megapixels, "bpp": facts["bpp"]}
        for action, work, stages in (
            ("encode", encode, encode_stages(codec)),
            ("decode", decode, decode_stages(codec)),
        ):
            work()
            runs = [_one_run(codec.device, work, stages) for _ in range(repeat)]
            medians = {name: statistics.median(run[name] for run in runs) for name in runs[0]}
            medians["mp_per_s"] = megapixels / medians["total"]
            coding_seconds = medians["total"] - medians["read"] - medians["write"]
            medians["coding_mp_per_s"] = megapixels / coding_seconds
            results[action] = medians
    return results


def _one_run(device: torch.device, work: Callable[[], None], stages: Stages) -> dict[str, float]:
    stopwatch = Stopwatch(device)
    with stopwatch.watching(stages):
        start = time.perf_counter()
        work()
        total = time.perf_counter() - start
    seconds = {stage: stopwatch.seconds[stage] for stage in stages}
    return {**seconds, "other": total - sum(seconds.values()), "total": total}


def cold(picture: bytes, quality: float, options: list[str], repeat: int) -> dict[str, float]:
    """Seconds of whole commands, and of a process that does no more than import torch.

    Args:
        options: for both commands.
    """
    root = str(Path(codec_module.__file__).parents[1])
    environment = os.environ | {
        "OMP_NUM_THREADS": str(torch.get_num_threads()),
        "PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")])),
    }
    with tempfile.TemporaryDirectory() as folder:
        source, coded, decoded = (f"{folder}/{name}" for name in ("a", "a.vrc", "b.png"))
        Path(source).write_bytes(picture)
        command = [sys.executable, "-m", "vrcodec"]
        commands = {
            "import torch": [sys.executable, "-c", "import torch"],
            "encode": [*command, "encode", source, "-o", coded, "-q", str(quality)],
            "decode": [*command, "decode", coded, "-o", decoded],
        }
        seconds = {}
        for name, arguments in commands.items():
            if name != "import torch":
                arguments += ["--overwrite", *options]
            run = functools.partial(
                subprocess.run, arguments, env=environment, check=True, stdout=subprocess.DEVNULL
            )
            seconds[name] = statistics.median(_seconds(run) for _ in range(repeat))
    return seconds


def matrix_product(device: torch.device, repeat: int) -> float:
    """GFLOP/s of a float32 matrix product, 1024 x 1024 by 1024 x 1024."""
    a = torch.rand(MATRIX, MATRIX, device=device)

    def multiply() -> None:
        (a @ a)[0, 0].item()

    multiply()
    return 2 * MATRIX**3 / min(_seconds(multiply) for _ in range(max(repeat, 5))) / 1e9


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
