"""Whether this machine decodes to the same symbols as every other: golden files, their hashes.

The golden files and the tiny frozen models they belong to, one without a trellis and one with, are
part of the package; in a checkout they are those of the tests.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from vrcodec.bitstream.container import unpack
from vrcodec.codec.codec import Codec
from vrcodec.codec.latents import Latents
from vrcodec.codec.runtime import ONNX, TORCH, is_installed
from vrcodec.errors import VrcodecError
from vrcodec.files import read_bytes

WEIGHTS = "tiny.safetensors"
TRELLIS_WEIGHTS = "tiny-trellis.safetensors"
TRELLIS_FILES = "golden-trellis-"
"""How the names of files begin that belong to those; the others do to the first."""
GOLDEN = {
    "golden-grey-0.37.vrc": "66c19dcc33c2a576360e6b8a7a46f463e903821907b63b8fd5009f8ef25e23a0",
    "golden-noise-1.0.vrc": "00153e8e621b8627004abdbc764d36099ca2727225e9afed127b67ea000971fe",
    "golden-photo-0.0.vrc": "d3cf7ac6c04c14ec1104ca790cb1b768f2cac149cc0867305ccbfe22eb616a3f",
    "golden-photo-0.5.vrc": "b616a52ed631edbb82d95f831c0a96d2387d68e93dbbcc3748a35403a1e392cb",
    "golden-thin-0.8.vrc": "4baf14be0a8d5927ac5678c7a8a9b3ba6a7537626388e290ca4dc66cc2421397",
    "golden-v2-grey-0.37.vrc": "66c19dcc33c2a576360e6b8a7a46f463e903821907b63b8fd5009f8ef25e23a0",
    "golden-v2-noise-1.0.vrc": "00153e8e621b8627004abdbc764d36099ca2727225e9afed127b67ea000971fe",
    "golden-v2-photo-0.0.vrc": "d3cf7ac6c04c14ec1104ca790cb1b768f2cac149cc0867305ccbfe22eb616a3f",
    "golden-v2-photo-0.5.vrc": "b616a52ed631edbb82d95f831c0a96d2387d68e93dbbcc3748a35403a1e392cb",
    "golden-v2-thin-0.8.vrc": "4baf14be0a8d5927ac5678c7a8a9b3ba6a7537626388e290ca4dc66cc2421397",
    "golden-v3-grey-0.37.vrc": "66c19dcc33c2a576360e6b8a7a46f463e903821907b63b8fd5009f8ef25e23a0",
    "golden-v3-noise-1.0.vrc": "00153e8e621b8627004abdbc764d36099ca2727225e9afed127b67ea000971fe",
    "golden-v3-photo-0.0.vrc": "d3cf7ac6c04c14ec1104ca790cb1b768f2cac149cc0867305ccbfe22eb616a3f",
    "golden-v3-photo-0.5.vrc": "b616a52ed631edbb82d95f831c0a96d2387d68e93dbbcc3748a35403a1e392cb",
    "golden-v3-thin-0.8.vrc": "4baf14be0a8d5927ac5678c7a8a9b3ba6a7537626388e290ca4dc66cc2421397",
    "golden-trellis-grey-0.37.vrc": (
        "252061999fa816f72013383d66159e10e7c9cdd2ba6cd0faaae5cd4b5740749f"
    ),
    "golden-trellis-noise-1.0.vrc": (
        "5e429c40474aba4882e9a5cefa050f684e013ede47b7333509ec2688f20516d4"
    ),
    "golden-trellis-photo-0.5.vrc": (
        "d00abc58b2a26e78db814ec0248117f6323462f2e8263edc71a3c57e76e2a4cc"
    ),
    "golden-trellis-v3-grey-0.37.vrc": (
        "252061999fa816f72013383d66159e10e7c9cdd2ba6cd0faaae5cd4b5740749f"
    ),
    "golden-trellis-v3-noise-1.0.vrc": (
        "5e429c40474aba4882e9a5cefa050f684e013ede47b7333509ec2688f20516d4"
    ),
    "golden-trellis-v3-photo-0.5.vrc": (
        "d00abc58b2a26e78db814ec0248117f6323462f2e8263edc71a3c57e76e2a4cc"
    ),
}
"""`symbols_digest` of every golden file: five of version 1, the same pictures in versions 2 and 3,
and in these three of them with a trellis."""


def golden_folder() -> Path:
    """Where the golden files and their weights are."""
    return Path(__file__).resolve().parent / "data" / "golden"


def weights_of(name: str) -> str:
    """The name of the weights file that a golden file belongs to."""
    return TRELLIS_WEIGHTS if name.startswith(TRELLIS_FILES) else WEIGHTS


def symbols_digest(latents: Latents) -> str:
    """SHA-256 of z and y as 16-bit big-endian integers, in hexadecimal."""
    return hashlib.sha256(
        latents.z.astype(">i2").tobytes() + latents.y.astype(">i2").tobytes()
    ).hexdigest()


def available_devices() -> list[str]:
    """The devices of this machine that a network can run on, the CPU first."""
    if not is_installed(TORCH):
        return ["cpu"]
    import torch

    devices = ["cpu", *(f"cuda:{number}" for number in range(torch.cuda.device_count()))]
    return devices + ["mps"] * torch.backends.mps.is_available()


def available_runtimes(device: str) -> list[str]:
    """The runtimes installed here for a device."""
    suited = [TORCH, ONNX] if device == "cpu" else [TORCH]
    return [runtime for runtime in suited if is_installed(runtime)]


def check(device: str, runtime: str = "auto") -> list[str]:
    """Decode every golden file on a device.

    Returns:
        What is wrong, one line per file that does not decode to the recorded symbols.

    Raises:
        VrcodecError: the golden files are missing, or there is no such device.
    """
    folder = golden_folder()
    names = WEIGHTS, TRELLIS_WEIGHTS
    codecs = {name: Codec(folder / name, device, runtime=runtime) for name in names}
    where, wrong = f"{device}, {codecs[WEIGHTS].runtime}", []
    for name, recorded in GOLDEN.items():
        codec = codecs[weights_of(name)]
        try:
            digest = symbols_digest(codec.pipeline.read_latents(unpack(read_bytes(folder / name))))
        except VrcodecError as error:
            wrong.append(f"{where}: {name}: {error}")
        else:
            if digest != recorded:
                wrong.append(f"{where}: {name}: other symbols than recorded")
    return wrong
