"""Files on disk: whole reads, and writes that either happen completely or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path

from vrcodec.errors import VrcodecError

PICTURE_SUFFIXES = {
    ".png": "png",
    ".jpg": "jpeg",
    ".jpeg": "jpeg",
    ".webp": "webp",
    ".tif": "tiff",
    ".tiff": "tiff",
    ".avif": "avif",
    ".bmp": "bmp",
    ".ppm": "ppm",
    ".pgm": "ppm",
    ".pnm": "ppm",
}
"""Formats of the pictures that can be written, by file name; a format's first suffix is its own."""

_TEMPORARY = re.compile(r"\.vrcodec-[0-9a-f]{16}\.tmp")
_NO_HARD_LINKS = {errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK}


def read_bytes(path: Path) -> bytes:
    """The contents of a file.

    Raises:
        VrcodecError: `PATH: what`, where it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise VrcodecError(f"{path}: {os_error_text(error)}") from error


def check_target(path: Path, overwrite: bool = False) -> None:
    """Raise the error that writing this file would end in, as far as it can be known before.

    Raises:
        VrcodecError: `PATH: what`, one line.
    """
    with _one_line(path):
        _replaceable(path, overwrite)
        if not path.parent.is_dir():
            raise FileNotFoundError


def write_atomically(
    path: Path, data: bytes, overwrite: bool = False, like: os.stat_result | None = None
) -> None:
    """Write a file so that nobody ever sees a part of it, and nothing is left on failure.

    The data go to a temporary file in the same folder, to the disk, and then get their name. A
    new file has the permissions that the umask grants, a replaced one those it had. A symbolic
    link stays one; a device or pipe is written to directly.

    Args:
        path: the target.
        overwrite: replace an existing file.
        like: take permissions and times from here; a device or pipe keeps its own.

    Raises:
        VrcodecError: `PATH: what`, one line. The target is as it was before.
    """
    with _one_line(path):
        mode = _replaceable(path, overwrite)
        if mode is None or stat.S_ISREG(mode):
            _write_regular(Path(os.path.realpath(path)), data, overwrite, mode, like)
        else:
            path.write_bytes(data)


def remove_temporaries(folder: Path) -> int:
    """Remove what killed processes left of `write_atomically` anywhere below a folder.

    Returns:
        How many files that were. None of a process still at work may be there.
    """
    removed = 0
    for place, _, names in os.walk(folder):
        for name in filter(_TEMPORARY.fullmatch, names):
            with contextlib.suppress(OSError):
                os.unlink(os.path.join(place, name))
                removed += 1
    return removed


def os_error_text(error: OSError) -> str:
    """What went wrong with a file, in a few words without its name."""
    return (error.strerror or str(error) or type(error).__name__).lower()


@contextlib.contextmanager
def _one_line(path: Path) -> Iterator[None]:
    try:
        yield
    except FileExistsError:
        raise VrcodecError(f"{path}: exists (use --overwrite to replace it)") from None
    except FileNotFoundError:
        raise VrcodecError(f"{path}: no such folder") from None
    except OSError as error:
        raise VrcodecError(f"{path}: {os_error_text(error)}") from error


def _replaceable(path: Path, overwrite: bool) -> int | None:
    """The file mode of what is there now, None for nothing; an OSError if it has to stay."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if stat.S_ISREG(mode) and not overwrite:
        raise FileExistsError
    if not os.access(path, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    return mode


def _write_regular(
    target: Path, data: bytes, overwrite: bool, mode: int | None, like: os.stat_result | None
) -> None:
    if like is not None:
        mode = like.st_mode
    temporary = target.with_name(f".vrcodec-{secrets.token_hex(8)}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            if mode is not None:
                os.chmod(temporary, mode & 0o777)
            file.flush()
            if like is not None:
                os.utime(temporary, ns=(like.st_atime_ns, like.st_mtime_ns))
            os.fsync(file.fileno())
        if overwrite:
            os.replace(temporary, target)
        else:
            _name(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def _name(temporary: Path, target: Path) -> None:
    """Give a file its name unless the name is taken."""
    try:
        os.link(temporary, target)
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        target.touch(exist_ok=False)
        try:
            os.replace(temporary, target)
        except BaseException:
            target.unlink()
            raise
