"""A training run as a folder: pictures in, checkpoints, log, weights and record out."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from vrcodec.errors import VrcodecError
from vrcodec.model.config import ModelConfig
from vrcodec.model.loading import build
from vrcodec.model.network import CompressionModel
from vrcodec.training.data import Augmentation, CropSampler, PictureStore, find_pictures
from vrcodec.training.export import export
from vrcodec.training.loop import (
    CHECKPOINT,
    TRUNK,
    TrainingOptions,
    TrainingState,
    load_checkpoint,
    new_state,
    train,
)
from vrcodec.weights import load_weights

WEIGHTS = "weights.safetensors"
INITIAL = "initial.safetensors"
TRUNK_WEIGHTS = "trunk.safetensors"
RECORD = "record.json"
EXPORT_PICTURES, EXPORT_SIZE = 256, 256


def run_training(
    folders: Sequence[Path],
    run: Path,
    options: TrainingOptions,
    config: ModelConfig,
    device: torch.device,
    resume: bool = False,
    init: Path | None = None,
    progress: bool = False,
) -> bool:
    """Train on the pictures below `folders`, leaving everything in the folder `run`.

    `run` gets a log, checkpoints, the weights of step 0 (initial.safetensors), the averaged
    weights before annealing (trunk.safetensors, to go on from) and at the end
    (weights.safetensors), and a record of what was done.

    Returns:
        False if it was interrupted and `resume` would go on.

    Raises:
        VrcodecError: no pictures, nothing to resume, a run in the way, or diverged training.
    """
    checkpoint = run / CHECKPOINT
    if resume and not checkpoint.exists():
        raise VrcodecError(f"{run}: no checkpoint to resume from")
    if not resume and checkpoint.exists():
        raise VrcodecError(f"{run}: holds a run already (use --resume, or another folder)")
    run.mkdir(parents=True, exist_ok=True)
    store = PictureStore(folders, options.patch, device, progress)
    if resume:
        state = load_checkpoint(checkpoint, store, options, device)
    else:
        initial = build(load_weights(init))[0].requires_grad_(True) if init else None
        state = new_state(config, store, options, device, initial)
        _export(state.ema, store, run / INITIAL)
    finished = train(state, options, run, progress)
    _export(state.ema, store, run / WEIGHTS)
    if (run / TRUNK).exists():
        trunk = load_checkpoint(run / TRUNK, store, options, device)
        _export(trunk.ema, store, run / TRUNK_WEIGHTS)
    (run / RECORD).write_text(json.dumps(record(state, options, store), indent=1) + "\n")
    return finished


def record(state: TrainingState, options: TrainingOptions, store: PictureStore) -> dict[str, Any]:
    """What was done, for the weights' card."""
    return {
        "steps": state.step,
        "patches": state.patches,
        "seconds": round(state.seconds),
        "pictures": len(store),
        "megapixels": round(sum(h * w for h, w in store.shapes) / 1e6, 1),
        "options": dataclasses.asdict(options),
        "config": json.loads(state.model.config.to_json()),
        "torch": torch.__version__,
    }


def _export(model: CompressionModel, store: PictureStore, path: Path) -> None:
    size = min(EXPORT_SIZE, min(min(shape) for shape in store.shapes) // 64 * 64)
    plain = Augmentation(rescale=0.4, grey=0.05, noise=0.03, synthetic=0.01)
    copy = CompressionModel(model.config)
    copy.load_state_dict(model.state_dict())
    export(copy, CropSampler(store, plain, seed=0), path, EXPORT_PICTURES, size)


def validate(weights: Path, folder: Path, progress: bool = False) -> dict[str, Any]:
    """RD curve of a weights file over the pictures of a folder, through real files."""
    from vrcodec.codec import Codec
    from vrcodec.evaluation.rate_distortion import rd_curve

    qualities = [i / 8 for i in range(9)]
    return rd_curve(Codec(weights), find_pictures([folder]), qualities, progress)
