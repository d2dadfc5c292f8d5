"""Folders on a Ray cluster of two workers on this machine, and folders named by URL."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import io
import json
import os
import re
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
import torch
from conftest import MANY, RunVrcodec, Start, children, linux_only, picture, tree, wait_for
from fsspec.implementations.memory import MemoryFileSystem
from test_batch import Deadly

from vrcodec import batch
from vrcodec.batch import Encoding, RunSettings, Task, storage
from vrcodec.batch import ray_engine as cluster
from vrcodec.batch.run import run
from vrcodec.batch.worker import work
from vrcodec.errors import VrcodecError

BUCKET = """
import os, fsspec
from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.local import LocalFileSystem

class Bucket(DirFileSystem):
    protocol = "bucket"

    def __init__(self, **options):
        super().__init__(os.environ["BUCKET"], LocalFileSystem(auto_mkdir=True))

fsspec.register_implementation("bucket", Bucket)
"""


@pytest.fixture
def ray(vrcodec_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    """Ray with two CPUs and what it takes for a GPU, to which this process is connected."""
    path = [str(Path(__file__).parent), vrcodec_environment["PYTHONPATH"]]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path))
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    ray = pytest.importorskip("ray")
    ray.init(
        "local",
        num_cpus=2,
        num_gpus=1,
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=100 << 20,
    )
    yield ray
    ray.shutdown()


@pytest.fixture
def no_gc() -> Iterator[None]:
    """Nothing is collected that holds itself alive."""
    gc.disable()
    yield
    gc.enable()


def coders(pid: int) -> list[int]:
    """Processes of the actors that a command has started, itself or through Ray's processes."""
    found = []
    for child in children(pid):
        found += [child] if b"_Coder" in Path(f"/proc/{child}/cmdline").read_bytes() else []
        found += coders(child)
    return found


# Ray


@linux_only
def test_ray_makes_the_same_files_though_a_worker_dies(
    many: Path, tmp_path: Path, start: Start, vrcodec: RunVrcodec
) -> None:
    pytest.importorskip("ray")
    (many / "0" / "broken.png").write_bytes(b"junk")
    local, out = tmp_path / "local", tmp_path / "out"
    report, local_report = tmp_path / "report.json", tmp_path / "local.json"
    process = start(
        "encode",
        f"file://{many}",
        "-o",
        f"file://{out}",
        "--engine",
        "ray",
        "--jobs",
        "2",
        "--report",
        report,
    )
    wait_for(lambda: len(list(out.rglob("*.vrc"))) > 4, 200)
    workers = coders(process.pid)
    os.kill(workers[0], signal.SIGKILL)
    assert len(workers) == 2 and len(list(out.rglob("*.vrc"))) < MANY
    output, errors = process.communicate(timeout=200)
    assert process.returncode == 1
    failures = [line for line in errors.splitlines() if line.startswith(b"Error: ")]
    assert len(failures) == 1
    assert failures[0].startswith(f"Error: {many}/0/broken.png: cannot be read".encode())
    # What the dead worker had written but not reported yet, its successor found finished.
    counts = re.match(rb"(\d+) done, (?:(1) finished before, )?1 failed; ", output)
    assert counts, output
    assert int(counts[1]) + int(counts[2] or 0) == MANY

    result = vrcodec("encode", many, "-o", local, "--jobs", "1", "--report", local_report)
    assert result.returncode == 1
    assert len(tree(out)) == MANY and tree(out) == tree(local)
    rows, local_rows = (
        [
            row
            | {
                "seconds": 0,
                "output": os.path.basename(row["output"]),
                "status": row["status"].replace("finished", "done"),
            }
            for row in json.loads(path.read_text())
        ]
        for path in (report, local_report)
    )
    assert rows == local_rows
    result = vrcodec("encode", many, "-o", out, "--jobs", "1")
    assert result.stdout.startswith(f"0 done, {MANY} finished before, 1 failed".encode())


