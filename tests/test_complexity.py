"""Counting of multiply-accumulates, and CompressAI's architectures measured with it."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vrcodec.evaluation.codecs.compressai import build
from vrcodec.evaluation.complexity import (
    Complexity,
    complexity_table,
    count_macs,
    count_parameters,
    cpu_seconds,
)
from vrcodec.evaluation.compressai_baselines import measure_baseline

needs_compressai = pytest.mark.skipif(
    importlib.util.find_spec("compressai") is None, reason="compressai is not installed"
)


class Branches(nn.Module):
    """A depthwise and a strided convolution, run twice, and a functional one."""

    def __init__(self) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(4, 4, 3, padding=1, groups=4)
        self.down = nn.Sequential(nn.Conv2d(4, 6, 2, stride=2), nn.ReLU())
        self.up = nn.ConvTranspose2d(6, 4, 2, stride=2)
        self.head = nn.Linear(4, 5)
        self.scale = nn.Parameter(torch.ones(4, 4, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = self.up(self.down(self.depthwise(self.depthwise(x))))
        x = F.conv2d(x, self.scale)
        return self.head(x.mean(dim=(2, 3)))


@pytest.mark.slow
def test_count_macs_attributes_to_submodules() -> None:
    network = Branches()
    macs = count_macs(network, lambda: network(torch.zeros(1, 4, 8, 16)))
    pixels = 8 * 16
    assert macs["depthwise"] == 2 * pixels * 4 * 9
    assert macs["down"] == macs["down.0"] == pixels / 4 * 4 * 6 * 4
    assert macs["down.1"] == 0
    assert macs["up"] == pixels / 4 * 6 * 4 * 4
    assert macs["head"] == 20
    functional = pixels * 4 * 4
    parts = sum(macs[name] for name in ("depthwise", "down", "up", "head"))
    assert macs["total"] == parts + functional


def test_count_macs_of_a_part_called_directly() -> None:
    network = Branches()
    macs = count_macs(network, lambda: network.down(torch.zeros(2, 4, 8, 8)))
    assert macs["total"] == macs["down"] == 2 * 16 * 4 * 6 * 4
    assert "up" not in macs


def test_count_macs_leaves_no_hooks_after_a_failure() -> None:
    network = Branches()
    with pytest.raises(RuntimeError):
        count_macs(network, lambda: network(torch.zeros(1, 3, 8, 8)))
    for module in network.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks


def test_count_parameters_counts_trainable_ones_once() -> None:
    shared = nn.Linear(3, 2)
    network = nn.Sequential(shared, nn.ReLU(), shared, nn.BatchNorm2d(5))
    network[3].weight.requires_grad_(False)
    assert count_parameters(network) == 3 * 2 + 2 + 5


def test_cpu_seconds_restores_the_thread_count() -> None:
    threads = torch.get_num_threads()
    seen = []
    seconds = cpu_seconds(lambda: seen.append(torch.get_num_threads()), threads=1, repeats=2)
    assert seconds >= 0
    assert seen == [1, 1, 1]
    assert torch.get_num_threads() == threads


def test_complexity_table_has_one_line_per_row() -> None:
    row = Complexity("ours", 9_000_000, 55.0, 44.0, 40.0, 35.0, 0.25, 0.5)
    lines = complexity_table([row, row]).splitlines()
    assert len(lines) == 4
    assert {line.count("|") for line in lines} == {9}
    assert lines[2] == "| ours | 9.0 | 55.0 | 40.0 | 44.0 | 35.0 | 0.25 | 0.50 |"


def run_python(code: str, *paths: Path) -> None:
    """Run code in a new interpreter, with `paths` and the checkout first in its search path."""
    checkout = Path(__file__).parents[1]
    search = f"import sys; sys.path[:0] = {[str(p) for p in (*paths, checkout)]}\n"
    subprocess.run([sys.executable, "-c", search + code], check=True, timeout=120)


@pytest.mark.slow
def test_shim_declares_operators_when_the_binary_does_not_load(tmp_path: Path) -> None:
    suffix = importlib.machinery.EXTENSION_SUFFIXES[-1]
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / "__init__.py").touch()
    (tmp_path / "torchvision" / f"_C{suffix}").write_bytes(b"not a library")
    run_python(
        """
import torch
from vrcodec.evaluation.torchvision_shim import ensure_torchvision_operators

