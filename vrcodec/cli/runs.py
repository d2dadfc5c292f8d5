"""What `encode` and `decode` share: options about running, the run itself, what is said of it."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from vrcodec.batch import storage
from vrcodec.cli import common, output
from vrcodec.cli.inputs import Plan
from vrcodec.cli.telling import Teller, say_skipped
from vrcodec.errors import VrcodecError

if TYPE_CHECKING:
    from vrcodec.batch.jobs import Encoding, Job
    from vrcodec.batch.listing import Task
    from vrcodec.batch.local_engine import Engine
    from vrcodec.batch.settings import RunSettings
    from vrcodec.batch.worker import Row

Command = TypeVar("Command", bound=Callable[..., Any])

_OPTIONS = (
    common.device_option,
    common.weights_option,
    common.max_pixels_option,
    click.option(
        "--threads",
        metavar="N",
        type=click.IntRange(1, 1024),
        help="Threads of each worker (default: all cores for files, 1 for a folder or --jobs).",
    ),
    click.option(
        "--precision",
        type=click.Choice(["auto", "float32", "bfloat16"]),
        default="auto",
        show_default=True,
        help="What the network computes in, where it has a choice.",
    ),
    click.option(
        "--runtime",
        type=click.Choice(["auto", "onnx", "torch"]),
        default="auto",
        show_default=True,
        help="What computes the network: ONNX Runtime or PyTorch.",
    ),
    click.option(
        "--preserve", is_flag=True, help="Give results the permissions and times of their inputs."
    ),
    click.option("--overwrite", is_flag=True, help="Replace existing files."),
    common.json_option,
    click.option("-v", "--verbose", is_flag=True, help="Also list what is skipped, and why."),
    click.option("--quiet", is_flag=True, help="Say nothing but errors."),
    click.option(
        "--include",
        metavar="GLOB",
        multiple=True,
        help="Only files with such a name (with a /: such a path). Repeatable.",
    ),
    click.option(
        "--exclude",
        metavar="GLOB",
        multiple=True,
        help="No files with such a name (with a /: such a path). Repeatable.",
    ),
    click.option(
        "--jobs",
        metavar="N",
        type=click.IntRange(1, 1024),
        help="Workers (default for a folder: one per core, at most 8; with Ray, all it has).",
    ),
    click.option(
        "--report",
        metavar="FILE",
        type=click.Path(path_type=Path),
        help="Write a table of all files, as .csv or .json.",
    ),
    click.option("--dry-run", is_flag=True, help="Only show what would be done."),
    click.option(
        "--engine",
        type=click.Choice(["local", "ray"]),
        help="Where workers run, here (the default) or on a Ray cluster.",
    ),
    click.option(
        "--ray-address",
        metavar="ADDR",
        help="The Ray cluster (default: $RAY_ADDRESS, or one of its own, here).",
    ),
)


def options(command: Command) -> Command:
    """Add the options about running."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@dataclasses.dataclass(frozen=True)
class Options:
    """Their values; see the help of each."""

    device: str
    weights: Path | None
    max_pixels: int | None
    threads: int | None
    precision: str
    runtime: str
    preserve: bool
    overwrite: bool
    as_json: bool
    verbose: bool
    quiet: bool
    include: tuple[str, ...]
    exclude: tuple[str, ...]
    jobs: int | None
    report: Path | None
    dry_run: bool
    engine: str | None
    ray_address: str | None

    def __post_init__(self) -> None:
        from vrcodec.batch.report import SUFFIXES

        if self.report and self.report.suffix.lower() not in SUFFIXES:
            raise click.UsageError(f"--report {self.report}: the name must end in .csv or .json")
        if self.ray_address and self.engine != "ray":
            raise click.UsageError("--ray-address goes with --engine ray")
        if self.verbose and self.quiet:
            raise click.UsageError("--verbose and --quiet exclude each other")

    def settings(
        self, plan: Plan, weights_id: str | None = None, skip_larger: bool = False
    ) -> RunSettings:
        """What the workers are told."""
        from vrcodec.batch.settings import RunSettings
        from vrcodec.pictures import MAX_PIXELS

        return RunSettings(
            self.max_pixels or MAX_PIXELS,
            self.weights,
            self.device,
            self.precision,
            self.runtime,
            self.threads or (None if self._is_here(plan) else 1),
            weights_id,
            plan.source is not None,
            self.overwrite,
            self.preserve,
            skip_larger,
            plan.source,
            plan.out,
        )

    def workers(self, plan: Plan) -> Engine:
        """What does the work."""
        from vrcodec.batch.local_engine import Here, Processes

        if self._is_here(plan):
            return Here()
        if self.engine == "ray":
            from vrcodec.batch.ray_engine import Ray

            return Ray(self.ray_address, self.jobs, self.device)
        return Processes(self.jobs)

    def _is_here(self, plan: Plan) -> bool:
        """Whether this process does it: files, unless workers are asked for; and all streams."""
        if plan.source is not None:
            return False
        streams = any("-" in (task.source, task.target) for task in plan.listing.tasks)
        return streams or not (self.jobs or self.engine)


