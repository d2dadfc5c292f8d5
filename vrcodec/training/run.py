"""A training run as a folder: pictures in, checkpoints, log, weights and record out."""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import json
import math
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vrcodec.errors import VrcodecError
from vrcodec.model.config import ModelConfig
from vrcodec.model.loading import build
from vrcodec.model.network import CompressionModel
from vrcodec.model.weights_file import load_weights
from vrcodec.training import checkpoints
from vrcodec.training.checkpoints import TRUNK, Checkpoint, TrainingState, write_output
from vrcodec.training.data import PictureStore
from vrcodec.training.distributed import World
from vrcodec.training.folder import choose, open_run
from vrcodec.training.growing import grown
from vrcodec.training.loop import Budget, train
from vrcodec.training.losses import TUNE_RANGE
from vrcodec.training.options import TrainingOptions
from vrcodec.training.rate_distortion import MakeModel, RateDistortion, with_tune
from vrcodec.training.validation import validation_pictures

WEIGHTS = "weights.safetensors"
INITIAL = "initial.safetensors"
TRUNK_WEIGHTS = "trunk.safetensors"
RECORD = "record.json"
CURVES = "val.json"


def run_training(
    folders: Sequence[Path],
    run: Path,
    options: Mapping[str, Any],
    *,
    resume: bool = False,
    config: ModelConfig | None = None,
    init: Path | None = None,
    val: Path | None = None,
    device: torch.device | None = None,
    make: MakeModel = CompressionModel,
    visible: bool = False,
) -> bool:
    """Train on the pictures below `folders`, leaving everything in the folder `run`.

    `run` gets a log, checkpoints, the weights of step 0 (initial.safetensors), the averaged
    weights before annealing (trunk.safetensors, to go on from) and at the end
    (weights.safetensors), rate-distortion curves of the first and the last (val.json), and a
    record of what was done. Under `torchrun` every process of the run calls this; the first writes.

    Args:
        folders: of a resumed run those it had, if there are none.
        options: fields of `TrainingOptions`; a resumed run keeps those that are not named.
        config: shape of the model; None: that of `init`, or the default.
        init: weights file or checkpoint to start from.
        val: folder of pictures to measure on.
        device: the CPU, if nothing is said.
        make: what makes networks, if it is not `CompressionModel` itself.
        visible: say on stderr what happens.

    Returns:
        False if it was interrupted and `resume` would go on.

    Raises:
        VrcodecError: no pictures, nothing to resume, a run in the way, an option that contradicts
            the run's, diverged training, or something that cannot be written.
    """
    started = time.monotonic()
    found = open_run(run, resume, TrainingOptions)
    chosen, lines = choose(found, options, TrainingOptions)
    sources = _sources(found, folders, val)
    world = World.join(device or torch.device("cpu"))
    job = _Run(run, chosen, world, sources, visible and world.first)
    job.say(*lines)
    state, objective = job.begin(found, config, init, make)
    finished = train(
        state,
        objective,
        chosen,
        run,
        world=world,
        visible=visible,
        budget=Budget(chosen.max_time - state.closing, chosen.max_steps),
        started=started,
        sources=sources,
    )
    world.leave()
    if finished and world.first:
        job.end(state, objective)
    return finished


def _sources(
    found: Checkpoint[TrainingOptions] | None, folders: Sequence[Path], val: Path | None
) -> dict[str, list[str]]:
    sources = dict(found.sources) if found else {}
    for use, paths in (("pictures", list(folders)), ("val", [val] if val else [])):
        if paths:
            sources[use] = [str(path.absolute()) for path in paths]
    if not sources.get("pictures"):
        raise VrcodecError("no folder of pictures to train on")
    return sources


