"""Golden files: what all versions of the format decode to, for ever."""

from __future__ import annotations

import dataclasses
import hashlib
import struct
from pathlib import Path

import numpy as np
import pytest
from reference_decoder import RangeDecoder, decode_symbols

from vrcodec.bitstream.container import Extra, Header, SourceKind, pack, unpack
from vrcodec.bitstream.extras import profiles
from vrcodec.bitstream.trellis import Part
from vrcodec.codec.codec import Codec
from vrcodec.conditional.dials import Conditioning
from vrcodec.model.weights_file import load_weights
from vrcodec.selftest import GOLDEN, TRELLIS_WEIGHTS, WEIGHTS, symbols_digest, weights_of

DATA = Path(__file__).parents[1] / "vrcodec" / "data" / "golden"
CHAINED = [name for name in GOLDEN if "-trellis-" in name]


@pytest.fixture(scope="module", params=["onnx", "torch"])
def codecs(request: pytest.FixtureRequest) -> dict[str, Codec]:
    """By name of the weights."""
    return {
        name: Codec(DATA / name, "cpu", runtime=request.param)
        for name in (WEIGHTS, TRELLIS_WEIGHTS)
    }


@pytest.fixture
def codec(codecs: dict[str, Codec]) -> Codec:
    return codecs[WEIGHTS]


def test_every_golden_file_is_listed() -> None:
    assert {path.name for path in DATA.glob("*.vrc")} == GOLDEN.keys()


@pytest.mark.parametrize("name", GOLDEN)
def test_symbols_are_the_recorded_ones(name: str, codecs: dict[str, Codec]) -> None:
    pipeline = codecs[weights_of(name)].pipeline
    latents = pipeline.read_latents(unpack((DATA / name).read_bytes()))
    assert symbols_digest(latents) == GOLDEN[name]


@pytest.mark.parametrize("name", GOLDEN)
def test_reference_decoder_agrees(name: str, codecs: dict[str, Codec]) -> None:
    data = (DATA / name).read_bytes()
    z, y = decode_symbols(data, (DATA / weights_of(name)).read_bytes())
    latents = codecs[weights_of(name)].pipeline.read_latents(unpack(data))
    np.testing.assert_array_equal(z, latents.z)
    np.testing.assert_array_equal(y, latents.y)
    assert y.any() or "thin" in name


def test_chains_hold_much_of_the_files_with_a_trellis(codecs: dict[str, Codec]) -> None:
    """Some of it under the odd quantiser; and there are symbols outside, and escapes."""
    assert len(CHAINED) == 6
    codec = codecs[TRELLIS_WEIGHTS]
    tables, outside, escapes = codec.weights.y_tables, [], []
    for name in CHAINED:
        stream = unpack((DATA / name).read_bytes())
        latents, at = codec.pipeline.read_latents(stream), stream.header.conditioning
        chained = latents.indexes >= codec.weights.config.trellis_level
        assert chained.mean() > 0.15
        assert (latents.y[chained] % 2).any() and not (latents.y[~chained] % 2).any()
        outside.append(np.abs(latents.y[~chained]).max(initial=0))
        part = Part.everywhere(*latents.y.shape[1:])
        symbols, numbers = tables.symbols(latents.y, latents.indexes, at, part)
        low, size = tables.at(at).low[numbers], tables.at(at).size[numbers]
        escapes.append(np.mean((symbols < low) | (symbols >= low + size)))
    assert np.count_nonzero(outside) >= 4
    assert min(escapes) > 0 and max(escapes) > 0.1


def test_both_models_have_the_same_networks(tiny_weights: Path) -> None:
    first, second = load_weights(tiny_weights), load_weights(DATA / TRELLIS_WEIGHTS)
    assert first.tensors.keys() == second.tensors.keys()
    for name, tensor in first.tensors.items():
        if not name.startswith("tables.y."):
            np.testing.assert_array_equal(tensor, second.tensors[name])
    tables = second.y_tables.tables
    assert len({tables.table(number).tobytes() for number in range(0, 3072, 64)}) == 48


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


