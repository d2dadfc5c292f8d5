"""The examples of the README run; the commands in all documents have the options they name."""

from __future__ import annotations

import importlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import torch
from PIL import Image

import vrcodec
from vrcodec import __version__, pillow
from vrcodec.cli import COMMANDS

ROOT = Path(__file__).parents[1]
DOCUMENTS = [
    *ROOT.glob("*.md"),
    *ROOT.glob("docs/*.md"),
    ROOT / "weights" / "README.md",
]
SHORTER = {"3600": "1", "DIR...": "photos --batch 2 --patch 64"}
"""What is put in the place of words in the README's commands."""
SIZE = (256, 192)
"""Of the picture in the examples."""
NOT_RUN = {
    "s3://": "needs a network",
    "vrcodec explore": "tests/test_explore_page.py runs it",
    "vrcodec integrate": "tests/test_desktop.py runs it, elsewhere than in somebody's home",
    "vrcodec train": "tests/test_training.py runs it",
}


def blocks(document: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", document.read_text(), re.M | re.S)


def commands(document: Path) -> Iterator[str]:
    """Commands in code blocks, whole, and in the text between backticks, without comments."""
    for block in blocks(document, "sh"):
        for line in block.replace("\\\n", " ").splitlines():
            yield from re.findall(r"(?:^|\s)(vrcodec \w+[^#&|]*)", line)
    yield from (span[1:-1] for span in re.findall(r"`vrcodec \w[^`]*`", document.read_text()))


def readme_commands() -> list[str]:
    (block,) = [text for text in blocks(ROOT / "README.md", "sh") if "vrcodec info" in text]
    lines = [line.partition("  #")[0].strip() for line in block.splitlines()]
    assert len(lines) > 10 and all(line.startswith("vrcodec ") for line in lines)
    return [line for line in lines if not any(words in line for words in NOT_RUN)]


@pytest.fixture(scope="module")
def photo(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A .vrc file by the released weights."""
    path = tmp_path_factory.mktemp("photo") / "photo.vrc"
    path.write_bytes(vrcodec.encode(pictures / "macaw.png"))
    return path


@pytest.fixture
def place(
    tmp_path: Path,
    pictures: Path,
    tiny_weights: Path,
    photo: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """A folder with what the README's examples begin with, as the current one."""
    shutil.copy(pictures / "macaw.png", tmp_path / "img.png")
    for name in ("photos", "kodak"):
        (tmp_path / name).mkdir()
        Image.open(tmp_path / "img.png").resize((176, 168)).save(tmp_path / name / "a.png")
    (tmp_path / "run").mkdir()
    shutil.copy(tiny_weights, tmp_path / "run" / "weights.safetensors")
    (tmp_path / "coded").mkdir()
    shutil.copy(photo, tmp_path / "coded" / "a.vrc")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("command", readme_commands())
def test_commands_of_the_readme(
    command: str, place: Path, vrcodec_environment: dict[str, str]
) -> None:
    if "--compare" in command:
        for package in ("matplotlib", "jinja2", "scipy", "ssimulacra2"):
            pytest.importorskip(package)
    for word, shorter in SHORTER.items():
        command = command.replace(word, shorter)
    if " img.vrc" in command:
        command = f"vrcodec encode img.png && {command}"
    (place / "bin").mkdir()
    script = place / "bin" / "vrcodec"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m vrcodec "$@"\n')
    script.chmod(0o755)
    path = os.pathsep.join((str(script.parent), vrcodec_environment["PATH"]))
    result = subprocess.run(
        ["bash", "-euc", command],
        env=vrcodec_environment | {"PATH": path},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr


@pytest.mark.slow
def test_python_of_the_readme(place: Path, tiny_weights: Path) -> None:
    (block,) = blocks(ROOT / "README.md", "python")
    names = run_python([block], "README.md", x=torch.rand(2, 3, 64, 48))
    assert names["picture"].size == SIZE
    assert (names["facts"]["width"], names["facts"]["height"]) == SIZE
    assert names["batch"].shape == (1, 3, *SIZE[::-1])
    assert names["out"].x_hat.shape == names["x"].shape


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:This DataLoader will create 2 worker processes")
def test_python_of_the_api(
    place: Path, tiny_weights: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    """All blocks of docs/api.md, one after the other, as in one session."""
    pytest.importorskip("webdataset", reason="webdataset is not installed")
    for name in ("WEIGHTS", "DEVICE", "THREADS"):  # put back what the page sets
        monkeypatch.setattr(pillow, name, getattr(pillow, name))
    with tarfile.open(place / "shard.tar", "w") as shard:
        shard.add(place / "coded" / "a.vrc", "first.vrc")
    shutil.copy("img.png", "photo.png")
    examples = blocks(ROOT / "docs" / "api.md", "python")
    names = run_python(examples, "api.md")
    assert len(examples) > 6
    assert names["picture"].size == names["dataset"][0].shape[:0:-1] == SIZE
    assert Image.open("grey.png").mode == "L"
    assert (names["small"].max_pixels, names["codec"].max_pixels > 10**6) == (10**6, True)
    assert names["out"].x_hat.shape == names["x"].shape
    assert "first torch.Size([3, 192, 256])" in capfd.readouterr().out


def run_python(examples: list[str], page: str, **names: Any) -> dict[str, Any]:
    """Run the blocks of a page in the current folder; returns what they have defined."""
    for example in examples:
        exec(compile(example, page, "exec"), names)  # noqa: S102 (it is our own page)
    return names


def options(command: str) -> set[str]:
    """All options of a command."""
    module, _, name = COMMANDS[command][0].partition(":")
    function = getattr(importlib.import_module(module), name)
    commands = [function, *getattr(function, "commands", {}).values()]
    parameters = [p for c in commands for p in c.params if isinstance(p, click.Option)]
    return {"-h", "--help"}.union(*(p.opts + p.secondary_opts for p in parameters))


def test_documents_name_options_that_there_are() -> None:
    wrong, seen = [], 0
    for document in DOCUMENTS:
        for line in commands(document):
            _, command, *words = shlex.split(line.replace("'", ""))
            seen += 1
            if command not in COMMANDS:
                wrong.append(f"{document.name}: {line}: no such command")
                continue
            named = {word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)}
            wrong += [f"{document.name}: {line}: {x}" for x in sorted(named - options(command))]
    assert not wrong, "\n" + "\n".join(wrong)
    assert seen > 40


def test_links_in_documents_lead_somewhere() -> None:
    broken = [
        f"{document.relative_to(ROOT)}: {target}"
        for document in DOCUMENTS
        for target in re.findall(r"\]\((?!https?:)([^)#\s]+)", document.read_text())
        if not (document.parent / target).exists()
    ]
    assert not broken, "\n" + "\n".join(broken)


def test_every_document_is_in_the_index() -> None:
    text = (ROOT / "docs" / "README.md").read_text()
    missing = [path.name for path in ROOT.glob("docs/*.md") if f"({path.name})" not in text]
    assert missing == ["README.md"]


def test_every_promise_has_its_test() -> None:
    """In SECURITY.md every line of a table names tests, and those are there."""
    text = (ROOT / "SECURITY.md").read_text()
    rows = [line for line in text.splitlines() if re.match(r"\| (?!promise)", line)]
    assert len(rows) > 10
    for row in rows:
        named = re.findall(r"`(test_\w+\.py)::(test_\w+)`", row)
        assert named, row
        for file, test in named:
            assert f"def {test}(" in (ROOT / "tests" / file).read_text(), f"{file}::{test}"


def test_version_heads_the_changelog() -> None:
    """The topmost section is that of this version, or the unreleased one that will become it."""
    changelog = (ROOT / "CHANGELOG.md").read_text()
    heading, text = re.split(r"^## ", changelog, flags=re.M)[1].split("\n", 1)
    if heading == "[Unreleased]":
        said = re.search(r"^Next version: (.+)$", text, re.M)
        assert said and said[1] == __version__
    else:
        assert re.fullmatch(rf"\[{re.escape(__version__)}\] - \d{{4}}-\d\d-\d\d", heading)


def test_citation_names_the_version() -> None:
    assert f"\nversion: {__version__}\n" in (ROOT / "CITATION.cff").read_text()
