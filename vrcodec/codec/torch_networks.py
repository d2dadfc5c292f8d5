"""The networks in PyTorch, on a CPU or a GPU."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vrcodec.bitstream.grid import BLOCK
from vrcodec.bitstream.trellis import Part
from vrcodec.codec.networks import At, Refine, Search, Window
from vrcodec.codec.refinement import (
    ChainedSymbols,
    PlainSymbols,
    Quantiser,
    Refined,
    SymbolCosts,
    refine,
)
from vrcodec.conditional.dials import Conditioning
from vrcodec.model.config import LOG_SCALE_STEP, SCALE_MIN
from vrcodec.model.isolation import Tidying, bound_primitive_cache, isolated, suitable_threads
from vrcodec.model.loading import build, select_device
from vrcodec.model.macs import TOTAL, count_macs
from vrcodec.model.precision import fastest_dtype
from vrcodec.model.shapes import checked
from vrcodec.model.small_synthesis import SmallSynthesis
from vrcodec.model.trellis_search import Searches
from vrcodec.model.weights_file import Weights

BATCH_PIXELS = 1 << 20
"""Pixels that a GPU computes at a time."""


class TorchNetworks:
    """`Networks` of a weights file.

    Args:
        weights: what `load_weights` gave.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        precision: of what need not be exact: "auto", "float32" or "bfloat16".
        threads: how many to use; by default as many as suit the picture.
        memory_format: how tensors are laid out: changes speed, and never a symbol.

    Raises:
        WeightsError: the weights are impossible.
        VrcodecError: there is no such device or precision.
    """

    def __init__(
        self,
        weights: Weights,
        device: str = "auto",
        precision: str = "auto",
        threads: int | None = None,
        memory_format: torch.memory_format = torch.channels_last,
    ) -> None:
        bound_primitive_cache()
        self._device = select_device(device)
        self._precision, self._threads, self._layout = precision, threads, memory_format
        with isolated(self._device):
            model, self._scale_path = build(weights)
            self.model = model.to(self._device)
            self.model.to(memory_format=memory_format)  # type: ignore[call-overload]
        self._y_tables, self._tidying = weights.y_tables, Tidying()
        self._costs = functools.cache(self._new_costs)
        self._condition = functools.lru_cache(8)(self.model.condition)
        tensors = checked(weights.tensors, weights.config)
        self._searches = Searches(weights.y_tables, weights.config, tensors)
        self._config = weights.config
        self._small = functools.cache(functools.partial(SmallSynthesis, tensors, weights.config))
        self._small_macs = 0.0

    needs_full_batches = True

    @property
    def batch_pixels(self) -> int:
        """As many as keep a GPU busy; none on a CPU, where a batch would have to be filled up."""
        return 0 if self._device.type == "cpu" else BATCH_PIXELS

    @property
    def device(self) -> str:
        """As torch calls it."""
        return str(self._device)

    @property
    def runtime(self) -> str:
        """PyTorch and its version."""
        return f"PyTorch {torch.__version__}"

    @property
    def parameters(self) -> int:
        """How many learned numbers they have."""
        return sum(parameter.numel() for parameter in self.model.parameters())

    def analysis(
        self, pixels: NDArray[np.uint8], conditioning: Conditioning
    ) -> NDArray[np.float32]:
        with self._at_work(pixels.shape[0] * pixels.shape[1] * pixels.shape[2]):
            y = _array(self.model.latents(self._float(pixels), self._condition(conditioning)))
        self._tidying.after(pixels.shape)
        return y

    def hyper(self, y: NDArray[np.float32], conditioning: Conditioning) -> NDArray[np.int16]:
        with self._at_work(_pixels_of(y)):
            z = self.model.hyper_symbols(self._tensor(y), self._condition(conditioning))
            return _array(z.short())

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
        with self._at_work(_pixels_of(y)):
            made = self._round_trip(y, z, conditioning, at, grey, indexes, nearest, part)
            return _array(made[0])

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
        with self._at_work(_pixels_of(y)):
            made = self._round_trip(y, z, conditioning, at, grey, indexes, nearest, part)
            symbols, y_hat = made
            return _array(symbols), _array(y_hat)

    def _round_trip(
        self,
        y: NDArray[np.float32],
        z: NDArray[np.int16],
        conditioning: Conditioning,
        at: At,
        grey: bool,
        indexes: NDArray[np.uint8] | None,
        nearest: bool,
        part: Part | None,
    ) -> tuple[Tensor, Tensor]:
        """Both still on the device: an encoder does not fetch what it does not need."""
        given, condition = (self._tensor(y), self._tensor(z)), self._condition(conditioning)
        log_sigma = search = None
        if self._config.trellis_at(conditioning):
            assert indexes is not None
            search = self._searches.at(conditioning, indexes, part, grey, nearest)
        elif indexes is not None and not nearest:
            log_sigma = self._log_sigma(indexes)
        symbols, y_hat = self.model.round_trip(*given, condition, at, grey, log_sigma, search)
        return symbols.short(), y_hat

    def dequantise(
        self,
        symbols: NDArray[np.int16],
        z: NDArray[np.int16],
        conditioning: Conditioning,
        at: At,
    ) -> NDArray[np.float32]:
        with self._at_work(_pixels_of(symbols)):
            given, condition = self._tensor(symbols), self._condition(conditioning)
            size = self._config.level_step_at(conditioning)
            return _array(self.model.dequantise(self._tensor(z), given, condition, at, size))

    def synthesis(
        self, y_hat: NDArray[np.float32], conditioning: Conditioning
    ) -> NDArray[np.uint8]:
        with self._at_work(_pixels_of(y_hat)):
            model, condition = self.model, self._condition(conditioning)
            x_hat = model.synthesis(self._tensor(y_hat), condition, model.basis)
            eight_bit = torch.round(x_hat.clamp(0, 1) * 255).to(torch.uint8)
            pixels = _array(eight_bit.permute(0, 2, 3, 1))
        self._tidying.after(pixels.shape)
        return pixels

    def small_synthesis(self, y_hat: NDArray[np.float32], reduce: int) -> NDArray[np.uint8]:
        small = self._small(reduce)
        self._small_macs += small.macs * y_hat[:, 0].size
        return small(y_hat)

    def scale_indexes(
        self, z: NDArray[np.int16], conditioning: Conditioning, at: At
    ) -> NDArray[np.uint8]:
        rows, columns = at
        positions = (rows.stop - rows.start) * (columns.stop - (columns.start or 0))
        with self._at_work(positions * BLOCK**2):
            features = self._scale_path.features(self._tensor(z), conditioning)
            return _array(self._scale_path.indexes_of(features[:, rows, columns], conditioning))

    def refiner(self, conditioning: Conditioning, search: Search) -> Refine:
        """What spends effort on windows; see refinement.py."""

        tables = self._y_tables

        def refined(window: Window) -> NDArray[np.float32]:
            indexes = self.scale_indexes(window.z[0], conditioning, window.at)
            costs = self._costs(tables.bucket(conditioning))
            with self._at_work(_pixels_of(window.y)):
                condition = self._condition(conditioning)
                part = Refined(
                    self._float(window.pixels[None]),
                    self._tensor(window.y),
                    self._tensor(window.z),
                    window.at,
                    self._tensor(tables.numbers(indexes))[None].long(),
                    self._tensor(window.free),
                    self.model.dead_zone(condition, self._log_sigma(indexes[None])),
                    ~self.model.basis.is_colour[:, None, None] if window.grey else None,
                )

                def made(curvature: Tensor) -> Quantiser:
                    if not self._config.trellis_at(conditioning):
                        return PlainSymbols(costs, part, curvature)
                    where = window.part or Part.everywhere(*indexes.shape[1:])
                    return ChainedSymbols(
                        self._searches.at(conditioning, indexes[None], where, window.grey),
                        self._searches.prices_of(conditioning, _array(curvature / 2).ravel()),
                        lambda levels: tables.symbols(levels, indexes, conditioning, where),
                        costs,
                    )

                dtype = fastest_dtype(self._device, self._precision)
                return _array(refine(self.model, made, part, condition, search, dtype))

        return refined

    def macs(self, call: Callable[[], object]) -> float:
        """Multiply-accumulates of these networks while `call` runs."""
        before = self._small_macs
        return count_macs(self.model, call)[TOTAL] + self._small_macs - before

    @contextmanager
    def _at_work(self, pixels: int) -> Iterator[None]:
        with isolated(self._device, suitable_threads(pixels, self._threads)):
            yield

    def _new_costs(self, bucket: int) -> SymbolCosts:
        return SymbolCosts(self._y_tables.of(bucket), self._device)

    def _log_sigma(self, indexes: NDArray[np.uint8]) -> Tensor:
        """Log standard deviations that scale indexes stand for."""
        return math.log(SCALE_MIN) + LOG_SCALE_STEP * self._tensor(indexes).float()

    def _tensor(self, array: NDArray[Any]) -> Tensor:
        if not array.flags.writeable:  # torch warns of what it cannot know to be left alone
            array = array.copy(order="K")
        return torch.from_numpy(array).to(self._device)

    def _float(self, pixels: NDArray[np.uint8]) -> Tensor:
        """Pixels (B, H, W, 3) as (B, 3, H, W) in [0, 1]."""
        # Copied one by one on the side of the device: a large window is not copied before.
        each = [self._tensor(np.array(one)).permute(2, 0, 1)[None].float() / 255 for one in pixels]
        x = each[0] if len(each) == 1 else torch.cat(each)
        return x.contiguous(memory_format=self._layout)


def _array(tensor: Tensor) -> NDArray[Any]:
    array: NDArray[Any] = tensor.cpu().numpy()
    return array


def _pixels_of(latents: NDArray[Any]) -> int:
    """Pixels that latents (B, 768, h, w) stand for."""
    return latents.shape[0] * latents.shape[2] * latents.shape[3] * BLOCK**2
