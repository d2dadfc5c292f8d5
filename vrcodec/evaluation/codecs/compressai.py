"""CompressAI both ways: its zoo's models as codecs to compare with, our weights in its tools.

This and `torchvision_shim` are the only places that know compressai. Importing it takes seconds, so
that happens on use. ::

    vrcodec eval DIR --compare mbt2018-mean:3                  one model of the zoo
    vrcodec eval DIR --compare mbt2018-mean,cheng2020-anchor   every quality of two
    python -m vrcodec.evaluation.codecs.compressai DIR -q 1,6,11   our weights in its eval_model

The zoo's weights are downloaded on their first use, to where torch.hub keeps such files
($TORCH_HOME/hub/checkpoints), and may be put there by hand.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib
import socket
import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from vrcodec.errors import VrcodecError, reason
from vrcodec.evaluation.torchvision_shim import ensure_torchvision_operators

_QUALITIES = {
    "bmshj2018-factorized": 8,
    "bmshj2018-hyperprior": 8,
    "mbt2018-mean": 8,
    "mbt2018": 8,
    "cheng2020-anchor": 6,
    "cheng2020-attn": 6,
}
_PERCEPTUAL = "-ms-ssim"
FAMILIES = {
    name + loss: tuple(range(1, best + 1))
    for loss in ("", _PERCEPTUAL)
    for name, best in _QUALITIES.items()
}
"""The zoo's image models that there are weights for, and their qualities; those trained for MS-SSIM
have that behind their names."""
OWN_POSITIONS = 11
"""Our dial as qualities of the zoo's kind: 1 to 11 for 0, 0.1 ... 1."""

_SIDE = 64
"""Sides are filled up to a multiple of this, as CompressAI's own tool does."""
_HEAD = struct.Struct(">BHHB")
"""Quality, width, height, number of strings."""
_LENGTH = struct.Struct(">I")
_WAIT = 20
"""Seconds without an answer after which a download is given up."""

Networks = Callable[[str, int], Any]
"""Gives the network of a family and quality, ready to code."""


def family(name: str) -> str:
    """What `NAME:QUALITY` names, without the quality."""
    return name.partition(":")[0]


