"""Loss-conditional training (YOTO): one network over the whole distribution of lambda."""

from __future__ import annotations

import csv
import dataclasses
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from vrcodec.errors import VrcodecError
from vrcodec.model.config import ModelConfig
from vrcodec.model.initialisation import initialise
from vrcodec.model.network import CompressionModel, channels_last
from vrcodec.training.data import Augmentation, CropSampler, PictureStore
from vrcodec.training.distributed import World
from vrcodec.training.losses import rate_distortion_loss
from vrcodec.training.optimizers import MuonAdamW, make_optimizer
from vrcodec.training.schedule import learning_rate, sample_conditioning

CHECKPOINT = "checkpoint.pt"
TRUNK = "trunk.pt"
LOG = "log.csv"
LOG_COLUMNS = ("step", "patches", "seconds", "loss", "bpp", "psnr", "lr", "grad_norm")


@dataclasses.dataclass(frozen=True)
class TrainingOptions:
    """Everything about a run but the pictures and the shape of the model."""

    max_time: float = float("inf")
    """Seconds of training in all, earlier parts of a resumed run included."""
    max_steps: int = 0
    """Optimiser steps in all; 0: no such limit."""
    batch: int = 8
    """Crops a step, over all processes."""
    patch: int = 192
    final_patch: int = 0
    """Side of the crops while the learning rate falls; 0: as before."""
    final_batch: int = 0
    """Crops a step then; 0: as many pixels as before."""
    lr: float = 1e-3
    optimizer: str = "adamw"
    warmup_steps: int = 200
    decay: float = 0.3
    clip: float = 1.0
    ema: float = 0.999
    lambda_weight: float = 0.5
    """a of the loss R / lambda^a + lambda^(1 - a) D: 0 is R + lambda D itself."""
    loss: str = "mse"
    """One of losses.DISTORTIONS."""
    only_quality: float | None = None
    """Train for this quality alone: a twin to compare the conditioned model with."""
    seed: int = 0
    checkpoint_every: float = 300.0
    """Seconds between checkpoints."""
    compile: bool = False
    bf16: bool = True

    def crops(self, annealing: bool, processes: int = 1) -> tuple[int, int]:
        """Crops a step and the side of each; every process gets the same number."""
        if not annealing:
            return self.batch, self.patch
        side = self.final_patch or self.patch
        count = self.final_batch or self.batch * (self.patch / side) ** 2
        return max(1, round(count / processes)) * processes, side


@dataclasses.dataclass
class TrainingState:
    """What a run is made of; a checkpoint holds all of it."""

    model: CompressionModel
    ema: CompressionModel
    optimizer: torch.optim.Optimizer | MuonAdamW
    sampler: CropSampler
    step: int = 0
    patches: int = 0
    seconds: float = 0.0
    annealing: bool = False


def new_state(
    config: ModelConfig,
    store: PictureStore,
    options: TrainingOptions,
    device: torch.device,
    initial: CompressionModel | None = None,
) -> TrainingState:
    """A run at its beginning: from scratch, or from the weights of `initial`."""
    torch.manual_seed(options.seed)
    sampler = CropSampler(store, Augmentation(), options.seed)
    if initial is None:
        model = CompressionModel(config)
        plain = CropSampler(store, Augmentation(0.4, 0, 0, 0), options.seed + 1)
        side = options.patch // 64 * 64
        initialise(model, torch.cat([plain.batch(16, side).cpu() for _ in range(16)]))
    else:
        model = initial
    model = channels_last(model.to(device))
    ema = channels_last(CompressionModel(model.config).to(device))
    ema.load_state_dict(model.state_dict())
    ema.requires_grad_(False)
    optimizer = make_optimizer(options.optimizer, model, options.lr)
    return TrainingState(model, ema, optimizer, sampler)


