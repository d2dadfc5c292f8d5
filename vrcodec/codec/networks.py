"""What a codec needs of its networks, whatever computes them: NumPy arrays in and out. No torch.

::

    pixels --analysis--> y --hyper--> z
    y, z, indexes --quantise--> levels          (means from z and the context passes)
    z, levels --dequantise--> y_hat --synthesis--> pixels
    z --scale_features, scale_indexes--> the scale index of every symbol      (integers)

All but the scale path is float32, and may differ in the last bits from one implementation to
another: files then differ, and decode everywhere. Arrays of y, levels and y_hat are
(B, 768, h, w), latents in standard deviations; those of z (B, hyper, ...). Levels are the symbols
themselves unless the weights have a trellis. A pair of slices `at` says where a window of y lies
on four times the grid of its z.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vrcodec.bitstream.trellis import Part
from vrcodec.conditional.dials import Conditioning

At = tuple[slice, slice]


@dataclasses.dataclass(frozen=True)
class Window:
    """A part of a picture as it is refined.

    Attributes:
        pixels: uint8 (H, W, 3), what y stands for; beyond the picture's end left out.
        y: (1, 768, h, w) in deviations, from the analysis.
        z: integers (1, hyper, ...).
        at: the rows and columns where y lies on four times z's grid.
        free: bool (h, w), where latents may change.
        part: the cells of chains in the window.
        grey: nothing but zero is coded for colour.
    """

    pixels: NDArray[np.uint8]
    y: NDArray[np.float32]
    z: NDArray[np.int16]
    at: At
    free: NDArray[np.bool_]
    part: Part | None = None
    grey: bool = False


Refine = Callable[[Window], NDArray[np.float32]]
"""Gives latents to be quantised instead of `Window.y`."""


@dataclasses.dataclass(frozen=True)
class Search:
    """How latents are looked for.

    Attributes:
        effort: 1 to 9.
        price: bits that an error of 1 is worth: squared, in 8-bit levels, summed over samples.
        share: of a perceptual error in it, in the same unit (`refinement.SummedError`).
    """

    effort: int
    price: float
    share: float = 0.0


class Networks(Protocol):
    """The networks of some weights on some device."""

    @property
    def device(self) -> str:
        """Where they run, as torch calls it."""

    @property
    def runtime(self) -> str:
        """The library that computes them, with its version."""

    @property
    def batch_pixels(self) -> int:
        """Pixels of small pictures that are best computed together; 0: every picture alone."""

    @property
    def needs_full_batches(self) -> bool:
        """Whether a picture comes out otherwise, in its last bits, in other company."""

    @property
    def parameters(self) -> int:
        """How many learned numbers they have."""

    def analysis(
        self, pixels: NDArray[np.uint8], conditioning: Conditioning
    ) -> NDArray[np.float32]:
        """y of pictures (B, H, W, 3), or of windows that begin at multiples of 16."""

    def hyper(self, y: NDArray[np.float32], conditioning: Conditioning) -> NDArray[np.int16]:
        """z of y, rounded."""

    def quantise(
        self,
        y: NDArray[np.float32],
        z: NDArray[np.int16],
        conditioning: Conditioning,
        at: At,
        grey: bool,
        indexes: NDArray[np.uint8] | None = None,
        nearest: bool = False,
        part: Part | None = None,
    ) -> NDArray[np.int16]:
        """The levels of y; none but zero for colour if grey.

        Drawn towards zero by the dead zone of the weights (model/dead_zone.py), for which the
        scale indexes (B, 768, h, w) are needed; without those, the nearest ones. With a trellis
        those that the search of model/trellis_search.py finds.

        Args:
            indexes: needed where the weights have a trellis.
            nearest: look for the least error alone.
            part: the cells of chains in the window, which then begins at an even row and column
                of the picture; by default all of it is one.
        """

    def dequantise(
        self,
        symbols: NDArray[np.int16],
        z: NDArray[np.int16],
        conditioning: Conditioning,
        at: At,
    ) -> NDArray[np.float32]:
        """y_hat, what levels stand for."""

    def round_trip(
        self,
        y: NDArray[np.float32],
        z: NDArray[np.int16],
        conditioning: Conditioning,
        at: At,
        grey: bool,
        indexes: NDArray[np.uint8] | None = None,
        nearest: bool = False,
        part: Part | None = None,
    ) -> tuple[NDArray[np.int16], NDArray[np.float32]]:
        """The levels of y and what they stand for, in the time of the levels alone."""

    def synthesis(
        self, y_hat: NDArray[np.float32], conditioning: Conditioning
    ) -> NDArray[np.uint8]:
        """Pixels (B, 16 h, 16 w, 3)."""

    def small_synthesis(self, y_hat: NDArray[np.float32], reduce: int) -> NDArray[np.uint8]:
        """Pixels (B, 16 h / reduce, 16 w / reduce, 3); see model/small_synthesis.py."""

    def scale_indexes(
        self, z: NDArray[np.int16], conditioning: Conditioning, at: At
    ) -> NDArray[np.uint8]:
        """The scale index of every symbol (768, h, w) at some positions, of one picture's z."""

    def refiner(self, conditioning: Conditioning, search: Search) -> Refine:
        """What spends effort on windows.

        Raises:
            VrcodecError: these networks cannot.
        """

    def macs(self, call: Callable[[], object]) -> float:
        """Multiply-accumulates of these networks while `call` runs."""
