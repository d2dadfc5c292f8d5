"""For scripts/ablate.py: the linear path begins with the pixels of a block instead of its DCT."""

from __future__ import annotations

import numpy as np

from vrcodec.model.config import ModelConfig
from vrcodec.model.network import CompressionModel


def model(config: ModelConfig) -> CompressionModel:
    return CompressionModel(config, basis=lambda size: np.eye(3 * size**2, dtype=np.float32))
