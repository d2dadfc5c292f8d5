"""The loss of a style: content, and Gram matrices of four layers (Gatys et al., CVPR 2016)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from vrcodec.errors import VrcodecError, reason
from vrcodec.stylize.config import CONTENT, STYLE_LAYERS, StyleConfig
from vrcodec.stylize.features import Features, Maps, gram, name_of
from vrcodec.stylize.network import FOLD, StyleNet
from vrcodec.stylize.weights import save_style
from vrcodec.training.data import Augmentation, CropSampler, PictureStore
from vrcodec.training.objective import Batch
from vrcodec.training.schedule import sample_positions
from vrcodec.training.task import Task

PLAIN = Augmentation(rescale=0.5, rescale_fine=0.5, grey=0.02, noise=0.0, synthetic=0.0)
RANGE_WEIGHT = 1.0
"""Weight of what a result has beyond black and white, which no file can hold."""
SMOOTH_WEIGHT = 0.2
"""Weight of the differences between neighbouring pixels."""
PHASES = 8
"""Features of every second, fourth or eighth pixel are blind to patterns of that period in one
phase, so every batch is looked at in another."""


class StyleTransfer(Task[StyleNet]):
    """Mean over the batch of sum c_k L_k / sum c_k, every sample with its own five coefficients.

    Every term is relative: 0 where a result is as it should be in this respect, and for the style
    terms 1 where it has nothing of the style. So no term needs a unit, and one range of
    coefficients suits all.

    Args:
        config: of the style.
        style: its picture, (3, h, w) in [0, 1], of the size that its texture is wanted in.
        store: pictures to train on; None: the objective only measures.
        features: the network that terms are measured in.
        seed: of all that is drawn.
        held: dials that stay at a position, for a twin that is trained for that alone.
        initial: a network to begin with.

    Raises:
        VrcodecError: the features are not what they should be.
    """

    figures: tuple[str, ...] = (CONTENT, *STYLE_LAYERS)

    def __init__(
        self,
        config: StyleConfig,
        style: Tensor,
        store: PictureStore,
        features: Features,
        seed: int = 0,
        held: Mapping[str, float] | None = None,
        initial: StyleNet | None = None,
    ) -> None:
        self.config, self.features, self.initial = config, features, initial
        self.held = dict(held or {})
        self.sampler = CropSampler(store, PLAIN, seed)
        self.rng = self.sampler.rng
        with torch.no_grad():
            maps = checked(features, style[None])
            self.wanted = [[gram(layer) for layer in layers] for layers in maps.style]

    def fresh(self) -> StyleNet:
        """A network that changes pictures a little at random; or the initial one."""
        return self.initial or StyleNet(self.config)

    def empty(self) -> StyleNet:
        """A network of the shape."""
        return StyleNet(self.config)

    def describe(self) -> str:
        """The configuration."""
        return self.config.to_json()

    def batch(self, count: int, side: int) -> Batch:
        """Crops (count, 3, side, side) in [0, 1], and positions (count, 5) on the dials."""
        drawn = sample_positions(self.rng, count, self.config.dials, self.held)
        return self.sampler.batch(count, side // FOLD * FOLD), torch.from_numpy(drawn)

    def loss(
        self, model: Callable[..., Tensor], batch: Batch
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The loss, and the mean of every term."""
        x, positions = batch
        made = model(x.contiguous(memory_format=torch.channels_last), positions)
        top, left = self.rng.integers(PHASES, size=2).tolist()
        seen = (..., slice(top, x.shape[2] - PHASES + top), slice(left, x.shape[3] - PHASES + left))
        terms = self.terms(made[seen], x[seen])
        weights = self.config.dials.coefficients(positions.unbind(1), normalised=True)
        loss = (torch.stack(weights, 1) * terms).sum(1).mean() + flaws(made.float())
        means = terms.detach().mean(0)
        return loss, dict(zip(self.figures, means.unbind(), strict=True))

    def terms(self, made: Tensor, content: Tensor) -> Tensor:
        """The loss terms of every sample, (B, 5): pictures made of content, both (B, 3, h, w)."""
        maps = self.features(made)
        with torch.no_grad():
            source = self.features(content).content.float()
        difference = (maps.content.float() - source).square().sum((1, 2, 3))
        found = [difference / source.square().sum((1, 2, 3)).clamp_min(1e-6)]
        for layers, grams in zip(maps.style, self.wanted, strict=True):
            parts = [
                (gram(layer) - wanted).square().sum((1, 2)) / wanted.square().sum((1, 2))
                for layer, wanted in zip(layers, grams, strict=True)
            ]
            found.append(torch.stack(parts).mean(0))
        return torch.stack(found, 1)

    def export(self, finished: StyleNet, path: Path) -> None:
        """Write a style's weights file. Raises VrcodecError."""
        save_style(path, finished)


def checked(features: Features, pictures: Tensor) -> Maps:
    """What features, which may be a user's own, give for pictures. Raises VrcodecError."""
    try:
        maps = features(pictures)
        every = [maps.content, *(layer for layers in maps.style for layer in layers)]
        right = len(maps.style) == len(STYLE_LAYERS) and all(maps.style)
        right = right and all(layer.ndim == 4 for layer in every)
    except Exception as error:  # anybody's code
        raise VrcodecError(f"features {name_of(features)}: {reason(error)}") from error
    if not right:
        wanted = f"maps (B, C, h, w) of the content and of {len(STYLE_LAYERS)} layers of style"
        raise VrcodecError(f"features {name_of(features)}: not {wanted}")
    return maps


def flaws(made: Tensor) -> Tensor:
    """What is wrong with results whatever the style: beyond black and white, or pixel by pixel."""
    beyond = (made - made.clamp(0, 1)).square().mean()
    rough = made.diff(dim=2).square().mean() + made.diff(dim=3).square().mean()
    return RANGE_WEIGHT * beyond + SMOOTH_WEIGHT * rough


def measured(
    objective: StyleTransfer,
    network: StyleNet,
    pictures: Sequence[Tensor],
    positions: Mapping[str, float],
) -> dict[str, float]:
    """Mean terms over pictures (3, h, w) in [0, 1] of sides that FOLD divides, by name."""
    dials = objective.config.dials
    vector = torch.tensor([dials.conditioning(positions).positions])
    with torch.no_grad():
        rows = [objective.terms(network(x[None], vector).clamp(0, 1), x[None])[0] for x in pictures]
    means = torch.stack(rows).mean(0).tolist()
    return dict(zip(dials.names, means, strict=True))
