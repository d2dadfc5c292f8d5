"""The training loop: steps, schedule, averaged weights, checkpoints and log of any `Objective`."""

from __future__ import annotations

import dataclasses
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Generic

import torch
from torch import Tensor

from vrcodec.errors import VrcodecError
from vrcodec.training import checkpoints
from vrcodec.training.checkpoints import CHECKPOINT, TRUNK, TrainingState
from vrcodec.training.distributed import World
from vrcodec.training.fast import FastGradients
from vrcodec.training.log import Log
from vrcodec.training.objective import Batch, Model, Objective
from vrcodec.training.optimizers import MuonAdamW
from vrcodec.training.options import LoopOptions
from vrcodec.training.schedule import learning_rate

MAX_BAD_STEPS = 50
"""Steps without a finite gradient, one after the other, that are taken for divergence."""


@dataclasses.dataclass(frozen=True)
class Budget:
    """How much of everything a run may take in all.

    Attributes:
        seconds: until training has to end, earlier parts of the run included.
        steps: optimiser steps; 0: no limit.
    """

    seconds: float
    steps: int

    def used(self, seconds: float, step: int) -> float:
        """The share that is used up; 1 or more: nothing is left."""
        share = seconds / self.seconds if self.seconds > 0 else 1.0
        return max(share, step / self.steps) if self.steps else share

    def left(self, seconds: float, step: int, step_seconds: float) -> float:
        """Seconds that the rest will take, if every step takes so many."""
        rest = self.seconds - seconds
        return min(rest, (self.steps - step) * step_seconds) if self.steps else rest


def train(
    state: TrainingState[Model],
    objective: Objective[Model],
    options: LoopOptions,
    run: Path,
    *,
    world: World | None = None,
    visible: bool = False,
    budget: Budget | None = None,
    started: float | None = None,
    sources: Mapping[str, list[str]] | None = None,
) -> bool:
    """Train until the budget is spent or a signal asks to stop; leaves a checkpoint in `run`.

    All processes of a `world` draw the same batches and take their share; the first one writes.

    Args:
        visible: say on stderr how it goes.
        budget: that of the options, if it is not said otherwise.
        started: when the clock of this part of the run began to tick, by `time.monotonic`.
        sources: where the data come from, for the checkpoints.

    Returns:
        Whether the budget was spent (False: interrupted, to be resumed).

    Raises:
        VrcodecError: the loss is not finite for many steps in a row, or the last checkpoint
            cannot be written.
    """
    device = next(state.model.parameters()).device
    world = world or World(device=device)
    folder = run if world.first else None
    log = Log(folder, objective.figures, visible, options.tensorboard, state.step)
    with log, _stopping() as stop:
        loop = _Loop(state, objective, options, world, log)
        loop.budget = budget or Budget(options.max_time, options.max_steps)
        loop.started = (time.monotonic() if started is None else started) - state.seconds
        loop.save = lambda name: checkpoints.save(run / name, state, objective, options, sources)
        while loop.go_on(bool(stop)):
            loop.step()
        world.check_equal(loop.parameters)
        if world.first:
            loop.save(CHECKPOINT)
        if world.largest(bool(stop))[0]:
            return loop.used >= 1
    return True


