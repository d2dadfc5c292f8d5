"""Training pictures: decoded once into one uint8 tensor, cropped and augmented from there."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from vrcodec.errors import VrcodecError

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".ppm"}
MAX_WEIGHT_PIXELS = 1_000_000
"""A larger picture is not drawn more often than one of this many pixels."""


def find_pictures(folders: Sequence[Path]) -> list[Path]:
    """All picture files below the folders, sorted. Raises VrcodecError if there are none."""
    paths = sorted(
        path for folder in folders for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES
    )
    if not paths:
        raise VrcodecError("no pictures in " + ", ".join(map(str, folders)))
    return paths


def load_rgb(path: Path) -> Tensor:
    """An 8-bit RGB picture as uint8 (3, H, W)."""
    with Image.open(path) as picture:
        array = np.array(picture.convert("RGB"))
    return torch.from_numpy(array).permute(2, 0, 1)


class PictureStore:
    """Every training picture, decoded, in one flat uint8 tensor in RAM or GPU memory."""

    def __init__(
        self, folders: Sequence[Path], min_side: int, device: torch.device, progress: bool = False
    ) -> None:
        def read(path: Path) -> Tensor | None:
            try:
                picture = load_rgb(path)
            except (OSError, ValueError):
                return None
            return picture.contiguous() if min(picture.shape[1:]) >= min_side else None

        paths = find_pictures(folders)
        with ThreadPoolExecutor() as pool:
            loaded = list(
                tqdm(pool.map(read, paths), total=len(paths), desc="pictures", disable=not progress)
            )
        pictures = [picture for picture in loaded if picture is not None]
        if not pictures:
            raise VrcodecError(
                f"none of {len(paths)} pictures could be read with sides of {min_side} or more"
            )
        self.skipped = len(paths) - len(pictures)
        self.shapes = [(p.shape[1], p.shape[2]) for p in pictures]
        sizes = [p.numel() for p in pictures]
        self.offsets = np.concatenate([[0], np.cumsum(sizes)]).tolist()
        self.pixels = torch.empty(sum(sizes), dtype=torch.uint8, device=device)
        for picture, offset in zip(pictures, self.offsets, strict=False):
            self.pixels[offset : offset + picture.numel()] = picture.reshape(-1).to(device)
        weight = np.minimum([h * w for h, w in self.shapes], MAX_WEIGHT_PIXELS).astype(float)
        self.probability = weight / weight.sum()

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
    """Reduce by a factor between 1 and 2, the same in a batch (where the picture allows it)."""
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

    def batch(self, count: int, size: int) -> Tensor:
        """Crops (count, 3, size, size), float in [0, 1]."""
        rng, chance = self.rng, self.augmentation
        indices = rng.choice(len(self.store), size=count, p=self.store.probability)
        shapes = np.array(self.store.shapes)[indices]
        # One reach for the whole batch, so that it is reduced in one call.
        reach = int(size * rng.uniform(1, 2))
        reduced = (rng.random(count) < chance.rescale) & (shapes.min(axis=1) >= reach)
        crops = torch.empty(count, 3, size, size, device=self.store.pixels.device)
        for which, side in ((~reduced, size), (reduced, reach)):
            if not which.any():
                continue
            corners = rng.integers(shapes[which] - side + 1)
            part = self._gather(indices[which], corners, side, rng.random(which.sum()) < 0.5)
            if side != size:
                part = F.interpolate(
                    part, size=(size, size), mode="bicubic", antialias=True
                ).clamp_(0, 1)
            crops[torch.from_numpy(which).to(crops.device)] = part
        return self._augment(crops, rng.random(count))

    def _gather(self, indices: NDArray, corners: NDArray, side: int, flip: NDArray) -> Tensor:
        """Crops (n, 3, side, side) of pictures, their corners (n, 2) at row and column."""
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
        return self.store.pixels[where].float() / 255

    def _augment(self, crops: Tensor, draws: NDArray) -> Tensor:
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
