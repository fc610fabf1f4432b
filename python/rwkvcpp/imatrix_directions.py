"""What the inputs of a matrix have in common: the largest directions of their second moments.

All second moments of n inputs are n^2 numbers, too many to add up. What is added up is a sketch:
their product with 64 columns of random signs. From it Nyström's formula gives the moments back
where they are largest, and of those the sixteen largest directions are kept.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rwkvcpp import _core

N_DIRECTIONS = 16
# Of the largest: what is smaller in a sketch is the rounding of its float32 sums.
SMALLEST = 1e-5


def common_directions(sketch: NDArray[np.float32], n_rows: int) -> NDArray[np.float32]:
    """[directions, inputs], the largest first: the sum of their products with themselves is about
    the mean of x x^T, and nowhere more. None of inputs that are all zero, or beyond float32."""
    if not (np.isfinite(sketch).all() and sketch.any()):
        return np.zeros((0, len(sketch)), np.float32)
    signs = _core.sketch_signs(len(sketch)).astype(np.float64)
    moments = sketch.astype(np.float64) / n_rows
    core = signs.T @ moments
    values, vectors = np.linalg.eigh((core + core.T) / 2)
    kept = values > SMALLEST * max(float(values[-1]), 0.0)
    half = moments @ (vectors[:, kept] / np.sqrt(values[kept]))
    _, turned = np.linalg.eigh(half.T @ half)  # by size, the largest last
    largest = half @ turned[:, ::-1][:, :N_DIRECTIONS]
    return np.ascontiguousarray(largest.T, np.float32)
