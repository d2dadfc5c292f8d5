"""Folders through the real command line: mirrored, resumed after kill -9, and never stopped."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import io
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import MANY, RunVrcodec, Start, children, linux_only, picture, tree, wait_for
from PIL import Image

from vrcodec import batch
from vrcodec.batch import Encoding, Processes, RunSettings, Task, worker
from vrcodec.batch import marks as provenance
from vrcodec.batch.jobs import Prepared
from vrcodec.batch.marks import Mark
from vrcodec.batch.report import Report
from vrcodec.batch.run import run
from vrcodec.batch.settings import Total
from vrcodec.batch.worker import Row, State
from vrcodec.bitstream import container
from vrcodec.bitstream.container import Extra
from vrcodec.codec.codec import Codec
from vrcodec.codec.settings import Measure, Target
from vrcodec.errors import VrcodecError
from vrcodec.files import remove_temporaries
from vrcodec.pictures import FORMATS, save_picture

MARK = Mark(bytes(range(8)), bytes(range(100, 108)))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small tree of pictures and other files."""
    root = tmp_path / "in"
    (root / "b" / "c").mkdir(parents=True)
    (root / "empty").mkdir()
    picture(1).save(root / "one.png")
    picture(2).save(root / "two.jpg")
    picture(2).save(root / "two.PNG")
    picture(3).convert("L").save(root / "b" / "grey.png")
    picture(4).save(root / "b" / "c" / "deep name.webp")
    (root / "b" / "notes.txt").write_text("none")
    (root / "b" / "._one.png").write_bytes(b"resource fork")
    return root


# Names


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a.png", "b.jpg"], ["a.vrc", "b.vrc"]),
        (["a.jpg", "a.png", "b.png"], ["a.jpg.vrc", "a.png.vrc", "b.vrc"]),
        (["A.png", "a.jpg"], ["A.png.vrc", "a.jpg.vrc"]),
        (["a.jpg", "a.png", "a.png.bmp"], ["a.jpg.vrc", "a.png.vrc", "a.png.bmp.vrc"]),
        (["a.b.png", "a.png"], ["a.b.vrc", "a.vrc"]),
    ],
)
def test_results_never_collide(names: list[str], expected: list[str], tmp_path: Path) -> None:
    for name in names:
        (tmp_path / name).touch()
    tasks = batch.list_folder(tmp_path, tmp_path / "out", batch.PICTURES, ".vrc").tasks
    assert [Path(task.source).name for task in tasks] == names
    assert [Path(task.target).name for task in tasks] == expected


def test_patterns_choose_by_name_or_path(folder: Path, tmp_path: Path) -> None:
    def listed(include: list[str], exclude: list[str]) -> tuple[list[str], int, int]:
        listing = batch.list_folder(
            folder, tmp_path / "out", batch.PICTURES, ".vrc", include, exclude
        )
        names = [os.path.relpath(task.source, folder) for task in listing.tasks]
        return names, len(listing.skipped), len(listing.left_out)

    everything = ["one.png", "two.PNG", "two.jpg", "b/grey.png", "b/c/deep name.webp"]
    assert listed([], []) == (everything, 2, 0)
    assert listed(["*.png"], []) == (["one.png", "b/grey.png"], 2, 3)
    assert listed(["b/*"], ["*.webp"]) == (["b/grey.png"], 2, 4)
    assert listed(["*.png", "*.jpg"], ["b/*"]) == (["one.png", "two.jpg"], 2, 3)
    tasks = batch.list_folder(folder, tmp_path / "out", batch.PICTURES, ".vrc", ["*.jpg"]).tasks
    assert [Path(task.target).name for task in tasks] == ["two.jpg.vrc"]  # there is a two.PNG


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_pipes_are_no_pictures(folder: Path, tmp_path: Path) -> None:
    os.mkfifo(folder / "pipe.png")
    (folder / "gone.png").symlink_to("nowhere.png")
    (folder / "link.png").symlink_to("one.png")
    listing = batch.list_folder(folder, tmp_path / "out", batch.PICTURES, ".vrc")
    names = {Path(task.source).name for task in listing.tasks}
    assert {"gone.png", "link.png"} <= names and "pipe.png" not in names
    assert len(listing.skipped) == 3


