"""The synthesis transform taught by latents as files hold them (`training/synthesis.py`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import GOLDEN
from PIL import Image

from vrcodec import Codec
from vrcodec.bitstream.container import unpack
from vrcodec.errors import VrcodecError
from vrcodec.model.weights_file import load_weights
from vrcodec.training.checkpoints import Checkpoint
from vrcodec.training.data import PictureStore
from vrcodec.training.folder import run_task
from vrcodec.training.options import TrainingOptions
from vrcodec.training.synthesis import SynthesisTuning

PICTURES = Path(__file__).parent / "pictures"
WEIGHTS = [GOLDEN / "tiny.safetensors", GOLDEN / "tiny-trellis.safetensors"]
OPTIONS: dict[str, Any] = {
    **{"max_steps": 24, "batch": 4, "patch": 64, "lr": 1e-2, "warmup_steps": 0},
    **{"ema": 0.8, "threads": 1},
}
CPU = torch.device("cpu")
MACAW = Image.open(PICTURES / "macaw.png").convert("RGB").crop((0, 0, 144, 112))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> PictureStore:
    folder = tmp_path_factory.mktemp("pictures")
    for path in PICTURES.glob("*.png"):
        Image.open(path).convert("RGB").save(folder / path.name)
    return PictureStore([folder], 64, CPU)


def tuning(weights: Path, store: PictureStore) -> SynthesisTuning:
    return SynthesisTuning(load_weights(weights), store, TrainingOptions(**OPTIONS))


def run(
    weights: Path, store: PictureStore, folder: Path, resume: bool = False, **more: float
) -> Path:
    def begin(
        found: Checkpoint[TrainingOptions] | None, options: TrainingOptions
    ) -> SynthesisTuning:
        return SynthesisTuning(load_weights(weights), store, options, found)

    assert run_task(begin, folder, OPTIONS | more, TrainingOptions, resume=resume)
    return folder / "weights.safetensors"


@pytest.mark.parametrize("weights", WEIGHTS, ids=lambda path: path.stem)
@pytest.mark.parametrize("quality", [0.1, 0.8])
def test_it_learns_from_what_decoders_find(
    weights: Path, quality: float, store: PictureStore
) -> None:
    task, codec = tuning(weights, store), Codec(weights, threads=1)
    x = torch.from_numpy(np.array(MACAW).transpose(2, 0, 1)[None].astype(np.float32) / 255)
    at = task.weights.config.dials.at(quality)
    with torch.no_grad():
        made = task.fresh()(task.coded(x, at), task.network.condition(at), task.network.basis)
    pixels = (made[0].clamp(0, 1) * 255).round().numpy().transpose(1, 2, 0)
    decoded = np.asarray(codec.decode(codec.encode(MACAW, quality)).convert("RGB"), dtype=float)
    assert np.abs(pixels - decoded).max() <= 1


@pytest.mark.parametrize("weights", WEIGHTS, ids=lambda path: path.stem)
def test_files_keep_their_symbols_and_pictures_come_nearer(
    weights: Path, store: PictureStore, tmp_path: Path
) -> None:
    new = run(weights, store, tmp_path)
    before, after = load_weights(weights).tensors, load_weights(new).tensors
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    assert changed
    assert all(name.startswith("model.synthesis.") for name in changed)
    old, tuned = Codec(weights, threads=1), Codec(new, threads=1)
    for quality in (0.2, 0.5, 0.8):
        streams = [unpack(codec.encode(MACAW, quality)) for codec in (old, tuned)]
        assert (streams[0].z, streams[0].y) == (streams[1].z, streams[1].y)
        decoded = [codec.decode(codec.encode(MACAW, quality)) for codec in (old, tuned)]
        farther, nearer = (np.square(np.asarray(x, dtype=float) - MACAW).mean() for x in decoded)
        assert nearer < farther


def test_a_run_goes_on_with_its_own_weights_alone(store: PictureStore, tmp_path: Path) -> None:
    whole = run(WEIGHTS[1], store, tmp_path / "whole")
    run(WEIGHTS[1], store, tmp_path / "parts", max_steps=3, decay=0)
    parts = run(WEIGHTS[1], store, tmp_path / "parts", resume=True, decay=0.3)
    assert parts.read_bytes() == whole.read_bytes()
    with pytest.raises(VrcodecError, match="other weights"):
        run(WEIGHTS[0], store, tmp_path / "parts", resume=True)
