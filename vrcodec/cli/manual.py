"""The manual page, in roff, of all commands: what their help says, in one place."""

from __future__ import annotations

import re
from collections.abc import Iterator

import click

NAME = "vrcodec"
_ABOUT = "learned image codec: one model from thumbnail to visually lossless"
_ENDS = (
    ("0", "All is well."),
    ("1", "Something failed: one line on stderr for each failure."),
    ("2", "Wrong usage."),
    ("128 + N", "Ended by signal N."),
)
_VARIABLES = (
    ("VRCODEC_TRACEBACK", "If set, faults of the program are shown with where they came from."),
    ("RAY_ADDRESS", "The Ray cluster of --engine ray."),
)


def page(group: click.Group) -> str:
    """The manual page of a group of commands."""
    ctx = click.Context(group, info_name=NAME, help_option_names=["-h", "--help"])
    parts = [
        f'.TH {NAME.upper()} 1 "" "" "User Commands"',
        *_section("NAME", f"{NAME} \\- {_escaped(_ABOUT)}"),
        *_section(
            "SYNOPSIS", f"\\fB{NAME}\\fR \\fICOMMAND\\fR [\\fIOPTION\\fR...] [\\fIINPUT\\fR...]"
        ),
    ]
    for name, command, inner in _commands(group, ctx):
        parts += _command(name, command, inner)
    parts += [*_section("EXIT STATUS"), *_entries(_ENDS)]
    parts += [*_section("ENVIRONMENT"), *_entries(_VARIABLES)]
    return "\n".join(parts) + "\n"


def _commands(
    group: click.Group, ctx: click.Context, before: tuple[str, ...] = ()
) -> Iterator[tuple[str, click.Command, click.Context]]:
    """All commands by name; that of a group's command which is meant without a name is its own."""
    for name in group.list_commands(ctx):
        command = group.get_command(ctx, name)
        assert command is not None
        inner = click.Context(command, info_name=name, parent=ctx)
        words = before if name == getattr(group, "PLAIN", None) else (*before, name)
        if isinstance(command, click.Group):
            yield from _commands(command, inner, words)
        else:
            yield " ".join(words), command, inner


def _command(name: str, command: click.Command, ctx: click.Context) -> list[str]:
    pieces = " ".join(command.collect_usage_pieces(ctx))
    lines = [
        *_section(f"{NAME} {name}".upper()),
        f"\\fB{NAME} {name}\\fR {_escaped(pieces)}",
    ]
    for paragraph in re.split(r"\n\s*\n", command.help or ""):
        lines += [".PP", _escaped(" ".join(paragraph.split()))]
    options = (one for one in command.get_params(ctx) if isinstance(one, click.Option))
    records = (option.get_help_record(ctx) for option in options)
    return lines + _entries([record for record in records if record])


def _section(title: str, *text: str) -> list[str]:
    return [f'.SH "{_escaped(title)}"', *text]


def _entries(pairs: list[tuple[str, str]] | tuple[tuple[str, str], ...]) -> list[str]:
    lines = []
    for head, text in pairs:
        lines += [".TP", f"\\fB{_escaped(head)}\\fR", _escaped(" ".join(text.split())) or "\\&"]
    return lines


def _escaped(text: str) -> str:
    """Text that roff shows as it is: no escapes, hyphens that can be copied, no requests."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{text}" if text[:1] in {".", "'"} else text
