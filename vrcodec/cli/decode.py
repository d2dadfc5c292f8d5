"""`vrcodec decode`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from vrcodec.cli import common, folders
from vrcodec.errors import naming
from vrcodec.files import PICTURE_SUFFIXES

FORMAT_SUFFIXES = {name: suffix for suffix, name in reversed(PICTURE_SUFFIXES.items())}
"""The suffix that a file of each format gets."""


@click.command()
@common.inputs_argument
@common.output_option
@click.option(
    "--format",
    "format_name",
    type=click.Choice(list(dict.fromkeys(PICTURE_SUFFIXES.values()))),
    help="Kind of picture to write (default: by the output's name, or png).",
)
@common.device_option
@common.weights_option
@common.max_pixels_option
@common.preserve_option
@common.overwrite_option
@common.json_option
@folders.options
def decode(
    inputs: tuple[str, ...],
    output: str | None,
    format_name: str | None,
    device: str,
    weights: Path | None,
    max_pixels: int | None,
    preserve: bool,
    overwrite: bool,
    as_json: bool,
    **folder_options: Any,
) -> None:
    """Turn .vrc files back into pictures.

    INPUT is a .vrc file, - for stdin, or one folder, with -o naming the folder for its results.
    img.vrc becomes img.png beside it, or img.decoded.png where an img.png exists, unless -o says
    otherwise.
    """
    folder = folders.asked_for(inputs, output, folder_options)
    if folder:
        if preserve:
            raise click.UsageError("--preserve is for files, not for a folder")
        from vrcodec import pictures
        from vrcodec.batch import run as batch

        format_name = format_name or "png"
        settings = batch.Decoding(weights, device, max_pixels or pictures.MAX_PIXELS, format_name)
        listing = folder.list(batch.CODED, FORMAT_SUFFIXES[format_name])
        folders.work_through(folder, listing, settings, overwrite, as_json)
        return
    format_name = format_name or _format_of(output)
    jobs = common.plan(inputs, output, FORMAT_SUFFIXES[format_name], aside=".decoded")
    codec = common.codec_loader(weights, device, max_pixels)

    def work(job: common.Job) -> dict[str, Any]:
        from vrcodec import pictures

        if job.avoided:
            common.say(f"{job.name}: {job.avoided} exists, writing {job.target}", err=True)
        data = job.read()
        with naming(job.name):
            image = codec().decode(data)
            file = pictures.to_file(image, format_name)
        for note in file.notes:
            common.say(f"{job.name}: {note}", err=True)
        job.write(file.data, overwrite, preserve)
        return {
            "format": format_name,
            "width": image.width,
            "height": image.height,
            "bytes": len(file.data),
        }

    def line(facts: dict[str, Any]) -> str:
        return f"{facts['width']}x{facts['height']}, {facts['bytes']:,} bytes"

    common.run_each(jobs, work, line, overwrite, as_json)


def _format_of(output: str | None) -> str:
    """The format that the name of the output asks for."""
    suffix = Path(output or "").suffix.lower()
    if output is None or common.names_folder(output) or not suffix:
        return "png"
    if suffix not in PICTURE_SUFFIXES:
        raise click.UsageError(
            f"no picture format has names in {suffix}; known are {', '.join(PICTURE_SUFFIXES)} "
            "(or say --format)"
        )
    return PICTURE_SUFFIXES[suffix]
