"""The synthesis transform taught by latents as they are coded, while all else stays as it is.

While all networks learn, the synthesis sees latents rounded to the nearest step, for nothing else
would tell latents and steps what they cost (docs/experiments.md). Files hold other ones: drawn
towards zero, or found by a search through a trellis, which err less and otherwise. The synthesis
decides on no symbol, so it can learn from those at last: files keep their bits, pictures are
nearer.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vrcodec.conditional.dials import Conditioning
from vrcodec.errors import VrcodecError
from vrcodec.model.loading import build, model_tensors
from vrcodec.model.network import CompressionModel
from vrcodec.model.transforms import SynthesisTransform
from vrcodec.model.trellis_search import Searches, TrellisSearch
from vrcodec.model.weights_file import Weights, save_weights
from vrcodec.training.checkpoints import Checkpoint
from vrcodec.training.data import PictureStore
from vrcodec.training.objective import Batch
from vrcodec.training.options import TrainingOptions
from vrcodec.training.rate_distortion import LOSS_LIMIT, RateDistortion
from vrcodec.training.task import Task


class SynthesisTuning(Task[SynthesisTransform]):
    """Mean over the batch of lambda^(1 - weight) D: what `RateDistortion` has without its rate.

    Args:
        weights: what codes; their synthesis transform is where the run begins.
        store: pictures to train on.
        options: of the run.
        found: what the run goes on from.

    Raises:
        VrcodecError: the model has no dial for the loss, or one too many; or the run has begun
            with other weights.
    """

    figures: tuple[str, ...] = ("psnr",)

    def __init__(
        self,
        weights: Weights,
        store: PictureStore,
        options: TrainingOptions,
        found: Checkpoint[TrainingOptions] | None = None,
    ) -> None:
        self.weights, self.options = weights, options
        if found and found.config != self.describe():
            raise VrcodecError(f"{found.path}: of a run that has begun with other weights")
        network, self.fixed = build(weights)
        self.whole = RateDistortion(weights.config, store, options, network)
        self.rng = self.whole.rng
        self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        tensors = {name: value.numpy() for name, value in network.state_dict().items()}
        self.searches = Searches(weights.y_tables, weights.config, tensors)

    def fresh(self) -> SynthesisTransform:
        """The synthesis transform of the weights."""
        synthesis = self.empty()
        synthesis.load_state_dict(self.network.synthesis.state_dict())
        return synthesis

    def empty(self) -> SynthesisTransform:
        """A synthesis transform of the same shape."""
        return SynthesisTransform(self.weights.config)

    def describe(self) -> str:
        """Which weights these are."""
        return json.dumps({"weights": self.weights.id})

    def batch(self, count: int, side: int) -> Batch:
        """Crops (count, 3, side, side) in [0, 1], and positions (count, K) on the dials."""
        return self.whole.batch(count, side)

    def loss(self, model: Callable[..., Any], batch: Batch) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The loss, and the mean PSNR (dB)."""
        x, positions = batch
        dials = self.weights.config.dials
        with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
            places = [
                dials.conditioning(dict(zip(dials.names, position, strict=True)))
                for position in positions.tolist()
            ]
            y_hat = torch.cat([self.coded(x[i : i + 1], at) for i, at in enumerate(places)])
            condition = self.network.condition(positions)
        x_hat = model(y_hat, condition, self.network.basis).float()
        lam, *others = dials.coefficients(positions.unbind(1))
        with torch.autocast(x.device.type, enabled=False):
            errors = self.whole.distortion(x_hat, x, *others)
            losses = errors * lam ** (1 - self.options.lambda_weight)
        trust = (LOSS_LIMIT / losses.detach()).clamp_max(1.0)
        mse = (x_hat.detach() - x).square().mean(dim=(1, 2, 3))
        psnr = -10 * mse.clamp_min(1e-10).log10().mean()
        return (losses * trust).mean(), {"psnr": psnr}

    @torch.no_grad()
    def coded(self, x: Tensor, at: Conditioning) -> Tensor:
        """Latents (1, 768, h, w) that a decoder of pictures (1, 3, H, W) finds in their files."""
        network, condition = self.network, self.network.condition(at)
        y = network.latents(x.contiguous(memory_format=torch.channels_last), condition)
        z = network.hyper_symbols(y, condition)
        rows, columns = (slice(length) for length in y.shape[2:])
        search, log_sigma = None, None
        if self.weights.config.trellis_at(at) is None:
            log_sigma = network.log_sigma(z.float(), condition.vector)[..., rows, columns]
        else:
            search = self._search(z, at, rows, columns)
        return network.round_trip(
            y, z, condition, (rows, columns), log_sigma=log_sigma, search=search
        )[1]

    def _search(self, z: Tensor, at: Conditioning, rows: slice, columns: slice) -> TrellisSearch:
        indexes = self.fixed.indexes(z[0], at)[:, rows, columns].numpy()
        return self.searches.at(at, indexes[None])

    def export(self, finished: SynthesisTransform, path: Path) -> None:
        """Write the weights with their new synthesis transform. Raises VrcodecError."""
        network: CompressionModel = build(self.weights)[0]
        network.synthesis.load_state_dict(finished.state_dict())
        save_weights(path, self.weights.config, dict(self.weights.tensors) | model_tensors(network))
