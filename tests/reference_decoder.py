"""Reference decoder: the bytes of a .vrc file to its symbols, exactly, in integers alone.

Written from docs/bitstream.md (the numbers in the comments are its sections) and sharing no
code with vrcodec. Slow, short and free of floating point; meant to be read, and to be copied
by whoever writes another decoder.
"""

from __future__ import annotations

import binascii
import bisect
import dataclasses
import hashlib
import itertools
import json
import math
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]

Y_CHANNELS = 768
LARGEST_SYMBOL = 32767
KNOWN_EXTRAS = (1, 2, 3, 4, 5, 6)
ICC = 2
PLAIN, DEFLATE, LISTED = 0, 1, 2
SOURCE_KINDS = 14
LARGEST_EXPANDED = 16 << 20
METADATA = Path(__file__).parents[1] / "vrcodec" / "data" / "metadata"
PROFILES = ("srgb-hp-perceptual.icc", "srgb-hp-relative.icc", "srgb-2014.icc")


class InvalidFile(Exception):
    """The bytes break a rule of docs/bitstream.md."""


def require(condition: bool, message: str) -> None:
    if not condition:
        raise InvalidFile(message)


def decode_symbols(data: bytes, weights: bytes) -> tuple[Integers, Integers]:
    """All symbols of a file: z (Z, h, w) and y (768, rows, columns), with a trellis its levels.

    Raises:
        InvalidFile: the file is not valid, or was made with other weights.
    """
    file = read_file(data)
    tensors, config, weights_id = read_weights(weights)
    require(weights_id.startswith(file.weights_id), "made with other weights")
    z_channels = tensors["fixed.0.weight"].shape[1]

    z_rows, z_columns = -(-file.rows // 4), -(-file.columns // 4)
    bucket = min(file.conditioning[0] >> 12, 7)
    z_tables = read_tables(tensors, "z")
    place = z_place(file.conditioning, len(z_tables) // z_channels)
    z_numbers = np.repeat(place * z_channels + np.arange(z_channels), z_rows * z_columns)
    z = decode_section(file.z, z_numbers, z_tables)
    z = z.reshape(z_channels, z_rows, z_columns)

    y_tables = read_tables(tensors, "y")
    y_indexes = scale_indexes(z, file.conditioning, tensors)[:, : file.rows, : file.columns]
    chains = read_chains(config, file)
    expected = (3072,) if config.get("trellis_step") else (64, 1024)
    require(len(y_tables) in expected, "wrong number of tables")
    if chains:
        y_tables = y_tables[1024 + 256 * bucket : 1024 + 256 * (bucket + 1)]
    elif len(y_tables) > 64:
        y_tables = y_tables[128 * bucket : 128 * (bucket + 1)]
    parts = []
    for section, top in zip(file.y, range(0, file.rows, file.section_rows), strict=True):
        indexes = y_indexes[:, top : top + file.section_rows]
        numbers = indexes if len(y_tables) == 64 else by_kind(indexes, config["core"])
        parts.append(
            decode_y_section(section, file.version, indexes, numbers, y_tables, chains, top)
        )

    checksum = symbols_checksum(file.version, z, parts)
    require(checksum == file.symbols_crc, "the symbols' checksum is wrong")
    return z, np.concatenate(parts, axis=1)


def symbols_checksum(version: int, z: Integers, y: list[Integers]) -> int:
    """Of z and the sections of y."""
    if version >= 3:
        return zlib.crc32(b"".join(part.astype(">i2").tobytes() for part in (*y, z))) & 0xFFFF
    crc = 0xFFFF
    for symbols in (z, *y):
        crc = binascii.crc_hqx(symbols.astype(">i2").tobytes(), crc)
    return crc


# 1. File, 2. Grids


@dataclasses.dataclass
class File:
    weights_id: bytes
    width: int
    height: int
    conditioning: list[int]
    version: int = 2
    source_kind: int = 0
    symbols_crc: int = 0
    extras: dict[int, bytes] = dataclasses.field(default_factory=dict)
    z: bytes = b""
    y: list[bytes] = dataclasses.field(default_factory=list)

    @property
    def rows(self) -> int:
        return -(-self.height // 16)

    @property
    def columns(self) -> int:
        return -(-self.width // 16)

    @property
    def section_rows(self) -> int:
        return max(1, 8192 // self.columns)


class Cursor:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.position = 0

    def take(self, count: int) -> bytes:
        end = self.position + count
        require(end <= len(self.data), "the file is cut short")
        part = self.data[self.position : end]
        self.position = end
        return part

    def unsigned(self, count: int) -> int:
        return int.from_bytes(self.take(count), "big")

    def varint(self) -> int:
        value = 0
        for digit in range(5):
            byte = self.unsigned(1)
            value |= (byte & 0x7F) << (7 * digit)
            if byte < 0x80:
                require(byte > 0 or digit == 0, "a varint has a superfluous zero group")
                return value
        raise InvalidFile("a varint has more than five bytes")


def read_file(data: bytes) -> File:
    """Split a file into its parts and verify its CRC-32."""
    cursor = Cursor(data)
    require(cursor.take(3) == b"VRC", "not a .vrc file")
    version, flags = divmod(cursor.unsigned(1), 16)
    require(version in (1, 2, 3), "unknown version")
    kind = 0
    if version > 1:
        kind, flags, more = flags & 7, 0, flags & 8
        if more:
            further = cursor.unsigned(1)
            require(further > 0, "superfluous flags")
            kind, flags = kind + 8 * (further >> 4), further & 15
        require(kind < SOURCE_KINDS, "unknown kind of source")
    weights_id = cursor.take(3 if version == 1 else 8)
    width, height = cursor.varint(), cursor.varint()
    require(1 <= width <= 1 << 17 and 1 <= height <= 1 << 24, "impossible size")
    count = 1
    if flags & 8:
        count = cursor.unsigned(1)
        require(2 <= count <= 8, "impossible number of conditioning values")
    conditioning = [cursor.unsigned(2) for _ in range(count)]
    require(max(conditioning) <= 32768, "conditioning value out of range")
    file = File(weights_id, width, height, conditioning, version, kind)

    entries: list[tuple[int, int, int, int]] = []
    if flags & 4:
        last = 0
        while byte := cursor.unsigned(1):
            coding, tag = (0, byte) if version == 1 else divmod(byte, 32)
            require(tag in KNOWN_EXTRAS and tag > last, "unknown or misplaced extra section")
            require(coding in (PLAIN, DEFLATE, LISTED), "unknown coding of an extra section")
            length = cursor.varint()
            size = cursor.varint() if coding == DEFLATE else 0
            entries.append((tag, coding, length, size))
            last = tag
        require(bool(entries), "flag EXTRAS without extra sections")
    z_length = cursor.varint()
    y_lengths = [cursor.varint() for _ in range(0, file.rows, file.section_rows)]

    file.symbols_crc = cursor.unsigned(2)
    stored = [cursor.take(length) for _, _, length, _ in entries]
    file.z = cursor.take(z_length)
    file.y = [cursor.take(length) for length in y_lengths]
    checked = cursor.position
    require(cursor.unsigned(4) == zlib.crc32(data[:checked]), "the file's checksum is wrong")
    require(cursor.position == len(data), "bytes after the end of the file")
    for (tag, coding, _, size), body in zip(entries, stored, strict=True):
        file.extras[tag] = expand(tag, coding, body, size)
    return file


def expand(tag: int, coding: int, body: bytes, size: int) -> bytes:
    """An extra section as it was before it was stored."""
    if coding == LISTED:
        require(tag == ICC and len(body) == 1 and body[0] < len(PROFILES), "no listed profile")
        return (METADATA / PROFILES[body[0]]).read_bytes()
    if coding == DEFLATE:
        require(size <= LARGEST_EXPANDED, "an extra section is too large when expanded")
        dictionary = (METADATA / "dictionary.bin").read_bytes()
        machine = zlib.decompressobj(-15, zdict=dictionary)
        try:
            body = machine.decompress(body, size + 1)
        except zlib.error as error:
            raise InvalidFile("an extra section cannot be expanded") from error
        require(machine.eof and not machine.unused_data, "an extra section is too long")
        require(len(body) == size, "an extra section has another size")
    return body


# 3. Symbols and tables


@dataclasses.dataclass
class Table:
    low: int
    size: int
    limits: list[int]
    """L: cumulative probabilities of the size + 1 symbols, from 0 to 2^24."""


def read_tables(tensors: dict[str, Integers], kind: str) -> list[Table]:
    lows, sizes, counts = (tensors[f"tables.{kind}.{part}"] for part in ("low", "size", "counts"))
    tables = []
    start = 0
    for low, size in zip(lows.tolist(), sizes.tolist(), strict=True):
        n = size + 1
        before = [0, *itertools.accumulate(counts[start : start + n].tolist())]
        require(before[n] == 65536, "a table's counts do not add up to 65536")
        limits = [c * ((1 << 24) - n) // 65536 + i for i, c in enumerate(before)]
        tables.append(Table(low, size, limits))
        start += n
    require(start == len(counts), "tables and counts do not match")
    return tables


def decode_section(section: bytes, numbers: Integers, tables: list[Table]) -> Integers:
    """The symbols of one section, in array order.

    Args:
        section: its bytes.
        numbers: for every symbol in array order the number of its table.
    """
    coder = RangeDecoder(section)
    values = decode_values(coder, numbers.tolist(), tables)
    coder.finish()
    return np.array(values, dtype=np.int64)


def decode_y_section(
    section: bytes,
    version: int,
    indexes: Integers,
    numbers: Integers,
    tables: list[Table],
    chains: Chains | None,
    top: int,
) -> Integers:
    """The symbols of one section of y, with chains its levels: (channels, rows, columns).

    Args:
        section: its bytes.
        version: of the format.
        indexes, numbers: scale indices and numbers of tables, of the same shape.
        tables: those of the picture.
        chains: where they are, if there are any.
        top: the section's first row.
    """
    coder = RangeDecoder(section)
    lowest = coder.decode_uniform(4) if version >= 3 else 0
    highest = chains.level if chains else 64
    scales = indexes.ravel()
    plain = np.flatnonzero((scales >= lowest) & (scales < highest))
    levels = np.zeros(indexes.size, dtype=np.int64)
    levels[plain] = decode_values(coder, numbers.ravel()[plain].tolist(), tables)
    if chains:
        levels *= 2
        decode_chains(
            coder, levels, numbers.ravel().tolist(), tables, chains.of_section(indexes, top)
        )
        require(bool((np.abs(levels) <= LARGEST_SYMBOL).all()), "a level exceeds 16 bits")
    coder.finish()
    return levels.reshape(indexes.shape)


def decode_values(coder: RangeDecoder, numbers: list[int], tables: list[Table]) -> list[int]:
    """The next values of a section, of which one table after the other is coded, then escapes."""
    order = sorted(range(len(numbers)), key=numbers.__getitem__)
    values = [0] * len(numbers)
    escaped = []
    for position in order:
        table = tables[numbers[position]]
        symbol = coder.decode(table.limits)
        values[position] = table.low + symbol
        if symbol == table.size:
            escaped.append(position)

    classes = [coder.decode_uniform(4) for _ in escaped]
    below = [coder.decode_uniform(1) for _ in escaped]
    magnitudes = [1 << k for k in classes]
    for k in range(1, 16):
        for i in range(len(escaped)):
            if classes[i] == k:
                magnitudes[i] += coder.decode_uniform(k)
    for position, negative, e in zip(escaped, below, magnitudes, strict=True):
        table = tables[numbers[position]]
        values[position] = table.low - e if negative else table.low + table.size - 1 + e

    require(all(abs(value) <= LARGEST_SYMBOL for value in values), "a symbol exceeds 16 bits")
    return values


def z_place(conditioning: list[int], places: int) -> int:
    """At which place on the dials, of so many that have tables of z, a picture is coded."""
    if places == 8:
        return min(conditioning[0] >> 12, 7)
    require(places == (33 if len(conditioning) == 1 else 165), "wrong number of tables")
    place = (conditioning[0] + 512) >> 10
    return place if len(conditioning) == 1 else 5 * place + ((conditioning[1] + 4096) >> 13)


def by_kind(indexes: Integers, core: int) -> Integers:
    """Table numbers of scale indices (channels, rows, columns): core channels, then the others."""
    numbers = indexes.astype(np.int64)
    numbers[core:] += 64
    return numbers


# 3. With a trellis


def next_state(state: int, symbol: int) -> int:
    return state >> 1 ^ (78 if state % 2 else 0) ^ (43 if symbol % 2 else 0)


@dataclasses.dataclass
class Chains:
    """Where a picture has chains.

    Attributes:
        core, passes, level: `core`, `context_passes` and `trellis_level` of the weights' config.
        rows, columns: of the picture's grid.
    """

    core: int
    passes: int
    level: int
    rows: int
    columns: int

    def of_section(self, indexes: Integers, top: int) -> list[list[int]]:
        """All chains of a section, as lists of positions in its flat array.

        Args:
            indexes: scale indices (channels, rows, columns) of the section.
            top: its first row.
        """
        members = []
        for position, index in enumerate(indexes.ravel().tolist()):
            if index >= self.level:
                channel, row, column = map(int, np.unravel_index(position, indexes.shape))
                cell = self.cell(top + row, column)
                number = self.pass_of(channel, top + row, column)
                members.append((cell, number, index, position))
        members.sort()
        chains = []
        for _, group in itertools.groupby(members, key=lambda member: member[:2]):
            positions = [position for *_, position in group]
            width = max(8, -(-len(positions) // 256))
            chains += [positions[first::width] for first in range(width)]
        return chains

    def cell(self, row: int, column: int) -> tuple[int, int]:
        """Number of the cell by rows and by columns."""
        if self.rows * self.columns <= 96 * 96:
            return 0, 0
        return row // cell_side(self.rows), column // cell_side(self.columns)

    def pass_of(self, channel: int, row: int, column: int) -> int:
        """Number of the pass; that of the channels that are not core follows all others."""
        if channel >= self.core:
            return self.passes
        first = ((0, 2), (3, 1))[row % 2][column % 2]
        return (first + channel) % self.passes


def cell_side(length: int) -> int:
    n = -(-length // 96)
    return 4 * -(-length // (4 * n))


def read_chains(config: dict[str, Any], file: File) -> Chains | None:
    """Where a file has chains, if the weights want any there."""
    if not config.get("trellis_step"):
        return None
    if len(file.conditioning) > 1 and file.conditioning[1] > config["trellis_reach"]:
        return None
    sizes = (config[name] for name in ("core", "context_passes", "trellis_level"))
    return Chains(*sizes, file.rows, file.columns)


def decode_chains(
    coder: RangeDecoder,
    levels: Integers,
    numbers: list[int],
    tables: list[Table],
    chains: list[list[int]],
) -> None:
    """Decode the levels of all chains into their places.

    Args:
        coder: decodes the section.
        levels, numbers: of the section, in array order; numbers are those of the even quantiser.
        tables: the 256 of the picture.
        chains: the section's, as lists of positions.
    """
    states = [0] * len(chains)
    for step in range(max(map(len, chains), default=0)):
        going_on = [chain for chain, places in enumerate(chains) if step < len(places)]
        places = [chains[chain][step] for chain in going_on]
        odd = [states[chain] % 2 for chain in going_on]
        of_step = [numbers[at] + 128 * o for at, o in zip(places, odd, strict=True)]
        symbols = decode_values(coder, of_step, tables)
        for chain, at, o, symbol in zip(going_on, places, odd, symbols, strict=True):
            sign = (symbol > 0) - (symbol < 0)
            levels[at] = 2 * symbol - o * sign
            states[chain] = next_state(states[chain], symbol)


# 4. Range coder


class RangeDecoder:
    def __init__(self, section: bytes) -> None:
        require(not section.endswith(b"\0"), "a section ends in a zero byte")
        padded = section + bytes(-len(section) % 4)
        self.words = [word for (word,) in struct.iter_unpack(">I", padded)]
        self.words_read = 0
        self.range = (1 << 64) - 1
        self.offset = self.next_word() << 32 | self.next_word()

    def next_word(self) -> int:
        at = self.words_read
        self.words_read += 1
        return self.words[at] if at < len(self.words) else 0

    def decode(self, limits: list[int]) -> int:
        symbol = bisect.bisect_right(limits, self.quantile()) - 1
        self.narrow(limits[symbol], limits[symbol + 1])
        return symbol

    def decode_uniform(self, bits: int) -> int:
        shift = 24 - bits
        symbol = self.quantile() >> shift
        self.narrow(symbol << shift, (symbol + 1) << shift)
        return symbol

    def quantile(self) -> int:
        quantile = self.offset // (self.range >> 24)
        require(quantile < 1 << 24, "invalid range coder data")
        return quantile

    def narrow(self, left: int, right: int) -> None:
        scale = self.range >> 24
        self.offset -= scale * left
        self.range = scale * (right - left)
        if self.range < 1 << 32:
            self.range <<= 32
            self.offset = self.offset << 32 | self.next_word()

    def finish(self) -> None:
        require(self.words_read >= len(self.words), "a section is too long")
        require(self.offset < (1 << 33) - 1, "a section does not end where it should")


# 5. Scale indices


def scale_indexes(z: Integers, conditioning: list[int], tensors: dict[str, Integers]) -> Integers:
    """Table numbers of y, (768, 4 h, 4 w), before they are cut to y's rows and columns."""
    a = np.clip(z, -256, 256) * 256
    for layer in range(5):
        bias = interpolate(tensors[f"fixed.{layer}.bias"], conditioning)
        t = convolve(a, tensors[f"fixed.{layer}.weight"]) + bias[:, None, None]
        if layer < 4:
            a = np.clip((t + 2048) >> 12, 0, 65536)
        else:
            a = np.clip((t + (1 << 19)) >> 20, 0, 63)
        if layer in (0, 2):
            a = pixel_shuffle(a)
    require(a.shape[0] == Y_CHANNELS, "the weights do not give 768 channels")
    return a


def interpolate(bias: Integers, conditioning: list[int]) -> Integers:
    require(len(bias) == len(conditioning), "wrong number of conditioning values")
    total = np.zeros(bias.shape[2], dtype=np.int64)
    for anchors, c in zip(bias, conditioning, strict=True):
        j = min(c >> 12, 7)
        f = c - (j << 12)
        total += (anchors[j] * (4096 - f) + anchors[j + 1] * f + 2048) >> 12
    return total


def convolve(a: Integers, weight: Integers) -> Integers:
    rows, columns = a.shape[1:]
    side = weight.shape[2]
    margin = (side - 1) // 2
    padded = np.pad(a, ((0, 0), (margin, margin), (margin, margin)))
    total = np.zeros((weight.shape[0], rows, columns), dtype=np.int64)
    for i in range(side):
        for j in range(side):
            window = padded[:, i : i + rows, j : j + columns]
            total += np.tensordot(weight[:, :, i, j], window, axes=1)
    return total


def pixel_shuffle(a: Integers) -> Integers:
    channels, rows, columns = a.shape
    shuffled = np.empty((channels // 4, 2 * rows, 2 * columns), dtype=np.int64)
    for i in range(2):
        for j in range(2):
            shuffled[:, i::2, j::2] = a[2 * i + j :: 4]
    return shuffled


# 6. Weights


def read_weights(data: bytes) -> tuple[dict[str, Integers], dict[str, Any], bytes]:
    """The int32 tensors of a safetensors file by name, its configuration, and the id of all."""
    (header_length,) = struct.unpack_from("<Q", data)
    body = 8 + header_length
    header = json.loads(data[8:body])
    metadata = header.pop("__metadata__")
    tensors = {}
    digest = hashlib.sha256()
    for name, entry in sorted(header.items()):
        start, end = entry["data_offsets"]
        raw = data[body + start : body + end]
        shape = entry["shape"]
        spelled = (name, entry["dtype"], ",".join(map(str, shape)))
        for text in spelled:
            digest.update(text.encode() + b"\0")
        digest.update(raw)
        if entry["dtype"] == "I32":
            require(len(raw) == 4 * math.prod(shape), "broken weights file")
            tensors[name] = np.frombuffer(raw, dtype="<i4").astype(np.int64).reshape(shape)
    digest.update(metadata["config"].encode())
    return tensors, json.loads(metadata["config"]), digest.digest()[:8]
