"""Which library computes the networks: ONNX Runtime or PyTorch.

Both give the same symbols of the same file, and pictures at most 1 of 255 apart. Coding a picture,
one may round a latent otherwise than the other: other bytes, as valid.

Neither is imported until it is chosen.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from vrcodec.errors import ArgumentError, VrcodecError
from vrcodec.extras import is_there
from vrcodec.model.precision import check_precision

if TYPE_CHECKING:
    from vrcodec.codec.networks import Networks
    from vrcodec.model.weights_file import Weights

ONNX, TORCH = "onnx", "torch"
RUNTIMES = ("auto", ONNX, TORCH)
PREFERRED_ON_CPU = ONNX
"""What "auto" takes on a CPU where both are installed: a command starts in a third of the time."""
_PACKAGES = {ONNX: "onnxruntime", TORCH: "torch"}
_NAMES = {ONNX: "ONNX Runtime", TORCH: "PyTorch"}


def choose(runtime: str = "auto", device: str = "auto") -> str:
    """ONNX or TORCH.

    Args:
        runtime: one of RUNTIMES; "auto" is PyTorch for a GPU.
        device: "auto" or "cpu", or a GPU as torch calls it.

    Raises:
        ArgumentError: there is no such runtime, or not on that device.
        VrcodecError: what this takes is not installed.
    """
    if runtime not in RUNTIMES:
        raise ArgumentError(f"runtime {runtime!r} is not one of {', '.join(RUNTIMES)}")
    if runtime == ONNX and device not in ("auto", "cpu"):
        raise ArgumentError(f"ONNX Runtime is for the CPU here; {device} needs PyTorch")
    if runtime != "auto":
        return _installed(runtime)
    if device == "auto":
        on_gpu = _may_have_gpu() and _has_gpu()
    else:
        on_gpu = device != "cpu"
    if on_gpu:
        return _installed(TORCH)
    other = ONNX if PREFERRED_ON_CPU == TORCH else TORCH
    for candidate in (PREFERRED_ON_CPU, other):
        if is_installed(candidate):
            return candidate
    raise VrcodecError("neither ONNX Runtime nor PyTorch is installed: pip install onnxruntime")


def make_networks(
    weights: Weights,
    runtime: str = "auto",
    device: str = "auto",
    precision: str = "auto",
    threads: int | None = None,
) -> Networks:
    """The networks of some weights in the runtime that `choose` chooses.

    With "auto", ONNX Runtime leaves the search for better latents (effort) to PyTorch.

    Args:
        precision, threads: as for `TorchNetworks`.

    Raises:
        WeightsError: the weights are impossible.
        VrcodecError, ArgumentError: as `choose`; or there is no such device or precision.
    """

    def in_torch(device: str) -> Networks:
        from vrcodec.codec.torch_networks import TorchNetworks

        return TorchNetworks(weights, device, precision, threads)

    check_precision(precision)
    if choose(runtime, device) == TORCH:
        return in_torch(device)
    from vrcodec.codec.onnx_networks import OnnxNetworks

    may_refine = runtime == "auto" and is_installed(TORCH)
    return OnnxNetworks(weights, threads, (lambda: in_torch("cpu")) if may_refine else None)


def described(runtime: str) -> str:
    """ONNX or TORCH with its version, for people and for the marks of batches."""
    return f"{_NAMES[runtime]} {_version(runtime)}"


def is_installed(runtime: str) -> bool:
    """Whether ONNX or TORCH could be imported, as far as one can know without."""
    return is_there(_PACKAGES[runtime])


def _installed(runtime: str) -> str:
    if not is_installed(runtime):
        name, package = _NAMES[runtime], _PACKAGES[runtime]
        raise VrcodecError(f"{name} is not installed: pip install {package}")
    return runtime


def _may_have_gpu() -> bool:
    """Whether it is worth a second to import torch and ask: a build and a driver for a GPU."""
    drivers = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")
    if sys.platform != "win32" and not any(map(os.path.exists, drivers)):
        return False
    return is_installed(TORCH) and "+cpu" not in _version(TORCH)


def _version(runtime: str) -> str:
    import importlib.metadata  # not at the top: parsing e-mail headers takes a while to import

    return importlib.metadata.version(_PACKAGES[runtime])


def _has_gpu() -> bool:
    from vrcodec.model.loading import select_device

    return select_device("auto").type != "cpu"
