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
        "--no-neighbour",
        "--json",
        "--weights",
        tiny_weights,
    )
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert [(run["runtime"].split()[0], run["threads"]) for run in facts["runs"]] == [
        ("PyTorch", 1),
        ("PyTorch", 2),
        ("ONNX", 1),
        ("ONNX", 2),
    ]
    assert facts["load"].keys() == {"start", "end", "own", "cores", "busy"}
    for run in facts["runs"]:
        assert run["matrix_gmac_per_s"] > 0 and not {"cold", "busy"} & run.keys()
        assert run["megapixels"] == pytest.approx(256 * 192 / 1e6)
        for action, stages in STAGES.items():
            seconds = run[action]
            assert list(seconds) == [
                *stages,
                "other",
                "total",
                "mp_per_s",
                "coding_mp_per_s",
                "products",
            ]
            assert all(seconds[stage] > 0 for stage in stages), seconds
            parts = sum(seconds[stage] for stage in stages) + seconds["other"]
            assert parts == pytest.approx(seconds["total"])
            assert seconds["mp_per_s"] == pytest.approx(run["megapixels"] / seconds["total"])
            in_memory = seconds["total"] - seconds["read"] - seconds["write"]
            assert seconds["coding_mp_per_s"] == pytest.approx(run["megapixels"] / in_memory)


def test_table_compares_with_yardsticks_and_a_busy_neighbour(
    run_vrcodec: RunVrcodec, tiny_weights: Path, pictures: Path
) -> None:
    done = run_vrcodec(
        "bench",
        pictures / "hibiscus.png",
        "--runtime",
        "onnx",
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
        product = "times a matrix product of as many multiply-accumulates"
        assert re.search(rf"{action} [\d.]+ MP/s, .* [\d.]+ {product}; AVIF [\d.]+ MP/s", text)
        assert re.search(rf"{action} beside a busy process: [\d.]+ times as long", text)
        bare = "import numpy and Pillow"
        assert re.search(rf"{action}, cold [\d.]+ s \({bare} [\d.]+ s, import torch", text)
    missing = run_vrcodec("bench", "missing.png")
    assert missing.returncode == 1
    assert missing.stderr == b"Error: missing.png: no such file or folder\n"
