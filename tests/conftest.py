"""Fixtures shared by the tests."""

from __future__ import annotations

import os
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
