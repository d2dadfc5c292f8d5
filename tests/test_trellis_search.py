"""The encoder of trellis-coded quantisation: the best way through chains, and tables counted so."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from test_coding import random_tables

from vrcodec.bitstream.tables import TableSet
from vrcodec.bitstream.trellis import NEXT, Chains, Part, level_of, pattern, symbol_of
from vrcodec.codec import sections
from vrcodec.conditional.dials import Conditioning
from vrcodec.model.config import ModelConfig
from vrcodec.model.latent_tables import LatentTables
from vrcodec.model.linear_basis import is_colour
from vrcodec.model.loading import build
from vrcodec.model.trellis_search import (
    CLASSES,
    REACH,
    Prices,
    TrellisSearch,
    best_classes,
    candidates,
)
from vrcodec.model.weights_file import load_weights
from vrcodec.selftest import TRELLIS_WEIGHTS
from vrcodec.training import trellis_tables
from vrcodec.training.data import Augmentation, CropSampler, PictureStore
from vrcodec.training.trellis_tables import TrellisEncoder, places, with_trellis

LEVEL = 10
CONFIG = ModelConfig(core=192, trellis_step=0.75, trellis_level=LEVEL)
CONDITIONING = Conditioning((9000,))
TABLES = LatentTables(random_tables(np.random.default_rng(0), 3072, 9), CONFIG)
GRID = 768, 3, 4
PART = Part.everywhere(*GRID[1:])
EVERYTHING = np.ones(768, dtype=bool)

Floats = NDArray[np.float32]


def bits_of(tables: TableSet) -> Floats:
    values, numbers = np.meshgrid(np.arange(REACH + 1), np.arange(len(tables)))
    return tables.each_bits(values, numbers).reshape(values.shape).astype(np.float32)


def search(
    indexes: NDArray[np.uint8], worth: float, strength: float, kept: NDArray[np.bool_] = EVERYTHING
) -> TrellisSearch:
    bits, everywhere = bits_of(TABLES.at(CONDITIONING)), np.full(768, worth)
    prices = Prices.of_worth(bits, everywhere, strength, CONFIG.trellis_step)
    assert CONFIG.trellis is not None
    return TrellisSearch(CONFIG.trellis, prices, indexes[None], PART, kept)


def levels_of(searching: TrellisSearch, exact: Floats, prices: Prices | None = None) -> Floats:
    """Those of all passes together."""
    core, passes = CONFIG.core, CONFIG.context_passes
    pass_of = pattern(core, passes, *exact.shape[1:])
    levels = np.full_like(exact, np.nan)
    levels[core:] = searching.levels(passes, exact[None, core:], prices)[0]
    for number in range(passes):
        here = searching.levels(number, exact[None, :core], prices)[0]
        levels[:core][pass_of == number] = here[pass_of == number]
    return levels


def there_and_back(levels: Floats, indexes: NDArray[np.uint8]) -> NDArray[np.int16]:
    whole = levels.astype(np.int16)
    assert np.array_equal(whole, levels)
    data = sections.encoded(whole, indexes, TABLES, CONDITIONING, PART)
    return sections.decoded(data, indexes, TABLES, CONDITIONING, PART)


def cheapest(costs: Floats) -> float:
    """The cost of the best of all ways of a chain (4, n)."""
    totals = []
    for symbols in itertools.product((0, 1), repeat=costs.shape[1]):
        state, total = 0, 0.0
        for at, odd in enumerate(symbols):
            total += float(costs[2 * (state % 2) + odd, at])
            state = int(NEXT[state, odd])
        totals.append(total)
    return min(totals)


@pytest.mark.parametrize("sizes", [(48,), (53, 8, 0, 37), (3, 43)])
def test_no_way_is_cheaper_than_the_best(sizes: tuple[int, ...]) -> None:
    rng = np.random.default_rng(sum(sizes))
    chains = Chains.of(np.split(rng.permutation(sum(sizes)), np.cumsum(sizes)[:-1]))
    costs = rng.exponential(1, (4, sum(sizes))).astype(np.float32)
    best = best_classes(costs, chains)
    for lane in range(chains.count):
        here = chains.lane == lane
        assert here.sum() <= 7
        state, total = 0, 0.0
        for number, paid in zip(best[here], costs[:, here].T, strict=True):
            odd, symbol = CLASSES[number]
            assert odd == state % 2
            total += float(paid[number])
            state = int(NEXT[state, symbol])
        assert total == pytest.approx(cheapest(costs[:, here]), rel=1e-5)


@pytest.mark.parametrize("zeros", [False, True])
@pytest.mark.parametrize("pricing", ["rising", "random"])
def test_candidates_are_levels_of_their_class(pricing: str, zeros: bool) -> None:
    """And cost what is said; also where more bits are asked for a smaller symbol."""
    rng = np.random.default_rng(1)
    exact = np.append(rng.uniform(-12, 12, 4000), rng.uniform(-3000, 3000, 200)).astype(np.float32)
    exact[::50] *= not zeros
    numbers = rng.integers(0, 128, len(exact))
    worth, strength = rng.uniform(0.05, 3, (2, len(exact))).astype(np.float32)
    bits = rng.uniform(0, 12, (256, REACH + 1)).astype(np.float32)
    if pricing == "rising":
        bits.sort(axis=1)
    costs, ways = candidates(exact, numbers, worth, strength, bits)
    for (odd, parity), cost, way in zip(CLASSES, costs, ways, strict=True):
        quantiser = np.full(len(way), odd, dtype=np.uint8)
        symbols = symbol_of(way.astype(np.int32), quantiser)
        np.testing.assert_array_equal(level_of(symbols, quantiser), way)
        assert (symbols % 2 == parity).all()
        price = bits[numbers + 128 * odd, np.minimum(np.abs(symbols), REACH)]
        np.testing.assert_allclose(cost, worth * (exact - way) ** 2 + strength * price, rtol=1e-4)


def test_candidates_are_the_nearest_where_only_errors_count() -> None:
    rng = np.random.default_rng(2)
    exact = rng.uniform(-20, 20, 3000).astype(np.float32)
    nothing, worth = np.zeros_like(exact), rng.uniform(0.1, 3, len(exact)).astype(np.float32)
    bits = rng.uniform(0, 12, (256, REACH + 1)).astype(np.float32)
    costs, ways = candidates(exact, rng.integers(0, 128, len(exact)), worth, nothing, bits)
    levels = np.round(exact).astype(np.int32) + np.arange(-8, 9)[:, None]
    for (odd, parity), cost, way in zip(CLASSES, costs, ways, strict=True):
        quantiser = np.full_like(levels, odd, dtype=np.uint8)
        symbols = symbol_of(levels, quantiser)
        has = (level_of(symbols, quantiser) == levels) & (symbols % 2 == parity)
        least = np.where(has, worth * (exact - levels) ** 2, np.inf).min(axis=0)
        np.testing.assert_allclose(cost, least, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(worth * (exact - way) ** 2, least, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("worth", [20.0, 0.2])
def test_levels_are_a_way_that_can_be_coded(worth: float) -> None:
    rng = np.random.default_rng(3)
    indexes = rng.integers(0, 64, GRID, dtype=np.uint8)
    exact = rng.laplace(0, 4, GRID).astype(np.float32)
    levels = levels_of(search(indexes, worth, 1.0), exact)
    assert (levels[indexes >= LEVEL] % 2).any() and not (levels[indexes < LEVEL] % 2).any()
    np.testing.assert_array_equal(there_and_back(levels, indexes), levels)


@pytest.mark.parametrize("order", [(0, 2, 3, 1), (0, 3, 1, 2)], ids=["channels-last", "turned"])
def test_levels_do_not_depend_on_how_values_lie_in_memory(order: tuple[int, ...]) -> None:
    rng = np.random.default_rng(4)
    indexes = rng.integers(5, 40, GRID, dtype=np.uint8)
    exact = rng.normal(0, 4, (1, *GRID)).astype(np.float32)
    searching = search(indexes, 2.0, 1.0)
    other = exact.transpose(order).copy().transpose(np.argsort(order))
    assert not other.flags["C_CONTIGUOUS"]
    np.testing.assert_array_equal(levels_of(searching, other[0]), levels_of(searching, exact[0]))


def test_the_error_is_that_of_a_trellis() -> None:
    """In theory 1.3 dB below that of even levels, 1/3, in endless chains of 128 states."""
    rng = np.random.default_rng(4)
    indexes = rng.integers(LEVEL, 64, GRID, dtype=np.uint8)
    exact = rng.uniform(-50, 50, GRID).astype(np.float32)
    searching = search(indexes, 1.0, 1.0)
    levels = levels_of(searching, exact, searching.prices.plainly())
    np.testing.assert_array_equal(there_and_back(levels, indexes), levels)
    error = np.mean((levels - exact) ** 2)
    assert error < 0.85 * np.mean((2 * np.round(exact / 2) - exact) ** 2)
    assert 1.15 < 10 * np.log10(1 / 3 / error) < 1.4


def test_bits_count_with_prices() -> None:
    """More is saved in them than is lost in errors."""
    rng = np.random.default_rng(5)
    indexes = rng.integers(LEVEL, 64, GRID, dtype=np.uint8)
    exact = rng.laplace(0, 4, GRID).astype(np.float32)
    worth = 20.0
    searching = search(indexes, worth, 1.0)
    spent = []
    for prices in (searching.prices, searching.prices.plainly()):
        levels = levels_of(searching, exact, prices)
        coded = TABLES.symbols(levels.astype(np.int16), indexes, CONDITIONING, PART)
        bits = TABLES.at(CONDITIONING).bits(*coded)
        spent.append((worth * np.sum((levels - exact) ** 2) + bits, bits))
    (cost, bits), (cost_plainly, bits_plainly) = spent
    assert cost < 0.95 * cost_plainly and bits < 0.9 * bits_plainly


def test_grey_pictures_have_no_colour() -> None:
    rng = np.random.default_rng(6)
    indexes = rng.integers(0, 64, GRID, dtype=np.uint8)
    exact = rng.laplace(0, 4, GRID).astype(np.float32)
    levels = levels_of(search(indexes, 20.0, 1.0, kept=~is_colour()), exact)
    assert not levels[is_colour()].any()
    grey = levels[~is_colour()]
    assert (grey % 2).any() and np.mean((grey - exact[~is_colour()]) ** 2) < 1
    np.testing.assert_array_equal(there_and_back(levels, indexes), levels)


@pytest.mark.parametrize("other", [3.0, np.nan])
def test_what_is_no_number_still_gets_a_level(other: float) -> None:
    rng = np.random.default_rng(7)
    indexes = rng.integers(0, 64, GRID, dtype=np.uint8)
    wild = [np.inf, -np.inf, 1e30, -1e30, 4e4, other]
    exact = rng.choice(np.array(wild, dtype=np.float32), GRID)
    searching = search(indexes, 20.0, 1.0)
    for prices in (searching.prices, searching.prices.plainly()):
        levels = levels_of(searching, exact, prices)
        assert np.abs(levels).max() <= sections.LARGEST_LEVEL
        assert (levels[exact > 100] > 32000).all() and (levels[exact < -100] < -32000).all()
        assert (np.abs(levels[~(np.abs(exact) > 100)]) <= 8).all()
        np.testing.assert_array_equal(there_and_back(levels, indexes), levels)


def test_counted_tables_cost_less_than_expected_ones(
    tiny_weights: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = load_weights(tiny_weights.with_name(TRELLIS_WEIGHTS))
    network, fixed = build(weights)
    plain = weights.y_tables.tables.part(0, 1024)
    store = PictureStore([pictures], 64, torch.device("cpu"))

    def sampler() -> CropSampler:
        return CropSampler(store, Augmentation(), 1)

    counted = with_trellis(plain, network, fixed, sampler(), 16, 64)
    monkeypatch.setattr(trellis_tables, "ROUNDS", ())
    expected = with_trellis(plain, network, fixed, sampler(), 16, 64)
    both = [LatentTables(tables, network.config) for tables in (counted, expected)]
    for tables in (counted, expected):
        first = tables.part(0, 1024)
        assert np.array_equal(first.counts, plain.counts) and np.array_equal(first.low, plain.low)

    crops, encoder, spent = sampler(), TrellisEncoder(network, fixed, both[0]), np.zeros(2)
    for at in places(network.config.dials, 8):
        *_, symbols, numbers = encoder.quantise(crops.batch(1, 64), at)
        spent += [tables.at(at).bits(symbols, numbers) for tables in both]
    assert spent[0] < 0.95 * spent[1]
