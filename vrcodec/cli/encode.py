"""`vrcodec encode`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from vrcodec import extras
from vrcodec.cli import common, inputs, runs
from vrcodec.codec import presets
from vrcodec.codec.settings import DEFAULT_QUALITY, MAX_EFFORT, EncodeSettings, Measure, Target
from vrcodec.conditional.dials import QUALITY, TUNE
from vrcodec.errors import VrcodecError

if TYPE_CHECKING:
    from vrcodec.batch.worker import Row

_PACKAGES = {Measure.MS_SSIM: ("torch", "pytorch_msssim"), Measure.SSIMULACRA2: ("ssimulacra2",)}
"""What has to be installed for some targets; said at once, and not for every picture."""
SHOWN = (0.3, 0.5, 0.7)
"""Qualities that the help describes."""
_TARGETS = {
    Measure.SIZE: (common.Size(), "SIZE", "Largest quality with at most this many bytes."),
    Measure.BPP: (
        common.Positive(1e6),
        "N",
        "Largest quality with at most this many bits per pixel.",
    ),
    Measure.PSNR: (common.Positive(1e3), "DB", "Smallest quality with this PSNR."),
    Measure.MS_SSIM: (common.Positive(1), "N", "Smallest quality with this MS-SSIM."),
    Measure.SSIMULACRA2: (
        common.Positive(100),
        "N",
        "Smallest quality with this SSIMULACRA2: 50 is medium, 70 high, 90 visually lossless.",
    ),
}


def _target_options(command: runs.Command) -> runs.Command:
    for measure, (kind, metavar, text) in reversed(_TARGETS.items()):
        option = click.option(f"--target-{measure.value}", metavar=metavar, type=kind, help=text)
        command = option(command)
    return command


class _Command(click.Command):
    """Its help ends with what qualities look like."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        try:
            found = presets.measured_qualities()
        except VrcodecError:
            return
        rows = [(f"{quality:g}", found.at(quality)) for quality in SHOWN]
        rows += [(name, found.preset(name)) for name in presets.PRESETS]
        with formatter.section(f"What qualities look like ({found.pictures})"):
            formatter.write_dl([(name, _looks(name, look)) for name, look in rows])


def _looks(name: str, look: presets.Look) -> str:
    measured = f"{look.psnr:.1f} dB, SSIMULACRA2 {look.ssimulacra2:.0f}, {look.bpp:.2f} bpp"
    return f"{measured} (quality {look.quality:g})" if name in presets.PRESETS else measured


@click.command(cls=_Command)
@common.inputs_argument
@click.option(
    "-q",
    "--quality",
    metavar="0..1",
    type=common.Position(),
    show_default=str(DEFAULT_QUALITY),
    help="From smallest file (0) to best picture (1).",
)
@click.option(
    "--preset",
    type=click.Choice(list(presets.PRESETS)),
    help="A quality by its use; what each looks like stands below.",
)
@_target_options
@click.option(
    "--target-total",
    metavar="SIZE",
    type=common.Size(),
    help="One quality for all pictures, the largest with at most this many bytes together.",
)
@click.option(
    "--best-effort", is_flag=True, help="Where a target is out of reach, come as near as possible."
)
@click.option(
    "--effort",
    metavar=f"0..{MAX_EFFORT}",
    type=click.IntRange(0, MAX_EFFORT),
    default=0,
    show_default=True,
    help="Spend more time for fewer bits at equal quality.",
)
@click.option(
    "--dial",
    "dials",
    metavar="NAME=X",
    type=common.DialAt(),
    multiple=True,
    help="Where on a dial of the weights to code, 0 to 1. Repeatable.",
)
@click.option(
    "--tune",
    metavar="0..1",
    type=common.Tune(),
    help="What quality means, if the weights have that dial: psnr (0), perceptual (1) or between.",
)
@common.output_option
@click.option("--strip", is_flag=True, help="Leave ICC profile, EXIF, XMP and resolution out.")
@click.option("--skip-larger", is_flag=True, help="Write no file that is larger than its source.")
@runs.options
def encode(
    inputs: tuple[str, ...],
    quality: float | None,
    preset: str | None,
    target_total: int | None,
    best_effort: bool,
    effort: int,
    dials: tuple[tuple[str, float], ...],
    tune: float | None,
    output: str | None,
    strip: bool,
    skip_larger: bool,
    **others: Any,
) -> None:
    """Code pictures as .vrc files, each beside its picture unless -o says otherwise.

    INPUT is a picture of any kind that Pillow reads, - for stdin, a URL, or one folder, with -o
    naming the folder for its results; encode IN OUT.vrc is short for encode IN -o OUT.vrc. Instead
    of a quality, a target of size or fidelity can be given.
    """
    targets = {
        measure: others.pop(f"target_{measure.value.replace('-', '_')}") for measure in _TARGETS
    }
    positions = _positions([(QUALITY, quality), (TUNE, tune), *dials])
    chosen = ["--quality"] * (QUALITY in positions) + ["--preset"] * bool(preset)
    target = _target(chosen, targets, target_total, best_effort)
    options = runs.Options(**others)
    if preset:
        positions[QUALITY] = presets.preset_quality(preset, options.weights)
    elif target is None and target_total is None:
        positions.setdefault(QUALITY, DEFAULT_QUALITY)
    settings = EncodeSettings(tuple(positions.items()), target, best_effort, effort, strip)
    _run(inputs, output, settings, target_total, skip_larger, options)