@pytest.mark.slow
def test_paths_through_links_are_taken_as_given(
    folder: Path, tmp_path: Path, settings: RunSettings, job: Encoding
) -> None:
    (tmp_path / "elsewhere" / "deep").mkdir(parents=True)
    (tmp_path / "link").symlink_to("elsewhere/deep")
    out = tmp_path / "link" / ".." / "out"
    tasks = batch.list_folder(folder, out, batch.PICTURES, ".vrc", ["one.png"]).tasks
    here = dataclasses.replace(settings, out=str(out))
    with contextlib.closing(Processes(1)) as engine:
        assert [row.status for row in run(tasks, job, here, engine)] == ["done"]
    assert list(tree(tmp_path / "elsewhere" / "out")) == ["one.vrc"]


# Whole runs


def test_tree_is_mirrored_there_and_back(folder: Path, tmp_path: Path, vrcodec: RunVrcodec) -> None:
    out, back = tmp_path / "out", tmp_path / "back"
    result = vrcodec("encode", folder, "-o", out, "--jobs", "1")
    assert (result.returncode, result.stderr) == (0, b"")
    assert re.fullmatch(
        rb"5 done; other files skipped: 2; 1 larger than their sources; "
        rb"[\d,]+ -> [\d,]+ bytes, .* ratio [\d.]+\n",
        result.stdout,
    )
    coded = tree(out)
    assert set(coded) == {
        "one.vrc",
        "two.PNG.vrc",
        "two.jpg.vrc",
        "b/grey.vrc",
        "b/c/deep name.vrc",
    }
    for data in coded.values():
        stream = container.unpack(data)
        without = container.pack(dataclasses.replace(stream, extras={}))
        assert len(stream.extras[Extra.SOURCE]) == 16 and len(data) - len(without) <= 20

    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.vrc")}
    result = vrcodec("encode", folder, "-o", out, "--jobs", "1")
    assert result.stdout == b"0 done, 5 finished before; other files skipped: 2\n"
    assert before == {path: path.stat().st_mtime_ns for path in out.rglob("*.vrc")}

    result = vrcodec("decode", out, "-o", back, "--jobs", "1")
    assert (result.returncode, result.stderr) == (0, b"")
    decoded = tree(back)
    assert set(decoded) == {
        "one.png",
        "two.PNG.png",
        "two.jpg.png",
        "b/grey.png",
        "b/c/deep name.png",
    }
    alone = tmp_path / "alone.png"
    vrcodec("decode", out / "one.vrc", "-o", alone)
    assert (np.asarray(Image.open(alone)) == np.asarray(Image.open(back / "one.png"))).all()
    result = vrcodec("decode", out, "-o", back)
    assert result.stdout == b"0 done, 5 finished before\n"

    (out / "one.vrc").write_bytes(coded["two.jpg.vrc"])
    (back / "b" / "grey.png").write_bytes((folder / "b" / "grey.png").read_bytes())
    result = vrcodec("decode", out, "-o", back)
    assert result.returncode == 1
    error = f"Error: {back}/b/grey.png: exists (use --overwrite to replace it)\n"
    assert result.stderr.decode() == error
    assert tree(back)["one.png"] == decoded["two.jpg.png"]
    result = vrcodec("decode", out, "-o", back, "--overwrite")
    assert result.stdout.startswith(b"1 done, 4 finished before")
    assert tree(back)["b/grey.png"] == decoded["b/grey.png"]


