"""Symbols that sections leave out: nothing is lost, little is coded, and nobody is deceived."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import reference_decoder
from numpy.typing import NDArray
from PIL import Image
from test_coding import random_tables

from vrcodec import Codec
from vrcodec.bitstream.container import unpack
from vrcodec.bitstream.trellis import Part
from vrcodec.codec import sections
from vrcodec.conditional.dials import Conditioning
from vrcodec.errors import CorruptError
from vrcodec.model.config import ModelConfig
from vrcodec.model.latent_tables import LatentTables

CONFIG = ModelConfig(core=4, context_passes=4, trellis_step=0.65, trellis_level=12, trellis_reach=0)
TABLES = LatentTables(random_tables(np.random.default_rng(0), 3072, 9), CONFIG)
PLAINLY, IN_CHAINS = Conditioning((0, 1)), Conditioning((0, 0))
"""Without chains, and with chains of all symbols from scale index 12 on."""
ROWS, COLUMNS = 6, 5
PART = Part.whole(ROWS, COLUMNS)


def drawn(lowest: int, seed: int = 0) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
    """Even levels, zero below a scale index, one of which is another there; and scale indices."""
    rng = np.random.default_rng(seed)
    indexes = rng.integers(0, 64, (7, ROWS, COLUMNS), np.uint8)
    indexes[0, 0] = np.arange(5) + lowest
    levels = 2 * np.round(rng.laplace(0, 3, indexes.shape)).astype(np.int16)
    levels[indexes < lowest] = 0
    levels[0, 0, 0] = 2
    # Symbols in chains are as the state has it: zero always is possible.
    return np.where((indexes >= 12) & (indexes != lowest), 0, levels), indexes


def first_number(section: bytes) -> int:
    return reference_decoder.RangeDecoder(section).decode_uniform(4)


def reference(section: bytes, indexes: NDArray[np.uint8], at: Conditioning) -> NDArray[np.int64]:
    """The independent decoder's answer."""
    few = TABLES.at(at)
    arrays = {"low": few.low, "size": few.size, "counts": few.counts}
    tensors = {f"tables.t.{key}": array.astype(np.int64) for key, array in arrays.items()}
    listed = reference_decoder.read_tables(tensors, "t")
    chains = reference_decoder.Chains(4, 4, 12, ROWS, COLUMNS) if at == IN_CHAINS else None
    numbers = reference_decoder.by_kind(indexes, 4)
    return reference_decoder.decode_y_section(section, 3, indexes, numbers, listed, chains, 0)


@pytest.mark.parametrize("at", [PLAINLY, IN_CHAINS], ids=["plainly", "in chains"])
@pytest.mark.parametrize("lowest", [0, 1, 7, 11, 20])
def test_a_section_says_what_it_leaves_out(at: Conditioning, lowest: int) -> None:
    levels, indexes = drawn(lowest)
    if at == IN_CHAINS and lowest >= 12:
        levels[:] = 0  # but for chains, of which none is quiet
    section = sections.encoded(levels, indexes, TABLES, at, PART)
    back = sections.decoded(section, indexes, TABLES, at, PART)
    np.testing.assert_array_equal(back, levels)
    np.testing.assert_array_equal(reference(section, indexes, at), levels)
    assert first_number(section) == min(lowest, 15)


def test_only_what_is_coded_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """In time and in bits, though these tables are anything but sure of zero."""
    levels, indexes = drawn(12)
    taken: list[int] = []
    take = sections.Decoder.take

    def counted(self: sections.Decoder, numbers: NDArray[np.integer]) -> NDArray[np.int32]:
        taken.append(len(numbers))
        return take(self, numbers)

    monkeypatch.setattr(sections.Decoder, "take", counted)
    section = sections.encoded(levels, indexes, TABLES, PLAINLY, PART)
    sections.decoded(section, indexes, TABLES, PLAINLY, PART)
    assert taken == [np.count_nonzero(indexes >= 12)]
    bits = sections.each_bits(levels, indexes, TABLES, PLAINLY, PART)
    assert not bits[indexes < 12].any()
    assert 8 * len(section) == pytest.approx(bits.sum(), abs=40)


def test_a_picture_without_any_sound() -> None:
    levels, indexes = np.zeros((7, ROWS, COLUMNS), np.int16), np.zeros((7, ROWS, COLUMNS), np.uint8)
    section = sections.encoded(levels, indexes, TABLES, PLAINLY, PART)
    assert len(section) <= 1
    assert not sections.decoded(section, indexes, TABLES, PLAINLY, PART).any()
    with pytest.raises(CorruptError):
        sections.decoded(section + b"\1" * 9, indexes, TABLES, PLAINLY, PART)


def test_what_is_wrongly_left_out_is_noticed(
    tiny_weights: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the checksum of the symbols: a section cannot be asked for what it has not."""
    with Image.open(pictures / "macaw.png") as file:
        photo = file.convert("RGB").crop((0, 0, 96, 72))
    codec = Codec(tiny_weights, "cpu", threads=1)
    data = codec.encode(photo, 0.9)
    assert first_number(unpack(data).y[0]) < 15
    monkeypatch.setattr(sections, "_lowest", lambda *_: 15)
    with pytest.raises(CorruptError, match="checksum of the decoded symbols"):
        codec.decode(codec.encode(photo, 0.9))
