"""Rows of the embedding may be moved: the layer norm behind it takes a row's mean away.

So each row is rounded at several offsets, and stored at the one where it is rounded best. An error
is there what is left of a difference without its mean.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from rwkvcpp.checkpoints.tensor import decode, row_bytes

Floats = NDArray[np.float32]
RoundRows = Callable[[str, Floats], bytes]  # (type, [rows, inputs])

# Types whose codes lie around zero; others have an offset in each block.
MOVED = ("Q4_0", "Q5_0", "IQ4_NL")
OFFSETS = (0, 1, -1, 2, -2, 3, -3, 4, -4)
STEP = np.float32(0.04)  # of the root of a row's mean square


def without_means(rows: Floats) -> Floats:
    """Each row less its mean."""
    centred: Floats = rows - rows.mean(axis=1, keepdims=True)
    return centred


def moving(round_rows: RoundRows) -> RoundRows:
    """The same rounding of rows that may be moved."""

    def round_moved(type_name: str, weights: Floats) -> bytes:
        if type_name not in MOVED:
            return round_rows(type_name, weights)
        centred = without_means(weights)
        step = STEP * np.sqrt(np.square(centred).mean(axis=1, keepdims=True))
        best = np.zeros((len(weights), row_bytes(type_name, weights.shape)), np.uint8)
        least = np.full(len(weights), np.inf, np.float32)
        for offset in OFFSETS:
            moved = centred + np.float32(offset) * step
            blocks = np.frombuffer(round_rows(type_name, moved), np.uint8).reshape(best.shape)
            error = np.square(without_means(decode(type_name, blocks) - moved)).sum(axis=1)
            better = error < least
            best[better], least[better] = blocks[better], error[better]
        return best.tobytes()

    return round_moved
