"""What the tests share: fixtures, pictures, processes to watch."""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from vrcodec.batch import Encoding, RunSettings
from vrcodec.bitstream.tables import concatenate, quantise
from vrcodec.bitstream.trellis import QUANTISERS
from vrcodec.codec.settings import EncodeSettings
from vrcodec.model.latent_tables import BUCKETS, KINDS
from vrcodec.model.weights_file import (
    load_weights,
    save_weights,
    table_tensors,
    weights_id,
)
from vrcodec.pictures import MAX_PIXELS
from vrcodec.selftest import WEIGHTS, weights_of

if TYPE_CHECKING:
    from playwright.sync_api import Browser

TESTS = Path(__file__).resolve().parent
GOLDEN = TESTS.parent / "vrcodec" / "data" / "golden"


def golden_files() -> list[Path]:
    """The golden files of the tiny model without a trellis."""
    return [path for path in sorted(GOLDEN.glob("*.vrc")) if weights_of(path.name) == WEIGHTS]


RunVrcodec = Callable[..., "subprocess.CompletedProcess[bytes]"]
Start = Callable[..., "subprocess.Popen[bytes]"]
Tree = dict[str, bytes]

MANY = 40

STARTS_PROCESSES = {
    "browser",
    "eval_report",
    "ray",
    "run_vrcodec",
    "start",
    "vrcodec",
    "vrcodec_environment",
}
"""Fixtures of tests that start processes: seconds for every one that imports torch."""

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
CHROMIUM_FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

linux_only = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that start processes as slow, but for those marked as fast."""
    for item in items:
        starts = STARTS_PROCESSES.intersection(getattr(item, "fixturenames", ()))
        if starts and item.get_closest_marker("fast") is None:
            item.add_marker(pytest.mark.slow)


def tree(folder: Path) -> Tree:
    """All files below a folder, by path."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def picture(seed: int, width: int = 72, height: int = 56) -> Image.Image:
    """A smooth picture of its own for every seed."""
    random = np.random.default_rng(seed)
    small = Image.fromarray(random.integers(0, 256, (7, 9, 3), np.uint8))
    return small.resize((width, height), Image.Resampling.BICUBIC)


def children(pid: int) -> list[int]:
    """Processes that a process has started. Linux only."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Wait until something has come true; fail when that takes too long."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.fixture(scope="session")
def tiny_weights() -> Path:
    """A weights file of a tiny frozen model."""
    return GOLDEN / "tiny.safetensors"


@pytest.fixture(scope="session")
def zoned_weights(tiny_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model, with an encoder that draws symbols towards zero, and tables of many kinds."""
    weights = load_weights(tiny_weights)
    path = tmp_path_factory.mktemp("zoned") / "zoned.safetensors"
    config = dataclasses.replace(weights.config, dead_zone=(0.5, 1.0))
    few = weights.y_tables.tables
    low, tables = [], []
    for part in range(BUCKETS * KINDS):
        for number in range(len(few)):
            flatter = 1 / (1 + part / 16)  # otherwise in every part
            low.append(int(few.low[number]))
            tables.append(quantise(few.table(number) ** flatter))
    many = table_tensors("y", concatenate(low, tables))
    save_weights(path, config, dict(weights.tensors) | many)
    return path


