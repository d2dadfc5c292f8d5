"""How large a file, a function and the class `Codec` may become (CONTRIBUTING.md)."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "vrcodec"

FILE_LINES = 400
"""Of a file outside evaluation/."""
FUNCTION_LINES = 60
"""Of a function from its `def` to its end, without decorators, which are click's options."""
CODEC_LINES = 200

LARGE_FILES: set[str] = set()
"""Files that are too long as yet. Only to be shortened."""
LONG_FUNCTIONS: set[str] = set()
"""Functions (file:name) that are too long as yet. Only to be shortened."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


def sources() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def lines(node: ast.ClassDef | Function) -> int:
    """Lines of a definition; of a command, without its parameters, which are click's options."""
    assert node.end_lineno is not None
    length = node.end_lineno - node.lineno + 1
    if not isinstance(node, ast.ClassDef) and is_command(node):
        length = node.end_lineno - node.body[0].lineno + 1
    return length


def is_command(function: Function) -> bool:
    """Whether click calls it: decorated with `@click.command(...)` or the like."""
    return any(
        isinstance(node, ast.Attribute) and node.attr in {"command", "group"}
        for decorator in function.decorator_list
        for node in ast.walk(decorator)
    )


def functions(path: Path) -> Iterator[tuple[str, int]]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield f"{name(path)}:{node.name}", lines(node)


def test_no_file_is_too_long() -> None:
    large = {
        name(path): count
        for path in sources()
        if path.parent.relative_to(PACKAGE).parts[:1] != ("evaluation",)
        and (count := len(path.read_text().splitlines())) > FILE_LINES
    }
    assert not {key: count for key, count in large.items() if key not in LARGE_FILES}
    assert not LARGE_FILES - large.keys(), "these exceptions are needed no longer: strike them"


def test_no_function_is_too_long() -> None:
    long = {
        key: count for path in sources() for key, count in functions(path) if count > FUNCTION_LINES
    }
    assert not {key: count for key, count in long.items() if key not in LONG_FUNCTIONS}
    assert not LONG_FUNCTIONS - long.keys(), "these exceptions are needed no longer: strike them"


def test_codec_is_small() -> None:
    (codec,) = (
        node
        for node in ast.walk(ast.parse((PACKAGE / "codec" / "codec.py").read_text()))
        if isinstance(node, ast.ClassDef) and node.name == "Codec"
    )
    assert lines(codec) < CODEC_LINES
