"""The page of a report: one file of HTML that needs nothing else."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from vrcodec.conditional.dials import QUALITY
from vrcodec.evaluation.evaluate import Evaluation
from vrcodec.evaluation.machine import description
from vrcodec.evaluation.metrics import METRICS
from vrcodec.evaluation.report import PAGE, Comparison, write_file
from vrcodec.evaluation.showcase import DIAL_SIZE, SIDE_BY_SIDE_SIZE, TRANSPORT

MAX_PAGE_BYTES = 25_000_000
"""No further picture is put into the page beyond this size."""
_HEADLINE = ("psnr", "ssimulacra2", "ms_ssim")
"""Metrics of the headline, the two first of them that there are."""
_AVIF = "AVIF"
_TITLES = {"avif_s6_444": "AVIF (measured before)"}
_NONE, _MINUS = "\N{EN DASH}", "\N{MINUS SIGN}"


def write_page(
    folder: Path,
    evaluation: Evaluation,
    comparisons: Sequence[Comparison],
    plots: Mapping[str, str],
    shown: Sequence[tuple[str, Mapping[str, Any]]],
) -> int:
    """Write the page.

    Args:
        plots: from `plots.write_plots`.
        shown: names of pictures, and what `showcase.show` made of them.

    Returns:
        How many pictures fitted into the page.

    Raises:
        VrcodecError: it cannot be written.
    """
    pictures = _fitting(shown)
    own = evaluation.own
    curves = {subject.name: evaluation.curve(subject) for subject in evaluation.subjects}
    metrics = {
        name: metric
        for name, metric in METRICS.items()
        if any(value is not None for value in curves[own.name][name])
    }
    page = _template().render(
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
        headline=headline(comparisons),
        comparisons=comparisons,
        metrics=metrics,
        plots=plots,
        pictures=pictures,
        data={
            "metrics": [[name, metric.places] for name, metric in metrics.items()],
            "codecs": {subject.name: subject.title for subject in evaluation.subjects},
            "pictures": pictures,
        },
        sizes={"side_by_side": SIDE_BY_SIDE_SIZE, "dial": DIAL_SIZE},
        transport=TRANSPORT,
        today=date.today().isoformat(),
        machine=description(),
        loads=evaluation.loads,
        quality_dial=QUALITY,
    )
    write_file(folder, PAGE, page)
    return len(pictures)


def headline(comparisons: Sequence[Comparison]) -> tuple[str, list[tuple[str, float]]] | None:
    """The first thing to know: against whom, and by metric the percentage of bits more or less.

    Against AVIF, measured here or else before, or the first other codec if that is not there. None
    where no two curves overlap.
    """
    for comparison in sorted(comparisons, key=lambda c: not _title(c).startswith(_AVIF)):
        rates = [
            (METRICS[name].title, comparison.rates[name][0])
            for name in _HEADLINE
            if math.isfinite(comparison.rates[name][0])
        ]
        if rates:
            return _title(comparison), rates[:2]
    return None


def _title(comparison: Comparison) -> str:
    return _TITLES.get(comparison.name, comparison.name)


def _template() -> Any:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader(
            [
                jinja2.PackageLoader("vrcodec.evaluation", "page"),
                jinja2.PackageLoader("vrcodec", "frontend"),
            ]
        ),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = _number
    return environment.get_template("report.html")


def _fitting(shown: Sequence[tuple[str, Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """As many pictures as fit into the page."""
    pictures: list[dict[str, Any]] = []
    size = 0
    for name, parts in shown:
        picture = {"name": name, **parts}
        size += len(json.dumps(picture))
        if size > MAX_PAGE_BYTES:
            break
        pictures.append(picture)
    return pictures


def _comparable_positions(curves: Mapping[str, Mapping[str, Any]], own: str) -> dict[str, int]:
    """By codec, which quality comes nearest in rate to the middle one of our own."""
    rates = curves[own]["bpp"]
    wanted = math.log(rates[len(rates) // 2])
    return {
        name: min(range(len(curve["bpp"])), key=lambda i: abs(math.log(curve["bpp"][i]) - wanted))
        for name, curve in curves.items()
    }


def _number(value: float | None, places: int = 2, sign: bool = False) -> str:
    if value is None or not math.isfinite(value):
        return _NONE
    return f"{value:{'+' if sign else ''},.{places}f}".replace("-", _MINUS)
