"""ONNX Runtime and PyTorch: the same symbols of a file, nearly the same pixels, either alone."""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from conftest import RunVrcodec, linux_only, picture
from PIL import Image

from vrcodec import ArgumentError, Codec, VrcodecError, selftest
from vrcodec.bitstream.container import unpack
from vrcodec.codec import runtime
from vrcodec.codec.runtime import ONNX, TORCH
from vrcodec.codec.settings import EncodeSettings
from vrcodec.pictures import to_coded

pytest.importorskip("onnxruntime")
from vrcodec.codec.onnx_networks import OnnxNetworks

TESTS = Path(__file__).resolve().parent
fork_only = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
SIZES = [(1, 1), (17, 33), (64, 64), (200, 131), (500, 20)]

Codecs = dict[str, Codec]


@pytest.fixture(scope="module", params=["tiny", "release"])
def codecs(request: pytest.FixtureRequest, tiny_weights: Path) -> Codecs:
    weights = tiny_weights if request.param == "tiny" else None
    return {name: Codec(weights, "cpu", runtime=name) for name in (ONNX, TORCH)}


@pytest.fixture(scope="module")
def onnx_codec(tiny_weights: Path) -> Codec:
    return Codec(tiny_weights, "cpu", runtime=ONNX)


def photo(width: int, height: int, mode: str = "RGB") -> Image.Image:
    with Image.open(TESTS / "pictures" / "macaw.png") as file:
        image = file.convert("RGB").resize((width, height))
    if mode == "RGBA":
        image.putalpha(image.convert("L"))
    return image.convert(mode)


def check_file(data: bytes, codecs: Codecs) -> None:
    """Both runtimes read the same symbols, and show about the same."""
    read = [codec.pipeline.read_latents(unpack(data)) for codec in codecs.values()]
    for field in ("z", "y", "indexes"):
        np.testing.assert_array_equal(*(getattr(latents, field) for latents in read))
    shown = [codec.decode(data) for codec in codecs.values()]
    assert shown[0].mode == shown[1].mode
    a, b = (np.asarray(image).astype(int) for image in shown)
    assert np.abs(a - b).max() <= 1
    assert np.mean(a != b) < 1e-2


@pytest.mark.slow
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA"])
def test_each_reads_what_the_other_wrote(size: tuple[int, int], mode: str, codecs: Codecs) -> None:
    for quality in (0.0, 0.63, 1.0):
        for codec in codecs.values():
            check_file(codec.encode(photo(*size, mode), quality), codecs)


def test_files_are_about_as_large(codecs: Codecs) -> None:
    sizes = [len(codec.encode(photo(256, 192), 0.5)) for codec in codecs.values()]
    assert sizes[0] == pytest.approx(sizes[1], rel=1e-3)


def test_noise_and_checkerboards(codecs: Codecs) -> None:
    """Coefficients beyond what any photograph has."""
    random = np.random.default_rng(5)
    noise = random.integers(0, 256, (90, 70, 3), dtype=np.uint8)
    board = np.indices((64, 80)).sum(axis=0)[..., None] % 2 * np.full(3, 255, dtype=np.uint8)
    for pixels in (noise, board.astype(np.uint8)):
        for codec in codecs.values():
            check_file(codec.encode(Image.fromarray(pixels), 0.8), codecs)


@pytest.mark.slow
@pytest.mark.parametrize("size", [(700, 430), (131, 900)])
def test_tiles_change_nothing(size: tuple[int, int], tiny_weights: Path) -> None:
    codecs = {side: Codec(tiny_weights, tile=side, runtime=ONNX) for side in (8, 20, 96)}
    data = codecs[96].encode(photo(*size), 0.7)
    whole = np.asarray(codecs[96].decode(data)).astype(int)
    for side, codec in codecs.items():
        assert np.abs(np.asarray(codec.decode(data)) - whole).max() <= 1
        own = codec.encode(photo(*size), 0.7)
        assert len(own) == pytest.approx(len(data), rel=1e-3), side
        check_file(own, {"whole": codecs[96], "tiled": codec})


def test_golden_files() -> None:
    for name in (ONNX, TORCH):
        assert selftest.check("cpu", name) == []


def test_batches_are_as_single_pictures(tiny_weights: Path) -> None:
    codec = Codec(tiny_weights, runtime=ONNX, batch_pixels=4 * 80 * 64)
    alone = Codec(tiny_weights, runtime=ONNX)
    images = [picture(seed) for seed in range(6)]
    files = [alone.encode(image, 0.5) for image in images]
    decoded = codec.decode_pictures(files)
    for image, data in zip(decoded, files, strict=True):
        difference = np.asarray(image).astype(int) - np.asarray(alone.decode(data))
        assert np.abs(difference).max() <= 1


