"""Rate-distortion plots of a report, as files and as elements of its page."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape

from vrcodec.evaluation.anchors import kodak_anchors
from vrcodec.evaluation.bjontegaard import Curve, points, rates_of, smooth
from vrcodec.evaluation.metrics import METRICS, Metric
from vrcodec.evaluation.report import write_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from vrcodec.evaluation.evaluate import Evaluation

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
COLOURS = ("#e4572e", "#4c86c6", "#3a9d6e", "#b07aa1", "#c99a2e", "#7d8590")
_OWN_WIDTH, _WIDTH = 2.4, 1.5
_GREY = "#8a8f98"
_DASHES = ("--", "-.", ":", (0, (1, 4)))
_INK = "#0a0b0c"
"""Ink in plots; in the page it becomes the colour of the text."""


@dataclasses.dataclass(frozen=True)
class Mark:
    """A measured point in a plot.

    Attributes:
        id: of its element in the SVG.
        text: what it says when one points at it.
    """

    id: str
    text: str


def write_plots(
    folder: Path, evaluation: Evaluation, anchors: Mapping[str, Curve]
) -> dict[str, str]:
    """Draw rate-distortion plots, one per metric that there is.

    Returns:
        By metric, the plot as an SVG element in the colour of the text around it. Points that
        were measured here are groups of class "point" with a title.

    Raises:
        VrcodecError: a file cannot be written.
    """
    import matplotlib

    matplotlib.use("agg")
    elements = {}
    own = evaluation.curve(evaluation.own)
    for metric in METRICS.values():
        if not points(own, metric.name):
            continue
        settings = {
            "svg.hashsalt": metric.name,
            "svg.fonttype": "none",
            "font.size": 10,
            "font.family": "sans-serif",
        }
        with matplotlib.rc_context(settings):
            figure, marks = _plot(evaluation, anchors, metric)
            for kind in ("png", "svg"):
                file = io.BytesIO()
                figure.savefig(file, format=kind, dpi=160, facecolor="white", bbox_inches="tight")
                write_file(folder, f"rd_{metric.name}.{kind}", file.getvalue())
            file = io.BytesIO()
            figure.savefig(file, format="svg", transparent=True, bbox_inches="tight")
        elements[metric.name] = _element(file.getvalue().decode(), marks)
    return elements


def _element(text: str, marks: Sequence[Mark]) -> str:
    """The svg element of a document, with titles for its marks and ink of the page's colour."""
    element = text[text.index("<svg") :].replace(_INK, "currentColor")
    for mark in marks:
        opening = f'<g id="{mark.id}">'
        titled = f'<g id="{mark.id}" class="point"><title>{escape(mark.text)}</title>'
        element = element.replace(opening, titled)
    return element


def _plot(
    evaluation: Evaluation, anchors: Mapping[str, Curve], metric: Metric
) -> tuple[Figure, list[Mark]]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 4.6))
    axes = figure.add_subplot()
    lines, marks = _draw_measured(axes, evaluation, metric)
    lines += _draw_anchors(axes, evaluation, anchors, metric)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter("{x:g}")
    x, y = zip(*points(evaluation.curve(evaluation.own), metric.name), strict=True)
    axes.set_xlim(min(x) / 1.2, max(x) * 1.2)
    reach = max(y) - min(y) or 1
    axes.set_ylim(min(y) - 0.08 * reach, max(y) + 0.08 * reach)
    plain(axes, "bits per pixel", metric.axis, lines)
    return figure, marks


def plain(axes: Axes, x: str, y: str, lines: Sequence[tuple[Any, str]]) -> None:
    """How all plots look: labels of the axes, two sides of the frame, a legend.

    Args:
        x, y: what the axes say.
        lines: handles and labels of the legend.
    """
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(True, linewidth=0.6, color=_GREY, alpha=0.3)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    handles, labels = zip(*lines, strict=True)
    legend = axes.legend(handles, labels, loc="upper left", frameon=False, fontsize=9)
    for text in legend.get_texts():
        text.set_parse_math(False)  # a name is no formula
    for text in (axes.xaxis.label, axes.yaxis.label, *legend.get_texts()):
        text.set_color(_INK)
    for spine in axes.spines.values():
        spine.set_edgecolor(_INK)
    axes.tick_params(colors=_INK, length=3)


def _draw_measured(
    axes: Axes, evaluation: Evaluation, metric: Metric
) -> tuple[list[tuple[Any, str]], list[Mark]]:
    """Curves of the evaluation; returns handles with labels, and the points."""
    lines, marks = [], []
    colours = (*COLOURS, *COLOURS, *[_GREY] * len(evaluation.subjects))
    for subject, colour in zip(evaluation.subjects, colours, strict=False):
        curve = evaluation.curve(subject)
        own = subject is evaluation.own
        width, order = (_OWN_WIDTH, 3) if own else (_WIDTH, 2)
        (line,) = axes.plot(
            *smooth(curve, metric.name), linewidth=width, color=colour, zorder=order
        )
        style: dict[str, Any] = {
            "marker": "o",
            "markersize": width + 1.6,
            "color": colour,
            "zorder": order,
        }
        rates = rates_of(curve, metric.name)
        for i, (bpp, value) in enumerate(zip(rates, curve[metric.name], strict=True)):
            if value is None or bpp is None:
                continue
            mark = Mark(
                f"{metric.name}.{subject.name}.{i}",
                f"{subject.title}, quality {curve['quality'][i]:g}: {bpp:.3f} bpp, "
                f"{metric.title} {value:.{metric.places}f}",
            )
            axes.plot([bpp], [metric.compared(value)], gid=mark.id, **style)
            marks.append(mark)
        lines.append((_with_marker(line, style), subject.title))
    return lines, marks


def _with_marker(line: Any, style: Mapping[str, Any]) -> Any:
    """What a legend shows for a curve: its line with a point."""
    from matplotlib.lines import Line2D

    return Line2D([], [], linewidth=line.get_linewidth(), **style)


def _draw_anchors(
    axes: Axes, evaluation: Evaluation, anchors: Mapping[str, Curve], metric: Metric
) -> list[tuple[Any, str]]:
    """Curves from elsewhere that are not measured here; returns handles with labels."""
    measured = {_MEASURED_AS.get(subject.name) for subject in evaluation.subjects}
    ours = kodak_anchors() if evaluation.is_kodak else {}
    wanted = [name for name in _ANCHOR_TITLES if name in anchors]
    wanted += [name for name in anchors if name not in ours and name not in wanted]
    curves = {name: smooth(anchors[name], metric.name) for name in wanted}
    drawn = [name for name, (x, _) in curves.items() if len(x) and name not in measured]
    lines = []
    unused = COLOURS[len(evaluation.subjects) :]
    colours = (*[_GREY] * len(_DASHES), *unused, *[_GREY] * len(drawn))
    for i, name in enumerate(drawn):
        (line,) = axes.plot(
            *curves[name],
            linestyle=_DASHES[i % len(_DASHES)],
            linewidth=1.2,
            color=colours[i],  # where dashes come again
            zorder=1,
        )
        lines.append((line, _ANCHOR_TITLES.get(name, name)))
    return lines
