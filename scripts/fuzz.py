#!/usr/bin/env python3
"""Coverage-guided fuzzing of the decoder, with atheris (`pip install -e .[fuzz]`).

    scripts/fuzz.py TARGET CORPUS [libFuzzer options, such as -max_total_time=600]

Inputs are mutated as what they are: a file is parsed, its fields and sections are changed one
by one, and the checksums computed anew, so that damage arrives behind them. Targets:

* container: a file is parsed. It is accepted if and only if `tests/reference_decoder.py`
  accepts it, and what is accepted is packed to the same bytes again.
* entropy: bytes are decoded under small tables, to what the reference decoder makes of them.
* decode: a whole file of the tiny model is decoded to a picture, and that written as a file.

CORPUS is a folder for the inputs that reached something new; it is filled with a few valid ones
where it is empty. An input that raises anything but a VrcodecError, takes more than a minute (of
the clock) or needs more memory than `MEMORY` ends the run and is kept beside CORPUS, as a file
`TARGET-crash-*` and the like. A file in the place of CORPUS is tried alone.

A run ends after `RUNS` inputs, and goes on when it is started again: under atheris the memory of
`entropy` and `decode` grows by 2 to 3 kB an input. The same inputs without atheris, 84,000 and
14,000 times, leave it as it was.
"""

from __future__ import annotations

import dataclasses
import random
import resource
import struct
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import atheris
import numpy as np
import torch
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import reference_decoder as reference  # noqa: E402

with atheris.instrument_imports(include=["vrcodec"]):
    from vrcodec.coding import symbols, tables

    from vrcodec.bitstream import container
    from vrcodec.bitstream.container import Extra, Header, Stream, SymbolsCrc
    from vrcodec.codec.codec import Codec
    from vrcodec.conditional.dials import Conditioning
    from vrcodec.errors import VrcodecError
    from vrcodec.pictures import FORMATS, save_picture

MAX_PIXELS = 1 << 14
MEMORY = 1 << 30
"""Address space that a run may need beyond what it begins with."""
RUNS = 200_000
LIBFUZZER_OPTIONS = ["-timeout=60", "-max_len=20000", f"-runs={RUNS}"]

Mutator = Callable[[bytes, int, int], bytes]


# Targets


def try_container(data: bytes) -> None:
    """One input of the target `container`."""
    try:
        stream = container.unpack(data)
    except VrcodecError as error:
        assert str(error).isprintable(), str(error)
        stream = None
    try:
        reference.read_file(data)
    except reference.InvalidFile:
        assert stream is None, "accepted, but the reference decoder refuses it"
        return
    assert stream is not None, "refused, but the reference decoder accepts it"
    assert container.pack(stream) == data
    bits = container.describe(data)["bits"]
    assert sum(bits.values()) == 8 * len(data) and min(bits.values()) >= 0


ENTROPY_TABLES = tables.concatenate(
    [-2, 0, 5, -32767, -20],
    [
        np.array(counts, dtype=np.int32)
        for counts in (
            [1000, 20000, 30000, 14000, 500, 36],
            [65536, 0],
            [0, 0, 40000, 25000, 536],
            [0, 0, 65536],
            [1600] * 40 + [1536],
        )
    ],
)
REFERENCE_TABLES = reference.read_tables(
    {
        f"tables.t.{field}": getattr(ENTROPY_TABLES, field).astype(np.int64)
        for field in ("low", "size", "counts")
    },
    "t",
)


def try_entropy(data: bytes) -> None:
    """One input of the target `entropy`: a count, which tables, and a section."""
    if len(data) < 2:
        return
    numbers = np.random.default_rng(data[1]).integers(0, len(ENTROPY_TABLES), 1 + data[0])
    section = data[2:]
    try:
        expected = reference.decode_section(section, numbers, REFERENCE_TABLES).tolist()
    except reference.InvalidFile:
        expected = None
    try:
        values = symbols.decode(section, numbers, ENTROPY_TABLES)
    except VrcodecError:
        assert expected is None, "refused, but the reference decoder accepts it"
        return
    assert values.tolist() == expected, "other values than the reference decoder's"
    coded = symbols.encode(values, numbers, ENTROPY_TABLES)
    assert symbols.decode(coded, numbers, ENTROPY_TABLES).tolist() == expected


