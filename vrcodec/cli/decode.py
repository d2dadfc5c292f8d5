"""`vrcodec decode`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from vrcodec.cli import common, inputs, runs
from vrcodec.cli.encode import sizes
from vrcodec.pictures.formats import FORMATS, WRITTEN_SUFFIXES

if TYPE_CHECKING:
    from vrcodec.batch.worker import Row

FORMAT_SUFFIXES = {name: suffix for suffix, name in reversed(list(WRITTEN_SUFFIXES.items()))}
"""The suffix that a file of each format gets."""


@click.command()
@common.inputs_argument
@common.output_option
@click.option(
    "--format",
    "format_name",
    type=click.Choice(FORMATS),
    help="Kind of picture to write (default: by the output's name, or png).",
)
@runs.options
def decode(
    inputs: tuple[str, ...], output: str | None, format_name: str | None, **others: Any
) -> None:
    """Turn .vrc files back into pictures.

    INPUT is a .vrc file, - for stdin, a URL, or one folder, with -o naming the folder for its
    results; decode IN.vrc OUT.png is short for decode IN.vrc -o OUT.png. img.vrc becomes img.png
    beside it, or img.decoded.png where an img.png exists, unless -o says otherwise.
    """
    _run(inputs, output, format_name, runs.Options(**others))


def _run(
    names: tuple[str, ...], output: str | None, format_name: str | None, options: runs.Options
) -> None:
    from vrcodec.batch.jobs import Decoding
    from vrcodec.batch.listing import CODED
    from vrcodec.batch.settings import DecodeSettings

    sources, out = inputs.split(names, output, WRITTEN_SUFFIXES)
    format_name = format_name or _format_of(out)
    kinds = inputs.Names(CODED, FORMAT_SUFFIXES[format_name], aside=".decoded")
    plan = inputs.plan(sources, out, kinds, options.include, options.exclude)

    def line(row: Row) -> str:
        return f"{row.width}x{row.height}, {sizes(row)}"

    job = Decoding(DecodeSettings(format_name))
    runs.carry_out(plan, job, options.settings(plan), options, line)


def _format_of(output: str | None) -> str:
    """The format that the name of the output asks for."""
    if output is None or inputs.names_folder(output):
        return "png"
    suffix = os.path.splitext(output)[1].lower()
    if not suffix:
        return "png"
    if suffix not in WRITTEN_SUFFIXES:
        raise click.UsageError(
            f"no picture format has names in {suffix}; known are {', '.join(WRITTEN_SUFFIXES)} "
            "(or say --format)"
        )
    return WRITTEN_SUFFIXES[suffix]
