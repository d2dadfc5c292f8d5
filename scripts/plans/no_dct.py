"""For scripts/ablate.py: the linear path begins with the pixels of a block instead of its DCT."""

from __future__ import annotations

import torch

from vrcodec.model import transforms

transforms.block_basis = lambda size: torch.eye(3 * size**2, device="cpu")
