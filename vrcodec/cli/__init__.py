"""The command line: `vrcodec COMMAND ...`. Commands are imported when they are called."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

import click

from vrcodec import __version__, extras
from vrcodec.cli import output
from vrcodec.errors import VrcodecError, one_line
from vrcodec.text import printable

COMMANDS = {
    "encode": ("vrcodec.cli.encode:encode", "Code pictures as .vrc files."),
    "decode": ("vrcodec.cli.decode:decode", "Turn .vrc files back into pictures."),
    "info": ("vrcodec.cli.info:info", "Show what is in .vrc files, or in the model."),
    "selftest": (
        "vrcodec.cli.selftest:selftest",
        "Check that this machine decodes as every other.",
    ),
    "explore": (
        "vrcodec.cli.explore:explore",
        "Open a page with the model's dials as sliders.",
    ),
    "eval": ("vrcodec.cli.eval:evaluate", "Measure rate and distortion on a folder of pictures."),
    "bench": ("vrcodec.cli.bench:bench", "Measure speed by stage, beside other codecs."),
    "integrate": (
        "vrcodec.cli.integrate:integrate",
        "Make desktop and shell know .vrc files.",
    ),
    "train": ("vrcodec.cli.train:train", "Train new weights on folders of pictures."),
    "stylize": ("vrcodec.cli.stylize:stylize", "Give pictures the style of another one."),
}
"""Where each command lives, and what it does in one line."""

TRACEBACK = "VRCODEC_TRACEBACK"
"""Environment variable: show where in the program an unforeseen error came from."""


WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
"""What can say how the threads of OpenMP wait."""


def calm_threads() -> None:
    """Have threads that wait leave the processor to others, unless the user has said how to.

    OpenMP reads its variable once, when torch is imported, and NumPy's OpenBLAS its own when NumPy
    is: so it has to be said before. The products here are small, and between them the threads of
    OpenBLAS would be in the way of those that compute the networks; so there it is one.
    """
    if not any(name in os.environ for name in WAITING):
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


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
        try:
            with _clean_termination():
                return super().invoke(ctx)
        except _Terminated as signalled:
            raise click.exceptions.Exit(128 + signalled.number) from None
        except KeyboardInterrupt:
            output.say("", err=True)
            raise click.exceptions.Exit(128 + signal.SIGINT) from None

    def main(self, *args: Any, **options: Any) -> Any:
        output.claim_streams()
        calm_threads()
        code = self._exit_code(*args, **(options | {"standalone_mode": False}))
        sys.exit(1 if output.tell_what_broke() else code)

    def _exit_code(self, *args: Any, **options: Any) -> int:
        """Run, say what has failed in one line, and tell how to end."""
        try:
            return super().main(*args, **options) or 0
        except click.UsageError as error:
            _show(error)
            return error.exit_code
        except click.ClickException as error:
            output.complain(error.message)
            return error.exit_code
        except SystemExit as end:  # click's: after completion, or who reads its help has enough
            if isinstance(end.__context__, BrokenPipeError):
                return 0
            return end.code if isinstance(end.code, int) else 1
        except OSError as error:
            if not output.is_lost():  # a page of help, say, on a full disk
                output.complain(error)
            return 1
        except VrcodecError as error:
            output.complain(error)
            return 1
        except Exception as error:
            if TRACEBACK in os.environ:
                raise
            missing = extras.missing(error) if isinstance(error, ModuleNotFoundError) else None
            fault = f"{one_line(error)} (a fault in vrcodec; {TRACEBACK}=1 shows where)"
            output.complain(missing or fault)
            return 1


def _show(error: click.ClickException) -> None:
    """What click has to say about wrong usage, which is more than a line."""
    text = io.StringIO()
    error.show(text)
    message = error.format_message()
    output.say(text.getvalue().rstrip("\n").replace(message, printable(message)), err=True)


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
    from vrcodec.model.identity import default_weights, identify

    try:
        weights = f"weights {identify(default_weights())[0]}"
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
    """Learned image codec: one model from thumbnail to visually lossless, tuned as you like."""
