"""Codecs that a process makes once and keeps, for functions that are not handed one."""

from __future__ import annotations

import functools
import os
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from vrcodec.codec.codec import Codec

KEPT = 4
"""Models that are kept for the next call."""


def shared_codec(
    weights: str | os.PathLike[str] | None = None,
    device: str = "auto",
    threads: int | None = None,
    runtime: str = "auto",
    precision: str = "auto",
    max_pixels: int | None = None,
) -> Codec:
    """A codec, made if there is none like it yet, whatever thread asks.

    Args:
        weights, device, threads, runtime, precision, max_pixels: as for `Codec`; those that
            differ in `max_pixels` alone share one model.

    Raises:
        WeightsError, VrcodecError: as `Codec`.
    """
    from vrcodec.codec.codec import check_arguments
    from vrcodec.model.weights_file import chosen_weights

    check_arguments(device, threads, runtime, precision)
    path = chosen_weights(weights)
    with _loading.lock:
        codec = _made(path, device, threads, runtime, precision)
    return codec if max_pixels is None else codec.limited(max_pixels)


class _Loading:
    """One thread at a time loads a model; a forked child begins anew."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._begin_anew)

    def _begin_anew(self) -> None:
        self.lock = threading.Lock()


_loading = _Loading()


@functools.lru_cache(KEPT)
def _made(weights: Path, device: str, threads: int | None, runtime: str, precision: str) -> Codec:
    from vrcodec.codec.codec import Codec

    return Codec(weights, device, threads=threads, runtime=runtime, precision=precision)
