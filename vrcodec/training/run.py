"""A training run as a folder: pictures in, checkpoints, log, weights and record out."""

from __future__ import annotations

import ctypes
import dataclasses
import json
import math
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from vrcodec.errors import VrcodecError
from vrcodec.model.config import ModelConfig, unnamed_dials
from vrcodec.model.loading import build
from vrcodec.model.network import CompressionModel
from vrcodec.model.transforms import ResidualBlock
from vrcodec.model.weights_file import load_weights
from vrcodec.training.data import Augmentation, CropSampler, PictureStore, find_pictures
from vrcodec.training.distributed import World
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
from vrcodec.training.losses import MIX_RANGES, check_distortion

WEIGHTS = "weights.safetensors"
INITIAL = "initial.safetensors"
TRUNK_WEIGHTS = "trunk.safetensors"
RECORD = "record.json"
EXPORT_PICTURES, EXPORT_SIZE = 256, 256


def run_training(
    folders: Sequence[Path],
    run: Path,
    options: TrainingOptions,
    config: ModelConfig | None,
    device: torch.device,
    resume: bool = False,
    init: Path | None = None,
    progress: bool = False,
) -> bool:
    """Train on the pictures below `folders`, leaving everything in the folder `run`.

    `run` gets a log, checkpoints, the weights of step 0 (initial.safetensors), the averaged
    weights before annealing (trunk.safetensors, to go on from) and at the end
    (weights.safetensors), and a record of what was done.

    Args:
        config: shape of the model; None: that of `init`, or the default.

    Under `torchrun` every process of the run calls this; the first one writes.

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
    _keep_freed_memory()
    world = World.join(device)
    side = max(options.patch, options.final_patch)
    store = PictureStore(folders, side, world.device, progress and world.first)
    if resume:
        state = load_checkpoint(checkpoint, store, options, world.device)
    else:
        initial = grown(build(load_weights(init))[0], config) if init else None
        state = new_state(config or _default(options), store, options, world.device, initial)
    check_distortion(options.loss, state.model.config, options.patch)
    if world.first and not resume:
        if init:
            shutil.copyfile(init, run / INITIAL)
        else:
            _export(state.ema, store, run / INITIAL, options)
    finished = train(state, options, run, progress, world)
    world.leave()
    if not world.first:
        return finished
    _export(state.ema, store, run / WEIGHTS, options)
    if (run / TRUNK).exists():
        trunk = load_checkpoint(run / TRUNK, store, options, device)
        _export(trunk.ema, store, run / TRUNK_WEIGHTS, options)
    (run / RECORD).write_text(json.dumps(record(state, options, store), indent=1) + "\n")
    return finished


def _keep_freed_memory() -> None:
    """Have glibc keep what is freed for the next step, instead of fetching it from the kernel anew.

    Activations come and go with every step; on two cores that took a sixth of a step.
    """
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
        if mallopt:
            m_mmap_threshold, m_trim_threshold = -3, -1
            mallopt(m_mmap_threshold, 32 << 20)  # the most that glibc takes
            mallopt(m_trim_threshold, (1 << 31) - 1)


def grown(trained: CompressionModel, config: ModelConfig | None) -> CompressionModel:
    """A model of another shape that computes what `trained` does, ready to be trained on.

    Only numbers of residual blocks may differ: further blocks begin by adding nothing.

    Raises:
        VrcodecError: the other shape differs in more than that, or has fewer blocks.
    """
    if config is None or config == trained.config:
        return trained.requires_grad_(True)
    torch.manual_seed(0)
    model = CompressionModel(config)
    for module in model.modules():
        if isinstance(module, ResidualBlock):
            module.silence()
    known = trained.state_dict()
    own = model.state_dict()
    if any(name not in own or own[name].shape != value.shape for name, value in known.items()):
        raise VrcodecError("--init weights fit into a shape with more blocks only")
    model.load_state_dict(known, strict=False)
    return model


def _default(options: TrainingOptions) -> ModelConfig:
    return ModelConfig(dials=unnamed_dials(MIX_RANGES)) if options.loss == "mix" else ModelConfig()


def record(state: TrainingState, options: TrainingOptions, store: PictureStore) -> dict[str, Any]:
    """What was done, for the weights' card."""
    settings = dataclasses.asdict(options)
    if math.isinf(options.max_time):
        settings["max_time"] = None  # JSON has no infinity
    return {
        "steps": state.step,
        "patches": state.patches,
        "seconds": round(state.seconds),
        "pictures": len(store),
        "megapixels": round(sum(h * w for h, w in store.shapes) / 1e6, 1),
        "options": settings,
        "config": json.loads(state.model.config.to_json()),
        "torch": torch.__version__,
    }


def _export(
    model: CompressionModel, store: PictureStore, path: Path, options: TrainingOptions
) -> None:
    size = min(EXPORT_SIZE, min(min(shape) for shape in store.shapes) // 64 * 64)
    plain = Augmentation(rescale=0.4, grey=0.05, noise=0.03, synthetic=0.01)
    copy = CompressionModel(model.config)
    copy.load_state_dict(model.state_dict())
    sampler = CropSampler(store, plain, seed=0)
    export(copy, sampler, path, EXPORT_PICTURES, size, options.only_quality)


def validate(weights: Path, folder: Path, device: str, progress: bool = False) -> dict[str, Any]:
    """RD curve of a weights file over the pictures of a folder, by ideal code lengths."""
    from vrcodec.codec.codec import Codec
    from vrcodec.evaluation.rate_distortion import estimated_curve

    qualities = [i / 8 for i in range(9)]
    return estimated_curve(Codec(weights, device), find_pictures([folder]), qualities, progress)
