"""ONNX Runtime as a guest in somebody's process: silent, without telemetry, safe to fork."""

from __future__ import annotations

import ctypes
import os
import weakref
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

THREAD_PIXELS = 1 << 17
"""Pixels that make more than one thread worth their while."""
LAYOUT_PIXELS = 1 << 19
"""Up to so many pixels the memory of a run is laid out beforehand, in one piece.

That saves a little. A larger piece is mapped anew by the allocator for every run, and to touch all
its pages takes longer than what was saved: a fifth of the time to code a picture of a megapixel.
"""
_FATAL = 4
"""Of the library's log, which goes to the standard error; what fails is raised as well."""
_TELEMETRY = "ORT_DISABLE_TELEMETRY"


def _imported() -> ModuleType:
    """ONNX Runtime, which from 1.29 on would report its use to its makers.

    The thread that does so would keep forked children from ending, too. Whoever has imported it
    before has decided himself.
    """
    decided = _TELEMETRY in os.environ
    os.environ.setdefault(_TELEMETRY, "1")
    try:
        import onnxruntime
    finally:
        if not decided:
            del os.environ[_TELEMETRY]
    return onnxruntime


onnxruntime = _imported()
VERSION: str = onnxruntime.__version__
_IMPORTED_IN = os.getpid()
_living: weakref.WeakSet[Any] = weakref.WeakSet()


def _never_end_inherited() -> None:
    """Keep sessions of the parent for ever: their end would wait for threads that are not here."""
    for session in _living:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(session))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_never_end_inherited)


class Session:
    """A graph that is ready to run, from any thread.

    Args:
        model: an ONNX file.
        threads: how many compute; those that have nothing to do sleep.
        layout: see `LAYOUT_PIXELS`.
    """

    def __init__(self, model: bytes, threads: int, layout: bool = False) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.enable_mem_pattern = layout
        options.enable_cpu_mem_arena = False  # would keep the most that any size has needed
        options.log_severity_level = _FATAL
        self._session = onnxruntime.InferenceSession(
            model, options, providers=["CPUExecutionProvider"]
        )
        _living.add(self._session)

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """The outputs, in their order.

        Raises:
            MemoryError: there is not enough memory.
        """
        try:
            results = self._session.run(None, inputs)
        except Exception as error:
            if "allocate memory" in str(error) or "bad_alloc" in str(error):
                raise MemoryError(str(error)) from error
            raise
        return [np.asarray(result) for result in results]


def suitable_threads(pixels: int, wanted: int | None = None) -> int:
    """With how many threads to compute so many pixels: one or all; one in a forked child."""
    if os.getpid() != _IMPORTED_IN:
        return 1
    if wanted:
        return wanted
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return (cores or 1) if pixels > THREAD_PIXELS else 1