class _Loop(Generic[Model]):
    """One part of a run, from its start or its last checkpoint."""

    budget: Budget
    started: float
    save: Callable[[str], None]

    def __init__(
        self,
        state: TrainingState[Model],
        objective: Objective[Model],
        options: LoopOptions,
        world: World,
        log: Log,
    ) -> None:
        self.state, self.objective, self.options = state, objective, options
        self.world, self.log = world, log
        # The generator of a CPU is in checkpoints; those of other devices are not.
        if world.size > 1 or world.device.type != "cpu":
            torch.manual_seed(hash((options.seed, state.step, world.rank)))
        state.model.train()
        objective.anneal(state.model, state.annealing)
        low = world.dtype(options.precision) is not torch.float32
        self.autocast = torch.autocast(world.device.type, torch.bfloat16, enabled=low)
        self.forward: Callable[..., object] = world.wrap(state.model)
        if isinstance(state.optimizer, MuonAdamW):
            state.optimizer.spread(world)
        self.fast: AbstractContextManager[object] = FastGradients()
        if options.compile:
            self.forward, self.fast = torch.compile(self.forward), nullcontext()
        self.parameters: list[Tensor] = list(state.model.parameters())
        self.averaged: list[Tensor] = list(state.ema.parameters())
        self.names = ("loss", *objective.figures, "grad_norm")
        self.sums = torch.zeros(len(self.names), device=world.device)
        self.counted = self.bad_steps = 0
        self.used = self.rate = 0.0
        self.saved = self.logged = time.monotonic()
        self.began = (self.logged, state.step, state.patches)

    def go_on(self, stop: bool) -> bool:
        """Look at the clock: whether there is to be another step. Logs and saves when due."""
        state, now = self.state, time.monotonic()
        state.seconds = now - self.started
        used, stopping, log, save = self.world.largest(
            self.budget.used(state.seconds, state.step),
            stop,
            now - self.logged > self.options.log_every,
            now - self.saved > self.options.checkpoint_every,
        )
        self.used = used
        over = used >= 1 or bool(stopping)
        if self.counted and (log or over or state.step % self.options.log_steps == 0):
            self._log()
        if save and not over:
            self._save(CHECKPOINT)
        if not over:
            self._schedule()
        return not over

    def _schedule(self) -> None:
        state, options = self.state, self.options
        falling = options.decay > 0 and self.used > 1 - options.decay
        if falling != state.annealing:  # a run that goes on may be before its last phase again
            if falling:
                self._save(TRUNK)
            state.annealing = falling
            self.objective.anneal(state.model, falling)
        factor = learning_rate(self.used, state.step, options.warmup_steps, options.decay)
        self.rate = options.lr * factor
        for group in state.optimizer.param_groups:
            group["lr"] = self.rate

    def _save(self, name: str) -> None:
        """Save; what cannot be saved now is tried again later."""
        self.saved = time.monotonic()
        if self.world.first:
            try:
                self.save(name)
            except VrcodecError as error:
                self.log.say(f"{error}; the run goes on")

    def step(self) -> None:
        """One step of the optimiser on one batch."""
        state, options = self.state, self.options
        count, side = options.crops(state.annealing, self.world.size)
        drawn = self.objective.batch(count, side)
        mine = self.world.share(count)
        batch: Batch = tuple(part[mine].to(self.world.device) for part in drawn)
        with self.autocast, self.fast:
            loss, figures = self.objective.loss(self.forward, batch)
        state.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, options.clip, foreach=True)
        if torch.isfinite(norm):
            state.optimizer.step()
            self.bad_steps = 0
            seen = [loss.detach(), *(figures[name] for name in self.objective.figures), norm]
            self.sums += torch.stack([value.float() for value in seen])
            self.counted += 1
        else:
            self.bad_steps += 1
            if self.bad_steps > MAX_BAD_STEPS:
                raise VrcodecError(f"training diverged at step {state.step}")
        with torch.no_grad():
            keep = min(options.ema, (1 + state.step) / (10 + state.step))
            torch._foreach_lerp_(self.averaged, self.parameters, 1 - keep)
        state.step += 1
        state.patches += count
        self.log.progress(state.step, self.budget.steps)

    def _log(self) -> None:
        state, now = self.state, time.monotonic()
        means = self.world.mean(*(self.sums / self.counted).tolist())
        self.sums.zero_()
        self.counted, self.logged = 0, now
        began, step, patches = self.began
        elapsed = max(now - began, 1e-9)
        step_seconds = elapsed / max(1, state.step - step)
        self.log.row(
            {
                **dict(zip(self.names, means, strict=True)),
                "step": state.step,
                "patches": state.patches,
                "seconds": state.seconds,
                "lr": self.rate,
                "rate": (state.patches - patches) / elapsed,
            },
            self.budget.left(state.seconds, state.step, step_seconds),
        )


@contextmanager
def _stopping() -> Iterator[list[int]]:
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
