"""`vrcodec eval`: rate-distortion over the whole dial, beside other codecs, and a report of it."""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vrcodec import extras
from vrcodec.cli import common

if TYPE_CHECKING:
    from vrcodec.evaluation.bjontegaard import Curve
    from vrcodec.evaluation.evaluate import Evaluation, Task
    from vrcodec.evaluation.report import Comparison

REPORT_PACKAGES = ("matplotlib", "jinja2")


class Qualities(click.ParamType):
    """Numbers from 0 to 1, with commas between them."""

    name = "q,q,..."

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, ...]:
        try:
            numbers = tuple(float(text) for text in value.split(","))
        except ValueError:
            numbers = ()
        if not numbers or not all(0 <= number <= 1 for number in numbers):
            self.fail(f"{value!r} is not a list such as 0,0.25,0.5,0.75,1", param, ctx)
        return numbers


class Names(click.ParamType):
    """Names, with commas between them."""

    name = "name,name,..."

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        return tuple(name.strip() for name in value.lower().split(",") if name)


@click.command("eval")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    "report",
    metavar="REPORT",
    type=click.Path(path_type=Path),
    help="Write a report into this folder, or go on with the one that is there.",
)
@click.option(
    "--qualities",
    metavar="Q,Q,...",
    type=Qualities(),
    show_default="0,0.1,...,1",
    help="Where on the dial to measure.",
)
@click.option(
    "--compare",
    metavar="NAME,...",
    type=Names(),
    default="",
    help="Measure other codecs, too: jpeg, webp, avif, jxl, heic.",
)
@click.option(
    "--anchors",
    metavar="PATH",
    type=click.Path(path_type=Path),
    multiple=True,
    help="Also compare with the curves in this .json file or folder; repeatable. With the Kodak "
    "pictures, those that come with vrcodec are used anyway.",
)
@click.option(
    "--pictures",
    "shown",
    metavar="N",
    type=click.IntRange(min=0),
    default=6,
    show_default=True,
    help="How many pictures the report shows, the first by name.",
)
@click.option(
    "--jobs",
    metavar="N",
    type=click.IntRange(1, 1024),
    default=1,
    show_default=True,
    help="Processes that measure at once, of one thread each if more than one.",
)
@click.option(
    "--effort",
    metavar="0..9",
    type=click.IntRange(0, 9),
    default=0,
    show_default=True,
    help="Effort of vrcodec's encoder.",
)
@common.device_option
@common.weights_option
@common.max_pixels_option
def evaluate(
    folder: Path,
    report: Path | None,
    qualities: tuple[float, ...] | None,
    compare: tuple[str, ...],
    anchors: tuple[Path, ...],
    shown: int,
    jobs: int,
    effort: int,
    device: str,
    weights: Path | None,
    max_pixels: int | None,
) -> None:
    """Measure rate and distortion of all pictures below DIR through real files.

    Prints means over the pictures, and the BD-rate against every other curve. With -o also
    writes a report: report.html to look at, plots, and the figures as JSON and CSV. Started
    again with the same options, an interrupted report goes on where it was.
    """
    from vrcodec.evaluation import other_codecs
    from vrcodec.evaluation.bjontegaard import kodak_anchors, load_curves
    from vrcodec.evaluation.report import check_report, compare_curves, open_report

    if report:
        extras.require(*REPORT_PACKAGES)
        check_report(report)
    other_codecs.load(compare)
    curves: dict[str, Curve] = {}
    for path in anchors:
        curves |= load_curves(path)

    import torch

    from vrcodec.codec.codec import select_device
    from vrcodec.evaluation.evaluate import Setup, prepare
    from vrcodec.evaluation.rate_distortion import DIAL
    from vrcodec.pictures import MAX_PIXELS
    from vrcodec.pictures.metrics import has_ssimulacra2

    setup = Setup(
        weights,
        str(select_device(device)),
        max_pixels or MAX_PIXELS,
        jobs,
        torch.get_num_threads() if jobs == 1 else 1,
        effort,
    )
    evaluation = prepare(setup, folder, report, qualities or DIAL, compare)
    if not has_ssimulacra2():
        common.say("SSIMULACRA2 is left out: pip install 'vrcodec[eval]'", err=True)
    if evaluation.is_kodak:
        curves = kodak_anchors() | curves
    if curves or compare:
        extras.require("scipy")  # for BD-rates, before an hour of measuring
    if report:
        evaluation = dataclasses.replace(evaluation, notebook=open_report(report))
    _run(evaluation, evaluation.point_tasks(), "measuring")
    comparisons = compare_curves(evaluation, curves)
    common.say(_table(evaluation))
    if comparisons:
        common.say(_bd_table(comparisons))
    if report:
        _report(report, evaluation, comparisons, curves, shown)


