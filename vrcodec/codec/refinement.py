"""More encoder time for fewer bits: the latents of one picture, refined for this picture.

The analysis transform guesses latents at once for every picture; the best ones for *this* picture
are found by optimisation through the decoder's own networks (as in Yang, Bamler & Mandt,
"Improving Inference for Neural Image Compression", NeurIPS 2020). What is minimised is

    J = bits under the coder's tables + price x error of the decoded picture

over the symbols of y; z stays. The error is the distortion that the dials stand for: squared
error, or with a second dial its mix with a perceptual one. Symbols are integers, so every step is
one of projected gradient descent with a straight-through gradient:

1. the context passes quantise the present targets, each symbol to the one of its two neighbours
   that is cheaper in bits + price x error (rate-distortion optimised quantisation), so that
   means always follow what was decided before them;
2. the gradient of the error with respect to the quantised latents, through the real synthesis,
   moves the targets by a share of a diagonal Newton step (`Descent`), further where the weights'
   local steps are coarse; they leak back towards what they were quantised to, which damps the
   strongly coupled directions.

The first state is that of no effort, its dead zone included. The best state met is returned. Its
quantised latents are themselves the result: quantising them again, the ordinary way, gives its
symbols, so that files stay ordinary and nothing here has to be exact.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vrcodec.bitstream.tables import TableSet
from vrcodec.codec.networks import At, Search
from vrcodec.codec.stages import REFINEMENT, stage
from vrcodec.conditional.film import Condition
from vrcodec.model.linear_basis import PIXEL_GAIN
from vrcodec.model.network import CompressionModel, SymbolsAt, drawn, searched
from vrcodec.model.trellis_search import Prices, TrellisSearch
from vrcodec.model.xyb import XYB_UNIT, originals, xyb_error

STEPS = (0, 2, 4, 7, 10, 14, 20, 30, 40, 60)
"""Gradient steps of every effort."""
PERCEPTUAL_STEPS = (0, 1, 2, 4, 7, 10, 14, 14, 14, 14)
"""The same where part of the error is perceptual, each of which takes longer and gains more. More
than 14 lower the error further, but SSIMULACRA2 as well."""
ERROR_SIDE = 192
"""Perceptual errors are those of pieces of at most so many pixels a side, about as in training."""


@dataclasses.dataclass(frozen=True)
class Descent:
    """How targets move, and how much an error counts when symbols are decided.

    Attributes:
        first, last: share of a Newton step that targets move by, at first and at last.
        leak: share of their distance to the quantised latents that they lose in every step.
        caution: what the second derivative of the error is multiplied by for decisions.
    """

    first: float
    last: float
    leak: float
    caution: float

    @classmethod
    def of(cls, share: float) -> Descent:
        """For distortions with a share of a perceptual error: geometrically between the two."""
        ends = zip(dataclasses.astuple(SQUARED), dataclasses.astuple(PERCEPTUAL), strict=True)
        return cls(*(squared * (perceptual / squared) ** share for squared, perceptual in ends))

    def rate(self, progress: float) -> float:
        """The share of a Newton step, from 0 to 1."""
        return self.first * (self.last / self.first) ** progress


SQUARED = Descent(first=0.3, last=0.05, leak=0.1, caution=1)
PERCEPTUAL = Descent(first=0.03, last=0.01, leak=0.05, caution=1.5)
"""Of a perceptual error, whose second derivative is not what is assumed. Found by trying."""


@dataclasses.dataclass(frozen=True)
class Refined:
    """A `networks.Window` on a device.

    Attributes:
        pixels: (1, 3, H, W) in [0, 1], what y stands for; beyond the picture's end left out.
        y: (1, 768, h, w) in deviations, from the analysis.
        z: integers (1, hyper, ...).
        at: the rows and columns where y lies on four times z's grid.
        numbers: (1, 768, h, w) int64, the table of every symbol.
        free: (h, w), where latents may change.
        zone: (1, 768, h, w), by how much an encoder draws symbols towards zero; None: by nothing.
        coded: (768, 1, 1), which channels may be anything but zero; None: all.
    """

    pixels: Tensor
    y: Tensor
    z: Tensor
    at: At
    numbers: Tensor
    free: Tensor
    zone: Tensor | None = None
    coded: Tensor | None = None


class SymbolCosts:
    """Bits of symbols under the coder's tables, as a look-up on a device."""

    def __init__(self, tables: TableSet, device: torch.device) -> None:
        ends = tables.low.astype(np.int64) + tables.size
        self.reach = int(max(ends.max(), -int(tables.low.min()))) + 1
        values = np.arange(-self.reach, self.reach + 1)
        each = tables.each_bits(
            np.tile(values, len(tables)), np.repeat(np.arange(len(tables)), len(values))
        )
        self.bits = torch.from_numpy(each.astype(np.float32)).to(device)

    def __call__(self, symbols: Tensor, indexes: Tensor) -> Tensor:
        """Bits of every symbol, float or integer; beyond the last table's end those there."""
        column = symbols.nan_to_num().clamp(-self.reach, self.reach).long() + self.reach
        return self.bits[indexes * (2 * self.reach + 1) + column]


