"""Output that cannot break a run, through real processes: names, encodings, streams that fail."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import RunVrcodec, linux_only, picture

from vrcodec.text import printable

ODD = ["caf\udce9.png", "new\nline.png", "\33[2J.png"]


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    """A folder of pictures with names that terminals and encodings do not like."""
    for number, name in enumerate(ODD):
        picture(number).save(tmp_path / "x.png")
        os.rename(tmp_path / "x.png", tmp_path / name)
    return tmp_path


@linux_only
def test_odd_names_are_printed_with_escapes(
    odd: Path, vrcodec: RunVrcodec, vrcodec_environment: dict[str, str]
) -> None:
    """Also where the stream's encoding has no such character, and is strict about it."""
    strict = vrcodec_environment | {"PYTHONIOENCODING": "ascii:strict"}
    result = vrcodec("encode", *ODD, "gone\7.png", cwd=odd, env=strict)
    assert result.returncode == 1
    assert result.stderr == b"Error: gone\\x07.png: no such file or folder\n"
    lines = result.stdout.decode("ascii").splitlines()
    assert [line.split(" -> ")[0] for line in lines] == [printable(name) for name in ODD]
    assert len(list(odd.glob("*.vrc"))) == 3


@linux_only
@pytest.mark.parametrize(
    ("arrange", "code", "said"),
    [
        ("> /dev/full", 1, b"Error: stdout: no space left on device\n"),
        (">&-", 0, b""),
        ("2>&-", 0, b""),
        ("2> /dev/full", 0, b""),
        ("| true", 0, b""),
    ],
)
def test_streams_that_fail_stop_no_work(
    arrange: str,
    code: int,
    said: bytes,
    odd: Path,
    tiny_weights: Path,
    vrcodec_environment: dict[str, str],
) -> None:
    command = f'"{sys.executable}" -m vrcodec encode *.png --weights "{tiny_weights}" {arrange}'
    result = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        cwd=odd,
        env=vrcodec_environment,
        capture_output=True,
        check=False,
    )
    assert (result.returncode, result.stderr) == (code, said)
    assert len(list(odd.glob("*.vrc"))) == 3


def test_names_alone_are_input_and_output(tmp_path: Path, vrcodec: RunVrcodec) -> None:
    picture(1).save(tmp_path / "a.png")
    result = vrcodec("encode", "a.png", "b.vrc", "--preserve", "--quiet", cwd=tmp_path)
    assert (result.returncode, result.stdout, result.stderr) == (0, b"", b"")
    result = vrcodec("decode", "b.vrc", "c.png", "--jobs", "1", "--report", "r.csv", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "r.csv").read_text().splitlines()[1].startswith("b.vrc,c.png,done,png,")
    assert {path.name for path in tmp_path.iterdir()} == {"a.png", "b.vrc", "c.png", "r.csv"}


def test_stdin_is_an_input_by_any_name(tmp_path: Path, vrcodec: RunVrcodec) -> None:
    picture(1).save(tmp_path / "a.png")
    os.link(tmp_path / "a.png", tmp_path / "b.vrc")
    with (tmp_path / "a.png").open("rb") as stream:
        result = vrcodec("encode", "-", "-o", "b.vrc", "--overwrite", cwd=tmp_path, stdin=stream)
    assert result.stderr == b"Error: b.vrc: is an input, and would be replaced\n"
    assert result.returncode == 1
    assert (tmp_path / "b.vrc").read_bytes() == (tmp_path / "a.png").read_bytes()


def test_larger_results_are_said_and_left_out(tmp_path: Path, vrcodec: RunVrcodec) -> None:
    picture(1).resize((1, 1)).save(tmp_path / "a.jpg", quality=1)
    picture(1).resize((2, 2)).convert("1").save(tmp_path / "b.ppm")
    result = vrcodec("encode", "b.ppm", "b.vrc", "-q", "1", cwd=tmp_path)
    assert result.stdout.rstrip().endswith(b", larger than its source")
    (tmp_path / "b.vrc").unlink()
    result = vrcodec("encode", ".", "-o", "out", "--jobs", "1", "--skip-larger", cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, b"")
    assert b"1 left out, larger than their sources" in result.stdout
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.vrc"]
