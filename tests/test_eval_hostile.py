"""What `vrcodec eval` does with names, curves and folders that somebody made up to do harm."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import sys
import xml.etree.ElementTree
from pathlib import Path

import pytest
from conftest import RunVrcodec, Start, picture, wait_for

from vrcodec.errors import VrcodecError
from vrcodec.evaluation.anchors import load_curves
from vrcodec.evaluation.notebook import Notebook
from vrcodec.evaluation.report import write_file
from vrcodec.text import cell, printable

RATES = [0.1, 1, 6]
GOOD = {"bpp": RATES, "psnr": [20, 30, 45]}
NAMES = [
    b"=1+cmd.png",
    b"\xff\xfe.png",
    b"a\nb.png",
    b"<img src=x onerror=alert(1)>.png",
    b"$x_{$.png",
]


@pytest.fixture
def hostile(tmp_path: Path, pictures: Path) -> Path:
    """A folder of pictures with hostile names, and curves with hostile names beside it."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in NAMES:
        shutil.copy(pictures / "hibiscus.png", os.path.join(os.fsencode(folder), name))
    curves = {
        "a $\\frac{$": GOOD,
        "_hidden": GOOD,
        "</script><script>alert(1)</script>": GOOD,
        "nul\0 \udcff": GOOD,
    }
    (tmp_path / "curves.json").write_text(json.dumps(curves))
    return folder


@pytest.mark.skipif(sys.platform != "linux", reason="names of any bytes")
def test_a_report_of_hostile_names(vrcodec: RunVrcodec, hostile: Path, tmp_path: Path) -> None:
    for package in ("matplotlib", "jinja2"):
        pytest.importorskip(package)
    report = tmp_path / "report"
    result = vrcodec(
        "eval", hostile, "--qualities", "0.3,1", "--anchors", tmp_path / "curves.json", "-o", report
    )
    assert result.returncode == 0, result.stderr
    with (report / "pictures.csv").open(newline="", encoding="utf-8") as file:
        names = {row["picture"] for row in csv.DictReader(file)}
    assert names == {
        "'=1+cmd.png",
        r"\xff\xfe.png",
        r"a\nb.png",
        "<img src=x onerror=alert(1)>.png",
        "$x_{$.png",
    }
    page = (report / "report.html").read_text(encoding="utf-8")
    assert "<img src=x" not in page and "<script>alert" not in page
    assert "&lt;img src=x onerror=alert(1)&gt;.png" in page
    plot = xml.etree.ElementTree.parse(report / "rd_psnr.svg")
    texts = {element.text for element in plot.iter("{http://www.w3.org/2000/svg}text")}
    assert {"a $\\frac{$", "_hidden", r"nul\x00 \xff"} <= texts
    listed = {row["against"] for row in json.loads((report / "bd_rates.json").read_text())}
    assert listed == {
        "a $\\frac{$",
        "_hidden",
        "</script><script>alert(1)</script>",
        r"nul\x00 \xff",
    }
    assert b"\x00" not in result.stdout


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"x": {"bpp": [-1, 1], "psnr": [20, 30]}}, "x has a rate that is not above 0"),
        ({"x": {"bpp": [0, 1], "psnr": [20, 30]}}, "x has a rate that is not above 0"),
        ({"x": {"bpp": ["1", "2"], "psnr": [20, 30]}}, "x: bpp is no number"),
        ({"x": {"bpp": [1, 2], "psnr": [True, 30]}}, "x: psnr is no number"),
        ({"x": {"bpp": [1, 2], "psnr": [20]}}, "x has lists of different lengths"),
        ({"x": {"bpp": [1], "psnr": [20], "ms_ssim": [1, 1]}}, "x has lists of different lengths"),
        ({"x": {"bpp": [], "psnr": []}}, "x has 0 points"),
        ({"x": {"bpp": {"0": 1}, "psnr": [20]}}, ""),
        ({"x": {"bpp": "12", "psnr": "34"}}, ""),
        ({"x": [1, 2]}, ""),
        ([GOOD], ""),
        ("results", ""),
        ({"results": [1]}, ""),
        ('{"x": {"bpp": [NaN, 1], "psnr": [20, 30]}}', "x: bpp nan is out of range"),
        ('{"x": {"bpp": [1e999, 1], "psnr": [20, 30]}}', "x: bpp inf is out of range"),
        ('{"x": {"bpp": [1' + 400 * "0" + '], "psnr": [20]}}', ""),
        ("[" * 100_000, None),
        (b"\xff\xfe\x00", ""),
    ],
)
def test_curves_that_are_none_are_one_line(
    content: object, said: str | None, tmp_path: Path
) -> None:
    path = tmp_path / "curves.json"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        raw = isinstance(content, str) and content[0] in '{["'
        path.write_text(content if raw else json.dumps(content))
    with pytest.raises(VrcodecError) as caught:
        load_curves(path)
    what = "holds no rate-distortion curves" + (f": {said}" if said else "")
    if said is None:
        what = "nested too deeply for rate-distortion curves"
    assert str(caught.value) == f"{path}: {what}"


