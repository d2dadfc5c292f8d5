"""The corpus of `scripts/fuzz.py`, without atheris: what it once found or could not do without."""

from __future__ import annotations

import pytest
from fuzz_targets import CORPUS, TARGETS

INPUTS = sorted(path.relative_to(CORPUS).as_posix() for path in CORPUS.glob("*/*"))


def test_every_target_has_a_corpus() -> None:
    assert {name.split("/")[0] for name in INPUTS} == TARGETS.keys()


@pytest.mark.parametrize("name", INPUTS)
def test_input_does_no_harm(name: str) -> None:
    attempt, _ = TARGETS[name.split("/")[0]]
    attempt((CORPUS / name).read_bytes())


@pytest.mark.parametrize("target", TARGETS)
def test_valid_inputs_do_no_harm(target: str) -> None:
    attempt, valid = TARGETS[target]
    for data in valid():
        attempt(data)