def tiny_codec() -> Codec:
    return Codec(ROOT / "vrcodec" / "data" / "golden" / "tiny.safetensors", "cpu", MAX_PIXELS)


def try_decode(codec: Codec, data: bytes) -> None:
    """One input of the target `decode`."""
    try:
        picture = codec.decode(data)
    except VrcodecError as error:
        assert str(error).isprintable(), str(error)
        return
    header = container.unpack(data).header
    assert picture.size == (header.width, header.height)
    try:
        save_picture(picture, FORMATS[zlib.crc32(data) % len(FORMATS)])
    except VrcodecError as error:
        assert str(error).isprintable(), str(error)


# Valid inputs to begin with


def valid_files(codec: Codec) -> list[bytes]:
    """Small files with everything that a file can have."""
    picture = Image.open(ROOT / "tests" / "pictures" / "hibiscus.png")
    files = []
    for number, size in enumerate([(1, 1), (16, 16), (17, 40), (75, 53)]):
        image = picture.crop((0, 0, *size))
        if number == 1:
            image = image.convert("L")
        if number > 1:
            image.putalpha(Image.linear_gradient("L").resize(size))
            image.info |= {"dpi": (72, 72), "exif": b"Exif\0\0II*\0\x08\0\0\0\0\0", "xmp": b"<x/>"}
            image.info["icc_profile"] = bytes(16) + b"RGB " + bytes(108)
        files.append(codec.encode(image, number / 3))
    return files


def valid_sections() -> list[bytes]:
    """Inputs of the target `entropy`: common symbols, rare ones, and escapes of every class."""
    inputs = []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        count = int(rng.integers(1, 257))
        numbers = np.random.default_rng(seed).integers(0, len(ENTROPY_TABLES), count)
        values = rng.integers(-3, 4, count) * 8 ** rng.integers(0, 5, count)
        section = symbols.encode(values, numbers, ENTROPY_TABLES)
        inputs.append(bytes([count - 1, seed]) + section)
    return inputs


# Mutations


def mutate_file(data: bytes, max_size: int, seed: int, codec: Codec | None = None) -> bytes:
    """Change a file in one or two places, and mend its checksums.

    With a codec, the checksum of the symbols as well, where they can be decoded.
    """
    rng = random.Random(seed)
    try:
        stream = container.unpack(data)
    except VrcodecError:
        stream = None
    if stream is None or rng.random() < 0.15:
        return with_checksum(atheris.Mutate(data[:-4], max(1, max_size - 4)))
    try:
        for _ in range(rng.choice([1, 1, 2])):
            stream = change(rng, stream, data, max_size)
        if codec and rng.random() < 0.8:
            stream = dataclasses.replace(stream, symbols_crc=symbols_checksum(codec, stream))
        return container.pack(stream)[:max_size]
    except (VrcodecError, ValueError):  # a header that cannot be
        return with_checksum(atheris.Mutate(data[:-4], max(1, max_size - 4)))


def with_checksum(data: bytes) -> bytes:
    return data + struct.pack(">I", zlib.crc32(data))


def change(rng: random.Random, stream: Stream, data: bytes, max_size: int) -> Stream:
    """One change: of a section's bytes, the set of extra sections, or a fact in the header."""
    room = max(1, max_size - len(data) + 64)
    kind = rng.randrange(8)
    if kind < 2:
        return dataclasses.replace(stream, z=mutated(stream.z, room))
    if kind < 4:
        at = rng.randrange(len(stream.y))
        y = (*stream.y[:at], mutated(stream.y[at], room), *stream.y[at + 1 :])
        return dataclasses.replace(stream, y=y)
    if kind < 6:
        extras, tag = dict(stream.extras), rng.choice(list(Extra))
        if rng.random() < 0.2:
            extras.pop(tag, None)
        else:
            extras[tag] = mutated(extras.get(tag, b""), room)
        return dataclasses.replace(stream, extras=extras)
    if kind == 6:
        return dataclasses.replace(stream, symbols_crc=rng.getrandbits(16))
    header = changed_header(rng, stream.header)
    # So many that they could not all be there, and `pack` refuses, become damage of bytes.
    count = min(header.section_count, max_size)
    return dataclasses.replace(stream, header=header, y=(*stream.y, *[b""] * count)[:count])


