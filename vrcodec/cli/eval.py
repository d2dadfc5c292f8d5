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
from vrcodec.codec.settings import EncodeSettings
from vrcodec.conditional.dials import QUALITY
from vrcodec.errors import VrcodecError

if TYPE_CHECKING:
    from vrcodec.evaluation.bjontegaard import Curve
    from vrcodec.evaluation.evaluate import Evaluation
    from vrcodec.evaluation.machine import LoadWatch
    from vrcodec.evaluation.metrics import Metric
    from vrcodec.evaluation.report import Comparison
    from vrcodec.evaluation.work import Task

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


class DialPosition(click.ParamType):
    """NAME=X."""

    name = "name=x"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, float]:
        name, _, text = value.partition("=")
        try:
            position = float(text)
        except ValueError:
            position = -1.0
        if not name or not 0 <= position <= 1:
            self.fail(f"{value!r} is not NAME=X with X from 0 to 1", param, ctx)
        if name == QUALITY:
            self.fail("the quality is measured at --qualities", param, ctx)
        return name, position


@click.command("eval")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    "report",
    metavar="REPORT",
    type=click.Path(path_type=Path),
    help="Write a report into this folder, or go on with an unfinished one that is there.",
)
@click.option("--overwrite", is_flag=True, help="Replace a finished report.")
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
    help="Measure other codecs, too: jpeg, webp, avif, jxl, heic, and models of CompressAI's zoo "
    "(mbt2018-mean:3 is one, mbt2018-mean all of them).",
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
@click.option(
    "--dial",
    "dials",
    metavar="NAME=X",
    type=DialPosition(),
    multiple=True,
    help="Position of another dial that the weights have, 0 to 1; repeatable.",
)
@common.device_option
@common.weights_option
@common.max_pixels_option
def evaluate(
    folder: Path,
    report: Path | None,
    overwrite: bool,
    qualities: tuple[float, ...] | None,
    compare: tuple[str, ...],
    anchors: tuple[Path, ...],
    shown: int,
    jobs: int,
    effort: int,
    dials: tuple[tuple[str, float], ...],
    device: str,
    weights: Path | None,
    max_pixels: int | None,
) -> None:
    """Measure rate and distortion of all pictures below DIR through real files.

    Prints means over the pictures, and the BD-rate against every other curve. With -o also
    writes a report: report.html to look at, plots, and the figures as JSON and CSV. Started
    again with the same options, an interrupted report goes on where it was.
    """
    from vrcodec.evaluation.anchors import kodak_anchors, load_curves
    from vrcodec.evaluation.report import check_report, open_report

    if report:
        extras.require(*REPORT_PACKAGES)
        check_report(report, overwrite)
    curves: dict[str, Curve] = {}
    for path in anchors:
        more = load_curves(path)
        if twice := curves.keys() & more.keys():
            raise VrcodecError(f"{path}: there is another curve called {min(twice)}")
        curves |= more

    import torch

    from vrcodec.evaluation.evaluate import prepare
    from vrcodec.evaluation.machine import LoadWatch
    from vrcodec.evaluation.rate_distortion import DIAL
    from vrcodec.evaluation.work import Setup
    from vrcodec.model.loading import select_device
    from vrcodec.pictures import MAX_PIXELS

    setup = Setup(
        weights,
        str(select_device(device)),
        max_pixels or MAX_PIXELS,
        jobs,
        torch.get_num_threads() if jobs == 1 else 1,
        EncodeSettings(dials=dials, effort=effort),
    )
    watch = LoadWatch(setup.jobs * setup.threads)
    evaluation = prepare(setup, folder, report, qualities or DIAL, compare)
    _say_what_is_left_out()
    if curves or compare:
        extras.require("scipy")  # for BD-rates, before an hour of measuring
    if evaluation.is_kodak:
        if extras.is_there("scipy"):
            curves = kodak_anchors() | curves
        else:
            common.say("BD-rates are left out: pip install scipy", err=True)
    if report:
        evaluation = dataclasses.replace(evaluation, notebook=open_report(report))
    _measure(report, evaluation, watch)
    _conclude(report, evaluation, curves, shown)


