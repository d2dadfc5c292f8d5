"""The codec's objective: R + lambda D, for every picture with coefficients of its own (YOTO)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vrcodec.conditional.dials import QUALITY, TUNE, Dial, Dials
from vrcodec.errors import VrcodecError
from vrcodec.model.config import ModelConfig
from vrcodec.model.initialisation import initialise
from vrcodec.model.network import CompressionModel, ForwardOutput
from vrcodec.model.precision import fastest_dtype
from vrcodec.training.data import Augmentation, CropSampler, PictureStore
from vrcodec.training.export import Finished, finish
from vrcodec.training.losses import MSE, Distortion, Mix, distortion, perceptual
from vrcodec.training.objective import Batch
from vrcodec.training.options import TrainingOptions
from vrcodec.training.scales import settle_scales
from vrcodec.training.schedule import sample_positions
from vrcodec.training.validation import estimated_curve

MakeModel = Callable[[ModelConfig], CompressionModel]
"""What makes a network of a shape: `CompressionModel`, or that with other parts."""
LOSS_LIMIT = 50.0
"""A sample's gradient is scaled down as far as its loss exceeds this (usual: 5 to 30)."""
EXPORT_SIZE = 256
EXPORTED = Augmentation(rescale=0.4, grey=0.05, noise=0.03, synthetic=0.01)
"""Crops that tables are counted on."""
SETTLE_CROPS, SETTLE_SIDE = 16, 128
"""Crops a step, and their sides, where the scale path learns alone."""


