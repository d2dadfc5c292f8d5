"""What is done once somebody has imported a module."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from vrcodec.watching import when_imported


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that modules are imported from; what is imported there is forgotten."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_it_is_done_when_the_module_is_complete(place: Path) -> None:
    (place / "watched_a.py").write_text("import json\nvalue = 1")
    (place / "watched_b.py").write_text("value = 2")
    seen: list[int] = []
    when_imported("watched_a", lambda: seen.append(sys.modules["watched_a"].value))
    importlib.import_module("watched_b")
    assert seen == []
    first = importlib.import_module("watched_a")
    second = importlib.import_module("watched_b")
    assert seen == [1]
    assert importlib.import_module("watched_a") is first and seen == [1]
    assert type(first.__loader__) is type(second.__loader__)
    assert first.__spec__.loader is first.__loader__


def test_it_is_done_at_once_where_the_module_is_there() -> None:
    seen: list[int] = []
    count = len(sys.meta_path)
    when_imported("sys", lambda: seen.append(1))
    assert seen == [1] and len(sys.meta_path) == count


def test_modules_of_packages(place: Path) -> None:
    (place / "watched_c").mkdir()
    (place / "watched_c" / "__init__.py").write_text("")
    (place / "watched_c" / "part.py").write_text("value = 3")
    seen: list[int] = []
    when_imported("watched_c.part", lambda: seen.append(1))
    importlib.import_module("watched_c")
    assert seen == []
    importlib.import_module("watched_c.part")
    assert seen == [1]


def test_a_module_that_fails_or_is_missing_fails_as_ever(place: Path) -> None:
    """And may be imported later."""
    (place / "watched_d.py").write_text("1 / 0")
    seen: list[int] = []
    for name in ("watched_d", "watched_e"):
        when_imported(name, lambda: seen.append(1))
    with pytest.raises(ZeroDivisionError):
        importlib.import_module("watched_d")
    with pytest.raises(ModuleNotFoundError, match="No module named 'watched_e'"):
        importlib.import_module("watched_e")
    assert seen == []
    for name in ("watched_d", "watched_e"):
        (place / f"{name}.py").write_text("value = 'of another length'")
    importlib.invalidate_caches()
    for name in ("watched_d", "watched_e"):
        importlib.import_module(name)
    assert seen == [1, 1]
