"""Integers to bytes and back, given each one's table: one range coder run per section.

The range coder is constriction's (32-bit words, 64-bit state, 24-bit probabilities). It
checks nothing by itself, so everything that could be wrong with a section is checked here.
`docs/bitstream.md` specifies the bytes.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vrcodec.bitstream.tables import MAX_MAGNITUDE, TOTAL, ByIdentity, TableSet
from vrcodec.errors import CorruptError

ESCAPE_CLASSES = 16


def _stream() -> Any:
    """constriction's range coder and models; machines that only train do without."""
    import constriction

    return constriction.stream


class _Models(dict[int, Any]):
    """The coder's models of tables by their numbers, made when they are first needed."""

    def __init__(self, tables: TableSet) -> None:
        super().__init__()
        self._tables, self._made = tables, _stream().model.Categorical

    def __missing__(self, number: int) -> Any:
        model = self._made(self._tables.table(number) / float(TOTAL), perfect=False)
        return self.setdefault(number, model)


@functools.lru_cache(maxsize=8)
def _models(tables: ByIdentity) -> _Models:
    return _Models(tables.value)


def _groups(
    numbers: NDArray[np.integer[Any]],
) -> tuple[NDArray[np.int64], list[tuple[int, int, int]]]:
    """A stable order that sorts by table, and (table, start, end) of every run in it."""
    counts = np.bincount(numbers)
    present = np.flatnonzero(counts)
    ends = np.cumsum(counts[present])
    starts = ends - counts[present]
    runs = zip(present.tolist(), starts.tolist(), ends.tolist(), strict=True)
    return np.argsort(numbers, kind="stable"), list(runs)


class Encoder:
    """Codes values of one set of tables, as many calls of `add` as wanted, into one section."""

    def __init__(self, tables: TableSet) -> None:
        self._tables, self._models = tables, _models(ByIdentity(tables))
        self._coder = _stream().queue.RangeEncoder()

    def add(self, values: NDArray[np.integer[Any]], numbers: NDArray[np.integer[Any]]) -> None:
        """Code values (n,) under the tables of the given numbers (n,).

        Raises:
            ValueError: a value exceeds MAX_MAGNITUDE (a mistake of the caller).
        """
        if len(values) and max(int(values.max()), -int(values.min())) > MAX_MAGNITUDE:
            raise ValueError("symbol exceeds 16 bits")
        tables = self._tables
        order, runs = _groups(numbers)
        ordered = values.astype(np.int32)[order]
        excesses, signs = [], []
        for number, start, end in runs:
            size = int(tables.size[number])
            symbols = ordered[start:end] - tables.low[number]
            below, above = symbols < 0, symbols >= size
            escaped = below | above
            if escaped.any():
                outside = symbols[escaped]
                excesses.append(np.where(outside < 0, -outside - 1, outside - size))
                signs.append(outside < 0)
                symbols[escaped] = size
            self._coder.encode(symbols, self._models[number])
        if excesses:
            _encode_escapes(self._coder, np.concatenate(excesses), np.concatenate(signs))

    def add_number(self, number: int, size: int) -> None:
        """Code one of `size` numbers from 0 on, all of them as likely."""
        self._coder.encode(np.array([number], dtype=np.int32), _stream().model.Uniform(size))

    def finish(self) -> bytes:
        """The section."""
        coded: bytes = self._coder.get_compressed().astype(">u4").tobytes()
        return coded.rstrip(b"\0")


