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
from vrcodec.conditional.dials import ONE, QUALITY, Conditioning
from vrcodec.errors import VrcodecError, WeightsError, naming
from vrcodec.model.config import ModelConfig
from vrcodec.model.identity import default_weights, identify
from vrcodec.text import printable


@click.command()
@click.argument("inputs", metavar="INPUT...", nargs=-1, type=click.Path())
@common.json_option
@click.option("--model", is_flag=True, help="Show size and cost of the model.")
@common.weights_option
def info(inputs: tuple[str, ...], as_json: bool, model: bool, weights: Path | None) -> None:
    """Show what is in .vrc files (- for stdin), or in the model, without decoding.

    Of a folder, all .vrc files below it are shown. Lambda, the loss coefficient that a quality
    stands for, is known of files made with the weights at hand: the released ones, or --weights.
    """
    if not inputs and not model:
        raise click.UsageError("Missing argument 'INPUT...' (or --model).")
    if model:
        facts = common.codec_loader(weights, "auto", None)().summary()
        common.say(json.dumps(facts) if as_json else _model_table(facts))
    known, failed = _known_weights(weights) if inputs else None, False
    for source in _files(split(inputs, "-", ())[0]):
        try:
            if isinstance(source, VrcodecError):
                raise source
            data = storage.read(source, container.MAGIC)
            name = storage.shown(source)
            with naming(name):
                facts = {"input": storage.unsecret(source)} | container.describe(data)
            facts |= _dials(facts, known)
        except VrcodecError as error:
            failed = True
            output.complain(error)
            continue
        common.say(json.dumps(facts) if as_json else _file_table(name, facts))
    if failed:
        raise click.exceptions.Exit(1)


def _known_weights(weights: Path | None) -> tuple[str, ModelConfig] | None:
    """Id and configuration of some weights; None for the released ones where there are none."""
    try:
        return identify(weights or default_weights())
    except WeightsError:
        if weights:
            raise
        return None


def _dials(facts: dict[str, Any], known: tuple[str, ModelConfig] | None) -> dict[str, Any]:
    """Where on which dials a file is, and its lambda, where its weights are known."""
    if known is None or not known[0].startswith(facts["weights_id"]):
        return {}
    values, dials = facts["conditioning"], known[1].dials
    if len(values) != len(dials):
        return {}
    at = Conditioning(tuple(values))
    return {"lambda": dials.coefficients(at.positions)[0], "dials": dials.positions(at)}


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
        kind += " of more than 8 bits"
    coefficient = f" (lambda {facts['lambda']:.3g})" if "lambda" in facts else ""
    others = enumerate(facts["conditioning"][1:], 2)
    further = [f"dial {number} {value / ONE:.3f}" for number, value in others]
    if "dials" in facts:
        further = [f"{name} {at:.3f}" for name, at in list(facts["dials"].items())[1:]]
    where = ", ".join([f"quality {facts['quality']:.3f}{coefficient}", *further])
    if facts["source_kind"] != "unknown":
        kind += f" from {facts['source_kind'].replace('_', ' ')}"
    lines = [
        f"{printable(name)}: {facts['width']}x{facts['height']} {kind}, "
        f"{where}, weights {facts['weights_id']}, {facts['bytes']:,} bytes, {facts['bpp']:.3f} bpp"
    ]
    for section, bits in facts["bits"].items():
        share = 100 * bits / (8 * facts["bytes"])
        lines.append(f"  {section:<10} {bits:>14,} bits {share:>6.1f} %")
    return "\n".join(lines)


def _model_table(facts: dict[str, Any]) -> str:
    ranges = ", ".join(
        f"{'lambda' if name == QUALITY else name} {low:g} to {high:g}"
        for name, (low, high) in facts["dials"].items()
    )
    return (
        f"weights {facts['weights_id']}: {facts['parameters']:,} parameters, {ranges}\n"
        f"  in {facts['runtime']} on {facts['device']}\n"
        f"  encode {facts['encode_kmac_per_pixel']:>6.1f} kMAC/pixel\n"
        f"  decode {facts['decode_kmac_per_pixel']:>6.1f} kMAC/pixel, "
        f"{facts['decode_small_kmac_per_pixel']:.1f} at 1/8 of the size"
    )