def test_small_pictures_are_the_same_in_any_company(tiny_weights: Path) -> None:
    """So that batches of any number go through together, and none has to be filled up."""
    alone, together = (Codec(tiny_weights, runtime=ONNX, batch_pixels=n) for n in (0, 1 << 16))
    assert (alone.batch_size(80, 64), together.batch_size(80, 64)) == (1, 12)
    assert Codec(tiny_weights, runtime=ONNX).batch_size(80, 64) == 12
    images = [to_coded(picture(seed)) for seed in range(5)]
    settings = EncodeSettings()
    files = [[made.data for made in c.encode_pictures(images, settings)] for c in (alone, together)]
    assert files[0] == files[1] and len(set(files[0])) == 5
    decoded = [[im.tobytes() for im in c.decode_pictures(files[0])] for c in (alone, together)]
    assert decoded[0] == decoded[1]


def test_targets(onnx_codec: Codec) -> None:
    from vrcodec.codec.settings import Measure, Target

    data = onnx_codec.encode(photo(256, 192), target=Target(Measure.SIZE, 5000))
    assert 4500 < len(data) <= 5000


# Choosing.


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """A function that says which runtimes are there; no GPU is."""
    monkeypatch.setattr(runtime, "_may_have_gpu", lambda: False)
    return lambda *names: monkeypatch.setattr(runtime, "is_installed", lambda name: name in names)


def test_choice(installed: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    installed(ONNX, TORCH)
    for preferred in (ONNX, TORCH):
        monkeypatch.setattr(runtime, "PREFERRED_ON_CPU", preferred)
        assert runtime.choose() == runtime.choose("auto", "cpu") == preferred
    assert runtime.choose("auto", "cuda:1") == TORCH
    assert runtime.choose("onnx") == ONNX
    assert runtime.choose("torch") == TORCH
    for only in (ONNX, TORCH):
        installed(only)
        assert runtime.choose() == only
    installed(ONNX)
    for arguments in (("torch",), ("auto", "cuda")):
        with pytest.raises(VrcodecError, match="PyTorch is not installed: pip install torch"):
            runtime.choose(*arguments)
    installed()
    with pytest.raises(VrcodecError, match="neither ONNX Runtime nor PyTorch"):
        runtime.choose()


def test_impossible_choices() -> None:
    with pytest.raises(ArgumentError, match="auto, onnx, torch"):
        runtime.choose("tensorflow")
    with pytest.raises(ArgumentError, match="cuda needs PyTorch"):
        Codec(device="cuda", runtime=ONNX)


def test_codec_says_what_computes(codecs: Codecs) -> None:
    assert codecs[ONNX].runtime.startswith("ONNX Runtime ")
    assert codecs[TORCH].runtime.startswith("PyTorch ")
    assert codecs[ONNX].runtime == runtime.described(ONNX)
    assert codecs[TORCH].runtime == runtime.described(TORCH)
    assert codecs[ONNX].runtime in repr(codecs[ONNX])


def test_effort_is_torchs(tiny_weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "PREFERRED_ON_CPU", ONNX)
    codec = Codec(tiny_weights, "cpu")
    assert isinstance(codec.pipeline.networks, OnnxNetworks)
    plain, refined = (codec.encode(photo(96, 96), 0.5, effort=effort) for effort in (0, 1))
    assert plain != refined
    with pytest.raises(VrcodecError, match="effort 1 needs PyTorch"):
        Codec(tiny_weights, runtime=ONNX).encode(photo(96, 96), 0.5, effort=1)


# Threads and processes.


def test_threads_at_once_make_the_same_files(tiny_weights: Path) -> None:
    codec = Codec(tiny_weights, runtime=ONNX)
    images = [picture(seed) for seed in range(8)]

    def work(image: Image.Image) -> tuple[bytes, bytes]:
        data = codec.encode(image, 0.4)
        return data, codec.decode(data).tobytes()

    with ThreadPoolExecutor(4) as pool:
        at_once = list(pool.map(work, images))
    assert at_once == [work(image) for image in images]


def _coded_in_child(arguments: tuple[str, bytes]) -> bytes:
    weights, data = arguments
    return Codec(weights, runtime=ONNX).decode(data).tobytes()


@pytest.mark.slow
@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_workers_code(method: str, tiny_weights: Path, onnx_codec: Codec) -> None:
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip("not on this system")
    data = onnx_codec.encode(picture(1), 0.5)
    with multiprocessing.get_context(method).Pool(1) as pool:
        (pixels,) = pool.map(_coded_in_child, [(str(tiny_weights), data)])
    assert pixels == onnx_codec.decode(data).tobytes()


FORK = """
import os, sys
from PIL import Image
from vrcodec import Codec

codec = Codec(sys.argv[1], runtime="onnx", threads=2)
image = Image.effect_noise((500, 400), 50)
data = codec.encode(image, 0.5)
child = os.fork()
if not child:
    same = codec.encode(image, 0.5) == data and codec.decode(data).size == image.size
    if sys.argv[2] == "drop":
        del codec
    sys.exit(3 if same else 4)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@fork_only
@pytest.mark.parametrize("how", ["keep", "drop"])
def test_forked_children_code_and_end(
    how: str, tiny_weights: Path, vrcodec_environment: dict[str, str]
) -> None:
    """Of the parent's threads there are none in the child: it must not wait for them."""
    output = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORK, tiny_weights, how],
        env=vrcodec_environment,
        capture_output=True,
        timeout=120,
    )
    assert output.stdout == b"3\n", output.stderr


