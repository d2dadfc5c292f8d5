"""What desktop and shell are told: types, thumbnails, completion, the manual page."""

from __future__ import annotations

import importlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import click
import pytest
from conftest import GOLDEN, RunVrcodec
from PIL import Image

from vrcodec.bitstream.container import MAGIC
from vrcodec.cli import COMMANDS, main, manual

DESKTOP = Path(__file__).parents[1] / "vrcodec" / "data" / "desktop"
PLACES = {
    "bash-completion/completions/vrcodec",
    "fish/vendor_completions.d/vrcodec.fish",
    "man/man1/vrcodec.1",
    "mime/packages/vrcodec.xml",
    "thumbnailers/vrcodec.thumbnailer",
    "zsh/site-functions/_vrcodec",
}
SPACE = "{http://www.freedesktop.org/standards/shared-mime-info}"


def ours(share: Path) -> set[str]:
    return {place for place in PLACES if (share / place).is_file()}


def test_files_are_written_kept_replaced_and_removed(
    tmp_path: Path, run_vrcodec: RunVrcodec, vrcodec_environment: dict[str, str]
) -> None:
    home = vrcodec_environment | {"XDG_DATA_HOME": str(tmp_path)}
    result = run_vrcodec("integrate", env=home)
    assert (result.returncode, result.stderr) == (0, b"")
    assert ours(tmp_path) == PLACES
    assert run_vrcodec("integrate", env=home).stdout.count(b": is there\n") == len(PLACES)

    page = tmp_path / "man" / "man1" / "vrcodec.1"
    page.write_text("somebody's own")
    result = run_vrcodec("integrate", "--prefix", tmp_path)
    assert result.returncode == 1 and page.read_text() == "somebody's own"
    assert result.stderr == f"Error: {page}: exists (use --overwrite to replace it)\n".encode()
    assert run_vrcodec("integrate", "--prefix", tmp_path, "--overwrite").returncode == 0
    assert page.read_text().startswith(".TH VRCODEC 1")

    result = run_vrcodec("integrate", "--remove", "--prefix", tmp_path)
    assert (result.returncode, ours(tmp_path)) == (0, set())


def test_types_are_told_by_magic_and_by_name(tmp_path: Path, run_vrcodec: RunVrcodec) -> None:
    (kind,) = ElementTree.parse(DESKTOP / "vrcodec.xml").getroot()
    assert kind.get("type") == "image/x-vrc"
    (match,) = kind.findall(f"{SPACE}magic/{SPACE}match")
    assert (match.get("value"), match.get("offset")) == (MAGIC.decode(), "0")
    versions = {int(one.get("value", ""), 16) for one in match}
    starts = [path.read_bytes()[:4] for path in GOLDEN.glob("*.vrc")]
    assert {start[3] & 0xF0 for start in starts} == versions

    # Without a desktop at work xdg-mime asks mimetype, or file, which knows no new types.
    if not all(map(shutil.which, ("update-mime-database", "xdg-mime", "mimetype"))):
        pytest.skip("types are NOT asked for: shared-mime-info, xdg-utils or mimetype is missing")
    assert run_vrcodec("integrate", "--prefix", tmp_path / "share").returncode == 0
    shutil.copy(GOLDEN / "golden-photo-0.0.vrc", tmp_path / "nameless")
    shutil.copy(GOLDEN / "golden-v2-photo-0.0.vrc", tmp_path / "newer")
    (tmp_path / "text").write_text("VRC2: something else")
    places = {"XDG_DATA_HOME": str(tmp_path / "share"), "XDG_DATA_DIRS": "/usr/share"}
    kinds = [
        subprocess.run(
            ["xdg-mime", "query", "filetype", str(tmp_path / name)],
            env=dict(os.environ) | places,
            capture_output=True,
            text=True,
        ).stdout.strip()
        for name in ("nameless", "newer", "text")
    ]
    assert kinds == ["image/x-vrc", "image/x-vrc", "text/plain"]


