"""Large pictures: tiles change nothing but the memory that is needed."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vrcodec import CorruptError
from vrcodec.bitstream.container import pack, unpack
from vrcodec.bitstream.grid import BLOCK, GROUP, LATENT_CHANNELS
from vrcodec.codec.codec import Codec
from vrcodec.codec.tiling import (
    TILE,
    DecoderSpans,
    EncoderSpans,
    Span,
    analysis_reach,
    context_reach,
    feature_slice,
    restack,
    synthesis_reach,
    tiles,
)
from vrcodec.codec.torch_networks import TorchNetworks
from vrcodec.model.config import ModelConfig
from vrcodec.model.network import CompressionModel
from vrcodec.model.weights_file import default_weights, load_weights

TESTS = Path(__file__).parent
CONFIGS = [
    ModelConfig(
        width8=8,
        width16=8,
        analysis_blocks=analysis,
        synthesis_blocks=synthesis,
        core=8,
        hyper=8,
        hyper_width=8,
        context_width=8,
        context_blocks=context,
        context_passes=passes,
        film_width=film,
        learned_linear=False,
    )
    for analysis, synthesis, context, passes, film in (
        ((2, 2), (2, 3), 0, 4, 8),
        ((1, 1), (1, 1), 1, 2, 8),
        ((3, 0), (0, 4), 0, 1, 0),
        ((1, 1), (1, 0), 2, 4, 8),
    )
]
LENGTHS = [1, 3, 4, 5, 31, 32, 33, 63, 64, 97, 200]


@pytest.fixture(
    scope="module", params=["tiny", "zoned", pytest.param("release", marks=pytest.mark.slow)]
)
def codecs(
    request: pytest.FixtureRequest, tiny_weights: Path, zoned_weights: Path
) -> dict[int, Codec]:
    """Codecs by the side of their tiles."""
    weights = {"tiny": tiny_weights, "zoned": zoned_weights}.get(request.param)
    networks = TorchNetworks(load_weights(weights or default_weights()), "cpu")
    return {side: Codec(weights, tile=side, networks=networks) for side in (8, 16, TILE)}


def collage(height: int, width: int) -> np.ndarray:
    """Photographs side by side, enlarged, with a little noise and a flat corner."""
    names = sorted((TESTS / "pictures").glob("*.png"))
    each = -(-width // len(names))
    parts = []
    for name in names:
        with Image.open(name) as file:
            parts.append(np.asarray(file.convert("RGB").resize((each, height))))
    pixels = np.concatenate(parts, axis=1)[:, :width].astype(np.int16)
    pixels += np.random.default_rng(0).integers(-4, 5, pixels.shape, dtype=np.int16)
    pixels[:40, :40] = 128
    return pixels.clip(0, 255).astype(np.uint8)


def nonlinear(config: ModelConfig) -> CompressionModel:
    """A network in which every layer has an effect."""
    torch.manual_seed(0)
    model = CompressionModel(config).eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.add_(0.2 * torch.randn_like(parameter))
    return model


def reach_of(before: torch.Tensor, after: torch.Tensor, at: int, size: int = 1) -> tuple[int, int]:
    """How many rows, `size` each, above and below row `at` a change there has an effect."""
    changed = (before != after).any(dim=0).any(dim=1)
    rows = torch.nonzero(changed)[:, 0] // size
    return at - int(rows.min()), int(rows.max()) - at


@pytest.mark.parametrize("config", CONFIGS)
def test_analysis_reaches_no_further_than_stated(config: ModelConfig) -> None:
    model = nonlinear(config)
    condition = model.condition(0.4)
    x, at = torch.rand(1, 3, 21 * BLOCK, BLOCK), 10
    poked = x.clone()
    poked[:, :, at * BLOCK : (at + 1) * BLOCK] = 0.5
    reach = reach_of(model.latents(x, condition)[0], model.latents(poked, condition)[0], at)
    assert max(reach) == analysis_reach(config)


@pytest.mark.parametrize("config", CONFIGS)
def test_context_and_synthesis_reach_no_further_than_stated(config: ModelConfig) -> None:
    model = nonlinear(config)
    condition = model.condition(0.4)
    rows = 49
    z = torch.randint(-2, 3, (1, config.hyper, -(-rows // GROUP), 2))
    symbols = torch.randint(-2, 3, (1, LATENT_CHANNELS, rows, 8))
    where = (slice(rows), slice(8))
    furthest = 0
    for at in range(24, 28):
        poked = symbols.clone()
        poked[:, :, at] += 1
        pixels = [model.reconstruct(z, s, condition, where)[0] for s in (symbols, poked)]
        furthest = max(furthest, *reach_of(*pixels, at, BLOCK))
    assert furthest <= context_reach(config) + synthesis_reach(config)
    assert furthest > synthesis_reach(config)


def test_z_reaches_no_further_than_stated() -> None:
    """y's neighbours for z, and z's neighbours for features and scale indices."""
    model = nonlinear(CONFIGS[0])
    condition = model.condition(0.4)
    y = torch.randn(1, LATENT_CHANNELS, 48, 8)
    for at in range(20, 24):
        poked = y.clone()
        poked[:, :, at] += 1
        made = [model.hyper_analysis(part, condition)[0] for part in (y, poked)]
        changed = torch.nonzero((made[0] != made[1]).any(dim=0).any(dim=1))[:, 0]
        for t in changed.tolist():
            assert GROUP * t - 3 <= at <= GROUP * t + 3
    z = torch.randn(1, CONFIGS[0].hyper, 12, 2)
    poked = z.clone()
    poked[:, :, 6] += 1
    for layer in (
        lambda z: model.mean_path(z, condition.embedding),
        lambda z: model.scale_path(z, condition.vector),
    ):
        assert max(reach_of(layer(z)[0], layer(poked)[0], 6, GROUP)) == 1


@pytest.mark.slow
@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("side", [4, 8, 32, TILE])
@pytest.mark.parametrize("config", CONFIGS)
def test_spans_hold_what_the_reaches_ask_for(length: int, side: int, config: ModelConfig) -> None:
    context = context_reach(config)
    assert context % GROUP == 0
    groups = -(-length // GROUP)
    along = tiles(length, 1 << 20, side)[0]
    positions, decided = [], []
    for tile in along:
        span = EncoderSpans.of(tile, length, config)
        assert len(tile) <= side and tile.start % GROUP == 0
        positions += range(tile.start, tile.stop)
        decided += range(span.z.start, span.z.stop)
        assert max(decided) >= min(groups, -(-tile.stop // GROUP) + context // GROUP + 1) - 1
        assert span.coded == tile.grown(context, context, length)
        assert span.analysed == span.y.grown(analysis_reach(config), analysis_reach(config), length)
        assert span.z_seen.stop - 1 <= max(decided)
        assert span.coded.start >= span.y.start and span.coded.stop <= span.y.stop
        for t in range(span.z.start, span.z.stop):
            needed = Span(max(0, GROUP * t - 3), min(length, GROUP * t + 4))
            assert span.y.start <= needed.start and needed.stop <= span.y.stop
        back = DecoderSpans.of(tile, length, config)
        halo = context + synthesis_reach(config)
        least = tile.grown(halo, halo, length)
        assert back.decoded.start <= least.start and least.stop <= back.decoded.stop
        assert back.used == tile.grown(halo - context, halo - context, length)
        for window, seen in ((span.coded, span.z_seen), (back.decoded, back.z_seen)):
            assert window.start % GROUP == 0
            assert seen == Span(
                max(0, window.start // GROUP - 1), min(groups, -(-window.stop // GROUP) + 1)
            )
            assert feature_slice(window, seen).stop <= GROUP * len(seen)
    assert positions == list(range(length))
    assert decided == list(range(groups))


def test_small_pictures_are_one_tile() -> None:
    for width, height in ((1920, 1080), (1440, 1440), (2560, 800), (100_000, 16)):
        rows, columns = -(-height // BLOCK), -(-width // BLOCK)
        assert tiles(rows, columns) == ([Span(0, rows)], [Span(0, columns)])
    rows, columns = tiles(250, 375)
    assert max(map(len, rows)) == 84 and max(map(len, columns)) == 96


def test_restack() -> None:
    rows = np.arange(30, dtype=np.int16).reshape(1, 30, 1)
    drawn = []

    def parts() -> Iterator[np.ndarray]:
        for start in range(0, 30, 7):
            drawn.append(start)
            yield rows[:, start : start + 7]

    windows = [Span(0, 3), Span(2, 9), Span(9, 10), Span(20, 30), Span(21, 30)]
    counts = []
    for window, cut in zip(windows, restack(parts(), windows), strict=True):
        np.testing.assert_array_equal(np.concatenate(cut, axis=1)[0, :, 0], np.r_[window.at])
        counts.append(len(drawn))
    assert counts == [1, 2, 2, 5, 5]


@pytest.mark.slow
@pytest.mark.parametrize("quality", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("side", [8, 16])
def test_tiled_equals_untiled(codecs: dict[int, Codec], side: int, quality: float) -> None:
    untiled, tiled = codecs[TILE].pipeline, codecs[side].pipeline
    pixels, conditioning = collage(299, 501), untiled.dials.at(quality)
    whole, parts = (one.latents(pixels, conditioning) for one in (untiled, tiled))
    np.testing.assert_array_equal(parts.z, whole.z)
    np.testing.assert_array_equal(parts.y, whole.y)
    np.testing.assert_array_equal(parts.indexes, whole.indexes)
    shown = [one.pixels(whole, conditioning).astype(int) for one in (untiled, tiled)]
    apart = np.abs(shown[0] - shown[1])
    assert apart.max() <= 1
    assert apart.mean() < 1e-3


def test_files_are_equal_too(codecs: dict[int, Codec], monkeypatch: pytest.MonkeyPatch) -> None:
    """With several sections and several bands that do not begin at the same rows."""
    monkeypatch.setattr("vrcodec.bitstream.grid.SECTION_POSITIONS", 100)
    picture = Image.fromarray(collage(299, 501))
    files, decoded = {}, {}
    for side in (TILE, 16):
        files[side] = codecs[side].encode(picture, 0.5)
        decoded[side] = np.asarray(codecs[side].decode(files[TILE])).astype(int)
    assert unpack(files[16]).header.section_count == 7
    assert files[16] == files[TILE]
    assert np.abs(decoded[16] - decoded[TILE]).max() <= 1


def test_bands_bring_the_rows_of_z_that_their_symbols_need(codecs: dict[int, Codec]) -> None:
    """Drawing a band changes no band drawn before, and z comes once, from the top down."""
    runner = codecs[8].pipeline.runner
    pixels = collage(299, 501)
    conditioning = codecs[8].dials.at(0.5)
    whole = codecs[TILE].pipeline.latents(pixels, conditioning)
    bands, copies, rows_of_z, rows_of_y = [], [], 0, 0
    for band in runner.quantise(pixels[None], conditioning, grey=False):
        bands.append(band)
        copies.append((band.y.copy(), band.z.copy()))
        rows_of_z += band.z.shape[2]
        rows_of_y += band.y.shape[2]
        assert rows_of_z >= min(whole.z.shape[1], -(-rows_of_y // GROUP) + 1)
    assert len(bands) > 2
    for band, (y, z) in zip(bands, copies, strict=True):
        np.testing.assert_array_equal(band.y, y)
        np.testing.assert_array_equal(band.z, z)
    np.testing.assert_array_equal(np.concatenate([z[0] for _, z in copies], axis=1), whole.z)


def test_a_wrong_symbol_is_found_whatever_the_tiles(
    codecs: dict[int, Codec], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vrcodec.bitstream.grid.SECTION_POSITIONS", 100)
    codec = codecs[16]
    stream = unpack(codec.encode(Image.fromarray(collage(299, 501)), 0.2))
    wrong = dataclasses.replace(stream, symbols_crc=stream.symbols_crc ^ 1)
    with pytest.raises(CorruptError, match="symbols"):
        codec.pipeline.read_latents(wrong)
    with pytest.raises(CorruptError, match="symbols"):
        codec.decode(pack(wrong))


@pytest.mark.slow
def test_24_megapixels_stay_within_memory(tiny_weights: Path) -> None:
    script = TESTS.parent / "scripts" / "memory.py"
    run = subprocess.run(
        [
            sys.executable,
            script,
            "--megapixels",
            "24",
            "--weights",
            tiny_weights,
            "--format",
            "ppm",
        ],
        check=True,
        capture_output=True,
        timeout=300,
    )
    encode, decode = map(json.loads, run.stdout.splitlines())
    assert encode["width"] * encode["height"] >= 24_000_000
    # Peaks differ by some 300 MB between machines (allocator, threads), and the release weights,
    # of more channels, need some 300 MB more: 2500 is what is promised of those.
    assert max(encode["peak_mb"], decode["peak_mb"]) < 2000


HOSTILE = """
import resource, sys
from PIL import Image
from vrcodec import CorruptError
from vrcodec.bitstream import grid
from vrcodec.pictures import to_coded
from vrcodec.codec.codec import Codec
from vrcodec.bitstream.container import Extra, Header, Stream, pack