def test_changes_are_done_again_and_foreign_files_stay(
    folder: Path, tmp_path: Path, vrcodec: RunVrcodec
) -> None:
    out = tmp_path / "out"
    assert vrcodec("encode", folder, "-o", out, "--jobs", "1").returncode == 0
    first = tree(out)
    picture(9).save(folder / "one.png")
    foreign = {
        "b/grey.vrc": b"somebody's",
        "two.PNG.vrc": container.pack(
            dataclasses.replace(container.unpack(first["two.PNG.vrc"]), extras={})
        ),
    }
    for name, data in foreign.items():
        (out / name).write_bytes(data)

    result = vrcodec("encode", folder, "-o", out, "--dry-run")
    assert result.returncode == 0
    states = dict(re.findall(r"-> (.*): (\w+)$", result.stdout.decode(), re.MULTILINE))
    assert {os.path.relpath(path, out): state for path, state in states.items()} == {
        "one.vrc": "changed",
        "two.PNG.vrc": "exists",
        "two.jpg.vrc": "finished",
        "b/grey.vrc": "exists",
        "b/c/deep name.vrc": "finished",
    }
    assert tree(out) == first | foreign

    report = tmp_path / "report.json"
    result = vrcodec("encode", folder, "-o", out, "--jobs", "1", "--report", report)
    assert result.returncode == 1
    assert result.stderr.decode().splitlines() == [
        f"Error: {out}/two.PNG.vrc: exists (use --overwrite to replace it)",
        f"Error: {out}/b/grey.vrc: exists (use --overwrite to replace it)",
    ]
    second = tree(out)
    assert second["one.vrc"] != first["one.vrc"]
    assert second | {"one.vrc": b""} == first | foreign | {"one.vrc": b""}
    rows = {os.path.relpath(row["output"], out): row for row in json.loads(report.read_text())}
    assert {name: row["status"] for name, row in rows.items()} == {
        "one.vrc": "done",
        "two.PNG.vrc": "failed",
        "two.jpg.vrc": "finished",
        "b/grey.vrc": "failed",
        "b/c/deep name.vrc": "finished",
    }
    for name in ("one.vrc", "two.jpg.vrc"):
        row, data = rows[name], second[name]
        assert (row["bytes"], row["width"], row["height"]) == (len(data), 72, 56)
        assert row["source_bytes"] == Path(row["input"]).stat().st_size

    result = vrcodec("encode", folder, "-o", out, "--jobs", "1", "-q", "0.8", "--overwrite")
    assert (result.returncode, result.stdout[:6]) == (0, b"5 done")
    qualities = {container.describe(data)["quality"] for data in tree(out).values()}
    assert qualities == {round(0.8 * 32768) / 32768}


@pytest.mark.parametrize("options", [[], ["--preserve"]])
def test_results_of_another_folder_are_not_replaced(
    options: list[str], folder: Path, tmp_path: Path, vrcodec: RunVrcodec
) -> None:
    """Though results with `--preserve` have the times of their sources."""
    out, other = tmp_path / "out", tmp_path / "other"
    other.mkdir()
    picture(5).save(other / "one.png")
    picture(6).save(other / "new.png")
    os.utime(folder / "one.png", (1e9, 1e9))
    vrcodec("encode", folder, "-o", out, "--jobs", "1", *options)
    first = tree(out)
    result = vrcodec("encode", other, "-o", out, "--jobs", "1", *options)
    assert result.returncode == 1
    error = f"Error: {out}/one.vrc: exists (use --overwrite to replace it)\n"
    assert result.stderr.decode() == error
    assert first.items() <= tree(out).items() and "new.vrc" in tree(out)
    result = vrcodec("encode", other, "-o", out, "--jobs", "1", "--overwrite")
    assert result.stdout.startswith(b"1 done, 1 finished before")
    assert tree(out)["one.vrc"] != first["one.vrc"]


def test_left_out_is_no_excuse_for_an_outdated_result(tmp_path: Path, vrcodec: RunVrcodec) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    picture(1, 120, 90).save(source / "a.ppm")
    run = "encode", source, "-o", out, "--jobs", "1", "--skip-larger"
    assert vrcodec(*run).stdout.startswith(b"1 done")
    first = tree(out)
    Image.new("L", (1, 1)).save(source / "a.ppm")
    result = vrcodec(*run)
    assert result.returncode == 1 and tree(out) == first
    assert f"{out}/a.vrc: is outdated, and what should replace it" in result.stderr.decode()
    (out / "a.vrc").unlink()
    assert vrcodec(*run).stdout.startswith(b"0 done, 1 left out")
    assert tree(out) == {}

    result = vrcodec("encode", source / "a.ppm", "-o", "-", "--skip-larger")
    assert (result.returncode, result.stdout) == (1, b"")
    assert result.stderr.decode() == f"Error: {source}/a.ppm: the result is larger\n"