class Decoder:
    """Inverse of `Encoder`: as many calls of `take`, of as many values.

    Raises:
        CorruptError: here or there, the bytes cannot have come from an `Encoder`.
    """

    def __init__(self, data: bytes, tables: TableSet) -> None:
        if data.endswith(b"\0"):
            raise CorruptError("entropy-coded data have superfluous zeros at the end")
        words = np.frombuffer(data + bytes(-len(data) % 4), dtype=">u4").astype(np.uint32)
        self._coder = _stream().queue.RangeDecoder(words)
        self._tables, self._models = tables, _models(ByIdentity(tables))

    def take(self, numbers: NDArray[np.integer[Any]]) -> NDArray[np.int32]:
        """The next values (n,), under the tables of the given numbers (n,)."""
        coder, tables = self._coder, self._tables
        order, runs = _groups(numbers)
        ordered = np.empty(len(numbers), dtype=np.int32)
        escapes: list[NDArray[np.int64]] = []
        limits: list[tuple[int, int, int]] = []
        try:
            for number, start, end in runs:
                symbols = coder.decode(self._models[number], end - start)
                low, size = int(tables.low[number]), int(tables.size[number])
                ordered[start:end] = symbols + low
                at = np.flatnonzero(symbols == size)
                if len(at):
                    escapes.append(at + start)
                    limits.append((low, low + size - 1, len(at)))
            if escapes:
                _decode_escapes(coder, ordered, np.concatenate(escapes), limits)
        except AssertionError as error:
            raise CorruptError("entropy-coded data are invalid") from error
        values = np.empty_like(ordered)
        values[order] = ordered
        return values

    def take_number(self, size: int) -> int:
        """The next of `size` numbers. Raises CorruptError."""
        try:
            (number,) = self._coder.decode(_stream().model.Uniform(size), 1)
        except AssertionError as error:
            raise CorruptError("entropy-coded data are invalid") from error
        return int(number)

    def finish(self) -> None:
        """All values are taken."""
        if not self._coder.maybe_exhausted():
            raise CorruptError("entropy-coded data do not end where they should")


def encode(
    values: NDArray[np.integer[Any]], numbers: NDArray[np.integer[Any]], tables: TableSet
) -> bytes:
    """A section of values (n,) under the tables of the given numbers (n,); see `Encoder.add`."""
    encoder = Encoder(tables)
    encoder.add(values, numbers)
    return encoder.finish()


def decode(data: bytes, numbers: NDArray[np.integer[Any]], tables: TableSet) -> NDArray[np.int32]:
    """Inverse of `encode`: the values (n,). Raises CorruptError: see `Decoder`."""
    decoder = Decoder(data, tables)
    values = decoder.take(numbers)
    decoder.finish()
    return values


def _encode_escapes(
    coder: Any, excesses: NDArray[np.integer[Any]], below: NDArray[np.bool_]
) -> None:
    """Exponential Golomb code in equiprobable symbols: all classes, signs, then mantissas."""
    uniform = _stream().model.Uniform
    plus_one = excesses.astype(np.int64) + 1
    classes = (np.frexp(plus_one.astype(np.float64))[1] - 1).astype(np.int32)
    coder.encode(classes, uniform(ESCAPE_CLASSES))
    coder.encode(below.astype(np.int32), uniform(2))
    for k in np.unique(classes[classes > 0]).tolist():
        mantissas = plus_one[classes == k] - (1 << k)
        coder.encode(mantissas.astype(np.int32), uniform(1 << k))


def _decode_escapes(
    coder: Any,
    ordered: NDArray[np.int32],
    at: NDArray[np.int64],
    limits: list[tuple[int, int, int]],
) -> None:
    uniform = _stream().model.Uniform
    classes = coder.decode(uniform(ESCAPE_CLASSES), len(at))
    below = coder.decode(uniform(2), len(at)) != 0
    plus_one = np.ones(len(at), dtype=np.int64)
    for k in np.unique(classes[classes > 0]).tolist():
        where = classes == k
        plus_one[where] = (1 << k) + coder.decode(uniform(1 << k), int(where.sum()))
    counts = [count for _, _, count in limits]
    low = np.repeat([low for low, _, _ in limits], counts)
    high = np.repeat([high for _, high, _ in limits], counts)
    values = np.where(below, low - plus_one, high + plus_one)
    if np.abs(values).max() > MAX_MAGNITUDE:
        raise CorruptError("an escaped symbol exceeds 16 bits")
    ordered[at] = values
