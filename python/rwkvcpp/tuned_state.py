"""Tuned states: matrices that training found for new states to begin with.

`blocks.N.att.time_state`, [head][value][key], in a file of their own or in that of a model. Alone
in a safetensors file they are web-rwkv's, whose converter turned them to [head][key][value].
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rwkvcpp.errors import ModelFormatError, RwkvError, StateError
from rwkvcpp.state import State

if TYPE_CHECKING:
    from rwkvcpp.model import Model

VALUE_KEY = "7"  # the version whose states are [head][value][key], as tuned ones are in all files
EXPECTED = "blocks.N.att.time_state for every layer"

Matrices = Mapping[int, NDArray[np.float32]]


def load_tuned(path: Path, model: Model) -> State:
    """The tuned state in a file of its own, or in that of a model; StateError unless it fits."""
    matrices = _read(path)
    for layer in range(model.n_layer):
        if layer not in matrices:
            raise StateError(
                f"{path}: has no tensor blocks.{layer}.att.time_state among its {len(matrices)}, "
                f"expected one for each of the {model.n_layer} layers of {model.identity}"
            )
    state = model._empty_state()
    apply_tuned(state, matrices, model.version, path, StateError)
    return state


def _read(path: Path) -> Matrices:
    from rwkvcpp.checkpoints import open_checkpoint
    from rwkvcpp.checkpoints.engine import tuned_states

    _check_container(path)
    checkpoint = open_checkpoint(path)
    matrices = tuned_states(checkpoint)
    others = [name for name in checkpoint.tensors if not name.endswith(".att.time_state")]
    if not matrices or (others and "emb.weight" not in checkpoint.tensors):
        what = f"tensor {others[0]}" if others else "no tensors"
        raise ModelFormatError(f"{path}: has {what}, expected a tuned state: {EXPECTED}")
    return matrices


def _check_container(path: Path) -> None:
    """Who loads a state is told of states; the rest is said where files are opened."""
    from rwkvcpp.checkpoints.containers import FOREIGN, LONGEST_MAGIC, READERS
    from rwkvcpp.checkpoints.data_file import DataFile

    if path.is_dir():
        return
    head = DataFile(path).head(LONGEST_MAGIC)
    known = [(offset, magic) for offset, magic, _ in (*READERS, *FOREIGN)]
    if any(head[offset : offset + len(magic)] == magic for offset, magic in known):
        return
    begins = repr(head[:8])[1:] if head else "nothing: it is empty"
    raise StateError(
        f"{path}: begins with {begins}, expected a state that was saved here, "
        "or a tuned one: PyTorch's or web-rwkv's"
    )


def apply_tuned(
    state: State,
    matrices: Matrices,
    version: str,
    path: Path,
    error: type[RwkvError] = ModelFormatError,
) -> None:
    """Put the matrices [head][value][key] of some layers into a state that has seen nothing."""
    arrays = state.to_numpy()
    for layer, matrix in matrices.items():
        tensor = f"{path}: tensor blocks.{layer}.att.time_state"
        own = arrays.get(f"blocks.{layer}.att.wkv")
        if own is None:
            raise error(f"{tensor} belongs to no matrix of this RWKV-{version} model")
        if matrix.shape != own.shape:
            raise error(f"{tensor} is {list(matrix.shape)}, expected {list(own.shape)}")
        if not np.isfinite(matrix).all():
            raise error(
                f"{tensor} holds {matrix[~np.isfinite(matrix)][0]}, expected finite numbers"
            )
        own[:] = matrix if version == VALUE_KEY else matrix.swapaxes(-1, -2)
    state.assign(arrays)