def carry_out(
    plan: Plan,
    job: Job,
    settings: RunSettings,
    options: Options,
    line: Callable[[Row], str],
    total: int | None = None,
) -> None:
    """Do all that is planned and say what came of it; exit code 1 if anything failed.

    Args:
        line: what to say of a file, after the names.
        total: a limit of all results together; the job's quality is sought for it.
    """
    if options.dry_run:
        _show_plan(plan, _with_total(plan, job, total), settings, options)
        return
    teller = Teller(plan, options, line)
    with contextlib.closing(options.workers(plan)) as engine, teller.told():
        if total:
            job = _fit_total(plan, job, settings, options, engine, total)
        _run(plan, job, settings, options, engine, teller)


def _run(
    plan: Plan,
    job: Job,
    settings: RunSettings,
    options: Options,
    engine: Engine,
    teller: Teller,
) -> None:
    from vrcodec.batch.local_engine import rest_of
    from vrcodec.batch.run import run

    tasks = plan.listing.tasks
    effort = getattr(job.settings, "effort", 0)
    rows = run(tasks, job, settings, engine)
    bar_wanted = not options.quiet and (len(tasks) > 1 or effort > 0)
    with (
        _notices_to_stderr(options),
        contextlib.closing(rows),
        output.progress(len(tasks), "picture", bar_wanted) as bar,
    ):
        try:
            for row in rows:
                teller.take(row)
                bar.set_postfix_str(teller.speed(), refresh=False)
                bar.update()
        except KeyboardInterrupt as interrupt:
            for row in rest_of(rows, interrupt):
                teller.take(row)
            raise


@contextlib.contextmanager
def _notices_to_stderr(options: Options) -> Iterator[None]:
    """Ray prints notices, which are none of the results."""
    if options.engine != "ray":
        yield
        return
    with contextlib.redirect_stdout(sys.stderr):
        yield


def _fit_total(
    plan: Plan, job: Job, settings: RunSettings, options: Options, engine: Engine, total: int
) -> Encoding:
    """The job at the quality at which all results together have at most `total` bytes."""
    from vrcodec.batch.total import fit_total

    tasks = plan.listing.tasks
    if any(task.source == "-" for task in tasks):
        raise click.UsageError("--target-total reads its inputs several times: not from stdin")
    with output.progress(0, "picture", not options.quiet, "looking for the quality") as bar:
        bar.total = None
        found, kept = fit_total(tasks, _encoding(job), settings, total, engine, bar.update)
    if not kept:
        common.say(f"{total:,} bytes in all is out of reach", err=True)
    return found


def _with_total(plan: Plan, job: Job, total: int | None) -> Job:
    from vrcodec.batch.total import with_total

    return with_total(plan.listing.tasks, _encoding(job), total) if total else job


def _encoding(job: Job) -> Encoding:
    from vrcodec.batch.jobs import Encoding

    assert isinstance(job, Encoding)
    return job


def _show_plan(plan: Plan, job: Job, settings: RunSettings, options: Options) -> None:
    from vrcodec.batch.worker import State, state

    counts: Counter[str] = Counter()
    failures = list(plan.listing.failures)
    for task in plan.listing.tasks:
        try:
            _check_source(task)
            found = state(task, job, settings)
        except VrcodecError as error:
            failures.append(str(error))
            continue
        word = "replaced" if found is State.FOREIGN and options.overwrite else found.value
        counts[word] += 1
        name, target = storage.shown(task.source), storage.unsecret(task.target)
        common.say_line(f"{name} -> {target}: {word}")
    for failure in failures:
        output.complain(failure)
    parts = [f"{count:,} {word}" for word, count in counts.items()] or ["nothing to do"]
    common.say(", ".join(parts) + say_skipped(plan.listing, options.verbose))
    if failures:
        raise click.exceptions.Exit(1)


def _check_source(task: Task) -> None:
    if task.source != "-" and not storage.exists(task.source):
        raise VrcodecError(f"{storage.shown(task.source)}: no such file or folder")
