"""What a `Condition` and its layers come to at one conditioning, in NumPy: film.py without torch.

Where a whole picture has one conditioning, FiLM folds into the weights of the convolution before
it, and a table into one value per channel: a runtime gets those as plain tensors. Computed in
float64, given as float32, once per conditioning.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vrcodec.conditional.dials import ANCHOR_BITS, Conditioning

HARMONICS = 4
"""Cosines of every position that the embedding is made of."""

Tensors = Mapping[str, NDArray[Any]]
"""Parameters by their name in film.py's modules."""
_Values = NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class FoldedCondition:
    """What networks are told at one conditioning.

    Attributes:
        conditioning: which.
        embedding: (film_width,); empty without FiLM.
        step: (channels,), quantisation steps of the latents.
    """

    conditioning: Conditioning
    embedding: _Values
    step: _Values

    @classmethod
    def of(cls, conditioning: Conditioning, tensors: Tensors) -> FoldedCondition:
        """At a conditioning.

        Args:
            tensors: those of "conditioning." and "log_step." of a model.
        """
        anchors = tensors["log_step.values"].astype(np.float64)
        first = anchors[0]
        falling = np.concatenate([first[:1], -np.logaddexp(0, first[1:])]).cumsum(axis=0)
        log_step = interpolated(np.concatenate([falling[None], anchors[1:]]), conditioning)
        return cls(conditioning, _embedding(conditioning, tensors), np.exp(log_step))


def _embedding(conditioning: Conditioning, tensors: Tensors) -> _Values:
    if "conditioning.out.weight" not in tensors:
        return np.zeros(0)
    positions = np.array(conditioning.positions)
    phase = np.pi * positions[:, None] * np.arange(1, HARMONICS + 1)
    features = np.concatenate([2 * positions - 1, np.cos(phase).ravel()])
    for layer in ("hidden", "out"):
        weight, bias = (tensors[f"conditioning.{layer}.{kind}"] for kind in ("weight", "bias"))
        features = weight.astype(np.float64) @ features + bias
        with np.errstate(over="ignore"):  # far below zero the quotient is zero all the same
            features = features / (1 + np.exp(-features))
    return features


def interpolated(anchors: _Values, conditioning: Conditioning) -> _Values:
    """Sum over k of the piecewise linear interpolation of anchors[k] (ANCHORS, channels)."""
    total = np.zeros(anchors.shape[2])
    for table, (knot, part) in zip(anchors, conditioning.knots, strict=True):
        beyond = part / (1 << ANCHOR_BITS)
        total += table[knot] * (1 - beyond) + table[knot + 1] * beyond
    return total


@dataclasses.dataclass(frozen=True)
class FoldedConv:
    """A 1x1 convolution followed by FiLM: `ConditionedConv` as one convolution.

    Attributes:
        weight, bias: (outputs, inputs, 1, 1) and (outputs,).
        film_weight, film_bias: (2 outputs, film_width) and (2 outputs,).
    """

    weight: NDArray[Any]
    bias: NDArray[Any]
    film_weight: NDArray[Any]
    film_bias: NDArray[Any]

    def at(self, condition: FoldedCondition) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Weight and bias."""
        film = self.film_weight.astype(np.float64) @ condition.embedding + self.film_bias
        scale, shift = np.split(film, 2)
        gain = 1 + scale
        weight = (self.weight * gain[:, None, None, None]).astype(np.float32)
        return weight, (self.bias * gain + shift).astype(np.float32)
