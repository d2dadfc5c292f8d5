"""What a folder holds, and what each of its files becomes."""

from __future__ import annotations

import dataclasses
import fnmatch
import os
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path

from vrcodec.batch import storage
from vrcodec.pictures.formats import KNOWN

PICTURES = frozenset(suffix for format in KNOWN if not format.package for suffix in format.suffixes)
"""Names that end in one of these are taken for pictures to encode."""
PLUGINS = {
    suffix: format.package for format in KNOWN if format.package for suffix in format.suffixes
}
"""Pictures that Pillow reads with a plugin: the package that has it."""
CODED = frozenset({".vrc"})
"""Names that end in one of these are taken for files to decode."""


@dataclasses.dataclass(frozen=True)
class Task:
    """A file, and what it becomes: paths or URLs, - for stdin and stdout.

    Attributes:
        source: the input.
        target: the output.
    """

    source: str
    target: str


@dataclasses.dataclass(frozen=True)
class Listing:
    """Files to work on.

    Attributes:
        tasks: in the order of their names, folder by folder.
        skipped: names of the files that are none of the wanted kind.
        left_out: names of those that are, but that the patterns leave out.
        failures: what cannot be read, or may not be joined to the output's name; one line each.
    """

    tasks: list[Task]
    skipped: list[str] = dataclasses.field(default_factory=list)
    left_out: list[str] = dataclasses.field(default_factory=list)
    failures: list[str] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True)
class Suffix:
    """How the names of results end.

    Attributes:
        text: goes in the place of a source's suffix, with its dot.
        also: what remains of a source's name may already end in one of these, in lower case; then
            it stays as it is.
    """

    text: str
    also: frozenset[str] = frozenset()

    def behind(self, stem: str) -> str:
        """The name of the result of a source with this name, but for its suffix."""
        return stem if os.path.splitext(stem)[1].lower() in self.also else stem + self.text


SuffixOf = Callable[[str], Suffix]
"""Tells how the result of a source is called."""


def always(text: str) -> SuffixOf:
    """The same suffix for all results."""
    suffix = Suffix(text)
    return lambda source: suffix


def picture_suffixes() -> frozenset[str]:
    """`PICTURES`, and those of the plugins that are installed."""
    return PICTURES | {suffix for suffix, package in PLUGINS.items() if _installed(package)}


def missing_plugins(names: Iterable[str]) -> dict[str, str]:
    """By suffix, the package that would read some of these files, were it installed."""
    suffixes = {os.path.splitext(name)[1].lower() for name in names}
    return {
        suffix: package
        for suffix, package in PLUGINS.items()
        if suffix in suffixes and not _installed(package)
    }


def _installed(package: str) -> bool:
    import importlib.metadata  # not at the top: parsing e-mail headers takes a while to import

    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def list_folder(
    folder: str | Path,
    out: str | Path,
    kinds: Collection[str],
    suffix: str | SuffixOf,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
) -> Listing:
    """Find the files of some kind below a folder, and name what they become.

    The tree is mirrored, and each file's suffix is replaced; files that would collide, in any mix
    of upper and lower case, keep their whole names instead, with the new suffix after it. The
    patterns do not change those names, so that runs with other patterns do not collide either. The
    output folder is left out where it lies inside.

    Args:
        folder: the input, a path or URL; links to folders in it are not followed.
        out: the output, likewise.
        kinds: suffixes of the wanted files, in lower case.
        suffix: of the results, with its dot; or what tells that of each source.
        include: shell patterns of which a file must match one, if there are any. A pattern
            with a / is matched with the path below `folder`, otherwise with the name.
        exclude: shell patterns of which a file must match none.

    Raises:
        VrcodecError: the folder cannot be read.
    """
    folder, out = str(folder), str(out)
    suffix_of = always(suffix) if isinstance(suffix, str) else suffix
    found = Listing([])
    refused: list[tuple[str, str]] = []
    for below, names in storage.walk(folder, out, refused):
        wanted = []
        for name in names:
            source = storage.join(folder, below, name)
            if (
                os.path.splitext(name)[1].lower() in kinds
                and not name.startswith("._")
                and not storage.is_special(source)
            ):
                wanted.append(name)
            else:
                found.skipped.append(source)
        sources = [storage.join(folder, below, name) for name in wanted]
        suffixes = [suffix_of(source) for source in sources]
        results = _result_names(wanted, suffixes)
        for name, source, result in zip(wanted, sources, results, strict=True):
            if is_chosen(name if below == "." else f"{below}/{name}", include, exclude):
                found.tasks.append(Task(source, storage.join(out, below, result)))
            else:
                found.left_out.append(source)
    for path, line in refused:
        if not _matches(f"{path}/", exclude):
            found.failures.append(line)
    return found


def is_chosen(path: str, include: Sequence[str], exclude: Sequence[str]) -> bool:
    """Whether the patterns of `list_folder` leave this file in."""
    return (not include or _matches(path, include)) and not _matches(path, exclude)


def _matches(path: str, patterns: Iterable[str]) -> bool:
    name = path.rpartition("/")[2]
    return any(
        fnmatch.fnmatchcase(path if "/" in pattern else name, pattern) for pattern in patterns
    )


def _result_names(names: Sequence[str], suffixes: Sequence[Suffix]) -> list[str]:
    """What the files of one folder become; all different."""
    full: set[str] = set()
    while True:
        results = [
            name + suffix.text if name in full else suffix.behind(os.path.splitext(name)[0])
            for name, suffix in zip(names, suffixes, strict=True)
        ]
        counts = Counter(result.casefold() for result in results)
        clashing = {
            name
            for name, result in zip(names, results, strict=True)
            if counts[result.casefold()] > 1
        }
        if clashing <= full:
            return results
        full |= clashing
