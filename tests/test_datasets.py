"""Folders and shards of .vrc files in training loops: DataLoader and webdataset themselves."""

from __future__ import annotations

import functools
import io
import multiprocessing
import os
import pickle
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import picture
from PIL import Image
from torch.utils.data import DataLoader

import vrcodec
from vrcodec.batch import storage
from vrcodec.datasets import VrcFolder, to_tensor, webdataset_decoder
from vrcodec.evaluation.torchvision_shim import ensure_torchvision_operators

NAMES = ["a.vrc", "b/c.vrc", "b/d.VRC", "e.vrc"]


@pytest.fixture(scope="module")
def folder(tiny_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of one size in a tree, and files that are none."""
    root = tmp_path_factory.mktemp("coded")
    (root / "b").mkdir()
    for number, name in enumerate(NAMES):
        data = vrcodec.encode(picture(number), 0.6, weights=tiny_weights, device="cpu")
        (root / name).write_bytes(data)
    (root / "b" / "notes.txt").write_text("no picture")
    return root


@pytest.fixture
def dataset(folder: Path, tiny_weights: Path) -> VrcFolder:
    return VrcFolder(folder, weights=tiny_weights)


def expected(folder: Path, weights: Path) -> list[np.ndarray]:
    """(3, H, W) of every file."""
    shown = [vrcodec.decode(folder / name, weights=weights, threads=1) for name in NAMES]
    return [np.asarray(image).transpose(2, 0, 1) for image in shown]


def half(image: Image.Image) -> torch.Tensor:
    """A transform of a user's."""
    return to_tensor(image.reduce(2)).float() / 255


def watched(image: Image.Image) -> tuple[torch.Tensor, int, int, int]:
    """Pixels, the process, threads that torch uses in it, and models that it keeps."""
    from vrcodec.codec.shared import _made

    models = _made.cache_info().currsize
    return to_tensor(image), os.getpid(), torch.get_num_threads(), models


def test_a_folder_is_a_sequence_of_tensors(
    dataset: VrcFolder, folder: Path, tiny_weights: Path
) -> None:
    assert [Path(name).relative_to(folder).as_posix() for name in dataset.names] == sorted(
        NAMES, key=lambda name: ("/" in name, name)
    )
    wanted = dict(zip(NAMES, expected(folder, tiny_weights), strict=True))
    for name, tensor in zip(dataset.names, dataset, strict=True):
        assert tensor.dtype == torch.uint8 and tensor.is_contiguous()
        np.testing.assert_array_equal(tensor, wanted[Path(name).relative_to(folder).as_posix()])
    assert len(dataset) == 4
    torch.testing.assert_close(dataset[-1], dataset[3])
    with pytest.raises(IndexError):
        dataset[4]


def test_pictures_or_what_a_transform_makes_of_them(folder: Path, tiny_weights: Path) -> None:
    image = VrcFolder(folder, None, weights=tiny_weights)[0]
    assert isinstance(image, Image.Image) and image.size == (72, 56)
    small = VrcFolder(str(folder), half, weights=tiny_weights)[0]
    assert small.shape == (3, 28, 36) and small.max() <= 1
    smaller = VrcFolder(folder, reduce=4, weights=tiny_weights)[0]
    assert smaller.shape == (3, 14, 18)


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
def test_every_picture_has_three_channels(mode: str, tiny_weights: Path, tmp_path: Path) -> None:
    image = picture(1).convert(mode)
    if mode.endswith("A"):
        image.putalpha(Image.linear_gradient("L").resize(image.size))
    (tmp_path / "x.vrc").write_bytes(vrcodec.encode(image, 0.9, weights=tiny_weights))
    assert VrcFolder(tmp_path, weights=tiny_weights)[0].shape == (3, 56, 72)


def test_patterns_choose_files(folder: Path, tiny_weights: Path) -> None:
    chosen = VrcFolder(folder, include=["b/*"], exclude=["*.VRC"], weights=tiny_weights)
    assert [Path(name).name for name in chosen.names] == ["c.vrc"]


def test_a_url_is_a_folder(folder: Path, tiny_weights: Path) -> None:
    there = VrcFolder(folder.as_uri(), weights=tiny_weights)
    assert len(there) == 4 and there[0].shape == (3, 56, 72)


def test_a_url_may_end_in_a_slash(folder: Path, tiny_weights: Path) -> None:
    storage.write("memory://set/a.vrc", (folder / NAMES[0]).read_bytes(), replace=True)
    dataset = VrcFolder("memory://set/", weights=tiny_weights)
    assert dataset.names == ["memory://set/a.vrc"]
    assert dataset[0].shape[0] == 3


def test_what_is_wrong_is_said(folder: Path, tiny_weights: Path, tmp_path: Path) -> None:
    with pytest.raises(vrcodec.VrcodecError, match=r"none: no such file or folder"):
        VrcFolder(tmp_path / "none")
    with pytest.raises(vrcodec.VrcodecError, match=r"no \.vrc files"):
        VrcFolder(tmp_path)
    (tmp_path / "x.vrc").write_bytes((folder / "a.vrc").read_bytes()[:-9])
    with pytest.raises(vrcodec.TruncatedError, match=r"x\.vrc: truncated"):
        VrcFolder(tmp_path, weights=tiny_weights)[0]
    with pytest.raises(vrcodec.UnknownWeightsError, match=r"a\.vrc: made with weights"):
        VrcFolder(folder)[0]
    with pytest.raises(vrcodec.PictureError, match=r"a\.vrc: 72x56 pixels exceed the limit of 9"):
        VrcFolder(folder, weights=tiny_weights, max_pixels=9)[0]


def test_a_dataset_travels_as_names(dataset: VrcFolder) -> None:
    first = dataset[0]
    data = pickle.dumps(dataset)
    assert len(data) < 2000
    torch.testing.assert_close(pickle.loads(data)[0], first)  # noqa: S301 (our own)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:This DataLoader will create 2 worker processes")
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_workers_of_every_kind(method: str, folder: Path, tiny_weights: Path) -> None:
    """After this process has decoded itself; each with one model and one thread."""
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"no {method} here")
    wanted = dict(zip(NAMES, expected(folder, tiny_weights), strict=True))
    tree = VrcFolder(folder, watched, weights=tiny_weights)
    options = {"num_workers": 2, "persistent_workers": True, "multiprocessing_context": method}
    loader = DataLoader(tree, batch_size=2, **options)
    for _ in range(2):
        tensors, processes, threads, models = zip(*loader, strict=True)
        for name, tensor in zip(tree.names, torch.cat(tensors), strict=True):
            pixels = wanted[Path(name).relative_to(folder).as_posix()]
            np.testing.assert_array_equal(tensor, pixels)
        workers = set(torch.cat(processes).tolist())
        assert len(workers) == 2 and os.getpid() not in workers
        assert set(torch.cat(threads).tolist()) == {1}
        if method != "fork":  # a fork has what its parent had
            assert set(torch.cat(models).tolist()) == {1}


