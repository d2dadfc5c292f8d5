"""Tables of y by part of the dial and kind of channel: coder, estimate and specification agree."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from reference_decoder import decode_symbols

from vrcodec import Codec
from vrcodec.bitstream.container import unpack
from vrcodec.errors import WeightsError
from vrcodec.model.latent_tables import LatentTables
from vrcodec.model.weights_file import load_weights, save_weights, table_tensors


@pytest.mark.parametrize("quality", [0.0, 0.3, 1.0])
def test_files_are_what_the_specification_says(
    zoned_weights: Path, pictures: Path, quality: float
) -> None:
    image = Image.open(pictures / "macaw.png").convert("RGB").crop((0, 0, 80, 64))
    codec = Codec(zoned_weights, threads=1)
    data = codec.encode(image, quality)
    z, y = decode_symbols(data, zoned_weights.read_bytes())
    latents = codec.pipeline.read_latents(unpack(data))
    np.testing.assert_array_equal(latents.z, z)
    np.testing.assert_array_equal(latents.y, y)
    made = codec.pipeline.latents(np.asarray(image), codec.dials.at(quality))
    np.testing.assert_array_equal(made.y, y)
    np.testing.assert_array_equal(made.indexes, latents.indexes)
    bits = codec.pipeline.estimate_bits(made, codec.dials.at(quality))
    assert 8 * len(data) == pytest.approx(bits + 8 * 32, rel=0.02)


def test_every_part_of_the_dial_and_kind_of_channel_has_its_own(zoned_weights: Path) -> None:
    weights = load_weights(zoned_weights)
    tables, core = weights.y_tables, weights.config.core
    indexes = np.full((768, 1, 2), 9, dtype=np.uint8)
    numbers = tables.numbers(indexes)
    assert (numbers[:core] == 9).all() and (numbers[core:] == 64 + 9).all()
    assert (indexes == 9).all()
    whole = tables.tables
    for quality, bucket in ((0.0, 0), (0.124, 0), (0.126, 1), (0.99, 7), (1.0, 7)):
        here = tables.at(weights.config.dials.at(quality))
        for number in (9, 64 + 9, 127):
            expected = whole.table(128 * bucket + number)
            np.testing.assert_array_equal(here.table(number), expected)


def test_effort_counts_bits_under_the_same_tables(zoned_weights: Path, pictures: Path) -> None:
    image = Image.open(pictures / "macaw.png").convert("RGB").crop((0, 0, 64, 64))
    codec = Codec(zoned_weights, runtime="torch", device="cpu", threads=1)
    for quality in (0.1, 0.9):
        data = codec.encode(image, quality, effort=1)
        _, y = decode_symbols(data, zoned_weights.read_bytes())
        np.testing.assert_array_equal(codec.pipeline.read_latents(unpack(data)).y, y)


def test_other_numbers_of_tables_are_refused(tiny_weights: Path, tmp_path: Path) -> None:
    weights = load_weights(tiny_weights)
    for count in (63, 1, 32):
        few = weights.y_tables.tables.part(0, count)
        with pytest.raises(WeightsError, match="number of probability tables"):
            LatentTables(few, weights.config)
        path = tmp_path / f"{count}.safetensors"
        save_weights(path, weights.config, dict(weights.tensors) | table_tensors("y", few))
        with pytest.raises(WeightsError, match="number of probability tables"):
            load_weights(path)
