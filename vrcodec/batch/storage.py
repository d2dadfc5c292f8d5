"""Whole files by name, where a name is a path or an fsspec URL such as s3://bucket/a.png.

Paths are written through a temporary file (files.py), and so are file:// URLs, which `plain` turns
into paths. Other URLs are put in one piece: that is atomic in an object store (S3, GCS, Azure).
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vrcodec.errors import VrcodecError
from vrcodec.files import os_error_text, read_bytes, write_atomically


def is_url(name: str) -> bool:
    """Whether a name is a URL rather than a path."""
    return "://" in name


def plain(name: str) -> str:
    """The path that a file:// URL stands for; any other name as it is, without / at its end.

    Raises:
        VrcodecError: nothing is known about URLs of this kind.
    """
    if not is_url(name):
        return name
    if "::" in name:
        raise VrcodecError(f"{name}: chained URLs are not supported")
    with _one_line(name):
        system, path = _locate(name)
    return path if "file" in _protocols(system) else name.rstrip("/")


def read(name: str) -> bytes:
    """The contents of a file. Raises VrcodecError, `NAME: what`."""
    if not is_url(name):
        return read_bytes(Path(name))
    with _one_line(name):
        system, path = _locate(name)
        data: bytes = system.cat_file(path)
        return data


def read_if_there(name: str) -> bytes | None:
    """The contents of a file, None where there is none. Raises VrcodecError, `NAME: what`."""
    if not is_url(name):
        return read_bytes(Path(name)) if os.path.exists(name) else None
    with _one_line(name):
        system, path = _locate(name)
        try:
            data: bytes = system.cat_file(path)
        except FileNotFoundError:
            return None
        return data


def size(name: str) -> int:
    """Bytes of a file. Raises VrcodecError, `NAME: what`."""
    with _one_line(name):
        if not is_url(name):
            return os.path.getsize(name)
        system, path = _locate(name)
        return int(system.size(path) or 0)


def write(name: str, data: bytes, replace: bool) -> None:
    """Write a file completely or not at all, and the folders above it.

    Args:
        replace: an existing file. A store does not tell: there the caller has to have looked.

    Raises:
        VrcodecError: `NAME: what`.
    """
    if not is_url(name):
        with _one_line(os.path.dirname(name)):
            os.makedirs(os.path.dirname(name) or ".", exist_ok=True)
        write_atomically(Path(name), data, replace)
        return
    with _one_line(name):
        system, path = _locate(name)
        system.pipe_file(path, data)


def is_same(first: str, second: str) -> bool:
    """Whether two names are of one file."""
    if is_url(first) or is_url(second):
        return first == second
    return os.path.realpath(first) == os.path.realpath(second)


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
        return _changed(name) >= _written(other)
    except NotImplementedError:
        return True


def walk(folder: str, leave_out: str) -> Iterator[tuple[str, list[str]]]:
    """All folders below one and it itself, with their files.

    Args:
        folder: links to folders in it are not followed.
        leave_out: a folder; nothing below it is listed, unless it is `folder`.

    Yields:
        The path of each below `folder` ("." for that itself), and its files' sorted names.

    Raises:
        VrcodecError: a folder cannot be read, or there is none.
    """
    if is_url(folder):
        yield from _walk_url(folder, leave_out)
        return

    def fail(error: OSError) -> None:
        raise VrcodecError(f"{error.filename}: {os_error_text(error)}") from error

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
    """The name of a file in the folder that `walk` calls `below`."""
    parts = [folder, name] if below == "." else [folder, below, name]
    return "/".join(parts) if is_url(folder) else os.path.join(*parts)


def _walk_url(folder: str, leave_out: str) -> Iterator[tuple[str, list[str]]]:
    with _one_line(folder):
        system, root = _locate(folder)
        if not system.isdir(root):
            raise FileNotFoundError(2, "no such folder")
        paths = system.find(root)
    out = leave_out.removeprefix(folder + "/") if leave_out != folder else None
    places: dict[str, list[str]] = {}
    for path in paths:
        below, _, name = path[len(root) :].lstrip("/").rpartition("/")
        if name and not f"{below}/".startswith(f"{out}/"):
            places.setdefault(below or ".", []).append(name)
    for below in sorted(places):
        yield below, sorted(places[below])


def _changed(name: str) -> float:
    if is_url(name):
        return _written(name)
    with _one_line(name):
        facts = os.stat(name)
        return max(facts.st_mtime, facts.st_ctime)


def _written(name: str) -> float:
    with _one_line(name):
        if not is_url(name):
            return os.stat(name).st_mtime
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
def _one_line(name: str) -> Iterator[None]:
    """Turn what a store raises, which is its own affair and may be anything, into one line."""
    try:
        yield
    except (VrcodecError, NotImplementedError):
        raise
    except OSError as error:
        raise VrcodecError(f"{name}: {os_error_text(error)}") from error
    except Exception as error:
        text = " ".join(str(error).split())
        raise VrcodecError(f"{name}: {text or type(error).__name__}") from error
