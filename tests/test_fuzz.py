"""Thousands of damaged files: every one is decoded or refused with a VrcodecError.

The decoder runs in one subprocess (`python test_fuzz.py`), so that a crash, a hang and a
runaway allocation are failures of this test and not of the test run. Case n is always the
same damage to the same file: to look into one, call `damaged_case(n)`.

Damage alone seldom gets past the checksum of the symbols. What comes after it is reached by
files of a hostile encoder: everything in them is right, but the symbols are anything.
"""

from __future__ import annotations

import collections
import dataclasses
import faulthandler
import io
import json
import os
import random
import struct
import subprocess
import sys
import time
import zlib
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import golden_files
from numpy.typing import NDArray
from PIL import Image
from reference_decoder import Cursor

import vrcodec
from vrcodec.bitstream import range_coder
from vrcodec.bitstream.checksum import SymbolsCrc
from vrcodec.bitstream.container import (
    Extra,
    Header,
    Stream,
    pack,
    unpack,
)
from vrcodec.bitstream.trellis import Part
from vrcodec.codec import sections
from vrcodec.codec.codec import Codec
from vrcodec.conditional.dials import ONE, Conditioning

DATA = Path(__file__).parents[1] / "vrcodec" / "data" / "golden"
CASES = 3000
HOSTILE_CASES = 200
SECONDS_PER_CASE = 15
MEMORY = 2 << 30
"""Address space that decoding may need beyond what the loaded model takes."""
MAX_PIXELS = 1_000_000


@lru_cache
def sources() -> list[bytes]:
    """The golden files, and two of each version once more with every extra section."""
    golden = [path.read_bytes() for path in golden_files()]
    first, second = golden[:2], [data for data in golden if unpack(data).header.version == 2]
    return golden + [_with_extras(data) for data in (*first, *second[:2])]


def _with_extras(data: bytes) -> bytes:
    stream = unpack(data)
    alpha = io.BytesIO()
    size = (stream.header.width, stream.header.height)
    Image.effect_noise(size, 80).save(alpha, "PNG")
    extras = {
        Extra.ALPHA: alpha.getvalue(),
        Extra.ICC: bytes(range(128)),
        Extra.EXIF: b"II*\0\x08\0\0\0\0\0",
        Extra.XMP: b"<x/>",
        Extra.DPI: bytes([0, 1, 0x19, 0x40] * 2),
    }
    return pack(dataclasses.replace(stream, extras=extras))


def damaged_case(number: int) -> bytes:
    """Case `number`: the odd ones have a correct CRC-32."""
    bytewise = [_flip, _cut, _insert, _overwrite]
    rng = random.Random(number)
    data = rng.choice(sources())
    if number % 2 == 0:
        return rng.choice(bytewise)(rng, data)
    damage = rng.choice([*bytewise, _field, _section, _section, _section, _header])
    return _repaired(damage(rng, data))


def _repaired(data: bytes) -> bytes:
    return data[:-4] + struct.pack(">I", zlib.crc32(data[:-4]))


def _flip(rng: random.Random, data: bytes) -> bytes:
    damaged = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 8])):
        damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
    return bytes(damaged)


def _cut(rng: random.Random, data: bytes) -> bytes:
    start, end = sorted(rng.randrange(len(data) + 1) for _ in range(2))
    return rng.choice([data[:start], data[:start] + data[end:], data[start:]])


def _insert(rng: random.Random, data: bytes) -> bytes:
    position = rng.randrange(len(data) + 1)
    return data[:position] + _filling(rng, data, rng.choice([1, 4, 400])) + data[position:]


def _overwrite(rng: random.Random, data: bytes) -> bytes:
    start = rng.randrange(len(data))
    length = min(rng.choice([1, 2, 4, 16, 400]), len(data) - start)
    return data[:start] + _filling(rng, data, length) + data[start + length :]


def _filling(rng: random.Random, data: bytes, length: int) -> bytes:
    start = rng.randrange(len(data))
    copied = data[start : start + length]
    return rng.choice([bytes(length), b"\xff" * length, rng.randbytes(length), copied])