def _run(
    names: tuple[str, ...],
    output: str | None,
    settings: EncodeSettings,
    total: int | None,
    skip_larger: bool,
    options: runs.Options,
) -> None:
    from vrcodec.batch.jobs import Encoding
    from vrcodec.batch.listing import always, picture_suffixes
    from vrcodec.batch.settings import dials_of

    sources, out = inputs.split(names, output, {".vrc"})
    kinds = inputs.Names(picture_suffixes(), always(".vrc"), check_suffix=_check_suffix)
    plan = inputs.plan(sources, out, kinds, options.include, options.exclude)
    weights_id = None
    if plan.source is not None or any(name != QUALITY for name, _ in settings.dials):
        weights_id, dials = dials_of(options.weights)
        settings.conditioning(dials)  # refused at once, not for every picture
    searched = settings.target is not None or total is not None

    def line(row: Row) -> str:
        found = f", quality {row.quality:.3f}" if searched else ""
        return f"{sizes(row)}, {row.bpp:.2f} bpp{found}"

    run = options.settings(plan, weights_id, skip_larger)
    runs.carry_out(plan, Encoding(settings), run, options, line, total)


def sizes(row: Row) -> str:
    """Both sizes of a row, and how many bytes of the picture one of the .vrc file stands for."""
    picture, coded = row.source_bytes or 0, row.bytes or 0
    if row.format != "vrc":
        picture, coded = coded, picture
    ratio = picture / max(1, coded)
    return f"{row.source_bytes:,} -> {row.bytes:,} bytes, ratio {ratio:.3g}"


def _check_suffix(name: str) -> None:
    suffix = os.path.splitext(name)[1]
    if suffix and suffix.lower() != ".vrc":
        raise click.UsageError(f"-o {name}: the name of a .vrc file ends in .vrc, not {suffix}")


def _positions(given: Sequence[tuple[str, float | None]]) -> dict[str, float]:
    """Where on every dial that was named."""
    positions: dict[str, float] = {}
    for name, position in given:
        if position is None:
            continue
        if name in positions:
            raise click.UsageError(f"dial {name} is given twice")
        positions[name] = position
    return positions


def _target(
    chosen: list[str],
    targets: dict[Measure, float | None],
    total: int | None,
    best_effort: bool,
) -> Target | None:
    """The one target that every file has; None for a quality, or a total.

    Args:
        chosen: options that choose a quality otherwise.
    """
    given = {measure: value for measure, value in targets.items() if value is not None}
    names = chosen + [f"--target-{measure.value}" for measure in given]
    names += ["--target-total"] * (total is not None)
    if len(names) > 1:
        raise click.UsageError(f"{names[0]} and {names[1]} exclude each other")
    if best_effort and not given and total is None:
        raise click.UsageError("--best-effort is about a target, and there is none")
    for measure, value in given.items():
        extras.require(*_PACKAGES.get(measure, ()))
        return Target(measure, value)
    return None
