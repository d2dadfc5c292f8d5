"""Training end to end on a tiny model, through the command line and its parts."""

from __future__ import annotations

import copy
import csv
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import RunVrcodec
from PIL import Image

from vrcodec.bitstream import container
from vrcodec.codec.codec import Codec
from vrcodec.conditional.dials import Conditioning
from vrcodec.conditional.film import Condition
from vrcodec.errors import VrcodecError
from vrcodec.evaluation.bjontegaard import bd_rate
from vrcodec.model.config import (
    LOG_SCALE_STEP,
    SCALE_LEVELS,
    SCALE_MIN,
    ModelConfig,
    unnamed_dials,
)
from vrcodec.model.fixed_point import FixedPointScalePath
from vrcodec.model.loading import build
from vrcodec.model.network import CompressionModel
from vrcodec.training.data import Augmentation, CropSampler, PictureStore
from vrcodec.training.export import export
from vrcodec.training.loop import (
    CHECKPOINT,
    TrainingOptions,
    TrainingState,
    load_checkpoint,
    new_state,
)
from vrcodec.training.loop import (
    train as run_loop,
)
from vrcodec.training.losses import MIX_RANGES, check_distortion, rate_distortion_loss
from vrcodec.training.run import grown
from vrcodec.training.schedule import learning_rate, sample_conditioning

TESTS = Path(__file__).parent
TINY = ModelConfig(
    width8=8,
    width16=8,
    analysis_blocks=(1, 1),
    synthesis_blocks=(1, 1),
    core=8,
    hyper=8,
    hyper_width=8,
    context_width=8,
    film_width=8,
    learned_linear=False,
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
        pictures,
        "-o",
        run,
        "--config",
        tmp_path / "tiny.json",
        "--steps",
        120,
        "--batch",
        4,
        "--patch",
        64,
        "--lr",
        3e-3,
        "--warmup",
        10,
        "--val",
        pictures,
    )
    assert result.returncode == 0, result.stderr
    assert "Traceback" not in result.stderr
    curves = json.loads((run / "val.json").read_text())
    assert bd_rate(curves["final"], curves["initial"])[0] < -3
    record = json.loads((run / "record.json").read_text(), parse_constant=pytest.fail)
    assert (record["steps"], record["patches"]) == (120, 480)
    with (run / "log.csv").open() as log:
        assert [row["step"] for row in csv.DictReader(log)] == ["50", "100"]
    assert (
        Codec(run / "weights.safetensors", "cpu").weights_id
        != Codec(run / "initial.safetensors", "cpu").weights_id
    )

    refused = train(pictures, "-o", run, "--steps", 121, "--patch", 64)
    assert refused.returncode == 1
    assert refused.stderr.startswith("Error: ")
    resumed = train(pictures, "-o", run, "--resume", "--steps", 124, "--batch", 4, "--patch", 64)
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
def test_mistakes_are_one_line(arguments: list[str], code: int, text: str, tmp_path: Path) -> None:
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


def test_a_twin_sees_one_lambda_only() -> None:
    drawn = sample_conditioning(np.random.default_rng(0), 50, 2, quality=0.25)
    assert (drawn[:, 0] == 0.25).all()
    assert len(np.unique(drawn[:, 1])) > 40


def test_float_and_exported_scale_paths_agree(tiny_weights: Path) -> None:
    """A weights file keeps the scale path as integers; as floats it gives the same scales."""
    codec = Codec(tiny_weights, "cpu")
    z = torch.from_numpy(np.random.default_rng(0).integers(-9, 10, (TINY.hyper, 3, 4)))
    conditioning = Conditioning((12345,))
    model, path = build(codec.weights)
    exact = path.indexes(z, conditioning).long()
    log_sigma = model.log_sigma(z[None].float(), torch.tensor([conditioning.positions]))[0]
    nearest = ((log_sigma - np.log(SCALE_MIN)) / LOG_SCALE_STEP).round().clamp(0, SCALE_LEVELS - 1)
    assert ((exact - nearest).abs() <= 1).all()
    assert (exact == nearest).float().mean() > 0.95


CPU = torch.device("cpu")
OPTIONS = TrainingOptions(
    max_steps=40, batch=4, patch=64, lr=3e-3, warmup_steps=10, decay=0.5, bf16=False
)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photographs")
    for name in ("macaw.png", "lighthouse.png"):
        shutil.copy(TESTS / "pictures" / name, folder)
    return folder


