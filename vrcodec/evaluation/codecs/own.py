"""Our codec as an evaluation uses it: one quality at a time, everything else fixed."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image

from vrcodec import pictures
from vrcodec.bitstream.container import unpack
from vrcodec.codec.codec import Codec
from vrcodec.codec.settings import EncodeSettings
from vrcodec.conditional.dials import QUALITY, Dial, Dials

NAME = "vrcodec"
"""What our own codec is called among the others."""


class OwnCodec:
    """A `Codec` with settings.

    Args:
        weights, device, max_pixels: as for `Codec`.
        settings: how to code, but for the quality.
        threads: to compute with, by default what is set.

    Raises:
        VrcodecError: the weights are missing or broken, or lack a dial of the settings.
    """

    def __init__(
        self,
        weights: Path | None,
        device: str,
        max_pixels: int = pictures.MAX_PIXELS,
        settings: EncodeSettings | None = None,
        threads: int | None = None,
    ) -> None:
        if threads is not None:
            torch.set_num_threads(threads)
        self.codec = Codec(weights, device, max_pixels)
        self.settings = settings or EncodeSettings()
        self.settings.conditioning(self.dials)

    @property
    def dials(self) -> Dials:
        """What can be chosen with these weights."""
        ranges = self.codec.weights.config.lambda_ranges
        names = (QUALITY, "second")
        return Dials(tuple(Dial(name, *ends) for name, ends in zip(names, ranges, strict=False)))

    def prepare(self, quality: float) -> None:
        """Nothing to load."""

    def encode(self, image: Image.Image, quality: float) -> bytes:
        """The contents of a .vrc file."""
        where = self.settings.at_quality(quality).conditioning(self.dials)
        picture = pictures.to_coded(image)
        return self.codec.encode_picture(picture, where.values, self.settings.effort)

    def decode(self, data: bytes) -> Image.Image:
        """The RGB picture in a file."""
        return self.codec.decode(data).convert("RGB")

    def estimate(self, data: bytes) -> float:
        """Ideal code length of the latents in bytes, under the weights' tables."""
        stream = unpack(data)
        return (
            self.codec.estimate_bits(self.codec.read_latents(stream), stream.header.conditioning)
            / 8
        )
