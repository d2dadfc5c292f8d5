"""Files on disk: whole reads, and the one door for writing, completely or not at all.

A new file is written under a temporary name beside its place, readable by nobody else, with a lock
on it for as long as its writer lives. Only when all of it is on the disk it gets mode, owner and
times, and then its name. A temporary that nobody holds a lock on is what a killed process left.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import re
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from vrcodec.errors import ExistsError, NotVrcError, VrcodecError, naming
from vrcodec.places import CLOSE, NO_LINK, Folder, place

_WINDOWS = os.name == "nt"
with contextlib.suppress(ImportError):
    import fcntl  # not on Windows

_TEMPORARY = re.compile(r"\.vrcodec-[0-9a-f]{16}\.tmp")
MAX_STREAM = 1 << 30
"""Bytes that are read from what does not say how long it is."""
_PIECE = 1 << 20
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}


def read_bytes(path: Path, begins: bytes = b"", most: int | None = None) -> bytes:
    """The contents of a file.

    Args:
        path: of the file.
        begins: what it has to begin with; no more is read where it does not.
        most: bytes that it may have; without it a file has no limit, and whatever has no length of
            its own, as a pipe or device, has MAX_STREAM.

    Raises:
        NotVrcError: it begins otherwise.
        VrcodecError: `PATH: what`, where it cannot be read, or is too long.
    """
    with naming(str(path)), _opened(path) as file:
        return read_stream(file, begins, most)


def _opened(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except ValueError as error:  # a zero byte in it
        raise VrcodecError(str(error)) from error


def read_stream(file: BinaryIO, begins: bytes = b"", most: int | None = None) -> bytes:
    """As `read_bytes`, from where a stream is to its end."""
    head = file.read(len(begins)) if begins else b""
    if head != begins:
        raise NotVrcError("not a .vrc file")
    if most is None and _has_end(file):
        return head + file.read()
    most = MAX_STREAM if most is None else most
    pieces, length = [head], len(head)
    while piece := file.read(_PIECE):
        pieces.append(piece)
        length += len(piece)
        if length > most:
            raise VrcodecError(f"more than {most:,} bytes")
    return b"".join(pieces)


def _has_end(file: BinaryIO) -> bool:
    """Whether a stream is a file, on the disk or in memory, and no pipe or device."""
    try:
        return stat.S_ISREG(os.fstat(file.fileno()).st_mode)
    except (AttributeError, OSError, ValueError):
        return isinstance(file, io.BytesIO)


def check_target(path: Path, overwrite: bool = False, below: str | Path | None = None) -> None:
    """Raise the error that writing this file would end in, as far as it can be known before.

    Args:
        path, overwrite, below: as for `atomic_file`.

    Raises:
        VrcodecError: `PATH: what`, one line.
    """
    with _for_writing(path):
        try:
            with place(path, below) as (folder, name):
                _replaceable(folder, name, overwrite)
                folder.facts(".")
        except FileNotFoundError:
            if below is None:  # otherwise it is made
                raise


def write_atomically(
    path: Path,
    data: bytes,
    overwrite: bool = False,
    like: os.stat_result | None = None,
    below: str | Path | None = None,
) -> None:
    """Write a whole file; see `atomic_file`."""
    with atomic_file(path, overwrite, like, below) as file:
        file.write(data)


@contextlib.contextmanager
def atomic_file(
    path: Path,
    overwrite: bool = False,
    like: os.stat_result | None = None,
    below: str | Path | None = None,
) -> Iterator[BinaryIO]:
    """A file to write to, which gets its name when the context ends without an exception.

    Nobody ever sees a part of it, and nothing is left on failure. A new file has the permissions
    that the umask grants; a replaced one keeps mode, extended attributes and, as far as this
    process may, owner and group. A symbolic link named by the user stays one, and what it points
    to is replaced; one that points to nothing is an error, as is a link below `below`, where
    nothing is followed. A device or pipe is written to directly.

    Args:
        path: the target.
        overwrite: replace an existing file.
        like: take permissions, times and owner from here; a device or pipe keeps its own.
        below: a folder above the target; folders between them that are missing are made.

    Raises:
        ExistsError: there is one, and it may not be replaced.
        VrcodecError: `PATH: what`, one line. The target is as it was before.
    """
    with _making(path, overwrite, like, below) as (file, _):
        yield file


@contextlib.contextmanager
def atomic_path(
    path: Path, overwrite: bool = False, like: os.stat_result | None = None
) -> Iterator[Path]:
    """As `atomic_file`, for writers that want a path: of an empty file to fill or replace."""
    with _making(path, overwrite, like, None) as (_, temporary):
        yield temporary


def append(path: Path, data: bytes) -> None:
    """Add to the end of a log of one's own, through no link; made if it is missing.

    Raises:
        VrcodecError: `PATH: what`, one line.
    """
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | NO_LINK | CLOSE
    with _for_writing(path), os.fdopen(os.open(path, flags, 0o666), "ab") as file:
        file.write(data)


def identity(file: str | Path | int) -> tuple[int, int] | None:
    """What two names of one file have in common, links followed; None where there is none."""
    try:
        facts = os.stat(file)
    except (OSError, ValueError):
        return None
    return facts.st_dev, facts.st_ino


def remove_temporaries(folder: Path) -> int:
    """Remove what killed processes left of `atomic_file` anywhere below a folder.

    A temporary whose writer is alive is locked, and stays; so does any where the file system
    knows no locks.

    Returns:
        How many files that were.
    """
    removed = 0
    for root, _, names in os.walk(folder):
        for name in filter(_TEMPORARY.fullmatch, names):
            with contextlib.suppress(OSError):
                path = os.path.join(root, name)
                handle = os.open(path, os.O_RDWR | NO_LINK | CLOSE)
                try:
                    _lock(handle)
                    os.unlink(path)
                    removed += 1
                finally:
                    os.close(handle)
    return removed


@contextlib.contextmanager
def _making(
    path: Path, overwrite: bool, like: os.stat_result | None, below: str | Path | None
) -> Iterator[tuple[BinaryIO, Path]]:
    """A file to fill, and where it is for the time being."""
    with _for_writing(path), place(path, below, make=True) as (folder, name):
        old = _replaceable(folder, name, overwrite)
        if old is not None and not (stat.S_ISREG(old.st_mode) or stat.S_ISLNK(old.st_mode)):
            with path.open("wb") as special:
                yield special, path
            return
        temporary, handle = _new_temporary(folder)
        try:
            with os.fdopen(handle, "r+b") as file:
                yield file, Path(folder.path, temporary)
                file.flush()
                with _as_it_is_now(folder, temporary, handle) as handle:
                    _dress(folder, name, handle, old, like)
                    os.fsync(handle)
                if _WINDOWS:
                    file.close()
                if overwrite:
                    folder.rename(temporary, name)
                else:
                    folder.rename_new(temporary, name)
        finally:
            with contextlib.suppress(OSError):
                folder.remove(temporary)


@contextlib.contextmanager
def _as_it_is_now(folder: Folder, temporary: str, handle: int) -> Iterator[int]:
    """The handle of a temporary, or of the file that its writer has put in its place."""
    if os.path.samestat(folder.facts(temporary), os.fstat(handle)):
        yield handle
        return
    with os.fdopen(folder.open(temporary, os.O_RDWR), "r+b") as other:
        yield other.fileno()


@contextlib.contextmanager
def _for_writing(path: Path) -> Iterator[None]:
    with naming(str(path)):
        try:
            yield
        except FileExistsError:
            raise ExistsError("exists") from None
        except FileNotFoundError:
            raise VrcodecError("no such folder") from None


def _replaceable(folder: Folder, name: str, overwrite: bool) -> os.stat_result | None:
    """Facts about what is there now, None for nothing; an OSError if it has to stay."""
    try:
        facts = folder.facts(name)
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(facts.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if stat.S_ISLNK(facts.st_mode):
        if not overwrite:
            raise FileExistsError
        return facts  # the link itself is replaced
    if folder.handle is not None and not stat.S_ISREG(facts.st_mode):
        raise VrcodecError("is a device or pipe")
    if stat.S_ISREG(facts.st_mode) and not overwrite:
        raise FileExistsError
    if not folder.writable(name):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    return facts


def _new_temporary(folder: Folder) -> tuple[str, int]:
    """An empty file, open and locked, of a name that nobody can guess."""
    while True:
        name = f".vrcodec-{secrets.token_hex(8)}.tmp"
        handle = folder.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL)
        try:
            _lock(handle, needed=False)
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(folder.facts(name), os.fstat(handle)):
                    return name, handle
        except BlockingIOError:  # somebody tidies up here, and saw it before it was locked
            pass
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)


def _lock(handle: int, needed: bool = True) -> None:
    """Lock a file for its writer's life. Raises OSError where that fails, if it is needed."""
    if _WINDOWS:  # where an open file cannot be removed anyway
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if needed or error.errno not in _NO_LOCKS:
            raise


