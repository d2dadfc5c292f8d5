"""vrcodec train: new weights from folders of pictures."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from vrcodec.cli.common import device_option
from vrcodec.errors import VrcodecError, reason
from vrcodec.training.options import DISABLED, LoopOptions, TrainingOptions, about_option, flag

if TYPE_CHECKING:
    from vrcodec.model.config import ModelConfig

Command = TypeVar("Command", bound=Callable[..., Any])

MAX_CONFIG = 1 << 16
"""Bytes of a --config file, at most."""


run_option = click.option(
    "-o",
    "--output",
    "run",
    metavar="RUN",
    required=True,
    type=Path,
    help="Folder of the run, for all that it leaves: checkpoints, log, weights.",
)
resume_option = click.option("--resume", is_flag=True, help="Go on from the checkpoint in RUN.")


def options_of(kind: type[LoopOptions]) -> Callable[[Command], Command]:
    """An option of the command line for every field of the options of a run, in their order."""

    def add(command: Command) -> Command:
        for field in reversed(dataclasses.fields(kind)):
            command = option_of(field)(command)
        return command

    return add


def option_of(field: dataclasses.Field[Any]) -> Callable[[Command], Command]:
    """The option of the command line for a training option."""
    about, kind = about_option(field), type(cast(object, field.default))
    usual = about.none or ("" if kind is bool else f"default: {field.default}")
    values: dict[str, Any] = {"help": about.help + (f"  [{usual}]" if usual else "")}
    if kind is bool:
        values["is_flag"] = True
    elif about.choices:
        values["type"] = click.Choice(about.choices)
    else:
        values["type"] = int if kind is int else float
        values["metavar"] = about.metavar or ("N" if kind is int else "X")
    return click.option(flag(field), field.name, default=None, **values)


def given_options(
    given: Mapping[str, Any], kind: type[LoopOptions], resume: bool
) -> dict[str, Any]:
    """Those that were given.

    Raises:
        click.BadParameter: a value is out of its bounds.
        click.UsageError: nothing ends a new run.
    """
    options = {n: value for n, value in given.items() if value is not None and value is not False}
    for field in dataclasses.fields(kind):
        if field.name in options:
            refusal = about_option(field).refusal(options[field.name])
            if options[field.name] == DISABLED:
                refusal = "must be a finite number"
            if refusal:
                raise click.BadParameter(refusal, param_hint=flag(field))
    if not resume and not {"max_time", "max_steps"} & set(options):
        raise click.UsageError("one of --max-time and --steps is needed")
    return options


@click.command()
@click.argument("folders", metavar="[DIR]...", nargs=-1, type=Path)
@run_option
@resume_option
@click.option(
    "--init", metavar="FILE", type=Path, help="Start from these weights, or this checkpoint."
)
@click.option(
    "--config",
    metavar="JSON",
    type=Path,
    help="Shape of the model, a JSON file; with --init it may have more blocks and dials, and "
    "local_steps.",
)
@click.option(
    "--val",
    metavar="DIR",
    type=Path,
    help="Measure the weights that the run begins and ends with on these pictures.",
)
@options_of(TrainingOptions)
@device_option
def train(
    folders: tuple[Path, ...],
    run: Path,
    resume: bool,
    init: Path | None,
    val: Path | None,
    config: Path | None,
    device: str,
    **given: Any,
) -> None:
    """Train one model for every quality on all pictures below DIR...

    The run ends when --max-time or --steps is spent; Ctrl-C ends it early, with a checkpoint that
    --resume goes on from, with the options and pictures it had. RUN/weights.safetensors is what
    --weights of the other commands accepts. Several GPUs or machines work together under
    torchrun:

        torchrun --nproc-per-node 8 -m vrcodec train DIR... -o RUN ...
    """
    options = given_options(given, TrainingOptions, resume)
    if not resume and not folders:
        raise click.UsageError("no DIR to train on")
    if resume and (init or config):
        raise click.UsageError("--resume goes on with the run's own model: no --init, no --config")
    shape = _shape(config) if config else None

    from vrcodec.model.loading import select_device
    from vrcodec.training.run import WEIGHTS, run_training

    first = not int(os.environ.get("RANK", "0"))  # of `torchrun` one process speaks for all
    finished = run_training(
        folders,
        run,
        options,
        resume=resume,
        config=shape,
        init=init,
        val=val,
        device=select_device(device),
        visible=first,
    )
    if first and finished:
        click.echo(str(run / WEIGHTS))
    elif first:
        click.echo(f"stopped; go on with --resume -o {run}", err=True)
    if not finished:
        raise click.exceptions.Exit(130)


def _shape(path: Path) -> ModelConfig:
    from vrcodec.model.config import ModelConfig

    try:
        with path.open("rb") as file:
            text = file.read(MAX_CONFIG + 1)
        if len(text) > MAX_CONFIG:
            raise VrcodecError(f"{path}: too long for a model configuration")
        return ModelConfig.from_json(text.decode())
    except OSError as error:
        raise VrcodecError(f"{path}: {reason(error)}") from error
    except RecursionError:
        raise VrcodecError(f"{path}: not a model configuration: nested too deep") from None
    except (ValueError, OverflowError) as error:
        raise VrcodecError(f"{path}: {error}") from error
