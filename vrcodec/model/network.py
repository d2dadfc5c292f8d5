"""The model: every part in one place, and its float forward pass."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vrcodec.bitstream.grid import BLOCK, GROUP, LATENT_CHANNELS
from vrcodec.conditional.dials import Conditioning
from vrcodec.conditional.film import Condition, ConditioningNet, StepTable, as_maps, stretched
from vrcodec.errors import ArgumentError
from vrcodec.model.config import ModelConfig
from vrcodec.model.constants import MAX_SYMBOL
from vrcodec.model.dead_zone import DEAD_ZONE_LIMIT, dead_zones, strengths
from vrcodec.model.entropy_model import (
    ContextModel,
    HyperAnalysis,
    HyperPrior,
    LocalSteps,
    MeanPath,
    ScalePath,
    round_to_bits,
    symbol_bits,
)
from vrcodec.model.linear_basis import block_basis
from vrcodec.model.transforms import (
    AnalysisTransform,
    MakeBasis,
    MakeBlock,
    ResidualBlock,
    SynthesisTransform,
    TransformBasis,
)
from vrcodec.model.trellis_search import Prices, TrellisSearch

SymbolsAt = Callable[[int, Tensor, slice, Tensor], Tensor]
"""Gives the symbols of a pass: its number, means, the channels and steps of those."""


@dataclasses.dataclass
class ForwardOutput:
    """What one forward pass gives.

    Attributes:
        x_hat: reconstruction (B, 3, H, W), not clamped.
        y_bits, z_bits: estimated bits of every element of y (B, 768, h, w) and z.
        y_hat, z_hat: the quantised latents; y_hat in standard deviations.
        symbols: round((y - mean) / step): what y is coded as, without a trellis.
        log_sigma: log of their predicted standard deviation.
    """

    x_hat: Tensor
    y_bits: Tensor
    z_bits: Tensor
    y_hat: Tensor
    z_hat: Tensor
    symbols: Tensor
    log_sigma: Tensor

    @property
    def bpp(self) -> Tensor:
        """Estimated bits per pixel of each picture, (B,)."""
        pixels = self.x_hat.shape[-2] * self.x_hat.shape[-1]
        return (self.y_bits.sum(dim=(1, 2, 3)) + self.z_bits.sum(dim=(1, 2, 3))) / pixels


class CompressionModel(nn.Module):
    """Scale hyperprior codec (Balle et al. 2018) conditioned on its loss coefficients.

    Args:
        config: widths and depths.
        block, basis: other residual blocks, another fixed basis, to compare with.
    """

    def __init__(
        self,
        config: ModelConfig,
        block: MakeBlock = ResidualBlock,
        basis: MakeBasis = block_basis,
    ) -> None:
        super().__init__()
        self.config = config
        self.basis = TransformBasis(basis)
        self.conditioning = ConditioningNet(config.coefficients, config.film_width)
        self.log_step = StepTable(config.coefficients, LATENT_CHANNELS)
        self.analysis = AnalysisTransform(config, block)
        self.synthesis = SynthesisTransform(config, block)
        self.hyper_analysis = HyperAnalysis(config)
        self.hyper_prior = HyperPrior(config)
        self.scale_path = ScalePath(config)
        self.mean_path = MeanPath(config)
        self.local_steps = LocalSteps(config) if config.local_steps else None
        self.context = ContextModel(config, block)

    def condition(self, conditioning: Tensor | Conditioning | float) -> Condition:
        """What the networks are told; needed once for all that is done at a conditioning.

        Args:
            conditioning: vectors (B or 1, K) or maps (B or 1, K, h, w) of positions in [0, 1];
                where a picture is coded; or a quality, other dials being at their defaults, as
                they are where K is 1.

        Raises:
            ArgumentError, DialError: it is none of these.
        """
        if isinstance(conditioning, Tensor) and not conditioning.ndim:
            conditioning = float(conditioning)
        if not isinstance(conditioning, (Tensor, Conditioning)):
            conditioning = self.config.dials.at(float(conditioning))
        if isinstance(conditioning, Conditioning):
            device = self.basis.deviation16.device
            conditioning = torch.tensor(
                [conditioning.positions], dtype=torch.float32, device=device
            )
        count = self.config.coefficients
        if conditioning.ndim in (2, 4) and conditioning.shape[1] == 1:
            others = [torch.full_like(conditioning, d.default) for d in self.config.dials]
            conditioning = torch.cat([conditioning, *others[1:]], dim=1)
        if conditioning.ndim not in (2, 4) or conditioning.shape[1] != count:
            shape = tuple(conditioning.shape)
            raise ArgumentError(
                f"conditioning of shape {shape}: pass (B, {count}), (B, {count}, h, w) or a quality"
            )
        vector = as_maps(conditioning)
        return Condition(vector, self.conditioning(vector), self.log_step(vector).exp())

    def log_sigma(self, z_hat: Tensor, conditioning: Tensor) -> Tensor:
        """Log standard deviation of the symbols (B, 768, 4h, 4w), in quantisation steps."""
        return self.scale_path(z_hat, conditioning)

    @torch.no_grad()
    def quantise(
        self,
        x: Tensor,
        condition: Condition,
        searching: Callable[[Tensor, tuple[slice, slice]], TrellisSearch] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """The encoder up to the entropy coder, for pictures small enough to do at once.

        Args:
            x: pictures (B, 3, H, W) in [0, 1].
            searching: where the model has a trellis, gives what decides on levels, of z and the
                rows and columns of its grid that y has.

        Returns:
            z (B, hyper, ...) and levels (B, 768, ...) as int32, on the grids of
            docs/bitstream.md.
        """
        y = self.latents(x, condition)
        z = self.hyper_symbols(y, condition)
        at = (slice(y.shape[2]), slice(y.shape[3]))
        if searching:
            return z, self.round_trip(y, z, condition, at, search=searching(z, at))[0]
        log_sigma = self.log_sigma(z.float(), condition.vector)[..., at[0], at[1]]
        return z, self.round_trip(y, z, condition, at, log_sigma=log_sigma)[0]

    @torch.no_grad()
    def latents(self, x: Tensor, condition: Condition) -> Tensor:
        """y (B, 768, h, w) in deviations, of pictures (B, 3, H, W) or windows of some.

        A window's top and left must lie on multiples of 16.
        """
        return self.analysis(pad_to_multiple(x, BLOCK), condition, self.basis)

    @torch.no_grad()
    def hyper_symbols(self, y: Tensor, condition: Condition) -> Tensor:
        """z (B, hyper, h / 4, w / 4) as int32, of y (B, 768, h, w)."""
        z = self.hyper_analysis(pad_to_multiple(y, GROUP), condition)
        return torch.round(z).clamp(-MAX_SYMBOL, MAX_SYMBOL).int()

    @torch.no_grad()
    def round_trip(
        self,
        y: Tensor,
        z: Tensor,
        condition: Condition,
        at: tuple[slice, slice],
        grey: bool = False,
        log_sigma: Tensor | None = None,
        search: TrellisSearch | None = None,
    ) -> tuple[Tensor, Tensor]:
        """The levels of y as int32, and the latents that they stand for, both (B, 768, h, w).

        They are plain symbols unless the model has a trellis.

        Args:
            y: (B, 768, h, w) in deviations.
            z: integers (B, hyper, ...).
            at: the rows and columns where y lies on four times z's grid.
            grey: code no colour, which the networks may see in a grey picture at fine steps.
            log_sigma: of the symbols, which are then drawn towards zero if the weights say so.
            search: what decides instead, where the model has a trellis.
        """
        features = self.features(z, condition, at)
        steps = self.steps(features, condition)
        if search is not None:
            size = steps * search.trellis.step
            y_hat, _, levels = self.passes(features, condition, size, searched(search, y))
            return levels.int(), y_hat
        limit = torch.full(
            (y.shape[1], 1, 1), float(MAX_SYMBOL), dtype=torch.float32, device=y.device
        )
        if grey:
            limit[self.basis.is_colour] = 0
        zone = self.dead_zone(condition, log_sigma)
        y_hat, _, symbols = self.passes(
            features,
            condition,
            steps,
            lambda _, mean, channels, step: torch.round(
                drawn((y[:, channels] - mean) / step, zone, channels)
            ).clamp(-limit[channels], limit[channels]),
        )
        return symbols.int(), y_hat

    @torch.no_grad()
    def dequantise(
        self,
        z: Tensor,
        symbols: Tensor,
        condition: Condition,
        at: tuple[slice, slice],
        level_step: float = 1.0,
    ) -> Tensor:
        """The quantised latents (B, 768, h, w), in deviations.

        Args:
            z: integers (B, hyper, ...).
            symbols: integers (B, 768, h, w).
            at: the rows and columns where the symbols lie on four times z's grid.
            level_step: what symbols are multiples of, in quantisation steps.
        """
        given = symbols.float()
        features = self.features(z, condition, at)
        size = self.steps(features, condition) * level_step
        y_hat, _, _ = self.passes(
            features, condition, size, lambda number, mean, channels, step: given[:, channels]
        )
        return y_hat

    @torch.no_grad()
    def reconstruct(
        self,
        z: Tensor,
        symbols: Tensor,
        condition: Condition,
        at: tuple[slice, slice],
        level_step: float = 1.0,
    ) -> Tensor:
        """The decoder after the entropy coder, (B, 3, 16 h, 16 w), not clamped: see `dequantise`.

        What `quantise` lost stays lost.
        """
        y_hat = self.dequantise(z, symbols, condition, at, level_step)
        return self.synthesis(y_hat, condition, self.basis)

    @torch.no_grad()
    def dead_zone(self, condition: Condition, log_sigma: Tensor | None) -> Tensor | None:
        """By how much symbols of these deviations are drawn towards zero, (B, 768, h, w)."""
        if not any(self.config.dead_zone) or log_sigma is None:
            return None
        strength = torch.from_numpy(strengths(self.config)).to(log_sigma.device)
        (quality, *_) = self.config.dials
        lam = quality.coefficient(condition.vector[:, :1])
        deviation = self.basis.deviation16[:, None, None]
        zones = dead_zones(strength, lam, condition.step, deviation)
        return (stretched(zones, log_sigma) * torch.exp(-log_sigma)).clamp_max(DEAD_ZONE_LIMIT)

    def features(self, z: Tensor, condition: Condition, at: tuple[slice, slice]) -> Tensor:
        """What every mean is predicted from, (B, context_width, h, w), at some positions of y."""
        return self.mean_path(z.float(), condition.embedding)[..., at[0], at[1]]

    def steps(self, features: Tensor, condition: Condition) -> Tensor:
        """Quantisation steps of y in deviations where features are, (B or 1, 768, h or 1, ...)."""
        step = stretched(condition.step, features)
        local = self.local_steps
        return step if local is None else step * local(features, condition.vector)

    def forward(
        self, x: Tensor, conditioning: Tensor | Conditioning | Condition | float
    ) -> ForwardOutput:
        """One pass through the whole codec, without entropy coding.

        In training mode latents are rounded with a straight-through gradient for the
        reconstruction, and disturbed by uniform noise for the rate (Minnen & Singh 2020), both
        without a dead zone; in evaluation mode all see the symbols as they are coded by a model
        that has no trellis.

        Args:
            x: pictures (B, 3, H, W) in [0, 1]; any size.
            conditioning: a quality in [0, 1], or anything else that `condition` takes; vectors
                (B, K) give every picture its own.
        """
        if isinstance(conditioning, Condition):
            condition = conditioning
        else:
            condition = self.condition(conditioning)
        height, width = x.shape[-2:]
        y = self.analysis(pad_to_multiple(x, BLOCK), condition, self.basis)
        # y's grid is padded for z by replication, the picture is not.
        z = self.hyper_analysis(pad_to_multiple(y, GROUP), condition)
        rows, columns = y.shape[-2:]

        z_hat = round_to_bits(z, 0)
        z_bits = self.hyper_prior.bits(self._for_rate(z, z_hat), condition.vector)
        log_sigma = self.log_sigma(z_hat, condition.vector)[..., :rows, :columns]
        features = self.mean_path(z_hat, condition.embedding)[..., :rows, :columns]

        zone = None if self.training else self.dead_zone(condition, log_sigma)
        steps = self.steps(features, condition)
        y_hat, means, symbols = self.passes(
            features,
            condition,
            steps,
            lambda _, mean, channels, step: round_to_bits(
                drawn((y[:, channels] - mean) / step, zone, channels), 0
            ),
        )
        scaled = drawn((y - means) / steps, zone)
        y_bits = symbol_bits(self._for_rate(scaled, symbols), log_sigma)

        x_hat = self.synthesis(y_hat, condition, self.basis)
        x_hat = x_hat[..., :height, :width]
        return ForwardOutput(x_hat, y_bits, z_bits, y_hat, z_hat, symbols, log_sigma)

    def passes(
        self,
        features: Tensor,
        condition: Condition,
        step: Tensor,
        symbols_at: SymbolsAt,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Run the context passes; the same code quantises and dequantises.

        Args:
            features: of the mean path, (B, context_width, h, w).
            step: what symbols are multiples of, as `steps` gives it or a multiple of that.
            symbols_at: given the number of the pass, means, the channels they are for, and the
                steps of those, returns the symbols there. The encoder rounds, the decoder looks up.

        Returns:
            y_hat, means and symbols, each (B, 768, h, w).
        """
        rows, columns = features.shape[-2:]
        embedding = condition.embedding
        core, detail = slice(0, self.config.core), slice(self.config.core, None)
        y_hat = means = symbols = features.new_zeros(
            len(features), self.config.core, rows, columns, dtype=torch.float32
        )
        for number, mask in enumerate(self.context.masks(rows, columns)):
            mean = self.context.means(number, features, y_hat, embedding)
            here = symbols_at(number, mean, core, step[:, core])
            means = torch.where(mask, mean, means)
            symbols = torch.where(mask, here, symbols)
            y_hat = torch.where(mask, mean + here * step[:, core], y_hat)
        last = self.config.context_passes
        mean = self.context.means(last, features, y_hat, embedding)
        here = symbols_at(last, mean, detail, step[:, detail])
        return (
            torch.cat([y_hat, mean + here * step[:, detail]], dim=1),
            torch.cat([means, mean], dim=1),
            torch.cat([symbols, here], dim=1),
        )

    def _for_rate(self, value: Tensor, rounded: Tensor) -> Tensor:
        return value + torch.rand_like(value) - 0.5 if self.training else rounded


def searched(search: TrellisSearch, y: Tensor, prices: Prices | None = None) -> SymbolsAt:
    """Levels of y (B, 768, h, w) as a search through the trellis finds them."""

    def at(number: int, mean: Tensor, channels: slice, step: Tensor) -> Tensor:
        exact = (y[:, channels] - mean) / step
        levels = search.levels(number, exact.float().cpu().numpy(), prices)
        return torch.from_numpy(levels).to(mean.device)

    return at


def drawn(values: Tensor, zone: Tensor | None, channels: slice = slice(None)) -> Tensor:
    """Values drawn towards zero by at most `zone`."""
    if zone is None:
        return values
    here = zone[:, channels]
    return values - values.clamp(-here, here)


def channels_last(model: CompressionModel) -> CompressionModel:
    """The model with its weights laid out for channels-last convolutions, the fastest on CPUs."""
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def pad_to_multiple(x: Tensor, size: int) -> Tensor:
    """x with its last row and column repeated until both sides are multiples of size."""
    bottom, right = -x.shape[-2] % size, -x.shape[-1] % size
    return F.pad(x, (0, right, 0, bottom), mode="replicate") if bottom or right else x
