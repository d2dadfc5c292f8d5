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
from conftest import RunVrcodec, wait_for
from PIL import Image

from vrcodec.bitstream import container
from vrcodec.codec.codec import Codec
from vrcodec.conditional.dials import ONE, Conditioning, Dial, Dials
from vrcodec.conditional.film import Condition
from vrcodec.errors import VrcodecError
from vrcodec.evaluation.bjontegaard import bd_rate
from vrcodec.model.config import LOG_SCALE_STEP, SCALE_LEVELS, SCALE_MIN, ModelConfig
from vrcodec.model.fixed_point import FixedPointScalePath
from vrcodec.model.loading import build
from vrcodec.model.network import CompressionModel
from vrcodec.model.weights_file import load_weights
from vrcodec.training import checkpoints
from vrcodec.training.checkpoints import CHECKPOINT, TrainingState, new_state
from vrcodec.training.data import Augmentation, CropSampler, PictureStore
from vrcodec.training.export import export
from vrcodec.training.growing import grown
from vrcodec.training.loop import train as run_loop
from vrcodec.training.losses import TUNE_RANGE
from vrcodec.training.options import TrainingOptions
from vrcodec.training.rate_distortion import RateDistortion, with_tune
from vrcodec.training.schedule import learning_rate, sample_positions

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


@pytest.mark.slow
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
        "--log-steps",
        50,
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
        "--val-crop",
        128,
        "--export-pictures",
        64,
    )
    assert result.returncode == 0, result.stderr
    assert "Traceback" not in result.stderr
    curves = json.loads((run / "val.json").read_text())
    assert bd_rate(curves["final"], curves["initial"])[0] < -3
    record = json.loads((run / "record.json").read_text(), parse_constant=pytest.fail)
    assert (record["steps"], record["patches"]) == (120, 480)
    with (run / "log.csv").open() as log:
        steps = [row["step"] for row in csv.DictReader(log)]
    assert {"50", "100", "120"} <= set(steps)
    assert (
        Codec(run / "weights.safetensors", "cpu").weights_id
        != Codec(run / "initial.safetensors", "cpu").weights_id
    )

    refused = train(pictures, "-o", run, "--steps", 121, "--patch", 64)
    assert refused.returncode == 1
    assert refused.stderr.startswith("Error: ")
    resumed = train("-o", run, "--resume", "--steps", 124)
    assert resumed.returncode == 0, resumed.stderr
    assert "steps: 120, from now on 124" in resumed.stderr
    assert json.loads((run / "record.json").read_text())["patches"] == 496


@pytest.mark.slow
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


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_ctrl_c_leaves_a_checkpoint_and_130(photographs: Path, tmp_path: Path) -> None:
    (tmp_path / "tiny.json").write_text(TINY.to_json())
    run = tmp_path / "run"
    command = [sys.executable, "-m", "vrcodec", "train", photographs, "-o", run]
    command += ["--config", tmp_path / "tiny.json", "--max-time", "500", "--patch", "64"]
    command += ["--export-pictures", "4", "--log-every", "0.1"]
    with subprocess.Popen(
        list(map(str, command)), cwd=TESTS.parent, stderr=subprocess.PIPE, text=True
    ) as process:
        log = run / "log.csv"  # its head, and a row of whichever step took long enough
        wait_for(lambda: log.exists() and log.read_bytes().count(b"\n") > 1)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=120)
    assert process.returncode == 130 and "go on with --resume" in said
    assert "crops/s" in said and "left" in said  # a plain line, as this is no terminal
    saved = checkpoints.read(run / CHECKPOINT)
    assert saved.step > 0 and saved.sources["pictures"] == [str(photographs)]
    assert not list(run.glob(".*")) and not (run / "weights.safetensors").exists()
    again = train("-o", run, "--resume", "--steps", saved.step)
    assert again.returncode == 0, again.stderr
    Codec(run / "weights.safetensors", "cpu")


def test_schedule_warms_up_holds_and_decays() -> None:
    rates = [learning_rate(p, step=500, warmup_steps=100, decay=0.3) for p in (0, 0.5, 0.7)]
    assert rates == [1, 1, 1]
    falling = [learning_rate(p, 500, 100, 0.3) for p in np.linspace(0.7, 1, 20)]
    assert falling == sorted(falling, reverse=True)
    assert falling[-1] == pytest.approx(0.01)
    assert learning_rate(0, step=0, warmup_steps=100, decay=0.3) == pytest.approx(0.01)