def train(
    state: TrainingState,
    options: TrainingOptions,
    run: Path,
    progress: bool,
    world: World | None = None,
) -> bool:
    """Train until the budget is spent or a signal asks to stop; leaves a checkpoint in `run`.

    All processes of a `world` draw the same crops and take their share; the first one writes.

    Returns:
        Whether the budget was spent (False: interrupted, to be resumed).

    Raises:
        VrcodecError: the loss is not finite for many steps in a row.
    """
    model, config = state.model, state.model.config
    device = state.sampler.store.pixels.device
    world = world or World(device=device)
    if world.size > 1:
        torch.manual_seed(hash((options.seed, state.step, world.rank)))
    model.train()
    forward = world.wrap(model)
    if options.compile:
        forward = torch.compile(forward)  # type: ignore[assignment]
    parameters: list[Tensor] = list(model.parameters())
    averaged: list[Tensor] = list(state.ema.parameters())
    started = time.monotonic() - state.seconds
    saved = time.monotonic()
    window: list[tuple[float, float, float, float]] = []
    bad_steps = 0
    with (
        _log_file(run / LOG if world.first else None) as log,
        _stop_requested() as stop,
        tqdm(
            total=options.max_steps or None,
            initial=state.step,
            unit="step",
            disable=not (progress and world.first),
        ) as bar,
    ):
        while True:
            state.seconds = time.monotonic() - started
            used = state.seconds / options.max_time
            if options.max_steps:
                used = max(used, state.step / options.max_steps)
            used, stopping = world.largest(used, bool(stop))
            if used >= 1 or stopping:
                break
            if not state.annealing and options.decay > 0 and used > 1 - options.decay:
                if world.first:
                    save_checkpoint(state, run / TRUNK)
                state.annealing = True
            model.scale_path.fixed_point = state.annealing
            factor = learning_rate(used, state.step, options.warmup_steps, options.decay)
            for group in state.optimizer.param_groups:
                group["lr"] = options.lr * factor

            count, side = options.crops(state.annealing, world.size)
            mine = world.share(count)
            x = state.sampler.batch(count, side)[mine]
            x = x.to(device, memory_format=torch.channels_last)
            conditioning = torch.from_numpy(
                sample_conditioning(
                    state.sampler.rng, count, config.coefficients, options.only_quality
                )[mine]
            ).to(device)
            with torch.autocast(device.type, dtype=torch.bfloat16, enabled=options.bf16):
                loss, bpp, mse = rate_distortion_loss(
                    forward, x, conditioning, config, options.lambda_weight, options.loss
                )
            state.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            norm = torch.nn.utils.clip_grad_norm_(parameters, options.clip)
            if torch.isfinite(norm):
                state.optimizer.step()
                bad_steps = 0
            else:
                bad_steps += 1
                if bad_steps > 50:
                    raise VrcodecError(f"training diverged at step {state.step}")
            with torch.no_grad():
                keep = min(options.ema, (1 + state.step) / (10 + state.step))
                torch._foreach_lerp_(averaged, parameters, 1 - keep)
            state.step += 1
            state.patches += count

            window.append(
                (
                    loss.item(),
                    bpp.mean().item(),
                    (-10 * mse.clamp_min(1e-10).log10()).mean().item(),
                    norm.item(),
                )
            )
            if state.step % 50 == 0:
                means = world.mean(*np.mean(window, axis=0).tolist())
                window.clear()
                state.seconds = time.monotonic() - started
                log(
                    [
                        state.step,
                        state.patches,
                        f"{state.seconds:.1f}",
                        *(f"{v:.5g}" for v in means[:3]),
                        f"{options.lr * factor:.3g}",
                        f"{means[3]:.3g}",
                    ]
                )
                bar.set_postfix_str(
                    f"loss {means[0]:.4f} bpp {means[1]:.3f} psnr {means[2]:.2f} "
                    f"{state.patches / state.seconds:.1f} patches/s",
                    refresh=False,
                )
            bar.update()
            if world.first and time.monotonic() - saved > options.checkpoint_every:
                state.seconds = time.monotonic() - started
                save_checkpoint(state, run / CHECKPOINT)
                saved = time.monotonic()
    world.check_equal(parameters)
    if world.first:
        save_checkpoint(state, run / CHECKPOINT)
    return not stopping


def save_checkpoint(state: TrainingState, path: Path) -> None:
    """Write everything a run needs to go on, through a temporary file."""
    temporary = path.with_name(path.name + ".part")
    torch.save(
        {
            "config": state.model.config.to_json(),
            "model": state.model.state_dict(),
            "ema": state.ema.state_dict(),
            "optimizer": state.optimizer.state_dict(),
            "rng": state.sampler.rng.bit_generator.state,
            "torch_rng": torch.get_rng_state(),
            "step": state.step,
            "patches": state.patches,
            "seconds": state.seconds,
            "annealing": state.annealing,
        },
        temporary,
    )
    temporary.replace(path)


def load_checkpoint(
    path: Path, store: PictureStore, options: TrainingOptions, device: torch.device
) -> TrainingState:
    """The run that `save_checkpoint` wrote. Raises VrcodecError if it cannot be read."""
    try:
        saved = torch.load(path, map_location=device, weights_only=True)
        config = ModelConfig.from_json(saved["config"])
        state = new_state(config, store, options, device, CompressionModel(config))
        state.model.load_state_dict(saved["model"])
        state.ema.load_state_dict(saved["ema"])
        state.optimizer.load_state_dict(saved["optimizer"])
        state.sampler.rng.bit_generator.state = saved["rng"]
        torch.set_rng_state(saved["torch_rng"].cpu())
        state.step, state.patches = saved["step"], saved["patches"]
        state.seconds, state.annealing = saved["seconds"], saved["annealing"]
    except Exception as error:  # torch.load raises many kinds
        raise VrcodecError(f"{path}: not a usable checkpoint: {error}") from error
    return state


@contextmanager
def _log_file(path: Path | None) -> Iterator[Callable[[list[object]], object]]:
    """What writes a row to the log; without a path it is dropped."""
    if path is None:
        yield lambda row: None
        return
    new = not path.exists()
    with path.open("a", newline="", buffering=1) as file:
        writer = csv.writer(file)
        if new:
            writer.writerow(LOG_COLUMNS)
        yield writer.writerow


@contextmanager
def _stop_requested() -> Iterator[list[int]]:
    """A list that is filled when SIGINT or SIGTERM arrives: finish the step, then stop."""
    received: list[int] = []
    signals = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in signals}
    for number in signals:
        signal.signal(number, lambda got, _: received.append(got))
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
