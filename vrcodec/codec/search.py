"""A picture with a target or an effort: tried at several places of the dial before it is coded."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from vrcodec.bitstream.container import unpack
from vrcodec.codec import targets
from vrcodec.codec.networks import Search
from vrcodec.codec.pipeline import Pipeline
from vrcodec.codec.settings import Encoded, EncodeSettings
from vrcodec.conditional.dials import Conditioning
from vrcodec.pictures import CodedPicture, from_coded
from vrcodec.pictures.metrics import squared_error


def encode_alone(pipeline: Pipeline, picture: CodedPicture, settings: EncodeSettings) -> Encoded:
    """The file of a picture by settings with a target, an effort, or both.

    Raises:
        TargetError: the target cannot be reached.
        DialError: the model has no such dial, or it no such position.
    """
    target, start = settings.target, settings.conditioning(pipeline.dials)

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
        targets.Goal.of(target, width * height, sum(map(len, picture.extras.values()))),
        start,
        plain,
        lambda data: targets.achieved(target.measure, data, picture.pixels, shown),
        settings.best_effort,
        refined if settings.effort else None,
    )


def _refined(pipeline: Pipeline, picture: CodedPicture, at: Conditioning, effort: int) -> bytes:
    """A file whose latents were looked for with an effort, at the price that errors have there."""
    price = error_price(pipeline, picture, at)
    refine = pipeline.networks.refiner(at, Search(effort, price))
    return pipeline.files([picture], at, refine=refine)[0]


def error_price(pipeline: Pipeline, picture: CodedPicture, at: Conditioning) -> float:
    """`targets.price_of_error` of a picture: bits for one squared error less."""
    bare = dataclasses.replace(picture, grey=False, extras={})

    def measure(near: Conditioning) -> tuple[float, float]:
        (data,) = pipeline.files([bare], near)
        return 8 * len(data), squared_error(picture.pixels, _pixels(pipeline, data))

    # lambda is the price of the mean over three samples per pixel
    return targets.price_of_error(measure, at, pipeline.dials.coefficients(at.positions)[0] / 3)


def _pixels(pipeline: Pipeline, data: bytes) -> NDArray[np.uint8]:
    """The pixels of a file, (H, W, 3)."""
    return pipeline.decoded([unpack(data)])[0]