def _dress(
    folder: Folder, name: str, handle: int, old: os.stat_result | None, like: os.stat_result | None
) -> None:
    """Give a finished file mode, owner, attributes and times."""
    if _WINDOWS:
        return
    if old is not None and stat.S_ISLNK(old.st_mode):
        old = None
    if old is not None and folder.handle is None and hasattr(os, "listxattr"):
        with contextlib.suppress(OSError):
            for attribute in os.listxattr(folder.name(name)):
                if not attribute.startswith("security."):
                    value = os.getxattr(folder.name(name), attribute)
                    os.setxattr(handle, attribute, value)
    facts = like or old
    mode = 0o666 & ~_umask() if facts is None else facts.st_mode & 0o777
    own = os.fstat(handle)
    if facts is not None and (facts.st_uid, facts.st_gid) != (own.st_uid, own.st_gid):
        try:
            os.fchown(handle, facts.st_uid, facts.st_gid)
        except OSError:
            try:
                os.fchown(handle, -1, facts.st_gid)
            except OSError:  # what was for a group is not for another one
                mode &= 0o707 | (mode & 0o007) << 3
    os.fchmod(handle, mode)
    if like is not None:
        os.utime(handle, ns=(like.st_atime_ns, like.st_mtime_ns))


def _umask() -> int:
    with contextlib.suppress(OSError), open("/proc/self/status", encoding="ascii") as status:
        for line in status:
            if line.startswith("Umask:"):
                return int(line.split()[1], 8)
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
