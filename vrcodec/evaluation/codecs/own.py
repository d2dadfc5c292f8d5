"""Our codec as an evaluation uses it: one quality at a time, everything else fixed."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from vrcodec import pictures
from vrcodec.bitstream.container import unpack
from vrcodec.codec.codec import Codec
from vrcodec.codec.settings import EncodeSettings
from vrcodec.conditional.dials import Dials

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
        self.codec = Codec(weights, device, max_pixels, threads=threads)
        self.settings = settings or EncodeSettings()
        self.settings.conditioning(self.codec.dials)

    @property
    def dials(self) -> Dials:
        """What can be chosen with these weights."""
        return self.codec.dials

    def prepare(self, quality: float) -> None:
        """Nothing to load."""

    def encode(self, image: Image.Image, quality: float) -> bytes:
        """The contents of a .vrc file."""
        return self.codec.encode(image, self.settings.at_quality(quality))

    def decode(self, data: bytes) -> Image.Image:
        """The RGB picture in a file."""
        return self.codec.decode(data).convert("RGB")

    def estimate(self, data: bytes) -> float:
        """Ideal code length of the latents in bytes, under the weights' tables."""
        stream, pipeline = unpack(data), self.codec.pipeline
        latents = pipeline.read_latents(stream)
        return pipeline.estimate_bits(latents, stream.header.conditioning) / 8
