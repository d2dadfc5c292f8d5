"""Parts of training: options, checkpoints, objectives, losses, dials that are added, optimisers."""

from __future__ import annotations

import contextlib
import copy
import csv
import dataclasses
import io
import itertools
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image, ImageFilter
from torch import Tensor, nn

from vrcodec.cli.train import train as command
from vrcodec.conditional.dials import ONE, Conditioning, Dial, Dials
from vrcodec.errors import VrcodecError
from vrcodec.model.config import ModelConfig
from vrcodec.model.fixed_point import FixedPointScalePath
from vrcodec.model.loading import build
from vrcodec.model.network import CompressionModel
from vrcodec.model.precision import fastest_dtype
from vrcodec.model.weights_file import load_weights
from vrcodec.model.xyb import xyb_error
from vrcodec.training import checkpoints
from vrcodec.training.data import Augmentation, CropSampler, PictureStore
from vrcodec.training.distributed import World
from vrcodec.training.fast import FastGradients
from vrcodec.training.growing import grown
from vrcodec.training.loop import train
from vrcodec.training.losses import TUNE_RANGE, Shared
from vrcodec.training.objective import Batch
from vrcodec.training.optimizers import orthogonal, orthogonal_each, shares
from vrcodec.training.options import TrainingOptions
from vrcodec.training.rate_distortion import RateDistortion, with_tune
from vrcodec.training.scales import settle_scales
from vrcodec.training.schedule import sample_positions

TESTS = Path(__file__).parent
CPU = torch.device("cpu")