@pytest.mark.parametrize("device", ["cpu", "auto"])
def test_ray_gives_up_on_deadly_pictures_only(
    device: str, ray: Any, tmp_path: Path, settings: RunSettings, job: Encoding, no_gc: None
) -> None:
    """With `auto` there is a GPU, as Ray was told, and all pictures are handed out together."""
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    names = ["a", "deadly", "b", "strange", "c", "d"]
    for number, name in enumerate(names):
        picture(number).save(source / f"{number} {name}.png")
    tasks = batch.list_folder(source, out, batch.PICTURES, ".vrc").tasks
    here = dataclasses.replace(settings, device=device, out=str(out))
    # There is room for two: the third waits until another has nothing more to do.
    with contextlib.closing(cluster.Ray(jobs=3, device=device)) as engine:
        made = run(tasks, Deadly(job.settings), here, engine)
        rows = {Path(row.input).stem: row for row in made}
    assert {name: row.error for name, row in rows.items() if row.error} == {
        "1 deadly": f"{source}/1 deadly.png: its worker died 3 times (out of memory?)",
        "3 strange": f"{source}/3 strange.png: RuntimeError: two",
    }
    assert len(rows) == 6
    assert sorted(tree(out)) == ["0 a.vrc", "2 b.vrc", "4 c.vrc", "5 d.vrc"]
    # A worker whose picture has failed makes room, too: others may wait for it.
    wait_for(lambda: ray.available_resources().get("CPU", 0) == 2, 60)


