"""The files of a report: JSON, CSV, plots, and one page of HTML that needs nothing else.

::

    REPORT/measurements.jsonl   everything measured, for going on (notebook.py)
    REPORT/curves/NAME.json     means per codec, in the layout of CompressAI's result files
    REPORT/pictures.csv         every picture by every codec at every quality
    REPORT/bd_rates.json        BD-rates
    REPORT/rd_METRIC.png, .svg  rate-distortion plots (plots.py)
    REPORT/report.html          all of that to look at, with pictures (page.py)

A report is finished when its page is there; until then the other files may be replaced by later
ones of the same evaluation.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from vrcodec.conditional.dials import QUALITY
from vrcodec.errors import VrcodecError, naming
from vrcodec.evaluation.bjontegaard import RATE, Curve, bd_rate
from vrcodec.evaluation.evaluate import Evaluation, Subject
from vrcodec.evaluation.metrics import METRICS
from vrcodec.evaluation.notebook import Notebook
from vrcodec.files import check_target, write_atomically
from vrcodec.text import cell

NOTEBOOK = "measurements.jsonl"
PAGE = "report.html"
FIRST = ("avif", "avif_s6_444")
"""What is compared with before all others: measured, or else from elsewhere."""
_CURVE_NAMES = {
    "bpp": "bpp",
    "encode_seconds": "encoding_time",
    "decode_seconds": "decoding_time",
    "quality": "quality",
}
"""Beside those of the metrics: what our curves and CompressAI's result files call things."""


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
    """BD-rates against the other codecs of an evaluation, and against curves from elsewhere.

    What is in `FIRST` comes first of its kind.
    """
    own = evaluation.curve(evaluation.own)
    curves = [(s.title, True, evaluation.curve(s)) for s in evaluation.subjects[1:]]
    known = sorted(anchors.items(), key=lambda item: item[0] not in FIRST)
    curves += [(name, False, dict(curve)) for name, curve in known]
    return [
        Comparison(name, measured, {metric: bd_rate(own, curve, metric) for metric in METRICS})
        for name, measured, curve in curves
    ]


def check_report(folder: Path, overwrite: bool = False) -> None:
    """Make sure that a report may be written into a folder.

    Raises:
        VrcodecError: it holds something else, or a finished report that must not be replaced.
    """
    with naming(str(folder)):
        try:
            names = {path.name for path in folder.iterdir()}
        except FileNotFoundError:
            return
    if names and NOTEBOOK not in names:
        raise VrcodecError(f"{folder}: holds other files; name a new folder for the report")
    check_target(folder / PAGE, overwrite)


def open_report(folder: Path) -> Notebook:
    """What a report holds already; its folder is made if it is not there. Raises VrcodecError."""
    _make_folder(folder)
    return Notebook(folder / NOTEBOOK)


def write_file(folder: Path, name: str, data: str | bytes) -> None:
    """Write one of the report's own files, whole or not at all, and through no link.

    Raises:
        VrcodecError: it cannot be written.
    """
    raw = data.encode() if isinstance(data, str) else data
    write_atomically(folder / name, raw, overwrite=True, below=folder)


def write_data(folder: Path, evaluation: Evaluation, comparisons: Sequence[Comparison]) -> None:
    """Write everything but plots and page. Raises VrcodecError."""
    _make_folder(folder / "curves")
    for subject in evaluation.subjects:
        write_file(folder, f"curves/{subject.name}.json", _json(_result(evaluation, subject)))
    write_file(folder, "pictures.csv", _csv(evaluation))
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
    write_file(folder, "bd_rates.json", _json(rows))


def write_so_far(folder: Path, evaluation: Evaluation) -> int:
    """Write curves, CSV and BD-rates of what an interrupted evaluation has measured.

    Returns:
        How many pictures are in them: those that every codec has coded at every quality.

    Raises:
        VrcodecError: a file cannot be written.
    """
    done = evaluation.so_far
    if done.pictures:
        write_data(folder, done, compare_curves(done, {}))
    return len(done.pictures)


def _result(evaluation: Evaluation, subject: Subject) -> dict[str, Any]:
    """Means of a codec in CompressAI's layout, and where on which dials of ours they are."""
    curve = evaluation.curve(subject)
    names = _CURVE_NAMES | {metric.name: metric.compressai for metric in METRICS.values()}
    names |= {metric.name + RATE: metric.compressai + RATE for metric in METRICS.values()}
    result: dict[str, Any] = {
        "name": subject.title,
        "description": f"{len(evaluation.pictures)} pictures; {subject.identity}",
        "results": {theirs: curve[ours] for ours, theirs in names.items() if ours in curve},
    }
    if subject.dials:
        result["results"]["lambda"] = list(subject.coefficients[QUALITY])
        result["dials"] = {
            name: {"positions": list(positions), "coefficients": list(subject.coefficients[name])}
            for name, positions in subject.dials.items()
        }
    return result


def _csv(evaluation: Evaluation) -> str:
    text = io.StringIO()
    writer = csv.writer(text)
    dials = list(evaluation.own.dials)[1:]
    writer.writerow(
        (
            "picture",
            "width",
            "height",
            "codec",
            "quality",
            *dials,
            "bytes",
            "bpp",
            *METRICS,
            "encode_seconds",
            "decode_seconds",
            "encode_mp_s",
            "decode_mp_s",
            "estimate_bytes",
        )
    )
    writer.writerows(_rows(evaluation, dials))
    return text.getvalue()


def _rows(evaluation: Evaluation, dials: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    """Picture by picture, codec by codec, quality by quality."""
    columns = [
        (subject, i, column)
        for subject in evaluation.subjects
        for i, column in enumerate(evaluation.points(subject))
    ]
    for at, picture in enumerate(evaluation.pictures):
        for subject, i, column in columns:
            point = column[at]
            yield (
                cell(picture.name),
                picture.width,
                picture.height,
                subject.name,
                point.quality,
                *(subject.dials[name][i] if subject.dials else "" for name in dials),
                point.bytes,
                point.bpp,
                *(point.metrics.get(metric) for metric in METRICS),
                point.encode_seconds,
                point.decode_seconds,
                point.pixels / 1e6 / point.encode_seconds,
                point.pixels / 1e6 / point.decode_seconds,
                point.estimate,
            )


def _json(value: Any) -> str:
    return json.dumps(value, indent=1) + "\n"


def _make_folder(folder: Path) -> None:
    """Make a folder if it is not there. Raises VrcodecError."""
    with naming(str(folder)):
        folder.mkdir(parents=True, exist_ok=True)
