"""Pillow and libtiff as they are called here: without what they print, with the caller's limit."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import threading
import warnings
from collections.abc import Iterator
from typing import Any

from PIL import Image
from PIL import _imaging as _core

from vrcodec.errors import PictureError

_quiet_lock = threading.RLock()
logging.getLogger("PIL").addHandler(logging.NullHandler())  # or Python prints what it logs
_limit_lock = threading.RLock()


@contextlib.contextmanager
def raised_limit(max_pixels: int, pixels: int) -> Iterator[None]:
    """Let Pillow read what the caller allows and Pillow's own limit, shared by all, does not."""
    own = Image.MAX_IMAGE_PIXELS
    if own is None or pixels <= own:
        yield
        return
    with _limit_lock:
        own, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, max_pixels
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = own


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without Pillow's warnings, which are about metadata that it has not been asked for."""
    with _quiet_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextlib.contextmanager
def libtiff_heard(format: str | None) -> Iterator[None]:
    """With what libtiff prints on stderr by itself heard here, and not there.

    Most of it reaches us as exceptions anyway. Of fax data that end too soon or are damaged it only
    warns, and gives a picture that is white from there on.

    Raises:
        PictureError: it has said something about fax data.
    """
    if format != "TIFF":
        yield
        return
    with quiet():
        _heard.modules = modules = set[bytes]()
        kept = [(setter, setter(_HEAR)) for setter in _libtiff_setters()]
        try:
            yield
        finally:
            _heard.modules = set[bytes]()
            for setter, previous in kept:
                setter(previous)
    if b"Fax" in modules:
        raise PictureError("damaged TIFF: its fax data are not whole")


_heard = threading.local()


def _hear(module: bytes | None, *_: object) -> None:
    """What libtiff calls instead of printing; the thread that reads learns who has complained."""
    getattr(_heard, "modules", set[bytes]()).add((module or b"")[:3])


_HEAR = ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_void_p)(_hear)


def _libtiff_setters() -> list[Any]:
    """libtiff's setters of what is called at warnings and errors; none where it is built in."""
    try:
        library = ctypes.CDLL(_core.__file__)
        setters = [library.TIFFSetWarningHandler, library.TIFFSetErrorHandler]
    except (OSError, AttributeError, TypeError):
        return []
    for setter in setters:
        setter.argtypes, setter.restype = [ctypes.c_void_p], ctypes.c_void_p
    return setters