def test_workers_share_a_gpu(
    ray: Any, tmp_path: Path, settings: RunSettings, job: Encoding, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray is told of a GPU that is not there, so `auto` deals it out and then finds the CPU."""
    monkeypatch.setattr(cluster, "HANDFUL", 1)
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    for number in range(4):
        picture(number).save(source / f"{number}.png")
    tasks = batch.list_folder(source, out, batch.PICTURES, ".vrc").tasks
    anywhere = dataclasses.replace(settings, device="auto", out=str(out))
    with contextlib.closing(cluster.Ray(jobs=2)) as engine:
        rows = run(tasks, job, anywhere, engine)
        assert next(rows).status == "done"
        wait_for(lambda: ray.available_resources().get("GPU", 0) == 0, 60)
        assert [row.status for row in rows] == ["done"] * 3


def test_ray_that_is_missing_is_one_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, vrcodec: RunVrcodec
) -> None:
    with socket.socket() as port:  # bound, but nobody listens
        port.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{port.getsockname()[1]}"
        result = vrcodec(
            "encode", tmp_path, "-o", tmp_path / "out", "--engine", "ray", "--ray-address", address
        )
    assert (result.returncode, result.stdout) == (1, b"")
    assert result.stderr.startswith(f"Error: Ray at {address}: ".encode())
    assert result.stderr.count(b"\n") == 1
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(VrcodecError, match=r"pip install 'vrcodec\[ray\]'"):
        cluster.Ray()


# URLs


@pytest.fixture
def bucket(tmp_path: Path, vrcodec_environment: dict[str, str]) -> dict[str, str]:
    """Environment in which bucket:// is a store of files, kept in tmp_path / "bucket"."""
    hook = tmp_path / "hook"
    hook.mkdir()
    (hook / "sitecustomize.py").write_text(BUCKET)
    path = os.pathsep.join([str(hook), vrcodec_environment["PYTHONPATH"]])
    return vrcodec_environment | {"PYTHONPATH": path, "BUCKET": str(tmp_path / "bucket")}


def test_urls_are_folders_like_any_other(
    bucket: dict[str, str], tmp_path: Path, vrcodec: RunVrcodec
) -> None:
    photos = tmp_path / "bucket" / "my" / "photos"
    (photos / "b").mkdir(parents=True)
    for number, name in enumerate(["one.png", "two.jpg", "two.png", "b/deep #?% name.png"]):
        picture(number).save(photos / name)
    (photos / "b" / "notes.txt").write_text("none")
    assert vrcodec("encode", photos, "-o", tmp_path / "local", "--jobs", "1").returncode == 0

    url, coded = "bucket://my/photos", "bucket://my/photos/coded"
    result = vrcodec("encode", url + "/", "-o", coded, "--jobs", "2", env=bucket)
    assert (result.returncode, result.stderr) == (0, b"")
    assert result.stdout.startswith(b"4 done; other files skipped: 1; ")
    assert tree(photos / "coded") == tree(tmp_path / "local")

    picture(7).save(photos / "one.png")
    (photos / "coded" / "two.png.vrc").write_bytes(b"somebody's")
    result = vrcodec("encode", url, "-o", coded, "--jobs", "1", env=bucket)
    assert result.returncode == 1
    error = f"Error: {coded}/two.png.vrc: exists (use --overwrite to replace it)\n"
    assert result.stderr.decode() == error
    assert result.stdout.startswith(b"1 done, 2 finished before, 1 failed; other files skipped: 1")

    result = vrcodec("decode", coded, "-o", tmp_path / "back", "--jobs", "1", env=bucket)
    assert result.stderr.startswith(f"Error: {coded}/two.png.vrc: ".encode())
    assert set(tree(tmp_path / "back")) == {"one.png", "two.jpg.png", "b/deep #?% name.png"}


@pytest.mark.parametrize(
    ("source", "out", "code", "error"),
    [
        ("memory://nothing/here", "out", 1, "Error: memory://nothing/here: no such file or folder"),
        ("nonsense://a/b", "out", 1, "Error: nonsense://a/b: Protocol not known: nonsense"),
        ("file:///nothing/here", "out", 1, "Error: /nothing/here: no such file or folder"),
        ("zip://a::memory://b", "out", 1, "Error: zip://a::memory://b: chained URLs"),
        ("one.png", "nonsense://a/b", 1, "Error: nonsense://a/b: Protocol not known: nonsense"),
        ("s3://me:secret@host::x/a?k=v", "out", 1, "Error: s3://***@host::x/a?***: chained URLs"),
    ],
)
def test_impossible_urls_are_one_error(
    source: str, out: str, code: int, error: str, tmp_path: Path, vrcodec: RunVrcodec
) -> None:
    picture(1).save(tmp_path / "one.png")
    result = vrcodec("encode", source, "-o", out, cwd=tmp_path)
    assert (result.returncode, result.stdout) == (code, b"")
    assert result.stderr.decode().splitlines()[-1].startswith(error)
    assert list(tree(tmp_path)) == ["one.png"]


class Hostile(MemoryFileSystem):
    """A store whose listings name files that are elsewhere."""

    protocol = "hostile"

    def isdir(self, path: str) -> bool:
        return True

    def find(self, path: str, *_: object, **__: object) -> list[str]:
        names = [
            "fine.png",
            "sub/a b.png",
            "../up.png",
            "sub/../../up.png",
            "x://y.png",
            "nul\0.png",
        ]
        return [f"{path.rstrip('/')}/{name}" for name in names] + ["/else/where.png"]


def test_names_in_a_listing_stay_below_the_output(tmp_path: Path) -> None:
    fsspec.register_implementation("hostile", Hostile, clobber=True)
    url = "hostile://me:secret@place/pics?token=1"
    listing = batch.list_folder("hostile://pics", tmp_path, batch.PICTURES, ".vrc")
    targets = [os.path.relpath(task.target, tmp_path) for task in listing.tasks]
    assert targets == ["fine.vrc", "sub/a b.vrc"]
    assert len(listing.failures) == 5
    assert all(
        line.endswith("leads out of the folder it is listed in") for line in listing.failures
    )
    assert storage.unsecret(url) == "hostile://***@place/pics?***"
    assert not storage.is_url("out/http://x") and storage.is_url("s3://x")
    with pytest.raises(VrcodecError, match=":: has a meaning"):
        storage.join("hostile://out", ".", "a::b.vrc")


def test_work_on_a_store_in_memory(settings: RunSettings, job: Encoding) -> None:
    store = fsspec.filesystem("memory")
    for number in range(2):
        buffer = io.BytesIO()
        picture(number).save(buffer, "PNG")
        store.pipe_file(f"/in/{number}.png", buffer.getvalue())
    tasks = batch.list_folder("memory://in", "memory://out", batch.PICTURES, ".vrc").tasks
    # A local folder of results may be called as one of the store's.
    for out in ("train", "memory://in/train"):
        storage.write("memory://in/train/x.png", b"", replace=True)
        found = batch.list_folder("memory://in", out, batch.PICTURES, ".vrc").tasks
        assert len(found) == (3 if out == "train" else 2)
        fsspec.filesystem("memory").rm("/in/train", recursive=True)
    assert tasks == [Task(f"memory://in/{n}.png", f"memory://out/{n}.vrc") for n in range(2)]
    threads = torch.get_num_threads()
    try:
        for status in ("done", "finished"):
            assert [row.status for row in work(tasks, job, settings)] == [status] * 2
        assert storage.read("memory://out/0.vrc")[:3] == b"VRC"
        older = Task(tasks[0].source, tasks[1].target)  # made of another picture
        (row,) = work([older], job, settings)
        assert (row.error, row.error_type) == ("memory://out/1.vrc: exists", "ExistsError")
        gone = Task("memory://in/gone.png", "memory://out/gone.vrc")
        (row,) = work([gone], job, settings)
        assert row.error == "memory://in/gone.png: no such file or folder"
        assert not store.exists("/out/gone.vrc")
    finally:
        torch.set_num_threads(threads)
