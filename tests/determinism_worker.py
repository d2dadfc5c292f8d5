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


def main() -> None:
    action, weights, threads, layout, *paths = sys.argv[1:]
    torch.set_num_threads(int(threads))
    codec = Codec(weights, device="cpu")
    codec.set_memory_format(getattr(torch, layout))
    if action == "encode":
        with Image.open(paths[0]) as picture:
            Path(paths[1]).write_bytes(codec.encode(picture, 0.6))
        return
    results = {}
    for path in paths[1:]:
        data = Path(path).read_bytes()
        latents = codec.read_latents(unpack(data))
        name = Path(path).stem
        results[f"{name}.indexes"] = latents.indexes
        results[f"{name}.y"] = latents.y
        results[f"{name}.pixels"] = np.asarray(codec.decode(data))
    np.savez(paths[0], **results)


if __name__ == "__main__":
    main()