@dataclasses.dataclass(frozen=True)
class _Run:
    """A run that goes on, and what it leaves in its folder beside checkpoints and log."""

    folder: Path
    options: TrainingOptions
    world: World
    sources: dict[str, list[str]]
    visible: bool

    def say(self, *lines: str) -> None:
        """Lines for people, on stderr."""
        if self.visible:
            for line in lines:
                print(line, file=sys.stderr, flush=True)

    def begin(
        self,
        found: Checkpoint[TrainingOptions] | None,
        config: ModelConfig | None,
        init: Path | None,
        make: MakeModel,
    ) -> tuple[TrainingState[CompressionModel], RateDistortion]:
        """State and objective, with pictures read; a run that is new leaves its first weights."""
        keep_freed_memory()
        options, device = self.options, self.world.device
        initial = None
        if found:
            config = found.model_config()
        else:
            config, initial = _beginning(config, init, options, make)
        store = PictureStore(
            [Path(path) for path in self.sources["pictures"]],
            max(options.patch, options.final_patch),
            device,
            self.visible and sys.stderr.isatty(),
        )
        self.say(store.summary())
        objective = RateDistortion(config, store, options, initial, make, self._val_pictures())
        dtype = self.world.dtype(options.precision)
        self.say(
            f"{device}, {torch.get_num_threads()} threads, {str(dtype).removeprefix('torch.')}"
        )
        if found:
            state = checkpoints.restore(found, objective, options, device, dtype)
            self.say(f"going on at step {state.step}, after {state.seconds:.0f} seconds")
            return state, objective
        state = checkpoints.new_state(objective, options, device, dtype)
        if self.world.first:
            began = time.monotonic()
            self._leave(state.ema, objective, "initial", INITIAL)
            state.closing = 2 * (time.monotonic() - began)  # as at the end, where two are left
        (state.closing,) = self.world.largest(state.closing)
        return state, objective

    def _val_pictures(self) -> list[NDArray[np.uint8]]:
        if not self.sources.get("val") or not self.world.first:
            return []
        folder = Path(self.sources["val"][0])
        return validation_pictures(folder, self.options.val_pictures, self.options.val_crop)

    def _leave(
        self, model: CompressionModel, objective: RateDistortion, name: str, file: str
    ) -> dict[str, Any]:
        """Write weights and, if there are pictures for it, measure them; gives all curves."""
        finished = objective.finish(model)
        objective.export(finished, self.folder / file)
        if not objective.validation:
            return {}
        self.say(f"measuring the {name} weights on {len(objective.validation)} pictures")
        curve = objective.validate(finished, self.visible and sys.stderr.isatty())
        path = self.folder / CURVES
        known = json.loads(path.read_text()) if name == "final" and path.exists() else {}
        _write_json(path, known | {name: curve})
        return known | {name: curve}

    def end(self, state: TrainingState[CompressionModel], objective: RateDistortion) -> None:
        """Leave the weights, those before the last phase, the record and the curves."""
        if self.options.scale_steps:
            self.say(f"{self.options.scale_steps} steps for the scale path")
            objective.settle(state.ema)
        curves = self._leave(state.ema, objective, "final", WEIGHTS)
        trunk = self.folder / TRUNK
        if trunk.exists():
            averaged = checkpoints.averaged(checkpoints.read(trunk), objective.empty())
            objective.export(objective.finish(averaged), self.folder / TRUNK_WEIGHTS)
        _write_json(self.folder / RECORD, record(state, self.options, objective))
        if "final" in curves:
            final = curves["final"]
            for quality, bpp, psnr in zip(
                final["quality"], final["bpp"], final["psnr"], strict=True
            ):
                self.say(f"quality {quality:.3f}  {bpp:.4f} bpp  {psnr:.3f} dB")
        if "initial" in curves:
            with contextlib.suppress(ImportError):  # a machine with what training needs: no scipy
                from vrcodec.evaluation.bjontegaard import bd_rate

                rate, low, high = bd_rate(curves["final"], curves["initial"])
                self.say(f"BD-rate against the start: {rate:+.2f} % ({low:.1f} to {high:.1f} dB)")


def _beginning(
    config: ModelConfig | None, init: Path | None, options: TrainingOptions, make: MakeModel
) -> tuple[ModelConfig, CompressionModel | None]:
    """Shape of a new run's model, and what it starts from; with a second dial where one is due."""
    if init is None:
        shape = config or ModelConfig()
        if config is None and options.loss == "tune":
            shape = with_tune(shape, TUNE_RANGE)
        return shape, None
    if init.suffix == ".pt":
        checkpoint = checkpoints.read(init)
        known = checkpoints.averaged(checkpoint, make(checkpoint.model_config()))
    else:
        known = build(load_weights(init))[0]
    if config is None:
        config = known.config
        if options.loss == "tune" and config.coefficients == 1:
            config = with_tune(config, TUNE_RANGE)
    return config, grown(known, config, make)


def keep_freed_memory() -> None:
    """Have glibc keep what is freed for the next step, instead of fetching it from the kernel anew.

    Activations come and go with every step; on two cores that took a sixth of a step.
    """
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
        if mallopt:
            m_mmap_threshold, m_trim_threshold = -3, -1
            mallopt(m_mmap_threshold, 32 << 20)  # the most that glibc takes
            mallopt(m_trim_threshold, (1 << 31) - 1)


def record(
    state: TrainingState[CompressionModel], options: TrainingOptions, objective: RateDistortion
) -> dict[str, Any]:
    """What was done, for the weights' card."""
    settings = {
        name: None if value == math.inf else value  # JSON has no infinity
        for name, value in options.to_dict().items()
    }
    return {
        "steps": state.step,
        "patches": state.patches,
        "seconds": round(state.seconds, 1),
        "closing": round(state.closing, 1),
        "pictures": len(objective.store),
        "megapixels": round(objective.store.megapixels, 1),
        "options": settings,
        "config": json.loads(objective.describe()),
        "torch": torch.__version__,
    }


def _write_json(path: Path, value: Any) -> None:
    write_output(path, (json.dumps(value, indent=1) + "\n").encode())