class RateDistortion:
    """Mean over the batch of (R + lambda D) / lambda^weight, each sample with its own lambda.

    R is bits per pixel. D is one of `losses`; of a model with a second dial it is a mix, in which
    every sample has its own share of the second distortion. High rates would dominate the gradient
    without the division.

    Args:
        config: shape of the model.
        store: pictures to train on.
        options: of the run.
        initial: a model to begin with, instead of one that is set up from the pictures.
        make: what makes networks.
        validation: pictures (H, W, 3) uint8 that are not trained on.

    Raises:
        VrcodecError: the model has no dial for the loss, or one too many.
    """

    figures: tuple[str, ...] = ("bpp", "psnr")

    def __init__(
        self,
        config: ModelConfig,
        store: PictureStore,
        options: TrainingOptions,
        initial: CompressionModel | None = None,
        make: MakeModel = CompressionModel,
        validation: Sequence[Any] = (),
    ) -> None:
        self.config, self.store, self.options = config, store, options
        self.initial, self.make, self.validation = initial, make, validation
        self.dials = config.dials
        self.distortion = chosen_distortion(options, self.dials)
        augmentation = Augmentation(rescale_fine=options.rescale_fine, reach=options.reach)
        self.sampler = CropSampler(store, augmentation, options.seed)
        self.rng = self.sampler.rng
        one = options.one_quality
        self.held: Mapping[str, float] = {} if one is None else {QUALITY: one}

    def fresh(self) -> CompressionModel:
        """A working transform codec, set up from crops of the pictures; or the initial model."""
        if self.initial is not None:
            return self.initial
        model = self.make(self.config)
        seed = self.options.seed + 1
        plain = CropSampler(self.store, Augmentation(grey=0, noise=0, synthetic=0), seed)
        side = self.options.patch // 64 * 64
        initialise(model, torch.cat([plain.batch(16, side).cpu() for _ in range(16)]))
        return model

    def empty(self) -> CompressionModel:
        """A model of the shape."""
        return self.make(self.config)

    def describe(self) -> str:
        """The configuration."""
        return self.config.to_json()

    def batch(self, count: int, side: int) -> Batch:
        """Crops (count, 3, side, side) in [0, 1], and positions (count, K) on the dials."""
        drawn = sample_positions(self.rng, count, self.dials, self.held)
        if drawn.shape[1] > 1:
            drawn[self.rng.random(count) < self.options.fidelity_share, 1] = 0
        crops = self.sampler.batch(count, side, drawn[:, 0])
        return crops, torch.from_numpy(drawn)

    def loss(
        self, model: Callable[..., ForwardOutput], batch: Batch
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The loss, and the means of bits per pixel and PSNR (dB)."""
        x, positions = batch
        x = x.contiguous(memory_format=torch.channels_last)
        lam, *others = self.dials.coefficients(positions.unbind(1))
        out = model(x, positions)
        with torch.autocast(x.device.type, enabled=False):
            x_hat = out.x_hat.float()
            losses = (out.bpp + lam * self.distortion(x_hat, x, *others)) / (
                lam**self.options.lambda_weight
            )
        # A sample far off (a checkerboard early on) must not drown the others of its batch.
        trust = (LOSS_LIMIT / losses.detach()).clamp_max(1.0)
        with torch.no_grad():
            mse = (x_hat - x).square().mean(dim=(1, 2, 3))
            psnr = -10 * mse.clamp_min(1e-10).log10().mean()
        return (losses * trust).mean(), {"bpp": out.bpp.detach().mean(), "psnr": psnr}

    def anneal(self, model: CompressionModel, annealing: bool) -> None:
        """While the learning rate falls, training sees the roundings of the integer scale path."""
        model.scale_path.fixed_point = annealing

    def settle(self, model: CompressionModel) -> None:
        """The last of a run: `settle_scales` on further crops."""
        side = min(SETTLE_SIDE, self._smallest_side)
        device = next(model.parameters()).device
        dtype = fastest_dtype(device, self.options.precision)

        def draw() -> Batch:
            return tuple(part.to(device) for part in self.batch(SETTLE_CROPS, side))

        weight = self.options.lambda_weight
        settle_scales(model, draw, self.options.scale_steps, weight, dtype)

    def finish(self, model: CompressionModel) -> Finished:
        """The model as it will be used: rounded, with tables counted on crops."""
        copy = self.make(self.config)
        copy.load_state_dict(model.state_dict())
        return finish(
            copy,
            CropSampler(self.store, EXPORTED, seed=0),
            self.options.export_pictures,
            min(EXPORT_SIZE, self._smallest_side),
            self.options.one_quality,
            self.make,
        )

    @property
    def _smallest_side(self) -> int:
        """The largest multiple of 64 that no side of a picture is below."""
        return min(min(shape) for shape in self.store.shapes) // 64 * 64

    def export(self, finished: Finished, path: Path) -> None:
        """Write a weights file. Raises WeightsError or VrcodecError."""
        finished.save(path)

    def validate(self, finished: Finished, progress: bool = False) -> dict[str, list[float]]:
        """Rate-distortion curve over the validation pictures, by ideal code lengths."""
        return estimated_curve(finished, self.validation, progress=progress)


def chosen_distortion(options: TrainingOptions, dials: Dials) -> Distortion | Mix:
    """The distortion that a run is to learn.

    Raises:
        VrcodecError: it does not fit the model's dials, or the sizes of the crops.
    """
    chosen: Distortion | Mix
    if options.loss == "tune":
        chosen = Mix(MSE(), perceptual(options.perceptual, options.ms_ssim_parts))
    else:
        chosen = distortion(options.loss)
    needed = 2 if options.loss == "tune" else 1
    if len(dials) != needed:
        raise VrcodecError(
            f"loss {options.loss} needs a model of {needed} dial{'s' * (needed > 1)}, "
            f"this one has {len(dials)}: {', '.join(dials.names)}"
        )
    sides = {options.crops(annealing)[1] for annealing in (False, options.decay > 0)}
    if min(sides) < chosen.smallest_side:
        raise VrcodecError(
            f"loss {options.loss} needs crops with sides of {chosen.smallest_side} or more "
            f"(patch, final-patch), not {min(sides)}"
        )
    return chosen


def with_tune(config: ModelConfig, tune_range: tuple[float, float]) -> ModelConfig:
    """The shape of a model with a second dial, of one without."""
    (quality, *_) = config.dials
    return dataclasses.replace(config, dials=Dials((quality, Dial(TUNE, *tune_range))))