@pytest.mark.slow
def test_an_error_in_a_worker_names_the_file(
    folder: Path, tiny_weights: Path, tmp_path: Path
) -> None:
    (tmp_path / "x.vrc").write_bytes((folder / "a.vrc").read_bytes()[:-9])
    loader = DataLoader(VrcFolder(tmp_path, weights=tiny_weights), num_workers=1)
    with pytest.raises(vrcodec.TruncatedError, match=r"x\.vrc: truncated"):
        next(iter(loader))


def test_folders_of_torchvision_have_labels(folder: Path, tiny_weights: Path) -> None:
    ensure_torchvision_operators()
    torchvision = pytest.importorskip("torchvision", reason="torchvision is not installed")
    read = functools.partial(vrcodec.decode, weights=tiny_weights, threads=1)
    labelled = torchvision.datasets.DatasetFolder(str(folder), read, (".vrc",))
    assert [(image.size, label) for image, label in labelled] == [((72, 56), 0)] * 2
    assert labelled.classes == ["b"]


# webdataset


@pytest.fixture(scope="module")
def shard(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("shards") / "0.tar"
    with tarfile.open(path, "w") as tar:
        for number, name in enumerate(NAMES):
            parts = {
                "vrc": (folder / name).read_bytes(),
                "left.VRC": (folder / "a.vrc").read_bytes(),
                "cls": str(number).encode(),
            }
            for extension, data in parts.items():
                entry = tarfile.TarInfo(f"{number}.{extension}")
                entry.size = len(data)
                tar.addfile(entry, io.BytesIO(data))
    return path


def samples(shard: Path, decoder: Any) -> Any:
    webdataset = pytest.importorskip("webdataset", reason="webdataset is not installed")
    return webdataset.WebDataset(str(shard), shardshuffle=False).decode(decoder)


def test_shards_of_webdataset(shard: Path, folder: Path, tiny_weights: Path) -> None:
    decoder = functools.partial(webdataset_decoder, weights=tiny_weights)
    seen = list(samples(shard, decoder))
    assert [sample["cls"] for sample in seen] == [0, 1, 2, 3]  # others decode that
    wanted = expected(folder, tiny_weights)
    for sample, pixels in zip(seen, wanted, strict=True):
        np.testing.assert_array_equal(sample["vrc"], pixels)
        np.testing.assert_array_equal(sample["left.vrc"], wanted[0])
    images = functools.partial(decoder, transform=None)
    assert next(iter(samples(shard, images)))["vrc"].size == (72, 56)


def test_webdataset_handler_leaves_other_files_alone() -> None:
    for key in (".cls", ".png", ".vrc.json", ""):
        assert webdataset_decoder(key, b"VRC") is None


@pytest.mark.slow
def test_shards_in_workers(shard: Path, tiny_weights: Path) -> None:
    decoder = functools.partial(webdataset_decoder, weights=tiny_weights)
    dataset = samples(shard, decoder).to_tuple("vrc", "cls").batched(2)
    loader = DataLoader(dataset, batch_size=None, num_workers=1)
    assert [tuple(images.shape) for images, _ in loader] == [(2, 3, 56, 72)] * 2
