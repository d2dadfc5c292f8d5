"""`vrcodec encode`."""

from __future__ import annotations

import contextlib
import math
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vrcodec.bitstream import container
from vrcodec.cli import common, folders
from vrcodec.errors import VrcodecError, naming
from vrcodec.files import check_target

if TYPE_CHECKING:
    from PIL import Image

    from vrcodec.codec.codec import Codec
    from vrcodec.codec.settings import EncodeSettings, Target

DEFAULT_QUALITY = 0.5


class Quality(click.FloatRange):
    """A number from 0 to 1."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        number = float(super().convert(value, param, ctx))
        if math.isnan(number):
            self.fail(f"{value} is not a number from 0 to 1", param, ctx)
        return number


class Size(click.ParamType):
    """A number of bytes, as such or with a unit."""

    name = "size"
    _UNITS = {
        unit + "b": base**power
        for power, prefix in enumerate(("", "k", "m", "g", "t"))
        for unit, base in ((prefix, 1000), (prefix + "i" * bool(prefix), 1024))
    } | {"": 1}

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        match = re.fullmatch(r"(\d+(?:\.\d+)?) ?([a-z]*)", value.strip().lower())
        size = int(float(match[1]) * self._UNITS.get(match[2], 0)) if match else 0
        if size < 1:
            self.fail(f"{value!r} is not a size such as 200000, 200kB or 1.5MiB", param, ctx)
        return size


class Positive(click.FloatRange):
    """A finite number above 0, and below the limit if there is one."""

    def __init__(self, limit: float | None = None) -> None:
        super().__init__(0, limit, min_open=True, max_open=True)

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number", param, ctx)
        return number


@click.command()
@common.inputs_argument
@click.option(
    "-q",
    "--quality",
    type=Quality(0, 1),
    show_default=str(DEFAULT_QUALITY),
    help="From smallest file (0) to best picture (1).",
)
@click.option(
    "--target-size",
    metavar="SIZE",
    type=Size(),
    help="Largest quality with at most this many bytes (200000, 200kB, 195KiB).",
)
@click.option(
    "--target-bpp",
    metavar="N",
    type=Positive(),
    help="Largest quality with at most this many bits per pixel.",
)
@click.option(
    "--target-psnr", metavar="DB", type=Positive(), help="Smallest quality with this PSNR."
)
@click.option(
    "--target-ms-ssim", metavar="N", type=Positive(1), help="Smallest quality with this MS-SSIM."
)
@click.option(
    "--target-total",
    metavar="SIZE",
    type=Size(),
    help="One quality for all pictures, the largest with at most this many bytes together.",
)
@click.option(
    "--best-effort", is_flag=True, help="Where a target is out of reach, come as near as possible."
)
@click.option(
    "--effort",
    metavar="0..9",
    type=click.IntRange(0, 9),
    default=0,
    show_default=True,
    help="Spend more time for fewer bits at equal quality.",
)
@click.option(
    "--ms-ssim-weight",
    metavar="0..1",
    type=Quality(0, 1),
    help="For weights trained with --loss mix: from pure MSE (0) to most MS-SSIM (1).  "
    "[default: 0.5]",
)
@common.output_option
@common.device_option
@common.weights_option
@common.max_pixels_option
@click.option("--strip", is_flag=True, help="Leave ICC profile, EXIF, XMP and resolution out.")
@common.preserve_option
@common.overwrite_option
@common.json_option
@folders.options
def encode(
    inputs: tuple[str, ...],
    quality: float | None,
    target_size: int | None,
    target_bpp: float | None,
    target_psnr: float | None,
    target_ms_ssim: float | None,
    target_total: int | None,
    best_effort: bool,
    effort: int,
    ms_ssim_weight: float | None,
    output: str | None,
    device: str,
    weights: Path | None,
    max_pixels: int | None,
    strip: bool,
    preserve: bool,
    overwrite: bool,
    as_json: bool,
    **folder_options: Any,
) -> None:
    """Code pictures as .vrc files, each beside its picture unless -o says otherwise.

    INPUT is a picture of any kind that Pillow reads, - for stdin, or one folder, with -o naming
    the folder for its results. Instead of a quality, a target of size or fidelity can be given.
    """
    targets = {
        "size": target_size,
        "bpp": target_bpp,
        "psnr": target_psnr,
        "ms-ssim": target_ms_ssim,
    }
    target = _target(quality, targets, target_total, best_effort)
    choice: float | Target = DEFAULT_QUALITY if quality is None else quality
    if target:
        choice = target
    folder = folders.asked_for(inputs, output, folder_options)
    if folder:
        if preserve:
            raise click.UsageError("--preserve is for files, not for a folder")
        from vrcodec import pictures
        from vrcodec.batch import run as batch
        from vrcodec.model.weights_file import default_weights, weights_id

        if ms_ssim_weight is not None:  # refused at once, not for every picture
            common.codec_loader(weights, device, max_pixels, ms_ssim_weight)()
        settings = batch.Encoding(
            weights,
            weights_id(weights or default_weights()),
            device,
            max_pixels or pictures.MAX_PIXELS,
            choice,
            best_effort,
            strip,
            effort,
            ms_ssim_weight,
        )
        listing = folder.list(batch.PICTURES, ".vrc")
        if target_total:
            settings = folders.fit_total(folder, listing, settings, target_total, overwrite)
        folders.work_through(folder, listing, settings, overwrite, as_json)
        return
    jobs = common.plan(inputs, output, ".vrc")
    codec = common.codec_loader(weights, device, max_pixels, ms_ssim_weight)

    def open_input(job: common.Job) -> Image.Image:
        from vrcodec import pictures

        source = sys.stdin.buffer if job.source == "-" else Path(job.source)
        return pictures.open_picture(source, job.name, max_pixels or pictures.MAX_PIXELS)

    def settings_of(choice: float | Target, effort: int = effort) -> EncodeSettings:
        from vrcodec.codec.settings import EncodeSettings, Target

        dials = {} if ms_ssim_weight is None else {"ms-ssim-weight": ms_ssim_weight}
        if isinstance(choice, Target):
            return EncodeSettings.of(None, dials, choice, best_effort, effort, strip)
        return EncodeSettings.of(choice, dials, None, best_effort, effort, strip)

    if target_total:
        choice = _common_quality(
            jobs, open_input, codec, target_total, best_effort, settings_of, effort, overwrite
        )

    def work(job: common.Job) -> dict[str, Any]:
        from vrcodec import pictures

        image = open_input(job)
        for note in pictures.notes(image):
            common.say(f"{job.name}: {note}", err=True)
        with naming(job.name):
            picture = pictures.to_coded(image, strip)
            (made,) = codec().encode_pictures([picture], settings_of(choice))
        if not made.reached:
            common.say(f"{job.name}: {target} is out of reach", err=True)
        job.write(made.data, overwrite, preserve)
        facts = container.describe(made.data)
        return {key: facts[key] for key in ("bytes", "width", "height", "bpp")} | {
            "quality": made.conditioning.quality if target else choice
        }

    def line(facts: dict[str, Any]) -> str:
        found = f", quality {facts['quality']:.3f}" if target or target_total else ""
        return f"{facts['bytes']:,} bytes, {facts['bpp']:.2f} bpp{found}"

    common.run_each(jobs, work, line, overwrite, as_json)


def _target(
    quality: float | None,
    targets: dict[str, float | None],
    total: int | None,
    best_effort: bool,
) -> Target | None:
    """The one target that every file has; None for a quality, or a total."""
    given = {name: value for name, value in targets.items() if value is not None}
    names = ["--quality"] * (quality is not None) + [f"--target-{name}" for name in given]
    names += ["--target-total"] * (total is not None)
    if len(names) > 1:
        raise click.UsageError(f"{names[0]} and {names[1]} exclude each other")
    if best_effort and not given and total is None:
        raise click.UsageError("--best-effort is about a target, and there is none")
    if not given:
        return None
    from vrcodec.codec.settings import Measure, Target

    ((name, value),) = given.items()
    return Target(Measure(name), value)


def _common_quality(
    jobs: Sequence[common.Job],
    open_input: Callable[[common.Job], Image.Image],
    codec: Callable[[], Codec],
    total: int,
    best_effort: bool,
    settings_of: Callable[[float, int], EncodeSettings],
    effort: int,
    overwrite: bool,
) -> float:
    """The quality at which all files that can be made have at most `total` bytes together."""
    if any(job.source == "-" for job in jobs):
        raise click.UsageError("--target-total reads its inputs several times: not from stdin")
    from vrcodec.codec.targets import quality_for_total

    def measure(effort: int) -> Callable[[float], int]:
        def size_at(quality: float) -> int:
            size = 0
            for job in jobs:
                with contextlib.suppress(VrcodecError):
                    if job.target != "-":
                        check_target(Path(job.target), overwrite)
                    size += len(codec().encode(open_input(job), settings_of(quality, effort)))
            return size

        return size_at

    try:
        quality, kept = quality_for_total(measure(0), total, best_effort or effort > 0)
        if effort:
            quality, kept = quality_for_total(measure(effort), total, best_effort, quality)
    except VrcodecError as error:
        raise click.ClickException(str(error)) from error
    if not kept:
        common.say(f"{total:,} bytes in all is out of reach", err=True)
    return quality
