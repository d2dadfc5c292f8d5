"""Names and shapes of a model's float parameters, from its configuration alone. No torch here.

What network.py builds, as a list: a weights file can be checked, and its networks be built for
another runtime, where torch is not installed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from vrcodec.bitstream.grid import LATENT_CHANNELS
from vrcodec.conditional.dials import ANCHORS
from vrcodec.conditional.folding import HARMONICS
from vrcodec.errors import WeightsError
from vrcodec.model.config import ModelConfig

PREFIX = "model."
"""Of the names of float parameters in a weights file."""

Shape = tuple[int, ...]


class _Shapes(dict[str, Shape]):
    """Shapes by name, added layer by layer."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config

    def conv(self, name: str, inputs: int, outputs: int, side: int = 1, bias: bool = True) -> None:
        self[f"{name}.weight"] = (outputs, inputs, side, side)
        if bias:
            self[f"{name}.bias"] = (outputs,)

    def linear(self, name: str, inputs: int, outputs: int) -> None:
        self[f"{name}.weight"] = (outputs, inputs)
        self[f"{name}.bias"] = (outputs,)

    def conditioned(self, name: str, inputs: int, outputs: int) -> None:
        self.conv(name, inputs, outputs)
        if self.config.film_width:
            self.linear(f"{name}.film", self.config.film_width, 2 * outputs)

    def table(self, name: str, channels: int) -> None:
        self[f"{name}.values"] = (self.config.coefficients, ANCHORS, channels)

    def blocks(self, name: str, count: int, width: int) -> None:
        for block in (f"{name}.{number}" for number in range(count)):
            self.conditioned(f"{block}.mix_in", width, width)
            self.conv(f"{block}.depthwise", 1, width, 3)
            self.conv(f"{block}.mix_out", width, width)
            self.conditioned(f"{block}.expand", width, 2 * width)
            self.conv(f"{block}.contract", 2 * width, width)

    def correction(self, name: str) -> None:
        if self.config.learned_linear:
            self[f"{name}.linear.correction"] = (LATENT_CHANNELS, LATENT_CHANNELS)


def float_shapes(config: ModelConfig) -> dict[str, Shape]:
    """Shape of every float parameter by name; those of the scale path are integers instead."""
    shapes = _Shapes(config)
    shapes["basis.deviation8"], shapes["basis.deviation16"] = (192,), (LATENT_CHANNELS,)
    if width := config.film_width:
        shapes.linear("conditioning.hidden", config.coefficients * (1 + HARMONICS), width)
        shapes.linear("conditioning.out", width, width)
    shapes.table("log_step", LATENT_CHANNELS)
    shapes.table("hyper_prior.mean", config.hyper)
    shapes.table("hyper_prior.log_scale", config.hyper)
    _transforms(shapes, config)
    _hyper(shapes, config)
    _context(shapes, config)
    return dict(shapes)


def _transforms(shapes: _Shapes, config: ModelConfig) -> None:
    width8, width16 = config.width8, config.width16
    shapes.correction("analysis")
    shapes.correction("synthesis")
    analysis8, analysis16 = config.analysis_blocks
    synthesis16, synthesis8 = config.synthesis_blocks
    shapes.blocks("analysis.blocks8", analysis8, width8)
    shapes.blocks("analysis.blocks16", analysis16, width16)
    shapes.blocks("synthesis.blocks16", synthesis16, width16)
    shapes.blocks("synthesis.blocks8", synthesis8, width8)
    shapes.conv("analysis.stem", 192, width8)
    shapes.conv("analysis.down", width8, width16, 2)
    shapes.conv("analysis.head", width16, config.core)
    shapes.conv("synthesis.stem", LATENT_CHANNELS, width16)
    shapes.conv("synthesis.up", width16, 4 * width8)
    shapes.conv("synthesis.head", width8, 192)


def _hyper(shapes: _Shapes, config: ModelConfig) -> None:
    width = config.hyper_width
    shapes.conditioned("hyper_analysis.squeeze", config.core + LATENT_CHANNELS, width)
    shapes.conv("hyper_analysis.down1", width, width, 3)
    shapes.conditioned("hyper_analysis.mix", width, width)
    shapes.conv("hyper_analysis.down2", width, config.hyper, 3)
    shapes.conv("mean_path.up1", config.hyper, 4 * width)
    shapes.conv("mean_path.mix1", width, width, 3)
    shapes.conv("mean_path.up2", width, 4 * width)
    shapes.conv("mean_path.mix2", width, width, 3)
    shapes.conditioned("mean_path.out", width, config.context_width)
    if config.local_steps:
        shapes.conv("local_steps.conv", config.context_width, LATENT_CHANNELS, bias=False)


def _context(shapes: _Shapes, config: ModelConfig) -> None:
    width, core = config.context_width, config.core
    passes = [(f"passes.{number}", number > 0, core) for number in range(config.context_passes)]
    for part, has_context, outputs in [*passes, ("detail", True, LATENT_CHANNELS - core)]:
        name = f"context.{part}"
        shapes.conditioned(f"{name}.features", width, width)
        if has_context:
            shapes.conv(f"{name}.decoded", core, width, 3, bias=False)
        shapes.blocks(f"{name}.blocks", config.context_blocks, width)
        shapes.conv(f"{name}.mix", width, width + width // 2)
        shapes.conv(f"{name}.out", width + width // 2, outputs)


def checked(tensors: Mapping[str, NDArray[Any]], config: ModelConfig) -> dict[str, NDArray[Any]]:
    """The float parameters of a weights file, by their names in the model.

    Raises:
        WeightsError: one is missing, superfluous or of the wrong shape.
    """
    expected = float_shapes(config)
    present = {n.removeprefix(PREFIX): t for n, t in tensors.items() if n.startswith(PREFIX)}
    for name in sorted(expected.keys() | present.keys()):
        shape = present[name].shape if name in present else None
        if shape != expected.get(name):
            raise WeightsError(f"{name}: shape {shape}, expected {expected.get(name)}")
    return present
