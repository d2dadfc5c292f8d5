"""vrcodec: a variable-rate learned image codec, one model for every quality.

>>> data = vrcodec.encode(image, quality=0.3)   # a picture to the bytes of a .vrc file
>>> picture = vrcodec.decode(data)              # and back, as a Pillow picture

Nothing heavy is imported until it is used: `import vrcodec` and `vrcodec.info` need no torch.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from vrcodec.codec.settings import Encoded, EncodeSettings, Measure, Target
from vrcodec.codec.shared import shared_codec
from vrcodec.conditional.dials import Conditioning, Dial, Dials
from vrcodec.errors import (
    ArgumentError,
    CorruptError,
    DialError,
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
from vrcodec.watching import when_imported

if TYPE_CHECKING:
    from PIL import Image

    from vrcodec.codec.codec import Codec
    from vrcodec.codec.sources import FileSource, PictureSource
    from vrcodec.model.loading import load_model

__version__ = "0.1.0"
__all__ = [
    "ArgumentError",
    "Codec",
    "Conditioning",
    "CorruptError",
    "Dial",
    "DialError",
    "Dials",
    "EncodeSettings",
    "Encoded",
    "FormatError",
    "Measure",
    "NotVrcError",
    "OutOfMemoryError",
    "PictureError",
    "Target",
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
_LAZY = {"Codec": "vrcodec.codec.codec", "load_model": "vrcodec.model.loading"}
"""Names that need torch, and where they are."""


def encode(
    image: PictureSource,
    quality: float | None = None,
    effort: int = 0,
    *,
    preset: str | None = None,
    dials: Mapping[str, float] | None = None,
    target: Target | None = None,
    best_effort: bool = False,
    strip: bool = False,
    max_pixels: int | None = None,
    weights: str | os.PathLike[str] | None = None,
    device: str = "auto",
    threads: int | None = None,
    runtime: str = "auto",
    precision: str = "auto",
) -> bytes:
    """Compress a picture to the bytes of a .vrc file.

    The model is loaded once and kept for the next call, whatever thread that is in.

    Args:
        image: a Pillow picture of any mode; an array of uint8, (height, width) or (height, width,
            1 to 4); or a picture file: its path, its bytes, or a binary stream.
        quality: 0 (smallest) to 1 (best); by default what the weights say, 0.5.
        effort: 0 (fastest) to 9 (fewest bits at equal quality).
        preset: instead of a quality: "thumbnail", "web", "photo" or "archive".
        dials: positions of all dials by name, for weights that have more than the quality.
        target: a size or a fidelity instead of a quality.
        best_effort: take the nearest end of the dial where the target cannot be reached.
        strip: leave ICC profile, EXIF, XMP and resolution out.
        max_pixels: larger pictures are refused before anything is allocated for them; 200 million.
        weights: a weights file; by default the released one.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        threads: how many to compute with on a CPU; by default as many as suit the picture.
        runtime: what computes the networks: "auto", "onnx" or "torch".
        precision: of what need not be exact: "auto", "float32" or "bfloat16".

    Raises:
        PictureError: the picture cannot be read or coded.
        TargetError: the target cannot be reached.
        ArgumentError, DialError: a value is not one of those there are.
    """
    from vrcodec.codec.presets import chosen_quality

    codec = shared_codec(weights, device, threads, runtime, precision, max_pixels)
    quality = chosen_quality(quality, preset, weights)
    settings = EncodeSettings.of(quality, dials, target, best_effort, effort, strip)
    return codec.encode(image, settings)


def decode(
    data: FileSource,
    reduce: int = 1,
    *,
    max_pixels: int | None = None,
    weights: str | os.PathLike[str] | None = None,
    device: str = "auto",
    threads: int | None = None,
    runtime: str = "auto",
) -> Image.Image:
    """Decompress a .vrc file to a Pillow picture.

    Args:
        data: its contents, its path, or a binary stream.
        reduce: 2, 4 or 8 give the picture so many times smaller along each side, its size
            rounded up, for a part of the work.
        max_pixels, weights, device, threads, runtime: as for `encode`.

    Raises:
        FormatError: it is not a sound .vrc file.
        UnknownWeightsError: it was made with other weights.
        PictureError: it has too many pixels.
        ArgumentError: a value is not one of those there are.
    """
    codec = shared_codec(weights, device, threads, runtime, max_pixels=max_pixels)
    return codec.decode(data, reduce)


def info(data: FileSource) -> dict[str, Any]:
    """What a .vrc file says about itself, without decoding it.

    Args:
        data: its contents, its path, or a binary stream.

    Raises:
        FormatError: it is not a sound .vrc file.
        ArgumentError: it is nothing that could be a file.
    """
    from vrcodec.bitstream.container import MAGIC, describe
    from vrcodec.codec.sources import as_bytes, naming_source

    with naming_source(data):
        return describe(as_bytes(data, MAGIC))


def _register_format() -> None:
    from vrcodec import pillow

    assert pillow


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        import importlib

        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return ["__version__", *__all__]


when_imported("PIL.Image", _register_format)
