"""`vrcodec decode`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from vrcodec.bitstream.grid import REDUCTIONS
from vrcodec.cli import common, inputs, runs
from vrcodec.cli.encode import sizes
from vrcodec.errors import VrcodecError
from vrcodec.pictures.formats import FORMATS, WRITTEN, WRITTEN_SUFFIXES
from vrcodec.pictures.results import FALLBACK, JPEG_QUALITY, SAME

if TYPE_CHECKING:
    from vrcodec.batch.listing import SuffixOf
    from vrcodec.batch.settings import DecodeSettings
    from vrcodec.batch.worker import Row

SCALES = {f"1/{reduce}" if reduce > 1 else "1": reduce for reduce in REDUCTIONS}


@click.command()
@common.inputs_argument
@common.output_option
@click.option(
    "--format",
    "format_name",
    type=click.Choice([*FORMATS, SAME]),
    help="Kind of picture to write (default: by the output's name, or png); same: that of the "
    "source, and PNG where that cannot be written or hold transparency.",
)
@click.option(
    "--jpeg-quality",
    metavar="1..100",
    type=click.IntRange(1, 100),
    show_default=str(JPEG_QUALITY),
    help="Of pictures written as JPEG.",
)
@click.option("--strip", is_flag=True, help="Leave ICC profile, EXIF, XMP and resolution out.")
@click.option(
    "--scale",
    type=click.Choice(list(SCALES)),
    help="Give the picture smaller, for a third of the network's work.",
)
@click.option(
    "--fit",
    metavar="N",
    type=click.IntRange(1, 1 << 24),
    help="Give the picture so small that no side has more than N pixels, as for a thumbnail.",
)
@runs.options
def decode(
    inputs: tuple[str, ...],
    output: str | None,
    format_name: str | None,
    jpeg_quality: int | None,
    strip: bool,
    scale: str | None,
    fit: int | None,
    **others: Any,
) -> None:
    """Turn .vrc files back into pictures.

    INPUT is a .vrc file, - for stdin, a URL, or one folder, with -o naming the folder for its
    results; decode IN.vrc OUT.png is short for decode IN.vrc -o OUT.png. img.vrc becomes img.png
    beside it, or img.decoded.png where an img.png exists, unless -o says otherwise.
    """
    from vrcodec.batch.settings import DecodeSettings

    names, out = _split(inputs, output)
    format_name = format_name or _format_of(names, out)
    if jpeg_quality is not None and format_name not in {"jpeg", SAME}:
        raise click.UsageError(f"--jpeg-quality is for JPEG, and the result is {format_name}")
    if fit is not None and scale is not None:
        raise click.UsageError("--scale and --fit exclude each other")
    quality = JPEG_QUALITY if jpeg_quality is None else jpeg_quality
    settings = DecodeSettings(format_name, strip, quality, SCALES[scale or "1"], fit)
    _run(names, out, settings, runs.Options(**others))


def _split(names: tuple[str, ...], output: str | None) -> tuple[list[str], str | None]:
    return inputs.split(names, output, WRITTEN_SUFFIXES)


def _run(
    sources: list[str], out: str | None, settings: DecodeSettings, options: runs.Options
) -> None:
    from vrcodec.batch.jobs import Decoding
    from vrcodec.batch.listing import CODED

    kinds = inputs.Names(CODED, _suffix_of(settings), aside=".decoded")
    plan = inputs.plan(sources, out, kinds, options.include, options.exclude)

    def line(row: Row) -> str:
        return f"{row.width}x{row.height}, {sizes(row)}"

    runs.carry_out(plan, Decoding(settings), options.settings(plan), options, line)


def _suffix_of(settings: DecodeSettings) -> SuffixOf:
    """How the results end; with --format same that stands at the beginning of each file."""
    from vrcodec.batch import storage
    from vrcodec.batch.listing import Suffix, always
    from vrcodec.bitstream.container import PEEK_BYTES, peek

    def same(source: str) -> Suffix:
        if source == storage.STDIO or storage.is_special(source):
            raise click.UsageError(
                f"--format same: {storage.shown(source)} is read only once, so name a file after -o"
            )
        try:
            format = settings.format_of(*peek(storage.head(source, PEEK_BYTES)))
        except VrcodecError:  # which its own line will tell, when it is its turn
            format = FALLBACK
        return Suffix(WRITTEN[format].written[0], frozenset(WRITTEN[format].written))

    return same if settings.format == SAME else always(WRITTEN[settings.format].written[0])


def _format_of(names: list[str], output: str | None) -> str:
    """The format that the name of the output asks for, if it is that of a file."""
    if output is None or inputs.names_folder(output) or inputs.is_folder(names):
        return FALLBACK
    suffix = os.path.splitext(output)[1].lower()
    if not suffix:
        return FALLBACK
    if suffix not in WRITTEN_SUFFIXES:
        raise click.UsageError(
            f"no picture format has names in {suffix}; known are {', '.join(WRITTEN_SUFFIXES)} "
            "(or say --format)"
        )
    return WRITTEN_SUFFIXES[suffix]