@dataclasses.dataclass(frozen=True)
class ZooCodec:
    """A model of CompressAI's zoo, on the CPU.

    A file is its strings behind quality, width and height, and the lengths of all but the last.

    Attributes:
        name: of the family, one of `FAMILIES`.
        scale: its qualities.
        networks: where they come from, if not from the zoo.
        threads: for torch, by default what is set.
    """

    name: str
    scale: tuple[int, ...]
    networks: Networks | None = None
    threads: int | None = None
    mime: None = None

    @classmethod
    def of(cls, name: str, wanted: Sequence[str]) -> ZooCodec:
        """A family at the qualities that `NAME`, `NAME:Q` or `NAME:Q+Q` ask for.

        Raises:
            VrcodecError: it has no such quality.
        """
        known = FAMILIES[name]
        found: set[int] = set()
        for text in wanted:
            _, colon, numbers = text.partition(":")
            try:
                qualities = {int(number) for number in numbers.split("+")} if colon else set(known)
            except ValueError:
                qualities = set()
            if not qualities or not qualities <= set(known):
                raise VrcodecError(f"{text}: {name} has qualities {known[0]} to {known[-1]}")
            found |= qualities
        return cls(name, tuple(sorted(found)))

    @property
    def spec(self) -> str:
        """Names it and its qualities."""
        if self.scale == FAMILIES[self.name]:
            return self.name
        return f"{self.name}:{'+'.join(map(str, self.scale))}"

    @property
    def title(self) -> str:
        """What people call it."""
        return self.name

    @property
    def settings(self) -> str:
        """What is not left to chance."""
        return "weights of CompressAI's zoo, range coder of CompressAI, on the CPU"

    @property
    def library(self) -> str:
        """Which versions do the work."""
        return f"compressai {_compressai().__version__}, torch {torch.__version__}"

    @property
    def qualities(self) -> tuple[float, ...]:
        """All of the scale."""
        return self.scale

    def check(self) -> None:
        """Raise VrcodecError where compressai is missing, or weights cannot be had."""
        _compressai()
        if self.networks is None:
            for quality in self.scale:
                _weights_file(self.name, quality)

    def with_threads(self, threads: int) -> ZooCodec:
        """The same with so many threads."""
        return dataclasses.replace(self, threads=threads)

    def prepare(self, quality: float) -> None:
        """Load the network of a quality."""
        self._network(round(quality))

    def estimate(self, data: bytes) -> None:
        """Not asked for."""

    def encode(self, image: Image.Image, quality: float) -> bytes:
        """The bytes of a file for an RGB picture."""
        network = self._network(round(quality))
        pixels, _ = _padded(_tensor(image))
        with torch.no_grad(), _threads(self.threads):
            strings = [string for (string,) in network.compress(pixels)["strings"]]
        head = _HEAD.pack(round(quality), *image.size, len(strings))
        lengths = b"".join(_LENGTH.pack(len(string)) for string in strings[:-1])
        return head + lengths + b"".join(strings)

    def decode(self, data: bytes) -> Image.Image:
        """The RGB picture in a file that `encode` made."""
        quality, width, height, count = _HEAD.unpack_from(data)
        network = self._network(quality)
        at = _HEAD.size + _LENGTH.size * (count - 1)
        lengths = [length for (length,) in _LENGTH.iter_unpack(data[_HEAD.size : at])]
        strings = []
        for length in (*lengths, len(data)):
            strings.append([data[at : at + length]])
            at += length
        padded, unpad = _padded(torch.empty(1, 3, height, width))
        shape = [side // network.downsampling_factor for side in padded.shape[-2:]]
        with torch.no_grad(), _threads(self.threads):
            x_hat = network.decompress(strings, shape)["x_hat"]
        return _image(nn.functional.pad(x_hat, unpad))

    def _network(self, quality: int) -> Any:
        return (self.networks or pretrained)(self.name, quality)


@functools.lru_cache
def pretrained(name: str, quality: int) -> nn.Module:
    """A network of the zoo with its weights, ready to code. Raises VrcodecError."""
    _compressai()
    from compressai.zoo import image, load_state_dict

    file = _weights_file(name, quality)
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
        architecture = image.model_architectures[name.removesuffix(_PERCEPTUAL)]
        network = architecture.from_state_dict(load_state_dict(state))
    except Exception as error:
        # What a broken file does is anything: unpickling, missing keys, shapes.
        raise VrcodecError(f"{file}: holds no weights of {name}: {reason(error)[:80]}") from error
    network.update()
    ready: nn.Module = network.eval()
    return ready


def build(architecture: str, quality: int) -> nn.Module:
    """A network of CompressAI's zoo with random weights, in evaluation mode.

    Args:
        architecture: a name in CompressAI's zoo of image models, e.g. "mbt2018-mean".
        quality: the zoo's quality, 1 to 8 (1 to 6 for cheng2020); it decides the widths.

    Raises:
        ValueError: unknown architecture or quality.
        VrcodecError: compressai is not installed.
    """
    _compressai()
    from compressai.zoo import image_models

    if architecture not in image_models:
        known = ", ".join(sorted(image_models))
        raise ValueError(f"unknown architecture {architecture!r}, known are {known}")
    network: nn.Module = image_models[architecture](quality=quality, pretrained=False)
    return network.eval()


class VrcodecModel(nn.Module):
    """Our codec at one quality, as CompressAI's tools use a model: compress, decompress.

    Its only string is a whole .vrc file, so that rates count everything.

    Args:
        quality: 1 to `OWN_POSITIONS`, for 0 to 1 on the dial.
        weights: a weights file; by default the released one.

    Raises:
        ValueError: quality is something else.
    """

    def __init__(self, quality: int, weights: Path | None = None) -> None:
        from vrcodec.evaluation.codecs.own import OwnCodec

        super().__init__()
        if quality not in range(1, OWN_POSITIONS + 1):
            raise ValueError(f"quality {quality} is not one of 1 to {OWN_POSITIONS}")
        self.position = (quality - 1) / (OWN_POSITIONS - 1)
        self.codec = OwnCodec(weights, "cpu")
        self.place = nn.Parameter(torch.empty(0))  # the tools ask a parameter for its device

    def compress(self, x: Tensor) -> dict[str, Any]:
        """Pictures (B, 3, H, W) in [0, 1] to files: `strings` and `shape`, rows and columns."""
        files = [self.codec.encode(_image(one[None]), self.position) for one in x]
        return {"strings": [files], "shape": tuple(x.shape[-2:])}

    def decompress(
        self, strings: Sequence[Sequence[bytes]], shape: Sequence[int]
    ) -> dict[str, Any]:
        """Files to pictures, `x_hat` (B, 3, H, W) in [0, 1]."""
        (files,) = strings
        x_hat = torch.cat([_tensor(self.codec.decode(file)) for file in files])
        return {"x_hat": x_hat[..., : shape[0], : shape[1]]}


def register(weights: Path | None = None) -> None:
    """Make our codec known to CompressAI as the model "vrcodec".

    Args:
        weights: a weights file; by default the released one.

    Raises:
        VrcodecError: compressai is not installed.
    """
    _compressai()
    from compressai import zoo
    from compressai.registry import register_model

    def model(
        quality: int, metric: str = "mse", pretrained: bool = True, progress: bool = True
    ) -> VrcodecModel:
        del metric, pretrained, progress
        return VrcodecModel(quality, weights)

    register_model("vrcodec")(VrcodecModel)
    zoo.image_models["vrcodec"] = model


@click.command(context_settings={"ignore_unknown_options": True})
@click.option("--weights", metavar="FILE", type=click.Path(path_type=Path), help="Our weights.")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, required=True)
def main(weights: Path | None, arguments: tuple[str, ...]) -> None:
    """Evaluate our weights with CompressAI's eval_model, to which ARGUMENTS go: DIR -q 1,6,11."""
    try:
        register(weights)
        eval_model = importlib.import_module("compressai.utils.eval_model.__main__")
        eval_model.main(["pretrained", *arguments, "-a", "vrcodec"])
    except VrcodecError as error:
        raise click.ClickException(str(error)) from error


