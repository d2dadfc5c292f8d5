"""`vrcodec encode`."""

from __future__ import annotations

import math
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vrcodec import container
from vrcodec.cli import common, folders
from vrcodec.errors import naming

if TYPE_CHECKING:
    from vrcodec.rate_control import Target

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

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
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
    "--best-effort", is_flag=True, help="Where a target is out of reach, come as near as possible."
)
@click.option(
    "--effort", metavar="0..9", type=click.IntRange(0, 9), default=0, show_default=True,
    help="Spend more time for fewer bits at equal quality.",
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
    best_effort: bool,
    effort: int,
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
        "size": target_size, "bpp": target_bpp, "psnr": target_psnr, "ms-ssim": target_ms_ssim
    }
    target = _target(quality, targets, best_effort)
    choice: float | Target = DEFAULT_QUALITY if quality is None else quality
    if target:
        choice = target
    folder = folders.asked_for(inputs, output, folder_options)
    if folder:
        if preserve:
            raise click.UsageError("--preserve is for files, not for a folder")
        from vrcodec import batch, image_io
        from vrcodec.weights import default_weights, weights_id

        settings = batch.Encoding(
            weights, weights_id(weights or default_weights()), device,
            max_pixels or image_io.MAX_PIXELS, choice, best_effort, strip, effort,
        )
        listing = folder.list(batch.PICTURES, ".vrc")
        folders.work_through(folder, listing, settings, overwrite, as_json)
        return
    jobs = common.plan(inputs, output, ".vrc")
    codec = common.codec_loader(weights, device, max_pixels)

    def work(job: common.Job) -> dict[str, Any]:
        from vrcodec import image_io

        source = sys.stdin.buffer if job.source == "-" else Path(job.source)
        image = image_io.open_picture(source, job.name, max_pixels or image_io.MAX_PIXELS)
        for note in image_io.notes(image):
            common.say(f"{job.name}: {note}", err=True)
        with naming(job.name):
            if isinstance(choice, float):
                data, chosen, reached = codec().encode(image, choice, strip, effort), choice, True
            else:
                from vrcodec.rate_control import encode_to_target

                picture = image_io.to_coded(image, strip)
                result = encode_to_target(codec(), picture, choice, best_effort, effort)
                data, chosen, reached = result.data, result.quality, result.reached
        if not reached:
            common.say(f"{job.name}: {target} is out of reach", err=True)
        job.write(data, overwrite, preserve)
        facts = container.describe(data)
        return {key: facts[key] for key in ("bytes", "width", "height", "bpp")} | {
            "quality": chosen
        }

    def line(facts: dict[str, Any]) -> str:
        found = f", quality {facts['quality']:.3f}" if target else ""
        return f"{facts['bytes']:,} bytes, {facts['bpp']:.2f} bpp{found}"

    common.run_each(jobs, work, line, overwrite, as_json)


def _target(
    quality: float | None, targets: dict[str, float | None], best_effort: bool
) -> Target | None:
    """The one target that is given, None for a quality."""
    given = {name: value for name, value in targets.items() if value is not None}
    names = ["--quality"] * (quality is not None) + [f"--target-{name}" for name in given]
    if len(names) > 1:
        raise click.UsageError(f"{names[0]} and {names[1]} exclude each other")
    if best_effort and not given:
        raise click.UsageError("--best-effort is about a target, and there is none")
    if not given:
        return None
    from vrcodec.rate_control import Measure, Target

    ((name, value),) = given.items()
    return Target(Measure(name), value)
