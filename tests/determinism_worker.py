"""One process of tests/test_determinism.py: encode, or decode, with its own threads and layout.

determinism_worker.py encode WEIGHTS THREADS LAYOUT PICTURE OUT.vrc
determinism_worker.py decode WEIGHTS THREADS LAYOUT OUT.npz IN.vrc...
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from vrcodec import Codec
from vrcodec.bitstream.container import unpack
from vrcodec.codec.torch_networks import TorchNetworks
from vrcodec.model.weights_file import load_weights


def main() -> None:
    action, weights, threads, layout, *paths = sys.argv[1:]
    networks = TorchNetworks(
        load_weights(Path(weights)),
        "cpu",
        threads=int(threads),
        memory_format=getattr(torch, layout),
    )
    codec = Codec(weights, networks=networks)
    if action == "encode":
        with Image.open(paths[0]) as picture:
            Path(paths[1]).write_bytes(codec.encode(picture, 0.6))
        return
    results = {}
    for path in paths[1:]:
        data = Path(path).read_bytes()
        latents = codec.pipeline.read_latents(unpack(data))
        name = Path(path).stem
        results[f"{name}.indexes"] = latents.indexes
        results[f"{name}.y"] = latents.y
        results[f"{name}.pixels"] = np.asarray(codec.decode(data))
    np.savez(paths[0], **results)


if __name__ == "__main__":
    main()
