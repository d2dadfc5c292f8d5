"""How `vrcodec explore` gives its address to a browser, and what it says before."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
import webbrowser
from pathlib import Path

import pytest
from conftest import GOLDEN, picture, wait_for

pytest.importorskip("starlette", reason="starlette is not installed")
pytest.importorskip("uvicorn", reason="uvicorn is not installed")

from vrcodec.explore.browser import opened

TINY = GOLDEN / "tiny.safetensors"
IN_FRONT = """#!{python}
# A browser that has the terminal until somebody closes it, which nobody does.
import html, json, os, pathlib, re, sys, time, urllib.request
page = pathlib.Path(urllib.request.url2pathname(sys.argv[1].removeprefix("file://")))
address = html.unescape(re.search('href="(.*?)"', page.read_text())[1])
modes = [os.stat(path).st_mode for path in (page, page.parent)]
text = urllib.request.urlopen(address, timeout=60).read().decode()
known = {{"arguments": sys.argv[1:], "address": address, "modes": modes, "text": text}}
known["pid"], known["left"] = os.getpid(), page.exists()
told = pathlib.Path({told!r})
told.with_suffix(".part").write_text(json.dumps(known))
told.with_suffix(".part").rename(told)
time.sleep(600)
"""


def test_a_browser_in_front_is_answered_and_no_argument_has_the_token(
    vrcodec_environment: dict[str, str], tmp_path: Path
) -> None:
    """Arguments are seen by every user of the machine; Ctrl-C ends the command nevertheless."""
    told, folder = tmp_path / "told.json", tmp_path / "temporary"
    folder.mkdir()
    command = tmp_path / "browser"
    command.write_text(IN_FRONT.format(python=sys.executable, told=str(told)))
    command.chmod(0o700)
    own = {"BROWSER": f"{command} %s", "TMPDIR": str(folder)}
    process = subprocess.Popen(
        [sys.executable, "-m", "vrcodec", "explore", "--device", "cpu", "--weights", TINY],
        env=vrcodec_environment | own,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_for(told.exists)
        known = json.loads(told.read_text())
        token = known["address"].split("/")[3]
        assert len(token) > 20 and token not in " ".join(known["arguments"])
        assert "<title>vrcodec explore</title>" in known["text"] and "<main" in known["text"]
        assert [stat.S_IMODE(mode) for mode in known["modes"]] == [0o600, 0o700]
        assert not known["left"], "the address is no longer on the disk once the page is there"
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
    finally:
        process.kill()
        if told.exists():
            os.kill(json.loads(told.read_text())["pid"], signal.SIGKILL)
        output, errors = process.communicate(timeout=30)
    assert known["address"] in output and "Traceback" not in errors
    assert not list(folder.iterdir())


def test_the_file_goes_when_nobody_has_come(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(webbrowser, "open", asked.append)
    with opened("http://127.0.0.1:1/a&b/") as forget:
        wait_for(lambda: bool(asked))
        page = Path(asked[0].removeprefix("file://"))
        assert "http://127.0.0.1:1/a&amp;b/" in page.read_text()
    assert not page.parent.exists()
    forget()  # a second time, and after the end, is no mistake


@pytest.mark.parametrize("failing", [webbrowser.Error("none"), OSError("none")])
def test_no_browser_is_no_mistake(
    monkeypatch: pytest.MonkeyPatch, failing: Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    """The address was printed."""

    def fail(_: str) -> bool:
        raise failing

    monkeypatch.setattr(webbrowser, "open", fail)
    with opened("http://127.0.0.1:1/a/"):
        time.sleep(0.1)
    assert capsys.readouterr().err == ""


def test_pictures_that_are_closed_for_others_are_named(
    vrcodec_environment: dict[str, str], tmp_path: Path
) -> None:
    paths = [tmp_path / f"{i}.png" for i in range(10)]
    for path in paths:
        picture(1).save(path)

    def begin(*options: str) -> str:
        process = subprocess.Popen(
            [sys.executable, "-m", "vrcodec", "explore", "--no-browser", "--device", "cpu"]
            + ["--weights", str(TINY), *options, *map(str, paths)],
            env=vrcodec_environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            assert process.stdout and process.stdout.readline().startswith("http://127.0.0.1:")
            process.send_signal(signal.SIGINT)
            return process.communicate(timeout=30)[1]
        finally:
            process.kill()

    assert begin() == (
        "closed to make room: 0.png, 1.png "
        "(at most 8 pictures with 64,000,000 pixels together are open)\n\n"
    )
    assert "0.png, 1.png, 2.png, 3.png, 4.png, 5.png (at most" in begin("--max-pixels", "4032")
