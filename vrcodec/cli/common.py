"""What the commands share: kinds of options, options, and the model."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import click

from vrcodec.cli.output import say as say
from vrcodec.cli.output import say_line as say_line

if TYPE_CHECKING:
    from vrcodec.codec.codec import Codec


class Device(click.ParamType):
    """Where the network runs; whether it is there is known only once torch is."""

    name = "auto|cpu|cuda[:N]|mps"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not re.fullmatch(r"auto|cpu|cuda(:\d+)?|mps", value):
            self.fail(f"{value!r} is not one of {self.name}", param, ctx)
        return value


class Position(click.FloatRange):
    """A number from 0 to 1: where on a dial."""

    def __init__(self) -> None:
        super().__init__(0, 1)

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        number = click.FLOAT.convert(value, param, ctx)
        if 0 <= number <= 1:
            return float(number)
        hint = f": {number / 100:g}?" if 2 <= number <= 100 else ""
        self.fail(f"{value} is not in the range from 0 to 1{hint}", param, ctx)


class Tune(Position):
    """Where on the dial from fidelity to a perceptual loss; its ends have names."""

    ENDS: ClassVar = {"psnr": 0.0, "perceptual": 1.0}

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        if value in self.ENDS:
            return self.ENDS[value]
        try:
            float(value)
        except ValueError:
            self.fail(f"{value!r} is not psnr, perceptual or a number from 0 to 1", param, ctx)
        return super().convert(value, param, ctx)


class DialAt(click.ParamType):
    """A dial's name and a position on it."""

    name = "name=x"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, float]:
        if isinstance(value, tuple):
            return value
        name, equals, number = value.partition("=")
        if not (name and equals):
            self.fail(f"{value!r} is not a dial and a number such as quality=0.3", param, ctx)
        return name.strip(), Position().convert(number, param, ctx)


_UNITS = {
    prefix + infix + byte: (1024 if infix else 1000) ** power
    for power, prefix in enumerate(("", "k", "m", "g", "t"))
    for infix in ("", *["i"] * bool(prefix))
    for byte in ("", "b")
}


class Size(click.ParamType):
    """A number of bytes, as such or with a unit."""

    name = "size"
    LARGEST = 1 << 60

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        match = re.fullmatch(
            r"(\d+(?:\.\d*)?(?:e\+?\d+)?|\.\d+(?:e\+?\d+)?)\s*([a-z]*)", value.strip().lower()
        )
        size = float(match[1]) * _UNITS.get(match[2], 0) if match else 0.0
        if not 1 <= size <= self.LARGEST:
            self.fail(
                f"{_short(value)} is not a size such as 200000, 200kB, 10K, 1e6 or 1.5MiB",
                param,
                ctx,
            )
        return int(size)


class Positive(click.ParamType):
    """A number above 0 and below a limit beyond which it makes no sense."""

    name = "number"

    def __init__(self, limit: float) -> None:
        self.limit = limit

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        number = float(click.FLOAT.convert(value, param, ctx))
        if not (math.isfinite(number) and 0 < number < self.limit):
            self.fail(f"{_short(value)} is not between 0 and {self.limit:g}", param, ctx)
        return number


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:20]}... ({len(text) - 2} characters)"


inputs_argument = click.argument(
    "inputs", metavar="INPUT...", nargs=-1, required=True, type=click.Path()
)
output_option = click.option(
    "-o",
    "--output",
    metavar="FILE|FOLDER|-",
    type=click.Path(),
    help="Where to write: a file, a folder (made if the name ends in /), or - for stdout.",
)
device_option = click.option(
    "--device",
    type=Device(),
    metavar=Device.name,
    default="auto",
    show_default=True,
    help="Where to run the network.",
)
weights_option = click.option(
    "--weights", metavar="FILE", type=click.Path(path_type=Path), help="Use these weights."
)
max_pixels_option = click.option(
    "--max-pixels",
    metavar="N",
    type=click.IntRange(1, 1 << 60),
    help="Refuse pictures with more pixels than this (default: 200 million).",
)
json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object per file."
)


def codec_loader(weights: Path | None, device: str, max_pixels: int | None) -> Callable[[], Codec]:
    """A function that gives one Codec, made on its first call."""

    @functools.cache
    def load() -> Codec:
        from vrcodec.codec.codec import Codec
        from vrcodec.pictures import MAX_PIXELS

        return Codec(weights, device, max_pixels or MAX_PIXELS)

    return load
