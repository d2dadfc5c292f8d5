"""The float networks as ONNX graphs, built from the tensors of a weights file. No torch here.

Every graph is for any number of pictures of any size. Constant factors are folded into the
convolutions beside them: pixels are 0 to 255 outside, the DCT knows that.

The networks are those of transforms.py and entropy_model.py; shapes there. Pixels of a block are
channels in the order (row, column, colour) here, as they lie in memory.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vrcodec.bitstream.grid import BLOCK, LATENT_CHANNELS
from vrcodec.conditional.dials import Conditioning
from vrcodec.conditional.folding import FoldedCondition
from vrcodec.model import onnx_dct
from vrcodec.model.config import (
    LOG_SCALE_STEP,
    SCALE_MAX,
    SCALE_MIN,
    ModelConfig,
)
from vrcodec.model.constants import HYPER_GAIN, LINEAR_GAIN, LOCAL_FROM, LOCAL_LIMIT, MAX_SYMBOL
from vrcodec.model.dead_zone import DEAD_ZONE_LIMIT, dead_zones, strengths
from vrcodec.model.linear_basis import PIXEL_GAIN, block_basis
from vrcodec.model.onnx_builder import AROUND, Array, Builder, Network, Tensors, spread
from vrcodec.model.onnx_file import Value

HALF = BLOCK // 2
PIXEL_UNIT = PIXEL_GAIN / 255
"""A grey level in units of the DCT's input."""
MIDDLE = 127.5
Latents = ("B", LATENT_CHANNELS, "h", "w")


def analysis(tensors: Tensors, config: ModelConfig) -> Network:
    """uint8 "pixels" (B, 16 h, 16 w, 3) -> "y" (B, 768, h, w), in deviations."""
    b = Builder("analysis", tensors, config)
    pixels = b.graph.input("pixels", "uint8", ("B", "H", "W", 3))
    deviation8, deviation16 = b.tensor("basis.deviation8"), b.tensor("basis.deviation16")

    linear = onnx_dct.coefficients(b, pixels, MIDDLE, PIXEL_UNIT / deviation16)
    limited = b.limited(linear)
    trust = b.confidence(linear, limited)

    basis8 = _basis(HALF) * (PIXEL_UNIT / deviation8[:, None])
    h = b.graph.cast(b.blocks_of(pixels, HALF), "float32")
    h = b.product(h, basis8, -MIDDLE * basis8.sum(axis=1), density=4)
    h = b.conv(b.limited(h), "analysis.stem", 4)
    h = b.blocks(h, "analysis.blocks8", config.analysis_blocks[0], config.width8, 4)
    h = b.conv(h, "analysis.down", strides=(2, 2))
    h = b.blocks(h, "analysis.blocks16", config.analysis_blocks[1], config.width16, 1)

    head, bias = b.tensor("analysis.head.weight"), b.tensor("analysis.head.bias")

    def in_steps(condition: FoldedCondition) -> tuple[Array, Array]:
        step = condition.step[: config.core].astype(np.float32)
        return head * step[:, None, None, None], bias * step

    branch = b.varying(h, "analysis.head", head.shape, in_steps, 1)
    core = b.node("Add", b.channels(linear, 0, config.core), b.node("Mul", branch, trust))
    y = b.node("Concat", core, b.channels(linear, config.core, LATENT_CHANNELS), axis=1)
    if config.learned_linear:
        correction = b.tensor("analysis.linear.correction")
        correction = correction * (LINEAR_GAIN / deviation16[:, None])
        y = b.node("Add", y, b.node("Mul", b.product(limited, correction), trust))
    b.graph.output(y, "y", "float32", Latents)
    return b.finished()


def hyper(tensors: Tensors, config: ModelConfig) -> Network:
    """ "y" (B, 768, 4 h, 4 w) -> int16 "z" (B, hyper, h, w)."""
    b = Builder("hyper", tensors, config)
    y = b.graph.input("y", "float32", Latents)
    inverse = b.per_channel("inverse step", LATENT_CHANNELS, lambda c: 1 / c.step)
    magnitude = b.node("Abs", b.node("Mul", y, inverse))
    magnitude = b.node("Log", b.node("Add", magnitude, b.number(1)))
    core = b.limited(b.channels(y, 0, config.core))
    h = b.node("Concat", core, magnitude, axis=1)
    h = b.leaky(b.conditioned_conv(h, "hyper_analysis.squeeze"))
    down: dict[str, Any] = {"strides": (2, 2), "pads": AROUND}
    h = b.leaky(b.conv(h, "hyper_analysis.down1", 1 / 4, **down))
    h = b.leaky(b.conditioned_conv(h, "hyper_analysis.mix", 1 / 4))
    h = b.conv(h, "hyper_analysis.down2", 1 / 16, **down)
    z = b.clip(b.node("Round", h), -MAX_SYMBOL, MAX_SYMBOL)
    b.graph.output(b.graph.cast(z, "int16"), "z", "int16", ("B", config.hyper, "t", "s"))
    return b.finished()


