"""Running networks inside somebody else's process: nothing of his reaches us, nor ours him.

His autocast, gradient mode, default device and float32 precision end at `isolated`, and what is
set there for us is as before afterwards. In a forked child, where the threads of OpenMP that the
parent had are gone and would be waited for without end, there is one thread.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import torch

from vrcodec.errors import VrcodecError

THREAD_PIXELS = 1 << 17
"""Pixels that make one more thread worth its while."""
_PRIMITIVES = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"
CACHED_PRIMITIVES = 192
"""Prepared operations that oneDNN keeps: those of some three sizes of pictures.

Of its usual 1024 each holds up to a megabyte, so that a process that sees many sizes grows by
hundreds.
"""


class _Process:
    """What is of the whole process: whether it is a forked child, and who is at work in it."""

    def __init__(self) -> None:
        self.forked = False
        self.reset()

    def reset(self) -> None:
        self.lock = threading.Lock()
        self.inside = 0
        self.precisions: list[str] = []

    def after_fork(self) -> None:
        self.forked = True
        self.reset()


_process = _Process()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_process.after_fork)


def is_forked() -> bool:
    """Whether this process is the child of one that may have run networks."""
    return _process.forked


def suitable_threads(pixels: int, wanted: int | None = None) -> int:
    """With how many threads to compute.

    Args:
        pixels: that pass through the networks together.
        wanted: what the user said; by default as many as pay, at most those that torch would use.
    """
    if _process.forked:
        return 1
    return wanted or min(torch.get_num_threads(), max(1, pixels // THREAD_PIXELS))


@contextlib.contextmanager
def isolated(device: torch.device, threads: int | None = None) -> Iterator[None]:
    """Compute as if the process were ours alone: plain float32, no gradients, so many threads.

    Args:
        threads: as many as torch would use, by default; one in a forked child.

    Raises:
        VrcodecError: the device is a GPU that a forked child cannot use.
    """
    if _process.forked and device.type != "cpu":
        raise VrcodecError(
            f"{device} cannot be used in a forked process: start workers by spawn or forkserver"
        )
    threads = 1 if _process.forked else threads
    with contextlib.ExitStack() as stack:
        if threads:
            stack.callback(torch.set_num_threads, torch.get_num_threads())
            torch.set_num_threads(threads)
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.no_grad())
        stack.enter_context(torch.autocast(device.type, enabled=False))
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        stack.enter_context(_plain_float32())
        yield


@contextlib.contextmanager
def _plain_float32() -> Iterator[None]:
    """Products of float32 as such, without TF32 or bfloat16, until the last thread leaves."""
    with _process.lock:
        if not _process.inside:
            _process.precisions = [owner.fp32_precision for owner in _owners()]
            _set_precisions(["ieee"] * len(_process.precisions))
        _process.inside += 1
    try:
        yield
    finally:
        with _process.lock:
            _process.inside -= 1
            if not _process.inside:
                _set_precisions(_process.precisions)


def _set_precisions(values: list[str]) -> None:
    for owner, value in zip(_owners(), values, strict=True):
        if owner.fp32_precision != value:
            owner.fp32_precision = value


class _Legacy:
    """The precision of torch before 2.9, in the words of later ones."""

    @property
    def fp32_precision(self) -> str:
        tf32 = torch.backends.cudnn.allow_tf32
        return f"{torch.get_float32_matmul_precision()} {tf32}"

    @fp32_precision.setter
    def fp32_precision(self, value: str) -> None:
        matmul, _, tf32 = ("highest False" if value == "ieee" else value).partition(" ")
        torch.set_float32_matmul_precision(matmul)
        torch.backends.cudnn.allow_tf32 = tf32 == "True"


def _owners() -> list[Any]:
    """What has a precision of float32 to set."""
    backends: Any = torch.backends
    if not hasattr(backends.cudnn, "conv"):
        return [_Legacy()]
    return [backends.mkldnn.matmul, backends.mkldnn.conv, backends.cuda.matmul, backends.cudnn.conv]


class Tidying:
    """Gives memory back that pictures of many sizes leave in pieces too small for the next one.

    Where the allocator is the GNU C library's; others do so by themselves.
    """

    EVERY = 8
    """Changes of size after which it is done: it takes some milliseconds."""

    def __init__(self) -> None:
        self._last: tuple[int, ...] = ()
        self._changes = 0

    def after(self, shape: tuple[int, ...]) -> None:
        """Take note that pictures of a shape have been computed."""
        if shape == self._last:
            return
        self._last, self._changes = shape, self._changes + 1
        if self._changes >= self.EVERY:
            self._changes = 0
            trim = _malloc_trim()
            if trim:
                trim(0)


@functools.cache
def _malloc_trim() -> Callable[[int], int] | None:
    try:
        return ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        return None


def bound_primitive_cache() -> None:
    """Have oneDNN keep few prepared operations, where nobody else has said or used it before."""
    if _PRIMITIVES in os.environ:
        return
    os.environ[_PRIMITIVES] = str(CACHED_PRIMITIVES)
    try:  # it reads that once, at its first operation
        with isolated(torch.device("cpu"), 1):
            x = torch.ones(1, 16, 64, 64, dtype=torch.float32, device="cpu")
            torch.nn.functional.conv2d(x, x.new_ones(16, 16, 3, 3))
    finally:
        del os.environ[_PRIMITIVES]
