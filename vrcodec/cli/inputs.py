"""What the names on a command line stand for: files, folders, URLs, streams; and their targets."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Collection, Mapping, Sequence

import click

from vrcodec.batch import listing, storage
from vrcodec.batch.listing import Listing, SuffixOf, Task

_STDIN = {"-", "/dev/stdin", "/dev/fd/0", "/proc/self/fd/0"}
_STDOUT = {"-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"}


@dataclasses.dataclass(frozen=True)
class Names:
    """What a command makes of names.

    Attributes:
        kinds: suffixes of the files in a folder that it takes.
        suffix_of: tells how the result of a source ends.
        aside: goes before the suffix where no output was asked for and the name is taken.
        check_suffix: raises click.UsageError for an output whose name says that it is another.
    """

    kinds: Collection[str]
    suffix_of: SuffixOf
    aside: str = ""
    check_suffix: Callable[[str], None] = lambda name: None


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is to be done.

    Attributes:
        listing: the files.
        source: the folder they are in, where that is what was named.
        out: the folder of the results, where one was named.
        remarks: by source, what the user should be told when its result is there.
    """

    listing: Listing
    source: str | None = None
    out: str | None = None
    remarks: Mapping[str, str] = dataclasses.field(default_factory=dict)


def split(
    inputs: Sequence[str], output: str | None, suffixes: Collection[str]
) -> tuple[list[str], str | None]:
    """Inputs and output, as options or in the short form IN OUT.

    Args:
        inputs: the arguments.
        output: of the option -o.
        suffixes: of files that this command makes and never takes.
    """
    if output == "":
        raise click.UsageError("the name after -o is empty")
    inputs = list(inputs)
    if output is None and len(inputs) == 2 and "-" not in inputs:
        last = inputs[1]
        if os.path.splitext(last)[1].lower() in suffixes and not os.path.isdir(last):
            output = inputs.pop()
    inputs = ["-" if name in _STDIN else name for name in inputs]
    if output in _STDOUT:
        output = "-"
    return inputs, output


def plan(
    inputs: Sequence[str],
    output: str | None,
    names: Names,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
) -> Plan:
    """Decide where each input's result goes, before any work.

    Args:
        inputs, output: as from `split`.
        names: what the command makes of names.
        include, exclude: as for `listing.list_folder`.

    Raises:
        click.UsageError: they do not go together.
        VrcodecError: a folder cannot be read.
    """
    inputs = [storage.plain(name) for name in inputs]
    out = storage.plain(output) if output else None
    if any(storage.is_folder(name) for name in inputs):
        if len(inputs) > 1:
            raise click.UsageError("a folder must be the only INPUT")
        if not out or out == "-":
            name = storage.shown(inputs[0])
            raise click.UsageError(f"{name} is a folder: name one for the results with -o")
        found = listing.list_folder(inputs[0], out, names.kinds, names.suffix_of, include, exclude)
        return Plan(found, inputs[0], out)
    chosen = [name for name in inputs if listing.is_chosen(name, include, exclude)]
    is_folder = output is not None and names_folder(output)
    if out is not None and not is_folder and len(inputs) > 1:
        raise click.UsageError(
            f"-o {storage.shown(out)} is one file, but there are {len(inputs)} inputs "
            "(a folder that does not exist yet is named with a / at its end)"
        )
    if out is not None and not is_folder and out != "-":
        names.check_suffix(out)
    tasks, remarks = [], {}
    for source in chosen:
        task, avoided = _task(source, out, is_folder, names)
        tasks.append(task)
        if avoided:
            remarks[source] = f"{avoided} exists, writing {task.target}"
    _check_clashes(tasks)
    tasks, failures = _spare_inputs(tasks)
    left_out = [name for name in inputs if name not in chosen]
    found = Listing(tasks, left_out=left_out, failures=failures)
    below = out if is_folder and out and not storage.is_url(out) else None
    return Plan(found, out=below, remarks=remarks)


def is_folder(names: list[str]) -> bool:
    """Whether what is to be worked on is a folder. Raises VrcodecError."""
    return len(names) == 1 and storage.is_folder(storage.plain(names[0]))


def names_folder(output: str) -> bool:
    """Whether the -o option names a folder: one that exists, or one to be made."""
    return output.endswith("/") or os.path.isdir(output)


def _task(source: str, out: str | None, is_folder: bool, names: Names) -> tuple[Task, str | None]:
    """One file and its result; and the name it would have had, were that not taken."""
    folder, name = os.path.split("stdin" if source == "-" else source)
    stem = os.path.splitext(name)[0]
    if out is None and source != "-":
        suffix = names.suffix_of(source)
        target = _beside(folder, suffix.behind(stem))
        if names.aside and storage.exists(target):
            return Task(source, _beside(folder, stem + names.aside + suffix.text)), target
        return Task(source, target), None
    if out is not None and is_folder:
        return Task(source, storage.join(out, ".", names.suffix_of(source).behind(stem))), None
    return Task(source, out or "-"), None


def _beside(folder: str, name: str) -> str:
    return f"{folder}/{name}" if storage.is_url(folder + "/") else os.path.join(folder, name)


def _check_clashes(tasks: Sequence[Task]) -> None:
    sources: dict[str, str] = {}
    for task in tasks:
        place = task.target if storage.is_url(task.target) else os.path.realpath(task.target)
        if place in sources:
            raise click.UsageError(
                f"{sources[place]} and {storage.shown(task.source)} would both become "
                f"{storage.unsecret(task.target)}"
            )
        sources[place] = storage.shown(task.source)


def _spare_inputs(tasks: Sequence[Task]) -> tuple[list[Task], list[str]]:
    """Tasks that replace no input, by whatever name; and an error for each that would."""
    names = {task.source for task in tasks}
    inputs = {storage.identity(task.source) for task in tasks} - {None}
    kept, failures = [], []
    for task in tasks:
        own = None if task.target == "-" else storage.identity(task.target)
        is_missing = task.target == task.source and own is None and not storage.is_url(task.source)
        if own in inputs or (task.target in names and task.target != "-" and not is_missing):
            failures.append(f"{storage.unsecret(task.target)}: is {_spared(task)}")
        else:
            kept.append(task)
    return kept, failures


def _spared(task: Task) -> str:
    """What an input is that would be replaced by its own result or by another's."""
    suffix = os.path.splitext(task.source)[1].lower()
    if task.target == task.source and suffix in listing.CODED:
        return "a .vrc file already"
    return "an input, and would be replaced"
