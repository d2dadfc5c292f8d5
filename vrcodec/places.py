"""Folders in which files are made by name, so that no link can lead a write astray."""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import errno
import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vrcodec.errors import VrcodecError

CLOSE = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
NO_LINK = getattr(os, "O_NOFOLLOW", 0)
_FOLDER = os.O_RDONLY | CLOSE | getattr(os, "O_DIRECTORY", 0)
_BY_HANDLE = os.open in os.supports_dir_fd
_NO_HARD_LINKS = {errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK}
_LINUX = sys.platform.startswith("linux")
_AT_FDCWD, _RENAME_NOREPLACE = -100, 1


@dataclasses.dataclass(frozen=True)
class Folder:
    """Where a file is made: by path, or by handle, so that no link can lead it astray meanwhile."""

    path: str
    handle: int | None = None

    def name(self, name: str) -> str:
        """What to call a file here, together with `options`."""
        return name if self.handle is not None else os.path.join(self.path, name)

    @property
    def options(self) -> dict[str, Any]:
        """For functions of `os` that take a `dir_fd`."""
        return {} if self.handle is None else {"dir_fd": self.handle}

    @property
    def _both_options(self) -> dict[str, Any]:
        return {} if self.handle is None else {"src_dir_fd": self.handle, "dst_dir_fd": self.handle}

    def facts(self, name: str) -> os.stat_result:
        return os.stat(self.name(name), follow_symlinks=False, **self.options)

    def open(self, name: str, flags: int, mode: int = 0o600) -> int:
        return os.open(self.name(name), flags | NO_LINK | CLOSE, mode, **self.options)

    def writable(self, name: str) -> bool:
        return os.access(self.name(name), os.W_OK, **self.options)

    def remove(self, name: str) -> None:
        os.unlink(self.name(name), **self.options)

    def rename(self, name: str, new: str) -> None:
        os.replace(self.name(name), self.name(new), **self._both_options)

    def rename_new(self, name: str, new: str) -> None:
        """Give a file its name unless the name is taken."""
        try:
            os.link(self.name(name), self.name(new), **self._both_options)
        except OSError as error:
            if error.errno not in _NO_HARD_LINKS:
                raise
        else:
            return
        if not self._rename_by_kernel(name, new):
            with contextlib.suppress(FileNotFoundError):
                self.facts(new)
                raise FileExistsError
            os.rename(self.name(name), self.name(new), **self._both_options)

    def _rename_by_kernel(self, name: str, new: str) -> bool:
        """rename, but never over anything, in one step; False where the system cannot."""
        rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None) if _LINUX else None
        if rename is None:
            return False
        here = _AT_FDCWD if self.handle is None else self.handle
        old_path, new_path = (os.fsencode(self.name(part)) for part in (name, new))
        if rename(here, old_path, here, new_path, _RENAME_NOREPLACE) == 0:
            return True
        code = ctypes.get_errno()
        if code in {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP}:
            return False
        raise OSError(code, os.strerror(code))


@contextlib.contextmanager
def place(path: Path, below: str | Path | None, make: bool = False) -> Iterator[tuple[Folder, str]]:
    """The folder that a file is in, and its name there.

    Args:
        path: of the file; a link as its last part is followed.
        below: a folder above it, under which nothing is followed.
        make: `below`, and folders between it and the file, that are not there.

    Raises:
        VrcodecError: a link to nothing, or one below `below`.
        OSError: a folder is missing, or none.
    """
    if below is None:
        real = os.path.realpath(path)
        if os.path.islink(path) and not os.path.lexists(real):
            raise VrcodecError("is a link to nothing")
        folder, name = os.path.split(real)
        yield Folder(folder), name
        return
    try:
        *folders, name = path.relative_to(below).parts
    except ValueError:
        raise VrcodecError(f"is not below {below}") from None
    if ".." in (*folders, name):
        raise VrcodecError(f"is not below {below}")
    with contextlib.ExitStack() as stack:
        here = Folder(str(below))
        if make:
            os.makedirs(below, exist_ok=True)
        if _BY_HANDLE:
            handle = os.open(below, _FOLDER)
            stack.callback(os.close, handle)
            here = Folder(str(below), handle)
        for part in folders:
            here = _step(here, part, make)
            if here.handle is not None:
                stack.callback(os.close, here.handle)
        yield here, name


def _step(here: Folder, part: str, make: bool) -> Folder:
    """A folder in a folder, which is no link."""
    inner = os.path.join(here.path, part)
    if make:
        with contextlib.suppress(FileExistsError):
            os.mkdir(here.name(part), **here.options)
    if stat.S_ISLNK(here.facts(part).st_mode):
        raise VrcodecError(f"{inner} is a link, and nothing is written through it")
    return Folder(inner, None if here.handle is None else here.open(part, _FOLDER))
