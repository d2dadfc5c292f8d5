"""Training pictures: decoded once into one uint8 tensor, cropped and augmented from there."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from vrcodec.errors import VrcodecError
from vrcodec.pictures import read_pixels
from vrcodec.pictures.formats import READ_SUFFIXES

MAX_WEIGHT_PIXELS = 1_000_000
"""A larger picture is not drawn more often than one of this many pixels."""


def find_pictures(folders: Sequence[Path]) -> list[Path]:
    """All picture files below the folders, sorted. Raises VrcodecError if there are none."""
    for folder in folders:
        if not folder.is_dir():
            raise VrcodecError(f"{folder}: no such folder")
    paths = sorted(
        path
        for folder in folders
        for path in folder.rglob("*")
        if path.suffix.lower() in READ_SUFFIXES and path.is_file()
    )
    if not paths:
        raise VrcodecError("no pictures in " + ", ".join(map(str, folders)))
    return paths


def load_rgb(path: Path) -> Tensor:
    """A picture as it is coded: uint8 (3, H, W), turned as EXIF says, without alpha.

    Raises:
        PictureError: it cannot be read.
    """
    pixels = read_pixels(path, str(path))
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))


class PictureStore:
    """Every training picture, decoded, in one flat uint8 tensor in RAM or GPU memory.

    Attributes:
        unreadable: what went wrong with each file that is no picture, in one line.
        small: how many pictures are left out, as a side of theirs is shorter than `min_side`.
    """

    def __init__(
        self, folders: Sequence[Path], min_side: int, device: torch.device, progress: bool = False
    ) -> None:
        self.unreadable: list[str] = []
        self.small = 0
        pictures = self._read(find_pictures(folders), min_side, progress)
        self.shapes = [(p.shape[1], p.shape[2]) for p in pictures]
        sizes = [p.numel() for p in pictures]
        self.offsets = np.concatenate([[0], np.cumsum(sizes)]).tolist()
        self.pixels = torch.empty(sum(sizes), dtype=torch.uint8, device=device)
        for offset in self.offsets[-2::-1]:
            flat = pictures.pop().reshape(-1)  # one copy less in memory with every step
            self.pixels[offset : offset + len(flat)] = flat.to(device)
        weight = np.minimum([h * w for h, w in self.shapes], MAX_WEIGHT_PIXELS).astype(float)
        self.probability = weight / weight.sum()

    def _read(self, paths: list[Path], min_side: int, progress: bool) -> list[Tensor]:
        def read(path: Path) -> Tensor | str:
            try:
                return load_rgb(path)
            except (VrcodecError, OSError, ValueError) as error:
                return str(error)

        pictures = []
        with ThreadPoolExecutor() as pool:
            bar = tqdm(
                pool.map(read, paths), total=len(paths), desc="pictures", disable=not progress
            )
            for found in bar:
                if isinstance(found, str):
                    self.unreadable.append(found)
                elif min(found.shape[1:]) < min_side:
                    self.small += 1
                else:
                    pictures.append(found)
        if not pictures:
            raise VrcodecError(
                f"none of {len(paths)} pictures could be read with sides of {min_side} or more"
            )
        return pictures

    def summary(self) -> str:
        """What was found, in one line."""
        line = f"{len(self)} pictures, {self.megapixels:.1f} megapixels"
        if self.small:
            line += f"; {self.small} too small"
        if self.unreadable:
            line += f"; {len(self.unreadable)} cannot be read, the first: {self.unreadable[0]}"
        return line

    @property
    def megapixels(self) -> float:
        """Million pixels of all pictures together."""
        return sum(h * w for h, w in self.shapes) / 1e6

    def __len__(self) -> int:
        return len(self.shapes)

    def picture(self, index: int) -> Tensor:
        """A view (3, H, W) of one picture."""
        flat = self.pixels[self.offsets[index] : self.offsets[index + 1]]
        return flat.view(3, *self.shapes[index])


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """What is done to the crops; every number is a probability unless said otherwise."""

    rescale: float = 0.4
    """Reduce by a factor from 1 to `reach`, the same in a batch (where the picture allows it)."""
    rescale_fine: float = 0.4
    """The same for a crop that is coded at the finest quality; in between, in proportion."""
    reach: float = 2.0
    """The largest factor of a reduction (no probability)."""
    grey: float = 0.05
    noise: float = 0.015
    """Blend with uniform noise, so that pictures unlike any photograph still code well."""
    synthetic: float = 0.01
    """Replace by a flat colour or a checkerboard."""


class CropSampler:
    """Draws batches of augmented square crops; all randomness comes from one generator.

    Crops are gathered and augmented a batch at a time, on the device that holds the store.
    """

    def __init__(self, store: PictureStore, augmentation: Augmentation, seed: int) -> None:
        self.store = store
        self.augmentation = augmentation
        self.rng = np.random.default_rng(seed)

    def batch(self, count: int, size: int, quality: NDArray[Any] | float = 0.0) -> Tensor:
        """Crops (count, 3, size, size), float in [0, 1].

        Args:
            quality: (count,), what each is to be coded at: pictures stored as JPEG have a floor of
                noise, which a finer quality sees and a reduction lowers.
        """
        rng, chance = self.rng, self.augmentation
        indices = rng.choice(len(self.store), size=count, p=self.store.probability)
        shapes = np.array(self.store.shapes)[indices]
        # One reach for the whole batch, so that it is reduced in one call.
        reach = int(size * rng.uniform(1, chance.reach))
        rescale = chance.rescale + quality * (chance.rescale_fine - chance.rescale)
        reduced = (rng.random(count) < rescale) & (shapes.min(axis=1) >= reach)
        crops = torch.empty(count, 3, size, size, device=self.store.pixels.device)
        for which, side in ((~reduced, size), (reduced, reach)):
            if not which.any():
                continue
            corners = rng.integers(shapes[which] - side + 1)
            part = self._gather(indices[which], corners, side, rng.random(which.sum()) < 0.5)
            part = part.float() / 255 if side == size else _reduced(part, size)
            crops[torch.from_numpy(which).to(crops.device)] = part
        return self._augment(crops, rng.random(count))

    def _gather(
        self, indices: NDArray[Any], corners: NDArray[Any], side: int, flip: NDArray[Any]
    ) -> Tensor:
        """Crops (n, 3, side, side), uint8, of pictures; corners (n, 2) at row and column."""
        if self.store.pixels.device.type == "cpu":
            crops = torch.empty(len(indices), 3, side, side, dtype=torch.uint8)
            for crop, index, (top, left), turned in zip(crops, indices, corners, flip, strict=True):
                seen = self.store.picture(index)[:, top : top + side, left : left + side]
                crop.copy_(seen.flip(-1) if turned else seen)
            return crops
        return self._gather_at_once(indices, corners, side, flip)

    def _gather_at_once(
        self, indices: NDArray[Any], corners: NDArray[Any], side: int, flip: NDArray[Any]
    ) -> Tensor:
        """The same in one operation, for devices where starting one is what takes time."""
        device = self.store.pixels.device
        shapes = np.array(self.store.shapes)[indices]
        start = np.array(self.store.offsets)[indices] + corners[:, 0] * shapes[:, 1] + corners[:, 1]
        first, plane, row = (
            torch.from_numpy(values.astype(np.int64)).to(device)[:, None, None, None]
            for values in (start, shapes.prod(axis=1), shapes[:, 1])
        )
        along = torch.arange(side, device=device)
        turned = torch.from_numpy(flip).to(device)[:, None, None, None]
        where = first + plane * torch.arange(3, device=device)[:, None, None]
        where = where + row * along[:, None] + torch.where(turned, side - 1 - along, along)
        return self.store.pixels[where]

    def _augment(self, crops: Tensor, draws: NDArray[Any]) -> Tensor:
        """Turn some crops grey, blend some with noise, replace some; in place."""
        rng, chance, size = self.rng, self.augmentation, crops.shape[-1]
        noisy, synthetic = chance.grey + chance.noise, chance.grey + chance.noise + chance.synthetic
        for i in np.flatnonzero(draws < synthetic):
            if draws[i] < chance.grey:
                luma = crops.new_tensor([0.299, 0.587, 0.114])
                crops[i] = (crops[i] * luma[:, None, None]).sum(0, keepdim=True)
            elif draws[i] < noisy:
                noise = torch.from_numpy(rng.random((3, size, size), dtype=np.float32))
                crops[i].lerp_(noise.to(crops.device), float(rng.random()))
            else:
                crops[i] = self._synthetic(size).to(crops.device)
        return crops

    def _synthetic(self, size: int) -> Tensor:
        rng = self.rng
        first, second = torch.from_numpy(rng.random((2, 3, 1, 1), dtype=np.float32))
        period = int(rng.integers(1, 17))
        line = torch.arange(size) // period % 2
        checker = (line[:, None] ^ line[None, :]).float()
        if rng.random() < 0.3:
            checker = torch.zeros_like(checker)
        return torch.lerp(first, second, checker)


def _reduced(crops: Tensor, size: int) -> Tensor:
    """Crops of uint8 (n, 3, H, W) as (n, 3, size, size), float in [0, 1].

    On a CPU rounded to 8 bits, as pictures are; that is ten times as fast.
    """
    if crops.device.type != "cpu":
        crops = crops.float()
    made = F.interpolate(crops, size=(size, size), mode="bicubic", antialias=True)
    return (made.float() / 255).clamp_(0, 1)
