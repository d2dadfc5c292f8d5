"""Every hostile file that the tests have, through the command line in 4 GB of address space."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest
import test_hostile_pictures as hostile
from conftest import TESTS, RunVrcodec
from fuzz_targets import weights_of

CORPUS = TESTS / "corpus"
LIMIT = 4_000_000 << 10
"""Bytes, as after `ulimit -v 4000000`."""
MADE = (
    hostile.many_orientations,
    hostile.many_prefixes,
    hostile.tags_without_end,
    hostile.many_directories,
    hostile.many_profiles,
    hostile.many_texts,
    hostile.long_comment,
    hostile.many_scans,
    hostile.shared_strips,
    hostile.jpeg_in_a_row,
    hostile.huge_tile,
    hostile.lossy_webp,
    hostile.small_header,
    hostile.sparse,
    hostile.one_strip_of_two,
    hostile.one_tile_of_four,
    hostile.cut_codestream,
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits of Linux"),
]


def limited() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (LIMIT, LIMIT))


def check(run: subprocess.CompletedProcess[bytes], count: int) -> list[str]:
    """The lines of refusals, each of which begins with a file's name and says why."""
    assert run.returncode in {0, 1}, run.stderr
    lines = run.stderr.decode().splitlines()
    refused = [line for line in lines if line.startswith("Error: ")]
    assert not any("memory" in line or "Traceback" in line for line in lines), lines
    assert run.returncode == bool(refused)
    assert len(refused) <= count
    return refused


def test_pictures(vrcodec: RunVrcodec, tmp_path: Path) -> None:
    files = [
        *(path for path in sorted((TESTS / "pictures" / "bad").iterdir()) if path.suffix != ".md"),
        *sorted((CORPUS / "pictures").iterdir()),
    ]
    for make in MADE:
        files.append(tmp_path / make.__name__)
        files[-1].write_bytes(make())
    sparse = tmp_path / "film.tga"
    with sparse.open("wb") as file:
        file.truncate(20 << 30)
    out = f"{tmp_path / 'out'}/"
    run = vrcodec("encode", *files, sparse, "-o", out, preexec_fn=limited, timeout=900)
    refused = check(run, len(files) + 1)
    assert len(refused) > 20
    made = list(Path(out).iterdir())
    assert len(made) == len(files) + 1 - len(refused)


def test_files(vrcodec: RunVrcodec, tmp_path: Path) -> None:
    parts = [sorted((CORPUS / target).iterdir()) for target in ("decode", "container")]
    sparse = tmp_path / "film.vrc"
    with sparse.open("wb") as file:
        file.truncate(20 << 30)
    parts[0].append(sparse)
    for number, part in enumerate(parts):
        out = f"{tmp_path / str(number)}/"
        run = vrcodec("decode", *part, "-o", out, preexec_fn=limited, timeout=900)
        assert check(run, len(part))


def test_weights(run_vrcodec: RunVrcodec, pictures: Path, tmp_path: Path) -> None:
    made = []
    for path in sorted((CORPUS / "weights").iterdir()):
        made.append(tmp_path / f"{path.name}.safetensors")
        made[-1].write_bytes(weights_of(path.read_bytes()))
    script = (
        "import sys\nfrom vrcodec import Codec, VrcodecError\n"
        "for name in sys.argv[1:]:\n"
        "    try:\n        Codec(name, 'cpu')\n"
        "    except VrcodecError as error:\n        print(f'Error: {error}', file=sys.stderr)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", script, *map(str, made)],
        cwd=TESTS.parent,
        capture_output=True,
        preexec_fn=limited,
        timeout=600,
    )
    assert run.returncode == 0, run.stderr
    lines = run.stderr.decode().splitlines()
    assert len(lines) == sum(path.name.startswith("refused") for path in made)
    assert all("memory" not in line and ": " in line for line in lines)
    picture, refused = pictures / "hibiscus.png", made[-1]
    last = run_vrcodec(
        "encode", picture, "-o", tmp_path / "a.vrc", "--weights", refused, preexec_fn=limited
    )
    assert last.returncode == 1
    assert last.stderr.decode().startswith(f"Error: {refused}: ")
    assert len(last.stderr.splitlines()) == 1