def test_the_thumbnailer_makes_thumbnails(
    tmp_path: Path,
    run_vrcodec: RunVrcodec,
    tiny_weights: Path,
    vrcodec_environment: dict[str, str],
) -> None:
    """Its line runs as a file manager runs it: into a file that is there, from anywhere."""
    assert run_vrcodec("integrate", "--prefix", tmp_path / "share").returncode == 0
    text = (tmp_path / "share" / "thumbnailers" / "vrcodec.thumbnailer").read_text()
    entry = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    assert entry["MimeType"] == "image/x-vrc;" and shutil.which(entry["TryExec"])
    source, target = tmp_path / "a picture.vrc", tmp_path / ".thumbnail.tmp"
    shutil.copy(GOLDEN / "golden-v2-photo-0.5.vrc", source)
    target.touch()
    values = {"%i": str(source), "%o": str(target), "%s": "32"}
    command = [values.get(word, word) for word in shlex.split(entry["Exec"])]
    assert set(values.values()) <= set(command)
    command += ["--weights", str(tiny_weights), "--device", "cpu"]
    result = subprocess.run(
        command, env=vrcodec_environment, cwd="/", capture_output=True, timeout=120
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, b"", b"")
    with Image.open(target) as image:
        assert image.format == "PNG" and max(image.size) == 32


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_complete_commands_options_and_values(
    shell: str, vrcodec_environment: dict[str, str], tmp_path: Path
) -> None:
    program = "import sys; sys.argv[0] = 'vrcodec'; from vrcodec.cli import main; main()"

    def asked(words: str, word: str) -> str:
        about = {"COMP_WORDS": words, "COMP_CWORD": word, "_VRCODEC_COMPLETE": f"{shell}_complete"}
        if shell != "fish":
            about["COMP_CWORD"] = str(len(words.split()) - (word != ""))
        result = subprocess.run(
            [sys.executable, "-c", program],
            env=vrcodec_environment | about,
            capture_output=True,
            text=True,
            cwd=tmp_path,
        )
        assert result.returncode == 0, result.stderr
        return result.stdout

    assert "integrate" in asked("vrcodec int", "int")
    assert "--preset" in asked("vrcodec encode --pre", "--pre")
    assert "thumbnail" in asked("vrcodec encode --preset thu", "thu")
    assert "file" in asked("vrcodec decode x", "x")


def test_the_manual_page_names_every_command_and_option() -> None:
    """If this fails, scripts/make_manual.py writes it anew."""
    page = (DESKTOP / "vrcodec.1").read_text()
    page = re.sub(r"\\f[BIR]", "", page).replace("\\-", "-")
    for name, (place, _) in COMMANDS.items():
        module, _, attribute = place.partition(":")
        command = getattr(importlib.import_module(module), attribute)
        (part,) = re.findall(rf'^\.SH "VRCODEC {name.upper()}"$(.*?)^\.SH ', page, re.M | re.S)
        for option in command.params:
            if isinstance(option, click.Option):
                for spelling in (*option.opts, *option.secondary_opts):
                    assert re.search(rf"(?<![\w-]){spelling}(?![\w-])", part), f"{name} {spelling}"


def test_the_manual_page_is_one() -> None:
    page = manual.page(main)
    assert page.count('.SH "VRCODEC ') == len(COMMANDS) + 1  # stylize has one within it
    train = page.partition('.SH "VRCODEC STYLIZE TRAIN"')[2]
    assert "--credit" in train.replace("\\", "") and "--style" in page.replace("\\", "")
    assert not re.search(r"^[.'](?!TH |SH |PP$|TP$)", page, re.M)
    if not shutil.which("groff"):
        pytest.skip("the manual page is NOT formatted: groff is not installed")
    result = subprocess.run(
        ["groff", "-man", "-Tutf8", "-ww"], input=page.encode(), capture_output=True
    )
    assert (result.returncode, result.stderr) == (0, b"")
    assert "--quality" in re.sub(r"\x1b\[[\d;]*m|.\x08", "", result.stdout.decode())