@pytest.fixture(scope="session")
def trellis_weights(tiny_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with trellis-coded quantisation, and tables of many kinds."""
    weights = load_weights(tiny_weights)
    path = tmp_path_factory.mktemp("trellis") / "trellis.safetensors"
    config = dataclasses.replace(
        weights.config, dead_zone=(0.15, 0.4), trellis_step=0.65, trellis_level=10
    )
    few = weights.y_tables.tables
    low, tables = [], []
    for part in range(BUCKETS * KINDS * (1 + QUANTISERS)):
        for number in range(len(few)):
            flatter = 1 / (1 + part / 32)  # otherwise in every part
            low.append(int(few.low[number]))
            tables.append(quantise(few.table(number) ** flatter))
    many = table_tensors("y", concatenate(low, tables))
    save_weights(path, config, dict(weights.tensors) | many)
    return path


@pytest.fixture(scope="session")
def pictures() -> Path:
    """The folder of test pictures."""
    return TESTS / "pictures"


@pytest.fixture(scope="session")
def vrcodec_environment() -> dict[str, str]:
    """Environment in which `python -m vrcodec` finds this checkout, from any folder."""
    path = [str(TESTS.parent), os.environ.get("PYTHONPATH", "")]
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, path))}


@pytest.fixture(scope="session")
def run_vrcodec(vrcodec_environment: dict[str, str]) -> RunVrcodec:
    """A function that runs the command line in a process of its own, to its end."""

    def run(*arguments: str | Path, **options: object) -> subprocess.CompletedProcess[bytes]:
        command = [sys.executable, "-m", "vrcodec", *map(str, arguments)]
        settings = {"env": vrcodec_environment, "capture_output": True, "timeout": 300} | options
        return subprocess.run(command, **settings)

    return run


@pytest.fixture
def vrcodec(run_vrcodec: RunVrcodec, tiny_weights: Path) -> RunVrcodec:
    """The command line with the tiny model on the CPU."""
    return lambda *arguments, **options: run_vrcodec(
        *arguments, "--weights", tiny_weights, "--device", "cpu", **options
    )


@pytest.fixture
def start(vrcodec_environment: dict[str, str], tiny_weights: Path) -> Iterator[Start]:
    """A function that starts the command line and leaves it running."""
    processes = []

    def run(*arguments: str | Path) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "vrcodec", *map(str, arguments), "--device", "cpu"]
        process = subprocess.Popen(
            [*command, "--weights", str(tiny_weights)],
            env=vrcodec_environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        processes.append(process)
        return process

    yield run
    for process in processes:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Enough pictures for a run to be killed in its middle."""
    root = tmp_path_factory.mktemp("many")
    for number in range(MANY):
        place = root / f"{number % 4}"
        place.mkdir(exist_ok=True)
        picture(number, 150 + number, 170).save(place / f"{number}.png")
    return root


@pytest.fixture(scope="module")
def settings(tiny_weights: Path) -> RunSettings:
    """Of a batch run with the tiny model on the CPU."""
    name = weights_id(tiny_weights)
    return RunSettings(MAX_PIXELS, tiny_weights, "cpu", threads=1, weights_id=name, marked=True)


@pytest.fixture(scope="module")
def job() -> Encoding:
    """What a batch run does: pictures are coded at the middle of the dial."""
    return Encoding(EncodeSettings((("quality", 0.5),)))


@pytest.fixture(scope="session")
def weights_of_two_dials(tmp_path_factory: pytest.TempPathFactory, pictures: Path) -> Path:
    """Weights, not trained, that obey "tune" beside the quality."""
    import torch

    from vrcodec.conditional.dials import Dial, Dials
    from vrcodec.model.config import ModelConfig
    from vrcodec.model.initialisation import initialise
    from vrcodec.model.network import CompressionModel
    from vrcodec.training.data import Augmentation, CropSampler, PictureStore
    from vrcodec.training.export import export

    torch.manual_seed(1)
    dials = Dials((Dial("quality", 0.0006, 0.5), Dial("tune", 0.01, 1.0, default=0.25)))
    config = ModelConfig(
        dials, 8, 8, (1, 1), (1, 1), core=8, hyper=8, hyper_width=8, context_width=8, film_width=8
    )
    store = PictureStore([pictures], 64, torch.device("cpu"))
    sampler = CropSampler(store, Augmentation(rescale=0), 1)
    model = CompressionModel(config)
    initialise(model, sampler.batch(8, 64))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(("film.weight", "head.weight")):
                parameter.add_(0.05 * torch.randn_like(parameter))
    path = tmp_path_factory.mktemp("two") / "two.safetensors"
    export(model, sampler, path, pictures=8, size=64)
    return path


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Headless Chromium, driven by Playwright. No longer than a module: its event loop runs on."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not CHROMIUM:
        pytest.skip("pages are NOT tested in a browser: chromium is not installed")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_FLAGS)
        yield browser
        browser.close()


EVAL_OPTIONS = (
    "--weights",
    str(GOLDEN / "tiny.safetensors"),
    "--qualities",
    "0,0.5,1",
    "--compare",
    "jpeg,avif,jxl",
)


@pytest.fixture(scope="session")
def eval_report(
    run_vrcodec: RunVrcodec, pictures: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A report that `vrcodec eval` made of the two pictures in the folder beside it."""
    for package in ("matplotlib", "jinja2", "ssimulacra2", "pillow_jxl"):
        pytest.importorskip(package)
    folder = tmp_path_factory.mktemp("eval")
    (folder / "pictures").mkdir()
    for name in ("hibiscus.png", "macaw.png"):
        shutil.copy(pictures / name, folder / "pictures")
    result = run_vrcodec(
        "eval", folder / "pictures", *EVAL_OPTIONS, "-o", folder / "report", timeout=900
    )
    assert result.returncode == 0, result.stderr
    return folder / "report"
