#!/usr/bin/env python3
"""Make vrcodec/data/golden/tiny.safetensors, the frozen model that the golden files belong to.

It was made once and is kept for ever: made again it would differ in the last bits, and the
golden files would have to be made again too. Those are for ever: --golden adds what is missing,
and leaves the others. Only the latest version of the format is written; its files hold the symbols
of those of earlier versions, and what version 1 cannot say. Not a model for anybody's pictures: it
is initialised from the test pictures and never trained. tiny-trellis.safetensors has the same
networks, and trellis-coded quantisation with small tables.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import struct
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from vrcodec import Codec
from vrcodec.bitstream.container import VERSION, Extra, SourceKind, pack, unpack
from vrcodec.bitstream.tables import TableSet, concatenate, quantise
from vrcodec.bitstream.trellis import QUANTISERS
from vrcodec.conditional.dials import ONE
from vrcodec.model.config import ModelConfig
from vrcodec.model.initialisation import initialise
from vrcodec.model.latent_tables import BUCKETS, PER_QUANTISER
from vrcodec.model.network import CompressionModel
from vrcodec.model.weights_file import load_weights, save_weights, table_tensors
from vrcodec.selftest import TRELLIS_FILES, TRELLIS_WEIGHTS, WEIGHTS
from vrcodec.training.data import Augmentation, CropSampler, PictureStore
from vrcodec.training.export import export

ROOT = Path(__file__).resolve().parent.parent
TESTS = ROOT / "tests"
CONFIG = ModelConfig(
    width8=8,
    width16=8,
    analysis_blocks=(1, 1),
    synthesis_blocks=(1, 1),
    core=8,
    hyper=8,
    hyper_width=8,
    context_width=8,
    film_width=8,
    learned_linear=False,
)
KINDS = {
    "photo": SourceKind.JPEG,
    "grey": SourceKind.OTHER_LOSSY,
    "noise": SourceKind.UNKNOWN,
    "thin": SourceKind.HEIF,
}
EXTRAS = {
    "grey": {
        Extra.ICC: (ROOT / "vrcodec" / "data" / "metadata" / "srgb-hp-relative.icc").read_bytes(),
        Extra.XMP: b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><!-- nothing --></x:xmpmeta>',
        Extra.DPI: struct.pack(">II", 300_000, 299_999),
        Extra.SOURCE: hashlib.sha256(b"golden").digest()[:16],
    },
    "thin": {Extra.EXIF: b"II*\0\x08\0\0\0\0\0\0\0\0\0"},
}
"""What the pictures have beside pixels, so that the files hold every way of storing it."""
GOLDEN = (("photo", 0.0), ("photo", 0.5), ("grey", 0.37), ("noise", 1.0), ("thin", 0.8))
TRELLIS_GOLDEN = (("photo", 0.5), ("grey", 0.37), ("noise", 1.0))
TRELLIS = {
    "dead_zone": (0.15, 0.4),
    "trellis_step": 0.75,
    "trellis_level": 12,
    "trellis_reach": ONE,
}
"""What the configuration of the second model says otherwise."""
TABLE_REACH = 7
"""Largest regular value of its tables: the file stays small, and escapes occur."""


def make_model(path: Path) -> None:
    """Initialise, shake every parameter a little so that none is without effect, export."""
    torch.manual_seed(1)
    store = PictureStore([TESTS / "pictures"], 64, torch.device("cpu"))
    sampler = CropSampler(store, Augmentation(rescale=0), 1)
    model = CompressionModel(CONFIG)
    initialise(model, sampler.batch(32, 64))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(("film.weight", "head.weight")):
                parameter.add_(0.05 * torch.randn_like(parameter))
    print(export(model, sampler, path, pictures=64, size=64))


def make_trellis_model(tiny: Path, path: Path) -> None:
    """The tiny model with a trellis, and tables that are others in every part."""
    weights = load_weights(tiny)
    config = dataclasses.replace(weights.config, **TRELLIS)
    few, low, tables = weights.y_tables.tables, [], []
    plain = BUCKETS * PER_QUANTISER
    for number in range(plain * (1 + QUANTISERS)):
        part, level = divmod(number, len(few))
        distance = 1.0 if number < plain else 2 * config.trellis_step
        reach, weight = cut_table(few, level, distance)
        low.append(-reach)
        tables.append(quantise(weight ** (1 / (1 + part / 64))))
    many = table_tensors("y", concatenate(low, tables))
    print(save_weights(path, config, dict(weights.tensors) | many))


def cut_table(tables: TableSet, number: int, distance: float) -> tuple[int, np.ndarray]:
    """How far a table reaches whose values are `distance` apart, and its weights."""
    counts = tables.table(number)
    values = np.arange(len(counts) - 1) + tables.low[number]
    coarse = np.round(values / distance).astype(int)
    reach = min(TABLE_REACH, int(coarse.max()))
    columns = np.where(np.abs(coarse) <= reach, coarse + reach, 2 * reach + 1)
    weight = np.bincount(columns, counts[:-1], 2 * reach + 2)
    weight[-1] += counts[-1]
    return reach, weight


def golden_pictures() -> dict[str, Image.Image]:
    """Small pictures that between them reach every part of the bitstream."""
    photo = Image.open(min((TESTS / "pictures").glob("*.png"))).convert("RGB")
    noise = np.random.default_rng(0).integers(0, 256, (48, 40, 3), dtype=np.uint8)
    return {
        "photo": photo.crop((0, 0, 96, 72)),
        "grey": photo.convert("L").crop((8, 8, 73, 41)),
        "noise": Image.fromarray(noise),
        "thin": photo.crop((0, 0, 70, 1)),
    }


def make_golden(weights: Path, folder: Path) -> None:
    for name, quality in GOLDEN:
        rest = f"{name}-{quality}.vrc"
        add_golden(weights, folder, name, quality, f"golden-v{VERSION}-{rest}", f"golden-{rest}")


def make_trellis_golden(weights: Path, folder: Path) -> None:
    for name, quality in TRELLIS_GOLDEN:
        rest = f"{name}-{quality}.vrc"
        file, earlier = f"{TRELLIS_FILES}v{VERSION}-{rest}", TRELLIS_FILES + rest
        add_golden(weights, folder, name, quality, file, earlier)


def add_golden(
    weights: Path, folder: Path, name: str, quality: float, file: str, earlier: str
) -> None:
    """A file that is missing, with the symbols of an earlier version's, if that is there."""
    path, known = folder / file, folder / earlier
    if path.exists():
        return
    codec = Codec(weights, device="cpu")
    data = known.read_bytes() if known.exists() else codec.encode(golden_pictures()[name], quality)
    stream = unpack(data)
    header = dataclasses.replace(
        stream.header, version=VERSION, weights_id=codec.weights_id, source_kind=KINDS[name]
    )
    written = codec.pipeline.write_latents(codec.pipeline.read_latents(stream), header)
    path.write_bytes(pack(dataclasses.replace(written, extras=EXTRAS.get(name, {}))))
    print(file, path.stat().st_size)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--golden", action="store_true", help="only add golden files")
    arguments = parser.parse_args()
    data = ROOT / "vrcodec" / "data" / "golden"
    data.mkdir(exist_ok=True)
    tiny, trellis = data / WEIGHTS, data / TRELLIS_WEIGHTS
    if not arguments.golden:
        make_model(tiny)
    if not arguments.golden or not trellis.exists():
        make_trellis_model(tiny, trellis)
    make_golden(tiny, data)
    make_trellis_golden(trellis, data)
