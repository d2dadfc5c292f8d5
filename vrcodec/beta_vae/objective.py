"""Reconstruction + beta KL (Higgins et al., ICLR 2017), every sample with a beta of its own.

The first task of "You Only Train Once" (Dosovitskiy & Djolonga, ICLR 2020).
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from vrcodec.beta_vae.network import SIDE, BetaVae, Coded, Shape
from vrcodec.conditional.dials import Dial, Dials
from vrcodec.training.data import Augmentation, CropSampler, PictureStore
from vrcodec.training.objective import Batch
from vrcodec.training.schedule import sample_positions
from vrcodec.training.task import Task

BETA = "beta"
DIALS = Dials((Dial(BETA, 0.125, 512.0),))
DEVIATION = 0.1
"""Of the normal distribution of pixels around the decoder's means; pixels are in [0, 1]."""
REDUCED = Augmentation(rescale=1.0, rescale_fine=1.0, reach=3.0, grey=0.0, noise=0.0, synthetic=0.0)
"""Crops are reduced up to three times, so that 32 pixels show more than a smooth patch."""


class BetaVaeLoss(Task[BetaVae]):
    """Mean over the batch of (reconstruction + beta KL) / sqrt(beta), both in nats a picture.

    Without the division small betas, whose terms are many times larger, would have all the
    gradient. Reconstruction is the negative log likelihood without its constant.

    Args:
        store: pictures to train on.
        seed: of the crops.
        beta_position: for a twin that is trained for one beta: its position on the dial.
        shape: of the network.
    """

    figures: tuple[str, ...] = ("reconstruction", "kl")

    def __init__(
        self,
        store: PictureStore,
        seed: int = 0,
        beta_position: float | None = None,
        shape: Shape | None = None,
    ) -> None:
        self.shape = shape or Shape()
        self.sampler = CropSampler(store, REDUCED, seed)
        self.rng = self.sampler.rng
        self.held = {} if beta_position is None else {BETA: beta_position}

    def fresh(self) -> BetaVae:
        """A network at its beginning."""
        return BetaVae(self.shape)

    def describe(self) -> str:
        """The shape of the network."""
        return json.dumps(dataclasses.asdict(self.shape))

    def batch(self, count: int, side: int = SIDE) -> Batch:
        """Crops (count, 3, SIDE, SIDE) in [0, 1], and positions (count, 1) on the dial."""
        drawn = sample_positions(self.rng, count, DIALS, self.held)
        return self.sampler.batch(count, SIDE), torch.from_numpy(drawn)

    def loss(
        self, model: Callable[..., Coded], batch: Batch
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The loss, and the means of both terms."""
        x, positions = batch
        coded = model(x, positions)
        (beta,) = DIALS.coefficients(positions.unbind(1))
        error, kl = reconstruction(coded.x_hat, x), coded.kl
        loss = ((error + beta * kl) / beta.sqrt()).mean()
        return loss, {"reconstruction": error.detach().mean(), "kl": kl.detach().mean()}


def reconstruction(x_hat: Tensor, x: Tensor) -> Tensor:
    """Negative log likelihood without its constant, (B,), in nats."""
    return (x_hat - x).square().sum((1, 2, 3)) / (2 * DEVIATION**2)


def measured(network: BetaVae, crops: Tensor, position: float) -> tuple[float, float]:
    """Mean reconstruction and KL over crops (n, 3, SIDE, SIDE), one drawn code each."""
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(0)
        coded = network(crops, torch.tensor([[position]]))
        return float(reconstruction(coded.x_hat, crops).mean()), float(coded.kl.mean())
