"""The loss-conditional core by itself: dials, layers, and a task that is a page of a document."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from vrcodec.conditional.dials import Dial, Dials
from vrcodec.conditional.film import ConditionedConv, ConditioningNet
from vrcodec.conditional.layers import EPSILON, ConditionedInstanceNorm, Film, Moments
from vrcodec.errors import VrcodecError
from vrcodec.training import checkpoints
from vrcodec.training.folder import run_task
from vrcodec.training.options import LoopOptions

PAGE = Path(__file__).parents[1] / "docs" / "loss-conditional.md"
TWO = Dials((Dial("a", 0.1, 10.0), Dial("b", 1.0, 4.0)))


def test_coefficients_of_many_samples_are_those_of_each() -> None:
    positions = torch.tensor([[0.0, 1.0], [0.5, 0.5], [1.0, 0.0]])
    many = torch.stack(TWO.coefficients(positions.unbind(1)), 1)
    for row, one in zip(many, positions.tolist(), strict=True):
        assert row.tolist() == pytest.approx(TWO.coefficients(one))
    assert TWO.coefficients([0.5, 0.5]) == pytest.approx((1.0, 2.0))
    assert TWO.coefficients([0.5, 0.5], normalised=True) == pytest.approx((1 / 3, 2 / 3))
    sums = torch.stack(TWO.coefficients(positions.unbind(1), normalised=True), 1).sum(1)
    assert torch.allclose(sums, torch.ones(3))


def alive(layer: nn.Module) -> Any:
    """A layer whose FiLM does something."""
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=0.5)
    return layer


def test_film_is_identity_at_first_and_told_apart_later() -> None:
    torch.manual_seed(0)
    embedding = ConditioningNet(2, 6)(torch.rand(3, 2))
    for x in (torch.rand(3, 5), torch.rand(3, 5, 4, 7)):
        film = Film(5, 6)
        assert torch.equal(film(x, embedding), x)
        alive(film)
        made = film(x, embedding)
        for i in range(3):
            torch.testing.assert_close(made[i : i + 1], film(x[i : i + 1], embedding[i : i + 1]))
        assert not torch.allclose(made, film(x, embedding.flip(0)))


def test_film_behind_a_convolution_is_the_conditioned_convolution() -> None:
    torch.manual_seed(0)
    whole = alive(ConditionedConv(4, 5, 6))
    film = Film(5, 6)
    film.linear.load_state_dict(whole.film.state_dict())
    x, embedding = torch.rand(2, 4, 3, 3), torch.rand(2, 6)
    plain = nn.functional.conv2d(x, whole.weight, whole.bias)
    torch.testing.assert_close(film(plain, embedding), whole(x, embedding))


def test_film_takes_maps_of_coefficients() -> None:
    film = alive(Film(5, 6))
    x, embedding = torch.rand(1, 5, 4, 4), torch.rand(1, 6, 2, 2)
    made = film(x, embedding)
    torch.testing.assert_close(made[..., :2, 2:], film(x[..., :2, 2:], embedding[..., 0, 1]))


def test_instance_norm_is_that_of_torch_before_film() -> None:
    x = torch.randn(2, 5, 8, 9) * 3 + 1
    norm = ConditionedInstanceNorm(5, 6)
    torch.testing.assert_close(
        norm(x, torch.rand(2, 6), Moments()),
        nn.functional.instance_norm(x, eps=EPSILON),
        atol=1e-5,
        rtol=1e-5,
    )


def test_parts_of_a_picture_are_normalised_by_the_whole() -> None:
    norms = [alive(ConditionedInstanceNorm(3, 4)) for _ in range(2)]
    x, embedding = torch.randn(1, 3, 8, 8), torch.rand(1, 4)
    moments = Moments()

    def through(part: torch.Tensor, moments: Moments) -> torch.Tensor:
        for norm in norms:
            part = norm(part, embedding, moments)
        return part

    whole = through(x, moments)
    part = through(x[..., 2:5, 1:], moments.again())
    torch.testing.assert_close(part, whole[..., 2:5, 1:])
    assert not torch.allclose(through(x[..., 2:5, 1:], Moments()), part)
    halves = Moments(pooled=True)
    through(torch.cat([x[..., :4], x[..., 4:]]), halves)
    for one, other in zip(halves.taken, moments.taken, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


def page() -> dict[str, Any]:
    """What the document's code defines, with its imports before it."""
    task, imports = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.M | re.S)
    names: dict[str, Any] = {}
    exec(compile(imports + task, str(PAGE), "exec"), names)  # noqa: S102 (it is our own page)
    return names


@pytest.mark.slow
def test_the_twenty_lines_of_the_document(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They run, and the network does give the quantiles of the normal distribution."""
    monkeypatch.chdir(tmp_path)
    names = page()
    network = names["Quantile"]()
    network.load_state_dict(load_file("run/weights.safetensors"))
    (dial,) = names["Quantiles"].dials
    for position in (0.1, 0.5, 0.9):
        weight = dial.coefficient(position)
        with torch.no_grad():
            said = network(torch.tensor([[position]]))[0, 0].double()
        assert float(torch.special.ndtr(said)) == pytest.approx(weight / (1 + weight), abs=0.08)
    with Path("run/log.csv").open() as log:
        rows = list(csv.DictReader(log))
    assert rows[-1]["step"] == "400" and float(rows[-1]["loss"]) < float(rows[0]["loss"])


@pytest.mark.slow
def test_a_task_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As one run, with options that are kept; another task's checkpoint is none of ours."""
    monkeypatch.chdir(tmp_path)
    names = page()

    def task(*_: object) -> Any:
        made = names["Quantiles"]()
        made.rng = np.random.default_rng(5)
        return made

    options = {"batch": 8, "decay": 0.0, "lr": 1e-2}
    assert run_task(task, Path("once"), options | {"max_steps": 30}, LoopOptions)
    assert run_task(task, Path("twice"), options | {"max_steps": 10}, LoopOptions)
    with pytest.raises(VrcodecError, match="holds a run already"):
        run_task(task, Path("twice"), options | {"max_steps": 30}, LoopOptions)
    assert run_task(task, Path("twice"), {"max_steps": 30}, LoopOptions, resume=True)
    once, twice = (load_file(f"{name}/weights.safetensors") for name in ("once", "twice"))
    for name, value in once.items():
        assert torch.equal(value, twice[name])
    with pytest.raises(VrcodecError, match="no training option 'loss'"):
        run_task(task, Path("other"), {"max_steps": 1, "loss": "mse"}, LoopOptions)
    with pytest.raises(VrcodecError, match="needs an end"):
        run_task(task, Path("other"), {}, LoopOptions)
    assert checkpoints.read(Path("once/checkpoint.pt"), LoopOptions).options.lr == 1e-2
