"""Complexity of CompressAI's zoo architectures, measured the way our own model is.

The networks are built with random weights: the cost of running them does not depend on their
values, and nothing is downloaded.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from vrcodec.evaluation.codecs.compressai import build
from vrcodec.evaluation.complexity import Complexity, count_macs, count_parameters, cpu_seconds

ARCHITECTURES = ("bmshj2018-hyperprior", "mbt2018-mean", "cheng2020-anchor")

_GRID = 64
"""Pictures are made of whole samples of the hyper-latent, as these networks require."""
_PRIORS = ("h_s", "context_prediction", "entropy_parameters")
"""What encoder and decoder both run, an autoregressive context model as if in one pass.

The factorised prior of z is not among them: it is table look-ups when coding.
"""


def measure_baseline(
    architecture: str,
    quality: int,
    *,
    width: int = 768,
    height: int = 512,
    threads: int = 1,
    repeats: int = 3,
) -> Complexity:
    """Complexity of one CompressAI architecture.

    Args:
        architecture, quality: as for `build`.
        width, height: size of the picture in pixels, multiples of 64. MACs per pixel do not
            depend on it; the CPU seconds are for one such picture.
        threads: number of torch threads for the CPU seconds.
        repeats: the CPU seconds are the least of this many runs.

    Raises:
        ValueError: unknown architecture or quality, impossible picture size.
        VrcodecError: compressai is not installed.
    """
    if min(width, height) < _GRID or width % _GRID or height % _GRID:
        raise ValueError(f"picture of {width}x{height}: multiples of {_GRID} are needed")
    network = build(architecture, quality)
    analysis, synthesis = network.get_submodule("g_a"), network.get_submodule("g_s")
    picture = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        latents = analysis(picture).round()

    macs = count_macs(network, lambda: network(picture))
    kmac = {name: count / (1000 * width * height) for name, count in macs.items()}
    priors = sum(kmac.get(name, 0.0) for name in _PRIORS)
    return Complexity(
        name=f"{architecture} (quality {quality})",
        parameters=count_parameters(network),
        encode_kmac=kmac["g_a"] + kmac.get("h_a", 0.0) + priors,
        decode_kmac=priors + kmac["g_s"],
        analysis_kmac=kmac["g_a"],
        synthesis_kmac=kmac["g_s"],
        analysis_seconds=cpu_seconds(lambda: analysis(picture), threads=threads, repeats=repeats),
        synthesis_seconds=cpu_seconds(lambda: synthesis(latents), threads=threads, repeats=repeats),
    )


def measure_baselines(
    architectures: Sequence[str] = ARCHITECTURES, quality: int = 3, *, threads: int = 1
) -> list[Complexity]:
    """Complexity of several CompressAI architectures for a picture of 768x512 pixels.

    Arguments and errors are those of `measure_baseline`.
    """
    return [measure_baseline(name, quality, threads=threads) for name in architectures]