def test_files_that_patterns_leave_out_are_told(tmp_path: Path, vrcodec: RunVrcodec) -> None:
    for name in ("a.png", "b.png"):
        picture(1).save(tmp_path / name)
    names = tmp_path / "a.png", tmp_path / "b.png"
    out = f"{tmp_path}/out/"
    result = vrcodec("encode", *names, "--include", "*.jpg", "-o", out)
    said = b"nothing to do; left out by pattern: 2\n"
    assert (result.returncode, result.stdout, result.stderr) == (0, b"", said)
    result = vrcodec("encode", *names, "--exclude", "*a.png", "-v", "-o", out)
    assert f"{names[0]}: left out by pattern\n" in result.stderr.decode()
    assert result.returncode == 0 and set(tree(Path(out))) == {"b.vrc"}


def test_broken_pictures_do_not_stop_the_rest(
    folder: Path, tmp_path: Path, vrcodec: RunVrcodec
) -> None:
    out, report = tmp_path / "out", tmp_path / "report.csv"
    (folder / "bad.png").write_bytes(b"junk")
    (folder / "b" / "cut\nhere.png").write_bytes((folder / "one.png").read_bytes()[:900])
    result = vrcodec(
        "encode",
        folder,
        "-o",
        out,
        "--jobs",
        "1",
        "--report",
        report,
        "--target-size",
        "700",
    )
    assert result.returncode == 1
    lines = result.stderr.decode().splitlines()
    assert len(lines) == 2
    assert lines[0].startswith(f"Error: {folder}/bad.png: cannot be read")
    assert lines[1].startswith(f"Error: {folder}/b/cut\\nhere.png: cannot be read")
    assert b"5 done, 2 failed" in result.stdout
    coded = tree(out)
    assert len(coded) == 5 and all(len(data) <= 700 for data in coded.values())
    rows = list(csv.DictReader(io.StringIO(report.read_text())))
    assert [row["input"] for row in rows] == sorted(row["input"] for row in rows)
    assert len(rows) == 7
    for row in rows:
        assert bool(row["error"]) == (row["status"] == "failed")
        if not row["error"]:
            data = coded[os.path.relpath(row["output"], out)]
            assert float(row["bpp"]) == 8 * len(data) / (72 * 56)
    result = vrcodec("encode", folder, "-o", out, "--target-size", "700", "--dry-run")
    assert b"5 finished, 2 new" in result.stdout or b"2 new, 5 finished" in result.stdout


def test_model_that_cannot_be_loaded_is_one_error(
    folder: Path, tmp_path: Path, run_vrcodec: RunVrcodec, tiny_weights: Path
) -> None:
    for options in (["--weights", folder / "one.png"], ["--device", "cuda:99"]):
        given = ["--weights", tiny_weights] if "--device" in options else []
        result = run_vrcodec(
            "encode", folder, "-o", tmp_path / "out", "--jobs", "1", *given, *options
        )
        assert (result.returncode, result.stdout) == (1, b"")
        assert len(result.stderr.splitlines()) == 1
        assert result.stderr.startswith(b"Error: ")
    assert tree(tmp_path) and not (tmp_path / "out" / "one.vrc").exists()


# Kill and resume


