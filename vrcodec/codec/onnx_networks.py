"""The networks in ONNX Runtime, on a CPU. Nothing here needs torch.

Graphs are built from the weights when they are first needed (model/onnx_graph.py), in some
hundredths of a second: so released weights and those that somebody trains are the same to it.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vrcodec.bitstream.grid import BLOCK, GROUP, LATENT_CHANNELS
from vrcodec.bitstream.trellis import Part, pattern
from vrcodec.codec.networks import At, Networks, Refine, Search
from vrcodec.codec.onnx_session import LAYOUT_PIXELS, VERSION, Session, suitable_threads
from vrcodec.conditional.dials import Conditioning
from vrcodec.conditional.folding import FoldedCondition
from vrcodec.errors import VrcodecError
from vrcodec.model.integer_path import IntegerScalePath
from vrcodec.model.linear_basis import is_colour
from vrcodec.model.onnx_builder import Network
from vrcodec.model.onnx_graph import NETWORKS, means
from vrcodec.model.onnx_scale_path import scale_features, scale_indexes
from vrcodec.model.shapes import checked
from vrcodec.model.small_synthesis import SmallSynthesis
from vrcodec.model.trellis_search import Searches, TrellisSearch
from vrcodec.model.weights_file import Weights

CONDITIONS = 8
"""Places on the dials whose tensors are kept: a search for a target visits as many."""
AT_ONCE = 4096
"""Positions whose tables are chosen at a time, or those of a row: 50 MB."""
SCALE_FEATURES, SCALE_INDEXES = "scale features", "scale indexes"
SCALE_PATH = {SCALE_FEATURES: scale_features, SCALE_INDEXES: scale_indexes}
"""The networks that choose tables; the others are in `NETWORKS`."""
_Feeds = dict[str, NDArray[Any]]


class OnnxNetworks:
    """`Networks` of a weights file.

    Args:
        weights: what `load_weights` gave.
        threads: how many to use; by default as many as suit the picture.
        refining: gives networks that can look for better latents, if there are such.

    Raises:
        WeightsError: the weights are impossible.
    """

    device = "cpu"
    needs_full_batches = False
    batch_pixels = 1 << 16
    """Of 64 x 64 pixels a picture takes 28 % less time then; from 256 x 256 on, none is saved."""

    def __init__(
        self,
        weights: Weights,
        threads: int | None = None,
        refining: Callable[[], Networks] | None = None,
    ) -> None:
        self._tensors, self._config = checked(weights.tensors, weights.config), weights.config
        layers = IntegerScalePath.layers_of(weights.tensors, weights.config)
        self._scale_path = IntegerScalePath(layers)
        self._threads = threads
        self._sessions: dict[tuple[str, int, bool, int], Session] = {}
        self._macs = 0.0
        self._refining = functools.cache(refining) if refining else None
        self._condition = functools.lru_cache(CONDITIONS)(self._new_condition)
        networks = len(NETWORKS) + len(SCALE_PATH) + self._config.context_passes + 1
        self._inputs_at = functools.lru_cache(CONDITIONS * networks)(self._new_inputs)
        self._network = functools.cache(self._new_network)
        self._searches = Searches(weights.y_tables, weights.config, self._tensors)
        self._small = functools.cache(
            functools.partial(SmallSynthesis, self._tensors, self._config)
        )

    @property
    def runtime(self) -> str:
        """ONNX Runtime and its version."""
        return f"ONNX Runtime {VERSION}"

    @property
    def parameters(self) -> int:
        """How many learned numbers they have."""
        learned = (t.size for name, t in self._tensors.items() if not name.startswith("basis."))
        integers = sum(layer.weight.size + layer.bias.size for layer in self._scale_path.layers)
        return sum(learned) + integers

    def analysis(
        self, pixels: NDArray[np.uint8], conditioning: Conditioning
    ) -> NDArray[np.float32]:
        padded = _padded(pixels, BLOCK, (1, 2))
        positions = padded.size // (3 * BLOCK**2)
        return self._run("analysis", conditioning, positions, pixels=padded)

    def hyper(self, y: NDArray[np.float32], conditioning: Conditioning) -> NDArray[np.int16]:
        padded = _padded(y, GROUP, (2, 3))
        return self._run("hyper", conditioning, _positions(padded), y=padded)

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
        if self._config.trellis_at(conditioning):
            search = self._search(conditioning, indexes, part, grey, nearest)
            return self._searched(search, y, z, conditioning, at)[0]
        zoned = None if nearest else indexes
        (symbols,) = self._round_trip("quantise", y, z, conditioning, at, grey, zoned)
        return symbols

    def dequantise(
        self,
        symbols: NDArray[np.int16],
        z: NDArray[np.int16],
        conditioning: Conditioning,
        at: At,
    ) -> NDArray[np.float32]:
        feeds = self._context(z, at, symbols.shape[2:]) | {"symbols": symbols}
        return self._run("dequantise", conditioning, _positions(symbols), **feeds)

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
        if self._config.trellis_at(conditioning):
            search = self._search(conditioning, indexes, part, grey, nearest)
            return self._searched(search, y, z, conditioning, at)
        zoned = None if nearest else indexes
        symbols, y_hat = self._round_trip("round trip", y, z, conditioning, at, grey, zoned)
        return symbols, y_hat

    def _searched(
        self,
        search: TrellisSearch,
        y: NDArray[np.float32],
        z: NDArray[np.int16],
        conditioning: Conditioning,
        at: At,
    ) -> tuple[NDArray[np.int16], NDArray[np.float32]]:
        """Levels as a search through the trellis finds them, pass by pass, and y_hat."""
        config, count = self._config, _positions(y)
        place = self._context(z, at, y.shape[2:])
        inputs = {name: place[name] for name in ("z", "start", "stop")}
        features, *local = self._run_all("features", conditioning, count, **inputs)
        step = self._condition(conditioning).step * search.trellis.step
        size = np.broadcast_to(step.astype(np.float32)[:, None, None], y.shape)
        if local:
            size = size * local[0]
        core, detail = slice(config.core), slice(config.core, None)
        levels, y_hat = np.zeros_like(y), np.zeros_like(y)
        for number in range(config.context_passes + 1):
            channels = core if number < config.context_passes else detail
            feeds = {"features": features} | ({"decoded": y_hat[:, core]} if number else {})
            mean = self._run(f"means {number}", conditioning, count, **feeds)
            here = search.levels(number, (y[:, channels] - mean) / size[:, channels])
            decoded = mean + here * size[:, channels]
            if channels is core:
                mask = place[f"pass {number}"] != 0
                np.copyto(levels[:, core], here, where=mask)
                np.copyto(y_hat[:, core], decoded, where=mask)
            else:
                levels[:, detail], y_hat[:, detail] = here, decoded
        return levels.astype(np.int16), y_hat

    def _search(
        self,
        conditioning: Conditioning,
        indexes: NDArray[np.uint8] | None,
        part: Part | None,
        grey: bool,
        nearest: bool,
    ) -> TrellisSearch:
        assert indexes is not None
        return self._searches.at(conditioning, indexes, part, grey, nearest)

    def _round_trip(
        self,
        name: str,
        y: NDArray[np.float32],
        z: NDArray[np.int16],
        conditioning: Conditioning,
        at: At,
        grey: bool,
        indexes: NDArray[np.uint8] | None,
    ) -> list[NDArray[Any]]:
        feeds: _Feeds = self._context(z, at, y.shape[2:]) | {"y": y, "kept": _kept(grey)}
        if not any(self._config.dead_zone) or indexes is None:
            name += " plainly"
        else:
            feeds["indexes"] = indexes
        return self._run_all(name, conditioning, _positions(y), **feeds)

    def synthesis(
        self, y_hat: NDArray[np.float32], conditioning: Conditioning
    ) -> NDArray[np.uint8]:
        blocks = self._run("synthesis", conditioning, _positions(y_hat), y_hat=y_hat)
        count, rows, columns, _ = blocks.shape
        half = BLOCK // 2
        blocks = blocks.reshape(count, rows, columns, half, 3 * half).transpose(0, 1, 3, 2, 4)
        return blocks.reshape(count, rows * half, columns * half, 3)

    def small_synthesis(self, y_hat: NDArray[np.float32], reduce: int) -> NDArray[np.uint8]:
        small = self._small(reduce)
        self._macs += small.macs * _positions(y_hat)
        return small(y_hat)

    def scale_indexes(
        self, z: NDArray[np.int16], conditioning: Conditioning, at: At
    ) -> NDArray[np.uint8]:
        rows, columns = at
        positions = z.shape[1] * z.shape[2] * GROUP**2
        features = self._run(SCALE_FEATURES, conditioning, positions, z=z[None])[..., rows, columns]
        height, width = features.shape[2:]
        step = max(1, AT_ONCE // width)
        parts = [features[:, :, top : top + step] for top in range(0, height, step)]
        return np.concatenate(
            [
                self._run(SCALE_INDEXES, conditioning, _positions(part), features=part)[0]
                for part in parts
            ],
            axis=1,
        )

    def refiner(self, conditioning: Conditioning, search: Search) -> Refine:
        """What spends effort on windows: gradients are needed, so other networks do it.

        Raises:
            VrcodecError: there are none.
        """
        if self._refining is None:
            raise VrcodecError(
                f"effort {search.effort} needs PyTorch: ONNX Runtime has no gradients"
            )
        return self._refining().refiner(conditioning, search)

    def macs(self, call: Callable[[], object]) -> float:
        """Multiply-accumulates of these networks while `call` runs; those of graphs as built.

        Some fewer than in torch, where the DCT is not folded into the convolution before it.
        """
        before = self._macs
        call()
        return self._macs - before

    def _context(self, z: NDArray[np.int16], at: At, size: tuple[int, ...]) -> _Feeds:
        """What the graphs with context passes are told of the place they are at."""
        start = np.array([part.start or 0 for part in at], dtype=np.int64)
        masks = _masks(self._config.core, self._config.context_passes, *size)
        named = {f"pass {number}": mask for number, mask in enumerate(masks)}
        return {"z": z, "start": start, "stop": start + size, **named}

    def _run(
        self, name: str, conditioning: Conditioning, positions: int, **feeds: NDArray[Any]
    ) -> NDArray[Any]:
        (result,) = self._run_all(name, conditioning, positions, **feeds)
        return result

    def _run_all(
        self, name: str, conditioning: Conditioning, positions: int, **feeds: NDArray[Any]
    ) -> list[NDArray[Any]]:
        session = self._session(name, positions * BLOCK**2)
        self._macs += self._network(name).macs * positions
        return session.run(feeds | self._inputs_at(name, conditioning))

    def _session(self, name: str, pixels: int) -> Session:
        """One that this process has made: the threads of its parent's are not in a forked child."""
        threads, layout = suitable_threads(pixels, self._threads), pixels <= LAYOUT_PIXELS
        key = name, threads, layout, os.getpid()
        if key not in self._sessions:
            # Of two threads that come here at once one works in vain.
            self._sessions.setdefault(key, Session(self._network(name).model, threads, layout))
        return self._sessions[key]

    def _new_network(self, name: str) -> Network:
        if name in SCALE_PATH:
            return SCALE_PATH[name](self._scale_path)
        kind, _, number = name.partition(" ")
        if kind == "means" and number:
            return means(self._tensors, self._config, int(number))
        return NETWORKS[name](self._tensors, self._config)

    def _new_condition(self, conditioning: Conditioning) -> FoldedCondition:
        return FoldedCondition.of(conditioning, self._tensors)

    def _new_inputs(self, name: str, conditioning: Conditioning) -> _Feeds:
        return self._network(name).inputs_at(self._condition(conditioning))


@functools.cache
def _kept(grey: bool) -> NDArray[np.float32]:
    """1 for every channel that is coded, (1, 768, 1, 1)."""
    kept = np.ones((1, LATENT_CHANNELS, 1, 1), dtype=np.float32)
    if grey:
        kept[:, is_colour()] = 0
    return kept


@functools.lru_cache(16)
def _masks(core: int, passes: int, rows: int, columns: int) -> tuple[NDArray[np.float32], ...]:
    """For every pass 1 for what it decodes, (1, core, rows, columns), and 0 for all else."""
    pass_of = pattern(core, passes, rows, columns)
    return tuple((pass_of[None] == number).astype(np.float32) for number in range(passes))


def _positions(latents: NDArray[Any]) -> int:
    return latents.shape[0] * latents.shape[2] * latents.shape[3]


def _padded(x: NDArray[Any], size: int, axes: tuple[int, int]) -> NDArray[Any]:
    """x with its last row and column repeated until both sides are multiples of size."""
    widths = [(0, -length % size if axis in axes else 0) for axis, length in enumerate(x.shape)]
    return np.pad(x, widths, mode="edge") if any(after for _, after in widths) else x