def peak():
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit

def decode(width, height):
    header = Header(width, height, codec.weights_id, codec.dials.conditioning())
    alpha = to_coded(Image.new("LA", (width, height))).extras[Extra.ALPHA]
    y = (b"",) * header.section_count
    try:
        codec.decode(pack(Stream(header, b"", y, 0, {Extra.ALPHA: alpha})))
    except CorruptError as error:
        assert "symbols" in str(error)

codec = Codec(sys.argv[1], "cpu", threads=1, tile=16)
grid.SECTION_POSITIONS = 512  # the fixed amount shall be small
for width in (2048, 131072):  # the first two million pixels take what any picture takes
    decode(width, (1 << 21) // width)
    before = peak()
    decode(width, 3 * (1 << 21) // width)
    print((peak() - before) / (1 << 22))
"""


@pytest.mark.slow
def test_a_few_bytes_cannot_ask_for_more_than_their_pixels(
    tiny_weights: Path, vrcodec_environment: dict[str, str]
) -> None:
    """Empty sections are valid ones, and decode to any size: 24 bytes per pixel is the promise."""
    run = subprocess.run(
        [sys.executable, "-c", HOSTILE, tiny_weights],
        env=vrcodec_environment,
        check=True,
        capture_output=True,
        text=True,
        timeout=300,
    )
    per_pixel = [float(line) for line in run.stdout.split()]
    assert len(per_pixel) == 2 and max(per_pixel) <= 24, per_pixel