class Quantiser(Protocol):
    """What turns targets into symbols, `level_step` quantisation steps apart."""

    @property
    def level_step(self) -> float: ...

    def decide(self, targets: Tensor, first: bool) -> SymbolsAt:
        """What gives the symbols of targets (1, 768, h, w); at first as without any effort."""

    def bits(self, symbols: Tensor) -> Tensor:
        """What symbols (1, 768, h, w) cost together."""

    def result(self, y_hat: Tensor) -> Tensor:
        """Latents that are quantised to what the best y_hat stands for."""


@dataclasses.dataclass(frozen=True)
class PlainSymbols:
    """Symbols one by one: the cheaper of two neighbours."""

    costs: SymbolCosts
    part: Refined
    curvature: Tensor
    level_step: float = 1.0

    def decide(self, targets: Tensor, first: bool) -> SymbolsAt:
        part = self.part

        def decided(_: int, mean: Tensor, channels: slice, size: Tensor) -> Tensor:
            symbols = chosen((targets[:, channels] - mean) / size, channels)
            return symbols if part.coded is None else symbols * part.coded[channels]

        def chosen(exact: Tensor, channels: slice) -> Tensor:
            nearest = torch.round(exact)
            if first:
                return torch.where(part.free, drawn(exact, part.zone, channels).round(), nearest)
            low, tables = torch.floor(exact), part.numbers[:, channels]
            half = self.curvature[:, channels] / 2
            low_cost = self.costs(low, tables) + half * (exact - low).square()
            high_cost = self.costs(low + 1, tables) + half * (low + 1 - exact).square()
            return torch.where(part.free, low + (high_cost < low_cost), nearest)

        return decided

    def bits(self, symbols: Tensor) -> Tensor:
        return self.costs(symbols, self.part.numbers).sum()

    def result(self, y_hat: Tensor) -> Tensor:
        return torch.where(self.part.free, y_hat, self.part.y)


@dataclasses.dataclass(frozen=True)
class ChainedSymbols:
    """Symbols in the chains of a trellis.

    Attributes:
        search: as without any effort.
        prices: what is weighed with it, the errors being those of the decoded picture.
        symbols_of: what levels (768, h, w) are coded as, and the numbers of their tables.
    """

    search: TrellisSearch
    prices: Prices
    symbols_of: Callable[[NDArray[np.int32]], tuple[NDArray[np.int32], NDArray[np.uint8]]]
    costs: SymbolCosts

    @property
    def level_step(self) -> float:
        return self.search.trellis.step

    def decide(self, targets: Tensor, first: bool) -> SymbolsAt:
        return searched(self.search, targets, None if first else self.prices)

    def bits(self, symbols: Tensor) -> Tensor:
        coded, numbers = self.symbols_of(symbols[0].int().cpu().numpy())
        device = symbols.device
        given = torch.from_numpy(coded).to(device), torch.from_numpy(numbers).to(device)
        return self.costs(given[0].float(), given[1].long()).sum()

    def result(self, y_hat: Tensor) -> Tensor:
        return y_hat


