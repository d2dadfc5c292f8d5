"""Complexity of CompressAI's zoo architectures, measured the way our own model is.

The networks are built with random weights: the cost of running them does not depend on their
values, and nothing is downloaded. compressai takes seconds to import, so that happens on use.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from vrcodec.evaluation.complexity import Complexity, count_macs, count_parameters, cpu_seconds
from vrcodec.evaluation.torchvision_shim import ensure_torchvision_operators

ARCHITECTURES = ("bmshj2018-hyperprior", "mbt2018-mean", "cheng2020-anchor")

_GRID = 64
"""Pictures are made of whole samples of the hyper-latent, as these networks require."""
_PRIORS = ("h_s", "context_prediction", "entropy_parameters")
"""What encoder and decoder both run, an autoregressive context model as if in one pass.

The factorised prior of z is not among them: it is table look-ups when coding.
"""


def build_baseline(architecture: str, quality: int) -> nn.Module:
    """A network of CompressAI's zoo with random weights, in evaluation mode.

    Args:
        architecture: a name in CompressAI's zoo of image models, e.g. "mbt2018-mean".
        quality: the zoo's quality, 1 to 8 (1 to 6 for cheng2020); it decides the widths.

    Raises:
        ValueError: unknown architecture or quality.
        ImportError: compressai is not installed.
    """
    ensure_torchvision_operators()
    from compressai.zoo import image_models

    if architecture not in image_models:
        known = ", ".join(sorted(image_models))
        raise ValueError(f"unknown architecture {architecture!r}, known are {known}")
    network: nn.Module = image_models[architecture](quality=quality, pretrained=False)
    return network.eval()


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
        architecture, quality: as for `build_baseline`.
        width, height: size of the picture in pixels, multiples of 64. MACs per pixel do not
            depend on it; the CPU seconds are for one such picture.
        threads: number of torch threads for the CPU seconds.
        repeats: the CPU seconds are the least of this many runs.

    Raises:
        ValueError: unknown architecture or quality, impossible picture size.
        ImportError: compressai is not installed.
    """
    if min(width, height) < _GRID or width % _GRID or height % _GRID:
        raise ValueError(f"picture of {width}x{height}: multiples of {_GRID} are needed")
    network = build_baseline(architecture, quality)
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