def test_tables_of_a_twin_are_counted_at_its_quality(
    photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Elsewhere on the dial it was never trained: counting there made a twin 10 % worse."""
    seen: list[float] = []
    original = CompressionModel.quantise

    def watched(
        self: CompressionModel, x: torch.Tensor, condition: Condition
    ) -> tuple[torch.Tensor, torch.Tensor]:
        seen.append(condition.vector.item())
        return original(self, x, condition)

    monkeypatch.setattr(CompressionModel, "quantise", watched)
    store = PictureStore([photographs], 64, CPU)
    model, sampler = new_state(TINY, store, OPTIONS, CPU).ema, CropSampler(store, Augmentation(), 0)
    for quality in (None, 0.25):
        export(copy.deepcopy(model), sampler, tmp_path / "weights.safetensors", 5, 64, quality)
    assert seen[:5] == pytest.approx([0.1, 0.3, 0.5, 0.7, 0.9], abs=1e-4)
    assert seen[5:] == [0.25] * 5


@pytest.fixture(scope="module")
def store(photographs: Path) -> PictureStore:
    return PictureStore([photographs], 64, CPU)


@pytest.fixture(scope="module")
def fresh(store: PictureStore) -> TrainingState:
    """A run of the tiny model at its beginning."""
    return new_state(TINY, store, OPTIONS, CPU)


def started(fresh: TrainingState, store: PictureStore, options: TrainingOptions) -> TrainingState:
    return new_state(TINY, store, options, CPU, copy.deepcopy(fresh.model))


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_an_interrupted_run_goes_on_bit_for_bit(
    optimizer: str,
    fresh: TrainingState,
    store: PictureStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    options = dataclasses.replace(OPTIONS, optimizer=optimizer, patch=32, final_patch=64)
    runs = [tmp_path / "through", tmp_path / "interrupted"]
    for run in runs:
        run.mkdir()
    through = started(fresh, store, options)
    assert run_loop(through, options, runs[0], False)

    drawn = CropSampler.batch

    def interrupt(sampler: CropSampler, count: int, size: int) -> torch.Tensor:
        if interrupted.step == 27:
            os.kill(os.getpid(), signal.SIGINT)
        return drawn(sampler, count, size)

    interrupted = started(fresh, store, options)
    monkeypatch.setattr(CropSampler, "batch", interrupt)
    assert not run_loop(interrupted, options, runs[1], False)
    monkeypatch.undo()
    resumed = load_checkpoint(runs[1] / CHECKPOINT, store, options, CPU)
    assert resumed.step == 28 and resumed.annealing
    assert run_loop(resumed, options, runs[1], False)

    assert resumed.patches == through.patches == 21 * 4 + 19 * 1
    for networks in ("model", "ema"):
        first, second = (getattr(state, networks).state_dict() for state in (through, resumed))
        assert all(torch.equal(first[name], second[name]) for name in first)
        start = fresh.model.state_dict()
        assert any(not torch.equal(first[name], start[name]) for name in first)


def test_two_processes_train_like_one(
    fresh: TrainingState, photographs: Path, tmp_path: Path
) -> None:
    """The same crops, split; what differs is the noise that stands for rounding."""
    trained = []
    for processes in (1, 2):
        run = tmp_path / str(processes)
        run.mkdir()
        result = subprocess.run(
            [
                sys.executable,
                "-m",
                "torch.distributed.run",
                "--standalone",
                "--nproc-per-node",
                str(processes),
                TESTS / "distributed_worker.py",
                photographs,
                run,
                TINY.to_json(),
                "100",
            ],
            cwd=TESTS.parent,
            env=os.environ | {"PYTHONPATH": str(TESTS.parent)},
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert result.returncode == 0, result.stderr
        with (run / "log.csv").open() as log:
            rows = list(csv.DictReader(log))
        assert [row["patches"] for row in rows] == ["200", "400"]
        parameters = torch.load(run / "model.pt", weights_only=True)
        trained.append((rows, torch.cat([p.flatten() for p in parameters.values()])))
    (rows, one), (same, two) = trained
    for row, other in zip(rows, same, strict=True):
        assert float(row["loss"]) == pytest.approx(float(other["loss"]), rel=0.02)
    start = torch.cat([p.flatten() for p in fresh.model.state_dict().values()])
    assert (one - two).norm() < 0.5 * (one - start).norm()


def test_more_blocks_change_nothing_until_they_are_trained(fresh: TrainingState) -> None:
    config = dataclasses.replace(
        TINY, analysis_blocks=(2, 1), synthesis_blocks=(1, 3), context_blocks=1
    )
    larger = grown(fresh.model, config)
    x, quality = torch.rand(2, 3, 80, 64), torch.tensor([[0.2], [0.9]])
    with torch.no_grad():
        before, after = (model.eval()(x, quality) for model in (fresh.model, larger))
    assert sum(p.numel() for p in larger.parameters()) > sum(
        p.numel() for p in fresh.model.parameters()
    )
    torch.testing.assert_close(after.x_hat, before.x_hat)
    torch.testing.assert_close(after.y_bits, before.y_bits)
    with pytest.raises(VrcodecError, match="more blocks"):
        grown(fresh.model, dataclasses.replace(TINY, core=16))


def test_final_phase_sees_the_integers_of_the_scale_path(fresh: TrainingState) -> None:
    path = copy.deepcopy(fresh.model.scale_path)
    z = torch.from_numpy(np.random.default_rng(1).integers(-9, 10, (1, TINY.hyper, 6, 5)))
    path.fixed_point = True
    log_sigma = path(z.float().requires_grad_(), torch.tensor([[0.75]]))
    levels = ((log_sigma - np.log(SCALE_MIN)) / LOG_SCALE_STEP).round()
    exact = FixedPointScalePath.from_float(path).indexes(z[0], Conditioning((3 * 32768 // 4,)))
    rounded = levels.clamp(0, SCALE_LEVELS - 1)[0]
    assert ((rounded - exact.long()).abs() <= 1).all()
    assert (rounded == exact.long()).float().mean() > 0.999
    log_sigma.sum().backward()
    assert all(conv.weight.grad.abs().sum() > 0 for conv in path.convs)


def test_losses_weigh_what_they_say() -> None:
    """Of two errors of the same MSE, MS-SSIM minds one more; a mix does as it is told."""
    x = 0.5 + 0.2 * torch.sin(torch.arange(192) / 9).expand(1, 3, 192, 192)
    rows = torch.arange(192) // 16 % 2
    errors = {
        "blocks": (rows[:, None] ^ rows[None, :]).float() * 2 - 1,
        "fine": (torch.arange(192)[:, None] + torch.arange(192)) % 2 * 2.0 - 1,
    }

    def loss(kind: str, error: str, quality: tuple[float, ...], ranges: object) -> float:
        config = dataclasses.replace(TINY, dials=unnamed_dials(ranges))

        def model(x: torch.Tensor, conditioning: torch.Tensor) -> types.SimpleNamespace:
            return types.SimpleNamespace(x_hat=x + 0.04 * errors[error], bpp=torch.tensor([0.5]))

        return float(
            rate_distortion_loss(
                model,
                x,
                torch.tensor([quality]),
                config,
                0.5,
                kind,  # type: ignore[arg-type]
            )[0]
        )

    one = TINY.lambda_ranges
    lam = (0.0006 * 0.5) ** 0.5
    expected = (0.5 + lam * 255**2 * 0.04**2) / lam**0.5
    assert loss("mse", "blocks", (0.5,), one) == pytest.approx(expected, rel=1e-3)
    assert loss("mse", "fine", (0.5,), one) == pytest.approx(expected, rel=1e-3)
    gap = loss("ms-ssim", "blocks", (0.1,), one) - loss("ms-ssim", "fine", (0.1,), one)
    assert abs(gap) > 0.01
    little, much = (
        loss("mix", "blocks", (0.1, mu), MIX_RANGES) - loss("mix", "fine", (0.1, mu), MIX_RANGES)
        for mu in (0.0, 0.9)
    )
    assert little == pytest.approx(0.1 * gap, rel=1e-2)
    assert abs(much) > 10 * abs(little)


def test_impossible_losses_are_refused() -> None:
    two = dataclasses.replace(TINY, dials=unnamed_dials(MIX_RANGES))
    for kind, config, patch in (("mix", TINY, 256), ("mse", two, 256), ("ms-ssim", TINY, 128)):
        with pytest.raises(VrcodecError, match="--loss"):
            check_distortion(kind, config, patch)
    check_distortion("mix", two, 192)


@pytest.mark.skipif(os.name == "nt", reason="a shell script")
def test_the_release_script_trains_and_goes_on(tmp_path: Path) -> None:
    (tmp_path / "tiny.json").write_text(TINY.to_json())
    (tmp_path / "pictures").mkdir()
    shutil.copy(TESTS / "pictures" / "macaw.png", tmp_path / "pictures")
    command = tmp_path / "bin" / "vrcodec"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m vrcodec "$@"\n')
    command.chmod(0o755)

    def run_script(options: str) -> dict[str, object]:
        result = subprocess.run(
            [TESTS.parent / "scripts" / "train_release.sh", "run", "pictures", "pictures"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
            env=os.environ
            | {
                "PATH": f"{command.parent}:{os.environ['PATH']}",
                "PYTHONPATH": str(TESTS.parent),
                "OPTIONS": "--batch 2 --patch 64 --final-patch 128 --final-batch 1 --decay 0.5 "
                + options,
            },
        )
        assert result.returncode == 0, result.stderr
        record: dict[str, object] = json.loads((tmp_path / "run" / "record.json").read_text())
        return record

    first = run_script("--steps 4 --config tiny.json")
    assert (first["steps"], first["patches"]) == (4, 3 * 2 + 1)
    second = run_script("--steps 6")
    assert (second["steps"], second["patches"]) == (6, 3 * 2 + 3)
    for name in ("weights.safetensors", "trunk.safetensors"):
        Codec(tmp_path / "run" / name, "cpu")
    curves = json.loads((tmp_path / "run" / "val.json").read_text())
    assert len(curves["final"]["bpp"]) == 9


def test_variants_are_compared_and_drawn(tmp_path: Path) -> None:
    plan = {
        "options": "--steps 3 --batch 2 --patch 64 --decay 0.5",
        "seeds": [1],
        "config": json.loads(TINY.to_json()),
        "variants": {
            "usual": {},
            "without FiLM": {"config": {"film_width": 0}},
            "longer": {"from": "usual", "options": "--steps 6"},
            "patched": {"patch": "patch.py"},
            "twin": {"options": "--only-quality 0.5"},
        },
    }
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    (tmp_path / "patch.py").write_text(
        "from vrcodec.training import loop\nloop.LOG_COLUMNS = ('patched',)\n"
    )
    (tmp_path / "pictures").mkdir()
    shutil.copy(TESTS / "pictures" / "macaw.png", tmp_path / "pictures")

    def compare(*options: str) -> list[str]:
        result = subprocess.run(
            [
                sys.executable,
                TESTS.parent / "scripts" / "ablate.py",
                "plan.json",
                "-o",
                "out",
                "--train",
                "pictures",
                "--val",
                "pictures",
                "--val-crop",
                "64",
                "--jobs",
                "2",
                "--plot",
                "differences.png",
                *options,
            ],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
            env=os.environ | {"PYTHONPATH": str(TESTS.parent)},
        )
        assert result.returncode == 0, result.stderr
        return result.stdout.splitlines()

    lines = compare()
    rows = ["| without FiLM", "| longer", "| patched", "| twin"]
    assert [line.split(" | ")[0] for line in lines[-4:]] == rows
    assert json.loads((tmp_path / "out/without-FiLM/1/record.json").read_text())["steps"] == 3
    twin = tmp_path / "out" / "twin"
    options = json.loads((twin / "1" / "record.json").read_text())["options"]
    assert (options["seed"], options["only_quality"]) == (1, 0.5)
    Image.open(tmp_path / "differences.png").verify()
    assert (tmp_path / "out/patched/1/log.csv").read_text().startswith("patched")
    assert Image.open(tmp_path / "out/centres/0000.png").size == (64, 64)
    grown = torch.load(tmp_path / "out/longer/1/trunk.pt", weights_only=True)
    assert grown["step"] == 4 and not grown["annealing"]
    longer = json.loads((tmp_path / "out/longer/1/record.json").read_text())
    assert longer["steps"] == 6

    shutil.copy(tmp_path / "out" / "usual" / "1" / "curve.json", twin / "1")
    last = compare("--against", "usual")[-1].replace("-0.00", "+0.00")
    assert last == "| twin | 1 | +0.00 % | +0.00 % | +0.00 % |"  # nothing is trained twice


def test_weights_for_a_mix_have_a_second_dial(tmp_path: Path, run_vrcodec: RunVrcodec) -> None:
    two = dataclasses.replace(TINY, dials=unnamed_dials(MIX_RANGES))
    (tmp_path / "two.json").write_text(two.to_json())
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    shutil.copy(TESTS / "pictures" / "macaw.png", pictures)
    result = train(
        pictures,
        "-o",
        tmp_path / "run",
        "--config",
        tmp_path / "two.json",
        "--loss",
        "mix",
        "--steps",
        2,
        "--batch",
        1,
        "--patch",
        192,
        "--lambda-weight",
        0.25,
    )
    assert result.returncode == 0, result.stderr
    record = json.loads((tmp_path / "run" / "record.json").read_text())
    assert record["options"]["lambda_weight"] == 0.25
    chosen = ("--weights", tmp_path / "run" / "weights.safetensors", "--ms-ssim-weight", "0.875")
    picture, whole = pictures / "macaw.png", tmp_path / "whole"
    for source, target, quality in (
        (picture, tmp_path / "one.vrc", ("-q", "0.25")),
        (pictures, whole, ("-q", "0.25")),
        (picture, tmp_path / "half.vrc", ("--target-bpp", "0.8")),
    ):
        done = run_vrcodec("encode", source, "-o", target, *quality, *chosen)
        assert done.returncode == 0, done.stderr
    one, half = ((tmp_path / name).read_bytes() for name in ("one.vrc", "half.vrc"))
    folder = (whole / "macaw.vrc").read_bytes()
    assert container.unpack(one).header.conditioning.values == (8192, 28672)
    assert container.unpack(folder).header.conditioning.values == (8192, 28672)
    assert container.unpack(half).header.conditioning.values[1] == 28672
    assert 0.77 < container.describe(half)["bpp"] <= 0.8
    done = run_vrcodec("encode", pictures, "-o", tmp_path / "no", *chosen[2:])
    assert done.returncode == 1 and b"no dial ms-ssim-weight" in done.stderr
    assert done.stderr.count(b"\n") == 1 and not (tmp_path / "no").exists()


def test_crops_are_parts_of_the_pictures(store: PictureStore) -> None:
    sampler = CropSampler(store, Augmentation(rescale=0, grey=0, noise=0, synthetic=0), seed=5)
    for crop in sampler.batch(6, 64):
        found = False
        for number in range(len(store)):
            picture = store.picture(number)
            for turned in (crop, crop.flip(2)):
                target = (turned * 255).round().to(torch.uint8)
                rows, columns = torch.nonzero(
                    (picture[:, :-63, :-63] == target[:, :1, :1]).all(dim=0), as_tuple=True
                )
                found |= any(
                    torch.equal(picture[:, r : r + 64, c : c + 64], target)
                    for r, c in zip(rows.tolist(), columns.tolist(), strict=True)
                )
        assert found


def test_augmentation_makes_grey_and_reduced_crops(store: PictureStore) -> None:
    grey = CropSampler(store, Augmentation(0, 1, 0, 0), 0).batch(3, 64)
    assert torch.equal(grey[:, 0], grey[:, 1]) and torch.equal(grey[:, 1], grey[:, 2])
    reduced = CropSampler(store, Augmentation(1, 0, 0, 0), 0).batch(8, 64)
    plain = CropSampler(store, Augmentation(0, 0, 0, 0), 0).batch(8, 64)
    assert reduced.shape == plain.shape == (8, 3, 64, 64)
    assert float(reduced.min()) >= 0 and float(reduced.max()) <= 1


def test_training_and_validation_need_no_coder(photographs: Path, tiny_weights: Path) -> None:
    """A machine lent for training has torch, numpy, Pillow, safetensors, tqdm and click only."""
    program = f"""
import sys
from pathlib import Path
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("constriction", "scipy", "pytorch_msssim", "fsspec"):
            raise ImportError(name)
sys.meta_path.insert(0, Absent())
import vrcodec.cli.train
from vrcodec.training.run import run_training, validate
curve = validate(Path({str(tiny_weights)!r}), Path({str(photographs)!r}), "cpu")
assert curve["bpp"] == sorted(curve["bpp"]), curve
print(len(curve["psnr"]))
"""
    result = subprocess.run(
        [sys.executable, "-c", program],
        cwd=TESTS.parent,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.stdout.strip() == "9", result.stderr