ensure_torchvision_operators()
ensure_torchvision_operators()
boxes = torch.zeros(1, 4)
for operator in (torch.ops.torchvision.nms, torch.ops.torchvision.qnms):
    try:
        operator(boxes, boxes[:, 0], 0.5)
    except NotImplementedError:
        continue
    raise AssertionError(f"{operator} is not expected to run")
""",
        tmp_path,
    )


@pytest.mark.slow
def test_shim_leaves_existing_operators_alone() -> None:
    run_python(
        """
import torch
from vrcodec.evaluation.torchvision_shim import ensure_torchvision_operators

library = torch.library.Library("torchvision", "DEF")
library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
library.impl("nms", lambda dets, scores, iou_threshold: scores, "CPU")
ensure_torchvision_operators()
assert not hasattr(torch.ops.torchvision, "qnms")
scores = torch.ones(3)
assert torch.ops.torchvision.nms(torch.zeros(3, 4), scores, 0.5).equal(scores)
"""
    )


@pytest.mark.slow
@needs_compressai
def test_baselines_import_compressai_only_on_use() -> None:
    run_python(
        """
from vrcodec.evaluation.codecs.compressai import build

assert "compressai" not in sys.modules and "torchvision" not in sys.modules
build("mbt2018-mean", 1)
assert "compressai" in sys.modules
"""
    )


@pytest.mark.slow
@needs_compressai
def test_hyperprior_layers_cost_what_is_published_for_them() -> None:
    """Layer by layer from the definition of the network (N = 128, M = 192 channels)."""
    network = build("bmshj2018-hyperprior", 3)
    height, width = 64, 128
    macs = count_macs(network, lambda: network(torch.zeros(1, 3, height, width)))
    kmac = {name: count / (1000 * height * width) for name, count in macs.items()}

    n, m = 128, 192
    convolutions = (3 * n / 4 + n * n / 16 + n * n / 64 + n * m / 256) * 25 / 1000
    normalisations = (n * n / 4 + n * n / 16 + n * n / 64) / 1000
    hyper = (m * n * 9 / 256 + n * n * 25 / 1024 + n * n * 25 / 4096) / 1000
    assert kmac["g_a"] == pytest.approx(convolutions + normalisations, rel=1e-6)
    assert kmac["g_s"] == pytest.approx(convolutions + normalisations, rel=1e-6)
    assert kmac["h_a"] == kmac["h_s"] == pytest.approx(hyper, rel=1e-6)
    assert sum(kmac[f"g_a.{i}"] for i in (0, 2, 4, 6)) + kmac["h_a"] == pytest.approx(38, abs=0.5)


@pytest.mark.slow
@needs_compressai
@pytest.mark.parametrize(
    ("architecture", "million_parameters", "encode", "decode"),
    [
        ("bmshj2018-hyperprior", 5.1, 44.9, 43.5),
        ("mbt2018-mean", 7.0, 48.9, 47.6),
        ("cheng2020-anchor", 11.8, 174.7, 260.3),
    ],
)
def test_measure_baseline(
    architecture: str, million_parameters: float, encode: float, decode: float
) -> None:
    cost = measure_baseline(architecture, 3, width=128, height=64, repeats=1)
    assert cost.parameters / 1e6 == pytest.approx(million_parameters, abs=0.06)
    assert cost.encode_kmac == pytest.approx(encode, abs=0.06)
    assert cost.decode_kmac == pytest.approx(decode, abs=0.06)
    assert 0 < cost.analysis_kmac < cost.encode_kmac
    assert 0 < cost.synthesis_kmac < cost.decode_kmac
    assert cost.analysis_seconds > 0
    assert cost.synthesis_seconds > 0


@pytest.mark.parametrize(("width", "height"), [(0, 64), (64, 100), (32, 32)])
def test_measure_baseline_refuses_impossible_pictures(width: int, height: int) -> None:
    with pytest.raises(ValueError, match="multiples of 64"):
        measure_baseline("mbt2018-mean", 3, width=width, height=height)


@needs_compressai
def test_build_refuses_unknown_names_and_qualities() -> None:
    with pytest.raises(ValueError, match="unknown architecture 'jpeg'"):
        build("jpeg", 3)
    with pytest.raises(ValueError, match="quality"):
        build("mbt2018-mean", 9)