def quantise(
    tensors: Tensors, config: ModelConfig, back: bool = False, plain: bool = False
) -> Network:
    """ "y", and what `_features` takes -> int16 "symbols", and back "y_hat", all (B, 768, h, w).

    "kept" (1, 768, 1, 1) is 1 for the channels that are coded, and 0 for others. Unless it is to be
    plain, a model with a dead zone takes uint8 "indexes" (B, 768, h, w), the symbols' tables.
    """
    b = Builder("quantise", tensors, config)
    y = b.graph.input("y", "float32", Latents)
    kept = b.graph.input("kept", "float32", (1, LATENT_CHANNELS, 1, 1))
    inverse = b.per_channel("inverse step", LATENT_CHANNELS, lambda c: 1 / c.step)
    inverse = b.node("Mul", inverse, kept)
    zone = None if plain or not any(config.dead_zone) else _dead_zone(b)

    def rounded(mean: Value, part: tuple[int, int], local: Value | None) -> Value:
        error = b.node("Sub", b.channels(y, *part), mean)
        exact = b.node("Mul", error, b.channels(inverse, *part))
        if local is not None:
            exact = b.node("Div", exact, local)
        if zone is not None:
            here = b.channels(zone, *part)
            within = b.node("Max", b.node("Min", exact, here), b.node("Neg", here))
            exact = b.node("Sub", exact, within)
        return b.clip(b.node("Round", exact), -MAX_SYMBOL, MAX_SYMBOL)

    y_hat, (*passes, detail) = _passes(b, rounded)
    core = functools.reduce(functools.partial(b.node, "Add"), passes)
    symbols = b.node("Concat", core, detail, axis=1)
    b.graph.output(b.graph.cast(symbols, "int16"), "symbols", "int16", Latents)
    if back:
        b.graph.output(y_hat, "y_hat", "float32", Latents)
    return b.finished()


def _dead_zone(b: Builder) -> Value:
    """By how much symbols are drawn towards zero; takes uint8 "indexes", their tables."""
    deviation, (quality, *_) = b.tensor("basis.deviation16"), b.config.dials
    strength = strengths(b.config).ravel()
    # Inverse deviations, but for a factor; to look them up in a table takes longer.
    indexes = b.graph.cast(b.graph.input("indexes", "uint8", Latents), "float32")
    by_index = b.node("Exp", b.node("Mul", indexes, b.number(-LOG_SCALE_STEP)))

    def by_channel(condition: FoldedCondition) -> NDArray[np.float64]:
        lam = quality.coefficient(condition.conditioning.quality)
        zones = dead_zones(strength, lam, condition.step, deviation)
        # Beyond that every symbol is at the limit: the largest deviation is SCALE_MAX.
        return np.minimum(zones, DEAD_ZONE_LIMIT * SCALE_MAX) / SCALE_MIN

    zone = b.node("Mul", by_index, b.per_channel("dead zone", LATENT_CHANNELS, by_channel))
    return b.node("Min", zone, b.number(DEAD_ZONE_LIMIT))


def dequantise(tensors: Tensors, config: ModelConfig) -> Network:
    """int16 "symbols", and what `_features` takes -> "y_hat", both (B, 768, h, w)."""
    b = Builder("dequantise", tensors, config)
    symbols = b.graph.cast(b.graph.input("symbols", "int16", Latents), "float32")
    y_hat, _ = _passes(b, lambda mean, part, _: b.channels(symbols, *part), config.level_step_at)
    b.graph.output(y_hat, "y_hat", "float32", Latents)
    return b.finished()


def features(tensors: Tensors, config: ModelConfig) -> Network:
    """What `_features` takes -> "features" (B, context_width, h, w).

    Of a model with local steps also "local" (B, 768, h, w), by how much steps are multiplied.
    """
    b = Builder("features", tensors, config)
    given, shape = _features(b), ("B", config.context_width, "h", "w")
    b.graph.output(given, "features", "float32", shape)
    if config.local_steps:
        b.graph.output(_local_steps(b, given), "local", "float32", Latents)
    return b.finished()


