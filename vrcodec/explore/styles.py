"""The released styles of `vrcodec stylize`, to try on the open pictures. They need PyTorch."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vrcodec import extras
from vrcodec.explore.shelf import UnknownError

if TYPE_CHECKING:
    from vrcodec.stylize.stylizer import Stylizer


class Styles:
    """The styles on a device, read when they are first asked for.

    Args:
        device: as torch calls it.
    """

    def __init__(self, device: str) -> None:
        self._device = device
        self._lock = threading.Lock()
        self._stylizers: dict[str, Stylizer] | None = None

    @property
    def are_there(self) -> bool:
        """Whether they can be had, as far as one can know without importing torch."""
        return extras.is_there("torch")

    def described(self) -> dict[str, Any]:
        """For every style its dials, and whose picture it was made of.

        Raises:
            VrcodecError: PyTorch or the weights of a style are missing or broken.
        """
        return {
            name: {
                "dials": [{"name": dial.name, "default": dial.default} for dial in stylizer.dials],
                "credit": stylizer.network.config.credit,
            }
            for name, stylizer in self._ready().items()
        }

    def apply(
        self, style: str, pixels: NDArray[np.uint8], positions: Mapping[str, float]
    ) -> NDArray[np.uint8]:
        """A picture (H, W, 3) in a style, with positions on its dials.

        Raises:
            UnknownError: there is no such style.
            DialError: there is no such dial, or a position is not in [0, 1].
            VrcodecError: as `described`.
        """
        stylizers = self._ready()
        if style not in stylizers:
            raise UnknownError("there is no such style")
        return stylizers[style].apply(pixels, positions)

    def _ready(self) -> dict[str, Stylizer]:
        extras.require("torch")
        from vrcodec.model.loading import select_device
        from vrcodec.stylize.stylizer import Stylizer
        from vrcodec.stylize.weights import find, load_style, names

        with self._lock:
            if self._stylizers is None:
                device = select_device(self._device)
                self._stylizers = {
                    name: Stylizer(load_style(find(name)), device) for name in names()
                }
            return self._stylizers
