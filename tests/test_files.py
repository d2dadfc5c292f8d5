"""The door for files: private while they are made, whole or not there, through no link."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from vrcodec import files, places
from vrcodec.errors import ExistsError, VrcodecError, naming, one_line


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.skipif(os.name == "nt", reason="modes of POSIX")
def test_a_file_is_private_until_it_is_whole(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        with files.atomic_file(tmp_path / "x") as file:
            file.write(b"part")
            (temporary,) = tmp_path.iterdir()
            assert mode(temporary) == 0o600
            assert files.remove_temporaries(tmp_path) == 0  # its writer is alive
        assert mode(tmp_path / "x") == 0o644
    finally:
        os.umask(before)
    (tmp_path / "x").chmod(0o640)
    with files.atomic_file(tmp_path / "x", overwrite=True) as file:
        file.write(b"new")
    assert mode(tmp_path / "x") == 0o640 and list(tmp_path.iterdir()) == [tmp_path / "x"]


def test_temporaries_of_the_dead_are_removed(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    dead = tmp_path / "a" / ".vrcodec-0123456789abcdef.tmp"
    with files.atomic_file(tmp_path / "a" / "x") as file:
        dead.touch()
        file.write(b"alive")
        assert files.remove_temporaries(tmp_path) == 1 and not dead.exists()
    assert (tmp_path / "a" / "x").read_bytes() == b"alive"


@pytest.mark.parametrize("by_kernel", [True, False])
def test_without_hard_links_a_name_is_never_of_an_empty_file(
    by_kernel: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    def no_replacing(*_: object) -> None:
        raise AssertionError("would replace what is there")

    monkeypatch.setattr(os, "link", no_links)
    monkeypatch.setattr(os, "replace", no_replacing)
    if not by_kernel:
        monkeypatch.setattr(places.Folder, "_rename_by_kernel", lambda *_: False)
    files.write_atomically(tmp_path / "x", b"whole")
    assert (tmp_path / "x").read_bytes() == b"whole"
    with pytest.raises(ExistsError):
        files.write_atomically(tmp_path / "x", b"other")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"whole"]


@pytest.mark.parametrize("overwrite", [True, False])
def test_no_link_leads_out_of_a_folder(overwrite: bool, tmp_path: Path) -> None:
    out, outside = tmp_path / "out", tmp_path / "outside"
    out.mkdir()
    outside.mkdir()
    (outside / "x").write_bytes(b"theirs")
    (out / "folder").symlink_to(outside)
    (out / "file").symlink_to(outside / "x")
    for name in ("folder/x", "folder/new", "folder/new/x", "../outside/y"):
        with pytest.raises(VrcodecError, match=r"is a link, and nothing|is not below"):
            files.write_atomically(out / name, b"ours", overwrite, below=out)
    if overwrite:
        files.write_atomically(out / "file", b"ours", True, below=out)
        assert not (out / "file").is_symlink() and (out / "file").read_bytes() == b"ours"
    else:
        with pytest.raises(ExistsError):
            files.write_atomically(out / "file", b"ours", below=out)
    files.write_atomically(out / "new" / "deep" / "x", b"ours", overwrite, below=out)
    assert {path.name: path.read_bytes() for path in outside.iterdir()} == {"x": b"theirs"}


@pytest.mark.parametrize("overwrite", [True, False])
def test_links_to_nothing_are_not_written_through(overwrite: bool, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "nothing")
    with pytest.raises(VrcodecError, match="link: is a link to nothing"):
        files.write_atomically(tmp_path / "link", b"x", overwrite)
    with pytest.raises(VrcodecError):
        files.append(tmp_path / "link", b"x")
    assert [path.name for path in tmp_path.iterdir()] == ["link"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root")
def test_root_leaves_files_to_their_owner(tmp_path: Path) -> None:
    target = tmp_path / "x"
    target.write_bytes(b"old")
    os.chown(target, 1000, 1001)
    target.chmod(0o640)
    files.write_atomically(target, b"new", overwrite=True)
    facts = target.stat()
    assert (facts.st_uid, facts.st_gid, mode(target)) == (1000, 1001, 0o640)


@pytest.mark.parametrize("replaces", [True, False])
def test_writers_that_want_a_path_have_one(replaces: bool, tmp_path: Path) -> None:
    target = tmp_path / "weights"
    with files.atomic_path(target) as path:
        if replaces:
            (tmp_path / "other").write_bytes(b"tensors")
            os.replace(tmp_path / "other", path)
        else:
            path.write_bytes(b"tensors")
        assert not target.exists()
    assert target.read_bytes() == b"tensors" and list(tmp_path.iterdir()) == [target]
    with pytest.raises(RuntimeError), files.atomic_path(target, overwrite=True) as path:
        path.write_bytes(b"half")
        raise RuntimeError
    assert target.read_bytes() == b"tensors" and list(tmp_path.iterdir()) == [target]


def test_a_log_is_added_to(tmp_path: Path) -> None:
    for line in (b"one\n", b"two\n"):
        files.append(tmp_path / "log", line)
    assert (tmp_path / "log").read_bytes() == b"one\ntwo\n"


def test_any_exception_is_one_line() -> None:
    assert one_line(FileNotFoundError(2, "x", "a.png")) == "a.png: no such file or folder"
    assert one_line(MemoryError()) == "out of memory"
    assert one_line(RuntimeError("DefaultCPUAllocator: can't allocate memory")) == "out of memory"
    assert one_line(KeyError("two\nlines")) == "KeyError: 'two\\nlines'"
    assert one_line(RuntimeError("no device\nset X=1 to debug")) == "RuntimeError: no device"
    assert one_line(ValueError(b"token \x1b[2J\xff")) == "ValueError: token \\x1b[2J\\xff"
    assert one_line(ValueError("a" * 1000)) == "ValueError: " + "a" * 300
    assert one_line(ValueError()) == "ValueError"
    for error, text in (
        (VrcodecError("broken"), "a: broken"),
        (VrcodecError("a: broken"), "a: broken"),
        (MemoryError(), "a: out of memory"),
        (OSError(28, "No space left on device"), "a: no space left on device"),
    ):
        with pytest.raises(VrcodecError) as caught, naming("b"), naming("a"):
            raise error
        assert str(caught.value) == text
    with pytest.raises(KeyError), naming("a"):
        raise KeyError
    with pytest.raises(VrcodecError, match=r"^a: strange$"), naming("a", everything=True):
        raise KeyboardError("strange")


class KeyboardError(Exception):
    """What a driver might raise."""