def _report(
    folder: Path,
    evaluation: Evaluation,
    comparisons: Sequence[Comparison],
    curves: Mapping[str, Curve],
    shown: int,
) -> None:
    from vrcodec.evaluation import report
    from vrcodec.evaluation.showcase import showcase_task

    report.write_data(folder, evaluation, comparisons)
    plots = report.write_plots(folder, evaluation, curves)
    _run(evaluation, evaluation.memory_tasks(), "memory")
    pictures = evaluation.pictures[:shown]
    tasks = [showcase_task(evaluation, picture) for picture in pictures]
    _run(evaluation, tasks, "pictures")
    parts = [
        (picture.name, evaluation.notebook.results[task.key])
        for picture, task in zip(pictures, tasks, strict=True)
    ]
    fitted = report.write_page(folder, evaluation, comparisons, plots, parts)
    if fitted < len(parts):
        common.say(
            f"{folder / report.PAGE} shows {fitted} pictures: more would exceed "
            f"{report.MAX_PAGE_BYTES / 1e6:.0f} MB",
            err=True,
        )
    common.say(f"\n{folder / report.PAGE}")


def _run(evaluation: Evaluation, tasks: Sequence[Task], what: str) -> None:
    from tqdm import tqdm

    with tqdm(
        total=len(tasks),
        desc=what,
        file=sys.stderr,
        leave=False,
        disable=not sys.stderr.isatty(),
    ) as bar:
        evaluation.run(tasks, bar.update)


def _table(evaluation: Evaluation) -> str:
    """Means of every codec, quality by quality."""
    lines = [f"{len(evaluation.pictures)} pictures"]
    for subject in evaluation.subjects:
        lines += [
            "",
            f"{subject.title}: {subject.identity}",
            "quality      bpp  PSNR dB  MS-SSIM  SSIMU2  encode s  decode s  MP/s",
        ]
        curve = evaluation.curve(subject)
        for i, quality in enumerate(curve["quality"]):
            line = "  ".join(
                (
                    f"{quality:7g}",
                    f"{curve['bpp'][i]:7.4f}",
                    f"{curve['psnr'][i]:7.3f}",
                    _cell(curve["ms_ssim"][i], ".5f", 7),
                    _cell(curve["ssimulacra2"][i], ".2f", 6),
                    f"{curve['encode_seconds'][i]:8.3f}",
                    f"{curve['decode_seconds'][i]:8.3f}",
                    f"{curve['encode_mp_s'][i]:.2f}, {curve['decode_mp_s'][i]:.2f}",
                )
            )
            if curve["estimate"][i]:
                excess = 100 * (curve["bytes"][i] / curve["estimate"][i] - 1)
                line += f"  ({excess:+.2f} % over the estimate)"
            lines.append(line)
    return "\n".join(lines)


def _bd_table(comparisons: Sequence[Comparison]) -> str:
    from vrcodec.evaluation.report import METRICS

    lines = ["", "BD-rate against        " + "".join(f"{title:>28}" for title in METRICS.values())]
    for comparison in comparisons:
        cells = [
            f"{rate:+.2f} %  ({low:5.2f} to {high:5.2f})" if math.isfinite(rate) else "-"
            for rate, low, high in comparison.rates.values()
        ]
        lines.append(f"{comparison.name:23}" + "".join(f"{cell:>28}" for cell in cells))
    return "\n".join(lines)


def _cell(value: float | None, form: str, width: int) -> str:
    return f"{'-' if value is None else format(value, form):>{width}}"