def means(tensors: Tensors, config: ModelConfig, number: int) -> Network:
    """ "features", but for the first pass "decoded" (B, core, h, w) -> "means" of a pass."""
    b = Builder("means", tensors, config)
    given = b.graph.input("features", "float32", ("B", config.context_width, "h", "w"))
    core, detail = ("B", config.core, "h", "w"), number == config.context_passes
    decoded = b.graph.input("decoded", "float32", core) if number else None
    name = "context.detail" if detail else f"context.passes.{number}"
    shape = ("B", LATENT_CHANNELS - config.core, "h", "w") if detail else core
    b.graph.output(_means(b, name, given, decoded), "means", "float32", shape)
    return b.finished()


def synthesis(tensors: Tensors, config: ModelConfig) -> Network:
    """ "y_hat" (B, 768, h, w) -> uint8 "pixels" (B, 2 h, 2 w, 8, 8, 3), blocks of 8 x 8."""
    b = Builder("synthesis", tensors, config)
    y = b.graph.input("y_hat", "float32", Latents)
    limited = b.limited(y)
    trust = b.confidence(y, limited)

    coefficients, unit = y, b.tensor("basis.deviation16") / PIXEL_UNIT
    if config.learned_linear:
        correction = b.tensor("synthesis.linear.correction")
        correction = correction * (LINEAR_GAIN / b.tensor("basis.deviation16")[:, None])
        corrected = b.node("Mul", b.product(limited, correction), trust)
        coefficients = b.node("Add", y, corrected)
    linear = onnx_dct.pixels(b, coefficients, MIDDLE, unit)

    h = b.conv(limited, "synthesis.stem")
    h = b.blocks(h, "synthesis.blocks16", config.synthesis_blocks[0], config.width16, 1)
    h = b.shuffled(h, "synthesis.up")
    h = b.blocks(h, "synthesis.blocks8", config.synthesis_blocks[1], config.width8, 4)
    head = _synthesis_head(b)
    branch = b.varying(h, "synthesis.head", (192, config.width8, 1, 1), head, 4)
    trust = spread(b.graph, b.node("Concat", *[trust] * 4, axis=1))

    x = b.node("Add", linear, b.node("Mul", branch, trust))
    # Rounded half to even and limited to 0 to 255.
    x = b.node("QuantizeLinear", x, b.number(1), b.graph.constant(np.array(0, dtype=np.uint8)))
    b.graph.output(
        b.node("Transpose", x, perm=(0, 2, 3, 1)), "pixels", "uint8", ("B", "H", "W", 192)
    )
    return b.finished()


def _synthesis_head(b: Builder) -> Callable[[FoldedCondition], tuple[Array, Array]]:
    """The last convolution of the branch and the DCT behind it, in one."""
    deviation8 = b.tensor("basis.deviation8").astype(np.float64)
    deviation16 = b.tensor("basis.deviation16").astype(np.float64)
    basis8 = _basis(HALF).T.astype(np.float64) / PIXEL_UNIT
    weight, bias = b.tensor("synthesis.head.weight"), b.tensor("synthesis.head.bias")

    def at(condition: FoldedCondition) -> tuple[Array, Array]:
        typical = np.exp(np.mean(np.log(condition.step) + np.log(deviation16)))
        scaled = basis8 * (deviation8 * typical / (deviation8 + typical))
        folded = (scaled @ weight[..., 0, 0])[..., None, None]
        return folded.astype(np.float32), (scaled @ bias).astype(np.float32)

    return at


def _basis(size: int) -> NDArray[np.float32]:
    """The DCT with its columns in the order (row, column, colour)."""
    basis = block_basis(size).reshape(-1, 3, size * size)
    return basis.transpose(0, 2, 1).reshape(3 * size**2, 3 * size**2)


