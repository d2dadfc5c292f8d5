"""`vrcodec stylize`, and `vrcodec stylize train`."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vrcodec.batch import storage
from vrcodec.cli import common, inputs, output
from vrcodec.cli.train import given_options, options_of, resume_option, run_option
from vrcodec.errors import VrcodecError
from vrcodec.pictures.formats import WRITTEN_SUFFIXES
from vrcodec.stylize.config import CONTENT, DIALS, MAX_CREDIT, STYLE_LAYERS, StyleConfig
from vrcodec.stylize.options import StyleOptions

if TYPE_CHECKING:
    from vrcodec.batch.listing import Task
    from vrcodec.cli.runs import Command
    from vrcodec.stylize.stylizer import Stylizer

_HELP = {
    CONTENT: "How much the picture stays what it is.",
    "fine": "How much the style's grain and colours count,",
    "small": "its strokes,",
    "medium": "its shapes,",
    "large": "its larger shapes.",
}
assert _HELP.keys() == {CONTENT, *STYLE_LAYERS}


class _Commands(click.Group):
    """`stylize PICTURE...` is short for its one command without a name; `train` has one."""

    PLAIN = "apply"

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or args[0] not in self.commands:
            args = [self.PLAIN, *args]
        return super().parse_args(ctx, args)


@click.group(cls=_Commands, add_help_option=False)
def stylize() -> None:
    """Give pictures the style of another one."""


def _dial_options(command: Command) -> Command:
    for dial in reversed(tuple(DIALS)):
        command = click.option(
            f"--{dial.name}",
            metavar="0..1",
            type=common.Position(),
            default=dial.default,
            show_default=True,
            help=_HELP[dial.name],
        )(command)
    return command


@stylize.command(_Commands.PLAIN)
@common.inputs_argument
@click.option(
    "--style",
    metavar="NAME|FILE",
    required=True,
    help="A released style (any other name lists them), or a file of weights.",
)
@_dial_options
@click.option("--grid", is_flag=True, help="Make a sheet of the picture under moving coefficients.")
@common.output_option
@common.device_option
@common.max_pixels_option
@click.option("--strip", is_flag=True, help="Leave ICC profile, EXIF, XMP and resolution out.")
@click.option("--overwrite", is_flag=True, help="Replace existing files.")
@click.option("--quiet", is_flag=True, help="Say nothing but errors.")
def apply(
    inputs: tuple[str, ...],
    style: str,
    grid: bool,
    output: str | None,
    device: str,
    max_pixels: int | None,
    strip: bool,
    overwrite: bool,
    quiet: bool,
    **dials: float,
) -> None:
    """Give pictures a style, under any proportion of five loss coefficients.

    INPUT is a picture, - for stdin, a URL, or one folder, with -o naming the folder for its
    results. img.jpg becomes img.STYLE.png beside it unless -o says otherwise. Only the proportions
    of the coefficients matter. `vrcodec stylize train` makes new styles.
    """
    job = _Job(style, dials, grid, device, max_pixels, strip, overwrite, quiet)
    job.run(inputs, output)


@dataclasses.dataclass(frozen=True)
class _Job:
    """What is to be done with every picture."""

    style: str
    dials: Mapping[str, float]
    grid: bool
    device: str
    max_pixels: int | None
    strip: bool
    overwrite: bool
    quiet: bool

    def run(self, names: tuple[str, ...], out: str | None) -> None:
        """Do it with all of them; a failure is one line, and the others go on."""
        from vrcodec.batch.listing import always, picture_suffixes
        from vrcodec.model.loading import select_device
        from vrcodec.stylize import weights
        from vrcodec.stylize.stylizer import Stylizer

        sources, out = inputs.split(names, out, ())
        network = weights.load_style(weights.find(self.style))
        suffix = f".{network.config.name}.png"
        kinds = inputs.Names(picture_suffixes(), always(suffix), check_suffix=_check_suffix)
        plan = inputs.plan(sources, out, kinds)
        stylizer = Stylizer(network, select_device(self.device))
        failures: list[str | VrcodecError] = [*plan.listing.failures]
        for task in plan.listing.tasks:
            try:
                self._one(task, plan.out, stylizer)
            except VrcodecError as error:
                failures.append(error)
        for failure in failures:
            output.complain(failure)
        if failures:
            raise click.exceptions.Exit(1)

    def _one(self, task: Task, below: str | None, stylizer: Stylizer) -> None:
        from vrcodec.pictures import (
            MAX_PIXELS,
            from_coded,
            open_picture,
            save_picture,
            to_coded,
        )
        from vrcodec.stylize.sheet import sheet

        storage.check(task.target, self.overwrite, below)
        name = storage.shown(task.source)
        data = storage.read_or_name(task.source)
        image = open_picture(data, name, self.max_pixels or MAX_PIXELS)
        picture = to_coded(image, self.strip)
        if self.grid:
            made = from_coded(sheet(stylizer, picture.pixels), False, {})
        else:
            pixels = stylizer.apply(picture.pixels, self.dials)
            made = from_coded(pixels, False, picture.extras)
        format_name = WRITTEN_SUFFIXES[os.path.splitext(task.target)[1].lower() or ".png"]
        storage.write(task.target, save_picture(made, format_name), self.overwrite, below=below)
        if not self.quiet and task.target != storage.STDIO:
            common.say_line(f"{name} -> {storage.unsecret(task.target)}")


def _check_suffix(name: str) -> None:
    suffix = os.path.splitext(name)[1].lower()
    if suffix and suffix not in WRITTEN_SUFFIXES:
        known = ", ".join(WRITTEN_SUFFIXES)
        raise click.UsageError(f"no picture format has names in {suffix}; known are {known}")


@stylize.command()
@click.argument("picture", metavar="STYLE", type=Path)
@click.argument("folders", metavar="DIR...", nargs=-1, required=True, type=Path)
@run_option
@click.option("--name", metavar="NAME", help="Of the style (default: the picture's).")
@click.option("--credit", default="", help="Author and licence of the style's picture.")
@resume_option
@click.option("--init", metavar="FILE", type=Path, help="Start from the weights of a style.")
@click.option(
    "--features",
    "function",
    metavar="MODULE:FUNCTION",
    help="Measure in what this Python function gives for pictures (default: EfficientNet-Lite0).",
)
@options_of(StyleOptions)
@common.device_option
def train(
    picture: Path,
    folders: tuple[Path, ...],
    run: Path,
    name: str | None,
    credit: str,
    resume: bool,
    init: Path | None,
    function: str | None,
    device: str,
    **given: Any,
) -> None:
    """Train a style, the picture STYLE, on all pictures below DIR...

    RUN/weights.safetensors is what --style of `vrcodec stylize` takes. Needs the extra stylize:
    pip install 'vrcodec[stylize]'.
    """
    options = given_options(given, StyleOptions, resume)
    if resume and init:
        raise click.UsageError("--resume goes on with the run's own weights: no --init")
    config = _config(name, picture, credit)

    from vrcodec.model.loading import select_device
    from vrcodec.stylize.features import find_features
    from vrcodec.stylize.training import train_style
    from vrcodec.training.folder import RESULT

    finished = train_style(
        picture,
        folders,
        run,
        options,
        config=config,
        init=init,
        resume=resume,
        features=find_features(function) if function else None,
        device=select_device(device),
        visible=True,
    )
    if not finished:
        common.say_line(f"stopped; go on with --resume -o {run}", err=True)
        raise click.exceptions.Exit(130)
    common.say_line(str(run / RESULT))


def _config(name: str | None, picture: Path, credit: str) -> StyleConfig:
    """Name and shape of a style. Raises click.BadParameter."""
    own = re.sub("[^a-z0-9]+", "-", picture.stem.lower()).strip("-")[:32].strip("-")
    if len(credit) > MAX_CREDIT:
        raise click.BadParameter(f"at most {MAX_CREDIT} characters", param_hint="--credit")
    try:
        return StyleConfig(name or (own if own[:1].isalpha() else f"style-{own}"[:32]), credit)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--name") from None
