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

RATES = {"mp_per_s", "coding_mp_per_s", "gflops"}
"""What a run tells about an action besides seconds."""


@click.command()
@click.argument("picture", required=False, type=click.Path(path_type=Path))
@click.option("-q", "--quality", type=click.FloatRange(0, 1), default=0.5, show_default=True)
@common.device_option
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
@common.weights_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def bench(
    picture: Path | None,
    quality: float,
    device: str,
    threads: tuple[int, ...],
    repeat: int,
    no_cold: bool,
    weights: Path | None,
    as_json: bool,
) -> None:
    """Measure how fast this machine encodes and decodes, by stage.

    PICTURE is any picture; without one, a made-up one of 768x512 is used. "warm" is within one
    process, from file to file; "cold" is whole commands. Seconds depend on the machine and on
    what else it does: compare the ratios to the matrix product and to AVIF, which are timed in
    the same run.
    """
    import torch

    from vrcodec.evaluation import bench as measure
    from vrcodec.evaluation.machine import LoadWatch

    data = read_bytes(picture, most=MAX_STREAM) if picture else measure.standard_picture()
    name = str(picture) if picture else "made up"
    counts = list(dict.fromkeys(threads or (1, torch.get_num_threads())))
    watch = LoadWatch(max(counts))
    options = ["--device", device, *(["--weights", str(weights)] if weights else [])]
    results: dict[str, Any] = {"picture": name, "quality": quality, "runs": []}
    for engine, codec_of in measure.ENGINES.items():
        for count in counts:
            torch.set_num_threads(count)
            codec = codec_of(weights, device, threads=count)
            results |= {"device": codec.device, "weights_id": codec.weights_id}
            with naming(name):
                run: dict[str, Any] = {"engine": engine, "threads": count}
                run |= measure.warm(codec, data, quality, repeat)
            run["matrix_gflops"] = measure.matrix_product(codec.device, repeat)
            cost = codec.summary()
            for action in ("encode", "decode"):
                gflop_per_megapixel = 2 * cost[f"{action}_kmac_per_pixel"]
                run[action]["gflops"] = gflop_per_megapixel * run[action]["coding_mp_per_s"]
            run["avif"] = measure.avif(data, repeat)
            if not no_cold:
                run["cold"] = measure.cold(data, quality, options, max(1, repeat // 2))
            results["runs"].append(run)
    load = watch.now()
    results["load"] = dataclasses.asdict(load) | {"busy": load.busy}
    click.echo(json.dumps(results) if as_json else f"{_table(results)}\n\n{load}")


def _table(results: dict[str, Any]) -> str:
    lines = [
        f"{results['picture']}, {results['runs'][0]['megapixels']:.2f} MP, "
        f"quality {results['quality']}, {results['runs'][0]['bpp']:.2f} bpp, "
        f"{results['device']}, weights {results['weights_id']}"
    ]
    for run in results["runs"]:
        lines += ["", f"{run['engine']}, {run['threads']} thread{'s' * (run['threads'] > 1)}"]
        for action in ("encode", "decode"):
            lines.append(f"  {action}, warm")
            total = run[action]["total"]
            stages = [name for name in run[action] if name not in RATES]
            for stage in stages:
                seconds = run[action][stage]
                lines.append(f"    {stage:<15}{seconds:>9.3f} s{seconds / total:>7.0%}")
        lines.append(f"  matrix product {run['matrix_gflops']:.1f} GFLOP/s")
        for action in ("encode", "decode"):
            mine = run[action]
            text = (
                f"  {action} {mine['mp_per_s']:.2f} MP/s, without files "
                f"{mine['coding_mp_per_s']:.2f} MP/s, {mine['gflops']:.1f} GFLOP/s "
                f"({mine['gflops'] / run['matrix_gflops']:.0%} of the matrix product)"
            )
            if run["avif"]:
                other = run["avif"][f"{action}_mp_per_s"]
                ratio = other / mine["coding_mp_per_s"]
                text += f"; AVIF {other:.2f} MP/s ({ratio:.1f} times as fast)"
            lines.append(text)
        if "cold" in run:
            bare = run["cold"]["import torch"]
            for action in ("encode", "decode"):
                seconds = run["cold"][action]
                lines.append(
                    f"  {action}, cold {seconds:.2f} s: "
                    f"{seconds - bare:.2f} s more than importing torch ({bare:.2f} s)"
                )
    return "\n".join(lines)
