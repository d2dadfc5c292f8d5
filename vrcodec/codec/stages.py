"""The stages of coding, marked where they happen, for whoever wants to time them.

The codec says what it is at, ``with stage(ANALYSIS): ...``; that does nothing unless somebody
listens::

    seconds = collections.Counter()
    with listening(lambda name, elapsed: seconds.update({name: elapsed})):
        codec.encode(picture)

A stage's time is its own, without that of stages inside it, so that the times add up.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar

READ = "read"
ANALYSIS = "analysis"
HYPER = "hyper"
SCALE_PATH = "scale path"
CONTEXT = "context"
REFINEMENT = "refinement"
ENTROPY_CODING = "entropy coding"
SYNTHESIS = "synthesis"
WRITE = "write"

ENCODE_STAGES = (READ, ANALYSIS, HYPER, CONTEXT, SCALE_PATH, ENTROPY_CODING, WRITE)
"""What every encoding passes through, in this order; with an effort there is REFINEMENT too."""
DECODE_STAGES = (READ, ENTROPY_CODING, SCALE_PATH, CONTEXT, SYNTHESIS, WRITE)
"""What every decoding passes through."""


@dataclasses.dataclass
class _Listener:
    heard: Callable[[str, float], None]
    clock: Callable[[], float]
    inner: list[float]


_listener: ContextVar[_Listener | None] = ContextVar("listener", default=None)


@contextlib.contextmanager
def stage(name: str) -> Iterator[None]:
    """Mark what is done inside as a stage of coding; ends also by an exception."""
    listener = _listener.get()
    if listener is None:
        yield
        return
    listener.inner.append(0.0)
    start = listener.clock()
    try:
        yield
    finally:
        whole = listener.clock() - start
        own = whole - listener.inner.pop()
        if listener.inner:
            listener.inner[-1] += whole
        listener.heard(name, own)


@contextlib.contextmanager
def listening(
    heard: Callable[[str, float], None], clock: Callable[[], float] = time.perf_counter
) -> Iterator[None]:
    """Hear of every stage that comes to its end inside, in this thread.

    Args:
        heard: called with the stage's name and its own seconds.
        clock: gives seconds; one for a GPU waits for the device first.
    """
    token = _listener.set(_Listener(heard, clock, []))
    try:
        yield
    finally:
        _listener.reset(token)
