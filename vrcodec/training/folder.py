"""A run's folder: where it begins or goes on, and a whole run of a task that is no codec."""

from __future__ import annotations

import dataclasses
import math
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from vrcodec.errors import VrcodecError, reason
from vrcodec.training import checkpoints
from vrcodec.training.checkpoints import CHECKPOINT, Checkpoint
from vrcodec.training.distributed import World
from vrcodec.training.log import event_writer
from vrcodec.training.loop import train
from vrcodec.training.objective import Model, Objective
from vrcodec.training.options import Options

RESULT = "weights.safetensors"
"""What a finished run leaves for others to use."""

Begin = Callable[[Checkpoint[Options] | None, Options], Objective[Model]]
"""Makes the objective of a run that begins with options, or goes on from a checkpoint."""


def run_task(
    begin: Begin[Options, Model],
    run: Path,
    given: Mapping[str, Any],
    kind: type[Options],
    *,
    resume: bool = False,
    device: torch.device | None = None,
    sources: Mapping[str, list[str]] | None = None,
    visible: bool = False,
) -> bool:
    """Train a task from its beginning or its checkpoint, and export what it has come to.

    `run` gets a log, checkpoints, and at the end RESULT, by the averaged weights.

    Args:
        begin: makes the objective.
        given: options by name; a resumed run keeps those that are not named.
        kind: of the options.
        device: the CPU, if nothing is said.
        sources: where the data come from, for the checkpoints; those of a resumed run stay.
        visible: say on stderr what happens.

    Returns:
        False if it was interrupted and `resume` would go on.

    Raises:
        VrcodecError: as the loop, the objective and the checkpoints do; one line.
    """
    started = time.monotonic()
    found = open_run(run, resume, kind)
    options, lines = choose(found, given, kind)
    world = World.join(device or torch.device("cpu"))
    objective = begin(found, options)
    dtype = world.dtype(options.precision)
    if found:
        state = checkpoints.restore(found, objective, options, world.device, dtype)
        lines.append(f"going on at step {state.step}, after {state.seconds:.0f} seconds")
    else:
        state = checkpoints.new_state(objective, options, world.device, dtype)
    speaks = visible and world.first
    if speaks:
        print(*lines, sep="\n", end="\n" * bool(lines), file=sys.stderr, flush=True)
    known = sources or (found.sources if found else {})
    finished = train(
        state, objective, options, run, world=world, visible=speaks, started=started, sources=known
    )
    world.leave()
    if finished and world.first:
        objective.export(objective.finish(state.ema), run / RESULT)
    return finished


def open_run(run: Path, resume: bool, kind: type[Options]) -> Checkpoint[Options] | None:
    """The run's checkpoint, if it is to go on; a folder for it, if it is to begin.

    Raises:
        VrcodecError: there is none, or a run is there that would be replaced; one line.
    """
    path = run / CHECKPOINT
    if resume:
        return checkpoints.read(path, kind)
    if path.exists():
        raise VrcodecError(f"{run}: holds a run already (resume it, or name another folder)")
    try:
        run.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        what = "not a folder" if isinstance(error, FileExistsError) else reason(error)
        raise VrcodecError(f"{run}: {what}") from error
    return None


def choose(
    found: Checkpoint[Options] | None, options: Mapping[str, Any], kind: type[Options]
) -> tuple[Options, list[str]]:
    """The options of a run, and what to say of them; threads are set, TensorBoard is looked for.

    Raises:
        VrcodecError: there is no such option, it contradicts the run's, or nothing ends the run.
    """
    known = {field.name for field in dataclasses.fields(kind)}
    if unknown := sorted(set(options) - known):
        raise VrcodecError(f"there is no training option {unknown[0]!r:.60}")
    chosen, lines = found.options.resumed(options) if found else (kind(**options), [])
    if math.isinf(chosen.max_time) and not chosen.max_steps:
        raise VrcodecError("a run needs an end: a time, or a number of steps")
    if chosen.tensorboard:
        event_writer()
    if chosen.threads:
        torch.set_num_threads(chosen.threads)
    return chosen, lines
