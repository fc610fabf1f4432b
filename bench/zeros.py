"""Channel mixing that gives a wanted share of zeros, for models whose weights are random.

The first inputs of `ffn.key` become the same for every token (ln2 has weight 0 and bias 1 there),
and meet one weight in all rows: together they move every hidden value by the same amount. The other
inputs are those of a plain layer norm, so hidden values are a bell of known width, and how far it
has to move follows from the share. Such zeros are independent of each other and of the text;
those of trained models cluster.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from math import prod, sqrt
from typing import Any

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
from numpy.typing import NDArray

from rwkvcpp import _core

BLOCK = 32  # activations that share a scale
# The token shift of ffn.key, and what makes it take a token's own activations.
LERPS = {
    "4": ("time_mix_k", 1.0),
    "5.2": ("time_mix_k", 1.0),
    "6": ("time_maa_k", 0.0),
    "7": ("x_k", 0.0),
}
HIGHEST, LOWEST = 4.0, -6.0  # widths of the bell: beyond, no share changes

Vector = NDArray[np.float32]


@cache
def threshold(zeros: float) -> float:
    """Where a bell of width 1 is to be cut so that `zeros` of int8 ReLU² values are zero."""
    bell = np.random.default_rng(1).standard_normal((2**14, BLOCK), np.float32)
    low, high = LOWEST, HIGHEST
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (low, middle) if _share(bell, middle) > zeros else (middle, high)
    return (low + high) / 2


def _share(bell: Vector, cut: float) -> float:
    values = np.maximum(bell - np.float32(cut), 0) ** 2
    largest = np.maximum(values.max(axis=1, keepdims=True), 1e-30)
    return float(np.mean(np.rint(127 * values / largest) == 0))


@dataclass(frozen=True)
class SparseMixing:
    """What it takes in each layer of a model of one version, width and weight type."""

    version: str
    width: int
    weight_type: str
    cut: float  # as threshold() gives it

    @property
    def n_constant(self) -> int:
        """Inputs of the key matrix that are the same for every token: whole blocks of it."""
        block = GGML_QUANT_SIZES[GGMLQuantizationType[self.weight_type]][0]
        return max(BLOCK, block) if self.width % block == 0 else BLOCK

    def vectors(self) -> dict[str, Vector]:
        """By name in a layer."""
        constant = (np.arange(self.width) < self.n_constant).astype(np.float32)
        lerp, plain = LERPS[self.version]
        return {
            "ln2.weight": 1 - constant,
            "ln2.bias": constant,
            f"ffn.{lerp}": np.full((1, 1, self.width), plain, np.float32),
        }

    def moved(
        self, make: Callable[[], NDArray[Any]], kind: str, shape: tuple[int, ...], std: float
    ) -> NDArray[Any]:
        """The key matrix that make() gives, as blocks of `kind`, with the weights that move."""
        block, size = GGML_QUANT_SIZES[GGMLQuantizationType[kind]]
        width = std * sqrt(self.width - self.n_constant)
        weight = -self.cut * width / self.n_constant
        row = np.full((1, self.n_constant), weight, np.float32)
        constant = np.frombuffer(_core.quantize(kind, row), np.uint8).reshape(-1, size)
        blocks = make()
        rows = blocks.reshape(prod(shape[:-1]), shape[-1] // block, size)
        rows[:, : self.n_constant // block] = constant
        return blocks
