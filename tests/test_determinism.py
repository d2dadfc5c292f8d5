"""Files decode to the same symbols whatever the process that made them or reads them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

TESTS = Path(__file__).parent
AVX2 = {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "default"}
KINDS = {
    "one-thread": ("1", "channels_last", {}),
    "two-threads": ("2", "contiguous_format", {}),
    "one-avx2": ("1", "contiguous_format", AVX2),
    "two-avx2": ("2", "channels_last", AVX2),
}


def _run(action: str, weights: Path, kind: str, *paths: Path) -> None:
    threads, layout, environment = KINDS[kind]
    subprocess.run(
        [sys.executable, TESTS / "determinism_worker.py", action, weights, threads, layout, *paths],
        env=os.environ | {"PYTHONPATH": str(TESTS.parent)} | environment,
        check=True,
        timeout=300,
    )


@pytest.mark.slow
@pytest.mark.parametrize("which", ["tiny", "release"])
def test_every_kind_of_process_decodes_every_others_files(
    which: str, tmp_path: Path, tiny_weights: Path
) -> None:
    release = TESTS.parent / "weights" / "release.safetensors"
    weights = tiny_weights if which == "tiny" else release
    files = []
    for kind in KINDS:
        files.append(tmp_path / f"{kind}.vrc")
        _run("encode", weights, kind, TESTS / "pictures" / "macaw.png", files[-1])
    decoded = {}
    for kind in KINDS:
        _run("decode", weights, kind, tmp_path / f"{kind}.npz", *files)
        decoded[kind] = np.load(tmp_path / f"{kind}.npz")
    first = decoded["one-thread"]
    assert len(np.unique(first["one-thread.indexes"])) > 8, "too simple a picture to prove much"
    for kind, arrays in decoded.items():
        for name in first.files:
            if name.endswith(".pixels"):
                apart = np.abs(arrays[name].astype(int) - first[name].astype(int)).max()
                assert apart <= 1, (kind, name)
            else:
                np.testing.assert_array_equal(arrays[name], first[name], err_msg=f"{kind} {name}")
