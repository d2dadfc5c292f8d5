"""`vrcodec bench`."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import click

from vrcodec.cli import common
from vrcodec.errors import naming
from vrcodec.files import MAX_STREAM, read_bytes

RATES = {"mp_per_s", "coding_mp_per_s", "products"}
"""What a run tells about an action besides seconds."""
ACTIONS = ("encode", "decode")


@click.command()
@click.argument("picture", required=False, type=click.Path(path_type=Path))
@click.option("-q", "--quality", type=click.FloatRange(0, 1), default=0.5, show_default=True)
@common.device_option
@click.option(
    "--runtime",
    "runtimes",
    type=click.Choice(["onnx", "torch"]),
    multiple=True,
    help="What computes the network; repeatable (default: all that is installed).",
)
@click.option(
    "--threads",
    metavar="N",
    type=click.IntRange(min=1),
    multiple=True,
    help="Threads to compute with; repeatable (default: 1, and all there are).",
)
@click.option(
    "--repeat",
    metavar="N",
    type=click.IntRange(min=1),
    default=5,
    show_default=True,
    help="Runs of each; medians are shown.",
)
@click.option("--no-cold", is_flag=True, help="Leave out the runs in processes of their own.")
@click.option("--no-neighbour", is_flag=True, help="Leave out the runs beside a busy process.")
@common.weights_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def bench(
    picture: Path | None,
    quality: float,
    device: str,
    runtimes: tuple[str, ...],
    threads: tuple[int, ...],
    repeat: int,
    no_cold: bool,
    no_neighbour: bool,
    weights: Path | None,
    as_json: bool,
) -> None:
    """Measure how fast this machine encodes and decodes, by runtime and by stage.

    PICTURE is any picture; without one, a made-up one of 768x512 is used. "warm" is within one
    process, from file to file; "cold" is whole commands. Seconds depend on the machine and on
    what else it does: compare the ratios to the matrix product and to AVIF, which are timed in
    the same run.
    """
    import torch

    from vrcodec.codec.codec import Codec
    from vrcodec.evaluation import bench as measure
    from vrcodec.evaluation.machine import LoadWatch
    from vrcodec.model.loading import select_device
    from vrcodec.pictures import open_picture
    from vrcodec.selftest import available_runtimes

    data = read_bytes(picture, most=MAX_STREAM) if picture else measure.standard_picture()
    name = str(picture) if picture else "made up"
    open_picture(data, name)  # before minutes of work
    counts = list(dict.fromkeys(threads or (1, torch.get_num_threads())))
    watch = LoadWatch(max(counts))
    place = select_device(device)
    results: dict[str, Any] = {"picture": name, "quality": quality, "device": str(place)}
    results["runs"] = []
    for runtime in runtimes or available_runtimes(str(place)):
        for count in counts:
            options = ["--device", device, "--runtime", runtime, "--threads", str(count)]
            options += ["--weights", str(weights)] if weights else []
            torch.set_num_threads(count)
            codec = Codec(weights, device, threads=count, runtime=runtime)
            product = measure.matrix_product(codec.device, repeat)
            run: dict[str, Any] = {"runtime": codec.runtime, "threads": count}
            run |= {"matrix_gmac_per_s": product / 1e9, "avif": measure.avif(data, repeat)}
            with naming(name):
                run |= measure.warm(codec, data, quality, repeat, product)
                if not no_neighbour:
                    with measure.busy_neighbour():
                        run["busy"] = measure.warm(codec, data, quality, repeat, product)
            if not no_cold:
                run["cold"] = measure.cold(data, quality, options, max(1, repeat // 2))
            results["runs"].append(run)
            results["weights_id"] = codec.weights_id
    load = watch.now()
    results["load"] = dataclasses.asdict(load) | {"busy": load.busy}
    click.echo(json.dumps(results) if as_json else f"{_table(results)}\n\n{load}")


def _table(results: dict[str, Any]) -> str:
    first = results["runs"][0]
    lines = [
        f"{results['picture']}, {first['megapixels']:.2f} MP, quality {results['quality']}, "
        f"{first['bpp']:.2f} bpp, {results['device']}, weights {results['weights_id']}"
    ]
    for run in results["runs"]:
        lines += ["", f"{run['runtime']}, {run['threads']} thread{'s' * (run['threads'] > 1)}"]
        for action in ACTIONS:
            lines += _stages(action, run[action])
        lines.append(f"  matrix product {run['matrix_gmac_per_s']:.1f} GMAC/s")
        for action in ACTIONS:
            lines += _compared(action, run)
    return "\n".join(lines)


def _stages(action: str, seconds: dict[str, float]) -> list[str]:
    lines = [f"  {action}, warm"]
    for stage in (name for name in seconds if name not in RATES):
        share = seconds[stage] / seconds["total"]
        lines.append(f"    {stage:<15}{seconds[stage]:>9.3f} s{share:>7.0%}")
    return lines


def _compared(action: str, run: dict[str, Any]) -> list[str]:
    mine = run[action]
    lines = [
        f"  {action} {mine['mp_per_s']:.2f} MP/s, without files "
        f"{mine['coding_mp_per_s']:.2f} MP/s: {mine['products']:.2f} times a matrix product "
        "of as many multiply-accumulates"
    ]
    if run["avif"]:
        other = run["avif"][f"{action}_mp_per_s"]
        ratio = other / mine["coding_mp_per_s"]
        lines[0] += f"; AVIF {other:.2f} MP/s ({ratio:.1f} times as fast)"
    if "busy" in run:
        ratio = run["busy"][action]["total"] / mine["total"]
        lines.append(f"  {action} beside a busy process: {ratio:.1f} times as long")
    if "cold" in run:
        seconds, yardsticks = run["cold"][action], dict(run["cold"])
        del yardsticks["encode"], yardsticks["decode"]
        known = ", ".join(f"{name} {value:.2f} s" for name, value in yardsticks.items())
        lines.append(f"  {action}, cold {seconds:.2f} s ({known})")
    return lines