def alive(pid: int) -> bool:
    """Whether a process is there, other than as the record of its end."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@linux_only
@pytest.mark.parametrize(
    ("command", "kills"), [("encode", [("2", 1), ("1", 12)]), ("decode", [("2", 5)])]
)
def test_killed_runs_go_on_to_the_same_files(
    command: str,
    kills: list[tuple[str, int]],
    many: Path,
    tmp_path: Path,
    start: Start,
    vrcodec: RunVrcodec,
    tiny_weights: Path,
) -> None:
    source = many
    if command == "decode":
        source = tmp_path / "coded"
        source.mkdir()
        codec = Codec(tiny_weights, "cpu")
        for path in many.rglob("*.png"):
            (source / f"{path.stem}.vrc").write_bytes(codec.encode(Image.open(path)))
    whole, out = tmp_path / "whole", tmp_path / "out"
    assert vrcodec(command, source, "-o", whole, "--jobs", "1").returncode == 0

    done = 0
    for jobs, more in kills:
        process = start(command, source, "-o", out, "--jobs", jobs)
        wait_for(lambda: len(list(out.rglob("*.*"))) > done + more)  # noqa: B023
        workers = children(process.pid)
        process.send_signal(signal.SIGKILL)
        process.wait()
        wait_for(lambda: not any(map(alive, workers)), 10)  # noqa: B023
        done = len(tree(out))
        assert done < MANY
    stray = out / ".vrcodec-0123456789abcdef.tmp"
    stray.write_bytes(b"part of a picture")
    kept = {path: path.stat().st_mtime_ns for path in out.rglob("[!.]*") if path.is_file()}
    result = vrcodec(command, source, "-o", out, "--jobs", "2")
    assert result.returncode == 0
    assert f"{MANY - len(kept)} done, {len(kept)} finished before" in result.stdout.decode()
    assert tree(out) == tree(whole)
    assert kept.items() <= {path: path.stat().st_mtime_ns for path in out.rglob("*")}.items()


@linux_only
def test_death_of_a_worker_costs_nothing(many: Path, tmp_path: Path, start: Start) -> None:
    out = tmp_path / "out"
    process = start("encode", many, "-o", out, "--jobs", "2", "--json")
    wait_for(lambda: len(list(out.rglob("*.vrc"))) > 4)
    workers = [
        pid
        for pid in children(process.pid)
        if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]
    os.kill(workers[0], signal.SIGKILL)
    output, errors = process.communicate()
    assert process.returncode == 0, errors
    rows = [json.loads(line) for line in output.splitlines()]
    assert len(rows) == MANY and {row["status"] for row in rows} <= {"done", "finished"}
    assert len(tree(out)) == MANY


@linux_only
def test_interruption_is_exit_130_and_leaves_whole_files(
    many: Path, tmp_path: Path, start: Start
) -> None:
    out, report = tmp_path / "out", tmp_path / "report.json"
    process = start("encode", many, "-o", out, "--jobs", "1", "--report", report)
    wait_for(lambda: len(list(out.rglob("*.vrc"))) > 2)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert (process.returncode, output, errors.strip()) == (130, b"", b"")
    assert all(provenance.vrc_mark(data) for data in tree(out).values())
    rows = json.loads(report.read_text())
    assert {row["output"] for row in rows} == {str(path) for path in out.rglob("*.vrc")}


@pytest.mark.parametrize("suffix", [".csv", ".json"])
def test_reports_that_cannot_be_written_hide_nothing(
    suffix: str, tmp_path: Path, tiny_weights: Path, vrcodec_environment: dict[str, str]
) -> None:
    (tmp_path / "in").mkdir()
    picture(1).save(tmp_path / "in" / "good.png")
    (tmp_path / "in" / "bad.png").write_bytes(b"junk")
    program = (
        "import sys\nfrom vrcodec.batch import report\nfrom vrcodec.cli import main\n"
        "from vrcodec.errors import VrcodecError\n"
        "def full(path, *_, **__): raise VrcodecError(f'{path}: no space left on device')\n"
        "report.write_atomically = full\nif __name__ == '__main__': main(sys.argv[1:])"
    )
    arguments = ["encode", "in", "-o", "out", "--jobs", "1", "--report", f"r{suffix}"]
    (tmp_path / "program.py").write_text(program)
    result = subprocess.run(
        [sys.executable, "program.py", *arguments, "--weights", str(tiny_weights)],
        cwd=tmp_path,
        env=vrcodec_environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    said = result.stderr.splitlines()
    assert said[0] == f"Error: r{suffix}: no space left on device"
    assert said[1].startswith("Error: in/bad.png: cannot be read") and len(said) == 2
    assert result.stdout.startswith("1 done, 1 failed; ")


def test_reports_replace_nothing_that_is_not_meant(tmp_path: Path) -> None:
    notes, link, source = tmp_path / "notes.csv", tmp_path / "link.csv", tmp_path / "source.csv"
    notes.write_text("mine")
    source.write_text("a picture")
    link.symlink_to("nowhere.csv")
    os.link(source, tmp_path / "other.csv")
    with pytest.raises(VrcodecError, match=r"notes.csv: exists"):
        Report(notes, False, [])
    for overwrite in (False, True):
        with pytest.raises(VrcodecError, match=r"link.csv: is a link"):
            Report(link, overwrite, [])
        with pytest.raises(VrcodecError, match=r"other.csv: is an input"):
            Report(tmp_path / "other.csv", overwrite, [str(source)])
    report = Report(notes, True, [])
    for name in ("b", "=cmd()", "line\nend\udcff"):
        report.add(Row(name, "-x", "done", notes=("\33[2J",)))
    report.close()
    rows = list(csv.reader(io.StringIO(notes.read_text())))
    assert [row[0] for row in rows] == ["input", "'=cmd()", "b", "line\\nend\\xff"]
    assert rows[1][1] == "'-x" and "\\x1b[2J" in rows[1]


def test_links_in_the_output_are_not_followed(
    folder: Path, tmp_path: Path, settings: RunSettings, job: Encoding
) -> None:
    out, outside = tmp_path / "out", tmp_path / "outside"
    out.mkdir()
    outside.mkdir()
    (outside / "theirs").write_bytes(b"theirs")
    (out / "b").symlink_to(outside)
    (out / "one.vrc").symlink_to(outside / "theirs")
    (out / "two.PNG.vrc").symlink_to(folder / "one.png")
    (out / "two.jpg.vrc").symlink_to(outside / "nothing")
    tasks = batch.list_folder(folder, out, batch.PICTURES, ".vrc").tasks
    run = dataclasses.replace(settings, out=str(out), source=str(folder), overwrite=True)
    before = tree(outside), tree(folder)
    rows = {Path(row.output).name: row for row in worker.work(tasks, job, run)}
    assert (tree(outside), tree(folder)) == before
    assert rows["one.vrc"].status == rows["two.jpg.vrc"].status == "done"
    assert not (out / "one.vrc").is_symlink() and not (out / "two.jpg.vrc").is_symlink()
    assert rows["two.PNG.vrc"].error == f"{out}/two.PNG.vrc: is an input, and would be replaced"
    assert f"{out}/b is a link" in str(rows["grey.vrc"].error)
    assert f"{out}/b is a link" in str(rows["deep name.vrc"].error)


# The library


class Deadly(Encoding):
    """A job in which some pictures kill their worker."""

    def prepare(self, source: bytes | Path, name: str, run: RunSettings, mark: bool) -> Prepared:
        if "deadly" in os.path.basename(name):
            os._exit(9)
        if "strange" in os.path.basename(name):
            raise RuntimeError("two\nlines")
        return super().prepare(source, name, run, mark)


@pytest.mark.slow
def test_deadly_pictures_fail_alone(tmp_path: Path, settings: RunSettings, job: Encoding) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    names = ["a", "deadly", "b", "strange", "c"]
    for number, name in enumerate(names):
        picture(number).save(source / f"{number} {name}.png")
    tasks = batch.list_folder(source, out, batch.PICTURES, ".vrc").tasks
    here = dataclasses.replace(settings, out=str(out))
    with contextlib.closing(Processes(1)) as engine:
        made = run(tasks, Deadly(job.settings), here, engine)
        rows = {Path(row.input).stem: row for row in made}
    failed = {name: row.error for name, row in rows.items() if row.error}
    assert failed == {
        "1 deadly": f"{source}/1 deadly.png: its worker process died (out of memory?)",
        "3 strange": f"{source}/3 strange.png: RuntimeError: two",
    }
    assert len(rows) == 5
    assert sorted(tree(out)) == ["0 a.vrc", "2 b.vrc", "4 c.vrc"]


@pytest.mark.slow
def test_only_a_few_tasks_are_handed_out_at_a_time(
    many: Path, tmp_path: Path, settings: RunSettings, job: Encoding
) -> None:
    out = tmp_path / "out"
    tasks = batch.list_folder(many, out, batch.PICTURES, ".vrc").tasks
    here = dataclasses.replace(settings, out=str(out))
    taken = 0

    def counted() -> Iterator[Task]:
        nonlocal taken
        for task in tasks:
            taken += 1
            yield task

    with contextlib.closing(Processes(1)) as engine:
        made = run(counted(), job, here, engine)
        for rows, _ in enumerate(made, 1):
            assert taken <= rows + 3
            with pytest.raises(VrcodecError, match="another run is at work in this folder"):
                next(run(tasks, job, here, Processes(1)))
            if rows == 10:
                break
        made.close()
    assert worker.state(tasks[0], job, here) is State.FINISHED


def test_every_setting_counts(settings: RunSettings, job: Encoding) -> None:
    jobs = [
        Encoding(dataclasses.replace(job.settings, **change))
        for change in (
            {"dials": (("quality", 0.6),)},
            {"dials": (("quality", 0.5), ("tune", 0.2))},
            {"target": Target(Measure.BPP, 1)},
            {"target": Target(Measure.BPP, 2)},
            {"effort": 1},
            {"strip": True},
        )
    ]
    runs = [
        dataclasses.replace(settings, **change)
        for change in (
            {"weights_id": "c0ffee"},
            {"device": "auto"},
            {"precision": "float32"},
            {"threads": 2},
        )
    ]
    digests = {other.digest(settings) for other in [job, *jobs]}
    digests |= {job.digest(other) for other in runs}
    digests |= {
        dataclasses.replace(job, total=Total(size, sources)).digest(settings)
        for size, sources in ((1, "a"), (2, "a"), (1, "b"))
    }
    assert len(digests) == 1 + len(jobs) + len(runs) + 3
    same = dataclasses.replace(settings, max_pixels=5, weights=Path("elsewhere"), overwrite=True)
    assert job.digest(same) == job.digest(settings)


def test_results_of_an_earlier_version_are_made_again(
    tmp_path: Path, settings: RunSettings, job: Encoding
) -> None:
    """Its digest of the settings was over other words; the source's own was the same."""
    picture(1).save(tmp_path / "a.png")
    task = Task(str(tmp_path / "a.png"), str(tmp_path / "a.vrc"))
    worker.work([task], job, settings)
    new = (tmp_path / "a.vrc").read_bytes()
    earlier = {
        "version": "0.1.0",
        "weights": settings.weights_id,
        "device": "cpu",
        "strip": False,
        "choice": ["quality", 16384],
        "effort": 0,
    }
    stream = container.unpack(new)
    mark = stream.extras[Extra.SOURCE][:8] + provenance.settings_digest(earlier)
    old = container.pack(dataclasses.replace(stream, extras={Extra.SOURCE: mark}))
    (tmp_path / "a.vrc").write_bytes(old)
    assert worker.state(task, job, settings) is State.CHANGED
    assert [row.status for row in worker.work([task], job, settings)] == ["done"]
    assert (tmp_path / "a.vrc").read_bytes() == new
    assert worker.state(task, job, settings) is State.FINISHED


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_marks_change_nothing_that_is_seen(format: str, mode: str) -> None:
    image = picture(1).convert(mode)
    image.info["dpi"] = (300.0, 300.0)
    plain = save_picture(image, format)
    marked = provenance.mark_picture(plain, format, MARK)
    assert provenance.picture_mark(plain) is None
    assert provenance.picture_mark(marked) == MARK
    first, second = (Image.open(io.BytesIO(data)) for data in (plain, marked))
    assert first.format == second.format
    assert (np.asarray(first) == np.asarray(second)).all()
    assert first.info.get("dpi") == second.info.get("dpi")
    assert len(marked) - len(plain) < 80
    for position in (20, len(plain) // 2, len(plain) - 1):
        edited = bytearray(marked)
        edited[position] ^= 1
        assert provenance.picture_mark(edited) is None
    assert provenance.picture_mark(marked + b"\0") is None
    assert provenance.picture_mark(marked[:-1]) is None


def test_marks_of_other_files_are_none(tmp_path: Path) -> None:
    for data in (b"", b"VRC", b"junk"):
        assert provenance.vrc_mark(data) is None and provenance.picture_mark(data) is None


def test_only_own_temporaries_are_removed(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    ours = [".vrcodec-0123456789abcdef.tmp", "a/.vrcodec-fedcba9876543210.tmp"]
    theirs = [".vrcodec-x.tmp", "vrcodec-0123456789abcdef.tmp", "a/.vrcodec-0123456789abcdef.tmp~"]
    for name in ours + theirs:
        (tmp_path / name).touch()
    assert remove_temporaries(tmp_path) == 2
    assert sorted(tree(tmp_path)) == sorted(theirs)
