"""Print parameters, MACs per pixel and CPU seconds of CompressAI's zoo architectures."""

from __future__ import annotations

import click

from vrcodec.errors import VrcodecError, ending_in_a_line
from vrcodec.evaluation.complexity import complexity_table
from vrcodec.evaluation.compressai_baselines import ARCHITECTURES, measure_baselines


@click.command(help=__doc__)
@click.option(
    "--architecture",
    "architectures",
    multiple=True,
    default=ARCHITECTURES,
    show_default=True,
    help="Name in CompressAI's zoo; may be given several times.",
)
@click.option(
    "--quality",
    type=click.IntRange(1, 8),
    default=3,
    show_default=True,
    help="CompressAI's quality, which decides the widths of the layers.",
)
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="torch threads for the CPU seconds, taken on a picture of 768x512 pixels.",
)
def main(architectures: tuple[str, ...], quality: int, threads: int) -> None:
    try:
        rows = measure_baselines(architectures, quality, threads=threads)
    except (ValueError, VrcodecError) as error:
        raise click.ClickException(str(error)) from error
    click.echo(complexity_table(rows))


if __name__ == "__main__":
    with ending_in_a_line():
        main()