def _features(b: Builder) -> Value:
    """int16 "z" (B, hyper, t, s), at the positions from int64 "start" to "stop" (row, column)."""
    config = b.config
    z = b.graph.input("z", "int16", ("B", config.hyper, "t", "s"))
    start, stop = (b.graph.input(name, "int64", (2,)) for name in ("start", "stop"))
    h = b.node("Mul", b.graph.cast(z, "float32"), b.number(HYPER_GAIN))
    h = b.leaky(b.shuffled(h, "mean_path.up1", 1 / 16))
    h = b.leaky(b.conv(h, "mean_path.mix1", 1 / 4, pads=AROUND))
    h = b.leaky(b.shuffled(h, "mean_path.up2", 1 / 4))
    h = b.leaky(b.conv(h, "mean_path.mix2", pads=AROUND))
    h = b.node("Slice", h, start, stop, b.integers(2, 3))
    return b.leaky(b.conditioned_conv(h, "mean_path.out"))


def _local_steps(b: Builder, features: Value) -> Value:
    """By how much steps are multiplied, (B, 768, h, w)."""
    if len(b.config.dials) > 1:
        share = b.per_channel("local share", 1, lambda c: _local_share(c.conditioning))
        features = b.node("Mul", features, share)
    exponent = b.product(features, b.tensor("local_steps.conv.weight"))
    return b.node("Exp", b.clip(exponent, -LOCAL_LIMIT, LOCAL_LIMIT))


def _local_share(conditioning: Conditioning) -> NDArray[np.float64]:
    """How much of their logarithm local steps differ by there, of weights with a second dial."""
    return np.minimum(1, np.array([conditioning.positions[1]]) / LOCAL_FROM)


def _passes(
    b: Builder,
    symbols_at: Callable[[Value, tuple[int, int], Value | None], Value],
    size_at: Callable[[Conditioning], float] = lambda _: 1.0,
) -> tuple[Value, list[Value]]:
    """The context passes; gives y_hat, and for every pass its symbols, zero where it has none.

    Symbols are multiples of so many steps as `size_at` gives at a conditioning. `symbols_at` is
    given means, the channels they are for, and by how much steps are multiplied, if they are.

    Takes float32 "pass k" (1, core, h, w), 1 for what each of them decodes and 0 for all else.
    """
    config, features = b.config, _features(b)
    step = b.per_channel("step", LATENT_CHANNELS, lambda c: c.step * size_at(c.conditioning))
    core, detail = (0, config.core), (config.core, LATENT_CHANNELS)
    local = _local_steps(b, features) if config.local_steps else None

    def sizes(part: tuple[int, int]) -> tuple[Value, Value | None]:
        """What symbols are multiples of, and by how much steps are."""
        size = b.channels(step, *part)
        if local is None:
            return size, None
        factor = b.channels(local, *part)
        return b.node("Mul", factor, size), factor

    size, factor = sizes(core)
    y_hat: Value | None = None
    each = []
    for number in range(config.context_passes):
        mask = b.graph.input(f"pass {number}", "float32", (1, config.core, "h", "w"))
        mean = _means(b, f"context.passes.{number}", features, y_hat)
        each.append(b.node("Mul", symbols_at(mean, core, factor), mask))
        # Products and sums: to choose by Where takes four times as long.
        decoded = b.node("Mul", b.node("Add", mean, b.node("Mul", each[-1], size)), mask)
        y_hat = decoded if y_hat is None else b.node("Add", y_hat, decoded)
    mean = _means(b, "context.detail", features, y_hat)
    size, factor = sizes(detail)
    each.append(symbols_at(mean, detail, factor))
    decoded = b.node("Add", mean, b.node("Mul", each[-1], size))
    assert y_hat is not None
    return b.node("Concat", y_hat, decoded, axis=1), each


def _means(b: Builder, name: str, features: Value, decoded: Value | None) -> Value:
    """Means predicted by one pass from the features and the latents decoded so far."""
    h = b.conditioned_conv(features, f"{name}.features")
    if decoded is not None:
        context = b.conv(b.limited(decoded), f"{name}.decoded", pads=AROUND)
        h = b.node("Add", context, h)
    h = b.blocks(h, f"{name}.blocks", b.config.context_blocks, b.config.context_width, 1)
    h = b.leaky(b.conv(b.leaky(h), f"{name}.mix"))
    return b.conv(h, f"{name}.out")


NETWORKS: dict[str, Callable[[Tensors, ModelConfig], Network]] = {
    "analysis": analysis,
    "hyper": hyper,
    "quantise": quantise,
    "quantise plainly": functools.partial(quantise, plain=True),
    "round trip": functools.partial(quantise, back=True),
    "round trip plainly": functools.partial(quantise, back=True, plain=True),
    "dequantise": dequantise,
    "features": features,
    "synthesis": synthesis,
}
