"""vrcodec: a variable-rate learned image codec, one model for every quality.

>>> data = vrcodec.encode(image, quality=0.3)   # a Pillow picture to the bytes of a .vrc file
>>> picture = vrcodec.decode(data)              # and back

Nothing heavy is imported until it is used: `import vrcodec` and `vrcodec.info` need no torch.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from vrcodec.errors import (
    CorruptError,
    FormatError,
    NotVrcError,
    OutOfMemoryError,
    PictureError,
    TargetError,
    TruncatedError,
    UnknownWeightsError,
    UnsupportedVersionError,
    VrcodecError,
    WeightsError,
)

if TYPE_CHECKING:
    from PIL import Image

    from vrcodec.codec.codec import Codec
    from vrcodec.model.loading import load_model

__version__ = "0.1.0"
__all__ = [
    "Codec",
    "CorruptError",
    "FormatError",
    "NotVrcError",
    "OutOfMemoryError",
    "PictureError",
    "TargetError",
    "TruncatedError",
    "UnknownWeightsError",
    "UnsupportedVersionError",
    "VrcodecError",
    "WeightsError",
    "decode",
    "encode",
    "info",
    "load_model",
]


def encode(image: Image.Image, quality: float = 0.5, effort: int = 0) -> bytes:
    """Compress a Pillow picture to the bytes of a .vrc file, with the released weights.

    Args:
        image: a picture of any mode.
        quality: 0 (smallest) to 1 (best).
        effort: 0 (fastest) to 9 (fewest bits at equal quality).

    Raises:
        PictureError: the picture cannot be coded.
        ValueError: quality is not in [0, 1], or effort not one of 0 to 9.
    """
    return _shared_codec().encode(image, quality, effort=effort)


def decode(data: bytes) -> Image.Image:
    """Decompress the bytes of a .vrc file to a Pillow picture. Raises FormatError."""
    return _shared_codec().decode(data)


def info(data: bytes) -> dict[str, Any]:
    """What a .vrc file says about itself, without decoding it. Raises FormatError."""
    from vrcodec.bitstream.container import describe

    return describe(data)


@functools.cache
def _shared_codec() -> Codec:
    from vrcodec.codec.codec import Codec

    return Codec()


def __getattr__(name: str) -> Any:
    if name == "Codec":
        from vrcodec.codec.codec import Codec

        return Codec
    if name == "load_model":
        from vrcodec.model.loading import load_model

        return load_model
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