def test_integers_are_numbers(tmp_path: Path) -> None:
    path = tmp_path / "curves.json"
    path.write_text(json.dumps({"x": {"bpp": [1, 2, None], "psnr": [20, None, 30]}}))
    assert load_curves(path) == {"x": {"bpp": [1.0, 2.0, None], "psnr": [20.0, None, 30.0]}}


def test_text_for_people_and_spreadsheets() -> None:
    assert printable("é\x1b[2J\u202e\udc80\u2028") == r"é\x1b[2J\u202e\x80\u2028"
    assert printable("a\udfff") == r"a\udfff"
    for start in "=+-@":
        assert cell(f"{start}1") == f"'{start}1"
    assert cell("a=1") == "a=1"


def test_a_notebook_takes_nothing_from_strangers(tmp_path: Path) -> None:
    path = tmp_path / "measurements.jsonl"
    lines = ["[" * 100_000, '{"key": 1, "result": {}}', '{"key": "a", "result": 1}', "\xff", "null"]
    path.write_text("\n".join([*lines, '{"key": "b", "result": {"c": 1}}']))
    notebook = Notebook(path)
    assert notebook.results == {"b": {"c": 1}}
    secret = tmp_path / "secret"
    secret.write_text("x")
    link = tmp_path / "link.jsonl"
    link.symlink_to(secret)
    with pytest.raises(VrcodecError, match=r"link\.jsonl: "):
        Notebook(link)
    assert secret.read_text() == "x"


def test_a_measurement_that_was_made_up_is_refused(
    eval_report: Path, vrcodec: RunVrcodec, tmp_path: Path
) -> None:
    report = tmp_path / "report"
    shutil.copytree(eval_report, report)
    (report / "report.html").unlink()
    notebook = report / "measurements.jsonl"
    first, rest = notebook.read_bytes().split(b"\n", 1)
    entry = json.loads(first)
    entry["result"]["bytes"] = -5
    notebook.write_bytes(json.dumps(entry).encode() + b"\n" + rest)
    options = ("--qualities", "0,0.5,1", "--compare", "jpeg,avif,jxl", "--pictures", "0")
    result = vrcodec("eval", eval_report.parent / "pictures", *options, "-o", report)
    assert result.returncode == 1
    assert result.stderr.decode().splitlines()[-1] == (
        f"Error: {notebook}: holds something that was not measured; "
        "name a new folder for the report"
    )


def test_a_finished_report_is_replaced_only_if_that_is_asked_for(
    eval_report: Path, vrcodec: RunVrcodec, tmp_path: Path
) -> None:
    report = tmp_path / "report"
    shutil.copytree(eval_report, report)
    before = {path: path.read_bytes() for path in report.rglob("*") if path.is_file()}
    options = ("--qualities", "0,0.5,1", "--compare", "jpeg,avif,jxl", "--pictures", "0")
    command = ("eval", eval_report.parent / "pictures", *options, "-o", report)
    refused = vrcodec(*command)
    assert refused.returncode == 1
    assert refused.stderr.decode().startswith(f"Error: {report}/report.html: exists")
    assert {path: path.read_bytes() for path in report.rglob("*") if path.is_file()} == before
    done = vrcodec(*command, "--overwrite")
    assert done.returncode == 0, done.stderr
    assert b"side-by-side" not in (report / "report.html").read_bytes()


def test_an_interrupt_leaves_what_is_measured(start: Start, tmp_path: Path) -> None:
    for package in ("matplotlib", "jinja2"):
        pytest.importorskip(package)
    folder, report = tmp_path / "pictures", tmp_path / "report"
    folder.mkdir()
    for number in range(40):
        picture(number, 300, 200).save(folder / f"{number:02}.png")
    process = start("eval", folder, "-o", report, "--qualities", "0,1")
    notebook = report / "measurements.jsonl"
    wait_for(lambda: notebook.exists() and notebook.read_bytes().count(b"\n") >= 5)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode != 0 and b"Traceback" not in errors
    with (report / "pictures.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    done = len(rows) // 2
    assert 2 <= done < 40
    assert f"{report}: holds {done} of 40 pictures so far; the same command goes on" in (
        errors.decode()
    )
    assert json.loads((report / "curves" / "vrcodec.json").read_text())["description"].startswith(
        f"{done} pictures"
    )
    assert not (report / "report.html").exists()


def test_no_file_of_a_report_is_written_through_a_link(tmp_path: Path) -> None:
    mine, report = tmp_path / "mine", tmp_path / "report"
    mine.mkdir()
    report.mkdir()
    (mine / "notes.csv").write_text("mine")
    (report / "pictures.csv").symlink_to(mine / "notes.csv")
    (report / "curves").symlink_to(mine)
    write_file(report, "pictures.csv", "theirs")
    assert (mine / "notes.csv").read_text() == "mine"
    assert (report / "pictures.csv").read_text() == "theirs"
    assert not (report / "pictures.csv").is_symlink()
    with pytest.raises(VrcodecError, match="is a link, and nothing is written through it"):
        write_file(report, "curves/notes.csv", "theirs")
    assert [path.name for path in mine.iterdir()] == ["notes.csv"]