def _compressai() -> Any:
    """The package. Raises VrcodecError, one line, where it cannot be imported."""
    try:
        ensure_torchvision_operators()
        return importlib.import_module("compressai")
    except ModuleNotFoundError as error:
        missing = (error.name or "compressai").partition(".")[0]
        raise VrcodecError(f"{missing} is not installed: pip install 'vrcodec[eval]'") from error
    except (ImportError, RuntimeError, AttributeError) as error:
        raise VrcodecError(f"compressai cannot be imported here: {reason(error)}") from error


def _weights_file(name: str, quality: int) -> Path:
    """Where a model's weights are on this machine, downloaded if need be. Raises VrcodecError."""
    from compressai.zoo import image

    architecture = name.removesuffix(_PERCEPTUAL)
    loss = "ms-ssim" if name.endswith(_PERCEPTUAL) else "mse"
    url = image.model_urls[architecture][loss][quality]
    file = Path(torch.hub.get_dir(), "checkpoints", url.rpartition("/")[2])
    if file.is_file():
        return file
    digest = file.name.rpartition("-")[2].partition(".")[0]
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_WAIT)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(file), digest, progress=False)
    except (OSError, RuntimeError) as error:
        inner = getattr(error, "reason", error)  # of urllib: an exception, or text
        why = reason(inner) if isinstance(inner, Exception) else str(inner)
        raise VrcodecError(
            f"{name}:{quality}: its weights cannot be had ({why}); put {url} into {file.parent}"
        ) from error
    finally:
        socket.setdefaulttimeout(before)
    return file


@contextlib.contextmanager
def _threads(number: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    if number is not None:
        torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _padded(pixels: Tensor) -> tuple[Tensor, tuple[int, int, int, int]]:
    """A picture with zeros around it up to multiples of 64, and what takes them away again."""
    height, width = pixels.shape[-2:]
    extra = (-height % _SIDE, -width % _SIDE)
    top, left = extra[0] // 2, extra[1] // 2
    pad = (left, extra[1] - left, top, extra[0] - top)
    left, right, top, bottom = (-side for side in pad)
    return nn.functional.pad(pixels, pad), (left, right, top, bottom)


def _tensor(image: Image.Image) -> Tensor:
    """(1, 3, H, W) in [0, 1] of an RGB picture."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)[None] / 255


def _image(x: Tensor) -> Image.Image:
    """The RGB picture of (1, 3, H, W) in [0, 1]."""
    pixels = (x[0].clamp(0, 1) * 255).round().to(torch.uint8)
    return Image.fromarray(pixels.permute(1, 2, 0).cpu().numpy())


if __name__ == "__main__":
    main()
