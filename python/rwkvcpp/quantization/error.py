"""How far a type takes the weights of a matrix from what they were."""

from __future__ import annotations

import numpy as np

from rwkvcpp.checkpoints.tensor import FLOAT_TYPES, Tensor, decode, encode
from rwkvcpp.quantization.embedding import Floats, RoundRows, without_means

WEIGHTS_LOOKED_AT = 2**15  # of a matrix: rows from its beginning to its end


def sampled_rows(tensor: Tensor) -> Floats:
    """Rows of a matrix, evenly from all of it."""
    n_rows, n_inputs = tensor.shape
    step = max(1, n_rows * n_inputs // WEIGHTS_LOOKED_AT)
    rows = [tensor.read_rows(row, row + 1) for row in range(0, n_rows, step)]
    return np.concatenate(rows)


def relative_error(
    weights: Floats,
    type_name: str,
    round_rows: RoundRows,
    importances: Floats | None,
    *,
    up_to_means: bool = False,
) -> float:
    """Mean square of the errors of a type, importances counted, over that of the weights.

    up_to_means: of rows: what all errors of a row have in common does not count.
    """
    weigh = np.float32(1) if importances is None else importances
    power = float(np.sum(np.square(weights) * weigh, dtype=np.float64))
    difference = _rounded(weights, type_name, round_rows) - weights
    off = np.square(without_means(difference) if up_to_means else difference) * weigh
    return float(np.sum(off, dtype=np.float64)) / power if power > 0 else 0.0


def _rounded(weights: Floats, type_name: str, round_rows: RoundRows) -> Floats:
    if type_name in FLOAT_TYPES:
        return decode(type_name, encode(type_name, weights))
    blocks = np.frombuffer(round_rows(type_name, weights), np.uint8)
    return decode(type_name, blocks.reshape(len(weights), -1))