class Scaling:
    """A task without pictures or bits: y = c x, where c is the dial's coefficient."""

    figures: tuple[str, ...] = ("error",)

    def __init__(self) -> None:
        self.dials = Dials((Dial("c", 0.5, 4.0),))
        self.rng = np.random.default_rng(3)
        self.phases: list[bool] = []

    def fresh(self) -> nn.Module:
        return nn.Sequential(nn.Linear(2, 32), nn.SiLU(), nn.Linear(32, 1))

    empty = fresh

    def describe(self) -> str:
        return "{}"

    def batch(self, count: int, side: int) -> Batch:
        positions = sample_positions(self.rng, count, self.dials)
        return torch.from_numpy(self.rng.random((count, 1), np.float32)), torch.from_numpy(
            positions
        )

    def loss(
        self, model: Callable[..., Tensor], batch: Batch
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        x, positions = batch
        (dial,) = self.dials
        wanted = x * dial.low * (dial.high / dial.low) ** positions
        error = (model(torch.cat([x, positions], dim=1)) - wanted).square().mean()
        return error, {"error": error.detach().sqrt()}

    def anneal(self, model: nn.Module, annealing: bool) -> None:
        self.phases.append(annealing)

    def finish(self, model: nn.Module) -> nn.Module:
        return model

    def export(self, finished: nn.Module, path: Path) -> None:
        raise AssertionError

    def validate(self, finished: nn.Module) -> dict[str, list[float]]:
        raise AssertionError


@pytest.mark.slow
def test_the_loop_serves_a_task_that_is_no_codec(tmp_path: Path) -> None:
    options = TrainingOptions(
        max_steps=600, batch=64, lr=1e-2, optimizer="muon", decay=0.3, log_every=1e6
    )
    task = Scaling()
    state = checkpoints.new_state(task, options, CPU)
    assert train(state, task, options, tmp_path)
    with (tmp_path / "log.csv").open() as log:
        rows = list(csv.DictReader(log))
    assert float(rows[-1]["error"]) < 0.25 < 0.5 < float(rows[0]["error"])
    assert [row["step"] for row in rows] == [str(n) for n in range(50, 601, 50)]
    assert task.phases == [False, True]

    saved = checkpoints.read(tmp_path / "checkpoint.pt")
    again = checkpoints.restore(saved, Scaling(), saved.options, CPU)
    assert (again.step, again.patches) == (600, 600 * 64)


def test_rows_are_written_by_time_too(tmp_path: Path) -> None:
    options = TrainingOptions(max_steps=40, batch=1, log_every=1e-9, decay=0)
    task = Scaling()
    train(checkpoints.new_state(task, options, CPU), task, options, tmp_path)
    with (tmp_path / "log.csv").open() as log:
        assert len(list(csv.DictReader(log))) == 40


def test_a_finished_run_that_goes_on_is_before_its_last_phase_again(tmp_path: Path) -> None:
    options = TrainingOptions(
        max_steps=10, batch=16, patch=64, final_patch=128, decay=0.3, log_steps=1
    )
    state = checkpoints.new_state(Scaling(), options, CPU)
    assert train(state, Scaling(), options, tmp_path)
    assert state.patches == 8 * 16 + 2 * 4
    trunk = (tmp_path / "trunk.pt").read_bytes()

    longer = dataclasses.replace(options, max_steps=40)
    task = Scaling()
    again = checkpoints.restore(checkpoints.read(tmp_path / "checkpoint.pt"), task, longer, CPU)
    assert again.annealing
    assert train(again, task, longer, tmp_path)
    assert task.phases == [True, False, True]
    assert again.patches == 29 * 16 + 11 * 4 - 2 * (16 - 4)
    assert (tmp_path / "trunk.pt").read_bytes() != trunk
    assert checkpoints.read(tmp_path / "trunk.pt").step == 29


def test_processes_agree_on_the_type_they_compute_in() -> None:
    """What they measured may differ, what they send each other must not."""

    class Two(World):
        def gathered(self, own: Tensor) -> list[Tensor]:
            return [own, torch.ones_like(own)]  # the other one found bfloat16 faster

    assert Two(size=2).dtype("float32") is World().dtype("bfloat16") is torch.bfloat16
    assert World().dtype("float32") is torch.float32


def test_a_log_has_no_rows_of_steps_that_were_taken_back(tmp_path: Path) -> None:
    """Steps since the last checkpoint of a run that was killed, and runs that left none."""
    options = TrainingOptions(max_steps=12, batch=1, log_steps=2, log_every=1e6, decay=0)
    for step, kept in ((0, []), (7, ["2", "4", "6"])):
        state = checkpoints.new_state(Scaling(), options, CPU)
        state.step = step
        train(state, Scaling(), options, tmp_path)
        text = (tmp_path / "log.csv").read_text()
        rows = list(csv.DictReader(text.splitlines()))
        assert [row["step"] for row in rows] == [*kept, *map(str, range(len(kept) * 2 + 2, 13, 2))]
        (tmp_path / "log.csv").write_text(text[:-5])  # the disk was full


@pytest.mark.slow
def test_a_run_ends_when_its_time_is_over(tmp_path: Path) -> None:
    """The seconds before the loop count, and those of earlier parts."""
    import time

    options = TrainingOptions(max_time=100.0, batch=1, decay=0)
    task = Scaling()
    state = checkpoints.new_state(task, options, CPU)
    state.seconds = 60.0
    assert train(state, task, options, tmp_path, started=time.monotonic() - 39.5)
    assert state.step > 0 and 100 <= state.seconds < 110


def test_full_disk_stops_nothing_but_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In mid-run what cannot be saved is said, the old checkpoint stays, and the run goes on."""
    options = TrainingOptions(max_steps=20, batch=1, checkpoint_every=1e-9, decay=0)
    task = Scaling()
    state = checkpoints.new_state(task, options, CPU)
    checkpoints.save(tmp_path / "checkpoint.pt", state, task, options)
    before = (tmp_path / "checkpoint.pt").read_bytes()

    def full(path: Path, data: bytes, overwrite: bool = False, below: Path | None = None) -> None:
        raise VrcodecError(f"{path}: no space left on device")

    monkeypatch.setattr(checkpoints, "write_atomically", full)
    with pytest.raises(VrcodecError, match="no space left"):
        train(state, task, options, tmp_path, visible=True)
    assert state.step == 20
    assert "no space left on device; the run goes on" in capsys.readouterr().err
    assert (tmp_path / "checkpoint.pt").read_bytes() == before


def test_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("x")
    for name in ("checkpoint.pt", "log.csv"):
        run = tmp_path / name.partition(".")[0]
        run.mkdir()
        (run / name).symlink_to(tmp_path / "precious")
        options = TrainingOptions(max_steps=2, batch=1, decay=0)
        task = Scaling()
        with pytest.raises(VrcodecError):
            train(checkpoints.new_state(task, options, CPU), task, options, run)
        assert (tmp_path / "precious").read_text() == "x"


def test_options_round_trip_and_refuse() -> None:
    options = TrainingOptions(max_steps=7, only_quality=0.5, loss="xyb")
    assert TrainingOptions.from_dict(options.to_dict()) == options
    for name, value in (
        ("batch", 0),
        ("batch", "8"),
        ("batch", True),
        ("lr", float("nan")),
        ("loss", "l1"),
        ("patch", 100),
        ("max_time", -1.0),
        ("only_quality", 1.5),
        ("nothing", 1),
    ):
        with pytest.raises(VrcodecError, match=name.replace("max_time", "max-time").split("_")[0]):
            TrainingOptions.from_dict(options.to_dict() | {name: value})


def test_a_contradiction_is_named_with_both_values() -> None:
    options = TrainingOptions(max_steps=7, loss="xyb", seed=4)
    changed, lines = options.resumed({"max_steps": 9, "lr": 1e-4, "seed": 4})
    assert (changed.max_steps, changed.lr, changed.loss) == (9, 1e-4, "xyb")
    assert lines == ["steps: 7, from now on 9", "lr: 0.001, from now on 0.0001"]
    for name, value in (("loss", "mse"), ("seed", 0), ("optimizer", "muon")):
        old = getattr(options, name)
        with pytest.raises(VrcodecError, match=f"^{name} is {old} in this run.* {value}$"):
            options.resumed({name: value})


def test_every_option_is_on_the_command_line() -> None:
    named = {parameter.name for parameter in command.params}
    assert {field.name for field in dataclasses.fields(TrainingOptions)} <= named
    text = " ".join(CliRunner().invoke(command, ["--help"]).output.split())
    assert "[default: 0.001]" in text and "--steps N" in text
    for arguments, complaint in (
        (["x", "-o", "y", "--steps", "5", "--lr", "0"], "--lr"),
        (["x", "-o", "y", "--steps", "5", "--patch", "100"], "multiple of 64"),
        (["x", "-o", "y", "--max-time", "inf"], "--max-time"),
        (["-o", "y", "--steps", "5"], "DIR"),
        (["x", "-o", "y"], "--max-time"),
    ):
        result = CliRunner().invoke(command, arguments)
        assert result.exit_code == 2 and complaint in result.output


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> PictureStore:
    folder = tmp_path_factory.mktemp("store")
    for name in ("macaw.png", "lighthouse.png"):
        (folder / name).write_bytes((TESTS / "pictures" / name).read_bytes())
    (folder / "broken.jpg").write_bytes(b"\xff\xd8nothing")
    Image.new("RGB", (20, 20)).save(folder / "small.png")
    return PictureStore([folder], 64, CPU)


def test_what_cannot_be_read_is_said(store: PictureStore) -> None:
    line = store.summary()
    assert line.startswith("2 pictures, ") and "; 1 too small; 1 cannot be read" in line
    assert "broken.jpg" in line


def test_fine_qualities_are_reduced_more_often(
    store: PictureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = Augmentation(rescale=0, rescale_fine=1, grey=0, noise=0, synthetic=0, reach=1.2)
    sampler = CropSampler(store, chance, 0)
    sides: list[tuple[int, int]] = []
    gathered = sampler._gather

    def watched(indices: Any, corners: Any, side: int, flip: Any) -> Tensor:
        sides.append((side, len(indices)))
        return gathered(indices, corners, side, flip)

    monkeypatch.setattr(sampler, "_gather", watched)
    sampler.batch(6, 64, np.array([0.0, 0.0, 0.0, 0.0, 1.0, 1.0]))
    counts = {side == 64: count for side, count in sides}
    assert counts.get(True, 0) >= 4 and sum(counts.values()) == 6


@pytest.fixture(scope="module")
def tiny(tiny_weights: Path) -> CompressionModel:
    return build(load_weights(tiny_weights))[0].requires_grad_(True)


def earlier_layout(path: Path, objective: RateDistortion, optimizer: str) -> dict[str, Any]:
    """A checkpoint as they were before they held options."""
    options = TrainingOptions(optimizer=optimizer, max_steps=5, precision="float32")
    state = checkpoints.new_state(objective, options, CPU)
    objective.loss(state.model, objective.batch(2, 64))[0].backward()
    state.optimizer.step()
    parts = {
        "config": objective.config.to_json(),
        "model": state.model.state_dict(),
        "ema": state.ema.state_dict(),
        "optimizer": state.optimizer.state_dict(),
        "rng": objective.rng.bit_generator.state,
        "torch_rng": torch.get_rng_state(),
        "step": 150,
        "patches": 2400,
        "seconds": 299.2,
        "annealing": False,
    }
    torch.save(parts, path)
    return parts


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_checkpoints_without_options_go_on(
    optimizer: str, store: PictureStore, tiny: CompressionModel, tmp_path: Path
) -> None:
    options = TrainingOptions(max_steps=152, batch=2, patch=64, precision="float32", decay=0)
    objective = RateDistortion(tiny.config, store, options, tiny)
    path = tmp_path / "checkpoint.pt"
    parts = earlier_layout(path, objective, optimizer)
    saved = checkpoints.read(path)
    assert saved.options.optimizer == optimizer and not saved.sources
    chosen, _ = saved.options.resumed({"max_steps": 152, "batch": 2, "patch": 64, "decay": 0})
    state = checkpoints.restore(saved, objective, chosen, CPU)
    for name, value in state.model.state_dict().items():
        assert torch.equal(value, parts["model"][name])
    assert train(state, objective, chosen, tmp_path)
    assert (state.step, state.patches) == (152, 2404)
    assert checkpoints.read(path).options == chosen


class Evil:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, ("touch started",)


def damaged(parts: dict[str, Any]) -> dict[str, Any]:
    """Checkpoints, each with something that must not be."""
    name, tensor = next(iter(parts["model"].items()))
    nan = torch.full_like(tensor, float("nan"))
    wrong: dict[str, Any] = {
        "step text": parts | {"step": "150"},
        "step true": parts | {"step": True},
        "steps below zero": parts | {"step": -1},
        "seconds nan": parts | {"seconds": float("nan")},
        "seconds huge": parts | {"seconds": 10**400},
        "annealing": parts | {"annealing": 1},
        "no rng": {key: value for key, value in parts.items() if key != "rng"},
        "rng": parts | {"rng": {"bit_generator": "MT19937"}},
        "torch rng": parts | {"torch_rng": torch.zeros(3)},
        "shape": parts | {"model": parts["model"] | {name: tensor.new_zeros(3)}},
        "nan": parts | {"ema": parts["ema"] | {name: nan}},
        "a tensor more": parts | {"model": parts["model"] | {"x\n\x1b[31m": tensor}},
        "config": parts | {"config": "[" * 60_000},
        "config long": parts | {"config": "[" * 100_000},
        "options": parts | {"options": {"batch": "many"}},
        "options list": parts | {"options": [1]},
        "sources": parts | {"sources": {"pictures": "x"}},
        "optimizer": parts | {"optimizer": {"state": 3}},
        "a list": [1, 2],
    }
    return wrong


@pytest.mark.slow
def test_hostile_checkpoints_are_refused_in_one_line(
    store: PictureStore, tiny: CompressionModel, tmp_path: Path
) -> None:
    options = TrainingOptions(max_steps=5, patch=64, precision="float32")
    objective = RateDistortion(tiny.config, store, options, tiny)
    path = tmp_path / "checkpoint.pt"
    parts = earlier_layout(path, objective, "adamw")

    def load() -> None:
        saved = checkpoints.read(path)
        fitting = RateDistortion(saved.model_config(), store, options)
        checkpoints.restore(saved, fitting, saved.options, CPU)

    load()
    files = {}
    for name, wrong in damaged(parts).items():
        data = io.BytesIO()
        torch.save(wrong, data)
        files[name] = data.getvalue()
    files["pickle"] = pickle.dumps(Evil())
    files["text"] = b"hello"
    files["cut"] = files["step text"][:3000]
    data = io.BytesIO()
    torch.save({"config": Evil()}, data)
    files["pickle inside"] = data.getvalue()
    for name, content in files.items():
        path.write_bytes(content)
        with pytest.raises(VrcodecError) as caught:
            load()
        text = str(caught.value)
        assert text.startswith(str(path)) and text.isprintable(), (name, text)
        assert "weights_only" not in text and len(text) < len(str(path)) + 150, (name, text)
    assert not (tmp_path / "started").exists() and not Path("started").exists()


def test_a_new_dial_changes_nothing_until_it_is_trained(tiny: CompressionModel) -> None:
    """Wherever the new dial stands; what decides the bits is the same to the last bit."""
    wide = grown(tiny, with_tune(tiny.config, TUNE_RANGE))
    x = torch.rand(3, 3, 80, 64)
    old = torch.tensor([[0.0], [0.37], [1.0]])
    for position in (0.0, 0.6, 1.0):
        both = torch.cat([old, torch.full_like(old, position)], dim=1)
        with torch.no_grad():
            before, after = tiny.eval()(x, old), wide.eval()(x, both)
        assert torch.equal(before.symbols, after.symbols)
        assert (before.x_hat - after.x_hat).abs().max() < 2e-6  # sums of other lengths round so
        torch.testing.assert_close(before.y_bits, after.y_bits, atol=1e-5, rtol=1e-5)
        narrow, broad = (FixedPointScalePath.from_float(m.scale_path) for m in (tiny, wide))
        z = torch.randint(-9, 10, (tiny.config.hyper, 3, 4))
        one, two = Conditioning((12345,)), Conditioning((12345, round(position * ONE)))
        assert torch.equal(narrow.indexes(z, one), broad.indexes(z, two))
    out = wide.train()(x, torch.cat([old, torch.rand(3, 1)], dim=1))
    (out.bpp.sum() + out.x_hat.square().sum()).backward()
    for weight in (wide.conditioning.hidden.weight.grad.T, wide.log_step.values.grad):
        assert weight is not None and weight[1].abs().sum() > 0
    lowest = Dial("quality", 0.001, 0.5), Dial("tune", *TUNE_RANGE)
    renamed = wide.config.dials.dials[0], Dial("ms-ssim-weight", *TUNE_RANGE)
    for start, dials in ((tiny, lowest), (wide, renamed)):
        with pytest.raises(VrcodecError, match=r"has other dials: quality .* to .*, not quality"):
            grown(start, dataclasses.replace(start.config, dials=Dials(dials)))


def test_fast_gradients_are_those_of_torch(tiny: CompressionModel) -> None:
    x = torch.rand(3, 3, 64, 64).to(memory_format=torch.channels_last)
    positions = torch.rand(3, 1)
    found = []
    for context in (contextlib.nullcontext(), FastGradients()):
        model = copy.deepcopy(tiny).requires_grad_(True).to(memory_format=torch.channels_last)
        with context:
            out = model.eval()(x, positions)
            loss = out.bpp.sum() + 100 * (out.x_hat - x).square().sum()
        loss.backward()
        found.append((loss.item(), {n: p.grad for n, p in model.named_parameters()}))
    (plain, usual), (fast, made) = found
    assert fast == pytest.approx(plain, rel=1e-6)
    for name, gradient in usual.items():
        if gradient is None:
            assert made[name] is None
        else:
            # Those of the means are what is left where large terms cancel.
            loose = 2e-2 if "context" in name or "mean" in name else 2e-4
            assert (made[name] - gradient).norm() <= loose * gradient.norm() + 1e-8, name


def test_other_blocks_and_another_basis_are_handed_in() -> None:
    class Nothing(nn.Module):
        def __init__(self, width: int, film_width: int) -> None:
            super().__init__()

        def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
            return x

    config = ModelConfig(width8=8, width16=8, core=8, hyper=8, hyper_width=8, context_width=8)
    model = CompressionModel(
        dataclasses.replace(config, context_blocks=1, learned_linear=False),
        block=Nothing,
        basis=lambda side: np.eye(3 * side**2, dtype=np.float32),
    )
    assert isinstance(model.analysis.blocks8[0], Nothing)
    assert isinstance(model.synthesis.blocks16[0], Nothing)
    assert isinstance(model.context.detail.blocks[0], Nothing)
    assert torch.equal(model.basis.basis8, torch.eye(192))


def distortions(original: Image.Image) -> list[Image.Image]:
    """One picture made worse in several ways."""
    pixels = np.asarray(original).astype(float)
    noise = np.random.default_rng(0).normal(0, 1, pixels.shape)
    made = [original.filter(ImageFilter.GaussianBlur(radius)) for radius in (0.5, 1.0, 2.0)]
    for error in (3 * noise, 9 * noise, 20 * noise, np.full_like(pixels, 8)):
        made.append(Image.fromarray((pixels + error).clip(0, 255).round().astype(np.uint8)))
    for quality in (10, 30, 60, 90):
        file = io.BytesIO()
        original.save(file, "JPEG", quality=quality)
        made.append(Image.open(file).convert("RGB"))
    return made


def as_tensor(picture: Image.Image) -> Tensor:
    return torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1)[None].float() / 255


@pytest.mark.slow
def test_the_xyb_error_is_that_of_ssimulacra2(pictures: Path) -> None:
    """At sides of 256 or more; below that, the metric applies its weights to other scales."""
    pytest.importorskip("ssimulacra2")
    from scipy.stats import spearmanr

    from vrcodec.pictures.metrics import ssimulacra2

    original = Image.open(pictures / "macaw.png").convert("RGB").resize((340, 260))
    scores, errors = [], []
    for worse in distortions(original):
        scores.append(ssimulacra2(np.asarray(original), np.asarray(worse)))
        errors.append(float(xyb_error(as_tensor(worse), as_tensor(original))))
    assert spearmanr(scores, errors)[0] < -0.95
    total = 0.9562382616834844 * np.array(errors)
    total = 2.326765642916932 * total - 0.0208845212 * total**2 + 6.248496626e-05 * total**3
    assert np.abs(100 - 10 * total**0.6276336467831387 - scores).mean() < 4


def test_the_xyb_error_is_zero_for_equals_and_falls_along_its_gradient(pictures: Path) -> None:
    original = as_tensor(Image.open(pictures / "macaw.png").convert("RGB"))[..., :64, :64]
    assert float(xyb_error(original, original)) == 0
    for x in (original.clone(), (original + 0.1 * torch.rand_like(original)).requires_grad_()):
        x.requires_grad_()
        error = xyb_error(x, original)
        (gradient,) = torch.autograd.grad(error.sum(), x)
        assert torch.isfinite(gradient).all()
    step = 1e-2 * gradient / gradient.norm()
    with torch.no_grad():
        fall = xyb_error(x + step, original) - xyb_error(x - step, original)
    assert float(fall) == pytest.approx(2 * float((gradient * step).sum()), rel=0.1)


@pytest.mark.parametrize("shape", [(4, 24, 40), (3, 40, 24), (2, 16, 16)])
def test_orthogonal_brings_singular_values_near_one(shape: tuple[int, int, int]) -> None:
    torch.manual_seed(1)
    made = orthogonal(torch.randn(shape) * 7, torch.float32)
    values = torch.linalg.svdvals(made)
    assert made.shape == shape and values.max() < 1.35
    assert values.median() > 0.7


def test_processes_divide_the_matrices_evenly() -> None:
    torch.manual_seed(1)
    matrices = [torch.randn(shape) for shape in [(24, 40), (8, 9), (24, 40), (64, 30), (8, 9)]]
    owners = shares([matrix.shape for matrix in matrices], 2)
    assert owners[3] != owners[0] == owners[2]  # 57,600 against twice 23,040
    together = orthogonal_each(matrices, torch.float32)
    for matrix, made in zip(matrices, together, strict=True):
        alone = orthogonal(matrix[None], torch.float32)[0]
        assert torch.allclose(made, alone, atol=1e-5)


def test_precision_is_what_was_asked_for() -> None:
    assert fastest_dtype(CPU, "float32") is torch.float32
    assert fastest_dtype(CPU, "bfloat16") is torch.bfloat16
    assert fastest_dtype(CPU) in (torch.float32, torch.bfloat16)
    with pytest.raises(ValueError):
        fastest_dtype(CPU, "float16")


@pytest.mark.slow
def test_mistakes_of_files_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "deep.json").write_text("[" * 60_000)
    (tmp_path / "long.json").write_text("[" * 100_000)
    pictures = str(TESTS / "pictures")
    for arguments, said in (
        (["-o", "file"], "file: not a folder"),
        (["-o", "run", "--config", "deep.json"], "deep.json: "),
        (["-o", "run", "--config", "long.json"], "long.json: too long"),
        (["-o", "run", "--init", "file"], "file: not a weights file"),
        (["-o", "run", "--val", "nowhere"], "nowhere: no such folder"),
    ):
        result = subprocess.run(
            [sys.executable, "-m", "vrcodec", "train", pictures, *arguments, "--steps", "1"],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(TESTS.parent)},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert result.returncode == 1, result.stderr
        assert said in result.stderr and "Traceback" not in result.stderr
        assert sum(line.startswith("Error") for line in result.stderr.splitlines()) == 1


def test_the_scale_path_settles_on_symbols_as_they_are_coded(
    tiny: CompressionModel, pictures: Path
) -> None:
    """Their rate falls, and nothing but the scale path changes."""
    model = copy.deepcopy(tiny)
    store = PictureStore([pictures], 64, CPU)
    sampler = CropSampler(store, Augmentation(), 3)
    crops = [sampler.batch(4, 64) for _ in range(3)]
    positions = torch.tensor([[0.2], [0.4], [0.6], [0.8]])
    turns = itertools.count()
    losses = settle_scales(model, lambda: (crops[next(turns) % 3], positions), 60)
    assert np.mean(losses[-6:]) < 0.99 * np.mean(losses[:6])
    assert not model.scale_path.fixed_point and model.training == tiny.training
    before = tiny.state_dict()
    changed = {name for name, now in model.state_dict().items() if not now.equal(before[name])}
    assert changed and all(name.startswith("scale_path.") for name in changed)
    assert [p.requires_grad for p in model.parameters()] == [
        p.requires_grad for p in tiny.parameters()
    ]


def test_shared_distortions_are_drawn_as_often_as_they_weigh() -> None:
    class Constant:
        def __init__(self, value: float, side: int) -> None:
            self.value, self.smallest_side = value, side

        def __call__(self, x_hat: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
            return self.value + (x_hat - x).mean(dim=(1, 2, 3))

    torch.manual_seed(0)
    shared = Shared((Constant(100, 64), 1), (Constant(200, 192), 10))
    assert shared.smallest_side == 192
    x = torch.zeros(4000, 3, 1, 1)
    x_hat = (torch.arange(4000.0) / 1e4)[:, None, None, None].expand_as(x)
    errors = shared(x_hat, x) - x_hat[:, 0, 0, 0]  # every picture's own
    first = errors.round() == 100
    assert (first | (errors.round() == 200)).all()
    assert 1 / 13 < first.float().mean() < 1 / 9