def _field(rng: random.Random, data: bytes) -> bytes:
    """Replace one of the header's varints, or move bytes from one to another."""
    fields = _varints(data)
    (start, end, value), (other_start, other_end, other_value) = sorted(rng.sample(fields, 2))
    if rng.random() < 0.4:
        moved = rng.randint(-other_value, value)
        return (
            data[:start]
            + _varint(value - moved)
            + data[end:other_start]
            + _varint(other_value + moved)
            + data[other_end:]
        )
    new = rng.choice([0, 1, value + 1, 2 * value, 255, 1 << 24, rng.getrandbits(35)])
    return data[:start] + _varint(new) + data[end:]


def _varints(data: bytes) -> list[tuple[int, int, int]]:
    """Start, end and value of every varint in the header of a valid file."""
    cursor = Cursor(data)
    version, flags = divmod(cursor.take(4)[3], 16)
    if version == 2:
        flags = cursor.unsigned(1) & 15 if flags & 8 else 0
    cursor.take(3 if version == 1 else 8)
    found = []

    def read() -> None:
        start = cursor.position
        value = cursor.varint()
        found.append((start, cursor.position, value))

    read()
    read()
    cursor.take(2)
    if flags & 4:
        while entry := cursor.unsigned(1):
            read()
            if version == 2 and entry >> 5 == 1:  # deflated
                read()
    for _ in range(1 + len(unpack(data).y)):
        read()
    return found


def _varint(value: int) -> bytes:
    """Also of negative numbers and of more than five bytes: somehow."""
    value &= (1 << 42) - 1
    digits = [value & 127]
    while value := value >> 7:
        digits[-1] |= 128
        digits.append(value & 127)
    return bytes(digits)


def _section(rng: random.Random, data: bytes) -> bytes:
    """Damage one section and keep the header's lengths right."""
    stream = unpack(data)
    bodies = {"z": stream.z, "y": stream.y[0], **stream.extras}
    target = rng.choice(list(bodies))
    damage = rng.choice([_flip, _cut, _insert, _overwrite, _filled, _swapped])
    body = _swapped(rng, data) if not bodies[target] else damage(rng, bodies[target])
    if target == "z":
        return pack(dataclasses.replace(stream, z=body))
    if target == "y":
        return pack(dataclasses.replace(stream, y=(body, *stream.y[1:])))
    return pack(dataclasses.replace(stream, extras={**stream.extras, target: body}))


def _filled(rng: random.Random, data: bytes) -> bytes:
    return _filling(rng, data, len(data))


def _swapped(rng: random.Random, data: bytes) -> bytes:
    other = unpack(rng.choice(sources()))
    return rng.choice([other.z, other.y[0], b""])


def _header(rng: random.Random, data: bytes) -> bytes:
    """Other facts about the same sections, or about empty ones, which decode to any size."""
    stream = unpack(data)
    if rng.random() < 0.3:
        stream = dataclasses.replace(stream, z=b"", y=(b"",))
    header = stream.header
    side = rng.choice([1, 16, 17, 255, 1000])
    several = rng.choices(range(ONE), k=rng.randint(2, 8))
    change = rng.choice(
        [
            {"width": header.width + rng.choice([-1, 1])},
            {"height": header.height + 1},
            {"width": side, "height": rng.choice([1, 33, 1000])},
            {"width": 1000, "height": 1000},
            {"width": 1000, "height": 2000},
            {"conditioning": Conditioning((rng.randint(0, ONE),))},
            {"conditioning": Conditioning(tuple(several))},
            {"grey": not header.grey},
            {"sixteen_bit": not header.sixteen_bit},
        ]
    )
    return pack(dataclasses.replace(stream, header=dataclasses.replace(header, **change)))


