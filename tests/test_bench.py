"""`vrcodec bench`: stages that add up, and yardsticks beside them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from conftest import RunVrcodec

from vrcodec.codec.stages import DECODE_STAGES, ENCODE_STAGES

STAGES = {
    "encode": list(ENCODE_STAGES),
    "decode": list(DECODE_STAGES),
}


def test_stages_add_up(run_vrcodec: RunVrcodec, tiny_weights: Path, pictures: Path) -> None:
    done = run_vrcodec(
        "bench",
        pictures / "macaw.png",
        "--threads",
        "1",
        "--threads",
        "2",
        "--repeat",
        "1",
        "--no-cold",
        "--json",
        "--weights",
        tiny_weights,
    )
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert [(run["engine"], run["threads"]) for run in facts["runs"]] == [
        ("torch", 1),
        ("torch", 2),
    ]
    assert facts["load"].keys() == {"start", "end", "own", "cores", "busy"}
    for run in facts["runs"]:
        assert run["matrix_gflops"] > 0 and "cold" not in run
        assert run["megapixels"] == pytest.approx(256 * 192 / 1e6)
        for action, stages in STAGES.items():
            seconds = run[action]
            assert list(seconds) == [
                *stages,
                "other",
                "total",
                "mp_per_s",
                "coding_mp_per_s",
                "gflops",
            ]
            assert all(seconds[stage] > 0 for stage in stages), seconds
            parts = sum(seconds[stage] for stage in stages) + seconds["other"]
            assert parts == pytest.approx(seconds["total"])
            assert seconds["mp_per_s"] == pytest.approx(run["megapixels"] / seconds["total"])
            in_memory = seconds["total"] - seconds["read"] - seconds["write"]
            assert seconds["coding_mp_per_s"] == pytest.approx(run["megapixels"] / in_memory)


def test_table_compares_with_torch_and_avif(
    run_vrcodec: RunVrcodec, tiny_weights: Path, pictures: Path
) -> None:
    done = run_vrcodec(
        "bench",
        pictures / "hibiscus.png",
        "--threads",
        "1",
        "--repeat",
        "1",
        "--weights",
        tiny_weights,
    )
    assert done.returncode == 0, done.stderr
    text = done.stdout.decode()
    assert re.search(r"load [\d.]+ at the start and [\d.]+ at the end, on \d+ cores?", text)
    for action in ("encode", "decode"):
        assert re.search(rf"{action} [\d.]+ MP/s, .*, [\d.]+ GFLOP/s .*; AVIF [\d.]+ MP/s", text)
        assert re.search(rf"{action}, cold [\d.]+ s: -?[\d.]+ s more than importing torch", text)
    missing = run_vrcodec("bench", "missing.png")
    assert missing.returncode == 1
    assert missing.stderr == b"Error: missing.png: no such file or folder\n"
