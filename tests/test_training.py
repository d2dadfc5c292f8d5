"""Training end to end on a tiny model, through the command line and its parts."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from vrcodec.codec import Codec
from vrcodec.evaluation.bjontegaard import bd_rate
from vrcodec.model.config import ModelConfig
from vrcodec.training.schedule import learning_rate, sample_conditioning

TESTS = Path(__file__).parent
TINY = ModelConfig(
    width8=8, width16=8, analysis_blocks=(1, 1), synthesis_blocks=(1, 1), core=8, hyper=8,
    hyper_width=8, context_width=8, film_width=8, learned_linear=False,
)


def train(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "vrcodec", "train", *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=600, cwd=TESTS.parent, check=False
    )


def test_training_lowers_the_rate_and_leaves_usable_weights(tmp_path: Path) -> None:
    (tmp_path / "tiny.json").write_text(TINY.to_json())
    run, pictures = tmp_path / "run", tmp_path / "pictures"
    pictures.mkdir()
    for name in ("macaw.png", "lighthouse.png"):
        shutil.copy(TESTS / "pictures" / name, pictures)
    result = train(
        pictures, "-o", run, "--config", tmp_path / "tiny.json", "--steps", 120,
        "--batch", 4, "--patch", 64, "--lr", 3e-3, "--warmup", 10, "--val", pictures,
    )
    assert result.returncode == 0, result.stderr
    assert "Traceback" not in result.stderr
    curves = json.loads((run / "val.json").read_text())
    assert bd_rate(curves["final"], curves["initial"])[0] < -3
    record = json.loads((run / "record.json").read_text())
    assert (record["steps"], record["patches"]) == (120, 480)
    with (run / "log.csv").open() as log:
        assert [row["step"] for row in csv.DictReader(log)] == ["50", "100"]
    assert Codec(run / "weights.safetensors", "cpu").weights_id != Codec(
        run / "initial.safetensors", "cpu"
    ).weights_id

    refused = train(pictures, "-o", run, "--steps", 121, "--patch", 64)
    assert refused.returncode == 1
    assert refused.stderr.startswith("Error: ")
    resumed = train(
        pictures, "-o", run, "--resume", "--steps", 124, "--batch", 4, "--patch", 64
    )
    assert resumed.returncode == 0, resumed.stderr
    assert json.loads((run / "record.json").read_text())["patches"] == 496


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["nowhere", "-o", "run", "--steps", "1"], 1, "nowhere"),
        ([str(TESTS / "pictures"), "-o", "run"], 2, "--max-time"),
        ([str(TESTS / "pictures"), "-o", "run", "--steps", "1", "--patch", "100"], 2, "64"),
        ([str(TESTS / "pictures"), "-o", "{}", "--steps", "1", "--resume"], 1, "checkpoint"),
    ],
)
def test_mistakes_are_one_line(
    arguments: list[str], code: int, text: str, tmp_path: Path
) -> None:
    result = train(*[a.format(tmp_path / "none") for a in arguments])
    assert result.returncode == code
    assert text in result.stderr
    assert "Traceback" not in result.stderr


def test_schedule_warms_up_holds_and_decays() -> None:
    rates = [learning_rate(p, step=500, warmup_steps=100, decay=0.3) for p in (0, 0.5, 0.7)]
    assert rates == [1, 1, 1]
    falling = [learning_rate(p, 500, 100, 0.3) for p in np.linspace(0.7, 1, 20)]
    assert falling == sorted(falling, reverse=True)
    assert falling[-1] == pytest.approx(0.01)
    assert learning_rate(0, step=0, warmup_steps=100, decay=0.3) == pytest.approx(0.01)


def test_conditioning_is_log_uniform_with_mass_at_the_ends() -> None:
    drawn = sample_conditioning(np.random.default_rng(0), 20_000, 1)[:, 0]
    counts, _ = np.histogram(drawn[(drawn > 0) & (drawn < 1)], bins=10, range=(0, 1))
    assert counts.min() > 0.9 * counts.max()
    assert 0.03 < (drawn == 0).mean() < 0.06
    assert 0.03 < (drawn == 1).mean() < 0.06


def test_float_and_exported_scale_paths_agree(tiny_weights: Path) -> None:
    """A weights file keeps the scale path as integers; as floats it gives the same scales."""
    codec = Codec(tiny_weights, "cpu")
    z = torch.from_numpy(np.random.default_rng(0).integers(-9, 10, (TINY.hyper, 3, 4)))
    from vrcodec.model.config import LOG_SCALE_STEP, SCALE_LEVELS, SCALE_MIN

    conditioning = (12345,)
    exact = codec.scale_path.indexes(z, conditioning).long()
    log_sigma = codec.model.log_sigma(z[None].float(), torch.tensor([conditioning]) / 32768)[0]
    nearest = ((log_sigma - np.log(SCALE_MIN)) / LOG_SCALE_STEP).round().clamp(0, SCALE_LEVELS - 1)
    assert ((exact - nearest).abs() <= 1).all()
    assert (exact == nearest).float().mean() > 0.95