ONE_DIAL = Dials((Dial("quality", 0.0006, 0.5),))


def test_conditioning_is_log_uniform_with_mass_at_the_ends() -> None:
    drawn = sample_positions(np.random.default_rng(0), 20_000, ONE_DIAL)[:, 0]
    counts, _ = np.histogram(drawn[(drawn > 0) & (drawn < 1)], bins=10, range=(0, 1))
    assert counts.min() > 0.9 * counts.max()
    assert 0.03 < (drawn == 0).mean() < 0.06
    assert 0.03 < (drawn == 1).mean() < 0.06


def test_a_twin_sees_one_lambda_only() -> None:
    two = Dials((*ONE_DIAL, Dial("tune", *TUNE_RANGE)))
    drawn = sample_positions(np.random.default_rng(0), 50, two, {"quality": 0.25})
    assert (drawn[:, 0] == 0.25).all()
    assert len(np.unique(drawn[:, 1])) > 40


def test_float_and_exported_scale_paths_agree(tiny_weights: Path) -> None:
    """A weights file keeps the scale path as integers; as floats it gives the same scales."""
    model, fixed = build(load_weights(tiny_weights))
    z = torch.from_numpy(np.random.default_rng(0).integers(-9, 10, (TINY.hyper, 3, 4)))
    conditioning = Conditioning((12345,))
    exact = fixed.indexes(z, conditioning).long()
    log_sigma = model.log_sigma(z[None].float(), torch.tensor([conditioning.positions]))[0]
    nearest = ((log_sigma - np.log(SCALE_MIN)) / LOG_SCALE_STEP).round().clamp(0, SCALE_LEVELS - 1)
    assert ((exact - nearest).abs() <= 1).all()
    assert (exact == nearest).float().mean() > 0.95


CPU = torch.device("cpu")
OPTIONS = TrainingOptions(
    max_steps=40, batch=4, patch=64, lr=3e-3, warmup_steps=10, decay=0.5, precision="float32"
)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photographs")
    for name in ("macaw.png", "lighthouse.png"):
        shutil.copy(TESTS / "pictures" / name, folder)
    return folder


@pytest.mark.slow
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
    model = RateDistortion(TINY, store, OPTIONS).fresh()
    sampler = CropSampler(store, Augmentation(), 0)
    for quality in (None, 0.25):
        export(copy.deepcopy(model), sampler, tmp_path / "weights.safetensors", 5, 64, quality)
    assert seen[:5] == pytest.approx([0.1, 0.3, 0.5, 0.7, 0.9], abs=1e-4)
    assert seen[5:] == [0.25] * 5


@pytest.fixture(scope="module")
def store(photographs: Path) -> PictureStore:
    return PictureStore([photographs], 64, CPU)


