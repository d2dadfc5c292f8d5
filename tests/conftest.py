"""Fixtures shared by the tests."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent

RunVrcodec = Callable[..., "subprocess.CompletedProcess[bytes]"]


@pytest.fixture(scope="session")
def tiny_weights() -> Path:
    """A weights file of a tiny frozen model."""
    return TESTS / "data" / "tiny.safetensors"


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

    def run(
        *arguments: str | Path, **options: object
    ) -> subprocess.CompletedProcess[bytes]:
        command = [sys.executable, "-m", "vrcodec", *map(str, arguments)]
        settings = {"env": vrcodec_environment, "capture_output": True, "timeout": 300} | options
        return subprocess.run(command, **settings)

    return run


EVAL_OPTIONS = (
    "--weights", str(TESTS / "data" / "tiny.safetensors"), "--qualities", "0,0.5,1",
    "--compare", "jpeg,jxl",
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