QUIET = """
import os, sys

import numpy
before = dict(os.environ), len(os.listdir("/proc/self/task"))
import vrcodec.codec.onnx_session
assert (dict(os.environ), len(os.listdir("/proc/self/task"))) == before
"""


@linux_only
def test_onnxruntime_reports_to_nobody(vrcodec_environment: dict[str, str]) -> None:
    """Its telemetry would be a thread of its own; nor does the environment change."""
    environment = {k: v for k, v in vrcodec_environment.items() if k != "ORT_DISABLE_TELEMETRY"}
    environment |= {"OPENBLAS_NUM_THREADS": "1", "CI": ""}
    del environment["CI"]
    result = subprocess.run(
        [sys.executable, "-c", QUIET], env=environment, capture_output=True, timeout=120
    )
    assert result.returncode == 0, result.stderr
    assert result.stderr == b""


# Without torch.


@pytest.fixture(scope="module")
def without_torch(
    tmp_path_factory: pytest.TempPathFactory, vrcodec_environment: dict[str, str]
) -> dict[str, str]:
    """Environment of processes, and of their children, that find no torch."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "sitecustomize.py").write_text("import sys\nsys.modules['torch'] = None\n")
    path = os.pathsep.join([str(folder), vrcodec_environment["PYTHONPATH"]])
    return vrcodec_environment | {"PYTHONPATH": path}


def test_commands_without_torch(
    run_vrcodec: RunVrcodec, without_torch: dict[str, str], tiny_weights: Path, tmp_path: Path
) -> None:
    def run(*arguments: str | Path) -> str:
        result = run_vrcodec(*arguments, env=without_torch)
        assert result.returncode == 0, result.stderr
        return result.stdout.decode()

    weights = ("--weights", tiny_weights)
    photo(120, 90).save(tmp_path / "a.png")
    run("encode", tmp_path / "a.png", "-o", tmp_path / "a.vrc", *weights)
    run("decode", tmp_path / "a.vrc", "-o", tmp_path / "back.png", *weights)
    with Image.open(tmp_path / "back.png") as image:
        assert image.size == (120, 90)
    run("encode", tmp_path / "a.png", "-o", tmp_path / "b.vrc", "--target-psnr", "30", *weights)
    assert json.loads(run("info", "--model", "--json", *weights))["runtime"].startswith("ONNX")
    assert "ONNX Runtime" in run("--version")
    assert "cpu (onnx)" in run("selftest")


def test_folders_without_torch(
    run_vrcodec: RunVrcodec, without_torch: dict[str, str], tiny_weights: Path, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    for seed in range(3):
        picture(seed).save(tmp_path / "in" / f"{seed}.png")
    for command, source, out in (("encode", "in", "coded"), ("decode", "coded", "back")):
        folders = tmp_path / source, "-o", tmp_path / out
        result = run_vrcodec(
            command, *folders, "--weights", tiny_weights, "--jobs", "1", env=without_torch
        )
        assert result.returncode == 0, result.stderr
    assert sorted(path.name for path in (tmp_path / "back").glob("*.png")) == [
        "0.png",
        "1.png",
        "2.png",
    ]


@pytest.mark.parametrize(
    "arguments",
    [
        ["encode", "a.png", "-o", "a.vrc", "--effort", "1"],
        ["encode", "a.png", "-o", "a.vrc", "--target-ms-ssim", "0.9"],
        ["encode", "a.png", "-o", "a.vrc", "--device", "cuda"],
        ["train", ".", "-o", "run", "--steps", "1"],
        ["eval", ".", "-o", "report"],
        ["bench"],
    ],
    ids=lambda arguments: " ".join(arguments[:1] + arguments[4:5]),
)
def test_what_needs_torch_says_so(
    arguments: list[str], run_vrcodec: RunVrcodec, without_torch: dict[str, str], tmp_path: Path
) -> None:
    photo(256, 192).save(tmp_path / "a.png")
    result = run_vrcodec(*arguments, env=without_torch, cwd=tmp_path)
    assert result.returncode == 1
    lines = result.stderr.decode().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("Error: ")
    assert "PyTorch" in lines[0]
    assert not list(tmp_path.glob("*.vrc"))
