#!/usr/bin/env python3
"""Coverage-guided fuzzing of what reads hostile input, with atheris (`pip install -e .[fuzz]`).

    scripts/fuzz.py TARGET CORPUS [libFuzzer options, such as -max_total_time=600]

Inputs are mutated as what they are: a file is parsed, its fields and sections are changed one
by one, and the checksums computed anew, so that damage arrives behind them. Targets
(`tests/fuzz_targets.py` says what each of them asserts):

* container: a file is parsed, as the reference decoder parses it.
* entropy: bytes are decoded under small tables, to what the reference decoder makes of them.
* decode: a whole file of a tiny model, with a trellis or without, is decoded to a picture, and that
  written as a file.
* weights: a weights file is read, and a picture coded with it.
* metadata: what stands around the pixels of a picture file is read: EXIF, XMP, profiles, boxes.
* pictures: a picture file of any kind goes through the door, and is prepared for coding.

CORPUS is a folder for the inputs that reached something new; it is filled with a few valid ones
and those of `tests/corpus` where it is empty. An input that raises anything but a VrcodecError,
takes more than a minute (of the clock) or needs more memory than `MEMORY` ends the run and is kept
beside CORPUS, as a file `TARGET-crash-*` and the like. A file in the place of CORPUS is tried
alone.

A run ends after `RUNS` inputs, and goes on when it is started again: under atheris the memory of
`entropy` and `decode` grows by 2 to 3 kB an input. The same inputs without atheris, 84,000 and
14,000 times, leave it as it was.
"""

from __future__ import annotations

import dataclasses
import json
import random
import resource
import struct
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import atheris
import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

with atheris.instrument_imports(include=["vrcodec"]):
    import fuzz_targets
    from fuzz_targets import MAX_PIXELS, TARGETS, tiny_codec

    from vrcodec.bitstream import container
    from vrcodec.bitstream.checksum import SymbolsCrc
    from vrcodec.bitstream.container import Extra, Header, SourceKind, Stream
    from vrcodec.codec.codec import Codec
    from vrcodec.conditional.dials import Conditioning
    from vrcodec.errors import VrcodecError

MEMORY = 1 << 30
"""Address space that a run may need beyond what it begins with."""
RUNS = 200_000
LIBFUZZER_OPTIONS = ["-timeout=60", "-max_len=30000", f"-runs={RUNS}"]

Mutator = Callable[[bytes, int, int], bytes]


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
    version_1 = {"weights_id": rng.randbytes(3).hex(), "source_kind": SourceKind.UNKNOWN}
    version_1["version"] = 1
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
                {"weights_id": rng.randbytes(8).hex()},
                {"version": rng.choice([2, 3])},
                {"source_kind": rng.choice(list(SourceKind))},
                version_1,
            ]
        ),
    )


def symbols_checksum(codec: Codec, stream: Stream) -> int:
    """The checksum that a file's symbols have; its own where they cannot be decoded."""
    header = stream.header
    if header.width * header.height > MAX_PIXELS:
        return stream.symbols_crc
    crcs: list[SymbolsCrc] = []

    class Watched(SymbolsCrc):
        def __init__(self, *arguments: Any) -> None:
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


VALUES = ["0", "-1", "true", "null", "1e400", "NaN", "[]", "{}", '"8"', "8.5", "9" * 400, "2048"]
NUMBERS = [0.0, -1.0, 1e-40, 65504.0, 1e38, float("inf"), float("nan")]


def mutate_weights(data: bytes, max_size: int, seed: int) -> bytes:
    """Change bytes, a value of the configuration, an entry of the header, or parameters."""
    rng = random.Random(seed)
    header, zero, changes = data.partition(b"\0")
    if rng.random() < 0.3:
        place = struct.pack("<I", rng.randrange(len(fuzz_targets.tiny_weights()[1])))
        value = struct.pack("<f", rng.choice(NUMBERS)) if rng.random() < 0.7 else rng.randbytes(4)
        changed = header + b"\0" + changes + place + value
    else:
        try:
            changed = changed_weights_header(rng, header) + zero + changes
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            changed = b""
    if rng.random() < 0.2 or not 0 < len(changed) <= max_size:
        return bytes(atheris.Mutate(data, max_size))
    return changed


def changed_weights_header(rng: random.Random, header: bytes) -> bytes:
    """One change of a safetensors header; whatever it raises, it is none any more."""
    entries = json.loads(header)
    name = rng.choice(sorted(entries))
    kind = rng.randrange(4)
    if kind == 0:
        config = json.loads(entries["__metadata__"]["config"])
        config[rng.choice(sorted(config))] = "@"
        text = json.dumps(config).replace('"@"', rng.choice(VALUES))
        entries["__metadata__"]["config"] = text
    elif kind == 1:
        del entries[name]
    elif kind == 2:
        entries[rng.choice([name, "__metadata__"])] = "@"
    else:
        key = rng.choice(sorted(entries[name]))
        entries[name][key] = rng.choice(["@", entries[rng.choice(sorted(entries))].get(key)])
    return json.dumps(entries).replace('"@"', rng.choice(VALUES)).encode()


def mutate_picture(data: bytes, max_size: int, seed: int) -> bytes:
    """Change bytes of a file, or of a chunk of a PNG file, whose checksum is computed anew."""
    rng = random.Random(seed)
    at = data.find(PNG_SIGNATURE)
    if at not in {0, 1} or rng.random() < 0.2:
        return bytes(atheris.Mutate(data, max_size))
    start, chunks = at + len(PNG_SIGNATURE), []
    place = start
    while place + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, place)
        chunks.append([data[place + 4 : place + 8], data[place + 8 : place + 8 + length]])
        place += 12 + length
    if not chunks:
        return bytes(atheris.Mutate(data, max_size))
    chosen = rng.choice(chunks)
    if rng.random() < 0.3:
        chosen[0] = rng.choice([b"eXIf", b"iTXt", b"zTXt", b"iCCP", b"cICP", b"tRNS", b"acTL"])
    chosen[1] = mutated(chosen[1], max(1, max_size - len(data)))
    body = b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )
    return (data[:start] + body)[:max_size]


PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
MUTATORS: dict[str, Mutator] = {
    "container": mutate_file,
    "entropy": mutate_entropy,
    "decode": lambda data, size, seed: mutate_file(data, size, seed, tiny_codec()),
    "weights": mutate_weights,
    "metadata": mutate_picture,
    "pictures": mutate_picture,
}


def main() -> None:
    if len(sys.argv) < 3 or sys.argv[1] not in MUTATORS:
        raise SystemExit(__doc__)
    target, corpus, options = sys.argv[1], Path(sys.argv[2]), sys.argv[3:]
    torch.set_num_threads(1)
    attempt, valid = TARGETS[target]
    if corpus.is_file():
        attempt(corpus.read_bytes())
        return
    corpus.mkdir(parents=True, exist_ok=True)
    if not any(corpus.iterdir()):
        for number, data in enumerate(valid()):
            (corpus / f"valid-{number}").write_bytes(data)
        for path in (fuzz_targets.CORPUS / target).glob("*"):
            (corpus / path.name).write_bytes(path.read_bytes())
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
        custom_mutator=MUTATORS[target],
    )
    atheris.Fuzz()


if __name__ == "__main__":
    main()