def mutated(body: bytes, room: int) -> bytes:
    return bytes(atheris.Mutate(body, len(body) + min(room, 256)))


def changed_header(rng: random.Random, header: Header) -> Header:
    side = rng.choice([1, 15, 16, 17, 64, 65, 128, 1000, 1 << 17, 131073, 1 << 24])
    ones = tuple(rng.choices([0, 1, 4095, 4096, 28672, 32768], k=rng.choice([1, 1, 1, 2, 8])))
    return dataclasses.replace(
        header,
        **rng.choice(
            [
                {"width": side},
                {"height": side},
                {"width": side, "height": rng.randint(1, 130)},
                {"conditioning": Conditioning(ones)},
                {"grey": not header.grey},
                {"sixteen_bit": not header.sixteen_bit},
                {"weights_id": rng.randbytes(3).hex()},
            ]
        ),
    )


def symbols_checksum(codec: Codec, stream: Stream) -> int:
    """The CRC-16 that a file's symbols have; its own where they cannot be decoded."""
    header = stream.header
    if header.width * header.height > MAX_PIXELS:
        return stream.symbols_crc
    crcs: list[SymbolsCrc] = []

    class Watched(SymbolsCrc):
        def __init__(self, *arguments: int) -> None:
            super().__init__(*arguments)
            crcs.append(self)

    own = sys.modules["vrcodec.codec.latents"].SymbolsCrc  # type: ignore[attr-defined]
    sys.modules["vrcodec.codec.latents"].SymbolsCrc = Watched  # type: ignore[attr-defined]
    try:
        codec.pipeline.read_latents(stream)
    except VrcodecError as error:
        if "checksum of the decoded symbols" not in str(error):
            return stream.symbols_crc
    finally:
        sys.modules["vrcodec.codec.latents"].SymbolsCrc = own  # type: ignore[attr-defined]
    return crcs[-1].value


def mutate_entropy(data: bytes, max_size: int, seed: int) -> bytes:
    """Change bytes, and take back what only the rule about zeros at the end would see."""
    return bytes(atheris.Mutate(data, max_size)).rstrip(b"\0") or b"\1"


def main() -> None:
    if len(sys.argv) < 3 or sys.argv[1] not in {"container", "entropy", "decode"}:
        raise SystemExit(__doc__)
    target, corpus, options = sys.argv[1], Path(sys.argv[2]), sys.argv[3:]
    torch.set_num_threads(1)
    codec = tiny_codec()
    runs: dict[str, tuple[Callable[[bytes], None], Mutator, Callable[[], list[bytes]]]] = {
        "container": (try_container, mutate_file, lambda: valid_files(codec)),
        "entropy": (try_entropy, mutate_entropy, valid_sections),
        "decode": (
            lambda data: try_decode(codec, data),
            lambda data, size, seed: mutate_file(data, size, seed, codec),
            lambda: valid_files(codec),
        ),
    }
    attempt, mutate, seeds = runs[target]
    if corpus.is_file():
        attempt(corpus.read_bytes())
        return
    corpus.mkdir(parents=True, exist_ok=True)
    if not any(corpus.iterdir()):
        for number, data in enumerate(seeds()):
            (corpus / f"valid-{number}").write_bytes(data)
    for path in corpus.glob("valid-*"):
        attempt(path.read_bytes())
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    atheris.Setup(
        [
            sys.argv[0],
            *LIBFUZZER_OPTIONS,
            f"-artifact_prefix={corpus}/../{target}-",
            *options,
            str(corpus),
        ],
        attempt,
        custom_mutator=mutate,
    )
    atheris.Fuzz()


if __name__ == "__main__":
    main()
