"""How far two pictures are apart."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

MS_SSIM_SIDE = 160
"""MS-SSIM is not defined for pictures with a side of this many pixels or fewer."""
_STRIP_SAMPLES = 1 << 22


def psnr(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    """PSNR in dB over all pixels and channels of two 8-bit pictures; 100 if they are equal."""
    total = squared_error(a, b)
    return min(100.0, 10 * math.log10(255**2 * a.size / total)) if total else 100.0


def squared_error(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> int:
    """Sum of squared differences over all pixels and channels of two 8-bit pictures."""
    rows = max(1, _STRIP_SAMPLES // max(1, a[:1].size))
    total = 0
    for top in range(0, len(a), rows):
        strip = slice(top, top + rows)
        difference = np.subtract(a[strip], b[strip], dtype=np.int32)
        total += int(np.square(difference).sum(dtype=np.int64))
    return total


def ms_ssim(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float | None:
    """MS-SSIM of two 8-bit RGB pictures (H, W, 3); None where a side is 160 pixels or less."""
    if min(a.shape[:2]) <= MS_SSIM_SIDE:
        return None
    import torch
    from pytorch_msssim import ms_ssim as measure

    first, second = (
        torch.from_numpy(np.array(x)).permute(2, 0, 1)[None].float() for x in (a, b)
    )
    return float(measure(first, second, data_range=255))
