"""How far logits are from the ones expected, in units of the expected ones' size."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def rms(x: NDArray[Any]) -> float:
    return float(np.sqrt(np.mean(np.square(x, dtype=np.float64))))


def worst(found: NDArray[Any], expected: NDArray[Any]) -> float:
    """The largest absolute difference; NaN if there is one, so compare with <=."""
    if found.shape != expected.shape:
        raise ValueError(f"found shape {found.shape}, expected {expected.shape}")
    return float(np.max(np.abs(found.astype(np.float64) - expected)))


def worst_per_rms(found: NDArray[Any], expected: NDArray[Any]) -> float:
    return worst(found, expected) / rms(expected)


def rms_per_rms(found: NDArray[Any], expected: NDArray[Any]) -> float:
    """The size of the difference; steadier than the worst element, for recorded bounds."""
    worst(found, expected)
    return rms(found.astype(np.float64) - expected) / rms(expected)
