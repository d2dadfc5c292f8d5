"""Let ``import torchvision`` succeed next to a torch that its binary was not built for.

compressai imports torchvision, though only for data sets and picture files. The torchvision of
the Python package index is built for CUDA: beside a CPU-only torch its compiled part cannot be
loaded, its operators stay unknown to torch, and the import fails with
``RuntimeError: operator torchvision::nms does not exist``.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util

import torch

_OPERATORS = ("nms", "qnms")
"""The operators that torchvision describes at import whether or not they exist."""
_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_libraries: list[torch.library.Library] = []
"""torch forgets an operator together with the library object that defined it."""


def ensure_torchvision_operators() -> None:
    """Make sure that torch knows the operators without which torchvision does not import.

    A torchvision that works is left alone: its own compiled operators are loaded, as its import
    would do. Otherwise the operators are declared without an implementation, so that torchvision
    imports and only calling them (boxes of detection models) raises NotImplementedError.
    To be called before the first import of torchvision or compressai; again is harmless.
    """
    if hasattr(torch.ops.torchvision, _OPERATORS[0]) or _load_compiled_operators():
        return
    library = torch.library.Library("torchvision", "DEF")
    for name in _OPERATORS:
        library.define(name + _SCHEMA)
    _libraries.append(library)


def _load_compiled_operators() -> bool:
    package = importlib.util.find_spec("torchvision")
    if package is None:
        return False
    extension = importlib.machinery.PathFinder.find_spec("_C", package.submodule_search_locations)
    if extension is None or extension.origin is None:
        return False
    try:
        torch.ops.load_library(extension.origin)
    except OSError:
        return False
    return hasattr(torch.ops.torchvision, _OPERATORS[0])