def _measure(report: Path | None, evaluation: Evaluation, watch: LoadWatch) -> None:
    """Measure all points; at an interrupt a report gets what there is so far."""
    from vrcodec.evaluation.report import write_so_far

    tasks = evaluation.point_tasks()
    wanted = evaluation.missing(tasks)
    try:
        _run(evaluation, tasks, "measuring")
    except (KeyboardInterrupt, VrcodecError):
        if report:
            done = write_so_far(report, evaluation)
            common.say(
                f"{report}: holds {done} of {len(evaluation.pictures)} pictures so far; the same "
                "command goes on",
                err=True,
            )
        raise
    finally:
        load = watch.now()
        if len(evaluation.missing(wanted)) < len(wanted):  # it has measured something
            evaluation.keep_load(load)
    if wanted and load.busy:
        common.say(f"Note: {load}", err=True)


def _conclude(
    folder: Path | None, evaluation: Evaluation, curves: Mapping[str, Curve], shown: int
) -> None:
    """Print the tables, and write the report."""
    from vrcodec.evaluation import page, plots
    from vrcodec.evaluation.report import PAGE, compare_curves, write_data
    from vrcodec.evaluation.showcase import showcase_task

    for metric, count in evaluation.incomplete().items():
        of = len(evaluation.pictures)
        common.say(f"{metric} is of {of - count} pictures: {count} are too small for it", err=True)
    comparisons = compare_curves(evaluation, curves)
    common.say(_table(evaluation))
    if comparisons:
        common.say(_bd_table(comparisons))
    if not folder:
        return
    write_data(folder, evaluation, comparisons)
    drawn = plots.write_plots(folder, evaluation, curves)
    _run(evaluation, evaluation.memory_tasks(), "memory")
    pictures = evaluation.pictures[:shown]
    tasks = [showcase_task(evaluation, picture) for picture in pictures]
    _run(evaluation, tasks, "pictures")
    parts = [
        (picture.name, evaluation.notebook.results[task.key])
        for picture, task in zip(pictures, tasks, strict=True)
    ]
    fitted = page.write_page(folder, evaluation, comparisons, drawn, parts)
    if fitted < len(parts):
        common.say(
            f"{folder / PAGE} shows {fitted} pictures: more would exceed "
            f"{page.MAX_PAGE_BYTES / 1e6:.0f} MB",
            err=True,
        )
    common.say(f"\n{folder / PAGE}")


def _say_what_is_left_out() -> None:
    from vrcodec.evaluation.metrics import METRICS

    for metric in METRICS.values():
        if not metric.available:
            common.say(f"{metric.title} is left out: pip install {metric.package}", err=True)


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
    from vrcodec.evaluation.metrics import METRICS

    count = len(evaluation.pictures)
    lines = [f"{count} picture{'s' * (count > 1)}"]
    heads = [f"{_head(metric):>9}" for metric in METRICS.values()]
    for subject in evaluation.subjects:
        lines += [
            "",
            f"{subject.title}: {subject.identity}",
            "  ".join(["quality", "    bpp", *heads, "encode s", "decode s", "MP/s"]),
        ]
        curve = evaluation.curve(subject)
        for i, quality in enumerate(curve["quality"]):
            line = "  ".join(
                (
                    f"{quality:7g}",
                    f"{curve['bpp'][i]:7.4f}",
                    *(
                        _cell(curve[metric.name][i], f".{metric.places}f", 9)
                        for metric in METRICS.values()
                    ),
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


def _head(metric: Metric) -> str:
    """A column's head, in 9 letters."""
    return metric.title.replace("SSIMULACRA", "SSIMU")


def _bd_table(comparisons: Sequence[Comparison]) -> str:
    from vrcodec.evaluation.metrics import METRICS

    width = max(23, *(len(comparison.name) + 2 for comparison in comparisons))
    heads = "".join(f"{metric.title:>28}" for metric in METRICS.values())
    lines = ["", f"{'BD-rate against':{width}}{heads}"]
    for comparison in comparisons:
        cells = [
            f"{rate:+.2f} %  ({low:5.2f} to {high:5.2f})" if math.isfinite(rate) else "-"
            for rate, low, high in comparison.rates.values()
        ]
        lines.append(f"{comparison.name:{width}}" + "".join(f"{cell:>28}" for cell in cells))
    return "\n".join(lines)


def _cell(value: float | None, form: str, width: int) -> str:
    return f"{'-' if value is None else format(value, form):>{width}}"
