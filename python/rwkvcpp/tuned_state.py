"""Tuned states: matrices that training put into a model's file, for new states to begin with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rwkvcpp.errors import ModelFormatError
from rwkvcpp.state import State

VALUE_KEY = "7"  # the version whose states are [head][value][key], as tuned ones are in all files


def apply_tuned(
    state: State, matrices: Mapping[int, NDArray[np.float32]], version: str, path: Path
) -> None:
    """Put the matrices [head][value][key] of some layers into a state that has seen nothing."""
    arrays = state.to_numpy()
    for layer, matrix in matrices.items():
        tensor = f"{path}: tensor blocks.{layer}.att.time_state"
        own = arrays.get(f"blocks.{layer}.att.wkv")
        if own is None:
            raise ModelFormatError(f"{tensor} belongs to no matrix of this RWKV-{version} model")
        if matrix.shape != own.shape:
            raise ModelFormatError(f"{tensor} is {list(matrix.shape)}, expected {list(own.shape)}")
        own[:] = matrix if version == VALUE_KEY else matrix.swapaxes(-1, -2)
    state.assign(arrays)
