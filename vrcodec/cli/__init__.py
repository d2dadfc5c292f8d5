"""The command line: `vrcodec COMMAND ...`. Commands are imported when they are called."""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType

import click

from vrcodec import __version__
from vrcodec.errors import VrcodecError

COMMANDS = {
    "encode": ("vrcodec.cli.encode:encode", "Code pictures as .vrc files."),
    "decode": ("vrcodec.cli.decode:decode", "Turn .vrc files back into pictures."),
    "info": ("vrcodec.cli.info:info", "Show what is in .vrc files, or in the model."),
    "selftest": (
        "vrcodec.cli.selftest:selftest",
        "Check that this machine decodes as every other.",
    ),
    "eval": ("vrcodec.cli.eval:evaluate", "Measure rate and distortion on a folder of pictures."),
    "bench": ("vrcodec.cli.bench:bench", "Measure speed by stage, beside other codecs."),
    "train": ("vrcodec.cli.train:train", "Train new weights on folders of pictures."),
}
"""Where each command lives, and what it does in one line."""


WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
"""What can say how the threads of OpenMP wait."""


def wait_calmly() -> None:
    """Have threads that wait leave the processor to others, unless the user has said how to.

    OpenMP reads this once, when torch is imported: so it has to be said before.
    """
    if not any(name in os.environ for name in WAITING):
        os.environ["OMP_WAIT_POLICY"] = "passive"


class LazyGroup(click.Group):
    """The commands in `COMMANDS`, so that help and errors do not wait for heavy imports."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> object:
        wait_calmly()
        try:
            with _clean_termination():
                return super().invoke(ctx)
        except VrcodecError as error:
            raise click.ClickException(str(error)) from error
        except ModuleNotFoundError as error:
            if error.name != "torch":
                raise
            raise click.ClickException(
                "this needs PyTorch, which is not installed: pip install torch"
            ) from error
        except _Terminated as signalled:
            raise click.exceptions.Exit(128 + signalled.number) from None
        except KeyboardInterrupt:
            click.echo(err=True)
            raise click.exceptions.Exit(128 + signal.SIGINT) from None


class _Terminated(KeyboardInterrupt):
    """Somebody asked the process to end; it tidies up as after Ctrl-C."""

    def __init__(self, number: int) -> None:
        self.number = number


@contextlib.contextmanager
def _clean_termination() -> Iterator[None]:
    """Turn SIGTERM and SIGHUP, where nobody else handles them, into an exception."""

    def terminate(number: int, _: FrameType | None) -> None:
        raise _Terminated(number)

    changed = []
    if threading.current_thread() is threading.main_thread():
        for name in ("SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)  # there is no SIGHUP on Windows
            if number is not None and signal.getsignal(number) is signal.SIG_DFL:
                signal.signal(number, terminate)
                changed.append(number)
    try:
        yield
    finally:
        for number in changed:
            signal.signal(number, signal.SIG_DFL)


def _print_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if not wanted or ctx.resilient_parsing:
        return
    from vrcodec.codec.runtime import choose, described
    from vrcodec.model.weights_file import default_weights, weights_id

    try:
        weights = f"weights {weights_id(default_weights())}"
    except VrcodecError:
        weights = "no weights"
    try:
        runtime = described(choose(device="cpu"))
    except VrcodecError:
        runtime = "no runtime"
    click.echo(f"vrcodec {__version__} ({weights}; {runtime})")
    ctx.exit()


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Show the version, the id of the weights, and what computes the networks on a CPU.",
)
def main() -> None:
    """Learned image codec with one dial from thumbnail to visually lossless."""
