"""`vrcodec info`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from vrcodec.batch import storage
from vrcodec.batch.listing import CODED, list_folder
from vrcodec.bitstream import container
from vrcodec.cli import common, output
from vrcodec.cli.inputs import split
from vrcodec.errors import VrcodecError, naming
from vrcodec.text import printable


@click.command()
@click.argument("inputs", metavar="INPUT...", nargs=-1)
@common.json_option
@click.option("--model", is_flag=True, help="Show size and cost of the model.")
@common.weights_option
def info(inputs: tuple[str, ...], as_json: bool, model: bool, weights: Path | None) -> None:
    """Show what is in .vrc files (- for stdin), or in the model, without decoding.

    Of a folder, all .vrc files below it are shown.
    """
    if not inputs and not model:
        raise click.UsageError("Missing argument 'INPUT...' (or --model).")
    if model:
        facts = common.codec_loader(weights, "auto", None)().summary()
        common.say(json.dumps(facts) if as_json else _model_table(facts))
    failed = False
    for source in _files(split(inputs, "-", ())[0]):
        try:
            if isinstance(source, VrcodecError):
                raise source
            data = storage.read(source, container.MAGIC)
            name = storage.shown(source)
            with naming(name):
                facts = {"input": storage.unsecret(source)} | container.describe(data)
        except VrcodecError as error:
            failed = True
            output.complain(error)
            continue
        common.say(json.dumps(facts) if as_json else _file_table(name, facts))
    if failed:
        raise click.exceptions.Exit(1)


def _files(inputs: list[str]) -> Iterator[str | VrcodecError]:
    """The files that are meant, those of folders one by one; or what is wrong with a folder."""
    for source in inputs:
        try:
            plain = storage.plain(source)
            if not storage.is_folder(plain):
                yield plain
                continue
            listing = list_folder(plain, plain, CODED, "")
        except VrcodecError as error:
            yield error
            continue
        yield from (task.source for task in listing.tasks)
        yield from map(VrcodecError, listing.failures)


def _file_table(name: str, facts: dict[str, Any]) -> str:
    kind = "grey" if facts["grey"] else "colour"
    if facts["sixteen_bit"]:
        kind += " (from more than 8 bits)"
    lines = [
        f"{printable(name)}: {facts['width']}x{facts['height']} {kind}, "
        f"quality {facts['quality']:.3f}, "
        f"weights {facts['weights_id']}, {facts['bytes']:,} bytes, {facts['bpp']:.3f} bpp"
    ]
    for section, bits in facts["bits"].items():
        share = 100 * bits / (8 * facts["bytes"])
        lines.append(f"  {section:<10} {bits:>14,} bits {share:>6.1f} %")
    return "\n".join(lines)


def _model_table(facts: dict[str, Any]) -> str:
    ranges = ", ".join(f"{low:g} to {high:g}" for low, high in facts["lambda_ranges"])
    return (
        f"weights {facts['weights_id']}: {facts['parameters']:,} parameters, lambda {ranges}\n"
        f"  in {facts['runtime']} on {facts['device']}\n"
        f"  encode {facts['encode_kmac_per_pixel']:>6.1f} kMAC/pixel\n"
        f"  decode {facts['decode_kmac_per_pixel']:>6.1f} kMAC/pixel"
    )