@pytest.fixture(scope="module")
def fresh(store: PictureStore) -> TrainingState[CompressionModel]:
    """A run of the tiny model at its beginning."""
    return new_state(RateDistortion(TINY, store, OPTIONS), OPTIONS, CPU)


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_an_interrupted_run_goes_on_bit_for_bit(
    optimizer: str,
    fresh: TrainingState[CompressionModel],
    photographs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    options = dataclasses.replace(OPTIONS, optimizer=optimizer, final_patch=128)
    store = PictureStore([photographs], 128, CPU)
    runs = [tmp_path / "through", tmp_path / "interrupted"]
    for run in runs:
        run.mkdir()

    def begun() -> tuple[TrainingState[CompressionModel], RateDistortion]:
        objective = RateDistortion(TINY, store, options, copy.deepcopy(fresh.model))
        return new_state(objective, options, CPU), objective

    through, objective = begun()
    assert run_loop(through, objective, options, runs[0])

    interrupted, objective = begun()
    drawn = objective.batch

    def interrupt(count: int, size: int) -> tuple[torch.Tensor, ...]:
        if interrupted.step == 27:
            os.kill(os.getpid(), signal.SIGINT)
        return drawn(count, size)

    monkeypatch.setattr(objective, "batch", interrupt)
    assert not run_loop(interrupted, objective, options, runs[1])
    saved = checkpoints.read(runs[1] / CHECKPOINT)
    assert saved.options == options
    objective = RateDistortion(saved.model_config(), store, saved.options)
    resumed = checkpoints.restore(saved, objective, saved.options, CPU)
    assert resumed.step == 28 and resumed.annealing
    assert run_loop(resumed, objective, options, runs[1])

    assert resumed.patches == through.patches == 21 * 4 + 19 * 1
    for networks in ("model", "ema"):
        first, second = (getattr(state, networks).state_dict() for state in (through, resumed))
        assert all(torch.equal(first[name], second[name]) for name in first)
        start = fresh.model.state_dict()
        assert any(not torch.equal(first[name], start[name]) for name in first)


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_two_processes_train_like_one(
    fresh: TrainingState[CompressionModel], photographs: Path, tmp_path: Path, optimizer: str
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
                optimizer,
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
        rows = [row for row in rows if row["patches"] in ("200", "400")]
        assert len(rows) == 2
        parameters = torch.load(run / "model.pt", weights_only=True)
        trained.append((rows, torch.cat([p.flatten() for p in parameters.values()])))
    (rows, one), (same, two) = trained
    for row, other in zip(rows, same, strict=True):
        assert float(row["loss"]) == pytest.approx(float(other["loss"]), rel=0.02)
    start = torch.cat([p.flatten() for p in fresh.model.state_dict().values()])
    assert (one - two).norm() < 0.5 * (one - start).norm()


@pytest.mark.slow
def test_more_blocks_change_nothing_until_they_are_trained(
    fresh: TrainingState[CompressionModel],
) -> None:
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
    for change in ({"core": 16}, {"context_passes": 2}, {"analysis_blocks": (2, 0)}):
        with pytest.raises(VrcodecError, match=f"{next(iter(change))} .* cannot become"):
            grown(fresh.model, dataclasses.replace(TINY, **change))  # type: ignore[arg-type]


def test_final_phase_sees_the_integers_of_the_scale_path(
    fresh: TrainingState[CompressionModel],
) -> None:
    path = copy.deepcopy(fresh.model.scale_path)
    z = torch.from_numpy(np.random.default_rng(1).integers(-9, 10, (1, TINY.hyper, 6, 5)))
    path.fixed_point = True
    log_sigma = path(z.float().requires_grad_(), torch.tensor([[0.75]]))
    levels = ((log_sigma - np.log(SCALE_MIN)) / LOG_SCALE_STEP).round()
    exact = FixedPointScalePath.from_float(path).indexes(z[0], Conditioning((3 * ONE // 4,)))
    rounded = levels.clamp(0, SCALE_LEVELS - 1)[0]
    assert ((rounded - exact.long()).abs() <= 1).all()
    assert (rounded == exact.long()).float().mean() > 0.999
    log_sigma.sum().backward()
    assert all(conv.weight.grad.abs().sum() > 0 for conv in path.convs)


def test_losses_weigh_what_they_say(store: PictureStore) -> None:
    """Of two errors of the same MSE, MS-SSIM minds one more; on the dial it does as it is told."""
    pytest.importorskip("pytorch_msssim")
    x = 0.5 + 0.2 * torch.sin(torch.arange(192) / 9).expand(1, 3, 192, 192)
    rows = torch.arange(192) // 16 % 2
    errors = {
        "blocks": (rows[:, None] ^ rows[None, :]).float() * 2 - 1,
        "fine": (torch.arange(192)[:, None] + torch.arange(192)) % 2 * 2.0 - 1,
    }
    options = dataclasses.replace(OPTIONS, patch=192, perceptual="ms-ssim")

    def loss(kind: str, error: str, *positions: float) -> float:
        config = TINY if len(positions) == 1 else with_tune(TINY, TUNE_RANGE)
        objective = RateDistortion(config, store, dataclasses.replace(options, loss=kind))

        def model(x: torch.Tensor, conditioning: torch.Tensor) -> types.SimpleNamespace:
            return types.SimpleNamespace(x_hat=x + 0.04 * errors[error], bpp=torch.tensor([0.5]))

        value, figures = objective.loss(model, (x, torch.tensor([positions])))  # type: ignore[arg-type]
        assert float(figures["psnr"]) == pytest.approx(-20 * np.log10(0.04), abs=1e-3)
        return float(value)

    lam = (0.0006 * 0.5) ** 0.5
    expected = (0.5 + lam * 255**2 * 0.04**2) / lam**0.5
    assert loss("mse", "blocks", 0.5) == pytest.approx(expected, rel=1e-3)
    assert loss("mse", "fine", 0.5) == pytest.approx(expected, rel=1e-3)
    gap = loss("ms-ssim", "blocks", 0.1) - loss("ms-ssim", "fine", 0.1)
    assert abs(gap) > 0.01
    for position, share in ((0.0, 0.0), (0.25, 1 / 11), (0.5, 0.5), (1.0, 0.99)):
        found = loss("tune", "blocks", 0.1, position) - loss("tune", "fine", 0.1, position)
        assert found == pytest.approx(share * gap, rel=0.02, abs=1e-4)


def test_impossible_losses_are_refused(store: PictureStore) -> None:
    pytest.importorskip("pytorch_msssim")
    two = with_tune(TINY, TUNE_RANGE)
    for kind, config, patch in (("tune", TINY, 256), ("mse", two, 256), ("ms-ssim", TINY, 128)):
        with pytest.raises(VrcodecError, match=f"loss {kind} needs"):
            RateDistortion(config, store, dataclasses.replace(OPTIONS, loss=kind, patch=patch))
    RateDistortion(two, store, dataclasses.replace(OPTIONS, loss="tune"))


@pytest.mark.slow
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
                "FIRST": "--config tiny.json --steps 2 --batch 2 --patch 64 --export-pictures 16",
                "OPTIONS": "--batch 2 --patch 192 --final-batch 1 --decay 0.5 --scale-steps 3 "
                "--export-pictures 16 --val-pictures 1 " + options,
                "LAST": "--steps 2 --batch 2 --patch 192",
                "PYTHON": sys.executable,
            },
        )
        assert result.returncode == 0, result.stderr
        record: dict[str, object] = json.loads((tmp_path / "run" / "record.json").read_text())
        return record

    first = run_script("--steps 4")
    assert (first["steps"], first["patches"]) == (4, 3 * 2 + 1)
    second = run_script("--steps 6")
    assert (second["steps"], second["patches"]) == (6, 3 * 2 + 3)
    third = run_script("--steps 6")
    assert third["steps"] == 6
    for name in ("run/weights", "run/trunk", "run-synthesis/weights"):
        path = tmp_path / f"{name}.safetensors"
        assert Codec(path, "cpu").dials.names == ("quality", "tune")
    curves = json.loads((tmp_path / "run" / "val.json").read_text())
    assert len(curves["final"]["bpp"]) == 9


@pytest.mark.slow
def test_variants_are_compared_and_drawn(tmp_path: Path) -> None:
    plan = {
        "options": {"max_steps": 3, "batch": 2, "patch": 64, "decay": 0.5, "export_pictures": 8},
        "seeds": [1],
        "config": json.loads(TINY.to_json()),
        "variants": {
            "usual": {},
            "without FiLM": {"config": {"film_width": 0}},
            "longer": {"from": "usual", "options": {"max_steps": 6}},
            "other basis": {"model": "no_dct.py"},
            "equal time": {"as_long_as": "usual"},
            "twin": {"options": {"only_quality": 0.5}},
        },
    }
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    scripts = TESTS.parent / "scripts"
    shutil.copy(scripts / "plans" / "no_dct.py", tmp_path)
    (tmp_path / "pictures").mkdir()
    shutil.copy(TESTS / "pictures" / "macaw.png", tmp_path / "pictures")

    def compare(*options: str) -> list[str]:
        result = subprocess.run(
            [
                *(sys.executable, scripts / "ablate.py", "plan.json", "-o", "out"),
                *("--train", "pictures", "--val", "pictures", "--val-crop", "64"),
                *("--jobs", "2", "--plot", "differences.png", *options),
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
    rows = ["| without FiLM", "| longer", "| other basis", "| equal time", "| twin"]
    assert [line.split(" | ")[0] for line in lines[-5:]] == rows
    out = tmp_path / "out"
    records = {
        name: json.loads((out / name / "1" / "record.json").read_text())
        for name in ("usual", "without-FiLM", "longer", "equal-time", "twin")
    }
    assert records["without-FiLM"]["steps"] == 3 and records["longer"]["steps"] == 6
    options = records["twin"]["options"]
    assert (options["seed"], options["only_quality"]) == (1, 0.5)
    seconds = records["usual"]["seconds"] + records["usual"]["closing"]
    assert records["equal-time"]["options"]["max_time"] == pytest.approx(seconds)
    Image.open(tmp_path / "differences.png").verify()
    begun = torch.load(out / "longer" / "1" / "trunk.pt", weights_only=True)
    assert begun["step"] == 4 and not begun["annealing"]

    shutil.copy(out / "usual" / "1" / "val.json", out / "twin" / "1")
    last = compare("--against", "usual")[-1].replace("-0.00", "+0.00")
    assert last == "| twin | 1 | +0.00 % | +0.00 % | +0.00 % |"  # nothing is trained twice


def test_weights_for_the_square_have_a_second_dial(
    tmp_path: Path, photographs: Path, run_vrcodec: RunVrcodec, tiny_weights: Path
) -> None:
    """Weights of one dial go on as those of two."""
    result = train(
        photographs,
        *("-o", tmp_path / "run", "--init", tiny_weights, "--loss", "tune", "--steps", 2),
        *("--batch", 1, "--patch", 64, "--lambda-weight", 0.25, "--export-pictures", 8),
    )
    assert result.returncode == 0, result.stderr
    record = json.loads((tmp_path / "run" / "record.json").read_text())
    assert record["options"]["lambda_weight"] == 0.25
    assert [dial["name"] for dial in record["config"]["dials"]] == ["quality", "tune"]
    target = tmp_path / "one.vrc"
    weights = tmp_path / "run" / "weights.safetensors"
    picture = photographs / "macaw.png"
    chosen = ("-q", "0.25", "--dial", "tune=0.875", "--weights", weights)
    done = run_vrcodec("encode", picture, "-o", target, *chosen)
    assert done.returncode == 0, done.stderr
    assert container.unpack(target.read_bytes()).header.conditioning.values == (8192, 28672)


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


def test_crops_are_the_same_wherever_they_are_cut(store: PictureStore) -> None:
    sampler = CropSampler(store, Augmentation(), seed=5)
    indices = np.arange(5) % len(store)
    corners = np.array([[0, 3], [5, 0], [7, 9], [1, 1], [2, 4]])
    flip = np.array([True, False, True, False, True])
    one_by_one = sampler._gather(indices, corners, 48, flip)
    assert torch.equal(one_by_one, sampler._gather_at_once(indices, corners, 48, flip))


def test_augmentation_makes_grey_and_reduced_crops(store: PictureStore) -> None:
    grey = CropSampler(store, Augmentation(rescale=0, grey=1), 0).batch(3, 64)
    assert torch.equal(grey[:, 0], grey[:, 1]) and torch.equal(grey[:, 1], grey[:, 2])
    reduced = CropSampler(store, Augmentation(rescale=1, grey=0, noise=0, synthetic=0), 0).batch(
        8, 64
    )
    plain = CropSampler(store, Augmentation(rescale=0, grey=0, noise=0, synthetic=0), 0).batch(
        8, 64
    )
    assert reduced.shape == plain.shape == (8, 3, 64, 64)
    assert float(reduced.min()) >= 0 and float(reduced.max()) <= 1


@pytest.mark.slow
def test_training_and_validation_need_no_coder(
    photographs: Path, tiny_weights: Path, tmp_path: Path
) -> None:
    """A machine lent for training has torch, numpy, Pillow, safetensors, tqdm and click only."""
    program = f"""
import sys
from pathlib import Path
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in (
            "constriction", "scipy", "pytorch_msssim", "fsspec", "compressai", "ray", "matplotlib"
        ):
            raise ImportError(name)
sys.meta_path.insert(0, Absent())
from vrcodec.cli.train import train
train.main(
    [{str(photographs)!r}, "-o", {str(tmp_path / "run")!r}, "--init", {str(tiny_weights)!r},
     "--steps", "2", "--batch", "1", "--patch", "64", "--loss", "xyb", "--optimizer", "muon",
     "--export-pictures", "8", "--val", {str(photographs)!r}, "--val-crop", "64"],
    standalone_mode=False,
)
"""
    result = subprocess.run(
        [sys.executable, "-c", program],
        cwd=TESTS.parent,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    curve = json.loads((tmp_path / "run" / "val.json").read_text())["final"]
    assert curve["bpp"] == sorted(curve["bpp"])
