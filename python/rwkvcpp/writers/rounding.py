"""float32 to the types of files, to nearest, and the values that are too large for a type."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rwkvcpp import _core
from rwkvcpp.errors import UnsupportedError

# From here on a finite value becomes infinite. Halfway from the largest finite number to the next
# power of two the tie goes up; a block of Q8_0 has 1/127 of its largest value in F16, as its scale.
TOO_LARGE = {"F16": 65520.0, "BF16": float.fromhex("0x1.ffp127"), "Q8_0": 127 * 65520.0}


def rounded(values: NDArray[np.float32], type_name: str, tensor: str, advice: str) -> bytes:
    """The bytes of `values` in `type_name`; an error names `tensor` and the value that is too much.

    advice: what to do then, as the end of a sentence.
    """
    _check_range(values, type_name, tensor, advice)
    return _core.quantize(type_name, values.reshape(-1, values.shape[-1]))


def _check_range(values: NDArray[np.float32], type_name: str, tensor: str, advice: str) -> None:
    limit = TOO_LARGE.get(type_name)
    if limit is None:
        return
    magnitudes = np.abs(values)
    bad = (magnitudes >= limit) & (magnitudes < np.inf)
    if bad.any():
        raise UnsupportedError(
            f"tensor {tensor} holds {values[bad][0]:g}, expected less than {limit:g} for "
            f"{type_name}{advice}"
        )
