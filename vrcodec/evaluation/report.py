"""The files of a report: JSON, CSV, plots, and one page of HTML that needs nothing else.

::

    REPORT/measurements.jsonl   everything measured, for going on (evaluate.Notebook)
    REPORT/curves/NAME.json     means per codec, in the layout of CompressAI's result files
    REPORT/pictures.csv         every picture by every codec at every quality
    REPORT/bd_rates.json        BD-rates
    REPORT/rd_METRIC.png, .svg  rate-distortion plots
    REPORT/report.html          all of that to look at, with pictures
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
import os
import platform
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vrcodec.errors import VrcodecError
from vrcodec.evaluation.bjontegaard import Curve, bd_rate
from vrcodec.evaluation.evaluate import Notebook
from vrcodec.evaluation.showcase import DIAL_SIZE, SIDE_BY_SIDE_SIZE, TRANSPORT
from vrcodec.files import os_error_text, write_atomically

if TYPE_CHECKING:
    from vrcodec.evaluation.evaluate import Evaluation

NOTEBOOK = "measurements.jsonl"
PAGE = "report.html"
MAX_PAGE_BYTES = 25_000_000
"""No further picture is put into the page beyond this size."""
METRICS = {"psnr": "PSNR", "ms_ssim": "MS-SSIM", "ssimulacra2": "SSIMULACRA2"}
_AXES = {
    "psnr": "PSNR (dB)",
    "ms_ssim": "MS-SSIM (dB: -10 log₁₀(1 - x))",
    "ssimulacra2": "SSIMULACRA2",
}
_COMPRESSAI_NAMES = {
    "bpp": "bpp",
    "psnr": "psnr-rgb",
    "ms_ssim": "ms-ssim-rgb",
    "ssimulacra2": "ssimulacra2",
    "encode_seconds": "encoding_time",
    "decode_seconds": "decoding_time",
    "quality": "quality",
}
_ANCHOR_TITLES = {
    "vtm": "VTM 4:4:4 (published)",
    "bpg_444": "BPG 4:4:4 (published)",
    "avif_s6_444": "AVIF (measured before)",
    "heic_444": "HEIC (measured before)",
    "webp_m6": "WebP (measured before)",
    "jxl_e7": "JPEG XL (measured before)",
    "jpeg_420": "JPEG (measured before)",
}
"""Which of the curves in vrcodec/data/anchors are drawn, and what the plots call them."""
_MEASURED_AS = {
    "jpeg": "jpeg_420",
    "webp": "webp_m6",
    "avif": "avif_s6_444",
    "jxl": "jxl_e7",
    "heic": "heic_444",
}
"""The same codecs where a report measures them itself."""
_COLOURS = ("#e4572e", "#4c86c6", "#3a9d6e", "#b07aa1", "#c99a2e", "#7d8590")
_OWN_WIDTH, _WIDTH = 2.4, 1.5
_GREY = "#8a8f98"
_DASHES = ("--", "-.", ":", (0, (1, 4)))
_NONE, _MINUS = "\N{EN DASH}", "\N{MINUS SIGN}"
_INK = "#0a0b0c"
"""Ink in plots; in the page it becomes the colour of the text."""


@dataclasses.dataclass(frozen=True)
class Comparison:
    """BD-rates of vrcodec against one curve.

    Attributes:
        name: of the curve.
        measured: in this evaluation, not elsewhere.
        rates: by metric: percent (negative: vrcodec needs less), and the overlap's ends; nan
            where the curves do not overlap or lack the metric.
    """

    name: str
    measured: bool
    rates: Mapping[str, tuple[float, float, float]]


def compare_curves(evaluation: Evaluation, anchors: Mapping[str, Curve]) -> list[Comparison]:
    """BD-rates against the other codecs of an evaluation, and against curves from elsewhere."""
    own = evaluation.curve(evaluation.own)
    curves = [(s.title, True, evaluation.curve(s)) for s in evaluation.subjects[1:]]
    curves += [(name, False, dict(curve)) for name, curve in anchors.items()]
    return [
        Comparison(name, measured, {metric: bd_rate(own, curve, metric) for metric in METRICS})
        for name, measured, curve in curves
    ]


def write_data(folder: Path, evaluation: Evaluation, comparisons: Sequence[Comparison]) -> None:
    """Write everything but plots and page. Raises VrcodecError."""
    _make_folder(folder / "curves")
    for subject in evaluation.subjects:
        curve = evaluation.curve(subject)
        result = {
            "name": subject.title,
            "description": f"{len(evaluation.pictures)} pictures; {subject.identity}",
            "results": {theirs: curve[ours] for ours, theirs in _COMPRESSAI_NAMES.items()},
        }
        path = folder / "curves" / f"{subject.name}.json"
        write_atomically(path, (json.dumps(result, indent=1) + "\n").encode(), overwrite=True)
    write_atomically(folder / "pictures.csv", _csv(evaluation).encode(), overwrite=True)
    rows = [
        {
            "against": comparison.name,
            "measured_here": comparison.measured,
            "bd_rate_percent": {
                metric: dict(zip(("percent", "low", "high"), rate, strict=True))
                for metric, rate in comparison.rates.items()
                if math.isfinite(rate[0])
            },
        }
        for comparison in comparisons
    ]
    write_atomically(
        folder / "bd_rates.json", (json.dumps(rows, indent=1) + "\n").encode(), overwrite=True
    )


def write_plots(
    folder: Path, evaluation: Evaluation, anchors: Mapping[str, Curve]
) -> dict[str, str]:
    """Draw rate-distortion plots, one per metric that there is.

    Returns:
        By metric, the plot as an SVG element in the colour of the text around it.

    Raises:
        VrcodecError: a file cannot be written.
    """
    import matplotlib

    matplotlib.use("agg")
    elements = {}
    for metric in METRICS:
        if not any(value is not None for value in evaluation.curve(evaluation.own)[metric]):
            continue
        settings = {
            "svg.hashsalt": metric,
            "svg.fonttype": "none",
            "font.size": 10,
            "font.family": "sans-serif",
        }
        with matplotlib.rc_context(settings):
            figure = _plot(evaluation, anchors, metric)
            for suffix, options in ((".png", {"dpi": 160}), (".svg", {})):
                file = io.BytesIO()
                figure.savefig(
                    file, format=suffix[1:], facecolor="white", bbox_inches="tight", **options
                )
                write_atomically(folder / f"rd_{metric}{suffix}", file.getvalue(), overwrite=True)
            file = io.BytesIO()
            figure.savefig(file, format="svg", transparent=True, bbox_inches="tight")
        text = file.getvalue().decode()
        elements[metric] = text[text.index("<svg") :].replace(_INK, "currentColor")
    return elements


def write_page(
    folder: Path,
    evaluation: Evaluation,
    comparisons: Sequence[Comparison],
    plots: Mapping[str, str],
    shown: Sequence[tuple[str, Mapping[str, Any]]],
) -> int:
    """Write the page.

    Args:
        plots: from `write_plots`.
        shown: names of pictures, and what `showcase.show` made of them.

    Returns:
        How many pictures fitted into the page.

    Raises:
        VrcodecError: it cannot be written.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("vrcodec.evaluation", "page"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = _number
    pictures: list[dict[str, Any]] = []
    size = 0
    for name, parts in shown:
        picture = {"name": name, **parts}
        size += len(json.dumps(picture))
        if size > MAX_PAGE_BYTES:
            break
        pictures.append(picture)
    own = evaluation.own
    curves = {subject.name: evaluation.curve(subject) for subject in evaluation.subjects}
    metrics = {
        metric: title
        for metric, title in METRICS.items()
        if any(value is not None for value in curves[own.name][metric])
    }
    page = environment.get_template("report.html").render(
        own=own,
        subjects=evaluation.subjects,
        curves=curves,
        speed_at=_comparable_positions(curves, own.name),
        memory=evaluation.memory(),
        largest=evaluation.largest,
        setup=evaluation.setup,
        count=len(evaluation.pictures),
        kodak=evaluation.is_kodak,
        megapixels=sum(p.width * p.height for p in evaluation.pictures) / 1e6,
        comparisons=comparisons,
        metrics=metrics,
        plots=plots,
        pictures=pictures,
        data={
            "metrics": list(metrics),
            "codecs": {subject.name: subject.title for subject in evaluation.subjects},
            "pictures": pictures,
        },
        sizes={"side_by_side": SIDE_BY_SIDE_SIZE, "dial": DIAL_SIZE},
        transport=TRANSPORT,
        today=date.today().isoformat(),
        machine=f"{platform.system()} on {platform.machine()} with {os.cpu_count()} cores, "
        f"Python {platform.python_version()}",
    )
    write_atomically(folder / PAGE, page.encode(), overwrite=True)
    return len(pictures)


def check_report(folder: Path) -> None:
    """Make sure that a folder, if it is there, holds a report or nothing. Raises VrcodecError."""
    try:
        names = {path.name for path in folder.iterdir()}
    except FileNotFoundError:
        return
    except OSError as error:
        raise VrcodecError(f"{folder}: {os_error_text(error)}") from error
    if names and NOTEBOOK not in names:
        raise VrcodecError(f"{folder}: holds other files; name a new folder for the report")


def open_report(folder: Path) -> Notebook:
    """What a report holds already; its folder is made if it is not there. Raises VrcodecError."""
    _make_folder(folder)
    return Notebook(folder / NOTEBOOK)


def _make_folder(folder: Path) -> None:
    """Make a folder if it is not there. Raises VrcodecError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise VrcodecError(f"{folder}: {os_error_text(error)}") from error


def _comparable_positions(curves: Mapping[str, Mapping[str, Any]], own: str) -> dict[str, int]:
    """By codec, which quality comes nearest in rate to the middle one of our own."""
    rates = curves[own]["bpp"]
    wanted = math.log(rates[len(rates) // 2])
    return {
        name: min(range(len(curve["bpp"])), key=lambda i: abs(math.log(curve["bpp"][i]) - wanted))
        for name, curve in curves.items()
    }


def _csv(evaluation: Evaluation) -> str:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(
        (
            "picture",
            "width",
            "height",
            "codec",
            "quality",
            "bytes",
            "bpp",
            "psnr",
            "ms_ssim",
            "ssimulacra2",
            "encode_seconds",
            "decode_seconds",
            "encode_mp_s",
            "decode_mp_s",
            "estimate_bytes",
        )
    )
    columns = [
        (subject, column)
        for subject in evaluation.subjects
        for column in evaluation.points(subject)
    ]
    for i, picture in enumerate(evaluation.pictures):
        for subject, column in columns:
            point = column[i]
            writer.writerow(
                (
                    picture.name,
                    picture.width,
                    picture.height,
                    subject.name,
                    point.quality,
                    point.bytes,
                    point.bpp,
                    point.psnr,
                    point.ms_ssim,
                    point.ssimulacra2,
                    point.encode_seconds,
                    point.decode_seconds,
                    point.pixels / 1e6 / point.encode_seconds,
                    point.pixels / 1e6 / point.decode_seconds,
                    point.estimate,
                )
            )
    return text.getvalue()


def _plot(evaluation: Evaluation, anchors: Mapping[str, Curve], metric: str) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 4.6))
    axes = figure.add_subplot()
    own = evaluation.curve(evaluation.own)
    subjects = evaluation.subjects
    for subject, colour in zip(subjects, (*_COLOURS, *_COLOURS), strict=False):
        curve = own if subject is evaluation.own else evaluation.curve(subject)
        width = _OWN_WIDTH if subject is evaluation.own else _WIDTH
        axes.plot(
            *_line(curve, metric),
            marker="o",
            markersize=width + 1.6,
            linewidth=width,
            color=colour,
            label=subject.title,
            zorder=3 if subject is evaluation.own else 2,
        )
    measured = {_MEASURED_AS.get(subject.name) for subject in subjects}
    known = [name for name in _ANCHOR_TITLES if name in anchors]
    lines = {name: _line(anchors[name], metric) for name in known or anchors}
    drawn = [name for name, (x, _) in lines.items() if x and name not in measured]
    for i, name in enumerate(drawn):
        axes.plot(
            *lines[name],
            linestyle=_DASHES[i % len(_DASHES)],
            linewidth=1.2,
            color=_GREY,
            label=_ANCHOR_TITLES.get(name, name),
            zorder=1,
        )
    x, y = _line(own, metric)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter("{x:g}")
    if x:
        axes.set_xlim(min(x) / 1.2, max(x) * 1.2)
        reach = max(y) - min(y) or 1
        axes.set_ylim(min(y) - 0.08 * reach, max(y) + 0.08 * reach)
    axes.set_xlabel("bits per pixel")
    axes.set_ylabel(_AXES[metric])
    axes.grid(True, linewidth=0.6, color=_GREY, alpha=0.3)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    legend = axes.legend(loc="upper left", frameon=False, fontsize=9)
    for text in (axes.xaxis.label, axes.yaxis.label, *legend.get_texts()):
        text.set_color(_INK)
    for spine in axes.spines.values():
        spine.set_edgecolor(_INK)
    axes.tick_params(colors=_INK, length=3)
    return figure


def _line(curve: Mapping[str, Any], metric: str) -> tuple[list[float], list[float]]:
    """Points of a curve with the metric, MS-SSIM in dB, in the order of their rates."""
    points = sorted(
        (bpp, value)
        for bpp, value in zip(curve["bpp"], curve.get(metric) or (), strict=False)
        if bpp is not None and value is not None
    )
    if metric == "ms_ssim":
        points = [(bpp, -10 * math.log10(1 - value)) for bpp, value in points if value < 1]
    return [bpp for bpp, _ in points], [value for _, value in points]


def _number(value: float | None, places: int = 2, sign: bool = False) -> str:
    if value is None or not math.isfinite(value):
        return _NONE
    return f"{value:{'+' if sign else ''},.{places}f}".replace("-", _MINUS)
