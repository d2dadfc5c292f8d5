"""--target-total through the real command line: one quality for all, the total met."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest
from conftest import RunVrcodec
from PIL import Image

from vrcodec.bitstream import container

Vrcodec = Callable[..., "CompletedProcess[bytes]"]


@pytest.fixture
def vrcodec(run_vrcodec: RunVrcodec, tiny_weights: Path) -> Vrcodec:
    return lambda *arguments: run_vrcodec(
        "encode", *arguments, "--weights", tiny_weights, "--device", "cpu"
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "in"
    (root / "sub").mkdir(parents=True)
    for number, place in enumerate((root, root, root / "sub", root / "sub")):
        random = np.random.default_rng(number)
        small = Image.fromarray(random.integers(0, 256, (12, 15, 3), np.uint8))
        size = (120 + 30 * number, 90)
        small.resize(size, Image.Resampling.BICUBIC).save(place / f"{number}.png")
    return root


def results(out: Path) -> dict[str, bytes]:
    return {
        path.relative_to(out).as_posix(): path.read_bytes() for path in sorted(out.rglob("*.vrc"))
    }


def qualities(files: dict[str, bytes]) -> set[float]:
    return {container.describe(data)["quality"] for data in files.values()}


@pytest.mark.parametrize("options", [[], ["--effort", "1"]], ids=["plain", "effort"])
def test_a_folder_keeps_to_its_total_and_is_resumed(
    options: list[str], vrcodec: Vrcodec, folder: Path, tmp_path: Path
) -> None:
    out, report = tmp_path / "out", tmp_path / "report.json"

    def run(jobs: int) -> list[str]:
        result = vrcodec(
            folder,
            "-o",
            out,
            "--target-total",
            "9kB",
            "--jobs",
            str(jobs),
            "--report",
            report,
            "--overwrite",
            *options,
        )
        assert (result.returncode, result.stderr) == (0, b"")
        rows = json.loads(report.read_text())
        assert sum(row["bytes"] for row in rows) == sum(map(len, results(out).values()))
        return [row["status"] for row in rows]

    assert run(2) == ["done"] * 4
    files = results(out)
    assert 0.97 * 9000 <= sum(map(len, files.values())) <= 9000
    assert len(qualities(files)) == 1
    assert run(1) == ["finished"] * 4
    (out / "1.vrc").unlink()
    (out / "sub" / "2.vrc").unlink()
    assert sorted(run(1)) == ["done", "done", "finished", "finished"]
    assert results(out) == files


def test_files_that_are_left_out_do_not_count(
    vrcodec: Vrcodec, folder: Path, tmp_path: Path
) -> None:
    for number in range(16):
        Image.new("L", (1, 1)).save(folder / f"tiny{number}.pgm")
    out, limit = tmp_path / "out", 9000
    result = vrcodec(folder, "-o", out, "--target-total", str(limit), "--skip-larger")
    assert result.returncode == 0, result.stderr
    files = results(out)
    assert not any("tiny" in name for name in files)
    assert 0.97 * limit < sum(map(len, files.values())) <= limit


def test_another_picture_changes_the_quality_of_all(
    vrcodec: Vrcodec, folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    command = (folder, "-o", out, "--target-total", "9kB", "--jobs", "1")
    vrcodec(*command)
    before = results(out)
    Image.effect_noise((128, 128), 40).save(folder / "new.png")
    (folder / "broken.png").write_bytes(b"no picture")
    result = vrcodec(*command)
    assert result.returncode == 1
    assert result.stderr.decode().startswith(f"Error: {folder / 'broken.png'}: ")
    after = results(out)
    assert len(after) == 5
    assert 0.97 * 9000 <= sum(map(len, after.values())) <= 9000
    assert max(qualities(after)) < max(qualities(before))
    assert len(qualities(after)) == 1


def test_a_total_out_of_reach(vrcodec: Vrcodec, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = (folder, "-o", out, "--target-total", "100", "--jobs", "1")
    result = vrcodec(*command)
    assert result.returncode == 1
    (line,) = result.stderr.decode().splitlines()
    assert line.startswith("Error: 100 bytes in all cannot be reached: quality 0 gives ")
    assert not results(out)
    result = vrcodec(*command, "--best-effort")
    assert result.returncode == 0
    assert result.stderr.decode() == "100 bytes in all is out of reach\n"
    assert qualities(results(out)) == {0}


def test_several_files_keep_to_their_total(vrcodec: Vrcodec, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    sources = sorted(folder.rglob("*.png"))
    result = vrcodec(*sources, "-o", f"{out}/", "--target-total", "9 kB")
    assert (result.returncode, result.stderr) == (0, b"")
    files = results(out)
    assert 0.97 * 9000 <= sum(map(len, files.values())) <= 9000
    assert len(files) == 4 and len(qualities(files)) == 1
    result = vrcodec(*sources, "-o", f"{tmp_path}/other/", "--target-total", "99")
    assert result.returncode == 1
    (line,) = result.stderr.decode().splitlines()
    assert line.startswith("Error: 99 bytes in all cannot be reached")
    assert not results(tmp_path / "other")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--target-total", "6kB", "-q", "0.5"], "exclude each other"),
        (["--target-total", "6kB", "--target-size", "1kB"], "exclude each other"),
        (["--target-total", "much"], "'much' is not a size"),
    ],
    ids=" ".join,
)
def test_bad_totals_are_exit_2(
    options: list[str], text: str, vrcodec: Vrcodec, folder: Path, tmp_path: Path
) -> None:
    result = vrcodec(folder, "-o", tmp_path / "out", *options)
    assert result.returncode == 2
    assert text in result.stderr.decode().splitlines()[-1]
    assert not (tmp_path / "out").exists()
