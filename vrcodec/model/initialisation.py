"""Setting a fresh model up as a working adaptive transform codec, from sample pictures.

Training compute is scarce, so nothing is left to be discovered that can be measured:

* the standard deviation of every transform coefficient;
* quantisation steps at the high-rate optimum of R + lambda D;
* a hyperprior that works: z holds the mean log-magnitude of groups of neighbouring
  frequencies over 4x4 latent positions, the scale path spreads it out again, and biases at
  every anchor of the dial make the predicted scales right on average;
* the mean and spread of z itself.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vrcodec.bitstream.grid import LATENT_CHANNELS
from vrcodec.conditional.dials import ANCHORS
from vrcodec.model.linear_basis import PIXEL_GAIN
from vrcodec.model.network import CompressionModel

HYPER_UNITS = 4.0
"""Units of z per unit of log-magnitude: rounding z costs an eighth of a neper at most."""


@torch.no_grad()
def initialise(model: CompressionModel, pictures: Tensor) -> None:
    """Initialise a freshly constructed model.

    Args:
        pictures: (B, 3, h, w) in [0, 1], sides multiples of 64.
    """
    model.basis.measure(pictures)
    log_steps = []
    for lam in (model.config.dials.dials[0].low, model.config.dials.dials[0].high):
        # d(bits)/d(D) = -lambda with three values per pixel and D = step^2 / 12.
        step = math.sqrt(12 * 1.5 / math.log(2) / lam) * PIXEL_GAIN / 255
        log_steps.append(math.log(step) - model.basis.deviation16.log())
    model.log_step.initialise(*log_steps)
    _initialise_hyperprior(
        model, frequency_groups(min(model.config.hyper, model.config.hyper_width))
    )
    _measure_hyperprior(model, pictures)


def frequency_groups(count: int) -> Tensor:
    """(768,) group of every latent channel: single low frequencies, ever wider bands above."""
    edges: list[int] = []
    ratio = LATENT_CHANNELS ** (1 / count)
    position = 0.0
    for remaining in range(count, 0, -1):
        edges.append(round(position))
        ratio = (LATENT_CHANNELS / max(position, 1)) ** (1 / remaining)
        position = max(position + 1, position * ratio)
    boundaries = torch.tensor(edges[1:])
    return torch.bucketize(torch.arange(LATENT_CHANNELS), boundaries, right=True)


def _initialise_hyperprior(model: CompressionModel, group: Tensor) -> None:
    analysis, scales = model.hyper_analysis, model.scale_path
    groups = int(group.max()) + 1
    member = torch.nn.functional.one_hot(group, groups).T.float()
    average = member / member.sum(dim=1, keepdim=True)
    eye = torch.arange(groups)
    convs = [conv for conv, _ in scales.layers()]
    layers = [analysis.squeeze, analysis.down1, analysis.mix, analysis.down2, *convs]
    for name, parameter in torch.nn.ModuleList(layers).named_parameters():
        if name.endswith(".weight") and "film" not in name:
            parameter.mul_(0.1)
            parameter[:groups] = 0
        elif name.endswith(".bias"):
            parameter.zero_()
    analysis.squeeze.weight[:groups, model.config.core :, 0, 0] = average
    analysis.mix.weight[eye, eye, 0, 0] = 1
    analysis.down1.weight[eye, eye] = 1 / 9
    analysis.down2.weight[eye, eye] = HYPER_UNITS / 9
    first, second, third, fourth, last = convs
    for conv, gain in ((first, 1 / HYPER_UNITS), (third, 1.0)):
        conv.weight[: 4 * groups] = 0
        for phase in range(4):
            conv.weight[4 * eye + phase, eye, 0, 0] = gain
    for conv in (second, fourth):
        conv.weight[eye, eye, 1, 1] = 1
    last.weight[:, :groups, 0, 0] = member.T
    for _, bias in scales.layers()[:-1]:
        bias.values[0] = 0.05  # alive where z_hat is zero


def _measure_hyperprior(model: CompressionModel, pictures: Tensor) -> None:
    _, final = model.scale_path.layers()[-1]
    start = torch.zeros(1, model.config.coefficients)
    # The same all over the dial, as long as the blocks add nothing.
    y = model.analysis(pictures, model.condition(start), model.basis)
    for anchor in range(ANCHORS):
        conditioning = torch.zeros(1, model.config.coefficients)
        conditioning[0, 0] = anchor / (ANCHORS - 1)
        condition = model.condition(conditioning)
        z = model.hyper_analysis(y, condition)
        symbols = (y / condition.step).abs()
        spread = model.log_sigma(torch.round(z), conditioning)[..., : y.shape[2], : y.shape[3]]
        # E|x| = 0.76 standard deviations for a logistic density.
        ratio = (symbols * torch.exp(-spread)).mean(dim=(0, 2, 3)).clamp_min(1e-4)
        final.values[0, anchor] += torch.log(ratio / 0.76)
        model.hyper_prior.mean.values[0, anchor] = z.mean(dim=(0, 2, 3))
        deviation = z.std(dim=(0, 2, 3)).clamp_min(0.3)
        model.hyper_prior.log_scale.values[0, anchor] = deviation.log()
