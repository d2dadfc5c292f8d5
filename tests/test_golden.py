"""Golden files: what version 1 of the format decodes to, for ever."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from reference_decoder import decode_symbols

from vrcodec.bitstream.container import Header, pack, unpack
from vrcodec.codec.codec import Codec
from vrcodec.conditional.dials import Conditioning
from vrcodec.selftest import GOLDEN, symbols_digest

DATA = Path(__file__).parents[1] / "vrcodec" / "data" / "golden"


@pytest.fixture(scope="module")
def codec(tiny_weights: Path) -> Codec:
    return Codec(tiny_weights, "cpu")


def test_every_golden_file_is_listed() -> None:
    assert {path.name for path in DATA.glob("*.vrc")} == GOLDEN.keys()


@pytest.mark.parametrize("name", GOLDEN)
def test_symbols_are_the_recorded_ones(name: str, codec: Codec) -> None:
    latents = codec.pipeline.read_latents(unpack((DATA / name).read_bytes()))
    assert symbols_digest(latents) == GOLDEN[name]


@pytest.mark.parametrize("name", GOLDEN)
def test_reference_decoder_agrees(name: str, codec: Codec, tiny_weights: Path) -> None:
    data = (DATA / name).read_bytes()
    z, y = decode_symbols(data, tiny_weights.read_bytes())
    latents = codec.pipeline.read_latents(unpack(data))
    np.testing.assert_array_equal(z, latents.z)
    np.testing.assert_array_equal(y, latents.y)
    assert y.any() or "thin" in name


@pytest.mark.slow
def test_reference_decoder_agrees_on_several_sections(codec: Codec, tiny_weights: Path) -> None:
    """A picture of more than 8192 latent positions has two y sections."""
    header = Header(2080, 1040, codec.weights_id, Conditioning((20_000,)))
    assert header.section_count == 2
    rng = np.random.default_rng(3)
    ramp = np.linspace(0, 255, 2080 * 3, dtype=np.float32).reshape(1, 2080, 3)
    pixels = np.repeat(ramp, 1040, axis=0) + rng.normal(0, 3, (1040, 2080, 3))
    latents = codec.pipeline.latents(pixels.clip(0, 255).astype(np.uint8), header.conditioning)
    data = pack(codec.pipeline.write_latents(latents, header))
    z_symbols, y_symbols = decode_symbols(data, tiny_weights.read_bytes())
    np.testing.assert_array_equal(z_symbols, latents.z)
    np.testing.assert_array_equal(y_symbols, latents.y)
