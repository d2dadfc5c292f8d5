"""Pictures that pass through the networks together: nothing depends on the company."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import picture, tree
from numpy.typing import NDArray
from PIL import Image

from vrcodec import batch
from vrcodec.batch import DecodeSettings, Decoding, Encoding, RunSettings, worker
from vrcodec.batch.jobs import Job
from vrcodec.bitstream.container import pack, unpack
from vrcodec.codec.codec import Codec
from vrcodec.codec.networks import Networks
from vrcodec.codec.settings import Encoded, EncodeSettings, Measure, Target
from vrcodec.codec.torch_networks import TorchNetworks
from vrcodec.conditional.dials import Conditioning
from vrcodec.errors import VrcodecError
from vrcodec.model.weights_file import load_weights
from vrcodec.pictures import CodedPicture, to_coded

ROOM = 12
BATCH_PIXELS = ROOM * 80 * 64
"""Room for 12 pictures of 72x56, which are 80x64 to the networks."""


class Counting:
    """Networks that say how many pictures pass through them at a time."""

    def __init__(self, networks: Networks) -> None:
        self._networks = networks
        self.counts: list[int] = []

    def __getattr__(self, name: str) -> object:
        return getattr(self._networks, name)

    def analysis(self, pixels: NDArray[np.uint8], at: Conditioning) -> NDArray[np.float32]:
        self.counts.append(len(pixels))
        return self._networks.analysis(pixels, at)

    def synthesis(self, y_hat: NDArray[np.float32], at: Conditioning) -> NDArray[np.uint8]:
        self.counts.append(len(y_hat))
        return self._networks.synthesis(y_hat, at)


@pytest.fixture
def networks(tiny_weights: Path) -> Counting:
    return Counting(TorchNetworks(load_weights(tiny_weights), "cpu"))


@pytest.fixture
def codec(tiny_weights: Path, networks: Counting) -> Codec:
    """On the CPU, but with batches as on a GPU."""
    return Codec(tiny_weights, batch_pixels=BATCH_PIXELS, networks=networks)


@pytest.fixture
def computed(networks: Counting) -> list[int]:
    """How many pictures passed through the networks at a time, so far."""
    return networks.counts


def encode_all(codec: Codec, pictures: list[CodedPicture], settings: EncodeSettings) -> list[bytes]:
    return [made.data for made in codec.encode_pictures(pictures, settings)]


def test_batches_are_always_full(codec: Codec, computed: list[int]) -> None:
    settings = EncodeSettings.of(0.7)
    pictures = [to_coded(picture(number)) for number in range(ROOM + 2)]
    files = encode_all(codec, pictures, settings)
    assert computed == [ROOM, ROOM]
    images = codec.decode_pictures(files)
    assert computed == [ROOM] * 4
    order = [5, 0, ROOM + 1]
    assert encode_all(codec, [pictures[i] for i in order], settings) == [files[i] for i in order]
    for i in order:
        assert encode_all(codec, [pictures[i]], settings) == [files[i]]
        np.testing.assert_array_equal(codec.decode(files[i]), images[i])
    assert set(computed) == {ROOM}


def test_batches_differ_by_rounding_only(codec: Codec, tiny_weights: Path) -> None:
    plain = Codec(tiny_weights, "cpu")
    for quality in (0.1, 0.9):
        data = codec.encode(picture(3), quality)
        ours, theirs = (np.asarray(one.decode(data)).astype(int) for one in (codec, plain))
        assert np.abs(ours - theirs).max() <= 1
        assert abs(len(data) - len(plain.encode(picture(3), quality))) <= 8


def test_large_pictures_are_computed_alone(
    codec: Codec, networks: Counting, tiny_weights: Path
) -> None:
    assert codec.batch_size(72, 56) == ROOM
    assert codec.batch_size(1, 1) == 32
    assert codec.batch_size(300, 250) == codec.batch_size(40_000, 30_000) == 1
    in_tiles = Codec(tiny_weights, batch_pixels=BATCH_PIXELS, tile=4, networks=networks)
    assert in_tiles.batch_size(72, 56) == 1
    in_tiles.decode(in_tiles.encode(picture(1)))
    assert set(networks.counts) == {1}


@pytest.mark.slow
def test_targets_and_efforts_go_alone(codec: Codec, computed: list[int]) -> None:
    target = EncodeSettings(target=Target(Measure.SIZE, 900))
    for settings in (target, EncodeSettings(effort=1)):
        assert codec.batch_size(72, 56, settings) == 1
        made = codec.encode_pictures([to_coded(picture(n)) for n in (1, 2)], settings)
        (alone,) = codec.encode_pictures([to_coded(picture(2))], settings)
        assert made[1] == alone
    assert codec.batch_size(72, 56, EncodeSettings(strip=True)) == ROOM
    assert set(computed) == {1}


def test_only_equals_go_together(codec: Codec) -> None:
    settings = EncodeSettings()
    assert codec.encode_pictures([], settings) == codec.decode_pictures([]) == []
    one, wide, grey = (
        to_coded(image) for image in (picture(1), picture(1, 73), picture(1).convert("L"))
    )
    for other in (wide, grey):
        with pytest.raises(ValueError, match="one size"):
            codec.encode_pictures([one, other], settings)
    files = [codec.encode(picture(1), quality) for quality in (0.2, 0.3)]
    with pytest.raises(ValueError, match="quality"):
        codec.decode_pictures(files)


@pytest.fixture
def workers_codec(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Workers on a CPU use batches, too; what they keep is not left to other tests."""
    worker._load.cache_clear()

    def with_batches(self: worker.Coder, run: RunSettings) -> None:
        self.codec = Codec(
            run.weights, run.device, run.max_pixels, threads=1, batch_pixels=BATCH_PIXELS
        )

    monkeypatch.setattr(worker.Coder, "__init__", with_batches)
    yield
    worker._load.cache_clear()


