"""Whole files by name: a path, an fsspec URL such as s3://bucket/a.png, or - for stdin and stdout.

Paths are written through a temporary file (files.py), and so are file:// URLs, which `plain` turns
into paths. Other URLs are put in one piece: that is atomic in an object store (S3, GCS, Azure).
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vrcodec import files
from vrcodec.batch import streams
from vrcodec.errors import NotVrcError, VrcodecError, naming, one_line
from vrcodec.text import masked, masked_url

STDIO = "-"
"""Stands for stdin as a source, and for stdout as a target."""
LARGE = 16 << 20
"""A local file of more bytes is not read before somebody has looked at its beginning."""
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_NOT_IN_NAMES = re.compile(r"[\0\\:]" if os.name == "nt" else r"\0")
_WEB = {"http", "https"}


def is_url(name: str) -> bool:
    """Whether a name is a URL rather than a path: :// further behind is only text."""
    return bool(_URL.match(name))


def unsecret(name: str) -> str:
    """A name for reports: that of a URL without user name, password and query."""
    return masked_url(name) if is_url(name) else name


def shown(name: str) -> str:
    """What messages call an input."""
    return "stdin" if name == STDIO else unsecret(name)


def plain(name: str) -> str:
    """The path that a file:// URL stands for; any other name as it is, without / at its end.

    Raises:
        VrcodecError: nothing is known about URLs of this kind.
    """
    if not is_url(name):
        return name
    with _named(name):
        if "::" in name:
            raise VrcodecError("chained URLs are not supported")
        system, path = _locate(name)
        return path if "file" in _protocols(system) else name.rstrip("/")


def is_folder(name: str) -> bool:
    """Whether this is a folder; a URL that nobody can look up is one unless it has a suffix.

    Raises:
        VrcodecError: a store does not answer.
    """
    if not is_url(name):
        return name != STDIO and os.path.isdir(name)
    if "http" in name[:4]:
        return not re.search(r"\.[A-Za-z0-9]{1,5}$", masked_url(name).partition("?")[0])
    with _named(name):
        system, path = _locate(name)
        return not system.isfile(path)


def read(name: str, begins: bytes = b"") -> bytes:
    """The contents of a file. Raises VrcodecError, `NAME: what`.

    Args:
        name: path, URL or -.
        begins: what it has to begin with; of another file no more is read.
    """
    if name == STDIO:
        with naming("stdin"):
            return files.read_stream(streams.stdin(), begins)
    if not is_url(name):
        return files.read_bytes(Path(name), begins)
    with _named(name):
        system, path = _locate(name)
        if not _WEB.intersection(_protocols(system)):
            data: bytes = system.cat_file(path)
            return data
        with system.open(path, "rb", block_size=0) as file:  # one request, and no more than wanted
            return files.read_stream(file, begins)


def head(name: str, size: int) -> bytes:
    """The first bytes of a file; of one that is not local, perhaps more.

    Raises:
        VrcodecError: `NAME: what`.
    """
    with _named(name):
        if not is_url(name):
            with open(name, "rb") as file:
                return file.read(size)
        system, path = _locate(name)
        if _WEB.intersection(_protocols(system)):
            with system.open(path, "rb", block_size=0) as file:
                return bytes(file.read(size))
        data: bytes = system.cat_file(path, start=0, end=size)
        return data


def read_or_name(name: str) -> bytes | Path:
    """The contents of a file, or its path where it is local and large.

    Raises:
        VrcodecError: `NAME: what`.
    """
    if name != STDIO and not is_url(name):
        with naming(name):
            facts = os.stat(name)
            if stat.S_ISREG(facts.st_mode) and facts.st_size > LARGE:
                return Path(name)
    return read(name)


def read_if_there(name: str, begins: bytes = b"") -> bytes | None:
    """The contents of a file, None where there is none; of one that begins otherwise nothing.

    Raises:
        VrcodecError: `NAME: what`.
    """
    if not is_url(name):
        if not os.path.lexists(name):
            return None
        if not os.path.isfile(name):
            return b""
    elif not exists(name):
        return None
    try:
        return read(name, begins)
    except NotVrcError:
        return b""


def exists(name: str) -> bool:
    """Whether a file would be replaced. Raises VrcodecError where a store does not answer."""
    if name == STDIO:
        return False
    if not is_url(name):
        return os.path.lexists(name) and not is_special(name)
    with _named(name):
        system, path = _locate(name)
        return bool(system.exists(path))


def size(name: str) -> int:
    """Bytes of a file. Raises VrcodecError, `NAME: what`."""
    with _named(name):
        if not is_url(name):
            return os.path.getsize(name)
        system, path = _locate(name)
        return int(system.size(path) or 0)


def check(name: str, replace: bool, below: str | None) -> None:
    """Raise the error that writing would end in, as far as it can be known before."""
    if name != STDIO and not is_url(name):
        files.check_target(Path(name), replace, below)


def write(
    name: str,
    data: bytes,
    replace: bool,
    like: os.stat_result | None = None,
    below: str | None = None,
) -> None:
    """Write a file completely or not at all.

    Args:
        name: path, URL or -.
        data: all of it.
        replace: an existing file. A store does not tell: there the caller has to have looked.
        like: take permissions and times of a path from here.
        below: a folder; nothing is written through a link below it, and what is missing is made.

    Raises:
        BrokenPipeError: nobody reads from stdout any longer.
        VrcodecError: `NAME: what`.
    """
    if name == STDIO:
        streams.write_stdout(data)
    elif not is_url(name):
        files.write_atomically(Path(name), data, replace, like, below)
    else:
        with _named(name):
            system, path = _locate(name)
            system.pipe_file(path, data)


