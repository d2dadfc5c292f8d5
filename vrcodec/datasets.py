"""Folders and shards of .vrc files as training data: for PyTorch's DataLoader and for webdataset.

Every process that reads, and so every worker of a DataLoader, loads the model once and computes
with one thread, whatever way it was started. A dataset itself holds nothing but names, so that it
travels to workers in an instant.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset

from vrcodec.batch import CODED, list_folder, storage
from vrcodec.codec.shared import shared_codec
from vrcodec.errors import VrcodecError, naming

Transform = Callable[[Image.Image], Any]
"""What becomes of a decoded picture before it leaves a dataset."""


def to_tensor(picture: Image.Image) -> torch.Tensor:
    """A picture as uint8 (3, height, width): RGB, without alpha."""
    return torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1).contiguous()


class VrcFolder(Dataset[Any]):
    """All .vrc files below a folder, in the order of their names, for `DataLoader`.

    Args:
        folder: a path or an fsspec URL; links to folders in it are not followed.
        transform: what each picture goes through; None: pictures stay Pillow's. With workers that
            are not forked it has to be picklable: a function of a module, no lambda.
        include: shell patterns of which a file's name, or its path below `folder` for those with
            a /, must match one, if there are any.
        exclude: shell patterns of which it must match none.
        reduce, weights, device, runtime, max_pixels: as for `vrcodec.decode`.
        threads: of each process; None: as many as suit each picture.

    Raises:
        VrcodecError: a folder cannot be read, or no file is left.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        transform: Transform | None = to_tensor,
        *,
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
        reduce: int = 1,
        weights: str | os.PathLike[str] | None = None,
        device: str = "cpu",
        threads: int | None = 1,
        runtime: str = "auto",
        max_pixels: int | None = None,
    ) -> None:
        name = storage.plain(os.fspath(folder))
        found = list_folder(name, name, CODED, "", include, exclude)
        if found.failures:
            raise VrcodecError(found.failures[0])
        if not found.tasks:
            raise VrcodecError(f"{storage.shown(name)}: no .vrc files")
        self.names = [task.source for task in found.tasks]
        self._transform, self._reduce = transform, reduce
        self._model = {"weights": weights, "device": device, "threads": threads}
        self._model |= {"runtime": runtime, "max_pixels": max_pixels}

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Any:
        """What the transform gives of a picture.

        Raises:
            IndexError: there are not so many.
            VrcodecError: the file cannot be read or decoded; the text begins with its name.
        """
        name = self.names[index]
        data = storage.read(name)
        with naming(storage.shown(name)):
            return _decoded(data, self._transform, self._reduce, self._model)


def webdataset_decoder(
    key: str,
    data: bytes,
    transform: Transform | None = to_tensor,
    reduce: int = 1,
    **model: Any,
) -> Any:
    """Decodes what is called .vrc in a shard: `WebDataset(...).decode(webdataset_decoder)`.

    Args:
        key: extension of a file in the shard; of another one nothing is made.
        data: its contents.
        transform: what the picture goes through; None: it stays Pillow's.
        reduce: as for `vrcodec.decode`.
        model: weights, device, threads, runtime, max_pixels; as for `VrcFolder`. These keywords
            are set with `functools.partial`.

    Raises:
        VrcodecError: it cannot be decoded.
    """
    if os.path.splitext(f"x{key}")[1].lower() not in CODED:
        return None
    return _decoded(data, transform, reduce, {"device": "cpu", "threads": 1} | model)


def _decoded(data: bytes, transform: Transform | None, reduce: int, model: dict[str, Any]) -> Any:
    picture = shared_codec(**model).decode(data, reduce)
    return picture if transform is None else transform(picture)
