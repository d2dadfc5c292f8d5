"""A picture with a target or an effort: tried at several places of the dial before it is coded."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from vrcodec.bitstream.container import unpack
from vrcodec.bitstream.extras import stored_bytes
from vrcodec.codec import targets
from vrcodec.codec.networks import Search
from vrcodec.codec.pipeline import Pipeline
from vrcodec.codec.settings import Encoded, EncodeSettings
from vrcodec.conditional.dials import TUNE, Conditioning, Dials
from vrcodec.errors import TargetError
from vrcodec.extras import require
from vrcodec.pictures import CodedPicture, from_coded
from vrcodec.pictures.metrics import squared_error


def encode_alone(pipeline: Pipeline, picture: CodedPicture, settings: EncodeSettings) -> Encoded:
    """The file of a picture by settings with a target, an effort, or both.

    Where a fidelity is out of reach with the second dial at the end that is for it, the dial's
    default is tried as well: it goes further.

    Raises:
        TargetError: the target cannot be reached.
        DialError: the model has no such dial, or it no such position.
    """
    start = settings.conditioning(pipeline.dials)
    default = dataclasses.replace(settings, target=None).conditioning(pipeline.dials)
    if default == start:
        return _encode_from(pipeline, picture, settings, start)
    try:
        found = _encode_from(pipeline, picture, settings, start)
    except TargetError:
        return _encode_from(pipeline, picture, settings, default)
    return found if found.reached else _encode_from(pipeline, picture, settings, default)


def _encode_from(
    pipeline: Pipeline, picture: CodedPicture, settings: EncodeSettings, start: Conditioning
) -> Encoded:
    """`encode_alone` with the dials where `start` is, but for the quality of a target."""
    target = settings.target

    def plain(at: Conditioning) -> bytes:
        return pipeline.files([picture], at)[0]

    def refined(at: Conditioning) -> bytes:
        return _refined(pipeline, picture, at, settings.effort)

    def shown(data: bytes) -> NDArray[np.uint8]:
        pixels = _pixels(pipeline, data)
        return np.asarray(from_coded(pixels, picture.grey, {}).convert("RGB"))

    if not target:
        return Encoded(refined(start) if settings.effort else plain(start), start)
    height, width = picture.pixels.shape[:2]
    return targets.encode_to_goal(
        targets.Goal.of(target, width * height, stored_bytes(picture.extras)),
        start,
        plain,
        lambda data: targets.achieved(target.measure, data, picture.pixels, shown),
        settings.best_effort,
        refined if settings.effort else None,
    )


def _refined(pipeline: Pipeline, picture: CodedPicture, at: Conditioning, effort: int) -> bytes:
    """A file whose latents were looked for with an effort, at the price that errors have there."""
    price, share = error_price(pipeline, picture, at), perceptual_share(pipeline.dials, at)
    refine = pipeline.networks.refiner(at, Search(effort, price, share))
    return pipeline.files([picture], at, refine=refine)[0]


def error_price(pipeline: Pipeline, picture: CodedPicture, at: Conditioning) -> float:
    """`targets.price_of_error` of a picture: bits for an error less by one squared 8-bit level.

    The error is the one that the dials stand for (`perceptual_share`).
    """
    bare = dataclasses.replace(picture, extras={})
    share = perceptual_share(pipeline.dials, at)

    def measure(near: Conditioning) -> tuple[float, float]:
        (data,) = pipeline.files([bare], near)
        return 8 * len(data), coded_error(picture.pixels, _pixels(pipeline, data), share)

    # lambda is the price of the mean over three samples per pixel
    return targets.price_of_error(measure, at, pipeline.dials.coefficients(at.positions)[0] / 3)


def perceptual_share(dials: Dials, at: Conditioning) -> float:
    """Share of a perceptual error in the distortion there: 0 without a second dial, or at its 0."""
    positions, coefficients = dials.positions(at), dials.coefficients(at.positions)
    if not positions.get(TUNE):
        return 0.0
    weight = dict(zip(dials.names, coefficients, strict=True))[TUNE]
    return weight / (1 + weight)


def coded_error(pixels: NDArray[np.uint8], decoded: NDArray[np.uint8], share: float) -> float:
    """`refinement.SummedError` of pictures (H, W, 3)."""
    if not share:
        return squared_error(pixels, decoded)
    require("torch")
    import torch

    from vrcodec.codec.refinement import SummedError, pieces
    from vrcodec.model.isolation import isolated

    with isolated(torch.device("cpu")):
        x, x_hat = (torch.tensor(of).permute(2, 0, 1)[None] for of in (pixels, decoded))
        return sum(
            float(SummedError(of_x / 255, share)(of_hat / 255))
            for of_hat, of_x in zip(pieces(x_hat), pieces(x), strict=True)
        )


def _pixels(pipeline: Pipeline, data: bytes) -> NDArray[np.uint8]:
    """The pixels of a file, (H, W, 3)."""
    return pipeline.decoded([unpack(data)])[0]
