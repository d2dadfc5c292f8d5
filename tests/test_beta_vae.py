"""The beta-VAE: a tiny training in which beta does what it should."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from vrcodec.beta_vae.network import SIDE, BetaVae, Coded, Shape
from vrcodec.beta_vae.objective import DIALS, BetaVaeLoss, measured
from vrcodec.training.data import PictureStore
from vrcodec.training.folder import run_task
from vrcodec.training.options import LoopOptions

TINY = Shape(width=8, dense=32, latents=8, film_width=8)


@pytest.fixture(scope="module")
def store(pictures: Path) -> PictureStore:
    return PictureStore([pictures], SIDE, torch.device("cpu"))


def test_the_divergence_is_that_of_torch() -> None:
    mean, log_variance = torch.randn(3, 5), torch.randn(3, 5)
    normal = torch.distributions.Normal
    wanted = torch.distributions.kl_divergence(
        normal(mean, (log_variance / 2).exp()), normal(torch.zeros(5), torch.ones(5))
    ).sum(1)
    torch.testing.assert_close(Coded(mean, mean, log_variance).kl, wanted)


@pytest.mark.slow
def test_a_small_beta_spends_more_nats_and_errs_less(store: PictureStore, tmp_path: Path) -> None:
    torch.manual_seed(0)
    task = BetaVaeLoss(store, shape=TINY)
    options = {"max_steps": 240, "batch": 16, "lr": 4e-3, "warmup_steps": 5, "ema": 0.95}
    options["precision"] = "float32"
    crops = task.batch(64)[0]
    assert run_task(lambda *_: task, tmp_path / "run", options, LoopOptions)
    network = BetaVae(TINY)
    network.load_state_dict(load_file(tmp_path / "run" / "weights.safetensors"))
    (error_low, kl_low), (error_high, kl_high) = (measured(network, crops, p) for p in (0.0, 1.0))
    assert kl_low > kl_high and error_low < error_high
    assert measured(network, crops, 0.0) == (error_low, kl_low)


def test_a_twin_is_trained_for_one_beta_alone(store: PictureStore) -> None:
    _, positions = BetaVaeLoss(store, beta_position=0.5, shape=TINY).batch(9)
    assert positions.tolist() == [[0.5]] * 9
    assert DIALS.coefficients([0.5]) == pytest.approx((8.0,))
    spread = BetaVaeLoss(store, shape=TINY).batch(99)[1]
    assert spread.min() == 0 and spread.max() == 1 and spread.std() > 0.2


@pytest.mark.slow
def test_the_comparison_with_twins(pictures: Path, tmp_path: Path) -> None:
    """Runs, is not done again, and prints what the document shows."""
    pytest.importorskip("matplotlib")
    script = Path(__file__).parents[1] / "scripts" / "beta_vae.py"
    out, svg = tmp_path / "out", tmp_path / "terms.svg"
    command = [sys.executable, str(script), "--train", str(pictures), "--val", str(pictures)]
    command += ["-o", str(out), "--steps", "3", "--crops", "16", "--plot", str(svg)]
    printed = []
    for _ in range(2):
        result = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
            cwd=script.parents[1],
            env=os.environ | {"PYTHONPATH": str(script.parents[1])},
        )
        assert result.returncode == 0, result.stderr
        printed.append((result.stdout, svg.read_bytes()))
    assert printed[0] == printed[1]
    assert printed[0][0].count("twin, equal compute") == 3 and b"<svg" in printed[0][1]
    assert len(list(out.glob("*/weights.safetensors"))) == 7
