"""Training a style: a picture of it and folders of pictures in, a run with its weights out."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vrcodec.errors import VrcodecError
from vrcodec.pictures import read_pixels
from vrcodec.stylize.config import StyleConfig
from vrcodec.stylize.features import EfficientNetLite, Features, name_of
from vrcodec.stylize.network import StyleNet
from vrcodec.stylize.objective import StyleTransfer
from vrcodec.stylize.options import StyleOptions
from vrcodec.stylize.weights import load_style
from vrcodec.training.checkpoints import Checkpoint
from vrcodec.training.data import PictureStore
from vrcodec.training.folder import run_task


def train_style(
    picture: Path,
    folders: Sequence[Path],
    run: Path,
    given: Mapping[str, Any],
    *,
    config: StyleConfig | None = None,
    init: Path | None = None,
    resume: bool = False,
    features: Features | None = None,
    device: torch.device | None = None,
    visible: bool = False,
) -> bool:
    """Train a style on the pictures below `folders`, leaving everything in the folder `run`.

    Args:
        picture: the style.
        given: fields of `StyleOptions`; a resumed run keeps those that are not named.
        config: name and shape of the style; of a resumed run its own.
        init: weights of a style to begin with, of the same shape.
        features: what terms are measured in, the same when a run goes on; None:
            `EfficientNetLite`.
        device: the CPU, if nothing is said.
        visible: say on stderr what happens.

    Returns:
        False if it was interrupted and `resume` would go on.

    Raises:
        VrcodecError: a picture, the run's folder, an option or the features are wrong; one line.
    """
    measure = features or EfficientNetLite()

    def begin(found: Checkpoint[StyleOptions] | None, options: StyleOptions) -> StyleTransfer:
        shape = _described(found, measure) if found else config or StyleConfig("style")
        place = device or torch.device("cpu")
        if isinstance(measure, torch.nn.Module):
            measure.to(place)
        smallest = max(options.patch, options.final_patch)
        store = PictureStore(list(folders), smallest, place, visible and sys.stderr.isatty())
        if visible:
            print(store.summary(), file=sys.stderr, flush=True)
        style = style_picture(picture, options.style_side).to(place)
        initial = begun(init, shape) if init and not found else None
        return StyleTransfer(shape, style, store, measure, options.seed, options.held, initial)

    return run_task(
        begin,
        run,
        given,
        StyleOptions,
        resume=resume,
        device=device,
        sources={
            "pictures": [str(path.absolute()) for path in folders],
            "features": [name_of(measure)],
        },
        visible=visible,
    )


def style_picture(path: Path, side: int) -> Tensor:
    """A style picture, (3, h, w) in [0, 1], its shorter side as said. Raises PictureError."""
    picture = Image.fromarray(read_pixels(path, str(path)))
    scale = side / min(picture.size)
    width, height = (max(side, round(length * scale)) for length in picture.size)
    pixels = np.asarray(picture.resize((width, height), Image.Resampling.LANCZOS))
    return torch.from_numpy(pixels.transpose(2, 0, 1).copy()).float() / 255


def begun(path: Path, config: StyleConfig) -> StyleNet:
    """A network that begins as another style's.

    Raises:
        VrcodecError: it cannot be read, or is of another shape.
    """
    known = load_style(path)
    if dataclasses.replace(known.config, name=config.name, credit=config.credit) != config:
        raise VrcodecError(f"{path}: of another shape, or with other dials")
    network = StyleNet(config)
    network.load_state_dict(known.state_dict())
    return network


def _described(found: Checkpoint[StyleOptions], features: Features) -> StyleConfig:
    """The style of a run that goes on with features.

    Raises:
        VrcodecError: it is no style, or was measured in others.
    """
    known = found.sources.get("features", [])
    if known and known != [name_of(features)]:
        raise VrcodecError(f"{found.path}: trained with the features {', '.join(known)!r:.80}")
    try:
        return StyleConfig.from_json(found.config)
    except ValueError:
        raise VrcodecError(f"{found.path}: not a checkpoint of a style") from None