@pytest.mark.parametrize("name", [name for name in GOLDEN if "-v2-" in name])
def test_versions_hold_the_same_picture(name: str) -> None:
    first = unpack((DATA / name.replace("-v2-", "-")).read_bytes())
    second = unpack((DATA / name).read_bytes())
    third = unpack((DATA / name.replace("-v2-", "-v3-")).read_bytes())
    assert [stream.header.version for stream in (first, second, third)] == [1, 2, 3]
    assert second.header.weights_id.startswith(first.header.weights_id)
    assert (second.z, second.y, second.symbols_crc) == (first.z, first.y, first.symbols_crc)
    assert dataclasses.replace(third.header, version=2) == second.header
    assert (third.z, third.extras) == (second.z, second.extras)
    assert len(third.y[0]) <= len(second.y[0]) + 1
    assert pack(first) == (DATA / name.replace("-v2-", "-")).read_bytes()


@pytest.mark.parametrize("name", [name for name in GOLDEN if "v3-" in name])
def test_the_latest_version_is_written_again_as_it_was(name: str, codecs: dict[str, Codec]) -> None:
    pipeline = codecs[weights_of(name)].pipeline
    stream = unpack((DATA / name).read_bytes())
    written = pipeline.write_latents(pipeline.read_latents(stream), stream.header)
    assert dataclasses.replace(written, extras=stream.extras) == stream


@pytest.mark.parametrize("name", [name for name in GOLDEN if "v3-" in name])
def test_older_versions_decode_to_the_same_picture(name: str, codecs: dict[str, Codec]) -> None:
    codec = codecs[weights_of(name)]
    older = name.replace("trellis-v3-", "trellis-").replace("golden-v3-", "golden-v2-")
    shown = [codec.decode((DATA / file).read_bytes()).tobytes() for file in (name, older)]
    assert shown[0] == shown[1]
    with pytest.raises(ValueError, match="version 2 is not written"):
        codec.pipeline.write_latents(
            codec.pipeline.read_latents(unpack((DATA / name).read_bytes())),
            unpack((DATA / older).read_bytes()).header,
        )


def test_quiet_symbols_of_golden_files() -> None:
    """None at all, some, and as many as a section can leave out; with chains and without."""
    lowest = {}
    for name in GOLDEN:
        if "v3-" in name:
            (section,) = unpack((DATA / name).read_bytes()).y
            lowest[name] = RangeDecoder(section).decode_uniform(4)
    assert {0, 15} < set(lowest.values())
    assert any(lowest[name] for name in CHAINED if name in lowest)


def test_metadata_of_golden_files() -> None:
    """Listed, deflated and plain sections, and kinds that need one byte and two."""
    streams = {name: unpack((DATA / name).read_bytes()) for name in GOLDEN if "-v2-" in name}
    kinds = {name.split("-")[2]: stream.header.source_kind for name, stream in streams.items()}
    assert kinds == {
        "grey": SourceKind.OTHER_LOSSY,
        "noise": SourceKind.UNKNOWN,
        "photo": SourceKind.JPEG,
        "thin": SourceKind.HEIF,
    }
    assert streams["golden-v2-thin-0.8.vrc"].extras == {Extra.EXIF: b"II*\0\x08\0\0\0\0\0\0\0\0\0"}
    extras = streams["golden-v2-grey-0.37.vrc"].extras
    assert extras[Extra.ICC] == profiles()[1]
    assert extras[Extra.XMP].startswith(b"<x:xmpmeta") and extras[Extra.XMP].endswith(b"meta>")
    assert extras[Extra.DPI] == struct.pack(">II", 300_000, 299_999)
    assert extras[Extra.SOURCE] == hashlib.sha256(b"golden").digest()[:16]
