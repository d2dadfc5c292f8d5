"""Trellis-coded quantisation: its quantisers, who is in which chain, sections, and whole files."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import reference_decoder
from numpy.typing import NDArray
from PIL import Image
from test_coding import damaged, random_tables

from vrcodec import Codec
from vrcodec.bitstream.container import Header, pack, unpack
from vrcodec.bitstream.trellis import CHAIN, LANES, NEXT, Chains, Part, Trellis, level_of, symbol_of
from vrcodec.codec import sections
from vrcodec.conditional.dials import Conditioning
from vrcodec.errors import CorruptError, WeightsError
from vrcodec.model.config import ModelConfig
from vrcodec.model.latent_tables import LatentTables
from vrcodec.model.weights_file import load_weights
from vrcodec.pictures.metrics import psnr

CHANNELS, CORE, PASSES, LEVEL = 7, 4, 4, 20
TRELLIS = Trellis(LEVEL, CORE, PASSES, 0.65)
REACH = 500
CONFIG = ModelConfig(
    core=CORE,
    context_passes=PASSES,
    trellis_step=0.65,
    trellis_level=LEVEL,
    trellis_reach=REACH,
)
BUCKET = 2
CONDITIONING = Conditioning((BUCKET * 4096 + 100, REACH))
TABLES = LatentTables(random_tables(np.random.default_rng(0), 3072, 9), CONFIG)

GRIDS: dict[str, tuple[int, int, int, int, list[int], list[int]]] = {
    "one position": (1, 1, 0, 1, [], []),
    "small": (5, 7, 0, 5, [], []),
    "one cell": (64, 144, 31, 64, [], []),
    "many cells": (200, 100, 81, 162, [136], [52]),
    "a wide row": (3, 4500, 1, 2, [], [*range(96, 4500, 96)]),
}
"""Rows and columns of a picture's grid, first and last-plus-one row of a section, and the rows and
columns of the grid at which another cell begins within the section."""
MIXTURES = {"mixed": (0, 64), "in chains": (LEVEL, 64), "plain": (0, LEVEL)}
"""Scale indices from, and up to but without."""

Indexes = NDArray[np.uint8]


def section(name: str, mixture: str = "mixed", seed: int = 1) -> tuple[Part, Indexes]:
    rows, columns, top, bottom, _, _ = GRIDS[name]
    rng = np.random.default_rng(seed)
    shape = (CHANNELS, bottom - top, columns)
    return Part.of(rows, columns, top, bottom), rng.integers(*MIXTURES[mixture], shape, np.uint8)


def chains_of(part: Part, indexes: Indexes) -> Chains:
    return Chains.of(list(TRELLIS.groups(indexes, part, range(PASSES + 1))))


def walked(part: Part, indexes: Indexes, seed: int = 1) -> NDArray[np.int16]:
    """Levels that a way through the trellis leads to; a fiftieth of them is far out."""
    rng = np.random.default_rng(seed)
    symbols = np.round(rng.laplace(0, 3, indexes.size)).astype(np.int32)
    far = rng.random(indexes.size) < 0.02
    symbols[far] = rng.integers(-16383, 16384, far.sum())
    levels, chains = 2 * symbols, chains_of(part, indexes)
    state = np.zeros(chains.count, dtype=np.uint8)
    for step in chains.steps():
        at, lane = chains.order[step], chains.lane[step]
        levels[at] = level_of(symbols[at], state[lane] % 2)
        state[lane] = NEXT[state[lane], symbols[at] % 2]
    return levels.astype(np.int16).reshape(indexes.shape)


def encoded(levels: NDArray[np.integer], part: Part, indexes: Indexes) -> bytes:
    return sections.encoded(levels, indexes, TABLES, CONDITIONING, part)


def decoded(data: bytes, part: Part, indexes: Indexes) -> NDArray[np.int16]:
    return sections.decoded(data, indexes, TABLES, CONDITIONING, part)


def reference(data: bytes, name: str, indexes: Indexes) -> NDArray[np.int64]:
    """The independent decoder's answer."""
    rows, columns, top, *_ = GRIDS[name]
    few = TABLES.tables.part(1024 + 256 * BUCKET, 256)
    arrays = {"low": few.low, "size": few.size, "counts": few.counts}
    tensors = {f"tables.t.{key}": array.astype(np.int64) for key, array in arrays.items()}
    listed = reference_decoder.read_tables(tensors, "t")
    chains = reference_decoder.Chains(CORE, PASSES, LEVEL, rows, columns)
    numbers = reference_decoder.by_kind(indexes, CORE)
    return reference_decoder.decode_y_section(data, 3, indexes, numbers, listed, chains, top)