def facts(name: str) -> os.stat_result | None:
    """What the system says about a local regular file that is there."""
    if name == STDIO or is_url(name):
        return None
    with contextlib.suppress(OSError):
        found = os.stat(name)
        return found if stat.S_ISREG(found.st_mode) else None
    return None


def is_same(first: str, second: str) -> bool:
    """Whether two names are of one file."""
    if is_url(first) or is_url(second):
        return first == second
    own = identity(first)
    return own is not None and own == identity(second)


def identity(name: str) -> tuple[int, int] | None:
    """What all names of one local file have in common; None for another, or where there is none."""
    if is_url(name) or (name == STDIO and sys.stdin is None):
        return None
    return files.identity(0 if name == STDIO else name)


def links_below(name: str, folder: str | None) -> bool:
    """Whether this is a link to something below a folder."""
    if folder is None or is_url(name) or is_url(folder) or not os.path.islink(name):
        return False
    root = os.path.join(os.path.realpath(folder), "")
    return os.path.realpath(name).startswith(root)


def is_special(name: str) -> bool:
    """Whether this is a pipe, a socket or a device, which reading may wait for without end."""
    if is_url(name):
        return False
    with contextlib.suppress(OSError):
        mode = os.stat(name).st_mode
        return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))
    return False


def changed_since(name: str, other: str) -> bool:
    """Whether a file came to its place, or was written to, after another one was written.

    True also where a store knows no times.
    """
    try:
        return _touched(name) >= _touched(other)
    except NotImplementedError:
        return True


def walk(
    folder: str, leave_out: str, refused: list[tuple[str, str]]
) -> Iterator[tuple[str, list[str]]]:
    """All folders below one and it itself, with their files.

    Args:
        folder: links to folders in it are not followed.
        leave_out: a folder; nothing below it is listed, unless it is `folder`.
        refused: gets path and error line of each folder below it that cannot be read, and of each
            name that would lead elsewhere when it is joined to another folder.

    Yields:
        The path of each below `folder` ("." for that itself), and its files' sorted names.

    Raises:
        VrcodecError: the folder itself cannot be read, or there is none.
    """
    if is_url(folder):
        yield from _walk_url(folder, leave_out, refused)
        return

    def fail(error: OSError) -> None:
        line = one_line(error)
        if error.filename == folder:
            raise VrcodecError(line) from error
        refused.append((os.path.relpath(error.filename, folder), line))

    own = None if is_url(leave_out) else os.path.realpath(leave_out)
    if own == os.path.realpath(folder):
        own = None
    for place, folders, names in os.walk(folder, onerror=fail):
        folders[:] = sorted(
            name
            for name in folders
            if own is None or os.path.realpath(os.path.join(place, name)) != own
        )
        yield Path(os.path.relpath(place, folder)).as_posix(), sorted(names)


def join(folder: str, below: str, name: str) -> str:
    """The name of a file in the folder that `walk` calls `below`.

    Raises:
        VrcodecError: a URL of that name would be another file's.
    """
    parts = [folder, name] if below == "." else [folder, below, name]
    if not is_url(folder):
        return os.path.join(*parts)
    if "::" in name or "::" in below:
        raise VrcodecError(f"{shown(folder)}/{below}/{name}: :: has a meaning in URLs")
    return "/".join(parts)


def _walk_url(
    folder: str, leave_out: str, refused: list[tuple[str, str]]
) -> Iterator[tuple[str, list[str]]]:
    with _named(folder):
        system, root = _locate(folder)
        if not system.isdir(root):
            raise FileNotFoundError(2, "no such folder")
        paths = system.find(root)
    root = root.rstrip("/") + "/"
    out = leave_out[len(folder) + 1 :] if leave_out.startswith(f"{folder}/") else None
    places: dict[str, list[str]] = {}
    for path in paths:
        below, _, name = path.removeprefix(root).rpartition("/")
        if not path.startswith(root) or not _leads_below(path[len(root) :]):
            line = f"{masked(path)}: leads out of the folder it is listed in"
            refused.append((path.removeprefix(root), line))
        elif out is None or not f"{below}/".startswith(f"{out}/"):
            places.setdefault(below or ".", []).append(name)
    for below in sorted(places):
        yield below, sorted(places[below])


def _leads_below(path: str) -> bool:
    """Whether joining this path to any folder gives a file below that folder."""
    parts = path.split("/")
    return not any(part in {"", ".", ".."} or _NOT_IN_NAMES.search(part) for part in parts)


def _touched(name: str) -> float:
    """When a file was last written to, renamed or given other facts.

    Its time of writing alone may have been set to any other, by `--preserve` for one.
    """
    with _named(name):
        if not is_url(name):
            found = os.stat(name)
            return max(found.st_mtime, found.st_ctime)
        system, path = _locate(name)
        seconds: float = system.modified(path).timestamp()
        return seconds


def _locate(url: str) -> tuple[Any, str]:
    """A file system and a path in it; the systems are made once per process."""
    from fsspec.core import url_to_fs

    system, path = url_to_fs(url)
    return system, path


def _protocols(system: Any) -> tuple[str, ...]:
    return (system.protocol,) if isinstance(system.protocol, str) else tuple(system.protocol)


@contextlib.contextmanager
def _named(name: str) -> Iterator[None]:
    """Turn what a store raises, which is its own affair and may be anything, into one line."""
    try:
        with naming(shown(name), everything=True):
            yield
    except VrcodecError as error:
        if isinstance(error.__cause__, NotImplementedError):
            raise error.__cause__ from None
        if is_url(name):
            error.args = (masked(str(error.args[0]).replace(name, shown(name))),)
        raise