@pytest.mark.slow
@pytest.mark.usefixtures("workers_codec")
def test_workers_make_the_same_files_in_any_company(
    tmp_path: Path, settings: RunSettings, job: Encoding
) -> None:
    source = tmp_path / "in"
    source.mkdir()
    for number in range(ROOM + 3):
        image = picture(number, 72 if number % 3 else 90)
        (image.convert("L") if number == 4 else image).save(source / f"{number:02}.png")
    (source / "broken.png").write_bytes(b"junk")

    def in_handfuls(of: int, source: Path, out: Path, how: Job, suffix: str) -> list[str]:
        kinds = batch.CODED if isinstance(how, Decoding) else batch.PICTURES
        tasks = batch.list_folder(source, out, kinds, suffix).tasks
        here = dataclasses.replace(settings, out=str(out))
        rows = [
            row
            for first in range(0, len(tasks), of)
            for row in worker.work(tasks[first : first + of], how, here)
        ]
        assert [row.input for row in rows] == [task.source for task in tasks]
        return [row.error or row.status for row in rows]

    for of in (1, 5, 100):
        said = in_handfuls(of, source, tmp_path / f"out{of}", job, ".vrc")
        assert said[:-1] == ["done"] * (ROOM + 3)
        assert said[-1].startswith(f"{source}/broken.png: cannot be read")
    assert tree(tmp_path / "out1") == tree(tmp_path / "out5") == tree(tmp_path / "out100")
    assert len(tree(tmp_path / "out1")) == ROOM + 3

    damaged = tmp_path / "out1" / "07.vrc"
    stream = unpack(damaged.read_bytes())
    damaged.write_bytes(pack(dataclasses.replace(stream, symbols_crc=stream.symbols_crc ^ 1)))
    decoding = Decoding(DecodeSettings("png"))
    for of in (1, 100):
        said = in_handfuls(of, tmp_path / "out1", tmp_path / f"back{of}", decoding, ".png")
        assert said.pop(7).startswith(f"{damaged}: checksum of the decoded symbols")
        assert said == ["done"] * (ROOM + 2)
    assert tree(tmp_path / "back1") == tree(tmp_path / "back100")
    with Image.open(tmp_path / "back1" / "04.png") as grey:
        assert (grey.mode, grey.size) == ("L", (72, 56))


@pytest.mark.usefixtures("workers_codec")
def test_what_makes_a_batch_fail_fails_alone(
    tmp_path: Path, settings: RunSettings, job: Encoding, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        picture(number).save(tmp_path / f"{number}.png")
    tasks = batch.list_folder(tmp_path, tmp_path / "out", batch.PICTURES, ".vrc").tasks
    original = Codec.encode_pictures

    def short_of_memory(
        self: Codec, pictures: list[CodedPicture], how: EncodeSettings
    ) -> list[Encoded]:
        if len(pictures) > 1:
            raise VrcodecError("out of memory")
        return original(self, pictures, how)

    monkeypatch.setattr(Codec, "encode_pictures", short_of_memory)
    here = dataclasses.replace(settings, out=str(tmp_path / "out"))
    rows = worker.work(tasks, job, here)
    assert [row.status for row in rows] == ["done"] * 3
