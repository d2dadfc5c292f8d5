"""What the built packages contain and promise."""

from __future__ import annotations

import email
import importlib.metadata
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[1]
WEIGHTS = b"stand-in for the weights"
QUALITIES = b"stand-in for what was measured with them"


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of this checkout with stand-in weights; its wheel and sdist are in dist/."""
    pytest.importorskip("hatchling")
    tree = tmp_path_factory.mktemp("tree")
    for name in ("pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md"):
        shutil.copy(CHECKOUT / name, tree)
    shutil.copytree(CHECKOUT / "vrcodec", tree / "vrcodec")
    shutil.copytree(CHECKOUT / "weights" / "styles", tree / "weights" / "styles")
    shutil.copy(CHECKOUT / "weights" / "ATTRIBUTION.csv", tree / "weights")
    (tree / "weights" / "release.safetensors").write_bytes(WEIGHTS)
    (tree / "weights" / "release.qualities.json").write_bytes(QUALITIES)
    (tree / "weights" / "README.md").write_text("card")
    (tree / "weights" / "trunk.safetensors").write_bytes(b"not for release")
    command = [sys.executable, "-m", "hatchling", "build", "-d", "dist"]
    subprocess.run(command, cwd=tree, check=True, timeout=120)
    return tree


@pytest.fixture
def wheel(packages: Path) -> Iterator[zipfile.ZipFile]:
    (path,) = packages.glob("dist/vrcodec-*-py3-none-any.whl")
    with zipfile.ZipFile(path) as archive:
        yield archive


def member(wheel: zipfile.ZipFile, end: str) -> str:
    """Text of the one file of the wheel whose path ends so."""
    (name,) = (name for name in wheel.namelist() if name.endswith(end))
    return wheel.read(name).decode()


def test_wheel_holds_the_weights_and_every_module(packages: Path, wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    modules = {path.relative_to(packages).as_posix() for path in packages.rglob("*.py")}
    assert modules <= names
    assert "vrcodec/py.typed" in names
    assert wheel.read("vrcodec/weights_data/release.safetensors") == WEIGHTS
    assert wheel.read("vrcodec/weights_data/release.qualities.json") == QUALITIES
    attribution = CHECKOUT / "weights" / "ATTRIBUTION.csv"
    assert wheel.read("vrcodec/weights_data/ATTRIBUTION.csv") == attribution.read_bytes()
    assert not any("trunk" in name or name.startswith("tests/") for name in names)


def test_wheel_installs_what_desktops_look_for(wheel: zipfile.ZipFile) -> None:
    places = {name.partition(".data/data/")[2] for name in wheel.namelist()}
    assert {
        "share/man/man1/vrcodec.1",
        "share/mime/packages/vrcodec.xml",
        "share/thumbnailers/vrcodec.thumbnailer",
    } <= places


def test_wheel_holds_the_golden_files(wheel: zipfile.ZipFile) -> None:
    for path in (CHECKOUT / "vrcodec" / "data" / "golden").iterdir():
        assert wheel.read(f"vrcodec/data/golden/{path.name}") == path.read_bytes()


def test_wheel_holds_what_pages_are_made_of(wheel: zipfile.ZipFile) -> None:
    for folder, name in (
        (CHECKOUT / "vrcodec" / "evaluation" / "page", "evaluation/page"),
        (CHECKOUT / "vrcodec" / "explore" / "page", "explore/page"),
        (CHECKOUT / "vrcodec" / "frontend", "frontend"),
        (CHECKOUT / "vrcodec" / "data" / "anchors", "data/anchors"),
    ):
        paths = [path for path in folder.iterdir() if path.is_file()]
        assert len(paths) >= 2
        for path in paths:
            inside = f"vrcodec/{name}/{path.name}"
            assert wheel.read(inside) == path.read_bytes()


def test_wheel_metadata(wheel: zipfile.ZipFile) -> None:
    metadata = email.message_from_string(member(wheel, ".dist-info/METADATA"))
    assert metadata["Name"] == "vrcodec"
    assert metadata["License-Expression"] == "Apache-2.0"
    assert "vrcodec = vrcodec.cli:main" in member(wheel, ".dist-info/entry_points.txt")
    assert "Apache License" in member(wheel, ".dist-info/licenses/LICENSE")


def test_sdist_holds_the_released_weights_only(packages: Path) -> None:
    (path,) = packages.glob("dist/vrcodec-*.tar.gz")
    with tarfile.open(path) as archive:
        weights = {
            Path(name).name
            for name in archive.getnames()
            if "/weights/" in name and "/styles" not in name
        }
    released = {"release.qualities.json", "release.safetensors"}
    assert weights == released | {"ATTRIBUTION.csv", "README.md"}


def test_console_script_resolves() -> None:
    try:
        distribution = importlib.metadata.distribution("vrcodec")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("vrcodec is not installed, only importable")
    (script,) = distribution.entry_points.select(group="console_scripts")
    assert script.name == "vrcodec"
    assert callable(script.load())


def test_import_is_light() -> None:
    code = """
import sys, vrcodec

assert not {"torch", "compressai", "torchvision"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], cwd=CHECKOUT, check=True, timeout=60)