def test_quantisers_share_zero_alone_and_have_every_level() -> None:
    symbols = np.array([-16384, *range(-4, 5), 16384], dtype=np.int32)
    even, odd = np.zeros(len(symbols), dtype=np.uint8), np.ones(len(symbols), dtype=np.uint8)
    assert level_of(symbols, even).tolist() == [-32768, -8, -6, -4, -2, 0, 2, 4, 6, 8, 32768]
    assert level_of(symbols, odd).tolist() == [-32767, -7, -5, -3, -1, 0, 1, 3, 5, 7, 32767]
    for quantiser in (even, odd):
        levels = level_of(symbols, quantiser)
        assert symbol_of(levels, quantiser).tolist() == symbols.tolist()


@pytest.mark.parametrize("name", GRIDS)
def test_chains_hold_every_symbol_once_and_cross_no_border(name: str) -> None:
    _, _, top, _, row_cuts, column_cuts = GRIDS[name]
    part, indexes = section(name)
    chains = chains_of(part, indexes)
    assert np.sort(chains.order).tolist() == np.flatnonzero(indexes >= LEVEL).tolist()

    channel, row, column = np.unravel_index(chains.order, indexes.shape)
    first = np.array([[0, 2], [3, 1]])[(row + top) % 2, column % 2]
    group = np.searchsorted(row_cuts, row + top, side="right")
    group = 100 * group + np.searchsorted(column_cuts, column, side="right")
    group = 10 * group + np.where(channel < CORE, (first + channel) % PASSES, PASSES)
    groups = dict(zip(chains.lane.tolist(), group.tolist(), strict=True))
    assert [groups[lane] for lane in chains.lane.tolist()] == group.tolist()
    ascending = [groups[lane] for lane in sorted(groups)]
    assert ascending == sorted(ascending)

    sizes, lanes = Counter(group.tolist()), Counter(ascending)
    wanted = {at: min(n, max(LANES, -(-n // CHAIN))) for at, n in sizes.items()}
    assert lanes == wanted
    assert np.bincount(chains.lane).max() <= CHAIN
    assert (max(lanes.values()) > LANES) == (name in ("one cell", "many cells"))
    kinds = indexes.ravel()[chains.order].astype(int)
    assert all((np.diff(kinds[chains.lane == lane]) >= 0).all() for lane in groups)


@pytest.mark.parametrize("name", GRIDS)
def test_every_step_takes_one_symbol_of_every_chain_that_goes_on(name: str) -> None:
    chains = chains_of(*section(name))
    steps = [chains.lane[step].tolist() for step in chains.steps()]
    assert list(itertools.chain(*steps)) == chains.lane.tolist()
    for step, following in itertools.pairwise([*steps, []]):
        assert step == sorted(set(step)) and set(following) <= set(step)


@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize("mixture", MIXTURES)
def test_sections_come_back_here_and_by_the_specification(name: str, mixture: str) -> None:
    part, indexes = section(name, mixture)
    levels = walked(part, indexes)
    assert (levels % 2).any() == (mixture != "plain" and name != "one position")
    data = encoded(levels, part, indexes)
    back = decoded(data, part, indexes)
    assert back.dtype == np.int16
    np.testing.assert_array_equal(back, levels)
    np.testing.assert_array_equal(reference(data, name, indexes), levels)


@pytest.mark.parametrize("name", ["one cell", "many cells", "a wide row"])
def test_ideal_code_length(name: str) -> None:
    part, indexes = section(name)
    levels = walked(part, indexes)
    symbols, numbers = TABLES.symbols(levels, indexes, CONDITIONING, part)
    assert np.array_equal(numbers % 128, TABLES.numbers(indexes))
    odd = numbers >= 128
    assert 0.3 < odd[indexes >= LEVEL].mean() < 0.7 and not odd[indexes < LEVEL].any()
    assert np.array_equal(level_of(symbols, odd.astype(np.uint8)), levels)
    ideal = TABLES.at(CONDITIONING).bits(symbols, numbers) / 8
    assert len(encoded(levels, part, indexes)) == pytest.approx(ideal, rel=0.001, abs=8)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(
    ("mixture", "before", "largest"),
    [("plain", 0, 32766), ("in chains", 0, 32766), ("in chains", 2, 32767)],
)
def test_a_level_beyond_16_bits_is_corrupt(
    mixture: str, before: int, largest: int, sign: int
) -> None:
    """In chains it is the second; an odd symbol before it leads to the odd quantiser."""
    part, indexes = section("small", mixture)
    chains = chains_of(part, indexes)
    first, second = chains.order[chains.lane == 0][:2] if len(chains.order) else (0, 1)
    levels = np.zeros(indexes.size, dtype=np.int32)
    levels[[first, second]] = before, sign * largest
    good = encoded(levels.reshape(indexes.shape), part, indexes)
    assert decoded(good, part, indexes).ravel().tolist() == levels.tolist()
    levels[second] += 2 * sign
    bad = encoded(levels.reshape(indexes.shape), part, indexes)
    with pytest.raises(CorruptError, match="a level exceeds 16 bits"):
        decoded(bad, part, indexes)
    with pytest.raises(reference_decoder.InvalidFile, match="a level exceeds 16 bits"):
        reference(bad, "small", indexes)


@pytest.mark.parametrize("name", ["one position", "small"])
def test_damage_is_corrupt_or_other_levels(name: str) -> None:
    """Nothing but CorruptError; and the independent decoder accepts the same, with the same
    levels."""
    rng = np.random.default_rng(4)
    refused = accepted = 0
    for seed in range(150):
        part, indexes = section(name, seed=seed)
        data = damaged(rng, encoded(walked(part, indexes, seed), part, indexes) or b"\0")
        try:
            levels = decoded(data, part, indexes)
        except CorruptError:
            refused += 1
            with pytest.raises(reference_decoder.InvalidFile):
                reference(data, name, indexes)
        else:
            accepted += 1
            assert np.array_equal(levels, reference(data, name, indexes))
    assert refused >= 50
    assert accepted >= 5


def test_other_numbers_of_tables_are_refused() -> None:
    plain = dataclasses.replace(CONFIG, trellis_step=0.0)
    for count, config in ((64, CONFIG), (1024, CONFIG), (3071, CONFIG), (3072, plain)):
        with pytest.raises(WeightsError, match="number of probability tables"):
            LatentTables(TABLES.tables.part(0, count), config)


def test_chains_end_where_the_second_dial_says() -> None:
    assert CONFIG.trellis_at(CONDITIONING) == TRELLIS
    assert CONFIG.trellis_at(Conditioning((BUCKET * 4096,))) == TRELLIS
    beyond = Conditioning((BUCKET * 4096, REACH + 1))
    assert CONFIG.trellis_at(beyond) is None
    assert CONFIG.level_step_at(beyond) == 1
    part, indexes = section("small")
    levels = np.random.default_rng(3).integers(-9, 10, indexes.shape).astype(np.int16)
    data = sections.encoded(levels, indexes, TABLES, beyond, part)
    assert np.array_equal(sections.decoded(data, indexes, TABLES, beyond, part), levels)
    numbers = TABLES.numbers(indexes).ravel().astype(int)
    ideal = TABLES.tables.bits(levels.ravel(), numbers + 128 * BUCKET) / 8
    assert abs(len(data) - ideal) < 0.01 * ideal + 8


@pytest.mark.parametrize("runtime", ["onnx", "torch"])
@pytest.mark.parametrize("size", [(80, 64), (50, 37)])
def test_files_are_what_the_specification_says(
    trellis_weights: Path, tiny_weights: Path, pictures: Path, runtime: str, size: tuple[int, int]
) -> None:
    image = Image.open(pictures / "macaw.png").convert("RGB").crop((0, 0, *size))
    codec = Codec(trellis_weights, "cpu", threads=1, runtime=runtime)
    data = codec.encode(image, 0.6)
    z, y = reference_decoder.decode_symbols(data, trellis_weights.read_bytes())
    latents = codec.pipeline.read_latents(unpack(data))
    np.testing.assert_array_equal(latents.z, z)
    np.testing.assert_array_equal(latents.y, y)
    chained = latents.indexes >= load_weights(trellis_weights).config.trellis_level
    assert chained.mean() > 0.2
    assert (y[chained] % 2).any() and not (y[~chained] % 2).any()
    made = codec.pipeline.latents(np.asarray(image), codec.dials.at(0.6))
    np.testing.assert_array_equal(made.y, y)
    bits = codec.pipeline.estimate_bits(made, codec.dials.at(0.6))
    assert 8 * len(data) == pytest.approx(bits + 8 * 32, rel=0.02)

    plainly = Codec(tiny_weights, "cpu", threads=1, runtime=runtime)
    pixels, without = codec.decode(data), plainly.decode(plainly.encode(image, 0.6))
    reached = psnr(np.asarray(image), np.asarray(pixels))
    assert reached > psnr(np.asarray(image), np.asarray(without)) - 1


@pytest.mark.slow
def test_chains_begin_anew_in_every_section(trellis_weights: Path) -> None:
    """The second section's first row is an odd one of the picture; both share one cell."""
    codec = Codec(trellis_weights, "cpu", threads=1)
    header = Header(2080, 1040, codec.weights_id, Conditioning((12_000,)))
    assert [top for top, _ in header.sections] == [0, 63]
    rng = np.random.default_rng(3)
    ramp = np.linspace(0, 255, 2080 * 3, dtype=np.float32).reshape(1, 2080, 3)
    pixels = (np.repeat(ramp, 1040, axis=0) + rng.normal(0, 3, (1040, 2080, 3))).clip(0, 255)
    latents = codec.pipeline.latents(pixels.astype(np.uint8), header.conditioning)
    stream = codec.pipeline.write_latents(latents, header)
    data = pack(stream)
    np.testing.assert_array_equal(codec.pipeline.read_latents(unpack(data)).y, latents.y)
    bits = codec.pipeline.estimate_bits(latents, header.conditioning)
    assert 8 * len(data) == pytest.approx(bits, rel=0.002)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        *(("trellis_step", wrong) for wrong in (-0.75, 0.05, 1.5, "0.75", None)),
        *(("trellis_level", wrong) for wrong in (-1, 65, 15.0, True)),
        *(("trellis_reach", wrong) for wrong in (-1, 32769, 0.25)),
    ],
)
def test_impossible_configurations_are_refused(name: str, wrong: object) -> None:
    right = json.loads(ModelConfig(trellis_step=0.75).to_json())
    assert ModelConfig.from_json(json.dumps(right)).trellis is not None
    with pytest.raises(ValueError, match=f"{name}|is no number"):
        ModelConfig.from_json(json.dumps(right | {name: wrong}))


def test_older_configurations_have_none() -> None:
    older = json.loads(ModelConfig().to_json())
    for name in ("trellis_step", "trellis_level", "trellis_reach"):
        del older[name]
    assert ModelConfig.from_json(json.dumps(older)) == ModelConfig()
