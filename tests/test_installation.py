"""A plain installation: few packages, and one line where something needs an extra."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from vrcodec.errors import VrcodecError
from vrcodec.extras import EXTRAS, require

ROOT = Path(__file__).parents[1]
HEAVY = {"compressai", "torchvision", "scipy", "pandas", "matplotlib", "ray"}
IMPORTED_AS = {"pillow-jxl-plugin": "pillow_jxl"}
"""Where a package's module is not called like the package."""

WITHOUT_EXTRAS = f"""
import sys

sys.modules.update(dict.fromkeys({sorted(EXTRAS)}))
from vrcodec.cli import main

main()
"""


def declared(table: str) -> dict[str, set[str]]:
    """Modules of the packages in each list of a table of pyproject.toml. There is no tomllib yet
    in Python 3.10."""
    text = (ROOT / "pyproject.toml").read_text()
    part = text[text.index(table) + len(table) :]
    part = part[: part.find("\n[")]
    return {
        name: {
            IMPORTED_AS.get(package, package).replace("-", "_")
            for package in re.findall(r'^\s*"([\w-]+)', body, re.M)
        }
        for name, body in re.findall(
            r"^(\w+) = \[(.*?)\]$", part.replace('["', '[\n"'), re.M | re.S
        )
    }


def test_a_plain_installation_is_small() -> None:
    plain = declared("[project]\n")["dependencies"]
    assert {"torch", "numpy", "pillow", "click"} <= plain
    assert not plain & HEAVY and len(plain) <= 9


def test_every_extra_is_known_by_its_modules() -> None:
    extras = declared("[project.optional-dependencies]\n")
    known = {
        name: extra for extra in ("eval", "explore", "ray", "stylize") for name in extras[extra]
    }
    assert known == EXTRAS


def test_what_is_missing_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    require("json", "click")
    monkeypatch.setitem(sys.modules, "scipy", None)
    with pytest.raises(
        VrcodecError, match=r"^scipy is not installed: pip install 'vrcodec\[eval\]'"
    ):
        require("json", "scipy")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ("eval {pictures} -o {out}/report", "matplotlib is not installed: .*vrcodec[eval]"),
        ("eval {pictures} --compare webp", "scipy is not installed: .*vrcodec[eval]"),
        ("explore {pictures}", "starlette is not installed: .*vrcodec[explore]"),
        ("encode {pictures} -o {out} --engine ray", "pip install 'vrcodec[ray]'"),
    ],
)
def test_the_command_line_says_so_before_any_work(
    arguments: str, line: str, pictures: Path, tmp_path: Path, vrcodec_environment: dict[str, str]
) -> None:
    (tmp_path / "in").mkdir()
    shutil.copy(pictures / "macaw.png", tmp_path / "in")
    words = arguments.format(pictures=tmp_path / "in", out=tmp_path / "out").split()
    result = subprocess.run(
        [sys.executable, "-c", WITHOUT_EXTRAS, *words],
        env=vrcodec_environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 1
    assert re.search(line.replace("[", r"\["), result.stderr.splitlines()[-1])
    assert len(result.stderr.splitlines()) <= 3  # MS-SSIM and SSIMULACRA2 may be missed before
    assert not (tmp_path / "out").exists()