def hostile_case(number: int, codec: Codec) -> bytes:
    """A valid file of arbitrary symbols, up to the largest there are."""
    rng = np.random.default_rng(number)
    width, height = rng.integers(1, 100, 2).tolist()
    conditioning = Conditioning((int(rng.integers(ONE + 1)),))
    header = Header(
        width,
        height,
        codec.weights_id,
        conditioning,
        grey=bool(rng.integers(2)),
    )
    rows, columns = header.latent_size

    def values(*shape: int) -> NDArray[np.int32]:
        limit = rng.choice([1, 300, 32767])
        dense = rng.integers(-limit, limit + 1, shape, dtype=np.int32)
        return np.where(rng.random(shape) < rng.choice([0.01, 1]), dense, 0)

    channels = codec.weights.config.hyper
    z = values(channels, *header.hyper_size)
    z_tables = codec.weights.z_tables
    z_numbers = z_tables.numbers(header.hyper_size, conditioning)
    at = slice(0, rows), slice(0, columns)
    indexes = codec.pipeline.networks.scale_indexes(z.astype(np.int16), conditioning, at)
    y = values(*indexes.shape)
    crc = SymbolsCrc(z)
    crc.update(y)
    part = Part.whole(rows, columns)
    return pack(
        Stream(
            header,
            range_coder.encode(z.ravel(), z_numbers, z_tables.tables),
            (sections.encoded(y, indexes, codec.weights.y_tables, conditioning, part),),
            crc.value,
        )
    )


@dataclasses.dataclass
class Report:
    """Numbers of damaged cases, and of all cases by outcome; seconds of the slowest."""

    cases: int = 0
    repaired: int = 0
    reached_z: int = 0
    reached_y: int = 0
    reached_pixels: int = 0
    hostile: int = 0
    slowest: float = 0.0
    outcomes: dict[str, int] = dataclasses.field(default_factory=dict)


def fuzz() -> Report:
    """Decode every case. Whatever is not a VrcodecError ends it with a traceback."""
    torch.set_num_threads(1)
    codec = Codec(weights=DATA / "tiny.safetensors", device="cpu", max_pixels=MAX_PIXELS)
    for data in sources():
        codec.decode(data)
    _limit_memory()
    read = _count_calls(range_coder.Decoder, "take")
    pictures = _count_calls(codec.pipeline.networks, "synthesis")
    report = Report()
    outcomes: collections.Counter[str] = collections.Counter()

    def attempt(data: bytes) -> str:
        faulthandler.dump_traceback_later(SECONDS_PER_CASE, exit=True)
        start = time.monotonic()
        outcome = _outcome(codec, data)
        report.slowest = max(report.slowest, time.monotonic() - start)
        faulthandler.cancel_dump_traceback_later()
        outcomes[outcome] += 1
        return outcome

    for number in range(CASES):
        print("damaged case", number, file=sys.stderr)
        data = damaged_case(number)
        read.clear()
        pictures.clear()
        attempt(data)
        report.cases += 1
        report.repaired += _repaired(data) == data
        report.reached_z += len(read) > 0
        report.reached_y += len(read) > 1
        report.reached_pixels += len(pictures) > 0
    for number in range(HOSTILE_CASES):
        print("hostile case", number, file=sys.stderr)
        report.hostile += attempt(hostile_case(number, codec)) == "decoded"
    report.outcomes = dict(outcomes)
    return report


def _outcome(codec: Codec, data: bytes) -> str:
    try:
        picture = codec.decode(data)
    except vrcodec.VrcodecError as error:
        assert str(error).isprintable(), f"not one line: {error}"
        return type(error).__name__
    header = unpack(data).header
    assert picture.size == (header.width, header.height)
    return "decoded"


def _count_calls(owner: object, name: str) -> list[None]:
    """Wrap a function; the list gets an element per call."""
    original = getattr(owner, name)
    calls: list[None] = []

    def counted(*args: object, **kwargs: object) -> object:
        calls.append(None)
        return original(*args, **kwargs)

    setattr(owner, name, counted)
    return calls


def _limit_memory() -> None:
    if sys.platform == "linux":
        import resource

        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


@pytest.mark.slow
def test_damaged_files_are_decoded_or_refused() -> None:
    paths = [str(Path(vrcodec.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [sys.executable, __file__],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, f"exit code {done.returncode}\n{done.stderr[-4000:]}"
    report = Report(**json.loads(done.stdout))
    assert report.cases == CASES
    assert report.repaired >= CASES // 2
    assert report.reached_z >= 800
    assert report.reached_y >= 600
    assert report.reached_pixels >= 100
    assert report.hostile == HOSTILE_CASES
    assert set(report.outcomes) >= {
        "decoded",
        "NotVrcError",
        "TruncatedError",
        "CorruptError",
        "FormatError",
        "PictureError",
    }


if __name__ == "__main__":
    print(json.dumps(dataclasses.asdict(fuzz())))
