"""`vrcodec selftest`: silent agreement, loud difference."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from conftest import RunVrcodec

from vrcodec import selftest
from vrcodec.cli import main


def test_this_machine_agrees(run_vrcodec: RunVrcodec) -> None:
    result = run_vrcodec("selftest")
    assert result.returncode == 0, result.stderr
    (line,) = result.stdout.decode().splitlines()
    assert line.startswith("21 golden files decode to the recorded symbols on cpu")


def test_differences_are_named_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "data"
    shutil.copytree(selftest.golden_folder(), folder)
    (folder / "golden-thin-0.8.vrc").write_bytes(b"VRC")
    shutil.copy(folder / "golden-photo-0.0.vrc", folder / "golden-photo-0.5.vrc")
    shutil.copy(folder / "golden-trellis-photo-0.5.vrc", folder / "golden-trellis-grey-0.37.vrc")
    monkeypatch.setattr(selftest, "golden_folder", lambda: folder)
    monkeypatch.setattr(selftest, "available_devices", lambda: ["cpu"])
    result = CliRunner().invoke(main, ["selftest"])
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert "cpu: golden-photo-0.5.vrc: other symbols than recorded" in line
    assert "cpu: golden-thin-0.8.vrc: truncated" in line
    assert "cpu: golden-trellis-grey-0.37.vrc: other symbols than recorded" in line
    assert "golden-photo-0.0" not in line and "golden-trellis-photo" not in line
