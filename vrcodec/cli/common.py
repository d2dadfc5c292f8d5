"""What the commands share: options, targets, running over files, lines for people and programs."""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import os
import re
import stat
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from vrcodec.errors import UnknownWeightsError, VrcodecError
from vrcodec.files import check_target, os_error_text, read_bytes, write_atomically

if TYPE_CHECKING:
    from vrcodec.codec.codec import Codec


class Device(click.ParamType):
    """Where the network runs; whether it is there is known only once torch is."""

    name = "auto|cpu|cuda[:N]|mps"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not re.fullmatch(r"auto|cpu|cuda(:\d+)?|mps", value):
            self.fail(f"{value!r} is not one of {self.name}", param, ctx)
        return value


inputs_argument = click.argument("inputs", metavar="INPUT...", nargs=-1, required=True)
output_option = click.option(
    "-o",
    "--output",
    metavar="FILE|FOLDER|-",
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
    type=click.IntRange(min=1),
    help="Refuse pictures with more pixels than this (default: 200 million).",
)
preserve_option = click.option(
    "--preserve", is_flag=True, help="Give results the permissions and times of their inputs."
)
overwrite_option = click.option("--overwrite", is_flag=True, help="Replace existing files.")
json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object per file."
)


@dataclass(frozen=True)
class Job:
    """One input and where its result goes; either may be `-`, stdin or stdout.

    `avoided` is the name that the target would have had, were it not taken.
    """

    source: str
    target: str
    avoided: str | None = None

    @property
    def name(self) -> str:
        """What messages call the input."""
        return "stdin" if self.source == "-" else self.source

    def read(self) -> bytes:
        """The input's bytes."""
        return sys.stdin.buffer.read() if self.source == "-" else read_bytes(Path(self.source))

    def write(self, data: bytes, overwrite: bool, preserve: bool = False) -> None:
        """Write the result, whole or not at all.

        preserve: with the permissions and times of the input, if both are files.
        """
        if self.target != "-":
            write_atomically(Path(self.target), data, overwrite, self._stat() if preserve else None)
            return
        try:
            with open(sys.stdout.fileno(), "wb", closefd=False) as file:
                file.write(data)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise VrcodecError(f"stdout: {os_error_text(error)}") from error

    def _stat(self) -> os.stat_result | None:
        """Facts about the input where it is a regular file that is still there."""
        if self.source == "-":
            return None
        with contextlib.suppress(OSError):
            facts = os.stat(self.source)
            return facts if stat.S_ISREG(facts.st_mode) else None
        return None


def names_folder(output: str) -> bool:
    """Whether the -o option names a folder: one that exists, or one to be made."""
    return output.endswith("/") or os.path.isdir(output)


def plan(
    inputs: Sequence[str], output: str | None, suffix: str, aside: str | None = None
) -> list[Job]:
    """Decide where each input's result goes, before any work.

    Args:
        inputs: paths, or `-` for stdin.
        output: the -o option.
        suffix: of the files to be made, with its dot.
        aside: goes before the suffix where no output was asked for and the name is taken.

    Raises:
        click.UsageError: two results would get the same name.
        VrcodecError: the output folder cannot be made.
    """
    if output == "":
        raise click.UsageError("the name after -o is empty")
    folder = output is not None and names_folder(output)
    if output is not None and not folder and len(inputs) > 1:
        raise click.UsageError(
            f"-o {output} is one file, but there are {len(inputs)} inputs "
            "(a folder that does not exist yet is named with a / at its end)"
        )
    jobs = []
    for source in inputs:
        path = Path("stdin" if source == "-" else source)
        if output is None and source != "-":
            target = str(path.parent / (path.stem + suffix))
            if aside and os.path.exists(target):
                jobs.append(Job(source, str(path.parent / (path.stem + aside + suffix)), target))
            else:
                jobs.append(Job(source, target))
        elif output is not None and folder:
            jobs.append(Job(source, str(Path(output) / (path.stem + suffix))))
        else:
            jobs.append(Job(source, output or "-"))
    sources: dict[str, str] = {}
    for job in jobs:
        place = os.path.realpath(job.target)
        if place in sources:
            raise click.UsageError(
                f"{sources[place]} and {job.name} would both become {job.target}"
            )
        sources[place] = job.name
    if folder and output is not None:
        try:
            os.makedirs(output, exist_ok=True)
        except OSError as error:
            raise VrcodecError(f"{output}: {os_error_text(error)}") from error
    return jobs


def run_each(
    jobs: Sequence[Job],
    work: Callable[[Job], dict[str, Any]],
    line: Callable[[dict[str, Any]], str],
    overwrite: bool,
    as_json: bool,
) -> None:
    """Work through files; a failure is one line on stderr, and the others go on.

    Args:
        work: does one job and returns facts about it, `input` and `output` are added.
        line: those facts in one line for a person.
        as_json: print the facts as JSON instead.
    """
    from tqdm import tqdm

    warnings.filterwarnings("ignore", module=r"PIL\.")
    logging.getLogger("PIL").addHandler(logging.NullHandler())
    inputs = {os.path.realpath(job.source) for job in jobs if job.source != "-"}
    data_on_stdout = any(job.target == "-" for job in jobs)
    if len(jobs) > 1 and sys.stderr.isatty():
        queue: Iterable[Job] = tqdm(jobs, unit="file", file=sys.stderr, leave=False)
    else:
        queue = jobs
    failed = False
    for job in queue:
        start = time.perf_counter()
        try:
            if job.target != "-":
                if os.path.realpath(job.target) in inputs:
                    raise VrcodecError(f"{job.target}: is an input, and would be replaced")
                check_target(Path(job.target), overwrite)
            facts = {"input": job.source, "output": job.target} | work(job)
        except VrcodecError as error:
            failed = True
            hint = "; name the right ones with --weights FILE"
            say(f"Error: {error}{hint * isinstance(error, UnknownWeightsError)}", err=True)
            continue
        facts["seconds"] = round(time.perf_counter() - start, 3)
        if as_json:
            say(json.dumps(facts), err=data_on_stdout)
        elif job.target != "-":
            say(f"{job.name} -> {job.target}: {line(facts)}", err=data_on_stdout)
    if failed:
        raise click.exceptions.Exit(1)


def say(text: str, err: bool = False, file: IO[str] | None = None) -> None:
    """Print a line without tearing a progress bar, to stdout unless something else is given."""
    from tqdm import tqdm

    with tqdm.external_write_mode():
        click.echo(text, file, err=err)


def codec_loader(
    weights: Path | None, device: str, max_pixels: int | None, second: float | None = None
) -> Callable[[], Codec]:
    """A function that gives one Codec, made on its first call; its failure ends the command."""

    @functools.cache
    def load() -> Codec:
        from vrcodec.codec.codec import Codec
        from vrcodec.pictures import MAX_PIXELS

        try:
            codec = Codec(weights, device, max_pixels or MAX_PIXELS)
            if second is not None:
                codec.dials.conditioning({"ms-ssim-weight": second})
            return codec
        except VrcodecError as error:
            raise click.ClickException(str(error)) from error

    return load
