"""Distortions that a model may be trained on, each (x_hat, x) -> one number per picture.

All are in one unit: that of 255^2 x MSE. What a perceptual distortion is multiplied by was
measured, so that training on it alone spends about as many bits at every quality as training on
squared error does; so one range of lambda serves all, and a dial between two of them turns what
the bits are spent on, not how many there are.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from vrcodec.extras import require
from vrcodec.model.xyb import XYB_UNIT, xyb_error

TUNE_RANGE = (0.01, 100.0)
"""Loss coefficient of the dial between two distortions: the second's weight by the first's."""


class Distortion(Protocol):
    """How far reconstructions are from pictures."""

    smallest_side: int
    """Crops need at least this many pixels a side."""

    def __call__(self, x_hat: Tensor, x: Tensor) -> Tensor:
        """(B, 3, H, W) twice, float32, in [0, 1] but for x_hat's overshoots -> (B,)."""


class MSE:
    """Squared error on 0 to 255, the mean over pixels and colours."""

    smallest_side = 1

    def __call__(self, x_hat: Tensor, x: Tensor) -> Tensor:
        return 255.0**2 * (x_hat - x).square().mean(dim=(1, 2, 3))


class MSSSIM:
    """1 - MS-SSIM (Wang et al., 2003), in RGB."""

    smallest_side = 192
    """Five scales of an 11-pixel window need sides above 160."""
    UNIT = 1200.0
    """255^2 x MSE by 1 - MS-SSIM of a model trained on MSE: 1190, 1190, 1170, 1120 and 1010 at
    qualities 0, 0.2, 0.5, 0.8 and 1 (24 Kodak pictures)."""

    def __init__(self) -> None:
        require("pytorch_msssim")

    def __call__(self, x_hat: Tensor, x: Tensor) -> Tensor:
        from pytorch_msssim import ms_ssim

        # Its separable filters are two to three times as fast in this layout, on CPUs.
        x_hat, x = (a.contiguous(memory_format=torch.channels_last) for a in (x_hat, x))
        similarity: Tensor = ms_ssim(x_hat, x, 1.0, size_average=False)
        return self.UNIT * (1 - similarity)


class XYB:
    """The error maps of SSIMULACRA2 (`xyb.py`), which follow the eye closer than MS-SSIM does."""

    smallest_side = 64

    def __call__(self, x_hat: Tensor, x: Tensor) -> Tensor:
        return XYB_UNIT * xyb_error(x_hat, x)


class Shared:
    """The mean of several distortions in expectation: every picture is drawn one of them.

    So each takes the time of one.

    Args:
        parts: distortions, and how often each is drawn beside the others.
    """

    def __init__(self, *parts: tuple[Distortion, float]) -> None:
        self.parts, weights = zip(*parts, strict=True)
        self.weights = torch.tensor(weights, dtype=torch.float32)
        self.smallest_side = max(part.smallest_side for part in self.parts)

    def __call__(self, x_hat: Tensor, x: Tensor) -> Tensor:
        drawn = torch.multinomial(self.weights, len(x), replacement=True).to(x.device)
        errors = x_hat.new_empty(len(x))
        for number, part in enumerate(self.parts):
            (mine,) = torch.nonzero(drawn == number, as_tuple=True)
            if len(mine):
                errors = errors.index_put((mine,), part(x_hat[mine], x[mine]))
        return errors


class Mix:
    """(first + c x second) / (1 + c): for every picture a place of its own between two distortions.

    c is the loss coefficient of the dial; over TUNE_RANGE the share of the second goes from 1 % to
    99 %, and is a half in the middle. Pictures at the dial's lower end take the first alone, which
    spares the time of the second.
    """

    def __init__(self, first: Distortion, second: Distortion) -> None:
        self.first, self.second = first, second
        self.smallest_side = max(first.smallest_side, second.smallest_side)

    def __call__(self, x_hat: Tensor, x: Tensor, coefficient: Tensor) -> Tensor:
        share = coefficient / (1 + coefficient)
        error = self.first(x_hat, x)
        (mixed,) = torch.nonzero(coefficient > TUNE_RANGE[0] * 1.001, as_tuple=True)
        if not len(mixed):
            return error
        second = self.second(x_hat[mixed], x[mixed])
        return error.index_put((mixed,), torch.lerp(error[mixed], second, share[mixed]))


def perceptual(name: str, ms_ssim_parts: float) -> Distortion:
    """The distortion of one of options.PERCEPTUAL.

    Args:
        ms_ssim_parts: of both, to one part of XYB.
    """
    if name == "both":
        return Shared((XYB(), 1), (MSSSIM(), ms_ssim_parts))
    return distortion(name)


def distortion(name: str) -> Distortion:
    """The distortion called `name`: mse, ms-ssim or xyb."""
    makers: dict[str, type[MSE] | type[MSSSIM] | type[XYB]]
    makers = {"mse": MSE, "ms-ssim": MSSSIM, "xyb": XYB}
    return makers[name]()