def refine(
    model: CompressionModel,
    made: Callable[[Tensor], Quantiser],
    part: Refined,
    condition: Condition,
    search: Search,
    dtype: torch.dtype,
) -> Tensor:
    """Latents (1, 768, h, w) to be quantised instead of `part.y`, for a lower J.

    Args:
        made: gives what decides on symbols, of the second derivative of price x error by latents
            in quantisation steps, (1, 768, 1, 1).
        dtype: what gradients are computed in; symbols come from float32 means all the same.
    """
    price, steps_at = search.price, condition.step
    steps = (PERCEPTUAL_STEPS if search.share else STEPS)[search.effort]
    descent = Descent.of(search.share)
    # The second derivative of price x error, were the synthesis its DCT alone.
    deviation = model.basis.deviation16[:, None, None]
    curvature = 2 * price * (255 / PIXEL_GAIN * steps_at * deviation).square()
    quantiser = made(curvature * descent.caution)
    with torch.no_grad():
        features = model.features(part.z, condition, part.at)
        local = model.steps(features, condition)
        sizes = local * quantiser.level_step
        summed_error = SummedError(part.pixels, search.share)
    targets, best, lowest = part.y, part.y, float("inf")
    for number in range(steps + 1):
        decide = quantiser.decide(targets, first=number == 0)
        with stage(REFINEMENT), torch.no_grad():
            y_hat, _, symbols = model.passes(features, condition, sizes, decide)
            bits = quantiser.bits(symbols)
        with torch.enable_grad():
            y_hat.requires_grad_()
            x_hat = _decoded(model, part.pixels, y_hat, condition, dtype)
            cost = price * summed_error(x_hat)
        total = float(bits + cost.detach())
        if total < lowest:
            lowest, best = total, y_hat.detach()
        if number == steps:
            break
        (gradient,) = torch.autograd.grad(cost, y_hat)
        y_hat = y_hat.detach()
        newton = gradient * local.square() / curvature
        moved = targets - descent.rate(number / steps) * newton
        moved = moved + descent.leak * (y_hat - targets)
        targets = torch.where(part.free, moved, part.y)
    return quantiser.result(best)


def _decoded(
    model: CompressionModel, pixels: Tensor, y_hat: Tensor, condition: Condition, dtype: torch.dtype
) -> Tensor:
    """The picture that latents decode to, float32, of the size of `pixels`."""
    height, width = pixels.shape[-2:]
    with torch.autocast(y_hat.device.type, torch.bfloat16, enabled=dtype == torch.bfloat16):
        x_hat = model.synthesis(y_hat, condition, model.basis)
    return x_hat[..., :height, :width].float()


class SummedError:
    """Error of pictures that are to be x, in squared 8-bit levels, summed over samples.

    Args:
        x: (1, 3, H, W) in [0, 1].
        share: of the error of `xyb_error` in it, the rest is squared error.
    """

    def __init__(self, x: Tensor, share: float) -> None:
        self.x, self.share = x, share
        self.originals = [originals(piece) for piece in pieces(x)] if share else []

    def __call__(self, x_hat: Tensor) -> Tensor:
        squared = (255 * (x_hat - self.x)).square().sum()
        if not self.share:
            return squared
        perceptual = torch.zeros_like(squared)
        for of_hat, of_x in zip(pieces(x_hat), self.originals, strict=True):
            perceptual = perceptual + of_hat.numel() * XYB_UNIT * xyb_error(of_hat, of_x).sum()
        return torch.lerp(squared, perceptual, self.share)


def pieces(x: Tensor) -> Iterator[Tensor]:
    """Pieces of nearly equal sizes, row by row."""
    rows, columns = (-(-side // ERROR_SIDE) for side in x.shape[-2:])
    for row in x.tensor_split(rows, dim=-2):
        yield from row.tensor_split(columns, dim=-1)
