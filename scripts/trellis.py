#!/usr/bin/env python3
"""Weights with a trellis from weights without: the same networks, and tables counted anew.

For example:

    scripts/trellis.py WEIGHTS TRAIN -o NEW --pictures 768
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click
import torch

from vrcodec.conditional.dials import ONE
from vrcodec.errors import WeightsError, ending_in_a_line
from vrcodec.model.latent_tables import BUCKETS, PER_QUANTISER
from vrcodec.model.loading import build
from vrcodec.model.weights_file import load_weights, save_weights, table_tensors
from vrcodec.training.data import CropSampler, PictureStore
from vrcodec.training.rate_distortion import EXPORTED
from vrcodec.training.trellis_tables import with_trellis


@click.command()
@click.argument("weights", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("train", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path))
@click.option("--step", default=0.75, show_default=True, help="distance of levels, in steps")
@click.option("--level", default=15, show_default=True, help="lowest scale index in chains")
@click.option(
    "--reach", default=0.25, show_default=True, help="highest position of the second dial"
)
@click.option("--pictures", default=768, show_default=True, help="crops that tables are counted on")
@click.option("--size", default=256, show_default=True, help="pixels along their sides")
def main(
    weights: Path,
    train: tuple[Path, ...],
    output: Path,
    step: float,
    level: int,
    reach: float,
    pictures: int,
    size: int,
) -> None:
    """Write OUTPUT: the networks of WEIGHTS with a trellis, tables counted on pictures in TRAIN."""
    plain = load_weights(weights)
    if plain.y_tables.common:
        raise WeightsError(f"{weights}: tables as those of the first weights cannot have a trellis")
    try:
        config = dataclasses.replace(
            plain.config, trellis_step=step, trellis_level=level, trellis_reach=round(reach * ONE)
        )
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    store = PictureStore(train, size, torch.device("cpu"))
    click.echo(store.summary(), err=True)
    sampler = CropSampler(store, EXPORTED, seed=0)

    network, fixed = build(dataclasses.replace(plain, config=config))
    first = plain.y_tables.tables.part(0, BUCKETS * PER_QUANTISER)
    tables = with_trellis(first, network, fixed, sampler, pictures, size)
    made = save_weights(output, config, dict(plain.tensors) | table_tensors("y", tables))
    click.echo(made)


if __name__ == "__main__":
    with ending_in_a_line():
        main()
